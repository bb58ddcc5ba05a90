// Who refers to which host cluster: what the refcounts ought to be.
import type { Flow } from "../../../core/flow.ts";
import type { Store } from "../../../core/store.ts";
import { MAX_DIRECTORY, parseDirectory } from "./bitmap-directory.ts";
import { packedPlace } from "./compressed.ts";
import { Autoclear, type Header, Incompatible } from "./header.ts";
import { offsetOf, read, viewOf } from "./io.ts";
import type { Snapshot } from "./snapshot-table.ts";

const CHUNK = 16384;

/** A count for each cluster; only stretches with one take memory. */
export class Counts {
  readonly #chunks = new Map<number, Uint16Array | Uint32Array>();

  get(cluster: number): number {
    return this.#chunks.get(Math.floor(cluster / CHUNK))?.[cluster % CHUNK] ?? 0;
  }

  add(cluster: number, by = 1): void {
    const number = Math.floor(cluster / CHUNK);
    let chunk = this.#chunks.get(number);
    if (!chunk) this.#chunks.set(number, (chunk = new Uint16Array(CHUNK)));
    const value = chunk[cluster % CHUNK] + by;
    if (value > 0xffff && chunk instanceof Uint16Array) this.#chunks.set(number, (chunk = Uint32Array.from(chunk)));
    chunk[cluster % CHUNK] = value;
  }

  addRange(first: number, count: number): void {
    for (let cluster = first; cluster < first + count; cluster++) this.add(cluster);
  }

  /** Every cluster with a count, ascending. */
  *entries(): Generator<[cluster: number, count: number]> {
    for (const number of [...this.#chunks.keys()].sort((a, b) => a - b)) {
      const chunk = this.#chunks.get(number)!;
      for (let i = 0; i < CHUNK; i++) if (chunk[i] !== 0) yield [number * CHUNK + i, chunk[i]];
    }
  }
}

/** What a walk needs to know of the image. */
export interface Walk {
  store: Store;
  header: Header;
  counts: Counts;
  /** Times that each cluster is an L2 table. */
  tables: Counts;
  /** Told of what points nowhere, twice to one L2 table, or against the format. */
  problem: (structure: string, offset: number, what: string) => void;
}

/** Reads an L1 table: store offsets of the L2 tables, 0 where there is none, and which entries are flagged as alone. */
export function* readL1(
  store: Store,
  position: number,
  size: number,
): Flow<{ tables: Float64Array; alone: Uint8Array }> {
  const view = viewOf(yield* read(store, position, size * 8));
  const tables = new Float64Array(size);
  const alone = new Uint8Array(size);
  for (let i = 0; i < size; i++) {
    const high = view.getUint32(i * 8);
    tables[i] = offsetOf(high, view.getUint32(i * 8 + 4));
    alone[i] = high >>> 31;
  }
  return { tables, alone };
}

/** Counts an L1 table, its L2 tables and all that they point to. */
export function* countTree(walk: Walk, structure: string, position: number, size: number): Flow {
  const { store, header, counts, tables, problem } = walk;
  const cluster = 2 ** header.clusterBits;
  const end = Math.ceil(store.size / cluster) * cluster;
  counts.addRange(position / cluster, Math.ceil((size * 8) / cluster));
  const l1 = yield* readL1(store, position, size);
  const seen = new Set<number>();
  for (let i = 0; i < size; i++) {
    const table = l1.tables[i];
    if (table === 0) continue;
    if (table % cluster !== 0 || table < cluster || table + cluster > end) {
      problem(structure, position + i * 8, `entry ${i} points at byte ${table}, where no L2 table can be`);
      continue;
    }
    counts.add(table / cluster);
    tables.add(table / cluster);
    // An L2 table under two entries: a damaged image, and a way to make a walk endless.
    if (seen.has(table)) problem(structure, position + i * 8, `entry ${i} points to an L2 table that another has`);
    else {
      seen.add(table);
      yield* countTable(walk, table, end);
    }
  }
}

function* countTable({ store, header, counts, problem }: Walk, table: number, end: number): Flow {
  const { clusterBits } = header;
  const cluster = 2 ** clusterBits;
  const external = (header.incompatible & Incompatible.DataFile) !== 0n;
  const extended = (header.incompatible & Incompatible.ExtendedL2) !== 0n;
  const entryBytes = extended ? 16 : 8;
  const view = viewOf(yield* read(store, table, cluster));
  for (let at = 0; at < cluster; at += entryBytes) {
    const high = view.getUint32(at);
    const low = view.getUint32(at + 4);
    if ((high | low) === 0) {
      if (extended && view.getUint32(at + 12) !== 0) {
        problem("L2 table", table + at, `entry ${at / entryBytes} has subclusters, but no cluster`);
      }
      continue;
    }
    const wrong = (what: string) => problem("L2 table", table + at, `entry ${at / entryBytes} ${what}`);
    if (high & 0x40000000) {
      if (high & 0x80000000) wrong("is compressed, and flagged as alone");
      if (external) wrong("is compressed, which a data file cannot hold");
      const { position, length } = packedPlace(view.getBigUint64(at), clusterBits);
      const first = Math.floor(position / cluster);
      const last = Math.floor((position + length - 1) / cluster);
      if (first === 0 || position >= end) wrong(`points at byte ${position}, where no compressed cluster can be`);
      // In a file that was cut off it may reach past the end: nothing else may be put there either.
      else counts.addRange(first, last - first + 1);
      continue;
    }
    const host = offsetOf(high, low);
    if (extended && (low & 1) !== 0) wrong("has the zero flag, which images with subclusters do not have");
    if (extended && (view.getUint32(at + 8) & view.getUint32(at + 12)) !== 0)
      wrong("has subclusters both stored and zero");
    if (header.version < 3 && (low & 1) !== 0) wrong("has the zero flag, which version 2 does not have");
    // In a data file byte 0 is a place like any other; the flag tells.
    if (extended && host === 0 && view.getUint32(at + 12) !== 0 && !(external && high & 0x80000000))
      wrong("has subclusters, but no cluster");
    if (host === 0 || external) continue;
    if (host % cluster !== 0 || host + cluster > end) wrong(`points at byte ${host}, where no cluster can be`);
    else counts.add(host / cluster);
  }
}

/** Counts persistent bitmaps ("Bitmaps"): the directory, each one's table, and the clusters of its data. */
export function* countBitmaps(walk: Walk): Flow {
  const cluster = 2 ** walk.header.clusterBits;
  for (const { position, bytes } of yield* bitmapTables(walk)) {
    walk.counts.addRange(position / cluster, Math.ceil(bytes / cluster));
  }
}

/** Every place that bitmaps take, whole clusters: the directory, the tables, the data. What points nowhere is left out. */
export function* bitmapTables({
  store,
  header,
  problem,
}: Pick<Walk, "store" | "header" | "problem">): Flow<{ position: number; bytes: number }[]> {
  const { bitmaps, clusterBits } = header;
  const places: { position: number; bytes: number }[] = [];
  if (!bitmaps || (header.autoclear & Autoclear.Bitmaps) === 0n) return places;
  const cluster = 2 ** clusterBits;
  const end = Math.ceil(store.size / cluster) * cluster;
  const inside = (position: number, bytes: number) =>
    position % cluster === 0 && position >= cluster && position + bytes <= end;
  if (!inside(bitmaps.position, bitmaps.bytes) || bitmaps.count === 0 || bitmaps.bytes > MAX_DIRECTORY) {
    problem("bitmap directory", bitmaps.position, "does not lie in the file, or has an absurd size");
    return places;
  }
  places.push({ position: bitmaps.position, bytes: bitmaps.bytes });
  const entries = parseDirectory(store, header, yield* read(store, bitmaps.position, bitmaps.bytes), problem);
  for (const { name, table, entries: size } of entries) {
    if (!inside(table, size * 8)) {
      problem("bitmap directory", bitmaps.position, `puts the table of "${name}" at byte ${table}, where none can be`);
      continue;
    }
    places.push({ position: table, bytes: size * 8 });
    const view = viewOf(yield* read(store, table, size * 8));
    for (let at = 0; at < size * 8; at += 8) {
      const [high, low] = [view.getUint32(at), view.getUint32(at + 4)];
      const data = offsetOf(high, low);
      const reserved = high >>> 24 !== 0 || (low & 0x1fe) !== 0 || (data !== 0 && (low & 1) !== 0);
      if (reserved || (data !== 0 && !inside(data, cluster))) {
        problem("bitmap table", table + at, `entry ${at / 8} points nowhere, or has reserved bits`);
      } else if (data !== 0) places.push({ position: data, bytes: cluster });
    }
  }
  return places;
}

/** Counts the LUKS header with its key slots. */
export function countEncryption({ header: { encryption, clusterBits }, counts }: Walk): void {
  const cluster = 2 ** clusterBits;
  if (encryption) counts.addRange(encryption.position / cluster, Math.ceil(encryption.bytes / cluster));
}

/** Counts all but the refcount structures. */
export function* countAll(walk: Walk, l1: { position: number; size: number }, snapshots: readonly Snapshot[]): Flow {
  const { header, counts } = walk;
  counts.add(0);
  yield* countTree(walk, "L1 table", l1.position, l1.size);
  for (const { id, l1Position, l1Size } of snapshots) {
    yield* countTree(walk, `L1 table of snapshot ${id}`, l1Position, l1Size);
  }
  yield* countBitmaps(walk);
  countEncryption(walk);
  if (header.snapshotCount > 0 && header.snapshotPosition > 0) {
    const bytes = snapshotBytes(snapshots);
    const cluster = 2 ** header.clusterBits;
    counts.addRange(header.snapshotPosition / cluster, Math.ceil(bytes / cluster));
  }
}

/** Bytes of the table that these snapshots were read from. */
export function snapshotBytes(snapshots: readonly Snapshot[]): number {
  return snapshots.reduce((sum, { tableBytes }) => sum + tableBytes, 0);
}
