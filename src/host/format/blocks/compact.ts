import { type Flow, wait } from "../../../core/flow.ts";
import { alignUp, copy, corrupt, read, write } from "../io.ts";
import {
  type BlockLayout,
  eachUsed,
  endOf,
  entryFor,
  freePlace,
  isSound,
  isUsed,
  placeOf,
  usedValues,
} from "./layout.ts";

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
  const { start, stride } = layout;
  const moves = new Map<number, number>();
  let top = values.length - 1;
  // What a block may begin at: as far from `origin` as an entry can say.
  let free = freePlace(layout, start);
  for (let i = 0; i <= top; i++) {
    const next = placeOf(layout, values[i]);
    while (free + stride <= next && i <= top) {
      moves.set(values[top--], entryFor(layout, free));
      free = freePlace(layout, free + stride);
    }
    free = freePlace(layout, Math.max(free, next + stride));
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

/** What the last block holds past the end of the disk becomes zeros: it is about to be part of it. */
export function* clearLastBlock(layout: BlockLayout): Flow {
  const { store, size, blockSize, table, lead } = layout;
  const within = size % blockSize;
  const index = Math.floor(size / blockSize);
  if (within === 0) return;
  const at = table.position + index * 4;
  const value = new DataView((yield* read(store, at, 4)).buffer).getUint32(0, true);
  if (!isUsed(layout, value)) return;
  if (!isSound(layout, value)) throw corrupt(store, table.name, at, `says in entry ${index} where no block can be`);
  const data = placeOf(layout, value) + lead;
  yield* wait(store.discard(data + within, blockSize - within));
  yield* wait(store.flush());
}

/** Frees the bytes up to `until`: blocks that begin before go behind all others. */
export function* vacate(layout: BlockLayout, until: number): Flow<number> {
  const { store, stride, entry } = layout;
  const values = yield* usedValues(layout);
  let next = entry.origin + alignUp(Math.max(until, endOf(layout, values)) - entry.origin, entry.unit);
  const moves = new Map<number, number>();
  for (const value of values) {
    if (placeOf(layout, value) >= until) break;
    moves.set(value, entryFor(layout, next));
    next += stride;
  }
  if (moves.size > 0) {
    if (next > store.size) yield* wait(store.resize(next));
    yield* move(layout, moves);
  }
  return next;
}
