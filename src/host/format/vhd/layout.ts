import { asParavaneError, ParavaneError } from "../../../core/error.ts";
import type { Flow } from "../../../core/flow.ts";
import type { ParentReference } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import {
  DiskType,
  diskSize,
  EPOCH,
  FOOTER_BYTES,
  type Footer,
  NO_OFFSET,
  parseFooter,
  SECTOR,
  uuidText,
} from "./footer.ts";
import { bitmapBytes, HEADER_BYTES, type Header, type HeaderParent, parseHeader } from "./header.ts";
import { align, corrupt, read } from "./io.ts";
import { Platform, readLocator } from "./locator.ts";
import { eachEntry } from "./table.ts";

/** What there is in a VHD; positions are bytes in the store. */
export interface Layout {
  store: Store;
  size: number;
  footer: Footer;
  /** Where the footer is, or would be: data ends here. A multiple of the sector. */
  end: number;
  /** Of a dynamic or differencing disk. */
  dynamic?: DynamicLayout;
}

export interface DynamicLayout {
  header: Header;
  headerPosition: number;
  tablePosition: number;
  /** Of a differencing disk. */
  parent?: ParentReference;
}

/** @throws ParavaneError CORRUPT, UNSUPPORTED, naming the structure and its offset */
export function* readLayout(store: Store, onWarning?: (message: string) => void): Flow<Layout> {
  const warn = (message: string) => onWarning?.(`${store.name}: ${message}`);
  const { footer, end, atEnd } = yield* findFooter(store, warn);
  const exact = diskSize(footer);
  if (exact > BigInt(Number.MAX_SAFE_INTEGER)) throw corrupt(store, "hard disk footer", end, `has size ${exact}`);
  const size = Number(exact);
  if (footer.currentSize % BigInt(SECTOR) !== 0n)
    warn("the size is not whole sectors; the last, partial one is left out");
  if (footer.savedState) warn("the disk belongs to a machine in saved state, which may not survive a write");

  if (footer.type === DiskType.Fixed) {
    if (size <= end) return { store, size, footer, end };
    throw corrupt(store, "hard disk footer", end, `says ${size} bytes, but only ${end} precede it: truncated`);
  }
  if (footer.type !== DiskType.Dynamic && footer.type !== DiskType.Differencing) {
    throw corrupt(store, "hard disk footer", end, `has unknown disk type ${footer.type}`);
  }
  const headerPosition = inStore(store, footer.dataOffset, HEADER_BYTES, "dynamic disk header");
  const header = parseHeader(yield* read(store, headerPosition, HEADER_BYTES));
  if (!header) throw corrupt(store, "dynamic disk header", headerPosition, "has no cookie");
  if (!header.intact) warn("the checksum of the dynamic disk header is wrong");
  const tablePosition = checkHeader(store, header, headerPosition, size);
  if (!atEnd) yield* refuseTruncated(store, header, tablePosition);
  const parent = footer.type === DiskType.Differencing ? yield* parentOf(store, header.parent, warn) : undefined;
  return { store, size, footer, end, dynamic: { header, headerPosition, tablePosition, parent } };
}

/** The relative path first: it is the likeliest still to be true. The name, which the header itself holds, comes last. */
function* parentOf(store: Store, parent: HeaderParent, warn: (message: string) => void): Flow<ParentReference> {
  const relative: string[] = [];
  const absolute: string[] = [];
  for (const locator of parent.locators) {
    let path: string | undefined;
    try {
      path = yield* readLocator(store, locator);
    } catch (thrown) {
      // One that cannot be read says nothing about the others.
      const { code, message } = asParavaneError(thrown);
      if (code !== "CORRUPT") throw thrown;
      warn(message);
    }
    if (path === undefined) continue;
    (locator.platform === Platform.W2ru || path.startsWith("./") ? relative : absolute).push(path);
  }
  const paths = [...new Set([...relative, ...absolute, ...(parent.name === "" ? [] : [parent.name])])];
  const known = parent.uuid.some((byte) => byte !== 0);
  return {
    paths,
    windows: true,
    // A parent without a UUID is no VHD: XenServer's tools, which alone make such disks, take it for a raw one.
    format: known ? "vhd" : "raw",
    identities: known ? [uuidText(parent.uuid)] : [],
    ...(parent.timestamp === 0 ? {} : { modified: EPOCH + parent.timestamp }),
  };
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
  yield* eachEntry(store, table, header.entries, (sector, index) => {
    if (sector * SECTOR + stride <= store.size) return;
    const what = `entry ${index} points past the end: truncated`;
    throw corrupt(store, "block allocation table", table + index * 4, what);
  });
}

function inStore(store: Store, position: bigint, length: number, structure: string): number {
  if (position >= BigInt(SECTOR) && position + BigInt(length) <= BigInt(store.size)) return Number(position);
  throw corrupt(store, structure, Number(position), `(${length} bytes) is not inside the file of ${store.size}`);
}
