import { dirname, resolve } from "node:path";
import { ParavaneError } from "../../../core/error.ts";
import type { NewParent } from "../../../core/format.ts";
import type { Passphrase } from "../../../core/secret.ts";
import type { Disk } from "../../../host/block/open.ts";
import { engineOf } from "../../../host/image/whole.ts";
import { UsageError } from "../../usage.ts";
import { openImage, sameFile } from "./files.ts";
import { parseOwnOpts } from "./image-opts.ts";
import { ourFormat, qemuFormat } from "./names.ts";
import { notOpened } from "./open.ts";
import type { Given } from "./options.ts";
import { Secrets } from "./secrets.ts";

/** Formats whose images may hold only what differs from another. */
const WITH_PARENT = ["qcow2", "vhd", "vhdx", "vdi", "vmdk"];

/** The parent of a new image, as the command line gives it: `name` is as it is to stand in the image. */
export interface GivenParent {
  name: string;
  format: string | undefined;
  /** What opens it and those behind it, if they are encrypted. */
  passphrase?: Passphrase | undefined;
}

/**
 * A parent as it is named on the command line; in QEMU's words, 'json:{"driver": …, "encrypt.key-secret": …}', what stands in
 * the image is the file's name alone. With -u the text is not looked at.
 * @throws UsageError
 */
export function givenParent(given: Given, text: string, said: string | undefined): GivenParent {
  const secrets = new Secrets(given);
  if (given.flags.has("u") || !text.startsWith("json:"))
    return { name: text, format: said, passphrase: secrets.passphrase() };
  const { path, format, secret } = parseOwnOpts(text);
  return { name: path, format: said ?? format, passphrase: secrets.passphrase(secret) };
}

/** @throws UsageError when the format has no parents */
export function checkParentFormat(image: string, format: string): void {
  if (!WITH_PARENT.includes(ourFormat(format))) {
    throw new UsageError(`${image}: Backing file not supported for file format '${format}'`);
  }
}

/** Where the parent is: relative names start from the image's folder. */
export function parentPath(image: string, name: string): string {
  return resolve(dirname(image), name);
}

/**
 * Opens the parent to be, itself and those behind it.
 * @throws UsageError when its format is not said: what a guest has written could make it look like another
 */
export async function openParent(image: string, parent: GivenParent, alone = false): Promise<Disk> {
  const path = parentPath(image, parent.name);
  if (sameFile(path, image)) {
    throw new ParavaneError("INVALID", `${image}: an image cannot be its own backing file`);
  }
  let disk: Disk;
  try {
    disk = await openImage(path, {
      ...(parent.format !== undefined && { format: parent.format }),
      passphraseFor: () => parent.passphrase,
      alone,
      locked: alone,
    });
  } catch (thrown) {
    const { code, message, context, hint } = notOpened(parent.name, thrown);
    const said = `${image}: ${message.replaceAll(path, parent.name).replace(/^(Could not open '[^']*'): \1/, "$1")}. Could not open backing image`;
    throw new ParavaneError(code, said, context, { cause: thrown, hint });
  }
  if (parent.format !== undefined) return disk;
  await disk.close();
  const found = qemuFormat(disk.format);
  throw new UsageError(
    `${image}: Backing file specified without backing format: it looks like ${found}; say so with -F. ` +
      "It is not guessed: what a guest writes to a raw disk can make it look like another format",
  );
}

/** As it is to be noted in the image. */
export function newParent(image: string, { name, format }: GivenParent, disk: Disk | undefined): NewParent {
  const identity = disk && engineOf(disk).image.identity;
  return {
    path: name,
    absolutePath: parentPath(image, name),
    ...(format !== undefined && { format: ourFormat(format) }),
    ...(identity !== undefined && { identity }),
  };
}
