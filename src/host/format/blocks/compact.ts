import { type Flow, wait } from "../../../core/flow.ts";
import { alignUp, copy, write } from "../io.ts";
import { type BlockLayout, eachUsed, endOf, entryFor, placeOf, usedValues } from "./layout.ts";

/**
 * Moves the last blocks into gaps before them, and ends the file after the last that is left. Data is copied where nothing
 * refers to, before the entries change. Returns where the blocks end.
 */
export function* compact(layout: BlockLayout): Flow<number> {
  const values = yield* usedValues(layout);
  yield* move(layout, gapsFor(layout, values));
  const end = endOf(layout, yield* usedValues(layout));
  yield* cutAt(layout, end);
  return end;
}

/** Where each of the last blocks goes: value by value. */
function gapsFor(layout: BlockLayout, values: Uint32Array): Map<number, number> {
  const { start, stride, entry } = layout;
  const moves = new Map<number, number>();
  let top = values.length - 1;
  // What a block may begin at: as far from `origin` as an entry can say.
  let free = entry.origin + alignUp(start - entry.origin, entry.unit);
  for (let i = 0; i <= top; i++) {
    const next = placeOf(layout, values[i]);
    for (; free + stride <= next && i <= top; free += stride) moves.set(values[top--], entryFor(layout, free));
    free = Math.max(free, next + stride);
  }
  return moves;
}

/**
 * Copies blocks, then changes their entries. A block may go where another was: then that one has gone already, durably.
 */
export function* move(layout: BlockLayout, moves: ReadonlyMap<number, number>): Flow {
  const { store, stride, table } = layout;
  if (moves.size === 0) return;
  for (const [from, to] of moves) yield* copy(store, placeOf(layout, from), placeOf(layout, to), stride);
  yield* wait(store.flush());
  const changed: [index: number, value: number][] = [];
  yield* eachUsed(layout, (value, index) => {
    const to = moves.get(value);
    if (to !== undefined) changed.push([index, to]);
  });
  const bytes = new Uint8Array(4);
  for (const [index, value] of changed) {
    new DataView(bytes.buffer).setUint32(0, value, true);
    yield* write(store, table.position + index * 4, bytes);
  }
  yield* wait(store.flush());
}

/** Nothing from `end` on is in use. */
function* cutAt({ store }: BlockLayout, end: number): Flow {
  if (end >= store.size) return;
  yield* wait(store.resize(end));
  yield* wait(store.flush());
}
