import { ParavaneError } from "../../../core/error.ts";
import type { Flow } from "../../../core/flow.ts";
import type { NewParent, ParentReference } from "../../../core/format.ts";
import { Extension, type Header } from "./header.ts";
import { type ExtensionEntry, extensionsOf, replaceArea } from "./header-area.ts";
import { read } from "./io.ts";
import type { Volume } from "./volume.ts";

/** "Backing file name", at most. */
const MAX_NAME = 1023;

/** QEMU's names of formats whose names differ from ours; a name of a protocol means that the bytes are the disk. */
const OURS: Record<string, string> = { vpc: "vhd", file: "raw", host_device: "raw", host_cdrom: "raw" };

/** The name that the image gives the format called `name` here. */
export function formatName(name: string): string {
  return name === "vhd" ? "vpc" : name;
}

export function parentOf({ backingFile, backingFormat }: Header): ParentReference | undefined {
  if (backingFile === undefined) return undefined;
  const format = backingFormat === undefined ? {} : { format: OURS[backingFormat] ?? backingFormat };
  return { paths: [backingFile], identities: [], ...format };
}

/** The parent's name as bytes. @throws INVALID */
export function nameBytes(path: string): Uint8Array {
  const bytes = new TextEncoder().encode(path);
  if (bytes.length > 0 && bytes.length <= MAX_NAME) return bytes;
  throw new ParavaneError("INVALID", `a parent's name has 1 to ${MAX_NAME} bytes`);
}

/** As `Image.setParent`, on disk; what is open is out of date afterwards. */
export function* setParent(volume: Volume, parent: NewParent | undefined): Flow {
  const { store, header } = volume;
  if (parent && volume.rawData) {
    throw new ParavaneError("UNSUPPORTED", "an image with a raw data file cannot have a parent", { file: store.name });
  }
  const name = parent && nameBytes(parent.path);
  const bytes = yield* read(store, 0, Math.min(2 ** header.clusterBits, store.size));
  const extensions: ExtensionEntry[] = extensionsOf(bytes, header).filter(([type]) => type !== Extension.BackingFormat);
  if (parent?.format !== undefined) {
    extensions.unshift([Extension.BackingFormat, new TextEncoder().encode(formatName(parent.format))]);
  }
  yield* replaceArea(store, header, bytes, extensions, name);
}
