import { ParavaneError } from "../../../core/error.ts";
import type { Flow } from "../../../core/flow.ts";
import type { CheckReport, Problem } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import {
  type BlockLayout,
  blocksOf,
  eachUsed,
  endOf,
  isSound,
  overlapping,
  placeOf,
  room,
  usedValues,
} from "./layout.ts";

const MAX_PROBLEMS = 100;

export interface Found {
  report: CheckReport;
  /** Where the last block ends. */
  end: number;
  note(kind: Problem["kind"], structure: string, offset: number, message: string, count?: number): void;
}

/** Looks at every entry of the table, and at the space between blocks. Memory grows by four bytes a block. */
export function* checkBlocks(layout: BlockLayout): Flow<Found> {
  const { table, stride, store, start } = layout;
  const values = yield* usedValues(layout);
  const end = endOf(layout, values);
  const report: CheckReport = {
    leaks: 0,
    corruptions: 0,
    problems: [],
    totalClusters: blocksOf(layout),
    allocatedClusters: 0,
    compressedClusters: 0,
    fragmentedClusters: 0,
    imageEndOffset: end,
  };
  const note: Found["note"] = (kind, structure, offset, message, count = 1) => {
    if (kind === "leak") report.leaks += count;
    else report.corruptions++;
    if (report.problems.length < MAX_PROBLEMS) report.problems.push({ kind, structure, offset, message });
  };
  const shared = overlapping(layout, values);
  let last = -1;
  yield* eachUsed(layout, (value, index) => {
    const at = table.position + index * 4;
    if (index >= report.totalClusters) {
      note("leak", table.name, at, `has entry ${index}, past the end of the disk`);
      return;
    }
    if (!isSound(layout, value)) {
      note(
        "structure",
        table.name,
        at,
        `points to byte ${placeOf(layout, value)} in entry ${index}, where no block can be`,
      );
      return;
    }
    report.allocatedClusters++;
    if (shared.has(value)) note("structure", table.name, at, `puts entry ${index} over another block`);
    const place = placeOf(layout, value);
    if (last >= 0 && place !== last + stride) report.fragmentedClusters!++;
    last = place;
  });
  let free = start;
  for (const value of values) {
    const next = placeOf(layout, value);
    const gap = room(layout, free, next);
    if (gap > 0) note("leak", "file", free, `has ${next - free} bytes that nothing uses`, gap);
    free = Math.max(free, next + stride);
  }
  const rest = Math.floor((store.size - end) / stride);
  if (rest > 0) note("leak", "file", end, `has ${store.size - end} bytes at the end that nothing uses`, rest);
  return { report, end, note };
}

/** Of a table that is bad, where only leaks are to be mended: what is used is not known. */
export function beyond({ name }: Store, { structure, offset, message }: Problem): ParavaneError {
  const context = { file: name, structure, offset };
  const hint = "Mend that first; what was lost reads as zeros then: paravane img check -r all";
  return new ParavaneError("CORRUPT", `the image is damaged beyond this repair: ${message}`, context, { hint });
}
