// What follows the header in its cluster: extensions, then the parent's name.
import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { Store } from "../../../core/store.ts";
import { Extension, Field, type Header, SECTOR } from "./header.ts";
import { getWide, setWide, viewOf, write } from "./io.ts";

export type ExtensionEntry = [type: number, data: Uint8Array];

/** Bytes of these extensions, the end marker left out. */
export function extensionBytes(list: readonly ExtensionEntry[]): number {
  return list.reduce((sum, [, data]) => sum + 8 + Math.ceil(data.length / 8) * 8, 0);
}

/** Writes them from `at` on, and the end marker, into zeros; returns where that ends. */
export function putExtensions(bytes: Uint8Array, at: number, list: readonly ExtensionEntry[]): number {
  const view = viewOf(bytes);
  for (const [type, data] of list) {
    view.setUint32(at, type);
    view.setUint32(at + 4, data.length);
    bytes.set(data, at + 8);
    at += 8 + Math.ceil(data.length / 8) * 8;
  }
  return at + 8;
}

/** The extensions as they are. @param bytes the header's cluster */
export function extensionsOf(bytes: Uint8Array, header: Header): ExtensionEntry[] {
  const view = viewOf(bytes);
  const list: ExtensionEntry[] = [];
  let at = header.length;
  for (const type of header.extensions) {
    const length = view.getUint32(at + 4);
    list.push([type, bytes.slice(at + 8, at + 8 + length)]);
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return list;
}

/** Byte of the data of the first extension of that type, if there is one. @param bytes the header's cluster */
export function extensionPosition(bytes: Uint8Array, header: Header, wanted: number): number | undefined {
  let at = header.length;
  for (const type of header.extensions) {
    if (type === wanted) return at + 8;
    at += 8 + Math.ceil(viewOf(bytes).getUint32(at + 4) / 8) * 8;
  }
  return undefined;
}

/** The parent's name as it stands in the header's cluster. */
export function nameOf(bytes: Uint8Array): Uint8Array | undefined {
  const position = getWide(viewOf(bytes), Field.BackingOffset);
  const length = viewOf(bytes).getUint32(Field.BackingSize);
  return position === 0 || length === 0 ? undefined : bytes.slice(position, position + length);
}

/**
 * Replaces extensions and the parent's name so that a power cut leaves the old ones or the new: one write of the first
 * sector changes over. So whatever says something of the image has to fit there, all but the name; feature names, which are
 * a courtesy, are left out for that write and put back by another, or left out altogether where there is no room.
 * @param bytes the header's cluster as it is
 * @throws ParavaneError UNSUPPORTED when there is no room
 */
export function* replaceArea(
  store: Store,
  header: Header,
  bytes: Uint8Array,
  extensions: readonly ExtensionEntry[],
  name: Uint8Array | undefined,
): Flow {
  const cluster = 2 ** header.clusterBits;
  const needed = extensions.filter(([type]) => type !== Extension.FeatureNames);
  const courtesy = extensions.filter(([type]) => type === Extension.FeatureNames);
  const end = header.length + extensionBytes(needed) + 8;
  const old = [viewOf(bytes).getUint32(Field.BackingOffset + 4), viewOf(bytes).getUint32(Field.BackingSize)];
  const place = placeName(end, extensionBytes(courtesy), old, name?.length ?? 0, cluster);
  if (end > SECTOR || !place) {
    throw new ParavaneError("UNSUPPORTED", "the header has no room for that", { file: store.name });
  }
  const sector = new Uint8Array(SECTOR);
  sector.set(bytes.subarray(0, header.length));
  putExtensions(sector, header.length, needed);
  setWide(viewOf(sector), Field.BackingOffset, name ? place.name : 0);
  viewOf(sector).setUint32(Field.BackingSize, name?.length ?? 0);
  if (name && place.name < SECTOR) sector.set(name, place.name);
  else if (name) {
    yield* write(store, place.name, name);
    yield* wait(store.flush());
  }
  yield* write(store, 0, sector);
  yield* wait(store.flush());
  if (!place.courtesy || courtesy.length === 0) return;

  const whole = new Uint8Array(Math.max(SECTOR, end + extensionBytes(courtesy)));
  whole.set(sector);
  putExtensions(whole, end - 8, courtesy);
  if (whole.length > SECTOR) {
    yield* write(store, SECTOR, whole.subarray(SECTOR));
    yield* wait(store.flush());
  }
  yield* write(store, 0, whole.subarray(0, SECTOR));
  yield* wait(store.flush());
}

/** Where a name of `length` bytes does not touch the old one, nor what is before `end`; and whether more may follow that. */
function placeName(end: number, more: number, [old, oldLength]: number[], length: number, cluster: number) {
  if (length === 0) return { name: 0, courtesy: end + more <= cluster };
  for (const courtesy of [true, false]) {
    const from = end + (courtesy ? more : 0);
    // In the first sector it is written with all the rest; outside of it before that.
    if (from + length <= SECTOR) return { name: from, courtesy };
    for (const at of [Math.max(from, SECTOR), Math.max(from, SECTOR, old + oldLength)]) {
      const apart = at + length <= old || at >= old + oldLength;
      if (apart && at + length <= cluster) return { name: at, courtesy };
    }
  }
  return undefined;
}
