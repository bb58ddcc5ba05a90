import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { CheckReport, Problem } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { compact, usage } from "./compact.ts";
import { FOOTER_BYTES, parseFooter, SECTOR } from "./footer.ts";
import { changedHeader, DEFAULT_BLOCK } from "./header.ts";
import { align, fill, read, write } from "./io.ts";
import { type DynamicLayout, type Layout, readLayout } from "./layout.ts";
import { MAX_BYTES } from "./locator.ts";
import { footers } from "./publish.ts";
import { eachEntry, Ground, overlapping } from "./table.ts";

const MAX_PROBLEMS = 100;
const TABLE = "block allocation table";

/**
 * Compares both footers, checks sums, and looks at every entry of the table: can a block be there, and does nothing else
 * have its place? Clusters are blocks. Memory grows with the blocks in use, four bytes each.
 * @throws ParavaneError as opening does
 */
export function* checkVhd(store: Store): Flow<CheckReport> {
  return yield* inspect(yield* readLayout(store));
}

function* inspect(layout: Layout): Flow<CheckReport> {
  const { store, size, footer, end, dynamic } = layout;
  const unit = dynamic?.header.blockSize ?? DEFAULT_BLOCK;
  const report: CheckReport = {
    leaks: 0,
    corruptions: 0,
    problems: [],
    totalClusters: Math.ceil(size / unit),
    allocatedClusters: dynamic ? 0 : Math.ceil(size / unit),
    compressedClusters: 0,
    imageEndOffset: end + FOOTER_BYTES,
  };
  const note = (kind: Problem["kind"], structure: string, offset: number, message: string, count = 1) => {
    if (kind === "leak") report.leaks += count;
    else report.corruptions++;
    if (report.problems.length < MAX_PROBLEMS) report.problems.push({ kind, structure, offset, message });
  };
  if (!footer.intact) note("count", "hard disk footer", end, "the checksum is wrong");
  if (!dynamic) return report;

  const { header, headerPosition, tablePosition } = dynamic;
  for (const [position, name] of [
    [0, "copy of the footer"],
    [end, "footer"],
  ] as const) {
    const there = store.size >= position + FOOTER_BYTES ? yield* read(store, position, FOOTER_BYTES) : null;
    const same = there?.every((byte, i) => byte === footer.bytes[i]);
    if (same) continue;
    const what = there && parseFooter(there) ? "says something else than the other" : "is damaged";
    note("copy", "hard disk footer", position, `the ${name} ${what}`);
  }
  if (!header.intact) note("count", "dynamic disk header", headerPosition, "the checksum is wrong");
  for (const { length, position } of header.parent.locators) {
    if (length <= MAX_BYTES && position + BigInt(length) <= BigInt(end)) continue;
    note("structure", "parent locator", headerPosition, `${length} bytes at ${position} are not inside the file`);
  }

  const ground = new Ground(dynamic);
  const shared = yield* overlapping(store, dynamic, end);
  yield* eachEntry(store, tablePosition, header.entries, (sector, index) => {
    const at = tablePosition + index * 4;
    if (!ground.holds(sector, end)) {
      note("structure", TABLE, at, `entry ${index} points to byte ${sector * SECTOR}, where no block can be`);
    } else if (index >= report.totalClusters) note("leak", TABLE, at, `entry ${index} is past the end of the disk`);
    else {
      report.allocatedClusters++;
      if (shared.has(sector)) note("structure", TABLE, at, `entry ${index} overlaps another block`);
    }
  });
  const used = yield* usage(layout, dynamic);
  for (const { start, end: until } of used.gaps) {
    const blocks = Math.floor((until - align(start)) / ground.stride);
    if (blocks > 0) note("leak", "file", start, `${until - start} bytes are used by nothing`, blocks);
  }
  const rest = store.size - FOOTER_BYTES - align(used.end);
  if (rest >= ground.stride) {
    const blocks = Math.floor(rest / ground.stride);
    note("leak", "file", used.end, `${rest} bytes at the end are used by nothing`, blocks);
  }
  report.imageEndOffset = align(used.end) + FOOTER_BYTES;
  return report;
}

/**
 * Gives unused space back, moving blocks into gaps; with "all", also makes footers, header and locators good again.
 * @throws ParavaneError CORRUPT when the table is bad, which nothing here can mend
 */
export function* repairVhd(store: Store, what: "leaks" | "all"): Flow<CheckReport> {
  const layout = yield* readLayout(store);
  const { dynamic } = layout;
  const { problems } = yield* inspect(layout);
  const bad = problems.find(({ kind, structure }) => kind === "structure" && structure === TABLE);
  if (bad) {
    const { structure, offset, message } = bad;
    const context = { file: store.name, structure, offset };
    throw new ParavaneError("CORRUPT", `the image is damaged beyond this repair: ${message}`, context);
  }
  if (what === "all" && problems.some(({ kind }) => kind !== "leak")) {
    if (dynamic && !dynamic.header.intact) yield* sealHeader(layout, dynamic);
    yield* footers(layout, {});
  }
  if (dynamic) {
    const { header, tablePosition } = dynamic;
    const present = Math.ceil(layout.size / header.blockSize);
    yield* fill(store, tablePosition + present * 4, tablePosition + header.entries * 4, 0xff);
    yield* wait(store.flush());
    yield* compact(layout, dynamic);
  }
  return yield* checkVhd(store);
}

/** The checksum is in the first sector. */
function* sealHeader({ store }: Layout, { header, headerPosition }: DynamicLayout): Flow {
  yield* write(store, headerPosition, changedHeader(header.bytes, {}).subarray(0, SECTOR));
  yield* wait(store.flush());
}
