/** What only Node has: disk images in files. */
import { randomUUID } from "node:crypto";
import { existsSync, renameSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { ParavaneError } from "./core/error.ts";
import { type CreateDiskOptions, createDisk, type Disk, type OpenDiskOptions, openDisk } from "./host/block/open.ts";
import { FileStore } from "./host/store/file.ts";
import { imageFile } from "./node/bundle.ts";
import { nativeInflate } from "./node/decompress.ts";
import { sameFolder } from "./node/gate.ts";

export { FileStore, type FileStoreOptions } from "./host/store/file.ts";
export * from "./index.ts";
export { compressor } from "./node/compress.ts";
export { type CueFileOptions, openCueFile } from "./node/cue.ts";
export { nativeInflate } from "./node/decompress.ts";
export { allowFolders, anyFile, sameFolder, writableParent } from "./node/gate.ts";

/**
 * Opens the disk image in a file, and those that it is based on where they lie in its folder (`gate: sameFolder(path)`, unless
 * another is given); `close()` closes all.
 * @throws ParavaneError NOT_FOUND, DENIED (a parent elsewhere), READ_ONLY (no permission to write), CORRUPT, UNSUPPORTED,
 * INVALID, ABORTED, IO
 */
export async function openFile(name: string, options: OpenDiskOptions = {}): Promise<Disk> {
  const path = imageFile(name);
  const store = new FileStore(path, { readOnly: options.readOnly ?? false });
  try {
    return await openDisk(store, { gate: sameFolder(path), codecs: { deflate: nativeInflate(false) }, ...options });
  } catch (thrown) {
    store.close();
    throw thrown;
  }
}

export interface CreateFileOptions extends CreateDiskOptions {
  /** Replaces an existing file. */
  overwrite?: boolean;
}

/**
 * Writes a new, empty disk image and opens it. It stands under another name until it is whole: at `path` there is never
 * half an image, and a failure leaves nothing behind.
 * @throws ParavaneError EXISTS, NO_SPACE, READ_ONLY, INVALID, NOT_FOUND (no such folder), ABORTED, IO
 */
export async function createFile(path: string, { overwrite, ...options }: CreateFileOptions): Promise<Disk> {
  if (!overwrite && existsSync(path)) {
    throw new ParavaneError(
      "EXISTS",
      `${path} exists`,
      { file: path },
      { hint: "Choose another name, or overwrite it" },
    );
  }
  if (!existsSync(dirname(path))) {
    throw new ParavaneError("NOT_FOUND", `there is no folder ${dirname(path)}`, { file: path });
  }
  const partial = `${path}.${randomUUID().slice(0, 8)}.partial`;
  const store = new FileStore(partial, { create: true });
  try {
    const disk = await createDisk(store, options);
    await disk.close();
    renameSync(partial, path);
  } catch (thrown) {
    store.close();
    rmSync(partial, { force: true });
    throw thrown;
  }
  const { format, backing, passphrase, volumeKey, kdf } = options;
  return openFile(path, {
    format,
    ...(backing && { backing }),
    ...(passphrase && { passphrase }),
    ...(volumeKey && { volumeKey }),
    ...(kdf && { kdf }),
  });
}
