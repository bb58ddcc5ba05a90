import { type Flow, wait } from "../../../core/flow.ts";
import { read, write } from "../io.ts";
import { SECTOR } from "./header.ts";
import { tableBytes, type VmdkLayout } from "./layout.ts";
import { eachTable } from "./scan.ts";

/** The numbers of the tables whose copy says something else. */
export function* differing(layout: VmdkLayout): Flow<number[]> {
  const { directory, redundant, store } = layout;
  const found: number[] = [];
  if (!redundant) return found;
  const bytes = tableBytes(layout);
  const tables: number[] = [];
  yield* eachTable(layout, directory.tables, (_, index) => void tables.push(index));
  for (const index of tables) {
    const at = redundant.tables[index] * SECTOR;
    const first = yield* read(store, directory.tables[index] * SECTOR, bytes);
    const second = at > 0 && at + bytes <= store.size ? yield* read(store, at, bytes) : undefined;
    if (!second || first.some((byte, i) => byte !== second[i])) found.push(index);
  }
  return found;
}

/** Makes the copy of every table what the table is, durably. */
export function* matchCopies(layout: VmdkLayout): Flow<void> {
  const { directory, redundant, store } = layout;
  for (const index of yield* differing(layout)) {
    const bytes = yield* read(store, directory.tables[index] * SECTOR, tableBytes(layout));
    if (redundant!.tables[index] > 0) yield* write(store, redundant!.tables[index] * SECTOR, bytes);
  }
  yield* wait(store.flush());
}
