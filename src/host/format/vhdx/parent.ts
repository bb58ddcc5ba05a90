import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { NewParent } from "../../../core/format.ts";
import { type BatEntry, BatLayout, ENTRY_BYTES, entryAt, entryOf, State } from "./bat.ts";
import { findBit } from "./bitmap.ts";
import type { Layout } from "./image.ts";
import { alignUp, MiB, SECTOR, write } from "./io.ts";
import { locatorOf, type ParentLocator, parseLocator } from "./locator.ts";
import { METADATA_TABLE_BYTES, withLocator } from "./metadata.ts";
import type { Regions } from "./regions.ts";
import { moveTable, newTable } from "./resize.ts";
import { eachEntry } from "./survey.ts";
import type { BlockTable } from "./table.ts";

/** Bytes of the table copied at a time. */
const RUN = MiB;
/** So many sectors of the table may change in place, in one log entry with the rest; for more it is written anew. */
const MAX_SECTORS = 16;

/**
 * Notes another parent, or none, in one log entry. A disk that gets its first parent loses what its table says in places
 * that mean nothing without one; one that gets none has whole blocks from then on, with zeros where it has no sectors
 * itself. Nothing waits in the journal.
 * @throws ParavaneError INVALID, NO_SPACE
 */
export function* setParent(layout: Layout, table: BlockTable, parent: NewParent | undefined): Flow {
  const { store, journal, metadata } = layout;
  if (parent && metadata.leaveAllocated) {
    const message = "a fixed VHDX holds all its blocks, so that no parent could show";
    throw new ParavaneError("INVALID", message, { file: store.name }, { hint: "Convert it to a dynamic one first" });
  }
  const locator = parent && locatorOf(parent, store.name);
  const region = layout.regions.metadata;
  const old = yield* journal.read(region.position, METADATA_TABLE_BYTES);
  const changes = withLocator(store, region, old, locator);
  const hasParent = parent !== undefined;
  let { regions } = layout;
  if (hasParent !== metadata.hasParent) {
    if (!hasParent) yield* clearAbsent(layout, table);
    regions = yield* changeTable(layout, table, new BatLayout({ ...metadata, hasParent }));
    yield* wait(store.flush());
    if (regions !== layout.regions) yield* moveTable(layout, regions.bat);
  }
  for (const { position, content } of changes) yield* journal.change(position, content);
  yield* journal.commit({ whole: true });
  yield* wait(store.flush());
  layout.metadata = { ...metadata, hasParent, locator: locator && (parseLocator(locator) as ParentLocator) };
  layout.regions = regions;
}

/** Zeroes what lies under clear bits of sector bitmaps, which will show once there is no parent. */
function* clearAbsent(layout: Layout, table: BlockTable): Flow {
  const { store, journal, metadata } = layout;
  const { logicalSectorSize: sector, blockSize, size } = metadata;
  const fill = function* (block: number, { position }: BatEntry): Flow {
    const bits = yield* journal.read(yield* table.bitmapStart(block), table.bat.bitmapBytes);
    const count = Math.min(blockSize, size - block * blockSize) / sector;
    for (let bit = 0; bit < count; ) {
      const clear = findBit(bits, bit, count, 0);
      bit = findBit(bits, clear, count, 1);
      const start = position + clear * sector;
      const length = Math.min(store.size, position + bit * sector) - start;
      if (length > 0) yield* wait(store.discard(start, length));
    }
  };
  yield* eachEntry(layout, table, (_index, block, entry) =>
    block >= 0 && entry.state === State.PartiallyPresent && table.fault(block, entry) === null
      ? fill(block, entry)
      : undefined,
  );
}

/** No sector bitmaps: those of a disk that had a parent are not needed, those of one that had none never were any. */
function edited(block: number, { state, position }: BatEntry): BatEntry | null {
  if (block < 0) return { state: State.NotPresent, position: 0 };
  return state === State.PartiallyPresent ? { state: State.FullyPresent, position } : null;
}

/**
 * Makes the table one of a disk with the other kind of layout: a few sectors in the journal, or a whole new table at the
 * end of the file. @returns the regions, other ones when it has moved
 */
function* changeTable(layout: Layout, table: BlockTable, after: BatLayout): Flow<Regions> {
  const { store, journal, regions } = layout;
  const { bat: before } = table;
  const sectors = new Set<number>();
  yield* eachEntry(layout, table, (index, block, entry) => {
    if (sectors.size <= MAX_SECTORS && edited(block, entry)) sectors.add(Math.floor((index * ENTRY_BYTES) / SECTOR));
    return undefined;
  });
  const needed = Math.max(before.entries, after.entries) * ENTRY_BYTES;
  if (sectors.size <= MAX_SECTORS && needed <= regions.bat.length) {
    const beyond = Math.max(0, after.entries - before.entries);
    yield* journal.clear(table.entryPosition(before.entries), beyond * ENTRY_BYTES);
    yield* eachEntry(layout, table, (index, block, entry) => {
      const next = edited(block, entry);
      return next ? journal.change(table.entryPosition(index), entryOf(next)) : undefined;
    });
    return regions;
  }
  const moved = yield* newTable(layout, Math.max(regions.bat.length, alignUp(needed, MiB)));
  for (let at = 0; at < before.entries * ENTRY_BYTES; at += RUN) {
    const bytes = yield* journal.read(regions.bat.position + at, Math.min(RUN, before.entries * ENTRY_BYTES - at));
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < bytes.length; i += ENTRY_BYTES) {
      const entry = entryAt(view, i);
      const next = edited(before.blockOf((at + i) / ENTRY_BYTES), entry);
      if (next) bytes.set(entryOf(next), i);
    }
    yield* write(store, moved.bat.position + at, bytes);
  }
  return moved;
}

/** Empties the whole table in one log entry, then gives all blocks back. Nothing waits in the journal. */
export function* empty({ store, journal, regions, metadata }: Layout, { bat }: BlockTable): Flow {
  if (metadata.leaveAllocated) {
    throw new ParavaneError("UNSUPPORTED", "a fixed VHDX keeps its blocks", { file: store.name });
  }
  yield* journal.clear(regions.bat.position, bat.entries * ENTRY_BYTES);
  yield* journal.commit({ whole: true });
  yield* wait(store.flush());
  const end = Math.max(...regions.all.map(({ position, length }) => position + length));
  yield* journal.truncate(end);
}
