// Sparse extents of ESX Server (VMware Virtual Disk Format 5.0, "COWDisk_Header"): one directory, and tables of 4096 entries
// that are made when they are first used. Little-endian.
import type { Flow } from "../../../core/flow.ts";
import type { Store } from "../../../core/store.ts";
import { alignUp, corrupt, read, textAt } from "../io.ts";
import type { GrainTables } from "./grains.ts";
import { changedHosted, type Header, type HeaderChange, SECTOR } from "./header.ts";

/** Entries of a table. */
const COWD_ENTRIES = 4096;
const COWD_TABLE = COWD_ENTRIES * 4;
const MAX_GRAIN = 2 ** 24;
/** What its fields of 32 bits can say. */
export const COWD_MOST = 2 ** 32 - 1;
/** Bytes of a whole header: four sectors, of which the first has all but the mark of an unclean close. */
const WHOLE = 2048;

const Field = {
  Version: 4,
  Flags: 8,
  Sectors: 12,
  GrainSize: 16,
  Directory: 20,
  /** Entries of the directory. */
  Tables: 24,
  /** The sector where the next grain goes. */
  Free: 28,
  Unclean: 1648,
} as const;

/** What the header says, in the words of hosted ones; grains may have any size. @throws ParavaneError CORRUPT */
export function* readCowdHeader(store: Store): Flow<Header> {
  const wrong = (at: number, what: string) => corrupt(store, "header", at, what);
  if (store.size < SECTOR) throw wrong(0, `does not fit ${store.size} bytes`);
  const most = yield* read(store, 0, Math.min(WHOLE, store.size));
  if (textAt(most, 0, 4) !== "COWD") throw wrong(0, "has no magic");
  const word = (at: number) => new DataView(most.buffer).getUint32(at, true);
  const [directory, tables, grain] = [word(Field.Directory), word(Field.Tables), word(Field.GrainSize)];
  if (grain === 0 || grain * SECTOR > MAX_GRAIN) throw wrong(Field.GrainSize, `says that a grain has ${grain} sectors`);
  const least = Math.ceil(word(Field.Sectors) / (grain * COWD_ENTRIES));
  if (tables < least || directory === 0 || directory * SECTOR + tables * 4 > store.size) {
    const what = `puts a ${least}-entry grain directory of ${tables} entries at byte ${directory * SECTOR}`;
    throw wrong(Field.Directory, `${what}, where it cannot be`);
  }
  // Some writers have a header of one sector, and the directory behind it.
  const bytes = most.subarray(0, most.length === WHOLE && directory * SECTOR >= WHOLE ? WHOLE : SECTOR);
  const wide = (at: number) => BigInt(word(at));
  const beside = directory * SECTOR <= WHOLE;
  return {
    bytes,
    version: word(Field.Version),
    flags: 0,
    capacity: wide(Field.Sectors),
    grainSize: BigInt(grain),
    descriptorOffset: 0n,
    descriptorSize: 0n,
    tableEntries: COWD_ENTRIES,
    redundantOffset: 0n,
    directoryOffset: BigInt(directory),
    overHead: BigInt(beside ? directory + Math.ceil((tables * 4) / SECTOR) : bytes.length / SECTOR),
    compression: 0,
    unclean: bytes.length === WHOLE && word(Field.Unclean) !== 0,
    binary: true,
    cowd: { tables, free: word(Field.Free) },
  };
}

/** Grains of a size that is no power of two are only read. @throws ParavaneError CORRUPT */
export function cowdTables(store: Store, header: Header, size: number): GrainTables {
  const { capacity, grainSize, directoryOffset } = header;
  const [grain, directory] = [Number(grainSize) * SECTOR, Number(directoryOffset) * SECTOR];
  if (Number(capacity) * SECTOR < size) {
    throw corrupt(store, "header", Field.Sectors, `says ${capacity} sectors, the descriptor ${size / SECTOR}`);
  }
  return { store, size, grain, entries: COWD_ENTRIES, directory, compressed: false, markers: false };
}

/** The header of either kind, changed. */
export function changedHeader(header: Header, change: HeaderChange): Uint8Array {
  if (!header.cowd) return changedHosted(header, change);
  const made = header.bytes.slice();
  const view = new DataView(made.buffer);
  const put = (at: number, value: number | undefined) => value !== undefined && view.setUint32(at, value, true);
  put(Field.Sectors, change.capacity);
  put(Field.Directory, change.directoryOffset);
  put(Field.Tables, change.tables);
  put(Field.Free, change.free === undefined ? undefined : Math.min(change.free, COWD_MOST));
  if (made.length === WHOLE && change.unclean !== undefined) put(Field.Unclean, change.unclean ? 1 : 0);
  return made;
}

/** Bytes of a new file of `size` bytes: the header, and the directory behind it. */
export function cowdPlaces(size: number, grain: number) {
  const tables = Math.ceil(size / (grain * COWD_ENTRIES));
  return { tables, start: alignUp(WHOLE + tables * 4, SECTOR), table: COWD_TABLE };
}

/** The header of a new extent, whose directory is zeros. */
export function newCowdHeader(size: number, grain: number): Uint8Array {
  const { tables, start } = cowdPlaces(size, grain);
  const view = new DataView(new ArrayBuffer(WHOLE));
  for (const [i, byte] of new TextEncoder().encode("COWD").entries()) view.setUint8(i, byte);
  view.setUint32(Field.Version, 1, true);
  // The specification says no more than that it is 3.
  view.setUint32(Field.Flags, 3, true);
  view.setUint32(Field.Sectors, size / SECTOR, true);
  view.setUint32(Field.GrainSize, grain / SECTOR, true);
  view.setUint32(Field.Directory, WHOLE / SECTOR, true);
  view.setUint32(Field.Tables, tables, true);
  view.setUint32(Field.Free, start / SECTOR, true);
  return new Uint8Array(view.buffer);
}
