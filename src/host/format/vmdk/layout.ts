import type { Flow } from "../../../core/flow.ts";
import type { ParentReference } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { corrupt, read, textAt, unsupported } from "../io.ts";
import { readCowdHeader } from "./cowd.ts";
import { type Descriptor, NO_PARENT, parseDescriptor } from "./descriptor.ts";
import { Flag, type Header, parseHeader, SECTOR } from "./header.ts";
import { misplacedTables } from "./misplaced.ts";

export const DIRECTORY = "grain directory";
export const TABLE = "grain table";
/** Of directories that are held in memory: 16 MiB, 128 TiB of disk. */
export const MAX_TABLES = 2 ** 22;
const MAX_DESCRIPTOR = 2 ** 20;
const MAX_GRAIN = 2 ** 24;

/** Positions and sizes are bytes; entries of directories are sectors. */
export interface VmdkLayout {
  store: Store;
  header: Header;
  /** Absent in an extent of a disk whose descriptor is another file. */
  descriptor?: Descriptor;
  descriptorAt: { position: number; length: number };
  /** The first byte of the disk that it holds: not 0 in an extent that is not the first. */
  from: number;
  size: number;
  grain: number;
  /** Entries of a grain table. */
  entries: number;
  directory: { position: number; tables: Uint32Array };
  /** The second copy of both, where there is one. */
  redundant?: { position: number; tables: Uint32Array };
  /** Tables that a directory puts where they cannot be: above, those of the first are the copies, of the second there are none. */
  misplaced: { first: readonly number[]; second: readonly number[] };
  /** Metadata lies over other metadata, and no copy says better. */
  overlap: boolean;
  /** Why the image is only read: a directory is damaged. */
  damage?: string;
  /** First byte that a grain may have. */
  start: number;
  parent?: ParentReference;
}

type Warn = (message: string) => void;

/**
 * A disk in one file, with its descriptor.
 * @throws ParavaneError CORRUPT, UNSUPPORTED, naming the structure and its offset
 */
export function* readLayout(store: Store, onWarning?: Warn): Flow<VmdkLayout> {
  const header = yield* readHeader(store);
  // So that what is damaged is named in the file's order.
  checked(store, header);
  const { descriptor, ...descriptorAt } = yield* embedded(store, header);
  const layout = yield* readTree(store, header, descriptorAt, onWarning);
  return { ...layout, descriptor, ...parentOf(store, descriptor) };
}

/** What an extent is to the disk whose descriptor names it. */
export interface ExtentOf {
  /** The first byte of the disk in it, and how many. */
  from: number;
  size: number;
  /** Of the disk. */
  parent?: ParentReference | undefined;
  /** Of an extent that was read before: is it ESX Server's? */
  header?: Pick<Header, "cowd">;
}

/** One sparse extent of a disk in several files. @throws ParavaneError as `readLayout` */
export function* readExtent(store: Store, extent: ExtentOf, onWarning?: Warn): Flow<VmdkLayout> {
  const { from, size, parent } = extent;
  const header = yield* extent.header?.cowd ? readCowdHeader(store) : readHeader(store);
  const position = Number(header.descriptorOffset) * SECTOR;
  const length = Math.min(Number(header.descriptorSize) * SECTOR, MAX_DESCRIPTOR);
  const within = position > 0 && position + length <= store.size;
  const descriptorAt = within ? { position, length } : { position: 0, length: 0 };
  const layout = yield* readTree(store, header, descriptorAt, onWarning);
  if (layout.size < size) throw corrupt(store, "header", 12, `says ${layout.size} bytes, the descriptor ${size}`);
  return { ...layout, from, ...(parent && { parent }) };
}

/** @throws ParavaneError CORRUPT */
export function* readHeader(store: Store): Flow<Header> {
  if (store.size < SECTOR) throw corrupt(store, "header", 0, `does not fit ${store.size} bytes`);
  return parseHeader(yield* read(store, 0, SECTOR)) ?? refuse(store, textAt(yield* read(store, 0, 4), 0, 4));
}

/** The descriptor inside a file, and where it is. @throws ParavaneError CORRUPT, UNSUPPORTED */
export function* embedded(store: Store, header: Header) {
  const length = Math.min(Number(header.descriptorSize) * SECTOR, MAX_DESCRIPTOR);
  const position = Number(header.descriptorOffset) * SECTOR;
  const alone = () =>
    unsupported(store, "header", "it is one extent of a VMDK whose descriptor is another file", WHOLE);
  if (position === 0) throw alone();
  if (length === 0 || position + length > store.size) {
    throw corrupt(store, "header", 28, "puts the descriptor outside the file");
  }
  const text = descriptorText(yield* read(store, position, length));
  if (text === "") throw alone();
  const descriptor = sound(store, parseDescriptor(text), position);
  if (descriptor.extents.length > 1) {
    const what = `the descriptor inside names ${descriptor.extents.length} extents: this file is not all of the disk`;
    throw unsupported(store, "descriptor", what, "Take the descriptor out of it into a file of its own, and open that");
  }
  return { descriptor, position, length };
}

/** A descriptor that can be gone by. @throws ParavaneError CORRUPT, UNSUPPORTED */
export function sound(store: Store, descriptor: Descriptor | null, position = 0): Descriptor {
  const wrong = (what: string) => corrupt(store, "descriptor", position, what);
  if (!descriptor) throw wrong("has no CID or createType");
  if (descriptor.odd !== undefined) throw wrong(`has a line that should be an extent, but is none: ${descriptor.odd}`);
  if (descriptor.encrypted) {
    throw unsupported(store, "descriptor", "the disk is encrypted by VMware", "Remove the encryption there first");
  }
  return descriptor;
}

/** @throws ParavaneError UNSUPPORTED: who goes by the record of changes would not hear of ours */
export function checkTracking(store: Store, { changeTracking }: Descriptor): void {
  if (changeTracking === undefined) return;
  const what = `what changes on the disk is tracked in ${changeTracking}, which is not kept here: it is only read`;
  throw unsupported(store, "descriptor", what, "Convert it, or take the line changeTrackPath away");
}

const WHOLE = "Open the descriptor, which names all extents";

function* readTree(
  store: Store,
  header: Header,
  descriptorAt: VmdkLayout["descriptorAt"],
  onWarning?: Warn,
): Flow<VmdkLayout> {
  const warn = (message: string) => onWarning?.(`${store.name}: ${message}`);
  const { size, grain, count } = checked(store, header);
  if (compressed(header))
    throw unsupported(store, "header", "compressed extents of a disk in several files are not read");
  const inFile = (offset: bigint, length: number) =>
    offset > 0n && offset * 512n + BigInt(length) <= BigInt(store.size) ? Number(offset) * SECTOR : undefined;
  const copyOf = function* (offset: bigint) {
    const position = inFile(offset, count * 4);
    return position === undefined ? undefined : { position, tables: yield* readTables(store, position, count) };
  };
  const first = yield* copyOf(header.directoryOffset);
  const second = header.flags & Flag.Redundant ? yield* copyOf(header.redundantOffset) : undefined;
  const directory = first ?? second;
  if (!directory) {
    throw corrupt(store, DIRECTORY, Number(header.directoryOffset) * SECTOR, "is not inside the file, nor is a copy");
  }
  const redundant = first && second;
  const leaf = header.tableEntries * 4;
  const fixed = [{ position: 0, length: header.bytes.length }, descriptorAt];
  const bad = misplacedTables({ size: store.size, leaf, fixed, unclean: header.unclean }, directory, redundant);
  const noCopy = new Set(bad.second);
  for (const i of noCopy) redundant!.tables[i] = 0;
  const saved = bad.first.filter((i) => redundant && !noCopy.has(i));
  const lost = bad.first.filter((i) => !redundant || noCopy.has(i));
  for (const i of saved) directory.tables[i] = redundant!.tables[i];
  const outside = lost.find((i) => directory.tables[i] * SECTOR + leaf > store.size);
  if (outside !== undefined) {
    const at = `byte ${directory.tables[outside] * SECTOR}, where it cannot be, nor is a copy`;
    throw corrupt(store, DIRECTORY, directory.position + outside * 4, `has table ${outside} at ${at}`);
  }
  let damage: string | undefined;
  if (!first) damage = `the ${DIRECTORY} is damaged`;
  else if (saved.length > 0) damage = `the ${DIRECTORY} is damaged: it has table ${saved[0]} where it cannot be`;
  if (damage !== undefined) warn(`${damage}; its copy is used`);
  else if (bad.second.length > 0) damage = `the copy of ${TABLE} ${bad.second[0]} is where it cannot be`;
  if (header.unclean) warn("the disk was not closed properly, or is open elsewhere");
  return {
    store,
    header,
    descriptorAt,
    from: 0,
    size,
    grain,
    entries: header.tableEntries,
    directory,
    ...(redundant && { redundant }),
    misplaced: { first: saved, second: bad.second },
    overlap: bad.others || lost.length > 0,
    ...(damage !== undefined && { damage }),
    start: Math.max(SECTOR, Math.min(Number(header.overHead) * SECTOR, store.size)),
  };
}

/** @throws ParavaneError CORRUPT */
export function parentOf(store: Store, { parentCid, parentHint }: Descriptor): { parent?: ParentReference } {
  if (parentCid === NO_PARENT) return {};
  // A disk that says something of a parent must not be read as though it had none: zeros would stand for the parent's data.
  if (!/^[0-9a-f]{8}$/.test(parentCid))
    throw corrupt(store, "descriptor", 0, `has a parentCID that is none: "${parentCid}"`);
  if (parentHint === undefined) throw corrupt(store, "descriptor", 0, "has a parentCID, but no parentFileNameHint");
  const windows = /^[a-zA-Z]:|\\/.test(parentHint);
  // Another host's absolute path, such as ESXi's /vmfs/volumes/…: the parent may have come along with the disk.
  const beside = parentHint.startsWith("/") ? [parentHint.slice(parentHint.lastIndexOf("/") + 1)] : [];
  return {
    parent: {
      paths: [parentHint, ...beside.filter((name) => name !== "")],
      format: "vmdk",
      identities: [parentCid],
      windows,
    },
  };
}

/** @throws ParavaneError CORRUPT, UNSUPPORTED */
export function checked(store: Store, header: Header) {
  const { version, capacity, grainSize, tableEntries, cowd } = header;
  const wrong = (at: number, what: string) => corrupt(store, "header", at, what);
  if (version < 1 || version > 3)
    throw unsupported(store, "header", `version ${version} of sparse extents is not known`);
  if (!header.binary) throw wrong(73, "was changed by a transfer as text: the file is damaged throughout");
  const grain = Number(grainSize) * SECTOR;
  if (!Number.isInteger(Math.log2(grain)) || grain < (cowd ? SECTOR : 4096) || grain > MAX_GRAIN) {
    throw wrong(20, `says that a grain has ${grainSize} sectors`);
  }
  if (!cowd && (!Number.isInteger(Math.log2(tableEntries)) || tableEntries < 128 || tableEntries > 512)) {
    throw wrong(44, `says that a ${TABLE} has ${tableEntries} entries`);
  }
  if (capacity * 512n > BigInt(Number.MAX_SAFE_INTEGER)) throw wrong(12, `says ${capacity} sectors`);
  const size = Number(capacity) * SECTOR;
  const count = Math.ceil(size / (grain * tableEntries));
  if (count * 4 > store.size) throw wrong(12, `says ${capacity} sectors, whose ${DIRECTORY} does not fit the file`);
  if (count > MAX_TABLES) throw unsupported(store, "header", `VMDKs of ${size} bytes are not supported`);
  return { size, grain, count };
}

function refuse(store: Store, magic: string): never {
  if (magic === "COWD") throw unsupported(store, "header", "it is one extent of a vmfsSparse VMDK", WHOLE);
  throw corrupt(store, "header", 0, "has no magic");
}

function* readTables(store: Store, position: number, count: number): Flow<Uint32Array> {
  const bytes = yield* read(store, position, count * 4);
  const view = new DataView(bytes.buffer);
  const tables = new Uint32Array(count);
  for (let i = 0; i < count; i++) tables[i] = view.getUint32(i * 4, true);
  return tables;
}

export function littleEndian(words: Uint32Array): Uint8Array {
  const view = new DataView(new ArrayBuffer(words.length * 4));
  for (const [i, word] of words.entries()) view.setUint32(i * 4, word, true);
  return new Uint8Array(view.buffer);
}

/** One character a byte, up to the first NUL: the room that is left for a descriptor is zeros. */
export function descriptorText(bytes: Uint8Array): string {
  const length = bytes.indexOf(0);
  const own = length < 0 ? bytes : bytes.subarray(0, length);
  let text = "";
  for (let at = 0; at < own.length; at += 4096) text += String.fromCharCode(...own.subarray(at, at + 4096));
  return text;
}

export const tableBytes = ({ entries }: VmdkLayout): number => entries * 4;
export const grainsOf = ({ size, grain }: VmdkLayout): number => Math.ceil(size / grain);
/** 1 says "zeros" where the header says that it does. */
export const zeroEntry = ({ header }: VmdkLayout): number | undefined =>
  header.flags & Flag.ZeroedGrain ? 1 : undefined;
export const compressed = ({ flags }: Header): boolean => (flags & (Flag.Compressed | Flag.Markers)) !== 0;
