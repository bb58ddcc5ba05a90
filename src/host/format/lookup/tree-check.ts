import { type Flow, wait } from "../../../core/flow.ts";
import { type CheckReport, ExtentKind, type Problem } from "../../../core/format.ts";
import { SegmentList } from "../../../core/segments.ts";
import { unsupported } from "../io.ts";
import { L1, L2, misplaced, type TreeLayout } from "./tree.ts";

/** Problems that are kept. */
const MAX_PROBLEMS = 100;
/** Bytes of a table looked at a time. */
const RUN = 65536;
/** Clusters of the file: two bits of memory each. */
const MAX_CLUSTERS = 2 ** 30;

export function emptyReport(totalClusters: number): CheckReport {
  return {
    leaks: 0,
    corruptions: 0,
    problems: [],
    totalClusters,
    allocatedClusters: 0,
    compressedClusters: 0,
    imageEndOffset: 0,
  };
}

export function noteProblem(report: CheckReport, problem: Problem): void {
  if (problem.kind === "leak") report.leaks++;
  else report.corruptions++;
  if (report.problems.length < MAX_PROBLEMS) report.problems.push(problem);
}

/** Adds what was found in one of several files. */
export function addReport(all: CheckReport, own: CheckReport, file: string): void {
  all.leaks += own.leaks;
  all.corruptions += own.corruptions;
  all.totalClusters += own.totalClusters;
  all.allocatedClusters += own.allocatedClusters;
  all.compressedClusters += own.compressedClusters;
  all.imageEndOffset = Math.max(all.imageEndOffset, own.imageEndOffset);
  const room = Math.max(0, MAX_PROBLEMS - all.problems.length);
  all.problems.push(
    ...own.problems.slice(0, room).map((each) => ({ ...each, structure: `${each.structure} of ${file}` })),
  );
}

class Bits {
  readonly #bytes: Uint8Array;
  constructor(count: number) {
    this.#bytes = new Uint8Array(Math.ceil(count / 8));
  }
  has(index: number): boolean {
    return (this.#bytes[index >> 3] & (1 << (index & 7))) !== 0;
  }
  add(index: number): void {
    this.#bytes[index >> 3] |= 1 << (index & 7);
  }
}

/** Follows every entry of both levels: is it possible, and has nothing else its place? Clusters that none has are leaks. */
export function* checkTree(layout: TreeLayout): Flow<CheckReport> {
  const { store, size, clusterBytes, l1, l2Entries, start } = layout;
  const report = emptyReport(Math.ceil(size / clusterBytes));
  const count = Math.ceil(store.size / clusterBytes);
  if (count > MAX_CLUSTERS) {
    throw unsupported(store, "image", `a file of ${count} clusters cannot be checked as a whole`);
  }
  const whole = new Bits(count);
  const packed = new Bits(count);
  let end = 0;
  /** False when something else is there. Compressed clusters share the file's clusters with each other only. */
  const take = (position: number, length: number, compressed = false): boolean => {
    let free = true;
    const last = Math.floor((position + length - 1) / clusterBytes);
    for (let i = Math.floor(position / clusterBytes); i <= last; i++) {
      if (whole.has(i) || (!compressed && packed.has(i))) free = false;
      (compressed ? packed : whole).add(i);
    }
    end = Math.max(end, position + length);
    return free;
  };
  const structure = (name: string, offset: number, message: string) =>
    noteProblem(report, { kind: "structure", structure: name, offset, message: `the ${name} ${message}` });
  const shared = "points at what something else has too";

  take(0, start);
  take(l1.position, l1.entries * 8);
  const tables: { position: number; index: number }[] = [];
  yield* each(layout, l1.position, l1.entries, (entry, index, at) => {
    const position = Number(entry);
    const wrong = misplaced(layout, position, l2Entries * 8);
    if (wrong) structure(L1, at, `says in entry ${index} what ${wrong}`);
    else if (take(position, l2Entries * 8)) tables.push({ position, index });
    else structure(L1, at, `${shared}, in entry ${index}`);
  });
  for (const { position: table, index: first } of tables) {
    yield* each(layout, table, l2Entries, (entry, index, at) => {
      const found = layout.read(entry);
      if (found.kind === ExtentKind.Zero) return;
      const guest = (first * l2Entries + index) * clusterBytes;
      const seen = Math.max(0, Math.min(clusterBytes, size - guest));
      if (seen === 0) return;
      const length = found.packed ?? seen;
      const wrong = misplaced(layout, found.position, length, found.packed === undefined);
      if (wrong) return structure(L2, at, `says in entry ${index} what ${wrong}`);
      report.allocatedClusters++;
      if (found.packed !== undefined) report.compressedClusters++;
      if (!take(found.position, length, found.packed !== undefined)) structure(L2, at, `${shared}, in entry ${index}`);
    });
  }
  for (let i = 0; i < count; i++) {
    if (whole.has(i) || packed.has(i)) continue;
    const offset = i * clusterBytes;
    noteProblem(report, { kind: "leak", structure: "cluster", offset, message: "the cluster is not used" });
  }
  report.imageEndOffset = end;
  return report;
}

/** Shows every entry of a table that is not 0. */
function* each(
  { store, littleEndian }: TreeLayout,
  position: number,
  entries: number,
  visit: (entry: bigint, index: number, at: number) => void,
): Flow {
  const bytes = new Uint8Array(Math.min(RUN, entries * 8));
  const view = new DataView(bytes.buffer);
  for (let done = 0; done < entries * 8; done += RUN) {
    const length = Math.min(RUN, entries * 8 - done);
    yield* wait(store.readv(position + done, bytes, SegmentList.of(0, length)));
    for (let i = 0; i < length; i += 8) {
      const entry = view.getBigUint64(i, littleEndian);
      if (entry !== 0n) visit(entry, (done + i) / 8, position + done + i);
    }
  }
}
