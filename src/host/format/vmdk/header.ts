// SparseExtentHeader of hosted sparse extents (VMware Virtual Disk Format 5.0, "Hosted Sparse Extents"). Little-endian, one
// sector.
import { textAt } from "../io.ts";

export const SECTOR = 512;
/** Sectors that an entry can name. */
export const REACH = 2 ** 32;
const MAGIC = "KDMV";

const Field = {
  Version: 4,
  Flags: 8,
  Capacity: 12,
  GrainSize: 20,
  DescriptorOffset: 28,
  DescriptorSize: 36,
  TableEntries: 44,
  RedundantOffset: 48,
  DirectoryOffset: 56,
  OverHead: 64,
  Unclean: 72,
  Newlines: 73,
  Compression: 77,
} as const;

export const Flag = { Newlines: 1, Redundant: 2, ZeroedGrain: 4, Compressed: 0x10000, Markers: 0x20000 } as const;
/** Directory offset of a file whose directory is named by a footer at its end (GD_AT_END). */
export const AT_END = 2n ** 64n - 1n;
/** The method of compressed grains (COMPRESSION_DEFLATE): RFC 1950, whatever the specification says. */
export const DEFLATE = 1;
/** A transfer that takes the file for text changes these: "\n", " ", "\r\n". */
const NEWLINES = [0x0a, 0x20, 0x0d, 0x0a];

/** Offsets and sizes are sectors. */
export interface Header {
  bytes: Uint8Array;
  version: number;
  flags: number;
  capacity: bigint;
  grainSize: bigint;
  descriptorOffset: bigint;
  descriptorSize: bigint;
  /** Entries of a grain table. */
  tableEntries: number;
  redundantOffset: bigint;
  directoryOffset: bigint;
  overHead: bigint;
  /** How grains are packed; 0: not. */
  compression: number;
  unclean: boolean;
  /** The bytes that a transfer as text would have changed are as they should be. */
  binary: boolean;
  /** Only of ESX Server's extents: entries of the directory, and the sector that it says the next grain goes to. */
  cowd?: { tables: number; free: number };
}

/** Null when the magic is not there. */
export function parseHeader(bytes: Uint8Array): Header | null {
  if (bytes.length < SECTOR || textAt(bytes, 0, 4) !== MAGIC) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, SECTOR);
  const wide = (at: number) => view.getBigUint64(at, true);
  const flags = view.getUint32(Field.Flags, true);
  return {
    bytes,
    version: view.getUint32(Field.Version, true),
    flags,
    capacity: wide(Field.Capacity),
    grainSize: wide(Field.GrainSize),
    descriptorOffset: wide(Field.DescriptorOffset),
    descriptorSize: wide(Field.DescriptorSize),
    tableEntries: view.getUint32(Field.TableEntries, true),
    redundantOffset: wide(Field.RedundantOffset),
    directoryOffset: wide(Field.DirectoryOffset),
    overHead: wide(Field.OverHead),
    compression: view.getUint16(Field.Compression, true),
    unclean: bytes[Field.Unclean] !== 0,
    binary: !(flags & Flag.Newlines) || NEWLINES.every((byte, i) => bytes[Field.Newlines + i] === byte),
  };
}

/** What of a header changes; the rest stays. Sectors. */
export interface HeaderChange {
  capacity?: number;
  directoryOffset?: number;
  redundantOffset?: number;
  unclean?: boolean;
  /** Entries of the directory, and where the next grain goes: only of ESX Server's extents. */
  tables?: number;
  free?: number;
  /** There is one copy of directory and tables from now on. */
  single?: boolean;
}

export function changedHosted({ bytes }: Pick<Header, "bytes">, change: HeaderChange): Uint8Array {
  const made = bytes.slice(0, SECTOR);
  const view = new DataView(made.buffer);
  const put = (at: number, value: number | undefined) =>
    value !== undefined && view.setBigUint64(at, BigInt(value), true);
  put(Field.Capacity, change.capacity);
  put(Field.DirectoryOffset, change.directoryOffset);
  put(Field.RedundantOffset, change.redundantOffset);
  if (change.single) view.setUint32(Field.Flags, view.getUint32(Field.Flags, true) & ~Flag.Redundant, true);
  if (change.unclean !== undefined) made[Field.Unclean] = change.unclean ? 1 : 0;
  return made;
}

export interface NewHeader {
  zeroedGrain: boolean;
  /** streamOptimized: compressed, with markers, and the directory at the end. */
  stream?: boolean;
  capacity: number;
  grainSize: number;
  descriptorOffset: number;
  descriptorSize: number;
  tableEntries: number;
  redundantOffset: number;
  directoryOffset: number;
  overHead: number;
}

export function newHeader(disk: NewHeader): Uint8Array {
  const bytes = new Uint8Array(SECTOR);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode(MAGIC));
  // Entries that say "zeros" came with version 2.
  view.setUint32(Field.Version, disk.stream ? 3 : disk.zeroedGrain ? 2 : 1, true);
  const sparse = Flag.Redundant | (disk.zeroedGrain ? Flag.ZeroedGrain : 0);
  view.setUint32(Field.Flags, Flag.Newlines | (disk.stream ? Flag.Compressed | Flag.Markers : sparse), true);
  if (disk.stream) view.setUint16(Field.Compression, DEFLATE, true);
  const wide = (at: number, value: number) => view.setBigUint64(at, BigInt(value), true);
  wide(Field.Capacity, disk.capacity);
  wide(Field.GrainSize, disk.grainSize);
  wide(Field.DescriptorOffset, disk.descriptorOffset);
  wide(Field.DescriptorSize, disk.descriptorSize);
  view.setUint32(Field.TableEntries, disk.tableEntries, true);
  wide(Field.RedundantOffset, disk.redundantOffset);
  view.setBigUint64(Field.DirectoryOffset, disk.stream ? AT_END : BigInt(disk.directoryOffset), true);
  wide(Field.OverHead, disk.overHead);
  bytes.set(NEWLINES, Field.Newlines);
  return bytes;
}
