// Metadata region (MS-VHDX 2.6): a table of items, and the items that say what disk this is.
import { ParavaneError } from "../../../core/error.ts";
import type { Flow } from "../../../core/flow.ts";
import type { Store } from "../../../core/store.ts";
import { guidAt, putGuid } from "../guid.ts";
import { sign, signed, viewOf } from "./crc32c.ts";
import { alignUp, corrupt, MiB, putWide, unsupported, wide } from "./io.ts";
import { type ParentLocator, parseLocator, VHDX_LOCATOR } from "./locator.ts";
import type { Reader, Region } from "./regions.ts";

const SIGNATURE = "metadata";
/** Items come after the table. */
export const METADATA_TABLE_BYTES = 65536;
const ENTRY = { first: 32, bytes: 32 } as const;
const MAX_ENTRIES = 2047;
/** "Length … MUST be less than or equal to 1 MB" (2.6.1.2). */
const MAX_ITEM = MiB;

const Item = {
  FileParameters: "caa16737-fa36-4d43-b3b6-33f0aa44e76b",
  VirtualDiskSize: "2fa54224-cd1b-4876-b211-5dbed83bf4b8",
  VirtualDiskId: "beca12ab-b2e6-4523-93ef-c309e000c746",
  LogicalSectorSize: "8141bf1d-a96f-4709-ba47-f233a8faab5f",
  PhysicalSectorSize: "cda348c7-445d-4471-9cc9-e9885251c556",
  ParentLocator: "a8d35f2d-b30b-454d-abf7-d3d84834ab0c",
} as const;
type Item = (typeof Item)[keyof typeof Item];
const KNOWN = new Map<string, string>(
  Object.entries(Item).map(([name, guid]) => [guid, name.replace(/\B[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)]),
);

const Flag = { User: 1, VirtualDisk: 2, Required: 4 } as const;

export const MAX_SIZE = 64 * 2 ** 40;
export const MIN_BLOCK = MiB;
export const MAX_BLOCK = 256 * MiB;

export interface Metadata {
  size: number;
  blockSize: number;
  /** Blocks keep their place for good: what makes a disk "fixed". */
  leaveAllocated: boolean;
  hasParent: boolean;
  /** "Page 83 data": the identifier that a SCSI disk answers in that page. */
  diskId: string | undefined;
  logicalSectorSize: number;
  physicalSectorSize: number;
  locator: ParentLocator | undefined;
  /** Where in the file the virtual disk size is kept. */
  sizePosition: number;
}

/** @throws ParavaneError CORRUPT, UNSUPPORTED */
export function* readMetadata(store: Store, reader: Reader, region: Region): Flow<Metadata> {
  const table = yield* reader(region.position, METADATA_TABLE_BYTES);
  const wrong = (what: string) => corrupt(store, "metadata table", region.position, what);
  if (!signed(table, SIGNATURE)) throw wrong("has no signature");
  const view = viewOf(table);
  const count = view.getUint16(10, true);
  if (count > MAX_ENTRIES) throw wrong(`has ${count} entries, more than ${MAX_ENTRIES}`);

  const places = new Map<string, { position: number; length: number }>();
  for (let i = 0; i < count; i++) {
    const at = ENTRY.first + i * ENTRY.bytes;
    const guid = guidAt(table, at);
    const name = KNOWN.get(guid);
    const offset = view.getUint32(at + 16, true);
    const length = view.getUint32(at + 20, true);
    const flags = view.getUint32(at + 24, true);
    // A user's item may bear any identifier, one of ours too.
    if (name === undefined || flags & Flag.User) {
      if (!(flags & Flag.Required)) continue;
      throw unsupported(store, "metadata table", region.position + at, `requires item ${guid}, which is not known`);
    }
    if (places.has(guid)) throw wrong(`lists the ${name} twice`);
    if (length > MAX_ITEM || offset < METADATA_TABLE_BYTES || offset + length > region.length) {
      throw wrong(`puts the ${name} at ${offset}, ${length} bytes, outside its region`);
    }
    places.set(guid, { position: region.position + offset, length });
  }

  function* item(guid: Item, bytes: number): Flow<DataView> {
    const place = places.get(guid);
    if (!place || place.length < bytes) throw wrong(`has no ${KNOWN.get(guid)} of ${bytes} bytes`);
    return viewOf(yield* reader(place.position, bytes));
  }
  const parameters = yield* item(Item.FileParameters, 8);
  const flags = parameters.getUint32(4, true);
  const hasParent = (flags & 2) !== 0;
  const metadata: Metadata = {
    blockSize: parameters.getUint32(0, true),
    leaveAllocated: (flags & 1) !== 0,
    hasParent,
    size: wide(yield* item(Item.VirtualDiskSize, 8), 0),
    logicalSectorSize: (yield* item(Item.LogicalSectorSize, 4)).getUint32(0, true),
    // QEMU and Windows write it, and nothing depends on it.
    physicalSectorSize: places.has(Item.PhysicalSectorSize)
      ? (yield* item(Item.PhysicalSectorSize, 4)).getUint32(0, true)
      : 512,
    diskId: places.has(Item.VirtualDiskId) ? guidOf(yield* item(Item.VirtualDiskId, 16)) : undefined,
    locator: undefined,
    sizePosition: places.get(Item.VirtualDiskSize)!.position,
  };
  check(store, places, metadata);
  if (!hasParent) return metadata;
  const place = places.get(Item.ParentLocator);
  if (!place) throw wrong("has no Parent locator, though the disk has a parent");
  const locator = parseLocator(yield* reader(place.position, place.length));
  if (typeof locator === "string") throw corrupt(store, "parent locator", place.position, locator);
  if (locator.type !== VHDX_LOCATOR) {
    throw unsupported(store, "parent locator", place.position, `has type ${locator.type}, which is not known`);
  }
  return { ...metadata, locator };
}

const guidOf = (view: DataView): string => guidAt(new Uint8Array(view.buffer, view.byteOffset, view.byteLength), 0);

function check(store: Store, places: Map<string, { position: number }>, metadata: Metadata): void {
  const { blockSize, size, logicalSectorSize, physicalSectorSize } = metadata;
  const wrong = (guid: Item, what: string) => {
    const structure = KNOWN.get(guid)!.toLowerCase();
    return corrupt(store, structure, places.get(guid)!.position, what);
  };
  if (blockSize < MIN_BLOCK || blockSize > MAX_BLOCK || blockSize & (blockSize - 1)) {
    throw wrong(Item.FileParameters, `say ${blockSize} bytes a block, not a power of two from 1 to 256 MiB`);
  }
  if (logicalSectorSize !== 512 && logicalSectorSize !== 4096) {
    throw wrong(Item.LogicalSectorSize, `is ${logicalSectorSize}, neither 512 nor 4096`);
  }
  if (physicalSectorSize !== 512 && physicalSectorSize !== 4096) {
    throw wrong(Item.PhysicalSectorSize, `is ${physicalSectorSize}, neither 512 nor 4096`);
  }
  if (size > MAX_SIZE || size % logicalSectorSize) {
    throw wrong(Item.VirtualDiskSize, `is ${size} bytes, more than 64 TiB or not whole sectors`);
  }
}

/**
 * What must change in the region so that it has that parent locator, or none: its table, the locator in a gap between the
 * other items, and the file parameters. @param table as it is, sound @throws ParavaneError NO_SPACE
 */
export function withLocator(
  store: Store,
  region: Region,
  table: Uint8Array,
  locator: Uint8Array | undefined,
): { position: number; content: Uint8Array }[] {
  const view = viewOf(table);
  const items: { bytes: Uint8Array; offset: number; end: number }[] = [];
  let parameters = 0;
  for (let i = 0; i < view.getUint16(10, true); i++) {
    const at = ENTRY.first + i * ENTRY.bytes;
    const guid = view.getUint32(at + 24, true) & Flag.User ? "" : guidAt(table, at);
    const offset = view.getUint32(at + 16, true);
    if (guid === Item.FileParameters) parameters = offset;
    if (guid === Item.ParentLocator) continue;
    items.push({ bytes: table.subarray(at, at + ENTRY.bytes), offset, end: offset + view.getUint32(at + 20, true) });
  }
  const next = new Uint8Array(METADATA_TABLE_BYTES);
  next.set(table.subarray(0, ENTRY.first));
  items.forEach(({ bytes }, i) => {
    next.set(bytes, ENTRY.first + i * ENTRY.bytes);
  });
  const changes: { position: number; content: Uint8Array }[] = [{ position: region.position, content: next }];
  const flags = new Uint8Array(1);
  flags[0] = locator ? 2 : 0;
  if (locator) {
    let offset = METADATA_TABLE_BYTES;
    for (const item of items.sort((a, b) => a.offset - b.offset)) {
      if (item.offset - offset >= locator.length) break;
      offset = Math.max(offset, alignUp(item.end, 8));
    }
    if (offset + locator.length > region.length || items.length === MAX_ENTRIES) {
      const context = { file: store.name, structure: "metadata region", offset: region.position };
      throw new ParavaneError("NO_SPACE", "the metadata region has no room for the parent locator", context);
    }
    const at = ENTRY.first + items.length * ENTRY.bytes;
    const entry = viewOf(next);
    putGuid(next, at, Item.ParentLocator);
    entry.setUint32(at + 16, offset, true);
    entry.setUint32(at + 20, locator.length, true);
    entry.setUint32(at + 24, Flag.Required, true);
    changes.push({ position: region.position + offset, content: locator });
  }
  viewOf(next).setUint16(10, items.length + (locator ? 1 : 0), true);
  // Only disks that leave their blocks allocated have another flag, and they have no parent.
  changes.push({ position: region.position + parameters + 4, content: flags });
  return changes;
}

export interface NewMetadata {
  size: number;
  blockSize: number;
  fixed: boolean;
  diskId: string;
  logicalSectorSize: number;
  physicalSectorSize: number;
  /** A built parent locator: makes it a differencing disk. */
  locator?: Uint8Array;
}

/** The table and its items: the first bytes of a metadata region. */
export function buildMetadata(disk: NewMetadata): Uint8Array {
  const { locator } = disk;
  const bytes = new Uint8Array(alignUp(METADATA_TABLE_BYTES + 64 + (locator?.length ?? 0), 4096));
  sign(bytes, SIGNATURE);
  const view = viewOf(bytes);
  let count = 0;
  let position = METADATA_TABLE_BYTES;
  const put = (guid: Item, length: number, flags: number, fill: (at: number) => void) => {
    const at = ENTRY.first + count++ * ENTRY.bytes;
    putGuid(bytes, at, guid);
    view.setUint32(at + 16, position, true);
    view.setUint32(at + 20, length, true);
    view.setUint32(at + 24, flags | Flag.Required, true);
    fill(position);
    position += length;
  };
  put(Item.FileParameters, 8, 0, (at) => {
    view.setUint32(at, disk.blockSize, true);
    view.setUint32(at + 4, (disk.fixed ? 1 : 0) | (locator ? 2 : 0), true);
  });
  put(Item.VirtualDiskSize, 8, Flag.VirtualDisk, (at) => putWide(view, at, disk.size));
  put(Item.VirtualDiskId, 16, Flag.VirtualDisk, (at) => putGuid(bytes, at, disk.diskId));
  put(Item.LogicalSectorSize, 4, Flag.VirtualDisk, (at) => view.setUint32(at, disk.logicalSectorSize, true));
  put(Item.PhysicalSectorSize, 4, Flag.VirtualDisk, (at) => view.setUint32(at, disk.physicalSectorSize, true));
  if (locator) put(Item.ParentLocator, locator.length, 0, (at) => bytes.set(locator, at));
  view.setUint16(10, count, true);
  return bytes;
}
