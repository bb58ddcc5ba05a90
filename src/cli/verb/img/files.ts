import { dirname } from "node:path";
import type { Block } from "../../../core/block.ts";
import type { Passphrase } from "../../../core/secret.ts";
import { type Disk, openDisk } from "../../../host/block/open.ts";
import { FileStore } from "../../../host/store/file.ts";
import { imageFile } from "../../../node/bundle.ts";
import { nativeInflate } from "../../../node/decompress.ts";
import { allowFolders, realOf, sameFolder, writableParent } from "../../../node/gate.ts";
import { parseImageOpts } from "./image-opts.ts";
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
  const store = new FileStore(path, { readOnly: !write, async });
  const gate = allow.length > 0 ? allowFolders([dirname(path), ...allow]) : sameFolder(path);
  try {
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
      ...(member !== undefined && { member }),
      ...(onWarning && { onWarning }),
      ...(snapshot !== undefined && { snapshot }),
    });
  } catch (thrown) {
    store.close();
    throw thrown;
  }
}

/** Are both the same file? */
export function sameFile(one: string, other: string): boolean {
  return realOf(one) === realOf(other);
}
