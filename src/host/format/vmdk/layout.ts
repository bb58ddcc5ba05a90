import type { Flow } from "../../../core/flow.ts";
import type { ParentReference } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { corrupt, read, textAt, unsupported } from "../io.ts";
import { type Descriptor, NO_PARENT, parseDescriptor } from "./descriptor.ts";
import { Flag, type Header, parseHeader, SECTOR } from "./header.ts";

export const DIRECTORY = "grain directory";
export const TABLE = "grain table";
/** Of directories that are held in memory: 16 MiB, 128 TiB of disk. */
const MAX_TABLES = 2 ** 22;
const MAX_DESCRIPTOR = 2 ** 20;
const MAX_GRAIN = 2 ** 24;

/** Positions and sizes are bytes; entries of directories are sectors. */
export interface VmdkLayout {
  store: Store;
  header: Header;
  descriptor: Descriptor;
  descriptorAt: { position: number; length: number };
  size: number;
  grain: number;
  /** Entries of a grain table. */
  entries: number;
  directory: { position: number; tables: Uint32Array };
  /** The second copy of both, where there is one. */
  redundant?: { position: number; tables: Uint32Array };
  /** Why the image is only read: its first directory is damaged. */
  damage?: string;
  /** First byte that a grain may have. */
  start: number;
  parent?: ParentReference;
}

/** @throws ParavaneError CORRUPT, UNSUPPORTED, naming the structure and its offset */
export function* readLayout(store: Store, onWarning?: (message: string) => void): Flow<VmdkLayout> {
  const warn = (message: string) => onWarning?.(`${store.name}: ${message}`);
  if (store.size < SECTOR) throw corrupt(store, "header", 0, `does not fit ${store.size} bytes`);
  const header = parseHeader(yield* read(store, 0, SECTOR));
  if (!header) return refuse(store, textAt(yield* read(store, 0, 4), 0, 4));
  const { size, grain, count } = checked(store, header);
  const inFile = (offset: bigint, length: number) =>
    offset > 0n && offset * 512n + BigInt(length) <= BigInt(store.size) ? Number(offset) * SECTOR : undefined;

  const descriptorLength = Math.min(Number(header.descriptorSize) * SECTOR, MAX_DESCRIPTOR);
  const descriptorPosition = inFile(header.descriptorOffset, descriptorLength);
  if (descriptorPosition === undefined || descriptorLength === 0) {
    if (header.descriptorOffset > 0n) throw corrupt(store, "header", 28, "puts the descriptor outside the file");
    throw unsupported(store, "header", "it is one extent of a VMDK whose descriptor is another file");
  }
  const text = latin1(yield* read(store, descriptorPosition, descriptorLength));
  const descriptor = parseDescriptor(text.split("\0", 1)[0]);
  if (!descriptor) throw corrupt(store, "descriptor", descriptorPosition, "has no CID or createType");

  const copyOf = function* (offset: bigint) {
    const position = inFile(offset, count * 4);
    return position === undefined ? undefined : { position, tables: yield* readTables(store, position, count) };
  };
  const leaf = header.tableEntries * 4;
  const sound = (tables: Uint32Array) => tables.every((at) => at === 0 || at * SECTOR + leaf <= store.size);
  const first = yield* copyOf(header.directoryOffset);
  const second = header.flags & Flag.Redundant ? yield* copyOf(header.redundantOffset) : undefined;
  let directory = first;
  let damage: string | undefined;
  if (!first || !sound(first.tables)) {
    damage = `the ${DIRECTORY} is damaged`;
    if (!second || !sound(second.tables)) {
      throw corrupt(store, DIRECTORY, Number(header.directoryOffset) * SECTOR, "is not inside the file, nor is a copy");
    }
    warn(`${damage}; its copy is used`);
    directory = second;
  }
  if (header.unclean) warn("the disk was not closed properly, or is open elsewhere");
  if (descriptor.parentCid !== NO_PARENT && descriptor.parentHint === undefined) {
    throw corrupt(store, "descriptor", descriptorPosition, "has a parentCID, but no parentFileNameHint");
  }
  return {
    store,
    header,
    descriptor,
    descriptorAt: { position: descriptorPosition, length: descriptorLength },
    size,
    grain,
    entries: header.tableEntries,
    directory: directory!,
    ...(second && !damage && { redundant: second }),
    ...(damage !== undefined && { damage }),
    start: Math.max(SECTOR, Math.min(Number(header.overHead) * SECTOR, store.size)),
    ...parentOf(descriptor),
  };
}

function parentOf({ parentCid, parentHint }: Descriptor): { parent?: ParentReference } {
  if (parentCid === NO_PARENT) return {};
  const windows = /^[a-zA-Z]:|\\/.test(parentHint!);
  return { parent: { paths: [parentHint!], format: "vmdk", identities: [parentCid], windows } };
}

function checked(store: Store, header: Header) {
  const { version, capacity, grainSize, tableEntries, flags } = header;
  const wrong = (at: number, what: string) => corrupt(store, "header", at, what);
  if (version < 1 || version > 3)
    throw unsupported(store, "header", `version ${version} of sparse extents is not known`);
  if (!header.binary) throw wrong(73, "was changed by a transfer as text: the file is damaged throughout");
  if (flags & (Flag.Compressed | Flag.Markers)) {
    const hint = "Convert it with qemu-img to the monolithicSparse subformat first";
    throw unsupported(store, "header", "streamOptimized VMDKs are not supported", hint);
  }
  const grain = Number(grainSize) * SECTOR;
  if (!Number.isInteger(Math.log2(grain)) || grain < 4096 || grain > MAX_GRAIN) {
    throw wrong(20, `says that a grain has ${grainSize} sectors`);
  }
  if (!Number.isInteger(Math.log2(tableEntries)) || tableEntries < 128 || tableEntries > 512) {
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
  if (magic === "COWD") throw unsupported(store, "header", "vmfsSparse VMDKs (COWD) are not supported");
  if (magic === "# Di" || /^[#v\s]/.test(magic)) {
    const hint = "Convert it with qemu-img to the monolithicSparse subformat first";
    throw unsupported(store, "descriptor", "VMDKs of several files are not supported", hint);
  }
  throw corrupt(store, "header", 0, "has no magic");
}

function* readTables(store: Store, position: number, count: number): Flow<Uint32Array> {
  const bytes = yield* read(store, position, count * 4);
  const view = new DataView(bytes.buffer);
  return Uint32Array.from({ length: count }, (_, i) => view.getUint32(i * 4, true));
}

/** One character a byte. */
function latin1(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 4096) text += String.fromCharCode(...bytes.subarray(at, at + 4096));
  return text;
}

export const tableBytes = ({ entries }: VmdkLayout): number => entries * 4;
export const grainsOf = ({ size, grain }: VmdkLayout): number => Math.ceil(size / grain);
/** 1 says "zeros" where the header says that it does. */
export const zeroEntry = ({ header }: VmdkLayout): number | undefined =>
  header.flags & Flag.ZeroedGrain ? 1 : undefined;
