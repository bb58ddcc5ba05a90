// Reference counts of host clusters ("Host cluster management"): a table of blocks, a block of counts.
//
//   refcount table [ b0 | b1 | … ]      b1 ──► refcount block [ c0 | c1 | c2 … ], one cluster
import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { Store } from "../../../core/store.ts";
import { Field, type Header, MAX_REFCOUNT_TABLE_BYTES } from "./header.ts";
import { corrupt, getWide, read, setWide, viewOf, write } from "./io.ts";
import { type Overlaps, overlap } from "./overlap.ts";
import { Space } from "./space.ts";

/** Pages of counts kept in memory; each has at most 4 KiB. */
const MAX_PAGES = 512;
const PAGE_BYTES = 4096;

/** Count number `index` among those of `bits` = 2 ** order each. */
export function getCount(bytes: Uint8Array, index: number, order: number): number {
  if (order === 4) return (bytes[index * 2] << 8) | bytes[index * 2 + 1];
  if (order < 3) {
    const shift = 3 - order;
    return (bytes[index >> shift] >> ((index & ((1 << shift) - 1)) << order)) & ((1 << (1 << order)) - 1);
  }
  if (order === 3) return bytes[index];
  const view = viewOf(bytes);
  return order === 5 ? view.getUint32(index * 4) : getWide(view, index * 8);
}

export function setCount(bytes: Uint8Array, index: number, order: number, value: number): void {
  if (order < 3) {
    const shift = 3 - order;
    const bit = (index & ((1 << shift) - 1)) << order;
    const mask = ((1 << (1 << order)) - 1) << bit;
    bytes[index >> shift] = (bytes[index >> shift] & ~mask) | (value << bit);
  } else if (order === 3) bytes[index] = value;
  else if (order === 4) viewOf(bytes).setUint16(index * 2, value);
  else if (order === 5) viewOf(bytes).setUint32(index * 4, value);
  else setWide(viewOf(bytes), index * 8, value);
}

/** The largest count that fits. */
export function maxCount(order: number): number {
  return order === 6 ? Number.MAX_SAFE_INTEGER : 2 ** (1 << order) - 1;
}

interface Page {
  position: number;
  bytes: Uint8Array;
  dirty: boolean;
}

/**
 * The counts of one open image, and the clusters that they say are free. A changed count may reach the disk at any time:
 * one is raised before anything refers to the cluster, and lowered after nothing on disk does any more.
 */
export class Refcounts {
  readonly #store: Store;
  readonly #header: Header;
  readonly #clusterBytes: number;
  readonly #pageBytes: number;
  /** Counts of a block, and of a page. */
  readonly perBlock: number;
  readonly #perPage: number;
  /** Store positions of the blocks; 0 where there is none. Null until it is needed. */
  #table: Float64Array | null = null;
  readonly #overlaps: Overlaps;
  /** By first cluster / #perPage; the least recently used first. */
  readonly #pages = new Map<number, Page>();
  /** No cluster below is free. */
  #hint = 0;

  constructor(store: Store, header: Header, overlaps: Overlaps) {
    this.#store = store;
    this.#overlaps = overlaps;
    this.#header = header;
    this.#clusterBytes = 2 ** header.clusterBits;
    this.#pageBytes = Math.min(this.#clusterBytes, PAGE_BYTES);
    this.perBlock = (this.#clusterBytes * 8) / 2 ** header.refcountOrder;
    this.#perPage = (this.#pageBytes * 8) / 2 ** header.refcountOrder;
  }

  get dirty(): boolean {
    for (const page of this.#pages.values()) if (page.dirty) return true;
    return false;
  }

  /** Positions of the blocks, by table index; 0 where there is none. */
  *blocks(): Flow<Float64Array> {
    if (this.#table) return this.#table;
    const { refcountPosition, refcountClusters } = this.#header;
    const bytes = yield* read(this.#store, refcountPosition, refcountClusters * this.#clusterBytes);
    const view = viewOf(bytes);
    const table = new Float64Array(bytes.length / 8);
    const end = Math.ceil(this.#store.size / this.#clusterBytes) * this.#clusterBytes;
    for (let i = 0; i < table.length; i++) {
      const block = getWide(view, i * 8);
      if (block !== 0 && (block % this.#clusterBytes !== 0 || block + this.#clusterBytes > end)) {
        const at = refcountPosition + i * 8;
        throw corrupt(this.#store, "refcount table", at, `entry ${i} points at byte ${block}, where no block can be`);
      }
      if (block !== 0 && this.#overlaps.blocks.has(block / this.#clusterBytes)) {
        throw corrupt(this.#store, "refcount table", refcountPosition + i * 8, `has the block at byte ${block} twice`);
      }
      if (block !== 0) this.#overlaps.blocks.add(block / this.#clusterBytes);
      table[i] = block;
    }
    this.#table = table;
    return table;
  }

  *get(cluster: number): Flow<number> {
    const page = yield* this.#page(cluster);
    return page ? getCount(page.bytes, cluster % this.#perPage, this.#header.refcountOrder) : 0;
  }

  /** What is in use by the counts on disk, and the metadata that is known, whatever they say. */
  *used(): Flow<Space> {
    const { refcountOrder } = this.#header;
    const space = new Space();
    const table = yield* this.blocks();
    for (let index = 0; index < table.length; index++) {
      if (table[index] === 0) continue;
      space.add(table[index] / this.#clusterBytes);
      const block = yield* read(this.#store, table[index], this.#clusterBytes);
      for (let i = 0; i < this.perBlock; i++) {
        if (getCount(block, i, refcountOrder) !== 0) space.add(index * this.perBlock + i);
      }
    }
    for (const { first, end } of this.#overlaps.ranges) space.addRange(first, end);
    return space;
  }

  /** One reference more to a cluster that has some; false when no more can be counted. */
  *share(cluster: number): Flow<boolean> {
    const { refcountOrder } = this.#header;
    const page = yield* this.#page(cluster);
    const index = cluster % this.#perPage;
    const value = page ? getCount(page.bytes, index, refcountOrder) : 0;
    if (!page || value === 0 || value === maxCount(refcountOrder)) return false;
    setCount(page.bytes, index, refcountOrder, value + 1);
    page.dirty = true;
    return true;
  }

  /** One reference less to each of `count` clusters. */
  *release(first: number, count: number): Flow {
    const { refcountOrder } = this.#header;
    for (let cluster = first; cluster < first + count; cluster++) {
      const page = yield* this.#page(cluster);
      const index = cluster % this.#perPage;
      const value = page ? getCount(page.bytes, index, refcountOrder) : 0;
      if (!page || value === 0) {
        const at = cluster * this.#clusterBytes;
        throw corrupt(this.#store, "refcount block", at, `says that cluster ${cluster}, which was in use, is free`);
      }
      const kept = value === 1 ? this.#overlaps.find(cluster, 1) : undefined;
      if (kept !== undefined) throw overlap(this.#store, kept, cluster * this.#clusterBytes, "a cluster to be freed");
      setCount(page.bytes, index, refcountOrder, value - 1);
      page.dirty = true;
      if (value === 1 && cluster < this.#hint) this.#hint = cluster;
    }
  }

  /** Takes up to `most` free clusters that lie together: the first, and how many. Their counts become 1. */
  *allocate(most: number): Flow<{ first: number; count: number }> {
    const { refcountOrder } = this.#header;
    for (;;) {
      const page = yield* this.#page(this.#hint);
      if (!page) {
        yield* this.#addBlock(Math.floor(this.#hint / this.perBlock));
        continue;
      }
      const start = this.#hint - (this.#hint % this.#perPage);
      let index = this.#hint - start;
      while (index < this.#perPage && getCount(page.bytes, index, refcountOrder) !== 0) index++;
      this.#hint = start + index;
      if (index === this.#perPage) continue;
      const from = index;
      while (index < this.#perPage && index - from < most && getCount(page.bytes, index, refcountOrder) === 0) index++;
      const taken = { first: start + from, count: index - from };
      this.#guard(taken.first, taken.count);
      for (let i = from; i < index; i++) setCount(page.bytes, i, refcountOrder, 1);
      page.dirty = true;
      this.#hint = start + index;
      return taken;
    }
  }

  /** Writes every changed count. */
  *write(): Flow {
    for (const page of this.#pages.values()) if (page.dirty) yield* this.#writePage(page);
  }

  *#writePage(page: Page): Flow {
    const refused = this.#overlaps.refusal("a refcount block", page.position, page.bytes.length, "refcount block");
    if (refused) throw refused;
    yield* write(this.#store, page.position, page.bytes);
    page.dirty = false;
  }

  /** The page with the count of `cluster`, or null where there is no block. */
  *#page(cluster: number): Flow<Page | null> {
    const number = Math.floor(cluster / this.#perPage);
    const cached = this.#pages.get(number);
    if (cached) {
      this.#pages.delete(number);
      this.#pages.set(number, cached);
      return cached;
    }
    const table = this.#table ?? (yield* this.blocks());
    const index = Math.floor(cluster / this.perBlock);
    if (index >= table.length || table[index] === 0) return null;
    const position = table[index] + (((cluster % this.perBlock) / this.#perPage) | 0) * this.#pageBytes;
    return yield* this.#keep(number, {
      position,
      bytes: yield* read(this.#store, position, this.#pageBytes),
      dirty: false,
    });
  }

  *#keep(number: number, page: Page): Flow<Page> {
    if (this.#pages.size >= MAX_PAGES) {
      const [oldest, victim] = this.#pages.entries().next().value!;
      if (victim.dirty) yield* this.#writePage(victim);
      this.#pages.delete(oldest);
    }
    this.#pages.set(number, page);
    return page;
  }

  /** Clusters that are counted as free must not be metadata. @throws CORRUPT, an overlap */
  #guard(first: number, count: number): void {
    const structure = this.#overlaps.find(first, count);
    if (structure === undefined) return;
    throw overlap(this.#store, structure, first * this.#clusterBytes, "a new cluster, which is counted as free,");
  }

  /** A block for counts that have none yet. It lies in the first cluster that it counts, which is free like the rest. */
  *#addBlock(index: number): Flow {
    const table = yield* this.blocks();
    if (index >= table.length) {
      yield* this.#growTable(index);
      return;
    }
    const first = index * this.perBlock;
    this.#guard(first, 1);
    const block = new Uint8Array(this.#clusterBytes);
    setCount(block, 0, this.#header.refcountOrder, 1);
    yield* write(this.#store, first * this.#clusterBytes, block);
    // The table must not point to a block that is not there.
    yield* wait(this.#store.flush());
    const entry = new Uint8Array(8);
    setWide(viewOf(entry), 0, first * this.#clusterBytes);
    yield* write(this.#store, this.#header.refcountPosition + index * 8, entry);
    table[index] = first * this.#clusterBytes;
    this.#overlaps.blocks.add(first);
  }

  /** A larger table, after what the present one can count, with the blocks that count it; then the header is switched. */
  *#growTable(index: number): Flow {
    const old = yield* this.blocks();
    const { refcountOrder, refcountPosition, refcountClusters } = this.#header;
    const perCluster = this.#clusterBytes / 8;
    const first = old.length * this.perBlock;
    let blocks = 1;
    let clusters: number;
    for (; ; blocks++) {
      clusters = Math.ceil(Math.max(old.length * 1.5, old.length + blocks, index + 1) / perCluster);
      if (blocks * this.perBlock >= blocks + clusters) break;
    }
    if (clusters * this.#clusterBytes > Math.max(MAX_REFCOUNT_TABLE_BYTES, this.#clusterBytes)) {
      throw new ParavaneError("NO_SPACE", "the image file has reached the size that its refcount table can cover", {
        file: this.#store.name,
      });
    }
    this.#guard(first, blocks + clusters);
    const table = new Float64Array(clusters * perCluster);
    table.set(old);
    for (let i = 0; i < blocks; i++) {
      table[old.length + i] = (first + i) * this.#clusterBytes;
      this.#overlaps.blocks.add(first + i);
      const block = new Uint8Array(this.#clusterBytes);
      const used = Math.min(this.perBlock, blocks + clusters - i * this.perBlock);
      for (let c = 0; c < used; c++) setCount(block, c, refcountOrder, 1);
      yield* write(this.#store, table[old.length + i], block);
    }
    const bytes = new Uint8Array(table.length * 8);
    for (const [i, block] of table.entries()) setWide(viewOf(bytes), i * 8, block);
    const position = (first + blocks) * this.#clusterBytes;
    yield* write(this.#store, position, bytes);
    yield* wait(this.#store.flush());
    const fields = new Uint8Array(12);
    setWide(viewOf(fields), 0, position);
    viewOf(fields).setUint32(8, clusters);
    yield* write(this.#store, Field.RefcountOffset, fields);
    yield* wait(this.#store.flush());
    this.#header.refcountPosition = position;
    this.#header.refcountClusters = clusters;
    this.#table = table;
    this.#overlaps.remove(REFCOUNT_TABLE);
    this.#overlaps.add(REFCOUNT_TABLE, position, clusters * this.#clusterBytes);
    yield* this.release(refcountPosition / this.#clusterBytes, refcountClusters);
  }
}
export const REFCOUNT_TABLE = "refcount table";
