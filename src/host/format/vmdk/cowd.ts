// Sparse extents of ESX Server (VMware Virtual Disk Format 5.0, "COWDisk_Header"): tables of 4096 entries. Little-endian.
import type { Flow } from "../../../core/flow.ts";
import type { Store } from "../../../core/store.ts";
import { corrupt, read, textAt } from "../io.ts";
import type { GrainTables } from "./grains.ts";
import { SECTOR } from "./header.ts";

const ENTRIES = 4096;
const MAX_GRAIN = 2 ** 24;

/** @throws ParavaneError CORRUPT */
export function* readCowd(store: Store, size: number): Flow<GrainTables> {
  const wrong = (at: number, what: string) => corrupt(store, "header", at, what);
  if (store.size < SECTOR) throw wrong(0, `does not fit ${store.size} bytes`);
  const head = yield* read(store, 0, SECTOR);
  if (textAt(head, 0, 4) !== "COWD") throw wrong(0, "has no magic");
  const word = (at: number) => new DataView(head.buffer).getUint32(at, true);
  const [sectors, grain, directory, tables] = [word(12), word(16) * SECTOR, word(20) * SECTOR, word(24)];
  if (grain === 0 || grain > MAX_GRAIN) throw wrong(16, `says that a grain has ${grain} bytes`);
  if (sectors * SECTOR < size) throw wrong(12, `says ${sectors} sectors, the descriptor ${size / SECTOR}`);
  const least = Math.ceil(size / (grain * ENTRIES));
  if (tables < least || directory === 0 || directory + least * 4 > store.size) {
    throw wrong(20, `puts a grain directory of ${tables} entries at byte ${directory}, where it cannot be`);
  }
  return { store, size, grain, entries: ENTRIES, directory, compressed: false, markers: false };
}
