import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { CheckReport } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import type { VhdxImage } from "./image.ts";
import { MiB } from "./io.ts";
import { openVhdx } from "./open.ts";
import { REGION_TABLE_BYTES, REGION_TABLES } from "./regions.ts";
import { survey } from "./survey.ts";

const MAX_PROBLEMS = 100;

/**
 * Looks at every entry of the table: is it sound, and does nothing else have its place? A log is replayed in memory.
 * Memory grows with the blocks in use, a bit for each MiB. @throws ParavaneError as opening does
 */
export function* checkVhdx(store: Store): Flow<CheckReport> {
  return (yield* check(store)).report;
}

function* check(store: Store): Flow<{ report: CheckReport; image: VhdxImage }> {
  const damage: string[] = [];
  const image = yield* openVhdx(store, { readOnly: true, onWarning: (message) => damage.push(message) });
  const { table } = image.parts;
  const report: CheckReport = {
    leaks: 0,
    corruptions: 0,
    problems: [],
    totalClusters: table.bat.payloadBlocks,
    allocatedClusters: 0,
    compressedClusters: 0,
    imageEndOffset: MiB,
  };
  const note = (kind: "copy" | "structure", structure: string, offset: number, message: string) => {
    report.corruptions++;
    if (report.problems.length < MAX_PROBLEMS) report.problems.push({ kind, structure, offset, message });
  };
  for (const message of damage) {
    if (message.includes("header")) note("copy", "header", 65536, message);
    else if (message.includes("region table")) note("copy", "region table", REGION_TABLES[0], message);
  }

  const used = yield* survey(image.parts, table, (index, fault) => {
    note("structure", "block allocation table", table.entryPosition(index), `entry ${index} ${fault}`);
  });
  report.allocatedClusters = used.blocks;
  report.imageEndOffset = used.end;
  // Gaps between blocks are left by every product that aligns them: only what a repair gives back is a leak.
  report.leaks = Math.max(0, Math.ceil(store.size / MiB) - Math.ceil(report.imageEndOffset / MiB));
  if (report.leaks > 0) {
    const message = `has ${report.leaks} MiB at its end that nothing uses`;
    report.problems.push({ kind: "leak", structure: "file", offset: report.imageEndOffset, message });
  }
  return { report, image };
}

/**
 * Replays the log and gives back what is unused at the end of the file; with "all", also makes both copies of the header
 * and the region table good again. Unused space between blocks stays. @throws ParavaneError CORRUPT when the table is bad,
 * which nothing here can mend
 */
export function* repairVhdx(store: Store, what: "leaks" | "all"): Flow<CheckReport> {
  const { report } = yield* check(store);
  const bad = report.problems.find(({ kind }) => kind === "structure");
  if (bad) {
    const { structure, offset, message } = bad;
    const context = { file: store.name, structure, offset };
    throw new ParavaneError("CORRUPT", `the image is damaged beyond this repair: ${message}`, context);
  }
  const { parts } = yield* openVhdx(store, { readOnly: false });
  if (what === "all" && report.corruptions > 0) {
    const { journal, regions, headers } = parts;
    const table = yield* journal.read(regions.table, REGION_TABLE_BYTES);
    for (const position of REGION_TABLES) yield* journal.change(position, table);
    yield* journal.commit({ whole: true });
    yield* wait(store.flush());
    yield* journal.finish();
    yield* headers.update({});
    yield* headers.update({});
  }
  if (report.imageEndOffset < store.size) {
    yield* wait(store.resize(report.imageEndOffset));
    yield* wait(store.flush());
  }
  return yield* checkVhdx(store);
}
