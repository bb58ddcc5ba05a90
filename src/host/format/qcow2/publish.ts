// A new state of the whole image, made visible by one write.
//
// The tables that change are written to clusters that neither the old state nor the new one uses, new refcounts are counted
// from what the new state refers to, and then one write of the header (within one sector) makes all of it current. Until
// then nothing that is in use has changed; what the old state alone used is free by the new counts. So a power cut leaves
// the old state or the new one.
import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { Store } from "../../../core/store.ts";
import { Field, type Header, Incompatible, V2_LENGTH, V3_LENGTH } from "./header.ts";
import { corrupt, offsetOf, read, setWide, viewOf, write } from "./io.ts";
import { maxCount, setCount } from "./refcount.ts";
import { Counts, countBitmaps, countEncryption, countTree, readL1, type Walk } from "./references.ts";
import { buildSnapshots, type Snapshot } from "./snapshot-table.ts";
import { type PlaceFor, Space } from "./space.ts";
import type { Volume } from "./volume.ts";

/** What the image is to be. */
export interface NextState {
  /** Guest-visible bytes. */
  size: number;
  /** The L1 table to start from, and how many entries it is to have. */
  l1: { position: number; size: number; entries: number };
  snapshots: readonly Snapshot[];
  /** Incompatible feature bits to clear. */
  clear?: bigint;
  /** The refcounts are wrong, so that only what lies past the end of the file is known to be free. */
  miscounted?: boolean;
  /** log2 of the bits of a refcount, where that changes. */
  refcountOrder?: number;
  /** Cuts the file off after the last cluster in use. */
  cut?: boolean;
}

/**
 * Everything in memory, counts included, must have been written before; the volume is out of date afterwards.
 * @throws CORRUPT when something that is in use points nowhere
 */
export function* publish(volume: Volume, state: NextState): Flow {
  const { store, header, clusterBytes: cluster } = volume;
  const counts = new Counts();
  const problem = (structure: string, offset: number, what: string) => {
    throw corrupt(store, structure, offset, what);
  };
  const walk: Walk = { store, header, counts, tables: new Counts(), problem };
  counts.add(0);
  for (const { id, l1Position, l1Size } of state.snapshots) {
    yield* countTree(walk, `L1 table of snapshot ${id}`, l1Position, l1Size);
  }
  yield* countTree(walk, "L1 table", state.l1.position, state.l1.size);
  yield* countBitmaps(walk);
  countEncryption(walk);

  const before = state.miscounted ? new Space(Math.ceil(store.size / cluster)) : yield* volume.refcounts.used();
  const space = before.clone();
  for (const [number] of counts.entries()) space.add(number);
  const place: PlaceFor = (bytes) => {
    const clusters = Math.ceil(bytes / cluster);
    const first = space.take(clusters);
    counts.addRange(first, clusters);
    return first * cluster;
  };

  // The old table is counted above as part of its tree; the new one takes its place.
  const oldClusters = Math.ceil((state.l1.size * 8) / cluster);
  for (let i = 0; i < oldClusters; i++) counts.add(state.l1.position / cluster + i, -1);
  const { tables } = yield* readL1(store, state.l1.position, Math.min(state.l1.size, state.l1.entries));
  const l1 = new Uint8Array(state.l1.entries * 8);
  for (let i = 0; i < tables.length; i++) {
    if (tables[i] === 0) continue;
    const number = tables[i] / cluster;
    const lower = state.cut === true && counts.get(number) === 1 && space.lowest < number;
    tables[i] = yield* flagTable(store, header, counts, tables[i], place, lower);
  }
  for (let i = 0; i < tables.length; i++) {
    if (tables[i] === 0) continue;
    setWide(viewOf(l1), i * 8, tables[i]);
    if (counts.get(tables[i] / cluster) === 1) l1[i * 8] |= 0x80;
  }
  const l1Position = l1.length > 0 ? place(l1.length) : 0;
  yield* write(store, l1Position, l1);
  const snapshots = buildSnapshots(state.snapshots, header.size);
  const snapshotPosition = snapshots.length > 0 ? place(snapshots.length) : 0;
  if (snapshots.length > 0) yield* write(store, snapshotPosition, snapshots);
  const refcountOrder = state.refcountOrder ?? header.refcountOrder;
  const refcounts = yield* writeRefcounts(store, { ...header, refcountOrder }, counts, place);
  if (store.size % cluster !== 0) yield* wait(store.resize(Math.ceil(store.size / cluster) * cluster));
  yield* wait(store.flush());

  const length = header.version === 2 ? V2_LENGTH : V3_LENGTH;
  const head = yield* read(store, 0, length);
  const view = viewOf(head);
  setWide(view, Field.Size, state.size);
  view.setUint32(Field.L1Size, state.l1.entries);
  setWide(view, Field.L1Offset, l1Position);
  setWide(view, Field.RefcountOffset, refcounts.position);
  view.setUint32(Field.RefcountClusters, refcounts.clusters);
  view.setUint32(Field.SnapshotCount, state.snapshots.length);
  setWide(view, Field.SnapshotOffset, snapshotPosition);
  if (header.version > 2) {
    const kept = view.getBigUint64(Field.Incompatible) & ~(state.clear ?? 0n);
    view.setBigUint64(Field.Incompatible, kept);
    view.setUint32(Field.RefcountOrder, refcountOrder);
  }
  yield* write(store, 0, head);
  yield* wait(store.flush());
  yield* giveBack(store, cluster, before, counts, state.cut ?? false);
}

/** Space that only the old state used. */
function* giveBack(store: Store, cluster: number, before: Space, counts: Counts, cut: boolean): Flow {
  if (cut) {
    let end = 0;
    for (const [number] of counts.entries()) end = number + 1;
    if (end * cluster < store.size) yield* wait(store.resize(end * cluster));
  }
  if (!store.releases) return;
  for (const { first, count } of before.without(counts)) {
    const length = Math.min(count * cluster, store.size - first * cluster);
    if (length > 0) yield* wait(store.discard(first * cluster, length));
  }
}

/**
 * The L2 table with "alone" flags that agree with the counts: itself, where they do and it need not move, else a copy.
 * Returns where that is.
 */
function* flagTable(
  store: Store,
  header: Header,
  counts: Counts,
  table: number,
  place: PlaceFor,
  move: boolean,
): Flow<number> {
  const cluster = 2 ** header.clusterBits;
  const bytes = yield* read(store, table, cluster);
  const view = viewOf(bytes);
  const external = (header.incompatible & Incompatible.DataFile) !== 0n;
  const entryBytes = header.incompatible & Incompatible.ExtendedL2 ? 16 : 8;
  let changed = move;
  for (let at = 0; at < cluster; at += entryBytes) {
    const high = view.getUint32(at);
    const host = offsetOf(high, view.getUint32(at + 4));
    if (high & 0x40000000 || external || (host === 0 && high >>> 31 === 0)) continue;
    const alone = host !== 0 && counts.get(host / cluster) === 1;
    if (alone === (high >>> 31 === 1)) continue;
    view.setUint32(at, alone ? high | 0x80000000 : high & 0x7fffffff);
    changed = true;
  }
  if (!changed) return table;
  const copy = place(cluster);
  counts.add(table / cluster, -1);
  yield* write(store, copy, bytes);
  return copy;
}

/** Writes a refcount table and blocks for these counts, and for themselves. */
export function* writeRefcounts(
  store: Store,
  header: Pick<Header, "clusterBits" | "refcountOrder">,
  counts: Counts,
  place: PlaceFor,
): Flow<{ position: number; clusters: number }> {
  const cluster = 2 ** header.clusterBits;
  const perBlock = (cluster * 8) / 2 ** header.refcountOrder;
  const most = maxCount(header.refcountOrder);
  for (const [, count] of counts.entries()) {
    if (count <= most) continue;
    throw new ParavaneError("UNSUPPORTED", `a cluster would have ${count} references; the image can count ${most}`, {
      file: store.name,
      structure: "refcount block",
    });
  }
  // The table and the blocks are counted too: more of both until that comes out even.
  const blocks = new Map<number, number>();
  let table = { position: 0, clusters: 0 };
  for (let even = false; !even; ) {
    even = true;
    let last = 0;
    for (const number of blocksOf(counts, perBlock)) {
      last = number;
      if (blocks.has(number)) continue;
      blocks.set(number, place(cluster));
      even = false;
    }
    const clusters = Math.ceil(((last + 1) * 8) / cluster);
    if (clusters <= table.clusters) continue;
    for (let i = 0; i < table.clusters; i++) counts.add(table.position / cluster + i, -1);
    table = { position: place(clusters * cluster), clusters };
    even = false;
  }

  const entries = new Uint8Array(table.clusters * cluster);
  for (const [number, position] of blocks) {
    setWide(viewOf(entries), number * 8, position);
    const block = new Uint8Array(cluster);
    for (let c = 0; c < perBlock; c++) {
      const count = counts.get(number * perBlock + c);
      if (count > 0) setCount(block, c, header.refcountOrder, count);
    }
    yield* write(store, position, block);
  }
  yield* write(store, table.position, entries);
  return table;
}

/** The numbers of the refcount blocks that have something to count, ascending. */
function* blocksOf(counts: Counts, perBlock: number): Generator<number> {
  let last = -1;
  for (const [cluster] of counts.entries()) {
    const number = Math.floor(cluster / perBlock);
    if (number === last) continue;
    last = number;
    yield number;
  }
}
