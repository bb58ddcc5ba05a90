// One log entry (MS-VHDX 2.3.1): a header, descriptors of what to write where, and the data, in sectors of 4 KiB.
//
//   ┌────────┬──────┬──────┬─────┬───────────────┬────────────────┬────────────────┐
//   │ header │ desc │ zero │ …   │ to the sector │ data sector 0  │ data sector 1  │ …
//   └────────┴──────┴──────┴─────┴───────────────┴────────────────┴────────────────┘
//   64 bytes, 32 each                              one for each "desc", in order
//
// A data sector gives up its first 8 and last 4 bytes to a signature and the sequence number, by which a torn write shows;
// the descriptor keeps those bytes.

import { guidAt, putGuid } from "../guid.ts";
import { seal, sign, signed, viewOf } from "./crc32c.ts";
import { putWide, SECTOR, wide } from "./io.ts";

const ENTRY_SIGNATURE = "loge";
const DATA = "desc";
const ZERO = "zero";
const DATA_SECTOR = "data";
const HEADER_BYTES = 64;
const DESCRIPTOR_BYTES = 32;

export interface EntryHeader {
  /** Bytes of the whole entry. */
  length: number;
  /** Byte of the log where the oldest entry that must be replayed with this one is. */
  tail: number;
  sequence: bigint;
  descriptors: number;
  /** Bytes of the file that were durable before: with fewer, it has been truncated. */
  flushedFileOffset: number;
  /** Bytes of the file that hold all there is. */
  lastFileOffset: number;
}

/** A sector to write, or a range to zero. */
export interface Change {
  position: number;
  /** Absent: zeros. */
  data?: Uint8Array;
  length: number;
}

/** The header of an entry of the log `guid`, `logLength` bytes long; null when the bytes are no such thing. */
export function parseEntryHeader(bytes: Uint8Array, guid: string, logLength: number): EntryHeader | null {
  if (!signed(bytes, ENTRY_SIGNATURE)) return null;
  const view = viewOf(bytes);
  const header = {
    length: view.getUint32(8, true),
    tail: view.getUint32(12, true),
    sequence: view.getBigUint64(16, true),
    descriptors: view.getUint32(24, true),
    flushedFileOffset: wide(view, 48),
    lastFileOffset: wide(view, 56),
  };
  const { length, tail, descriptors } = header;
  const whole = length > 0 && length % SECTOR === 0 && length <= logLength && tail % SECTOR === 0 && tail < logLength;
  if (!whole || header.sequence === 0n || descriptorSectors(descriptors) * SECTOR > length) return null;
  return guidAt(bytes, 32) === guid ? header : null;
}

export function descriptorSectors(descriptors: number): number {
  return Math.ceil((HEADER_BYTES + descriptors * DESCRIPTOR_BYTES) / SECTOR);
}

/** The descriptors that lie in descriptor sector `index`; null when one is not of this entry. */
export function parseDescriptors(bytes: Uint8Array, index: number, header: EntryHeader): DataView[] | null {
  const found: DataView[] = [];
  const firstAt = index === 0 ? HEADER_BYTES : 0;
  const before = index === 0 ? 0 : (index * SECTOR - HEADER_BYTES) / DESCRIPTOR_BYTES;
  const count = Math.min(header.descriptors - before, (SECTOR - firstAt) / DESCRIPTOR_BYTES);
  for (let i = 0; i < count; i++) {
    const descriptor = bytes.subarray(firstAt + i * DESCRIPTOR_BYTES, firstAt + (i + 1) * DESCRIPTOR_BYTES);
    const view = viewOf(descriptor);
    const known = signed(descriptor, DATA) || signed(descriptor, ZERO);
    if (!known || view.getBigUint64(24, true) !== header.sequence || wide(view, 16) % SECTOR !== 0) return null;
    found.push(view);
  }
  return found;
}

export function isData(descriptor: DataView): boolean {
  return descriptor.getUint8(0) === DATA.charCodeAt(0);
}

/** @param sector the descriptor's data sector, when it has one; null when that is not of this entry */
export function parseChange(descriptor: DataView, sector: Uint8Array | undefined, sequence: bigint): Change | null {
  const position = wide(descriptor, 16);
  if (!sector) {
    const length = wide(descriptor, 8);
    return length % SECTOR === 0 ? { position, length } : null;
  }
  const view = viewOf(sector);
  const number = (BigInt(view.getUint32(4, true)) << 32n) | BigInt(view.getUint32(SECTOR - 4, true));
  if (!signed(sector, DATA_SECTOR) || number !== sequence) return null;
  const data = sector.slice();
  const restored = viewOf(data);
  restored.setBigUint64(0, descriptor.getBigUint64(8, true), true);
  restored.setUint32(SECTOR - 4, descriptor.getUint32(4, true), true);
  return { position, data, length: SECTOR };
}

/** What an entry does: ranges of whole sectors are zeroed, then sectors written. */
export interface Changes {
  sectors: ReadonlyMap<number, Uint8Array>;
  zeroed: readonly { position: number; end: number }[];
}

/** An entry of these changes; its tail is itself, so that it is replayed alone. */
export function buildEntry(
  { sectors, zeroed }: Changes,
  at: number,
  sequence: bigint,
  guid: string,
  fileSize: number,
): Uint8Array {
  const count = zeroed.length + sectors.size;
  const first = descriptorSectors(count) * SECTOR;
  const bytes = new Uint8Array(first + sectors.size * SECTOR);
  const view = viewOf(bytes);
  view.setUint32(8, bytes.length, true);
  view.setUint32(12, at, true);
  view.setBigUint64(16, sequence, true);
  view.setUint32(24, count, true);
  putGuid(bytes, 32, guid);
  putWide(view, 48, fileSize);
  putWide(view, 56, fileSize);
  let descriptor = HEADER_BYTES;
  let data = first;
  for (const { position, end } of zeroed) {
    sign(bytes.subarray(descriptor), ZERO);
    putWide(view, descriptor + 8, end - position);
    putWide(view, descriptor + 16, position);
    view.setBigUint64(descriptor + 24, sequence, true);
    descriptor += DESCRIPTOR_BYTES;
  }
  for (const [position, sector] of sectors) {
    const source = viewOf(sector);
    sign(bytes.subarray(descriptor), DATA);
    view.setUint32(descriptor + 4, source.getUint32(SECTOR - 4, true), true);
    view.setBigUint64(descriptor + 8, source.getBigUint64(0, true), true);
    putWide(view, descriptor + 16, position);
    view.setBigUint64(descriptor + 24, sequence, true);
    bytes.set(sector, data);
    sign(bytes.subarray(data), DATA_SECTOR);
    view.setUint32(data + 4, Number(sequence >> 32n), true);
    view.setUint32(data + SECTOR - 4, Number(sequence & 0xffffffffn), true);
    descriptor += DESCRIPTOR_BYTES;
    data += SECTOR;
  }
  return seal(bytes, ENTRY_SIGNATURE);
}
