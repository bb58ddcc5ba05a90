// Space-efficient sparse extents (SESPARSE), which ESXi has made since 5.1. VMware has published no description; magic numbers,
// fields and entries are those that QEMU's block/vmdk.c reads. Little-endian, words of 64 bits, places in sectors.
import type { Flow } from "../../../core/flow.ts";
import { ExtentKind } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { corrupt, read, unsupported } from "../io.ts";
import type { Found } from "../lookup/mapper.ts";
import type { Pages } from "../lookup/pages.ts";
import { SECTOR } from "./header.ts";

const MAGIC = 0xcafebaben;
const VOLATILE_MAGIC = 0xcafecafen;
const VERSION = 0x2_0000_0001n;
const GRAIN = 4096;
/** Of a grain table. */
const ENTRIES = 4096;
const TABLE = ENTRIES * 8;

/** Words of the constant header. */
const Field = {
  Version: 1,
  Capacity: 2,
  GrainSize: 3,
  TableSize: 4,
  Flags: 5,
  Volatile: 10,
  Directory: 16,
  DirectorySize: 17,
  Tables: 18,
  Grains: 24,
} as const;
/** Words of the volatile header. */
const ReplayJournal = 3;

/** The upper half of a directory entry whose table is there; the lower one is its number. */
const TABLE_THERE = 0x1000_0000;
/** The upper four bits of a table entry. */
const Kind = { None: 0, Unmapped: 1, Zero: 2, There: 3 } as const;

/** Positions are bytes of the file. */
export interface SeSparseTables {
  store: Store;
  size: number;
  grain: number;
  compressed: false;
  directory: number;
  /** Table 0, and grain 0. */
  tables: number;
  grains: number;
}

/** @throws ParavaneError CORRUPT, UNSUPPORTED (its journal was not replayed) */
export function* readSeSparse(store: Store, size: number): Flow<SeSparseTables> {
  const wrong = (at: number, what: string) => corrupt(store, "header", at, what);
  if (store.size < SECTOR) throw wrong(0, `does not fit ${store.size} bytes`);
  const header = words(yield* read(store, 0, SECTOR));
  if (header(0) !== MAGIC) throw wrong(0, "has no magic");
  const known = [
    [Field.Version, VERSION],
    [Field.GrainSize, BigInt(GRAIN / SECTOR)],
    [Field.TableSize, BigInt(TABLE / SECTOR)],
    [Field.Flags, 0n],
  ] as const;
  for (const [field, value] of known) {
    if (header(field) === value) continue;
    throw unsupported(store, "header", `word ${field} of the seSparse header is ${header(field)}, not ${value}`);
  }
  const place = (field: number, length: number) => {
    const sector = header(field);
    if (sector > 0n && sector * 512n + BigInt(length) <= BigInt(store.size)) return Number(sector) * SECTOR;
    throw wrong(field * 8, `puts word ${field} at sector ${sector}, where it cannot be`);
  };
  const own = words(yield* read(store, place(Field.Volatile, SECTOR), SECTOR));
  if (own(0) !== VOLATILE_MAGIC) throw corrupt(store, "volatile header", place(Field.Volatile, SECTOR), "has no magic");
  if (own(ReplayJournal) !== 0n) {
    const hint = "Start and stop the virtual machine once on its ESXi host";
    throw unsupported(store, "volatile header", "the journal of the disk has not been replayed", hint);
  }
  if (header(Field.Capacity) * 512n < BigInt(size)) {
    throw wrong(Field.Capacity * 8, `says ${header(Field.Capacity)} sectors, the descriptor ${size / SECTOR}`);
  }
  const entries = Math.ceil(size / (ENTRIES * GRAIN));
  const directory = place(Field.Directory, entries * 8);
  if (header(Field.DirectorySize) * 512n < BigInt(entries * 8)) {
    throw wrong(Field.DirectorySize * 8, `says ${header(Field.DirectorySize)} sectors, too few for ${size} bytes`);
  }
  const tables = entries > 0 ? place(Field.Tables, 0) : 0;
  // Of a disk without a grain it may be where the file ends.
  const grains = entries > 0 ? place(Field.Grains, 0) : 0;
  return { store, size, grain: GRAIN, compressed: false, directory, tables, grains };
}

function words(bytes: Uint8Array): (index: number) => bigint {
  const view = new DataView(bytes.buffer);
  return (index) => view.getBigUint64(index * 8, true);
}

/** @param base first byte of the file, for whoever reads it @throws Missing, ParavaneError CORRUPT, naming table and offset */
export function findSeGrain(layout: SeSparseTables, pages: Pages, offset: number, base: number): Found {
  const { store, size, directory, tables, grains } = layout;
  const entry = (position: number) => {
    const { view, at } = pages.at(base + position);
    return { low: view.getUint32(at, true), high: view.getUint32(at + 4, true) };
  };
  const index = Math.floor(offset / GRAIN);
  const number = Math.floor(index / ENTRIES);
  const at = directory + number * 8;
  const { low, high } = entry(at);
  if (low === 0 && high === 0)
    return { kind: ExtentKind.Backing, length: Math.min(size, (number + 1) * ENTRIES * GRAIN) - offset };
  const table = tables + low * TABLE;
  if (high !== TABLE_THERE || table + TABLE > store.size) {
    throw corrupt(store, "grain directory", at, `has table ${number} at byte ${table}, where nothing can be`);
  }
  const entryAt = table + (index % ENTRIES) * 8;
  const value = entry(entryAt);
  const length = Math.min(size, (index + 1) * GRAIN) - offset;
  const kind = value.high >>> 28;
  if (kind === Kind.None && value.high === 0 && value.low === 0) return { kind: ExtentKind.Backing, length };
  if (kind === Kind.Unmapped || kind === Kind.Zero) return { kind: ExtentKind.Zero, length };
  // Bits 48 to 59 are the lowest of the grain's number, bits 0 to 47 the rest.
  const grain = ((value.high & 0xffff) * 2 ** 32 + value.low) * 4096 + ((value.high >>> 16) & 0xfff);
  const position = grains + grain * GRAIN;
  if (kind !== Kind.There || position + GRAIN > store.size) {
    throw corrupt(store, "grain table", entryAt, `has grain ${index} at byte ${position}, where nothing can be`);
  }
  return { kind: ExtentKind.Data, length, position: base + position + (offset % GRAIN) };
}
