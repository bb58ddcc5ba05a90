import { dirname } from "node:path";
import type { Block } from "../../../core/block.ts";
import { ParavaneError } from "../../../core/error.ts";
import type { ParentReference } from "../../../core/format.ts";
import type { Passphrase } from "../../../core/secret.ts";
import { Nothing } from "../../../host/block/absent.ts";
import { type Disk, openDisk } from "../../../host/block/open.ts";
import { FileStore } from "../../../host/store/file.ts";
import { imageFile } from "../../../node/bundle.ts";
import { nativeInflate } from "../../../node/decompress.ts";
import { allowFolders, realOf, sameFolder, writableParent } from "../../../node/gate.ts";
import { UsageError } from "../../usage.ts";
import { type ParentOpts, parseImageOpts } from "./image-opts.ts";
import { ourFormat } from "./names.ts";

export interface OpenImageOptions {
  /** As on the command line; found out from the content when absent. */
  format?: string;
  write?: boolean;
  /** Reads ahead of what is done with it: for long sequential work. */
  async?: boolean;
  /** Leaves the parent out: for a look at the image alone. */
  alone?: boolean;
  /** Instead of the parent that the image names. */
  backing?: Block;
  /** Folders, beside the image's own, that files which it names may lie in. */
  allow?: readonly string[] | undefined;
  /** Opens a parent for writing too: the nearest, or the one that is this file. */
  committing?: true | string;
  /** What opens it, if it is encrypted; or it stays locked, for a look at what is not encrypted. */
  passphraseFor?: (path: string) => Passphrase | undefined;
  /** The same of its parents, the nearest first, where they have others. */
  parentPassphrasesFor?: (path: string) => readonly (Passphrase | undefined)[] | undefined;
  locked?: boolean;
  /** Which disk of an archive, where that holds several. */
  memberOf?: (path: string) => string | undefined;
  /** Instead of the parent that the image names; for reading. */
  parentOf?: (path: string) => ParentOpts | "none" | undefined;
  /** A qcow2 image's internal snapshot. */
  snapshot?: string;
  onWarning?: (message: string) => void;
}

/**
 * Opens an image file and those that it is based on: in its own folder or those allowed, and none by URL.
 * @throws ParavaneError NOT_FOUND, DENIED, CORRUPT, UNSUPPORTED, READ_ONLY, INVALID, IO
 */
export async function openImage(name: string, options: OpenImageOptions = {}): Promise<Disk> {
  const { write = false, async = false, alone, backing, allow = [], committing, ...rest } = options;
  const { snapshot, onWarning, locked, passphraseFor, parentPassphrasesFor } = rest;
  // Where no --image-opts are, a name may say as much.
  const said = name.startsWith("json:") ? parseImageOpts(name) : { path: name };
  const format = options.format ?? said.format;
  const member = rest.memberOf?.(name) ?? said.member;
  const passphrase = passphraseFor?.(name);
  const parentPassphrases = parentPassphrasesFor?.(name);
  const path = imageFile(said.path);
  const over = rest.parentOf?.(name) ?? said.parent;
  if (over !== undefined && (write || alone || backing || committing !== undefined)) {
    const message = `${path}: options of its backing file are not supported here`;
    throw new ParavaneError("UNSUPPORTED", message, {}, { hint: "convert, compare, map, measure and dd take them" });
  }
  const store = new FileStore(path, { readOnly: !write, async });
  const gate = allow.length > 0 ? allowFolders([dirname(path), ...allow]) : sameFolder(path);
  let other: Awaited<ReturnType<typeof otherParent>> | undefined;
  try {
    if (over !== undefined) {
      other = await otherParent(name, path, over, { ...options, ...(format !== undefined && { format }) });
    }
    return await openDisk(store, {
      readOnly: !write,
      codecs: { deflate: nativeInflate(async) },
      gate: committing === undefined ? gate : writableParent(gate, committing === true ? undefined : committing),
      ...(format !== undefined && { format: ourFormat(format) }),
      ...(alone && { alone }),
      ...(locked && { locked }),
      ...(passphrase && { passphrase }),
      ...(parentPassphrases && { parentPassphrases }),
      ...(backing && { backing }),
      ...other,
      ...(member !== undefined && { member }),
      ...(onWarning && { onWarning }),
      ...(snapshot !== undefined && { snapshot }),
    });
  } catch (thrown) {
    store.close();
    await other?.backing?.close();
    throw thrown;
  }
}

/** What opens an image over another parent than it names, or over none, or over its own in another format. */
async function otherParent(
  name: string,
  path: string,
  said: ParentOpts | "none",
  options: OpenImageOptions,
): Promise<{ backing?: Block; parentFormat?: string }> {
  if (said === "none") return (await notedParent(path, options.format)) ? { backing: new Nothing() } : {};
  if (said.path === undefined) return { parentFormat: ourFormat(said.format!) };
  const { parent } = said;
  const [passphrase, ...others] = options.parentPassphrasesFor?.(name) ?? [];
  const disk = await openImage(said.path, {
    format: said.format ?? (await notedFormat(path, options.format)),
    passphraseFor: () => passphrase ?? options.passphraseFor?.(name),
    parentPassphrasesFor: () => others,
    parentOf: () => parent,
    allow: options.allow,
  });
  return { backing: disk };
}

/** Which parent an image names. */
async function notedParent(path: string, format: string | undefined): Promise<ParentReference | undefined> {
  const image = await openImage(path, { alone: true, locked: true, ...(format !== undefined && { format }) });
  await image.close();
  return image.parent;
}

/** Which format an image says that its parent has. @throws UsageError when it does not: no format of a parent is guessed */
async function notedFormat(path: string, format: string | undefined): Promise<string> {
  const noted = (await notedParent(path, format))?.format;
  if (noted !== undefined) return noted;
  throw new UsageError(`${path} does not say which format its parent has: give backing.driver=`);
}

/** Are both the same file? */
export function sameFile(one: string, other: string): boolean {
  return realOf(one) === realOf(other);
}
