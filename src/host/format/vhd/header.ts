// Dynamic disk header (VHD 1.0, "Dynamic Disk Header Format"). Big-endian, 1,024 bytes, where the footer's data offset says.
import { checksum, NO_OFFSET } from "./footer.ts";
import { LOCATOR_BYTES, LOCATORS, type Locator, parentName, parseLocators, utf16 } from "./locator.ts";

export const HEADER_BYTES = 1024;
const COOKIE = "cxsparse";
const CHECKSUM = 36;
const PARENT_UUID = 40;
const PARENT_TIME = 56;
const PARENT_NAME = 64;
const PARENT_NAME_BYTES = 512;
const PARENT_LOCATORS = 576;

/** "Block Size": the specification's default. */
export const DEFAULT_BLOCK = 2 ** 21;
/** A BAT entry of a block that is not there. */
export const UNUSED = 0xffffffff;

export interface Header {
  /** The raw bytes, to be written back with what we do not interpret. */
  bytes: Uint8Array;
  intact: boolean;
  tableOffset: bigint;
  version: number;
  entries: number;
  blockSize: number;
  parent: HeaderParent;
}

/** What a differencing disk's header says of its parent; zeros in one of a dynamic disk. */
export interface HeaderParent {
  /** 16 bytes. */
  uuid: Uint8Array;
  /** When the parent's file was last written, in seconds since 2000; 0 when that was not noted, as by Windows 10. */
  timestamp: number;
  name: string;
  locators: Locator[];
}

/** Null when the cookie is not there. */
export function parseHeader(bytes: Uint8Array): Header | null {
  for (let i = 0; i < COOKIE.length; i++) if (bytes[i] !== COOKIE.charCodeAt(i)) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER_BYTES);
  return {
    bytes,
    tableOffset: view.getBigUint64(16),
    version: view.getUint32(24),
    entries: view.getUint32(28),
    blockSize: view.getUint32(32),
    intact: view.getUint32(CHECKSUM) === checksum(bytes, CHECKSUM),
    parent: {
      uuid: bytes.slice(PARENT_UUID, PARENT_UUID + 16),
      timestamp: view.getUint32(PARENT_TIME),
      name: parentName(bytes.subarray(PARENT_NAME, PARENT_NAME + PARENT_NAME_BYTES)),
      locators: parseLocators(bytes.subarray(PARENT_LOCATORS, PARENT_LOCATORS + LOCATORS * LOCATOR_BYTES)),
    },
  };
}

export function buildHeader(tableOffset: number, entries: number, blockSize: number, parent?: HeaderParent) {
  const bytes = new Uint8Array(HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < COOKIE.length; i++) bytes[i] = COOKIE.charCodeAt(i);
  view.setBigUint64(8, NO_OFFSET);
  view.setBigUint64(16, BigInt(tableOffset));
  view.setUint32(24, 0x10000); // Header Version 1.0
  view.setUint32(32, blockSize);
  return changedHeader(bytes, { entries, parent });
}

/** A copy with the changes and the right checksum. "Max Table Entries" and the checksum are both in the first sector. */
export function changedHeader(header: Uint8Array, change: { entries?: number; parent?: HeaderParent | null }) {
  const bytes = header.slice();
  const view = new DataView(bytes.buffer);
  const { entries, parent } = change;
  if (entries !== undefined) view.setUint32(28, entries);
  if (parent !== undefined) {
    bytes.fill(0, PARENT_UUID, PARENT_TIME + 8);
    bytes.fill(0, PARENT_NAME, PARENT_LOCATORS + LOCATORS * LOCATOR_BYTES);
  }
  if (parent) {
    bytes.set(parent.uuid, PARENT_UUID);
    view.setUint32(PARENT_TIME, parent.timestamp);
    bytes.set(utf16(parent.name, false).subarray(0, PARENT_NAME_BYTES - 2), PARENT_NAME);
    parent.locators.forEach(({ platform, space, length, position }, i) => {
      const at = PARENT_LOCATORS + i * LOCATOR_BYTES;
      view.setUint32(at, platform);
      // In bytes, as everybody writes it.
      view.setUint32(at + 4, space);
      view.setUint32(at + 8, length);
      view.setBigUint64(at + 16, position);
    });
  }
  view.setUint32(CHECKSUM, checksum(bytes, CHECKSUM));
  return bytes;
}

/** Bytes of the sector bitmap before each block's data: a bit a sector, in whole sectors. */
export function bitmapBytes(blockSize: number): number {
  return Math.ceil(blockSize / 512 / 8 / 512) * 512;
}
