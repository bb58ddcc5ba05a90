import { type Flow, wait } from "../../../core/flow.ts";
import type { CheckFiles, CheckReport } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { beyond, checkBlocks } from "../blocks/check.ts";
import { compact } from "../blocks/compact.ts";
import { blocksOf, eachUsed, placeOf } from "../blocks/layout.ts";
import { mendTable } from "../blocks/mend.ts";
import { fill } from "../io.ts";
import { HEADER_BYTES, SECTOR } from "./header.ts";
import { changeHeader } from "./image.ts";
import { isUsual, type ParallelsLayout, readLayout, TABLE } from "./layout.ts";
import { LookedParallels } from "./lookup.ts";

/**
 * Looks at every entry of the table: can a cluster be there, and does nothing else have its place?
 * @throws ParavaneError as opening does
 */
export function* checkParallels(store: Store): Flow<CheckReport> {
  return yield* inspect(yield* readLayout(store));
}

function* inspect(layout: ParallelsLayout): Flow<CheckReport> {
  const { report, note } = yield* checkBlocks(layout);
  if (layout.header.inUse) note("count", "header", 44, "says that the image was not closed properly");
  return report;
}

interface Repair extends CheckFiles {
  /** The file is over an older one of its bundle, which is not to show where a cluster was lost. */
  over?: boolean;
}

/**
 * Moves clusters into gaps and gives unused space back; with "all", also takes the mark of an unclean close away, and first makes
 * the table sound.
 * @throws ParavaneError CORRUPT when the table is bad, and is not to be mended; NO_SPACE, UNSUPPORTED
 */
export function* repairParallels(
  store: Store,
  what: "leaks" | "all",
  { over = false }: Repair = {},
): Flow<CheckReport> {
  const layout = yield* readLayout(store);
  if (!isUsual(layout)) yield* new LookedParallels(layout).begin();
  const { problems } = yield* inspect(layout);
  const bad = problems.find(({ kind, structure }) => kind === "structure" && structure === TABLE);
  if (bad) {
    if (what !== "all") throw beyond(store, bad);
    yield* lowerStart(layout);
    // Bitmaps may be kept up to the end of the file.
    yield* mendTable(layout, { over, behind: layout.header.extension === 0n ? 0 : store.size });
  }
  yield* fill(store, HEADER_BYTES + blocksOf(layout) * 4, HEADER_BYTES + layout.table.entries * 4, 0);
  yield* wait(store.flush());
  // Bitmaps that are kept behind the clusters stay where they are.
  if (layout.header.extension === 0n) yield* compact(layout);
  if (what === "all" && layout.header.inUse) yield* changeHeader(layout, { inUse: false });
  return yield* checkParallels(store);
}

/** Clusters that are whole before "Data offset", and behind the table, show that the header is wrong rather than their entries. */
function* lowerStart(layout: ParallelsLayout): Flow {
  const { start, stride, store } = layout;
  const tableEnd = HEADER_BYTES + layout.table.entries * 4;
  let lowest = start;
  yield* eachUsed(
    layout,
    (value) => {
      const from = placeOf(layout, value);
      if (from >= tableEnd && from + stride <= Math.min(start, store.size)) lowest = Math.min(lowest, from);
    },
    blocksOf(layout),
  );
  if (lowest < start) yield* changeHeader(layout, { dataOffset: lowest / SECTOR });
}
