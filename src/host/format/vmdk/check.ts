import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { CheckReport, OpenOptions, Problem } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { read, unsupported, write } from "../io.ts";
import { emptyReport } from "../lookup/tree-check.ts";
import { checkUnits } from "../lookup/unit-check.ts";
import { compact, freePieces } from "./compact.ts";
import { differing, matchCopies } from "./copies.ts";
import { changedHeader } from "./cowd.ts";
import { isDescriptor } from "./descriptor.ts";
import { openSplit, type Split } from "./extents.ts";
import { SECTOR } from "./header.ts";
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
import { survey } from "./scan.ts";
import { restoreTables, type Sound, soundTables } from "./sound.ts";
import { SplitVmdk } from "./split-image.ts";
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
function* checkSplit(split: Split): Flow<CheckReport> {
  const { parts, size } = split;
  const report = emptyReport(0);
  const unit = parts.find((part) => part.unit !== undefined)?.unit ?? UNIT;
  report.totalClusters = Math.ceil(size / unit);
  report.fragmentedClusters = 0;
  const add = (own: CheckReport, file: string) => {
    report.leaks += own.leaks;
    report.corruptions += own.corruptions;
    report.allocatedClusters += own.allocatedClusters;
    report.compressedClusters += own.compressedClusters;
    report.fragmentedClusters! += own.fragmentedClusters ?? 0;
    report.imageEndOffset += own.imageEndOffset;
    const room = Math.max(0, MAX_PROBLEMS - report.problems.length);
    const where = (problem: Problem) => ({ ...problem, structure: `${problem.structure} of ${file}` });
    report.problems.push(...own.problems.slice(0, room).map(where));
  };
  for (const { sparse, store, start, size: bytes, tables, unit: grain } of parts) {
    if (sparse) add((yield* inspect(sparse.layout)).report, store!.name);
    else if (tables) {
      const own = yield* checkUnits(new SplitVmdk(split), grain!, { from: start, to: start + bytes });
      add({ ...own, imageEndOffset: own.imageEndOffset % split.files.window }, store!.name);
    } else if (store) report.allocatedClusters += Math.ceil(bytes / unit);
  }
  return report;
}

function* inspect(layout: VmdkLayout): Flow<{ report: CheckReport; sound: Sound }> {
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
  const { directory, redundant, misplaced } = layout;
  if (elsewhere(layout)) {
    note("copy", DIRECTORY, Number(header.directoryOffset) * SECTOR, "is damaged; its copy is not");
  }
  if (layout.overlap) note("structure", TABLE, 0, "overlaps other metadata");
  const without = new Set(misplaced.second);
  const different = (yield* differing(layout)).filter((index) => !without.has(index));
  const sound = yield* soundTables(layout, different);
  for (const { at, what } of sound.wrong) note("structure", TABLE, at, what);
  if (sound.wrongs > sound.wrong.length) report.corruptions += sound.wrongs - sound.wrong.length;
  const { allocated, fragmented, used, end } = sound.usage;
  report.allocatedClusters = allocated;
  report.fragmentedClusters = fragmented;
  report.imageEndOffset = end;
  for (const index of misplaced.first) {
    note("copy", DIRECTORY, directory.position + index * 4, `has table ${index} where it cannot be; its copy is sound`);
  }
  for (const index of misplaced.second) {
    note("copy", DIRECTORY, redundant!.position + index * 4, `has the copy of table ${index} where it cannot be`);
  }
  const damaged = new Set(sound.damaged);
  for (const index of different) {
    const what = damaged.has(index) ? "is damaged; its copy is sound" : "differs from its copy";
    note("copy", TABLE, directory.tables[index] * SECTOR, `${index} ${what}`);
  }
  if (header.unclean) note("count", "header", 72, "says that the image was not closed properly");
  if (header.cowd && header.cowd.free * SECTOR < used) {
    note("count", "header", 28, `says that byte ${header.cowd.free * SECTOR} is free, but byte ${used - 1} is in use`);
  }

  let leaks = 0;
  let first = 0;
  for (const piece of freePieces(layout, sound.usage)) {
    if (leaks++ === 0) first = piece * grain;
  }
  if (leaks > 0) note("leak", "file", first, `has ${leaks * grain} bytes from here on that nothing uses`, leaks);
  return { report, sound };
}

/** Is the first directory not used at all? */
function elsewhere({ header, directory }: VmdkLayout): boolean {
  return Number(header.directoryOffset) * SECTOR !== directory.position;
}

/**
 * Moves grains and tables into gaps and gives unused space back; with "all", also writes tables anew whose other copy is
 * sound, goes over to the copy of a directory that is not there, makes copies equal, and takes the mark of an unclean close away.
 * @throws ParavaneError CORRUPT when both copies of a table are bad, which nothing here can mend
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
  if (what === "all" && elsewhere(layout)) {
    const change = { directoryOffset: Number(layout.header.redundantOffset), single: true };
    yield* write(store, 0, changedHeader(layout.header, change));
    yield* wait(store.flush());
    layout = yield* reading();
  }
  let { report, sound } = yield* inspect(layout);
  const broken = () => layout.overlap || sound.wrongs > 0;
  const halved = () => layout.damage !== undefined || sound.damaged.length > 0;
  if (what === "all" && !broken() && halved()) {
    yield* restoreTables(layout, sound);
    layout = yield* reading();
    ({ report, sound } = yield* inspect(layout));
  }
  if (broken() || halved()) {
    const kind = broken() ? "structure" : "copy";
    const { structure, offset, message } = report.problems.find((problem) => problem.kind === kind)!;
    const context = { file: store.name, structure, offset };
    const hint = broken() ? undefined : "Mend it with all: paravane img check -r all";
    throw new ParavaneError("CORRUPT", `the ${structure} ${message}, which this does not mend`, context, { hint });
  }
  if (what === "all") {
    yield* matchCopies(layout);
    if (layout.header.unclean) yield* write(store, 0, changedHeader(layout.header, { unclean: false }));
  }
  yield* compact(layout, sound.usage);
  yield* lowerMetadata(reading);
  layout = yield* reading();
  const { end } = yield* survey(layout, () => {});
  if (layout.header.cowd) yield* write(store, 0, changedHeader(layout.header, { free: end / SECTOR }));
  if (store.size > end) yield* wait(store.resize(end));
  yield* wait(store.flush());
}
