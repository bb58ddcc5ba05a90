import { asParavaneError, ParavaneError } from "../../../core/error.ts";
import type { Flow } from "../../../core/flow.ts";
import type { CheckReport, Problem } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { Incompatible, l1Entries } from "./header.ts";
import { getWide, offsetOf, read, viewOf } from "./io.ts";
import { mend } from "./mend.ts";
import { openQcow2 } from "./open.ts";
import { publish } from "./publish.ts";
import { getCount } from "./refcount.ts";
import { bitmapTables, Counts, countAll, readL1, type Walk } from "./references.ts";
import type { Volume } from "./volume.ts";

const MAX_PROBLEMS = 100;

/**
 * Follows every reference and compares with the refcounts and flags. Reads only; memory grows with the clusters in use, two
 * bytes each. @throws ParavaneError as opening does, when there is no header to go by
 */
export function* checkQcow2(store: Store): Flow<CheckReport> {
  const image = yield* openQcow2(store, { readOnly: true, metadataOnly: true });
  const { volume } = image;
  const report: CheckReport = {
    leaks: 0,
    corruptions: 0,
    problems: [],
    totalClusters: Math.ceil(volume.header.size / volume.clusterBytes),
    allocatedClusters: 0,
    compressedClusters: 0,
    fragmentedClusters: 0,
    imageEndOffset: 0,
  };
  const note = (kind: Problem["kind"], structure: string, offset: number, message: string) => {
    if (kind === "leak") report.leaks++;
    else report.corruptions++;
    if (report.problems.length < MAX_PROBLEMS) report.problems.push({ kind, structure, offset, message });
  };
  const { header, l1, snapshots } = volume;
  const walk: Walk = {
    store,
    header,
    counts: new Counts(),
    tables: new Counts(),
    problem: (structure, offset, what) => note("structure", structure, offset, what),
  };
  // qcow2, "Snapshots": extra data at least up to byte 55 in version 3, which is the disk's size.
  if (header.version > 2) {
    let at = header.snapshotPosition;
    for (const { id, diskSize, tableBytes } of snapshots) {
      if (diskSize === undefined)
        note("structure", "snapshot table", at, `does not say how large the disk of ${id} is`);
      at += tableBytes;
    }
  }
  yield* countAll(walk, l1, snapshots);
  const blocks = yield* countRefcounts(walk, volume, note);
  yield* refuseOverlaps(walk, volume, blocks);
  report.imageEndOffset = yield* compareCounts(walk, volume, blocks, note);
  yield* checkFlags(volume, blocks, note, report);
  for (const [cluster] of walk.counts.entries()) {
    report.imageEndOffset = Math.max(report.imageEndOffset, (cluster + 1) * volume.clusterBytes);
  }
  return report;
}

/**
 * Frees what is leaked; with "all", also makes counts and flags agree with the references, and first mends what points
 * nowhere: what was lost reads as zeros. The counts become current with one write of the header.
 * @throws ParavaneError CORRUPT when a structure is bad, and is not to be or cannot be mended
 */
export function* repairQcow2(store: Store, what: "leaks" | "all"): Flow<CheckReport> {
  const before = yield* checkQcow2(store);
  const all = what === "all";
  let { volume } = yield* openQcow2(store, { readOnly: true, metadataOnly: true });
  const { incompatible } = volume.header;
  // Of an image that was not closed nobody expects that its counts are right.
  const recount = all || (incompatible & Incompatible.Dirty) !== 0n;
  const clear = incompatible & (Incompatible.Dirty | (all ? Incompatible.Corrupt : 0n));
  if (before.leaks === 0 && before.corruptions === 0 && clear === 0n) return before;
  const bad = before.problems.find(({ kind }) => kind === "structure" || (!recount && kind === "count"));
  if (!all && bad) throw beyond(store, bad);
  if (!recount && before.corruptions > MAX_PROBLEMS) throw beyond(store, before.problems[0]);
  if (bad || before.corruptions > MAX_PROBLEMS) {
    yield* mend(volume);
    volume = (yield* openQcow2(store, { readOnly: true, metadataOnly: true })).volume;
  }
  const { size, l1Position, l1Size } = volume.header;
  try {
    yield* publish(volume, {
      size,
      l1: { position: l1Position, size: l1Size, entries: Math.max(l1Size, l1Entries(volume.header)) },
      snapshots: volume.snapshots,
      miscounted: true,
      clear,
    });
  } catch (thrown) {
    const { code, message, context } = asParavaneError(thrown);
    if (code !== "UNSUPPORTED" || context.structure !== "refcount block") throw thrown;
    const hint = "Give it wider counts first: paravane img amend -o refcount_bits=64";
    throw new ParavaneError("CORRUPT", `the image is damaged beyond this repair: ${message}`, context, { hint });
  }
  return yield* checkQcow2(store);
}

function beyond(store: Store, { structure, offset, message }: Problem): ParavaneError {
  const what = `the image is damaged beyond this repair: the ${structure} ${message}`;
  const hint = "Mend what can be: paravane img check -r all";
  return new ParavaneError("CORRUPT", what, { file: store.name, structure, offset }, { hint });
}

type Note = (kind: Problem["kind"], structure: string, offset: number, message: string) => void;

/** Counts the refcount table and its blocks; store positions of the usable ones, by table index. */
function* countRefcounts(
  { store, header, counts }: Walk,
  { clusterBytes }: Volume,
  note: Note,
): Flow<Map<number, number>> {
  const { refcountPosition, refcountClusters } = header;
  counts.addRange(refcountPosition / clusterBytes, refcountClusters);
  const bytes = yield* read(store, refcountPosition, refcountClusters * clusterBytes);
  const view = viewOf(bytes);
  const end = Math.ceil(store.size / clusterBytes) * clusterBytes;
  const blocks = new Map<number, number>();
  const seen = new Set<number>();
  for (let i = 0; i < bytes.length / 8; i++) {
    const block = getWide(view, i * 8);
    if (block === 0) continue;
    const at = refcountPosition + i * 8;
    if (block % clusterBytes !== 0 || block < clusterBytes || block + clusterBytes > end) {
      note("count", "refcount table", at, `entry ${i} points at byte ${block}, where no block can be`);
    } else if (seen.has(block)) {
      note("count", "refcount table", at, `entry ${i} points to a block that another has`);
    } else {
      seen.add(block);
      blocks.set(i, block);
      counts.add(block / clusterBytes);
    }
  }
  return blocks;
}

/** Metadata belongs to one owner, but for L2 tables, which snapshots share. */
function* refuseOverlaps(walk: Walk, volume: Volume, blocks: Map<number, number>): Flow {
  const { counts, tables, problem, header, store } = walk;
  const { clusterBytes, l1, snapshots } = volume;
  const single = (structure: string, position: number, bytes: number) => {
    for (let at = position; at < position + bytes; at += clusterBytes) {
      if (counts.get(at / clusterBytes) > 1) problem(structure, at, "has something else in the same place");
    }
  };
  single("header", 0, 1);
  single("L1 table", l1.position, l1.size * 8);
  single("refcount table", header.refcountPosition, header.refcountClusters * clusterBytes);
  if (header.encryption) single("LUKS header", header.encryption.position, header.encryption.bytes);
  for (const block of blocks.values()) single("refcount block", block, 1);
  if (snapshots.length > 0) single("snapshot table", header.snapshotPosition, 1);
  for (const { id, l1Position, l1Size } of snapshots) single(`L1 table of snapshot ${id}`, l1Position, l1Size * 8);
  for (const { position, bytes } of yield* bitmapTables({ store, header, problem: () => {} })) {
    single("bitmap", position, bytes);
  }
  for (const [cluster, times] of tables.entries()) {
    if (counts.get(cluster) !== times)
      problem("L2 table", cluster * clusterBytes, "has something else in the same place");
  }
}

/** Returns where the last cluster with a count ends, be it leaked. */
function* compareCounts(walk: Walk, volume: Volume, blocks: Map<number, number>, note: Note): Flow<number> {
  let end = 0;
  const { clusterBytes, refcounts, header, store } = volume;
  const { perBlock } = refcounts;
  for (const [index, position] of blocks) {
    const bytes = yield* read(store, position, clusterBytes);
    for (let i = 0; i < perBlock; i++) {
      const actual = getCount(bytes, i, header.refcountOrder);
      const cluster = index * perBlock + i;
      const expected = walk.counts.get(cluster);
      if (actual > 0) end = Math.max(end, (cluster + 1) * clusterBytes);
      if (actual === expected) continue;
      note(
        actual > expected ? "leak" : "count",
        "refcount block",
        position + Math.floor((i * 2 ** header.refcountOrder) / 8),
        `counts ${actual} references to the cluster at byte ${cluster * clusterBytes}; there are ${expected}`,
      );
    }
  }
  for (const [cluster, expected] of walk.counts.entries()) {
    if (blocks.has(Math.floor(cluster / perBlock))) continue;
    const what = `has no block for the cluster at byte ${cluster * clusterBytes}, which ${expected} refer to`;
    note("count", "refcount table", header.refcountPosition, what);
  }
  return end;
}

/** "Bit 63 is 1 if the refcount is exactly one", in what the active L1 table reaches. */
function* checkFlags(volume: Volume, blocks: Map<number, number>, note: Note, report: CheckReport): Flow {
  const { store, header, l1, clusterBytes, refcounts, extended } = volume;
  const external = (header.incompatible & Incompatible.DataFile) !== 0n;
  const end = Math.ceil(store.size / clusterBytes) * clusterBytes;
  let cached: { index: number; bytes: Uint8Array } = { index: -1, bytes: new Uint8Array(0) };
  const isAlone = function* (position: number): Flow<boolean> {
    const cluster = position / clusterBytes;
    const index = Math.floor(cluster / refcounts.perBlock);
    const block = blocks.get(index);
    if (block === undefined) return false;
    if (cached.index !== index) cached = { index, bytes: yield* read(store, block, clusterBytes) };
    return getCount(cached.bytes, cluster % refcounts.perBlock, header.refcountOrder) === 1;
  };
  const { tables, alone } = yield* readL1(store, l1.position, l1.size);
  const seen = new Set<number>();
  for (let i = 0; i < tables.length; i++) {
    const table = tables[i];
    if (table === 0 || table % clusterBytes !== 0 || table + clusterBytes > end || seen.has(table)) continue;
    seen.add(table);
    if ((yield* isAlone(table)) !== (alone[i] === 1)) {
      note("count", "L1 table", l1.position + i * 8, `entry ${i} is flagged wrongly as ${alone[i] ? "" : "not "}alone`);
    }
    const view = viewOf(yield* read(store, table, clusterBytes));
    // Where the next cluster of this table would follow the last one.
    let next = 0;
    for (let at = 0; at < clusterBytes; at += extended ? 16 : 8) {
      const high = view.getUint32(at);
      const low = view.getUint32(at + 4);
      if ((high | low) === 0) continue;
      if (high & 0x40000000) {
        report.compressedClusters++;
        report.allocatedClusters++;
        // By their nature, as QEMU counts.
        report.fragmentedClusters!++;
        continue;
      }
      const host = offsetOf(high, low);
      if (host !== 0 || (external && high >>> 31)) report.allocatedClusters++;
      if (host !== 0) {
        if (next !== 0 && next !== host) report.fragmentedClusters!++;
        next = host + clusterBytes;
      }
      if (host === 0 || external || host % clusterBytes !== 0 || host + clusterBytes > end) continue;
      if ((yield* isAlone(host)) === (high >>> 31 === 1)) continue;
      const slot = at / (extended ? 16 : 8);
      note("count", "L2 table", table + at, `entry ${slot} is flagged wrongly as ${high >>> 31 ? "" : "not "}alone`);
    }
  }
}
