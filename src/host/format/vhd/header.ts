// Dynamic disk header (VHD 1.0, "Dynamic Disk Header Format"). Big-endian, 1,024 bytes, where the footer's data offset says.
import { checksum, NO_OFFSET } from "./footer.ts";

export const HEADER_BYTES = 1024;
const COOKIE = "cxsparse";
const CHECKSUM = 36;

/** "Block Size": the specification's default. */
export const DEFAULT_BLOCK = 2 ** 21;
/** A BAT entry of a block that is not there. */
export const UNUSED = 0xffffffff;

export interface Header {
  intact: boolean;
  tableOffset: bigint;
  version: number;
  entries: number;
  blockSize: number;
}

/** Null when the cookie is not there. */
export function parseHeader(bytes: Uint8Array): Header | null {
  for (let i = 0; i < COOKIE.length; i++) if (bytes[i] !== COOKIE.charCodeAt(i)) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER_BYTES);
  return {
    tableOffset: view.getBigUint64(16),
    version: view.getUint32(24),
    entries: view.getUint32(28),
    blockSize: view.getUint32(32),
    intact: view.getUint32(CHECKSUM) === checksum(bytes, CHECKSUM),
  };
}

export function buildHeader(tableOffset: number, entries: number, blockSize: number): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < COOKIE.length; i++) bytes[i] = COOKIE.charCodeAt(i);
  view.setBigUint64(8, NO_OFFSET);
  view.setBigUint64(16, BigInt(tableOffset));
  view.setUint32(24, 0x10000); // Header Version 1.0
  view.setUint32(28, entries);
  view.setUint32(32, blockSize);
  view.setUint32(CHECKSUM, checksum(bytes, CHECKSUM));
  return bytes;
}

/** Bytes of the sector bitmap before each block's data: a bit a sector, in whole sectors. */
export function bitmapBytes(blockSize: number): number {
  return Math.ceil(blockSize / 512 / 8 / 512) * 512;
}
