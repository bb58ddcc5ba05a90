import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { CheckReport } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { checkBlocks } from "../blocks/check.ts";
import { compact } from "../blocks/compact.ts";
import { blocksOf } from "../blocks/layout.ts";
import { fill } from "../io.ts";
import { HEADER_BYTES } from "./header.ts";
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

/**
 * Moves clusters into gaps and gives unused space back; with "all", also takes the mark of an unclean close away.
 * @throws ParavaneError CORRUPT when the table is bad, which nothing here can mend
 */
export function* repairParallels(store: Store, what: "leaks" | "all"): Flow<CheckReport> {
  const layout = yield* readLayout(store);
  if (!isUsual(layout)) yield* new LookedParallels(layout).begin();
  const { problems } = yield* inspect(layout);
  const bad = problems.find(({ kind, structure }) => kind === "structure" && structure === TABLE);
  if (bad) {
    const { structure, offset, message } = bad;
    const context = { file: store.name, structure, offset };
    throw new ParavaneError("CORRUPT", `the image is damaged beyond this repair: ${message}`, context);
  }
  yield* fill(store, HEADER_BYTES + blocksOf(layout) * 4, HEADER_BYTES + layout.table.entries * 4, 0);
  yield* wait(store.flush());
  // Bitmaps that are kept behind the clusters stay where they are.
  if (layout.header.extension === 0n) yield* compact(layout);
  if (what === "all" && layout.header.inUse) yield* changeHeader(layout, { inUse: false });
  return yield* checkParallels(store);
}
