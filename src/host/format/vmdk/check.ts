import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { CheckReport, OpenOptions, Problem } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { read, unsupported, write } from "../io.ts";
import { emptyReport } from "../lookup/tree-check.ts";
import { checkUnits } from "../lookup/unit-check.ts";
import { compact, freePieces } from "./compact.ts";
import { differing, matchCopies } from "./copies.ts";
import { isDescriptor } from "./descriptor.ts";
import { openSplit, type Split } from "./extents.ts";
import { changedHeader, SECTOR } from "./header.ts";
import {
  compressed,
  DIRECTORY,
  grainsOf,
  readExtent,
  readHeader,
  readLayout,
  TABLE,
  type VmdkLayout,
} from "./layout.ts";
import { lowerMetadata } from "./lower.ts";
import { survey, tablesOverlap, type Usage } from "./scan.ts";
import { readStream, StreamVmdk } from "./stream.ts";

const MAX_PROBLEMS = 100;
/** What counts as a cluster where no extent has grains. */
const UNIT = 65536;

/**
 * Looks at every entry of every grain table, at their copies, and at the space between grains.
 * @throws ParavaneError as opening does
 */
export function* checkVmdk(store: Store, options: Files = {}): Flow<CheckReport> {
  if (!(yield* apart(store))) {
    const header = yield* readHeader(store);
    if (!compressed(header)) return (yield* inspect(yield* readLayout(store))).report;
    const layout = yield* readStream(store, header);
    return yield* checkUnits(new StreamVmdk(layout, {}), layout.tables.grain);
  }
  const split = yield* openSplit(store, { ...options, readOnly: true });
  try {
    return yield* checkSplit(split);
  } finally {
    yield* wait(split.files.close());
  }
}

type Files = Pick<OpenOptions, "openFile">;

function* apart(store: Store): Flow<boolean> {
  return isDescriptor(yield* read(store, 0, Math.min(SECTOR, store.size)));
}

/** What is in flat extents is all allocated. */
function* checkSplit({ parts, size }: Split): Flow<CheckReport> {
  const report = emptyReport(0);
  const unit = parts.find((part) => part.unit !== undefined)?.unit ?? UNIT;
  report.totalClusters = Math.ceil(size / unit);
  report.fragmentedClusters = 0;
  for (const { sparse, store, size: bytes, extent } of parts) {
    if (extent.type === "VMFSSPARSE") throw unsupported(store!, "extent", "vmfsSparse extents are not checked");
    if (!sparse) {
      if (store) report.allocatedClusters += Math.ceil(bytes / unit);
      continue;
    }
    const { report: own } = yield* inspect(sparse.layout);
    report.leaks += own.leaks;
    report.corruptions += own.corruptions;
    report.allocatedClusters += own.allocatedClusters;
    report.fragmentedClusters += own.fragmentedClusters ?? 0;
    report.imageEndOffset += own.imageEndOffset;
    const room = Math.max(0, MAX_PROBLEMS - report.problems.length);
    const where = (problem: Problem) => ({ ...problem, structure: `${problem.structure} of ${store!.name}` });
    report.problems.push(...own.problems.slice(0, room).map(where));
  }
  return report;
}

function* inspect(layout: VmdkLayout): Flow<{ report: CheckReport; usage: Usage }> {
  const { grain, header } = layout;
  const report: CheckReport = {
    leaks: 0,
    corruptions: 0,
    problems: [],
    totalClusters: grainsOf(layout),
    allocatedClusters: 0,
    compressedClusters: 0,
    fragmentedClusters: 0,
    imageEndOffset: 0,
  };
  const note = (kind: Problem["kind"], structure: string, offset: number, message: string, count = 1) => {
    if (kind === "leak") report.leaks += count;
    else report.corruptions++;
    if (report.problems.length < MAX_PROBLEMS) report.problems.push({ kind, structure, offset, message });
  };
  if (layout.damage !== undefined) note("copy", DIRECTORY, Number(header.directoryOffset) * SECTOR, "is damaged");
  if (tablesOverlap(layout)) note("structure", TABLE, 0, "overlaps other metadata");
  const usage = yield* survey(layout, (at, what) => note("structure", TABLE, at, what));
  const { allocated, fragmented, end } = usage;
  report.allocatedClusters = allocated;
  report.fragmentedClusters = fragmented;
  report.imageEndOffset = end;
  for (const index of yield* differing(layout)) {
    note("copy", TABLE, layout.directory.tables[index] * SECTOR, `${index} differs from its copy`);
  }
  if (header.unclean) note("count", "header", 72, "says that the image was not closed properly");

  let leaks = 0;
  let first = 0;
  for (const piece of freePieces(layout, usage)) {
    if (leaks++ === 0) first = piece * grain;
  }
  if (leaks > 0) note("leak", "file", first, `has ${leaks * grain} bytes from here on that nothing uses`, leaks);
  return { report, usage };
}

/**
 * Moves grains and tables into gaps and gives unused space back; with "all", also makes the copies of tables equal, goes over
 * to the copy of a directory that is damaged, and takes the mark of an unclean close away.
 * @throws ParavaneError CORRUPT when a table itself is bad, which nothing here can mend
 */
export function* repairVmdk(store: Store, what: "leaks" | "all", options: Files = {}): Flow<CheckReport> {
  if (!(yield* apart(store))) {
    if (compressed(yield* readHeader(store))) {
      throw unsupported(store, "header", "streamOptimized VMDKs are not mended", "Convert what is left with --salvage");
    }
    yield* repairFile(store, what, () => readLayout(store));
  } else {
    const split = yield* openSplit(store, { ...options, readOnly: false });
    try {
      for (const { sparse } of split.parts) {
        if (sparse)
          yield* repairFile(sparse.store, what, () => readExtent(sparse.store, { ...sparse.layout, size: 0 }));
      }
    } finally {
      yield* wait(split.files.close());
    }
  }
  return yield* checkVmdk(store, options);
}

function* repairFile(store: Store, what: "leaks" | "all", reading: () => Flow<VmdkLayout>): Flow {
  let layout = yield* reading();
  if (layout.damage !== undefined && what === "all") {
    const change = { directoryOffset: Number(layout.header.redundantOffset), single: true };
    yield* write(store, 0, changedHeader(layout.header, change));
    yield* wait(store.flush());
    layout = yield* reading();
  }
  const { report, usage } = yield* inspect(layout);
  const bad = report.problems.find(({ kind }) => kind === "structure");
  if (bad || layout.damage !== undefined) {
    const { structure, offset, message } = bad ?? { structure: DIRECTORY, offset: 0, message: layout.damage! };
    const context = { file: store.name, structure, offset };
    throw new ParavaneError("CORRUPT", `the image is damaged beyond this repair: ${message}`, context);
  }
  if (what === "all") {
    yield* matchCopies(layout);
    if (layout.header.unclean) yield* write(store, 0, changedHeader(layout.header, { unclean: false }));
  }
  yield* compact(layout, usage);
  yield* lowerMetadata(reading);
  const { end } = yield* survey(yield* reading(), () => {});
  if (store.size > end) yield* wait(store.resize(end));
  yield* wait(store.flush());
}
