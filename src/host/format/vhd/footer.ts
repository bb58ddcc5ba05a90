// Hard disk footer (Virtual Hard Disk Image Format Specification 1.0, "Hard Disk Footer Format"). Big-endian, 512 bytes:
// the last of the file, and for dynamic disks a copy at byte 0.

export const SECTOR = 512;
export const FOOTER_BYTES = 512;
const COOKIE = "conectix";

export const DiskType = { Fixed: 2, Dynamic: 3, Differencing: 4 } as const;

/** "Data Offset" of a fixed disk: there is no next structure. */
export const NO_OFFSET = 0xffffffff_ffffffffn;
/** Seconds from 1970 to 2000, where VHD time starts. */
export const EPOCH = 946684800;
/** Largest disk that the format's 32-bit sector numbers can hold with its metadata, in bytes. */
export const MAX_SIZE = 2040 * 2 ** 30;

export interface Footer {
  /** The raw bytes, to be written back with what we do not interpret. */
  bytes: Uint8Array;
  /** Stored checksum is right. */
  intact: boolean;
  dataOffset: bigint;
  creator: string;
  creatorVersion: number;
  creatorSystem: string;
  timestamp: number;
  originalSize: bigint;
  currentSize: bigint;
  geometry: Geometry;
  type: number;
  uuid: string;
  savedState: boolean;
}

export interface Geometry {
  cylinders: number;
  heads: number;
  sectors: number;
}

/** One's complement of the byte sum, the checksum's own four bytes left out. */
export function checksum(bytes: Uint8Array, field: number): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i++) if (i < field || i >= field + 4) sum += bytes[i];
  return ~sum >>> 0;
}

const CHECKSUM = 64;

/** Null when the cookie is not there. */
export function parseFooter(bytes: Uint8Array): Footer | null {
  if (text(bytes, 0, 8) !== COOKIE) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, FOOTER_BYTES);
  return {
    bytes,
    intact: view.getUint32(CHECKSUM) === checksum(bytes, CHECKSUM),
    dataOffset: view.getBigUint64(16),
    timestamp: view.getUint32(24),
    creator: text(bytes, 28, 4),
    creatorVersion: view.getUint32(32),
    creatorSystem: text(bytes, 36, 4),
    originalSize: view.getBigUint64(40),
    currentSize: view.getBigUint64(48),
    geometry: { cylinders: view.getUint16(56), heads: bytes[58], sectors: bytes[59] },
    type: view.getUint32(60),
    uuid: uuidText(bytes.subarray(68, 84)),
    savedState: bytes[84] !== 0,
  };
}

export interface NewFooter {
  size: number;
  dataOffset: bigint;
  type: number;
  /** 16 bytes. */
  uuid: Uint8Array;
  /** Seconds since 1970. */
  time: number;
  creator: string;
}

/**
 * "Creator Application". Readers disagree on the disk's size: Virtual PC's own name means "cylinders × heads × sectors", and
 * QEMU takes every name it does not know for that. This one means "Current Size", to the byte, for all of them.
 */
export const EXACT = "qem2";
/** QEMU's own where the geometry says the size. */
export const ROUNDED = "qemu";

export function buildFooter({ size, dataOffset, type, uuid, time, creator }: NewFooter): Uint8Array {
  const bytes = new Uint8Array(FOOTER_BYTES);
  const view = new DataView(bytes.buffer);
  put(bytes, 0, COOKIE);
  view.setUint32(8, 2); // Features: the reserved bit that is always set
  view.setUint32(12, 0x10000); // File Format Version 1.0
  view.setBigUint64(16, dataOffset);
  view.setUint32(24, Math.max(0, Math.floor(time) - EPOCH));
  put(bytes, 28, creator);
  view.setUint32(32, 0x50003);
  put(bytes, 36, "Wi2k");
  view.setBigUint64(40, BigInt(size));
  view.setBigUint64(48, BigInt(size));
  putGeometry(bytes, geometryOf(size / SECTOR));
  view.setUint32(60, type);
  bytes.set(uuid, 68);
  return sealFooter(bytes);
}

/** What of a footer changes; the rest stays, also what is not interpreted. */
export interface FooterChange {
  size?: number;
  dataOffset?: number;
  type?: number;
}

/** A copy with the changes and the right checksum. */
export function changedFooter(footer: Footer, { size, dataOffset, type }: FooterChange): Uint8Array {
  const bytes = footer.bytes.slice();
  const view = new DataView(bytes.buffer);
  if (size !== undefined) {
    view.setBigUint64(48, BigInt(size));
    // "Original Size" only tells of the disk's making, but is the one that libvhdi reads.
    view.setBigUint64(40, BigInt(size));
    const geometry = geometryOf(size / SECTOR);
    putGeometry(bytes, geometry);
    // QEMU believes the geometry of all whose name it does not know, and can do so only where it is exact.
    if (!BY_CURRENT_SIZE.has(footer.creator) && sizeOf(geometry) !== size && !isLargest(geometry))
      put(bytes, 28, EXACT);
  }
  if (dataOffset !== undefined) view.setBigUint64(16, BigInt(dataOffset));
  if (type !== undefined) view.setUint32(60, type);
  return sealFooter(bytes);
}

/** Writes the right checksum into the bytes. */
function sealFooter(bytes: Uint8Array): Uint8Array {
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(CHECKSUM, checksum(bytes, CHECKSUM));
  return bytes;
}

/** The specification's appendix, "CHS Calculation". */
export function geometryOf(totalSectors: number): Geometry {
  const total = Math.min(totalSectors, 65535 * 16 * 255);
  let sectors = 17;
  let tracks = Math.floor(total / sectors);
  let heads = Math.max(4, Math.floor((tracks + 1023) / 1024));
  if (total >= 65535 * 16 * 63) {
    sectors = 255;
    heads = 16;
    tracks = Math.floor(total / sectors);
  } else {
    if (tracks >= heads * 1024 || heads > 16) {
      sectors = 31;
      heads = 16;
      tracks = Math.floor(total / sectors);
    }
    if (tracks >= heads * 1024) {
      sectors = 63;
      heads = 16;
      tracks = Math.floor(total / sectors);
    }
  }
  return { cylinders: Math.floor(tracks / heads), heads, sectors };
}

/** The smallest size, in bytes, that holds `size` and that a geometry says exactly, up to the largest of these. */
export function roundedToGeometry(size: number): number {
  for (let sectors = size / SECTOR; ; sectors++) {
    const geometry = geometryOf(sectors);
    if (sizeOf(geometry) >= size || isLargest(geometry)) return isLargest(geometry) ? size : sizeOf(geometry);
  }
}

/** Applications whose disks are as large as their geometry says, because their virtual drive was. */
const BY_GEOMETRY = new Set(["vpc ", ROUNDED]);
/** Those for which QEMU, too, takes "Current Size". */
const BY_CURRENT_SIZE = new Set(["win ", EXACT, "d2v ", "tap\0", "CTXS", "wa\0\0"]);

/** Guest-visible bytes. */
export function diskSize({ creator, geometry, currentSize }: Footer): bigint {
  const product = sizeOf(geometry);
  // The largest geometry says only "at least this much".
  if (!BY_GEOMETRY.has(creator) || product === 0 || isLargest(geometry)) return (currentSize / 512n) * 512n;
  return BigInt(product);
}

const sizeOf = ({ cylinders, heads, sectors }: Geometry): number => cylinders * heads * sectors * SECTOR;
const isLargest = (geometry: Geometry): boolean => sizeOf(geometry) === 65535 * 16 * 255 * SECTOR;

function putGeometry(bytes: Uint8Array, { cylinders, heads, sectors }: Geometry): void {
  new DataView(bytes.buffer, bytes.byteOffset).setUint16(56, cylinders);
  bytes[58] = heads;
  bytes[59] = sectors;
}

/** In the order of the file, as everybody shows a VHD's, without dashes. */
export function uuidText(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function text(bytes: Uint8Array, at: number, length: number): string {
  return String.fromCharCode(...bytes.subarray(at, at + length));
}
function put(bytes: Uint8Array, at: number, value: string): void {
  for (let i = 0; i < value.length; i++) bytes[at + i] = value.charCodeAt(i);
}

/** Who made the disk, where, and when. */
export function makerOf({ creator, creatorVersion, creatorSystem, timestamp }: Footer): Record<string, unknown> {
  const created = timestamp === 0 ? undefined : new Date((timestamp + EPOCH) * 1000).toISOString();
  return {
    creator,
    creatorVersion: `${creatorVersion >>> 16}.${creatorVersion & 0xffff}`,
    creatorSystem,
    ...(created !== undefined && { created }),
  };
}
