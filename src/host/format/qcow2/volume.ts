import type { Block } from "../../../core/block.ts";
import { BlockRequest, Op, Status } from "../../../core/block.ts";
import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { OpenOptions } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { ClusterUnpacker } from "./compressed.ts";
import { Autoclear, type Header, Incompatible } from "./header.ts";
import { corrupt, viewOf } from "./io.ts";
import { Overlaps } from "./overlap.ts";
import { REFCOUNT_TABLE, Refcounts } from "./refcount.ts";
import { readL1, snapshotBytes } from "./references.ts";
import type { Snapshot } from "./snapshot-table.ts";
import { OFFSET, Tables } from "./tables.ts";

/** More numbers than this that wait to be given back should be. */
const MAX_RETIRING = 8192;

/** What is open: the header, the tables, the counts, and the space on its way out. */
export class Volume {
  readonly store: Store;
  /** The external data file, if there is one. */
  readonly data: Store | undefined;
  /** Guest data as it is kept encrypted in `data` or `store`; absent when it is kept as it is. */
  readonly cipher: Store | undefined;
  readonly header: Header;
  readonly snapshots: readonly Snapshot[];
  readonly l1: { position: number; size: number };
  readonly tables: Tables;
  readonly refcounts: Refcounts;
  readonly overlaps: Overlaps;
  readonly unpacker: ClusterUnpacker;
  /** Bytes of a cluster, and of what can be allocated or zeroed alone. */
  readonly clusterBytes: number;
  readonly unitBytes: number;
  readonly extended: boolean;
  backing: Block | undefined;
  /** The dirty bit is set on disk, so that counts need not be written before the end ("Lazy refcounts"). */
  lazy = false;
  /** The end of the compressed data written last, where its cluster has room for more; else 0. */
  packedEnd = 0;
  /** Clusters that what is in memory refers to no more, and those that what is durable refers to no more. */
  #retiring: number[] = [];
  #retired: number[] = [];

  constructor(
    store: Store,
    data: Store | undefined,
    header: Header,
    snapshots: readonly Snapshot[],
    options: VolumeOptions,
  ) {
    this.store = store;
    this.data = data;
    this.cipher = options.cipher;
    this.header = header;
    this.snapshots = snapshots;
    this.clusterBytes = 2 ** header.clusterBits;
    this.extended = (header.incompatible & Incompatible.ExtendedL2) !== 0n;
    this.unitBytes = this.extended ? this.clusterBytes / 32 : this.clusterBytes;
    this.l1 = options.l1 ?? { position: header.l1Position, size: header.l1Size };
    this.tables = new Tables(store, header, this.l1, data);
    this.overlaps = new Overlaps(store, header);
    this.refcounts = new Refcounts(store, header, this.overlaps);
    this.unpacker = new ClusterUnpacker(store, header, options.codecs);
    this.#addMetadata();
  }

  /** The store of guest data. */
  get target(): Store {
    return this.cipher ?? this.data ?? this.store;
  }
  /** The data file must stay readable on its own: zeros are to be written, not noted. */
  get rawData(): boolean {
    return this.data !== undefined && (this.header.autoclear & Autoclear.RawDataFile) !== 0n;
  }

  get dirty(): boolean {
    return this.tables.dirty || this.#retired.length > 0 || (!this.lazy && this.refcounts.dirty);
  }
  /** So much waits in memory that it should be written. */
  get crowded(): boolean {
    return this.tables.crowded || this.#retiring.length > MAX_RETIRING;
  }

  /** One reference less to each of `count` clusters from store byte `position`, once that is durable. */
  retire(position: number, count: number): void {
    this.#retiring.push(position / this.clusterBytes, count);
  }

  *stage(): Flow {
    const { refcounts, store, clusterBytes } = this;
    const list = this.#retired;
    this.#retired = [];
    if (list.length > 0) this.unpacker.forget();
    for (let i = 0; i < list.length; i += 2) {
      yield* refcounts.release(list[i], list[i + 1]);
      const packed = Math.floor(this.packedEnd / clusterBytes);
      if (packed >= list[i] && packed < list[i] + list[i + 1]) this.packedEnd = 0;
      if (!store.releases) continue;
      for (let cluster = list[i]; cluster < list[i] + list[i + 1]; cluster++) {
        if ((yield* refcounts.get(cluster)) > 0) continue;
        const position = cluster * clusterBytes;
        const length = Math.min(clusterBytes, store.size - position);
        if (length > 0) yield* wait(store.discard(position, length));
      }
    }
    if (!this.lazy) yield* refcounts.write();
    yield* this.tables.stage();
  }

  release(): void {
    this.#retired = this.#retired.concat(this.#retiring);
    this.#retiring = [];
  }

  /** Makes all that waits in memory durable, in order. Only for work on the whole image: nothing else is under way. */
  *commit(): Flow {
    if (this.data) yield* wait(this.data.flush());
    yield* this.stage();
    yield* wait(this.store.flush());
    yield* this.tables.sync();
    yield* wait(this.store.flush());
    this.release();
  }

  /** The same, and the counts too, so that the whole image is on disk as it is. */
  *settle(): Flow {
    yield* this.commit();
    yield* this.stage();
    yield* this.refcounts.write();
    yield* wait(this.store.flush());
  }

  /** The data store, or the image's own, has grown. */
  grown(): void {
    const { mapper } = this.tables;
    mapper.limit = Math.ceil(this.store.size / this.clusterBytes) * this.clusterBytes;
    mapper.dataEnd = this.target.size;
  }

  /** Right after the mapper found something wrong: what. */
  fault(): ParavaneError {
    const { tables, l1, store, clusterBytes } = this;
    const { mapper } = tables;
    const target = mapper.stopPosition;
    const cluster = Math.floor(mapper.stopOffset / clusterBytes);
    const index = Math.floor(cluster / tables.perTable);
    const what = `points at byte ${target}, where nothing of the kind can be, or contradicts itself`;
    const page = mapper.pageAt(mapper.topKey(index * 8));
    const entry = page < 0 ? 0n : viewOf(mapper.memory).getBigUint64(page + ((index * 8) % 4096));
    const table = Number(entry & OFFSET);
    if (page < 0 || table === target)
      return corrupt(store, "L1 table", l1.position + index * 8, `entry ${index} ${what}`);
    const slot = cluster % tables.perTable;
    return corrupt(store, "L2 table", table + slot * tables.entryBytes, `entry ${slot} ${what}`);
  }

  /** @throws CORRUPT where no L2 table can be; an overlap, where one would be written over other metadata */
  checkTable(index: number, position: number): void {
    const end = position + this.clusterBytes;
    const outside =
      position < this.clusterBytes || end > Math.ceil(this.store.size / this.clusterBytes) * this.clusterBytes;
    if (position % this.clusterBytes !== 0 || outside) {
      throw corrupt(
        this.store,
        "L1 table",
        this.l1.position + index * 8,
        `entry ${index} points at byte ${position}, where no L2 table can be`,
      );
    }
    const what = `the L2 table of L1 entry ${index}`;
    const refused = this.overlaps.refusal(what, position, this.clusterBytes, "L2 table");
    if (refused) throw refused;
  }

  /** Guest bytes of the parent; zeros past its end, or when there is none. */
  *readBacking(offset: number, length: number): Flow<Uint8Array> {
    const block = this.backing;
    if (!block) return new Uint8Array(length);
    const lead = offset % block.sectorSize;
    const start = offset - lead;
    const whole = Math.ceil((lead + length) / block.sectorSize) * block.sectorSize;
    const bytes = new Uint8Array(whole);
    const inside = Math.max(0, Math.min(whole, block.size - start));
    if (inside > 0) {
      const request = new BlockRequest();
      request.op = Op.Read;
      request.offset = start;
      request.length = inside;
      request.memory = bytes;
      request.segments.push(0, inside);
      yield* wait(block.submit([request]));
      if (request.status !== Status.Ok) {
        throw request.error ?? new ParavaneError("IO", "the parent disk could not be read", { offset, length });
      }
    }
    return bytes.subarray(lead, lead + length);
  }

  #addMetadata(): void {
    const { header, clusterBytes, overlaps } = this;
    overlaps.add("header", 0, 1);
    overlaps.add(REFCOUNT_TABLE, header.refcountPosition, header.refcountClusters * clusterBytes);
    overlaps.add("L1 table", header.l1Position, header.l1Size * 8);
    if (header.encryption) overlaps.add("LUKS header", header.encryption.position, header.encryption.bytes);
    if (header.snapshotCount > 0) {
      overlaps.add("snapshot table", header.snapshotPosition, snapshotBytes(this.snapshots));
    }
    for (const { id, l1Position, l1Size } of this.snapshots) {
      overlaps.add(`L1 table of snapshot ${id}`, l1Position, l1Size * 8);
    }
    const { bitmaps } = header;
    if (bitmaps && header.autoclear & Autoclear.Bitmaps) {
      overlaps.add("bitmap directory", bitmaps.position, bitmaps.bytes);
    }
  }

  /** Before the first change: where the tables are that nothing may be written over. */
  *survey(): Flow {
    yield* this.refcounts.blocks();
    const { tables } = yield* readL1(this.store, this.l1.position, this.l1.size);
    for (const table of tables) if (table !== 0) this.overlaps.addTable(table);
  }
}

export interface VolumeOptions {
  codecs?: OpenOptions["codecs"];
  cipher?: Store | undefined;
  /** Instead of the active one. */
  l1?: { position: number; size: number };
}
