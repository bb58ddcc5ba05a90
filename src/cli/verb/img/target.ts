import { randomUUID } from "node:crypto";
import { chmodSync, existsSync, renameSync, rmSync, statSync, truncateSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import type { Block } from "../../../core/block.ts";
import { ParavaneError } from "../../../core/error.ts";
import type { NewParent } from "../../../core/format.ts";
import type { Passphrase } from "../../../core/secret.ts";
import { type Disk, openDisk } from "../../../host/block/open.ts";
import { createImage } from "../../../host/image/create.ts";
import { DraftStore } from "../../../host/store/draft.ts";
import { FileStore } from "../../../host/store/file.ts";
import { realOf } from "../../../node/gate.ts";

/** An image that is about to be made. */
export interface Target {
  path: string;
  format: string;
  size: number;
  /** The format's own. */
  options: Record<string, unknown>;
  parent?: NewParent | undefined;
  /** Opens the parent, for writing over it. Without it, what the parent has is not looked at. */
  openParent?: (() => Promise<Block>) | undefined;
  /** Flushes reach the disk. */
  durable?: boolean;
  /** Its file is written on this thread. */
  direct?: boolean;
  signal?: AbortSignal | undefined;
}

/**
 * Makes an image and fills it. It stands under another name until it is whole, so that there is never half of one; what
 * was there before is replaced. A block device is written in place.
 * @param fill gets the disk, and the name that its file has meanwhile
 */
export async function makeTarget(target: Target, fill?: (disk: Disk, file: string) => Promise<void>): Promise<void> {
  const { format, size, parent, openParent, durable = false, direct = false, signal } = target;
  // What a link points to is replaced, not the link.
  const real = realOf(target.path);
  if (statSync(real, { throwIfNoEntry: false })?.isBlockDevice() && format === "raw")
    return inPlace(real, target, fill);
  if (!existsSync(dirname(real))) {
    const hint = `There is no folder ${dirname(target.path)}: make it first`;
    throw new ParavaneError("NOT_FOUND", `Could not create '${target.path}': No such file or directory`, {}, { hint });
  }
  const { dataFile } = target.options;
  const passphrase = target.options.passphrase as Passphrase | undefined;
  const data = typeof dataFile === "string" ? partialOf(resolve(dirname(real), dataFile)) : undefined;
  const image = partialOf(real);
  /** The image's other files, by the names that it has for them. */
  const others = new Map<string, Partial>();
  if (data) others.set(dataFile as string, data);
  const files = {
    name: basename(real),
    make(name: string) {
      const other = partialOf(join(dirname(real), name));
      others.set(name, other);
      return new FileStore(other.partial, { create: true });
    },
  };
  const openFile = (name: string, readOnly: boolean) =>
    new FileStore((data ?? others.get(name)!).partial, { readOnly, async: data === undefined, durable });
  const file = new FileStore(image.partial, { create: true, async: !direct, durable });
  // Whoever asks for flushes gets them; else nobody looks at the file before it is whole.
  const store = durable ? file : new DraftStore(file);
  try {
    if (data) new FileStore(data.partial, { create: true }).close();
    await createImage(store, {
      ...target.options,
      format,
      size,
      ...(parent && { parent }),
      ...(data && { openFile }),
      files,
      ...(signal && { signal }),
    });
    if (data) sized(data.partial, size);
    if (fill) {
      const backing = await openParent?.();
      const disk = await openDisk(store, {
        format,
        openFile,
        ...(passphrase && { passphrase }),
        ...(backing ? { backing } : parent && { alone: true }),
      });
      try {
        await fill(disk, image.partial);
      } finally {
        await disk.close();
      }
    } else await store.close();
    for (const file of [...others.values(), image]) {
      if (existsSync(file.path)) chmodSync(file.partial, statSync(file.path).mode & 0o7777);
      renameSync(file.partial, file.path);
    }
  } finally {
    await store.close();
    for (const file of [...others.values(), image]) rmSync(file.partial, { force: true });
  }
}

/** A data file has the size of the disk from the start, as qemu-img makes it. */
function sized(path: string, size: number): void {
  if (statSync(path).size < size) truncateSync(path, size);
}

async function inPlace(
  path: string,
  { size }: Target,
  fill?: (disk: Disk, file: string) => Promise<void>,
): Promise<void> {
  const store = new FileStore(path, { async: true });
  if (size > store.size) {
    store.close();
    throw new RangeError(`${path} has ${store.size} bytes, too few for ${size}`);
  }
  const disk = await openDisk(store, { format: "raw" });
  try {
    await fill?.(disk, path);
  } finally {
    await disk.close();
  }
}

interface Partial {
  path: string;
  partial: string;
}

function partialOf(path: string): Partial {
  return { path, partial: join(dirname(path), `${basename(path)}.${randomUUID().slice(0, 8)}.partial`) };
}

/** Is what `path` names written in place, and may hold anything already? */
export function isDevice(path: string): boolean {
  return statSync(realOf(path), { throwIfNoEntry: false })?.isBlockDevice() ?? false;
}
