import { type Flow, wait } from "../../../core/flow.ts";
import { read, write } from "../io.ts";
import { SECTOR } from "./header.ts";
import { tableBytes, type VmdkLayout } from "./layout.ts";

/** The numbers of the tables whose copy says something else. */
export function* differing(layout: VmdkLayout): Flow<number[]> {
  const { directory, redundant, store } = layout;
  const found: number[] = [];
  if (!redundant) return found;
  const bytes = tableBytes(layout);
  for (const [index, sector] of directory.tables.entries()) {
    if (sector === 0 || sector === redundant.tables[index]) continue;
    const at = redundant.tables[index] * SECTOR;
    const first = yield* read(store, sector * SECTOR, bytes);
    const second = at > 0 && at + bytes <= store.size ? yield* read(store, at, bytes) : undefined;
    if (!second || first.some((byte, i) => byte !== second[i])) found.push(index);
  }
  return found;
}

/** Of those, the ones whose table says "nothing" wherever the copy says something else. */
export function* poorer(layout: VmdkLayout, different: readonly number[]): Flow<number[]> {
  const { directory, redundant, store } = layout;
  const found: number[] = [];
  for (const index of different) {
    const [first, second] = [directory.tables[index], redundant!.tables[index]];
    if (second === 0) continue;
    const [own, other] = [
      new DataView((yield* read(store, first * SECTOR, tableBytes(layout))).buffer),
      new DataView((yield* read(store, second * SECTOR, tableBytes(layout))).buffer),
    ];
    let less = true;
    for (let at = 0; at < own.byteLength; at += 4) {
      const value = own.getUint32(at, true);
      if (value !== 0 && value !== other.getUint32(at, true)) less = false;
    }
    if (less) found.push(index);
  }
  return found;
}

/** Makes the copy of every table what the table is, durably; a copy without a table is given up. */
export function* matchCopies(layout: VmdkLayout): Flow<void> {
  const { directory, redundant, store } = layout;
  for (const index of yield* differing(layout)) {
    const bytes = yield* read(store, directory.tables[index] * SECTOR, tableBytes(layout));
    if (redundant!.tables[index] > 0) yield* write(store, redundant!.tables[index] * SECTOR, bytes);
  }
  for (const [index, sector] of redundant?.tables.entries() ?? []) {
    if (sector === 0 || directory.tables[index] !== 0) continue;
    redundant!.tables[index] = 0;
    yield* write(store, redundant!.position + index * 4, new Uint8Array(4));
  }
  yield* wait(store.flush());
}
