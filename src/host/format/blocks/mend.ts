import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import { alignUp, clear, copy, write } from "../io.ts";
import {
  type BlockLayout,
  blocksOf,
  eachUsed,
  endOf,
  entryFor,
  isSound,
  overlapping,
  placeOf,
  usedValues,
} from "./layout.ts";

export interface Mending {
  /** No block is put before this byte. */
  behind?: number;
  /** Something shows through a block that is not there: one that was lost becomes a block of zeros. */
  over?: boolean;
  /** Called when blocks up to byte `end` are durable, before an entry points to them. */
  grown?(end: number): Flow;
}

/** What the table is to say, and the blocks that go with it. */
interface Plan {
  indexes: number[];
  values: number[];
  /** Where each new block is copied from, -1 for zeros. They follow one another from `begin` to `end`. */
  sources: number[];
  begin: number;
  end: number;
}

/**
 * Makes the table sound. What was lost stays lost, and reads as zeros from then on: an entry that points where no block can be
 * goes, and a block that the file's end cuts off gets a new end. Of entries that share a block, or a part of one, the first
 * keeps it, and each other gets a copy behind all blocks. New blocks are durable before an entry changes, and no entry needs
 * another to have changed, so that after a power cut the same again mends the rest.
 * @throws ParavaneError NO_SPACE when an entry cannot name a place that far, before any has changed
 */
export function* mendTable(layout: BlockLayout, mending: Mending = {}): Flow {
  const { store, stride, table } = layout;
  yield* complete(layout);
  const { indexes, values, sources, begin, end } = yield* planFor(layout, mending);
  if (sources.length > 0) {
    if (end > store.size) yield* wait(store.resize(end));
    for (const [i, from] of sources.entries()) {
      const to = begin + i * stride;
      if (from < 0) yield* clear(store, to, to + stride);
      else yield* copy(store, from, to, stride);
    }
    yield* wait(store.flush());
    if (mending.grown) yield* mending.grown(end);
  }
  const bytes = new Uint8Array(4);
  for (const [i, index] of indexes.entries()) {
    new DataView(bytes.buffer).setUint32(0, values[i], true);
    yield* write(store, table.position + index * 4, bytes);
  }
  yield* wait(store.flush());
}

/** A block that begins in the file may end behind it: what there is of it is kept, and the rest are zeros. */
function* complete(layout: BlockLayout): Flow {
  const { store, start, stride, table } = layout;
  const tableEnd = table.position + table.entries * 4;
  let end = store.size;
  yield* eachUsed(
    layout,
    (value) => {
      const from = placeOf(layout, value);
      const apart = from >= tableEnd || from + stride <= table.position;
      if (from >= start && from < store.size && apart) end = Math.max(end, from + stride);
    },
    blocksOf(layout),
  );
  if (end > store.size) yield* wait(store.resize(end));
}

function* planFor(layout: BlockLayout, { behind = 0, over = false }: Mending): Flow<Plan> {
  const { store, entry, stride } = layout;
  const used = yield* usedValues(layout);
  const shared = overlapping(layout, used);
  const free = keepers(layout, used, shared);
  const begin = entry.origin + alignUp(Math.max(behind, endOf(layout, used)) - entry.origin, entry.unit);
  const plan: Plan = { indexes: [], values: [], sources: [], begin, end: begin };
  const change = (index: number, value: number) => {
    plan.indexes.push(index);
    plan.values.push(value);
  };
  const add = (index: number, from: number) => {
    change(index, entryFor(layout, plan.end));
    plan.sources.push(from);
    plan.end += stride;
  };
  yield* eachUsed(
    layout,
    (value, index) => {
      if (isSound(layout, value)) {
        if (shared.has(value) && !free.delete(value)) add(index, placeOf(layout, value));
      } else if (over && entry.zero === undefined) add(index, -1);
      else change(index, entry.zero ?? entry.absent);
    },
    blocksOf(layout),
  );
  // The last values of 32 bits may have a meaning of their own.
  if (entryFor(layout, plan.end) > Math.min(entry.zero ?? 2 ** 32, 2 ** 32)) {
    const message = `${plan.sources.length} more blocks would end at byte ${plan.end}, further than the ${layout.table.name} can say`;
    const hint = "Convert what can be read: paravane img dd";
    throw new ParavaneError("NO_SPACE", message, { file: store.name }, { hint });
  }
  return plan;
}

/** Of the shared values, those whose block lies over none that is kept: the first entry with that value may keep it. */
function keepers(layout: BlockLayout, values: Uint32Array, shared: ReadonlySet<number>): Set<number> {
  const kept = new Set<number>();
  let end = 0;
  for (const value of values) {
    const place = placeOf(layout, value);
    if (place < end) continue;
    end = place + layout.stride;
    if (shared.has(value)) kept.add(value);
  }
  return kept;
}
