import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { Image, OpenOptions } from "../../../core/format.ts";
import { SegmentList } from "../../../core/segments.ts";
import type { Store } from "../../../core/store.ts";
import { DynamicVhd } from "./dynamic.ts";
import { FixedVhd } from "./fixed.ts";
import { DiskType, diskSize, FOOTER_BYTES, type Footer, NO_OFFSET, parseFooter, SECTOR } from "./footer.ts";
import { bitmapBytes, HEADER_BYTES, type Header, parseHeader, UNUSED } from "./header.ts";

/** Bytes of the BAT looked at a time when all of it must be. */
const SCAN = 65536;

export function* openVhd(store: Store, options: OpenOptions): Flow<Image> {
  const warn = (message: string) => options.onWarning?.(`${store.name}: ${message}`);
  const { footer, end, atEnd } = yield* findFooter(store, warn);
  const exact = diskSize(footer);
  if (exact > BigInt(Number.MAX_SAFE_INTEGER)) throw corrupt(store, "hard disk footer", end, `has size ${exact}`);
  const size = Number(exact);
  if (footer.currentSize % BigInt(SECTOR) !== 0n)
    warn("the size is not whole sectors; the last, partial one is left out");
  if (footer.savedState) warn("the disk belongs to a machine in saved state, which may not survive a write");

  if (footer.type === DiskType.Fixed) {
    if (size <= end) return new FixedVhd(size, footer);
    throw corrupt(store, "hard disk footer", end, `says ${size} bytes, but only ${end} precede it: truncated`);
  }
  if (footer.type === DiskType.Differencing) {
    throw new ParavaneError("UNSUPPORTED", "differencing VHDs (those with a parent) cannot be opened yet", {
      file: store.name,
      structure: "hard disk footer",
    });
  }
  if (footer.type !== DiskType.Dynamic) {
    throw corrupt(store, "hard disk footer", end, `has unknown disk type ${footer.type}`);
  }
  const headerPosition = inStore(store, footer.dataOffset, HEADER_BYTES, "dynamic disk header");
  const header = parseHeader(yield* read(store, headerPosition, HEADER_BYTES));
  if (!header) throw corrupt(store, "dynamic disk header", headerPosition, "has no cookie");
  if (!header.intact) warn("the checksum of the dynamic disk header is wrong");
  const tablePosition = checkHeader(store, header, headerPosition, size);
  if (!atEnd) yield* refuseTruncated(store, header, tablePosition);
  return new DynamicVhd({ store, size, footer, header, headerPosition, tablePosition, end });
}

/**
 * The footer to go by. The one at the end comes first; the copy at 0, which only dynamic disks have, when that one is
 * damaged. A wrong checksum alone is tolerated, for products exist that set the UUID and leave the checksum.
 */
function* findFooter(store: Store, warn: (message: string) => void) {
  const { size } = store;
  if (size < FOOTER_BYTES) throw corrupt(store, "hard disk footer", 0, `does not fit ${size} bytes`);
  // Virtual PC before 2004 wrote 511 bytes; the missing one is a zero.
  const length = size % SECTOR === FOOTER_BYTES - 1 ? FOOTER_BYTES - 1 : FOOTER_BYTES;
  const bytes = new Uint8Array(FOOTER_BYTES);
  bytes.set(yield* read(store, size - length, length));
  const last = parseFooter(bytes);
  const end = size - length;
  const found = (footer: Footer) => ({ footer, end: align(end), atEnd: true });
  if (last?.intact) return found(last);

  const copy = parseFooter(yield* read(store, 0, FOOTER_BYTES));
  const fixed = last?.type === DiskType.Fixed && last.dataOffset === NO_OFFSET;
  // A fixed disk has no copy: what looks like one is the guest's own data.
  if (last && (fixed || !copy?.intact)) {
    warn("the checksum of the footer is wrong");
    return found(last);
  }
  if (!copy || copy.type === DiskType.Fixed) {
    throw corrupt(store, "hard disk footer", end, "is missing: not a VHD, or truncated");
  }
  warn("the footer is damaged; its copy at the start is used");
  if (!copy.intact) warn("the checksum of that copy is wrong");
  // A damaged footer is replaced when the disk first grows; where there is none at all, the last sector may be data.
  return { footer: copy, end: last ? align(end) : align(size), atEnd: last !== null };
}

/** Returns where the BAT is. */
function checkHeader(store: Store, header: Header, at: number, size: number): number {
  const { blockSize, entries, version } = header;
  const wrong = (what: string) => corrupt(store, "dynamic disk header", at, what);
  if (version >>> 16 !== 1) {
    throw new ParavaneError("UNSUPPORTED", `VHD header version ${version >>> 16} is not known`, { file: store.name });
  }
  if (blockSize < SECTOR || (blockSize & (blockSize - 1)) !== 0) throw wrong(`has block size ${blockSize}`);
  if (entries * blockSize < size) throw wrong(`has ${entries} blocks of ${blockSize} bytes, too few for ${size}`);
  const table = inStore(store, header.tableOffset, entries * 4, "block allocation table");
  if (table < SECTOR || (table < at + HEADER_BYTES && at < table + entries * 4)) {
    throw wrong(`puts the block allocation table at ${table}, over other metadata`);
  }
  return table;
}

/** Without a footer at the end, blocks may be cut off: look whether all that the BAT names are there. */
function* refuseTruncated(store: Store, header: Header, table: number): Flow {
  const stride = bitmapBytes(header.blockSize) + header.blockSize;
  for (let at = 0; at < header.entries * 4; at += SCAN) {
    const bytes = yield* read(store, table + at, Math.min(SCAN, header.entries * 4 - at));
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < bytes.length; i += 4) {
      const sector = view.getUint32(i);
      if (sector === UNUSED || sector * SECTOR + stride <= store.size) continue;
      const index = (at + i) / 4;
      throw corrupt(store, "block allocation table", table + at + i, `entry ${index} points past the end: truncated`);
    }
  }
}

function inStore(store: Store, position: bigint, length: number, structure: string): number {
  if (position >= BigInt(SECTOR) && position + BigInt(length) <= BigInt(store.size)) return Number(position);
  throw corrupt(store, structure, Number(position), `(${length} bytes) is not inside the file of ${store.size}`);
}

function* read(store: Store, position: number, length: number): Flow<Uint8Array> {
  const bytes = new Uint8Array(length);
  yield* wait(store.readv(position, bytes, SegmentList.of(0, length)));
  return bytes;
}

const align = (position: number): number => Math.ceil(position / SECTOR) * SECTOR;

function corrupt(store: Store, structure: string, offset: number, what: string): ParavaneError {
  return new ParavaneError("CORRUPT", `the ${structure} ${what}`, { file: store.name, structure, offset });
}
