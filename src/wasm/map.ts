import {
  CacheField,
  EntryField,
  ExtentField,
  MapField,
  MapFlag,
  MapKind,
  MapLimit,
  RangeField,
  TagField,
} from "../../assembly/spec/map.ts";
import type { ExtentKind, Mapper, MapStop } from "../core/format.ts";
import { type Core, coreFor, PAGE } from "./core.ts";

/** How to read the entries of one table. `absent` and `zero` are compared with the masked entry. */
export interface EntryLayout {
  bytes: 4 | 8;
  bigEndian: boolean;
  /** The bits that say where. */
  mask: bigint;
  /** Has no place. */
  absent: bigint;
  /** Reads as zeros; absent when the format has no such value. */
  zero?: bigint;
  /** Bytes per unit of the masked entry. */
  unit: number;
  /** Bytes from where the entry points to the data. */
  data?: number;
  /** For a table: the store byte that entry 0 points to. */
  origin?: number;
}

/** One level's metadata, cached in pages of `pageBytes` (a power of two), at most `maxBytes` of them. */
interface CacheOptions {
  pageBytes: number;
  maxBytes: number;
}

interface Common {
  /** What bytes without a place are: `Zero`, or `Backing` for an image with a parent. */
  hole: ExtentKind;
  /** First store byte that no data may reach. */
  limit: number;
  /** Store bytes below are not data. For a flat map: where guest byte 0 is. */
  base: number;
}
interface TopTable {
  /** The top table in the store: position and bytes. */
  position: number;
  length: number;
  entries: EntryLayout;
  cache: CacheOptions;
}

export interface FlatMap extends Common {
  kind: "flat";
}
export interface TableMap extends Common {
  kind: "table";
  blockBytes: number;
  table: TopTable;
  /** Valid-sector bitmap, at where the entry points: its bytes for a block, and the data bytes per bit. */
  bitmap?: { bytes: number; bytesPerBit: number; cache: CacheOptions };
}
export interface TreeMap extends Common {
  kind: "tree";
  blockBytes: number;
  table: TopTable;
  /** Leaf tables: bytes of each. */
  leaf: { bytes: number; entries: EntryLayout; cache: CacheOptions };
}

export interface Qcow2Map extends Common {
  kind: "qcow2";
  blockBytes: number;
  /** The L1 table: position and bytes. */
  table: { position: number; length: number; cache: CacheOptions };
  leaf: { cache: CacheOptions };
  /** Entries of 16 bytes, with subclusters. */
  extended: boolean;
  /** Clusters are in another store. */
  external: boolean;
  /** The zero flag exists. */
  zeroFlag: boolean;
  /** Bytes of the store that holds the clusters. */
  dataEnd: number;
}

/** L1 entries, and plain L2 entries as far as the layout needs them. */
const QCOW2_ENTRIES: EntryLayout = { bytes: 8, bigEndian: true, mask: 0xfffffffffffe00n, absent: 0n, unit: 1 };

const log2 = (value: number): number => Math.round(Math.log2(value));
const KINDS = { flat: MapKind.Flat, table: MapKind.Table, tree: MapKind.Tree, qcow2: MapKind.Qcow2 };
const TOP = 0;
const LEAF = 1;

/** The core's block mapping over a private memory: the map context of assembly/spec/map.ts, and its page cache. */
export class CoreMapper implements Mapper {
  readonly maxRanges = MapLimit.Ranges;
  readonly #core: Core;
  readonly #u32: Uint32Array;
  readonly #f64: Float64Array;

  /** The whole of the mapper's memory; `pageFor` answers where in it. */
  readonly memory: Uint8Array;

  constructor(map: FlatMap | TableMap | TreeMap | Qcow2Map) {
    const { kind } = map;
    const top = kind === "flat" ? NONE : shape(map.table.cache, map.table.length);
    const entries = kind === "qcow2" ? QCOW2_ENTRIES : kind === "flat" ? undefined : map.table.entries;
    let leafBytes = 0;
    if (kind === "qcow2") leafBytes = map.blockBytes;
    else if (kind === "tree") leafBytes = map.leaf.bytes;
    else if (kind === "table" && map.bitmap) leafBytes = map.bitmap.bytes;
    let leafCache: CacheOptions | undefined;
    if (kind === "qcow2" || kind === "tree") leafCache = map.leaf.cache;
    else if (kind === "table") leafCache = map.bitmap?.cache;
    const leaves = kind === "flat" ? 0 : map.table.length / entries!.bytes;
    const leaf = leafCache ? shape(leafCache, leaves * leafBytes) : NONE;

    const topTags = Math.ceil(MapField.Size / 8) * 8;
    const leafTags = topTags + top.ways * TagField.Size;
    const topPages = Math.ceil((leafTags + leaf.ways * TagField.Size) / 4096) * 4096;
    const leafPages = topPages + top.ways * top.pageBytes;
    const pages = Math.ceil((leafPages + leaf.ways * leaf.pageBytes) / PAGE);
    this.#core = coreFor(new WebAssembly.Memory({ initial: pages, maximum: pages }));
    // The memory never grows, so these views live as long as it.
    this.memory = this.#core.u8;
    this.#u32 = this.#core.u32;
    this.#f64 = this.#core.f64;

    this.#put(MapField.Kind, KINDS[kind]);
    this.#put(MapField.Hole, map.hole);
    this.#putWide(MapField.Base, BigInt(map.base));
    this.limit = map.limit;
    if (kind === "flat") return;
    this.#put(MapField.BlockShift, log2(map.blockBytes));
    this.#putWide(MapField.TableStart, BigInt(map.table.position));
    this.#putWide(MapField.TableEnd, BigInt(map.table.position + map.table.length));
    this.#putEntries(MapField.Top, entries!);
    this.#putCache(MapField.TopCache, top, topTags, topPages);
    if (leaf === NONE) return;
    this.#put(MapField.LeafShift, log2(leafBytes));
    this.#putCache(MapField.LeafCache, leaf, leafTags, leafPages);
    if (kind === "table") this.#put(MapField.BitShift, log2(map.bitmap!.bytesPerBit));
    else if (kind === "qcow2") {
      this.#put(MapField.SpanShift, log2((leafBytes / (map.extended ? 16 : 8)) * map.blockBytes));
      this.#put(
        MapField.Flags,
        (map.extended ? MapFlag.Extended : 0) |
          (map.external ? MapFlag.External : 0) |
          (map.zeroFlag ? 0 : MapFlag.NoZero),
      );
      this.dataEnd = map.dataEnd;
    } else {
      this.#put(MapField.SpanShift, log2((leafBytes / map.leaf.entries.bytes) * map.blockBytes));
      this.#putEntries(MapField.Leaf, map.leaf.entries);
    }
  }

  // --- the batch ---------------------------------------------------------------------------------------------------------

  setRange(index: number, offset: number, length: number, write: boolean): void {
    const at = MapField.Ranges + index * RangeField.Size;
    this.#f64[(at + RangeField.Offset) >>> 3] = offset;
    this.#f64[(at + RangeField.Length) >>> 3] = length;
    this.#u32[(at + RangeField.Write) >>> 2] = write ? 1 : 0;
  }

  resolve(count: number): MapStop {
    return this.#core.call.mapResolve(0, count) as MapStop;
  }

  get extentCount(): number {
    return this.#u32[MapField.ExtentCount / 4];
  }
  extentRange(index: number): number {
    return this.#u32[(MapField.Extents + ExtentField.Range + index * ExtentField.Size) >>> 2];
  }
  extentKind(index: number): ExtentKind {
    return this.#u32[(MapField.Extents + ExtentField.Kind + index * ExtentField.Size) >>> 2] as ExtentKind;
  }
  extentLength(index: number): number {
    return this.#f64[(MapField.Extents + ExtentField.Length + index * ExtentField.Size) >>> 3];
  }
  extentPosition(index: number): number {
    return this.#f64[(MapField.Extents + ExtentField.Position + index * ExtentField.Size) >>> 3];
  }

  get stopRange(): number {
    return this.#u32[MapField.StopRange / 4];
  }
  get stopKey(): number {
    return this.#u32[MapField.StopKey / 4];
  }
  get stopOffset(): number {
    return this.#f64[MapField.StopOffset / 8];
  }
  get stopLength(): number {
    return this.#f64[MapField.StopLength / 8];
  }
  get stopPosition(): number {
    return this.#f64[MapField.StopPosition / 8];
  }

  /** First store byte that no data may reach; moves when the image grows. */
  set limit(value: number) {
    this.#putWide(MapField.Limit, BigInt(value));
  }

  /** qcow2: bytes of the store that holds the clusters; moves when that grows. */
  set dataEnd(value: number) {
    this.#putWide(MapField.DataEnd, BigInt(value));
  }

  // --- the page cache ----------------------------------------------------------------------------------------------------
  // A page's key is its number times two, plus its level; `stopKey` is one.

  /** The key of the top-table page that holds byte `byte` of that table. */
  topKey(byte: number): number {
    return Math.floor(byte / this.pageBytes(TOP)) * 2 + TOP;
  }
  /** The key of the page that holds byte `byte` of the leaf under top entry `index`. */
  leafKey(index: number, byte: number): number {
    const shift = this.#u32[MapField.LeafShift / 4];
    return Math.floor((index * 2 ** shift + byte) / this.pageBytes(LEAF)) * 2 + LEAF;
  }

  /** Bytes of the page with that key, or of any page of that level. */
  pageBytes(key: number): number {
    return 1 << this.#u32[(cacheOf(key) + CacheField.PageShift) >>> 2];
  }

  /** Where in `memory` the page is, or -1 when it is not cached. */
  pageAt(key: number): number {
    const number = Math.floor(key / 2);
    const cache = cacheOf(key) >>> 2;
    const first = (number & this.#u32[cache + CacheField.SetMask / 4]) * MapLimit.Ways;
    for (let way = first; way < first + MapLimit.Ways; way++) {
      if (this.#u32[this.#tag(key, way)] === number + 1) return this.#page(key, way);
    }
    return -1;
  }

  /**
   * Makes room for the page, in place of the least recently used of its set, and returns where in `memory`. Fill it, then
   * `commitPage`: until then no lookup finds it.
   */
  claimPage(key: number): number {
    const way = this.#victim(key);
    this.#u32[this.#tag(key, way)] = 0;
    return this.#page(key, way);
  }

  /** Publishes the page that `claimPage` put at `at`. */
  commitPage(key: number, at: number): void {
    const cache = cacheOf(key) >>> 2;
    const way = (at - this.#u32[cache + CacheField.Pages / 4]) >>> this.#u32[cache + CacheField.PageShift / 4];
    const tag = this.#tag(key, way);
    this.#u32[tag + TagField.Stamp / 4] = ++this.#u32[cache + CacheField.Clock / 4];
    this.#u32[tag] = Math.floor(key / 2) + 1;
  }

  /** Forgets the page, if it is cached. */
  dropPage(key: number): void {
    const at = this.pageAt(key);
    if (at < 0) return;
    const cache = cacheOf(key) >>> 2;
    const way = (at - this.#u32[cache + CacheField.Pages / 4]) >>> this.#u32[cache + CacheField.PageShift / 4];
    this.#u32[this.#tag(key, way)] = 0;
  }

  /** Lookups answered from the cache, and those that had to wait for a page, both levels together. */
  get cacheStatistics(): { hits: number; misses: number; bytes: number } {
    const sum = (field: CacheField) =>
      this.#u32[(MapField.TopCache + field) >>> 2] + this.#u32[(MapField.LeafCache + field) >>> 2];
    return { hits: sum(CacheField.Hits), misses: sum(CacheField.Misses), bytes: this.memory.length };
  }

  #victim(key: number): number {
    const cache = cacheOf(key) >>> 2;
    const first = (Math.floor(key / 2) & this.#u32[cache + CacheField.SetMask / 4]) * MapLimit.Ways;
    let victim = first;
    let oldest = Number.POSITIVE_INFINITY;
    for (let way = first; way < first + MapLimit.Ways; way++) {
      const tag = this.#tag(key, way);
      if (this.#u32[tag] === 0) return way;
      const stamp = this.#u32[tag + TagField.Stamp / 4];
      if (stamp < oldest) {
        oldest = stamp;
        victim = way;
      }
    }
    return victim;
  }

  /** Index into #u32 of the tag record of way `way` (counted over all sets). */
  #tag(key: number, way: number): number {
    return (this.#u32[(cacheOf(key) + CacheField.Tags) >>> 2] + way * TagField.Size) >>> 2;
  }
  #page(key: number, way: number): number {
    return this.#u32[(cacheOf(key) + CacheField.Pages) >>> 2] + way * this.pageBytes(key);
  }

  // --- layout ------------------------------------------------------------------------------------------------------------

  #put(at: number, value: number): void {
    this.#u32[at >>> 2] = value;
  }
  #putWide(at: number, value: bigint): void {
    this.#u32[at >>> 2] = Number(value & 0xffffffffn);
    this.#u32[(at >>> 2) + 1] = Number(value >> 32n);
  }
  #putEntries(at: number, entries: EntryLayout): void {
    this.#put(at + EntryField.Shift, entries.bytes === 4 ? 2 : 3);
    this.#put(at + EntryField.BigEndian, entries.bigEndian ? 1 : 0);
    this.#putWide(at + EntryField.Mask, entries.mask);
    this.#putWide(at + EntryField.Absent, entries.absent);
    this.#putWide(at + EntryField.Zero, entries.zero ?? entries.absent);
    this.#putWide(at + EntryField.Unit, BigInt(entries.unit));
    this.#putWide(at + EntryField.Data, BigInt(entries.data ?? 0));
    this.#putWide(at + EntryField.Origin, BigInt(entries.origin ?? 0));
  }
  #putCache(at: number, cache: Shape, tags: number, pages: number): void {
    this.#put(at + CacheField.PageShift, log2(cache.pageBytes));
    this.#put(at + CacheField.SetMask, cache.ways / MapLimit.Ways - 1);
    this.#put(at + CacheField.Tags, tags);
    this.#put(at + CacheField.Pages, pages);
  }
}

interface Shape {
  pageBytes: number;
  /** Over all sets: pages that fit. */
  ways: number;
}
const NONE: Shape = { pageBytes: 0, ways: 0 };

/** The smallest cache that holds `bytes` of metadata, but no more than allowed; sets are a power of two. */
function shape({ pageBytes, maxBytes }: CacheOptions, bytes: number): Shape {
  const pages = Math.ceil(Math.min(bytes, maxBytes) / pageBytes);
  return { pageBytes, ways: MapLimit.Ways * 2 ** Math.ceil(Math.log2(Math.max(1, pages / MapLimit.Ways))) };
}

function cacheOf(key: number): number {
  return key & 1 ? MapField.LeafCache : MapField.TopCache;
}
