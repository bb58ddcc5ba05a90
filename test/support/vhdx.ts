import { putGuid } from "../../src/host/format/guid.ts";
import { seal } from "../../src/host/format/vhdx/crc32c.ts";

/** One descriptor of a log entry: a sector's content, or so many bytes of zeros. */
export type LogChange = { position: number; data: Uint8Array } | { position: number; zeros: number };

export interface LogEntry {
  sequence: number;
  /** Byte of the log where it is put; it wraps around the log's end. */
  at: number;
  tail?: number;
  guid?: string;
  flushed?: number;
  last?: number;
  changes: LogChange[];
  /** Spoils the finished entry. */
  spoil?: (entry: Uint8Array) => void;
}

export const LOG_GUID = "11111111-2222-4333-8444-555555555555";
const SECTOR = 4096;

/** A log entry from the specification's tables (MS-VHDX 2.3.1), not from the code under test. */
export function logEntry({
  sequence,
  at,
  tail = at,
  guid = LOG_GUID,
  flushed = 0,
  last = 0,
  changes,
  spoil,
}: LogEntry) {
  const descriptors = Math.ceil((64 + 32 * changes.length) / SECTOR) * SECTOR;
  const data = changes.filter((change) => "data" in change);
  const bytes = new Uint8Array(descriptors + data.length * SECTOR);
  const view = new DataView(bytes.buffer);
  const text = (where: number, value: string) => bytes.set(new TextEncoder().encode(value), where);
  view.setUint32(8, bytes.length, true);
  view.setUint32(12, tail, true);
  view.setBigUint64(16, BigInt(sequence), true);
  view.setUint32(24, changes.length, true);
  putGuid(bytes, 32, guid);
  view.setBigUint64(48, BigInt(flushed), true);
  view.setBigUint64(56, BigInt(last), true);
  let sector = descriptors;
  changes.forEach((change, i) => {
    const where = 64 + i * 32;
    view.setBigUint64(where + 16, BigInt(change.position), true);
    view.setBigUint64(where + 24, BigInt(sequence), true);
    if ("data" in change) {
      text(where, "desc");
      bytes.set(change.data.subarray(SECTOR - 4, SECTOR), where + 4);
      bytes.set(change.data.subarray(0, 8), where + 8);
      bytes.set(change.data, sector);
      text(sector, "data");
      view.setUint32(sector + 4, Math.floor(sequence / 2 ** 32), true);
      view.setUint32(sector + SECTOR - 4, sequence % 2 ** 32, true);
      sector += SECTOR;
    } else {
      text(where, "zero");
      view.setBigUint64(where + 8, BigInt(change.zeros), true);
    }
  });
  seal(bytes, "loge");
  spoil?.(bytes);
  return bytes;
}

/** Puts entries into the log of an image, and makes both headers ask for their replay. */
export function withLog(image: Uint8Array, entries: readonly LogEntry[], guid = LOG_GUID): Uint8Array {
  const bytes = image.slice();
  const view = new DataView(bytes.buffer);
  const start = Number(view.getBigUint64(65536 + 72, true));
  const length = view.getUint32(65536 + 68, true);
  for (const entry of entries) {
    const content = logEntry(entry);
    for (let i = 0; i < content.length; i += SECTOR) {
      bytes.set(content.subarray(i, i + SECTOR), start + ((entry.at + i) % length));
    }
  }
  for (const header of [65536, 131072]) {
    putGuid(bytes, header + 48, guid);
    seal(bytes.subarray(header, header + SECTOR), "head");
  }
  return bytes;
}
