import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import { BatLayout, ENTRY_BYTES, entryAt, entryOf, hasPlace, State } from "./bat.ts";
import type { Layout } from "./image.ts";
import { alignUp, MiB, putWide, write } from "./io.ts";
import { MAX_SIZE } from "./metadata.ts";
import { movedBat, REGION_TABLE_BYTES, REGION_TABLES, type Region, type Regions } from "./regions.ts";

/** Bytes of the table copied or written at a time. */
const RUN = MiB;

/** @throws ParavaneError INVALID */
export function checkSize({ store, metadata }: Layout, size: number): void {
  const { logicalSectorSize: sector } = metadata;
  if (Number.isSafeInteger(size) && size > 0 && size % sector === 0 && size <= MAX_SIZE) return;
  const hint = `Give whole sectors of ${sector} bytes, ${MAX_SIZE} at most`;
  throw new ParavaneError("INVALID", `a VHDX cannot be ${size} bytes`, { file: store.name }, { hint });
}

/**
 * Gives the disk more sectors. All that is new is written first, where nothing refers to it yet: the entries past the last
 * one, in a new table at the end of the file if the old one has no room, and the blocks of a fixed disk. Then one log
 * entry changes the size, and the region table if the table has moved. Nothing waits in the journal.
 *
 * @param covered bytes of the parent: what it has beyond the old end must not show
 */
export function* grow(layout: Layout, size: number, covered: number): Flow {
  const { store, journal, metadata } = layout;
  yield* wholeLastBlock(layout);
  const before = new BatLayout(metadata);
  const after = new BatLayout({ ...metadata, size });
  let { regions } = layout;
  if (after.entries * ENTRY_BYTES > regions.bat.length) {
    const length = alignUp(after.entries * ENTRY_BYTES, MiB);
    regions = yield* newTable(layout, length);
    for (let at = 0; at < before.entries * ENTRY_BYTES; at += RUN) {
      const part = Math.min(RUN, before.entries * ENTRY_BYTES - at);
      const bytes = yield* journal.read(layout.regions.bat.position + at, part);
      yield* write(store, regions.bat.position + at, bytes);
    }
  }
  yield* writeNewEntries(layout, regions.bat.position, before, after, covered);
  // The size refers to all of that, so it comes after.
  yield* wait(store.flush());
  yield* noteSize(layout, size);
  if (regions !== layout.regions) yield* moveTable(layout, regions.bat);
  yield* journal.commit({ whole: true });
  yield* wait(store.flush());
  layout.metadata = { ...metadata, size };
  layout.regions = regions;
}

/**
 * Takes sectors away. One log entry changes the size and empties the entries that are no longer needed, so that whoever
 * makes the disk larger again finds nothing in them. Nothing waits in the journal.
 */
export function* shrink(layout: Layout, size: number): Flow {
  const { store, journal, regions, metadata } = layout;
  const before = new BatLayout(metadata);
  const after = new BatLayout({ ...metadata, size });
  // The last chunk that stays keeps its sector bitmap's entry.
  const end = metadata.hasParent ? after.entries - 1 : after.entries;
  const drop = (from: number, to: number) =>
    journal.clear(regions.bat.position + from * ENTRY_BYTES, (to - from) * ENTRY_BYTES);
  yield* noteSize(layout, size);
  const first = after.payloadEntry(after.payloadBlocks - 1) + 1;
  if (first < end) yield* drop(first, end);
  if (after.entries < before.entries) yield* drop(after.entries, before.entries);
  yield* journal.commit({ whole: true });
  yield* wait(store.flush());
  layout.metadata = { ...metadata, size };
}

function* noteSize({ journal, metadata }: Layout, size: number): Flow {
  const field = new Uint8Array(8);
  putWide(new DataView(field.buffer), 0, size);
  yield* journal.change(metadata.sizePosition, field);
}

/** Room for a table of that length at the end of the file; the regions as they are once `moveTable` is committed. */
export function* newTable({ store, regions }: Layout, length: number): Flow<Regions> {
  const bat: Region = { ...regions.bat, position: alignUp(store.size, MiB), length };
  yield* wait(store.resize(bat.position + bat.length));
  return { ...regions, bat, all: regions.all.map((region) => (region === regions.bat ? bat : region)) };
}

/** Notes, in both copies of the region table, where the table is from the next commit on. */
export function* moveTable({ journal, regions }: Layout, bat: Region): Flow {
  const table = movedBat(yield* journal.read(regions.table, REGION_TABLE_BYTES), bat);
  for (const position of REGION_TABLES) yield* journal.change(position, table);
}

/** What lies between the old end and that of its block becomes part of the disk: zeros, all in the file. */
function* wholeLastBlock({ store, journal, metadata, regions }: Layout): Flow {
  const { size, blockSize } = metadata;
  const used = size % blockSize;
  if (used === 0) return;
  const index = new BatLayout(metadata).payloadEntry(Math.floor(size / blockSize));
  const bytes = yield* journal.read(regions.bat.position + index * ENTRY_BYTES, ENTRY_BYTES);
  const entry = entryAt(new DataView(bytes.buffer), 0);
  if (!hasPlace(entry)) return;
  const end = entry.position + blockSize;
  const rest = Math.min(store.size, end) - (entry.position + used);
  if (rest > 0) yield* wait(store.discard(entry.position + used, rest));
  if (store.size < end) yield* wait(store.resize(end));
}

/**
 * Entries that the smaller disk did not have. There is nothing, or, on a fixed disk, a new block of zeros; or zeros, where
 * the parent has something.
 */
function* writeNewEntries(
  { store, metadata }: Layout,
  table: number,
  before: BatLayout,
  after: BatLayout,
  covered: number,
): Flow {
  const { blockSize, hasParent, leaveAllocated } = metadata;
  /** The next whose entry says something. */
  let block = leaveAllocated || before.payloadBlocks * blockSize < covered ? before.payloadBlocks : after.payloadBlocks;
  let place = alignUp(store.size, MiB);
  if (leaveAllocated) yield* wait(store.resize(place + (after.payloadBlocks - block) * blockSize));
  const put = (bytes: Uint8Array, from: number) => {
    for (; block < after.payloadBlocks; block++) {
      const at = (after.payloadEntry(block) - from) * ENTRY_BYTES;
      if (at >= bytes.length) return;
      if (leaveAllocated) {
        bytes.set(entryOf({ state: State.FullyPresent, position: place }), at);
        place += blockSize;
      } else if (block * blockSize < covered) bytes.set(entryOf({ state: State.Zero, position: 0 }), at);
      else {
        block = after.payloadBlocks;
        return;
      }
    }
  };
  const fill = function* (from: number, to: number): Flow {
    for (let index = from; index < to; index += RUN / ENTRY_BYTES) {
      if (block === after.payloadBlocks) {
        const rest = Math.min(store.size, table + to * ENTRY_BYTES) - (table + index * ENTRY_BYTES);
        if (rest > 0) yield* wait(store.discard(table + index * ENTRY_BYTES, rest));
        return;
      }
      const bytes = new Uint8Array(Math.min(RUN, (to - index) * ENTRY_BYTES));
      put(bytes, index);
      yield* write(store, table + index * ENTRY_BYTES, bytes);
    }
  };
  // The last chunk of a differencing disk has all its entries already, and its sector bitmap's is in use.
  if (hasParent) yield* fill(before.payloadEntry(before.payloadBlocks - 1) + 1, before.entries - 1);
  yield* fill(before.entries, after.entries);
}
