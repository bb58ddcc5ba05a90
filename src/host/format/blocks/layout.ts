// What VDI and Parallels have in common: one table of blocks, little-endian entries of 32 bits, and blocks that follow one
// another to the end of the file.
import type { Flow } from "../../../core/flow.ts";
import type { ExtentKind } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { alignUp, read } from "../io.ts";

/** Positions and sizes are bytes. */
export interface BlockLayout {
  store: Store;
  /** Guest-visible. */
  size: number;
  blockSize: number;
  table: { name: string; position: number; entries: number };
  /** How an entry says where its block begins: `origin` + entry × `unit`. */
  entry: {
    origin: number;
    unit: number;
    /** Of a block that is not there. */
    absent: number;
    /** Of one that reads as zeros, where the format has that. */
    zero?: number;
  };
  /** From the start of a block to its data; from its start to the next one's at the earliest. */
  lead: number;
  stride: number;
  /** No block begins before. */
  start: number;
  hasParent: boolean;
  /** What a block that is not there counts as: nothing, or zeros of the disk's own. */
  hole: ExtentKind;
}

/** Bytes of the table looked at a time. */
const RUN = 65536;

export const placeOf = ({ entry }: BlockLayout, value: number): number => entry.origin + value * entry.unit;
export const entryFor = ({ entry }: BlockLayout, position: number): number => (position - entry.origin) / entry.unit;

export function isUsed({ entry }: BlockLayout, value: number): boolean {
  return value !== entry.absent && value !== entry.zero;
}

/** May a block be where the entry says? As the map decides it. */
export function isSound(layout: BlockLayout, value: number): boolean {
  const { table, store, start, stride } = layout;
  const from = placeOf(layout, value);
  const to = from + stride;
  const apart = to <= table.position || from >= table.position + table.entries * 4;
  return from >= start && to <= store.size && apart;
}

/** Shows every entry that is in use, of the first `count`. */
export function* eachUsed(
  layout: BlockLayout,
  visit: (value: number, index: number) => void,
  count = layout.table.entries,
): Flow {
  for (let at = 0; at < count * 4; at += RUN) {
    const bytes = yield* read(layout.store, layout.table.position + at, Math.min(RUN, count * 4 - at));
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < bytes.length; i += 4) {
      const value = view.getUint32(i, true);
      if (isUsed(layout, value)) visit(value, (at + i) / 4);
    }
  }
}

/** Values of the sound entries of the disk's blocks, ascending. Four bytes of memory each. */
export function* usedValues(layout: BlockLayout): Flow<Uint32Array> {
  const present = blocksOf(layout);
  let count = 0;
  yield* eachUsed(layout, (value) => void (isSound(layout, value) && count++), present);
  const values = new Uint32Array(count);
  yield* eachUsed(layout, (value) => void (count > 0 && isSound(layout, value) && (values[--count] = value)), present);
  return values.sort();
}

/** Blocks that the guest sees. */
export const blocksOf = ({ size, blockSize }: BlockLayout): number => Math.ceil(size / blockSize);

/** Of ascending values, those of blocks that begin where another one is. */
export function overlapping(layout: BlockLayout, values: Uint32Array): Set<number> {
  const apart = layout.stride / layout.entry.unit;
  const shared = new Set<number>();
  for (let i = 1; i < values.length; i++) if (values[i] - values[i - 1] < apart) shared.add(values[i]);
  return shared;
}

/** Where the last of them ends, and the table, should it be among them or behind. */
export function endOf(layout: BlockLayout, values: Uint32Array): number {
  const last = values.length === 0 ? layout.start : placeOf(layout, values[values.length - 1]) + layout.stride;
  return nextPlace(layout, Math.max(last, tableEnd(layout)));
}

const tableEnd = ({ table }: BlockLayout): number => table.position + table.entries * 4;
const nextPlace = ({ entry }: BlockLayout, from: number): number =>
  entry.origin + alignUp(Math.max(0, from - entry.origin), entry.unit);

/** The first place from `from` on where a block is not over the table. */
export function freePlace(layout: BlockLayout, from: number): number {
  const place = nextPlace(layout, from);
  const over = place < tableEnd(layout) && place + layout.stride > layout.table.position;
  return over ? nextPlace(layout, tableEnd(layout)) : place;
}

/** Blocks that have room in [from, to) beside the table. */
export function room(layout: BlockLayout, from: number, to: number): number {
  const { table, stride } = layout;
  const end = tableEnd(layout);
  if (end <= from || table.position >= to) return Math.max(0, Math.floor((to - from) / stride));
  return room(layout, from, table.position) + room(layout, nextPlace(layout, end), to);
}
