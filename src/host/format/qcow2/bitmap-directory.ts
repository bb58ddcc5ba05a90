// The directory of persistent bitmaps ("Bitmap directory"): an entry of varying length each.
import type { Store } from "../../../core/store.ts";
import type { Header } from "./header.ts";
import { getWide, setWide, viewOf } from "./io.ts";

/** Limits that QEMU sets as well. */
export const MAX_BITMAPS = 65535;
export const MAX_DIRECTORY = 64 * 2 ** 20;
export const MAX_BITMAP_NAME = 1023;
export const MIN_GRANULARITY_BITS = 9;
export const MAX_GRANULARITY_BITS = 31;
/** Bytes of one bitmap's data. */
export const MAX_BITMAP_BYTES = 2 ** 29;

/** "flags" */
const IN_USE = 1;
const AUTO = 2;
const EXTRA_COMPATIBLE = 4;
/** "type": a dirty tracking bitmap. */
const DIRTY_TRACKING = 1;
const FIXED = 24;
/** Byte of the flags in an entry. */
const FLAGS = 12;

/** One bitmap, as the directory has it. */
export interface DirectoryEntry {
  name: string;
  /** Store byte of the bitmap table, and how many entries it has. */
  table: number;
  entries: number;
  /** It was not stored after the disk changed. */
  inUse: boolean;
  /** It is to note every change of the disk. */
  auto: boolean;
  /** log2 of the bytes that a bit stands for. */
  granularityBits: number;
  /** Unknown to all; and whether the bitmap may be used all the same. */
  extra: Uint8Array;
  extraCompatible: boolean;
}

/** Entries of the table of a bitmap of this disk. */
export function tableEntries({ size, clusterBits }: Pick<Header, "size" | "clusterBits">, granularityBits: number) {
  const bits = Math.ceil(size / 2 ** granularityBits);
  return Math.ceil(Math.ceil(bits / 8) / 2 ** clusterBits);
}

/** @param problem told of what is against the format, by its place in the store; it may throw */
export function parseDirectory(
  _store: Store,
  header: Header,
  bytes: Uint8Array,
  problem: (structure: string, offset: number, what: string) => void,
): DirectoryEntry[] {
  const { count, position } = header.bitmaps!;
  const view = viewOf(bytes);
  const list: DirectoryEntry[] = [];
  const names = new Set<string>();
  let at = 0;
  const wrong = (what: string) => problem("bitmap directory", position + at, `has an entry that ${what}`);
  for (; at < bytes.length; ) {
    if (at + FIXED > bytes.length) {
      wrong("is cut off");
      return list;
    }
    const nameBytes = view.getUint16(at + 18);
    const extraBytes = view.getUint32(at + 20);
    const length = Math.ceil((FIXED + extraBytes + nameBytes) / 8) * 8;
    if (at + length > bytes.length) {
      wrong("is cut off");
      return list;
    }
    const flags = view.getUint32(at + FLAGS);
    const name = new TextDecoder().decode(bytes.subarray(at + FIXED + extraBytes, at + FIXED + extraBytes + nameBytes));
    const entry: DirectoryEntry = {
      name,
      table: getWide(view, at),
      entries: view.getUint32(at + 8),
      inUse: (flags & IN_USE) !== 0,
      auto: (flags & AUTO) !== 0,
      granularityBits: view.getUint8(at + 17),
      extra: bytes.slice(at + FIXED, at + FIXED + extraBytes),
      extraCompatible: (flags & EXTRA_COMPATIBLE) !== 0,
    };
    const fault = faultOf(header, entry, view.getUint8(at + 16), flags, nameBytes);
    if (fault !== undefined) wrong(fault);
    else if (names.has(name)) wrong(`is the second called "${name}"`);
    else list.push(entry);
    names.add(name);
    at += length;
  }
  if (list.length !== count) wrong(`is missing: there are ${list.length}, and the header says ${count}`);
  return list;
}

function faultOf(header: Header, entry: DirectoryEntry, type: number, flags: number, nameBytes: number) {
  const { table, entries, granularityBits, inUse } = entry;
  const cluster = 2 ** header.clusterBits;
  if (nameBytes === 0 || nameBytes > MAX_BITMAP_NAME) return `has a name of ${nameBytes} bytes`;
  if (type !== DIRTY_TRACKING) return `has type ${type}`;
  if (flags >>> 3 !== 0) return `has reserved flags, ${flags}`;
  if (granularityBits < MIN_GRANULARITY_BITS || granularityBits > MAX_GRANULARITY_BITS) {
    return `has a granularity of ${granularityBits} bits`;
  }
  if (table === 0 || table % cluster !== 0 || entries === 0)
    return `has a table of ${entries} entries at byte ${table}`;
  if (entries * cluster > MAX_BITMAP_BYTES) return `has a table of ${entries} entries`;
  // One that was not stored may be of another size than the disk is now.
  const needed = tableEntries(header, granularityBits);
  if (!inUse && entries !== needed) return `has a table of ${entries} entries; ${needed} are needed`;
  return undefined;
}

export function buildDirectory(list: readonly DirectoryEntry[]): Uint8Array {
  const parts = list.map((entry) => {
    const name = new TextEncoder().encode(entry.name);
    const bytes = new Uint8Array(entryBytes(name.length, entry.extra.length));
    const view = viewOf(bytes);
    setWide(view, 0, entry.table);
    view.setUint32(8, entry.entries);
    view.setUint32(
      FLAGS,
      (entry.inUse ? IN_USE : 0) | (entry.auto ? AUTO : 0) | (entry.extraCompatible ? EXTRA_COMPATIBLE : 0),
    );
    view.setUint8(16, DIRTY_TRACKING);
    view.setUint8(17, entry.granularityBits);
    view.setUint16(18, name.length);
    view.setUint32(20, entry.extra.length);
    bytes.set(entry.extra, FIXED);
    bytes.set(name, FIXED + entry.extra.length);
    return bytes;
  });
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Bytes of an entry. */
export function entryBytes(nameBytes: number, extraBytes = 0): number {
  return Math.ceil((FIXED + extraBytes + nameBytes) / 8) * 8;
}
