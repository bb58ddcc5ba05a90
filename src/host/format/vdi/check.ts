import { type Flow, wait } from "../../../core/flow.ts";
import type { CheckReport } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { beyond, checkBlocks, type Found } from "../blocks/check.ts";
import { blocksOf, entryFor } from "../blocks/layout.ts";
import { mendTable } from "../blocks/mend.ts";
import { fill, write } from "../io.ts";
import { changedHeader } from "./header.ts";
import { readLayout, TABLE, type VdiLayout } from "./layout.ts";
import { changeHeader, recount } from "./resize.ts";

/**
 * Looks at every entry of the map: can a block be there, and does nothing else have its place? Then compares the header's
 * count of blocks. @throws ParavaneError as opening does
 */
export function* checkVdi(store: Store): Flow<CheckReport> {
  return (yield* inspect(yield* readLayout(store))).report;
}

function* inspect(layout: VdiLayout): Flow<Found> {
  const found = yield* checkBlocks(layout);
  const { header } = layout;
  const places = entryFor(layout, found.end);
  // More are space that was set aside and is not used; fewer, and the next block is written over one that is in use.
  if (header.allocated < places) {
    const message = `counts ${header.allocated} blocks, but there are places for ${places}: another product may overwrite one`;
    found.note("count", "header", 388, message);
  }
  const unused = header.allocated - Math.max(places, Math.floor((layout.store.size - layout.start) / layout.stride));
  if (unused > 0) {
    found.note("leak", "header", 388, `counts ${unused} blocks too many`, unused);
  }
  return found;
}

/**
 * Moves blocks into gaps and gives unused space back; with "all", also makes the count right, and first the map sound.
 * @throws ParavaneError CORRUPT when the map is bad, and is not to be mended; NO_SPACE
 */
export function* repairVdi(store: Store, what: "leaks" | "all"): Flow<CheckReport> {
  const layout = yield* readLayout(store);
  let { report } = yield* inspect(layout);
  const bad = report.problems.find(({ kind, structure }) => kind === "structure" && structure === TABLE);
  if (bad) {
    if (what !== "all") throw beyond(store, bad);
    // Other products put a new block where the count says.
    const grown = (end: number) => changeHeader(layout, { allocated: entryFor(layout, end) });
    yield* mendTable(layout, { grown });
    report = (yield* inspect(layout)).report;
  }
  const { header, table } = layout;
  const short = report.problems.some(({ kind }) => kind === "count");
  if (short && what === "leaks") return report;
  const present = blocksOf(layout);
  yield* fill(store, table.position + present * 4, table.position + table.entries * 4, 0xff);
  yield* write(store, 0, changedHeader(header, {}));
  yield* wait(store.flush());
  yield* recount(layout);
  return yield* checkVdi(store);
}
