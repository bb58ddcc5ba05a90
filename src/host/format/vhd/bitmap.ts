import { type Flow, wait } from "../../../core/flow.ts";
import { SECTOR } from "./footer.ts";
import { read, write } from "./io.ts";
import type { DynamicLayout, Layout } from "./layout.ts";
import { eachEntry, Ground } from "./table.ts";

/**
 * In a disk that had a parent and has none now, sectors that were the parent's read as zeros. That is written out, because
 * products exist that do not look at the bitmaps of such a disk: first zeros where a bit is clear, then the bits.
 */
export function* showThrough({ store, end }: Layout, dynamic: DynamicLayout): Flow {
  const ground = new Ground(dynamic);
  const partial: number[] = [];
  const blocks: number[] = [];
  yield* eachEntry(store, dynamic.tablePosition, dynamic.header.entries, (sector) => {
    if (ground.holds(sector, end)) blocks.push(sector * SECTOR);
  });
  for (const block of blocks) {
    const bitmap = yield* read(store, block, ground.bitmap);
    const bits = dynamic.header.blockSize / SECTOR;
    const set = (bit: number) => (bitmap[bit >> 3] >> (7 - (bit & 7))) & 1;
    const before = partial.length;
    for (let bit = 0; bit < bits; bit++) {
      if (set(bit)) continue;
      const first = bit;
      while (bit < bits && !set(bit)) bit++;
      yield* wait(store.discard(block + ground.bitmap + first * SECTOR, (bit - first) * SECTOR));
      if (partial.length === before) partial.push(block);
    }
  }
  yield* wait(store.flush());
  const all = new Uint8Array(ground.bitmap).fill(0xff);
  for (const block of partial) yield* write(store, block, all);
  yield* wait(store.flush());
}
