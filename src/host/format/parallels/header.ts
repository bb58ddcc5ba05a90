// The header of an expanding Parallels disk (QEMU, docs/interop/parallels.txt, "Header"). Little-endian, 64 bytes; the block
// allocation table follows.
import { textAt } from "../io.ts";

export const HEADER_BYTES = 64;
export const SECTOR = 512;
/** "Magic": entries of the table are sectors in the first, clusters in the second. */
const PLAIN = "WithoutFreeSpace";
const EXTENDED = "WithouFreSpacExt";
/** "In Use": opened for writing by somebody, or not closed properly. */
const IN_USE = 0x746f6e59;
/** "Flags": nothing was written yet. */
const EMPTY = 1;

const Field = {
  Version: 16,
  Heads: 20,
  Cylinders: 24,
  Tracks: 28,
  Entries: 32,
  Sectors: 36,
  InUse: 44,
  DataOffset: 48,
  Flags: 52,
  Extension: 56,
} as const;

export interface Header {
  /** The raw bytes, to be written back with what is not interpreted. */
  bytes: Uint8Array;
  /** Entries count clusters. */
  extended: boolean;
  version: number;
  geometry: { cylinders: number; heads: number };
  /** Sectors of a cluster. */
  tracks: number;
  entries: number;
  sectors: bigint;
  inUse: boolean;
  /** First sector of data; 0: right behind the table. */
  dataOffset: number;
  flags: number;
  /** Sector of the format extension, where dirty bitmaps are; 0: none. */
  extension: bigint;
}

/** Null when the magic is not there. */
export function parseHeader(bytes: Uint8Array): Header | null {
  if (bytes.length < HEADER_BYTES) return null;
  const magic = textAt(bytes, 0, 16);
  if (magic !== PLAIN && magic !== EXTENDED) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER_BYTES);
  const word = (at: number) => view.getUint32(at, true);
  const extended = magic === EXTENDED;
  return {
    bytes,
    extended,
    version: word(Field.Version),
    geometry: { cylinders: word(Field.Cylinders), heads: word(Field.Heads) },
    tracks: word(Field.Tracks),
    entries: word(Field.Entries),
    // 32 bits in the older kind, whatever the others say.
    sectors: extended ? view.getBigUint64(Field.Sectors, true) : BigInt(word(Field.Sectors)),
    inUse: word(Field.InUse) === IN_USE,
    dataOffset: word(Field.DataOffset),
    flags: word(Field.Flags),
    extension: view.getBigUint64(Field.Extension, true),
  };
}

/** What of a header changes; the rest stays. */
export interface HeaderChange {
  /** Bytes. */
  size?: number;
  tracks?: number;
  entries?: number;
  inUse?: boolean;
  dataOffset?: number;
  /** The guest has written: not empty any more, and bitmaps that nobody keeps are given up. */
  written?: boolean;
}

/** QEMU's heads and sectors of a track, for as many cylinders as are needed. */
const HEADS = 16;
const TRACK_SECTORS = 32;

export function changedHeader({ bytes }: Pick<Header, "bytes">, change: HeaderChange): Uint8Array {
  const made = bytes.slice(0, HEADER_BYTES);
  const view = new DataView(made.buffer);
  const put = (at: number, value: number | undefined) => value !== undefined && view.setUint32(at, value, true);
  if (change.size !== undefined) {
    const sectors = change.size / SECTOR;
    view.setBigUint64(Field.Sectors, BigInt(sectors), true);
    put(Field.Heads, HEADS);
    put(Field.Cylinders, Math.min(2 ** 32 - 1, Math.ceil(sectors / (HEADS * TRACK_SECTORS))));
  }
  put(Field.Tracks, change.tracks);
  put(Field.Entries, change.entries);
  put(Field.DataOffset, change.dataOffset);
  if (change.inUse !== undefined) put(Field.InUse, change.inUse ? IN_USE : 0);
  if (change.written) {
    put(Field.Flags, view.getUint32(Field.Flags, true) & ~EMPTY);
    view.setBigUint64(Field.Extension, 0n, true);
  }
  return made;
}

export function newHeader(change: HeaderChange): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  bytes.set(new TextEncoder().encode(EXTENDED));
  new DataView(bytes.buffer).setUint32(Field.Version, 2, true);
  return changedHeader({ bytes }, change);
}
