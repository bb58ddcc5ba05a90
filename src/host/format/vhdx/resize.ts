import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import { BatLayout, ENTRY_BYTES, entryAt, entryOf, hasPlace, State } from "./bat.ts";
import type { Layout } from "./image.ts";
import { alignUp, MiB, putWide, write } from "./io.ts";
import { MAX_SIZE, type Metadata } from "./metadata.ts";
import { movedBat, REGION_TABLE_BYTES, REGION_TABLES, type Region, type Regions } from "./regions.ts";

/** Bytes of the table copied or written at a time. */
const RUN = MiB;

/**
 * Gives the disk more sectors. All that is new is written first, where nothing refers to it yet: the entries past the last
 * one, in a new table at the end of the file if the old one has no room, and the blocks of a fixed disk. Then one log
 * entry changes the size, and the region table if the table has moved. @returns what replaces the old
 */
export function* grow(layout: Layout, size: number): Flow<{ metadata: Metadata; regions: Regions }> {
  const { store, journal, metadata } = layout;
  const { logicalSectorSize: sector } = metadata;
  if (!Number.isSafeInteger(size) || size % sector || size > MAX_SIZE) {
    const hint = `Give whole sectors of ${sector} bytes, ${MAX_SIZE} at most`;
    throw new ParavaneError("INVALID", `a VHDX cannot be ${size} bytes`, { file: store.name }, { hint });
  }
  if (size < metadata.size) {
    throw new ParavaneError("UNSUPPORTED", "a VHDX cannot be made smaller yet", { file: store.name });
  }
  const next = { ...metadata, size };
  yield* wait(store.flush());
  yield* journal.commit();
  if (size === metadata.size) return { metadata: next, regions: layout.regions };

  yield* wholeLastBlock(layout);
  const before = new BatLayout(metadata);
  const after = new BatLayout(next);
  const regions = { ...layout.regions };
  const length = after.entries * ENTRY_BYTES;
  if (length > regions.bat.length) {
    const position = alignUp(store.size, MiB);
    const bat: Region = { ...regions.bat, position, length: alignUp(length, MiB) };
    yield* wait(store.resize(position + bat.length));
    for (let at = 0; at < before.entries * ENTRY_BYTES; at += RUN) {
      const bytes = yield* journal.read(regions.bat.position + at, Math.min(RUN, before.entries * ENTRY_BYTES - at));
      yield* write(store, position + at, bytes);
    }
    regions.all = regions.all.map((region) => (region === layout.regions.bat ? bat : region));
    regions.bat = bat;
  }
  yield* writeNewEntries(layout, regions.bat.position, before, after);
  // The size refers to all of that, so it comes after.
  yield* wait(store.flush());
  const field = new Uint8Array(8);
  putWide(new DataView(field.buffer), 0, size);
  yield* journal.change(metadata.sizePosition, field);
  if (regions.bat !== layout.regions.bat) {
    const table = movedBat(yield* journal.read(regions.table, REGION_TABLE_BYTES), regions.bat);
    for (const position of REGION_TABLES) yield* journal.change(position, table);
  }
  yield* journal.commit();
  yield* wait(store.flush());
  return { metadata: next, regions };
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

/** Entries that the smaller disk did not have: nothing there, or, on a fixed disk, new blocks of zeros. */
function* writeNewEntries(layout: Layout, table: number, before: BatLayout, after: BatLayout): Flow {
  const { store, metadata } = layout;
  let place = alignUp(store.size, MiB);
  let block = before.payloadBlocks;
  if (metadata.leaveAllocated) {
    yield* wait(store.resize(place + (after.payloadBlocks - block) * metadata.blockSize));
  }
  if (metadata.hasParent) {
    // The last chunk has all its entries already, and its sector bitmap's is in use.
    const first = before.payloadEntry(before.payloadBlocks);
    if (first < before.entries) {
      yield* write(store, table + first * ENTRY_BYTES, new Uint8Array((before.entries - 1 - first) * ENTRY_BYTES));
    }
  }
  const end = after.entries * ENTRY_BYTES;
  for (let at = before.entries * ENTRY_BYTES; at < end; at += RUN) {
    const bytes = new Uint8Array(Math.min(RUN, end - at));
    for (; metadata.leaveAllocated && block < after.payloadBlocks; block++, place += metadata.blockSize) {
      const to = after.payloadEntry(block) * ENTRY_BYTES - at;
      if (to >= bytes.length) break;
      bytes.set(entryOf({ state: State.FullyPresent, position: place }), to);
    }
    yield* write(store, table + at, bytes);
  }
}
