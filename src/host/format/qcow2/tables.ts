import { type Flow, wait } from "../../../core/flow.ts";
import { ExtentKind } from "../../../core/format.ts";
import { SegmentList } from "../../../core/segments.ts";
import type { Store } from "../../../core/store.ts";
import { CoreMapper } from "../../../wasm/map.ts";
import { type Header, Incompatible } from "./header.ts";
import { viewOf } from "./io.ts";

/** L1 and L2 entries. */
export const OFFSET = 0x00fffffffffffe00n;
/** Nobody else refers to it ("copied" in QEMU): it may be written in place. */
export const ALONE = 1n << 63n;
export const PACKED = 1n << 62n;
export const ZERO = 1n;

const PAGE_BYTES = 4096;
/** L1 of 64 TiB of the usual 64 KiB clusters. */
const L1_CACHE = 2 ** 20;
/** L2 of 32 GiB of them. */
const L2_CACHE = 2 ** 22;
/** With more changed pages than this the image asks to be flushed, so that memory stays bounded. */
const MAX_DIRTY = 256;

interface DirtyPage {
  position: number;
  bytes: Uint8Array;
  /** Of an L2 table that no L1 entry on disk points to yet. */
  fresh: boolean;
}

/** The L1 and L2 tables of one image: read into the mapper's cache on demand, changed there, and written by `sync`. */
export class Tables {
  readonly mapper: CoreMapper;
  readonly entryBytes: number;
  /** Clusters that one L2 table maps, and one page of it. */
  readonly perTable: number;
  readonly perPage: number;
  readonly #store: Store;
  readonly #l1Position: number;
  readonly #l1Bytes: number;
  readonly #clusterBytes: number;
  /** The mapper's memory, which never grows. */
  readonly #view: DataView;
  readonly #dirty = new Map<number, DirtyPage>();
  /** L1 indexes of L2 tables that no L1 entry on disk points to yet. */
  readonly #fresh = new Set<number>();

  constructor(store: Store, header: Header, l1: { position: number; size: number }, data: Store | undefined) {
    const clusterBytes = 2 ** header.clusterBits;
    const end = Math.ceil(store.size / clusterBytes) * clusterBytes;
    const extended = (header.incompatible & Incompatible.ExtendedL2) !== 0n;
    this.#store = store;
    this.#l1Position = l1.position;
    this.#l1Bytes = l1.size * 8;
    this.#clusterBytes = clusterBytes;
    this.entryBytes = extended ? 16 : 8;
    this.perTable = clusterBytes / this.entryBytes;
    const pageBytes = Math.min(clusterBytes, PAGE_BYTES);
    this.perPage = pageBytes / this.entryBytes;
    this.mapper = new CoreMapper({
      kind: "qcow2",
      // Without a parent too: what has no place is a hole, not zeros that somebody wrote.
      hole: ExtentKind.Backing,
      base: clusterBytes,
      limit: end,
      blockBytes: clusterBytes,
      table: { position: l1.position, length: this.#l1Bytes, cache: { pageBytes: PAGE_BYTES, maxBytes: L1_CACHE } },
      leaf: { cache: { pageBytes, maxBytes: L2_CACHE } },
      extended,
      external: data !== undefined,
      zeroFlag: header.version > 2,
      dataEnd: (data ?? store).size,
    });
    this.#view = viewOf(this.mapper.memory);
  }

  /**
   * How many entries from `slot` on, `most` at the most and within its page, which is cached, have no cluster, and the zero
   * flag or not. Only for entries of 8 bytes.
   */
  unplaced(index: number, slot: number, most: number, zero: boolean): number {
    if (most === 0) return 0;
    const { key, within } = this.#place(index, 0, slot);
    const page = this.mapper.pageAt(key);
    if (page < 0) throw new RangeError(`L2 page ${key} is not cached`);
    let count = 0;
    for (let at = page + within; count < most; at += 8, count++) {
      const [high, low] = [this.#view.getUint32(at), this.#view.getUint32(at + 4)];
      // Bits 9 to 55 say where; bit 62, that it is compressed.
      if ((high & 0x40ffffff) !== 0 || low >>> 9 !== 0 || ((low & 1) === 1) !== zero) break;
    }
    return count;
  }

  get dirty(): boolean {
    return this.#dirty.size > 0;
  }
  /** So much waits in memory that it should be written. */
  get crowded(): boolean {
    return this.#dirty.size > MAX_DIRTY;
  }

  /** Brings in the page that the mapper has just missed. */
  *load(): Flow {
    yield* this.#load(this.mapper.stopKey, this.mapper.stopPosition);
  }

  *l1(index: number): Flow<bigint> {
    const key = this.mapper.topKey(index * 8);
    const at = yield* this.#cached(key, this.#l1Position + Math.floor((index * 8) / PAGE_BYTES) * PAGE_BYTES);
    return this.#view.getBigUint64(at + ((index * 8) % PAGE_BYTES));
  }

  /** @param fresh a new L2 table, which nothing on disk refers to yet */
  *setL1(index: number, value: bigint, fresh: boolean): Flow {
    const position = this.#l1Position + Math.floor((index * 8) / PAGE_BYTES) * PAGE_BYTES;
    const key = this.mapper.topKey(index * 8);
    const at = yield* this.#cached(key, position);
    if (fresh) {
      this.#fresh.add(index);
      for (let byte = 0; byte < this.#clusterBytes; byte += this.perPage * this.entryBytes) {
        this.mapper.dropPage(this.mapper.leafKey(index, byte));
      }
    }
    this.#view.setBigUint64(at + ((index * 8) % PAGE_BYTES), value);
    this.#changed(key, position, at, false);
  }

  /** An L2 entry of the table at `table`, under L1 entry `index`. */
  *l2(index: number, table: number, slot: number): Flow<{ entry: bigint; bits: bigint }> {
    const { key, position, within } = this.#place(index, table, slot);
    const at = (yield* this.#cached(key, position)) + within;
    const view = this.#view;
    return { entry: view.getBigUint64(at), bits: this.entryBytes === 16 ? view.getBigUint64(at + 8) : 0n };
  }

  /** The same without waiting, for an entry that was just looked up. */
  peek(index: number, slot: number): bigint {
    const { key, within } = this.#place(index, 0, slot);
    const at = this.mapper.pageAt(key);
    if (at < 0) throw new RangeError(`L2 page ${key} is not cached`);
    return this.#view.getBigUint64(at + within);
  }

  /** Changes the entries of `count` slots within one page. */
  *setL2(
    index: number,
    table: number,
    slot: number,
    count: number,
    value: (i: number) => { entry: bigint; bits?: bigint },
  ): Flow {
    const { key, position, within } = this.#place(index, table, slot);
    const page = yield* this.#cached(key, position);
    const view = this.#view;
    for (let i = 0; i < count; i++) {
      const at = page + within + i * this.entryBytes;
      const { entry, bits } = value(i);
      view.setBigUint64(at, entry);
      if (bits !== undefined) view.setBigUint64(at + 8, bits);
    }
    this.#changed(key, position, page, this.#fresh.has(index));
  }

  /** Gives `count` slots within one page clusters that lie together from `position` on. Only for entries of 8 bytes. */
  *place(index: number, table: number, slot: number, count: number, position: number): Flow {
    const { key, position: pagePosition, within } = this.#place(index, table, slot);
    const page = yield* this.#cached(key, pagePosition);
    for (let i = 0; i < count; i++) {
      const at = page + within + i * 8;
      const cluster = position + i * this.#clusterBytes;
      this.#view.setUint32(at, (0x80000000 | Math.floor(cluster / 2 ** 32)) >>> 0);
      this.#view.setUint32(at + 4, cluster >>> 0);
    }
    this.#changed(key, pagePosition, page, this.#fresh.has(index));
  }

  /** Writes what nothing on disk refers to yet. */
  *stage(): Flow {
    for (const [key, page] of this.#dirty) if (page.fresh) yield* this.#write(key, page);
  }

  *sync(): Flow {
    // L2 before L1 has no need to be: a table that is new to L1 was staged.
    for (const [key, page] of this.#dirty) yield* this.#write(key, page);
    this.#fresh.clear();
  }

  *#write(key: number, page: DirtyPage): Flow {
    yield* wait(this.#store.writev(page.position, page.bytes, SegmentList.of(0, page.bytes.length)));
    this.#dirty.delete(key);
  }

  #place(index: number, table: number, slot: number): { key: number; position: number; within: number } {
    const byte = slot * this.entryBytes;
    const pageBytes = this.perPage * this.entryBytes;
    return {
      key: this.mapper.leafKey(index, byte),
      position: table + Math.floor(byte / pageBytes) * pageBytes,
      within: byte % pageBytes,
    };
  }

  #changed(key: number, position: number, at: number, fresh: boolean): void {
    const bytes = this.mapper.memory.slice(at, at + this.#length(key, position));
    this.#dirty.set(key, { position, bytes, fresh });
  }

  /** Where in the mapper's memory the page is; read in when it is not there yet. */
  *#cached(key: number, position: number): Flow<number> {
    const at = this.mapper.pageAt(key);
    return at >= 0 ? at : yield* this.#load(key, position);
  }

  *#load(key: number, position: number): Flow<number> {
    const changed = this.#dirty.get(key);
    const at = this.mapper.claimPage(key);
    if (changed) this.mapper.memory.set(changed.bytes, at);
    else {
      // A table in the last cluster may be cut short by the end of the file: zeros.
      const length = this.#length(key, position);
      const inside = Math.max(0, Math.min(length, this.#store.size - position));
      this.mapper.memory.fill(0, at + inside, at + length);
      if (inside > 0) {
        const pending = this.#store.readv(position, this.mapper.memory, SegmentList.of(at, inside));
        if (pending) yield pending;
      }
    }
    this.mapper.commitPage(key, at);
    return at;
  }

  /** Bytes of the page; the L1 table's last one may be cut short. */
  #length(key: number, position: number): number {
    return key & 1 ? this.perPage * this.entryBytes : Math.min(PAGE_BYTES, this.#l1Position + this.#l1Bytes - position);
  }
}
