import {
  CacheField,
  EntryField,
  ExtentField,
  MapEnd,
  MapExtent,
  MapField,
  MapKind,
  MapLimit,
  RangeField,
  TagField,
} from "../../assembly/spec/map.ts";

// Indices into the context: words (W_, i32) and doubles (D_, f64).
const W_EXTENT_COUNT = MapField.ExtentCount / 4;
const W_STOP_RANGE = MapField.StopRange / 4;
const W_STOP_KEY = MapField.StopKey / 4;
const W_TOP_CACHE = MapField.TopCache / 4;
const W_LEAF_CACHE = MapField.LeafCache / 4;
const W_WRITE = (MapField.Ranges + RangeField.Write) / 4;
const W_RANGE_SIZE = RangeField.Size / 4;
const W_KIND = (MapField.Extents + ExtentField.Kind) / 4;
const W_RANGE = (MapField.Extents + ExtentField.Range) / 4;
const W_EXTENT_SIZE = ExtentField.Size / 4;
const W_TAG_SIZE = TagField.Size / 4;
const W_SET_MASK = CacheField.SetMask / 4;
const W_TAGS = CacheField.Tags / 4;
const W_PAGES = CacheField.Pages / 4;
const W_CLOCK = CacheField.Clock / 4;
const W_HITS = CacheField.Hits / 4;
const W_MISSES = CacheField.Misses / 4;
const D_STOP_OFFSET = MapField.StopOffset / 8;
const D_STOP_LENGTH = MapField.StopLength / 8;
const D_STOP_POSITION = MapField.StopPosition / 8;
const D_RANGES = MapField.Ranges / 8;
const D_RANGE_SIZE = RangeField.Size / 8;
const D_POSITION = (MapField.Extents + ExtentField.Position) / 8;
const D_LENGTH = (MapField.Extents + ExtentField.Length) / 8;
const D_EXTENT_SIZE = ExtentField.Size / 8;

/** Big-endian word to signed 32 bits. */
function swap(word: number): number {
  return (word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24);
}

/** Word index of cached page `key`, or 0. */
function cachedPage(i32: Int32Array, cache: number, key: number, pageShift: number): number {
  const first = (key & i32[cache + W_SET_MASK]) * MapLimit.Ways;
  const tag = (i32[cache + W_TAGS] >>> 2) + first * W_TAG_SIZE;
  const wanted = (key + 1) | 0;
  let way = 0;
  if (i32[tag] !== wanted) {
    if (i32[tag + W_TAG_SIZE] === wanted) way = 1;
    else if (i32[tag + 2 * W_TAG_SIZE] === wanted) way = 2;
    else if (i32[tag + 3 * W_TAG_SIZE] === wanted) way = 3;
    else {
      i32[cache + W_MISSES]++;
      return 0;
    }
  }
  const clock = (i32[cache + W_CLOCK] + 1) | 0;
  i32[cache + W_CLOCK] = clock;
  i32[tag + way * W_TAG_SIZE + TagField.Stamp / 4] = clock;
  i32[cache + W_HITS]++;
  return (i32[cache + W_PAGES] >>> 2) + ((first + way) << (pageShift - 2));
}

/** Which way of the set at `tag` holds `wanted`; -1: none. */
function wayOf(i32: Int32Array, tag: number, wanted: number): number {
  if (i32[tag] === wanted) return 0;
  if (i32[tag + W_TAG_SIZE] === wanted) return 1;
  if (i32[tag + 2 * W_TAG_SIZE] === wanted) return 2;
  return i32[tag + 3 * W_TAG_SIZE] === wanted ? 3 : -1;
}

/** A lookup that found way `way`, counted over all sets. */
function touch(i32: Int32Array, cache: number, tags: number, way: number): void {
  const clock = (i32[cache + W_CLOCK] + 1) | 0;
  i32[cache + W_CLOCK] = clock;
  i32[tags + way * W_TAG_SIZE + TagField.Stamp / 4] = clock;
  i32[cache + W_HITS]++;
}

/** Are the bits first to last, counted from word `page`, all ones? Bit 31 of a swapped word is the first. */
function allOnes(i32: Int32Array, page: number, first: number, last: number): boolean {
  let at = page + (first >>> 5);
  const end = page + (last >>> 5);
  let word = ~swap(i32[at]) << (first & 31);
  for (; at !== end; word = ~swap(i32[++at])) {
    if (word !== 0) return false;
  }
  if (first >>> 5 === last >>> 5) return word >>> (31 - (last & 31) + (first & 31)) === 0;
  return word >>> (31 - (last & 31)) === 0;
}

/** One level's entry format; 64-bit entries are read as two words, for BigInt would be 10 times slower. */
class Entries {
  readonly shift: number;
  readonly bigEndian: boolean;
  readonly maskLow: number;
  readonly maskHigh: number;
  readonly absent: number;
  readonly zero: number;
  readonly unit: number;
  readonly data: number;

  constructor(memory: DataView, at: number) {
    const wide = (field: number) => Number(memory.getBigUint64(at + field, true));
    this.shift = memory.getUint32(at + EntryField.Shift, true);
    this.bigEndian = memory.getUint32(at + EntryField.BigEndian, true) !== 0;
    this.maskLow = memory.getInt32(at + EntryField.Mask, true);
    this.maskHigh = memory.getInt32(at + EntryField.Mask + 4, true);
    this.absent = wide(EntryField.Absent);
    this.zero = wide(EntryField.Zero);
    this.unit = wide(EntryField.Unit);
    this.data = wide(EntryField.Data);
  }

  read(i32: Int32Array, word: number): number {
    const first = i32[word];
    if (this.shift === 2) return ((this.bigEndian ? swap(first) : first) & this.maskLow) >>> 0;
    const second = i32[word + 1];
    const low = this.bigEndian ? swap(second) : first;
    const high = this.bigEndian ? swap(first) : second;
    return ((high & this.maskHigh) >>> 0) * 4294967296 + ((low & this.maskLow) >>> 0);
  }
}

/**
 * assembly/map in TypeScript as we would write it without WebAssembly: typed arrays, no allocation, doubles for positions
 * and 32-bit integers for all else, one class for each kind of map so that V8 sees one shape of everything. It runs over a
 * copy of a map context, so that its records and its cache can be compared with the core's byte for byte. Blocks are at
 * most 2^30 bytes, entries and positions at most 2^53.
 */
export abstract class TwinMapper {
  static of(context: Uint8Array): TwinMapper {
    const kind = new DataView(context.buffer, context.byteOffset).getUint32(MapField.Kind, true);
    if (kind === MapKind.Qcow2) throw new Error("the twin knows no qcow2 entries");
    if (kind === MapKind.Table) return new TableTwin(context);
    return kind === MapKind.Tree ? new TreeTwin(context) : new FlatTwin(context);
  }

  readonly i32: Int32Array;
  readonly f64: Float64Array;
  protected readonly view: DataView;
  protected readonly hole: number;
  protected readonly base: number;
  protected readonly limit: number;
  protected readonly tableStart: number;
  protected readonly tableEnd: number;
  // The run answered last.
  protected kind = 0;
  protected position = 0.5;
  protected length = 0.5;

  constructor(context: Uint8Array) {
    const memory = context.slice();
    this.i32 = new Int32Array(memory.buffer);
    this.f64 = new Float64Array(memory.buffer);
    this.view = new DataView(memory.buffer);
    this.hole = this.word(MapField.Hole);
    this.base = this.wide(MapField.Base);
    this.limit = this.wide(MapField.Limit);
    this.tableStart = this.wide(MapField.TableStart);
    this.tableEnd = this.wide(MapField.TableEnd);
  }

  protected word(field: number): number {
    return this.view.getUint32(field, true);
  }
  protected wide(field: number): number {
    return Number(this.view.getBigUint64(field, true));
  }

  /** Answers for what is at `offset`; MapEnd.Done with the run in kind, position and length, or why it cannot. */
  protected abstract runAt(offset: number, left: number): number;

  setRange(index: number, offset: number, length: number, write: boolean): void {
    const at = D_RANGES + index * D_RANGE_SIZE;
    this.f64[at] = offset;
    this.f64[at + 1] = length;
    this.i32[W_WRITE + index * W_RANGE_SIZE] = write ? 1 : 0;
  }

  resolve(count: number): number {
    this.i32[W_EXTENT_COUNT] = 0;
    return this.rest(0, 0, count);
  }

  /** Ranges from `first` on, after `extents` extents of those before. */
  protected rest(first: number, extents: number, count: number): number {
    const { i32, f64 } = this;
    for (let index = first; index < count; index++) {
      const range = D_RANGES + index * D_RANGE_SIZE;
      const write = i32[W_WRITE + index * W_RANGE_SIZE] !== 0;
      let offset = f64[range];
      let left = f64[range + 1];
      // The extent that may be continued, in locals; a resolve of our own may have begun the first range.
      const begun = index === first && extents > 0 && i32[W_RANGE + (extents - 1) * W_EXTENT_SIZE] === index;
      let lastKind = begun ? this.extentKind(extents - 1) : -1;
      let lastLength = begun ? this.extentLength(extents - 1) : 0;
      let lastEnd = begun ? this.extentPosition(extents - 1) + lastLength : 0;
      while (left !== 0) {
        const stop = this.runAt(offset, left);
        const { kind, length, position } = this;
        if (stop !== MapEnd.Done || (write && kind !== MapExtent.Data)) return this.stopped(stop, index, offset, left);
        if (kind === lastKind && (kind !== MapExtent.Data || lastEnd === position)) {
          lastLength += length;
        } else {
          if (extents === MapLimit.Extents) return this.stopped(MapEnd.Full, index, offset, left);
          f64[D_POSITION + extents * D_EXTENT_SIZE] = position;
          i32[W_KIND + extents * W_EXTENT_SIZE] = kind;
          i32[W_RANGE + extents * W_EXTENT_SIZE] = index;
          i32[W_EXTENT_COUNT] = ++extents;
          lastKind = kind;
          lastLength = length;
        }
        lastEnd = position + length;
        f64[D_LENGTH + (extents - 1) * D_EXTENT_SIZE] = lastLength;
        offset += length;
        left -= length;
        f64[range] = offset;
        f64[range + 1] = left;
      }
    }
    return MapEnd.Done;
  }

  get extentCount(): number {
    return this.i32[W_EXTENT_COUNT];
  }
  extentKind(index: number): number {
    return this.i32[W_KIND + index * W_EXTENT_SIZE];
  }
  extentLength(index: number): number {
    return this.f64[D_LENGTH + index * D_EXTENT_SIZE];
  }
  extentPosition(index: number): number {
    return this.f64[D_POSITION + index * D_EXTENT_SIZE];
  }

  /** Ends the batch in range `index`: with `stop`, or Allocate where a write met a run without a place. */
  protected stopped(stop: number, index: number, offset: number, left: number): number {
    if (stop === MapEnd.Done) {
      let length = 0;
      do {
        length += this.length;
      } while (
        length < left &&
        this.runAt(offset + length, left - length) === MapEnd.Done &&
        this.kind !== MapExtent.Data
      );
      this.f64[D_STOP_LENGTH] = length;
      stop = MapEnd.Allocate;
    }
    this.i32[W_STOP_RANGE] = index;
    this.f64[D_STOP_OFFSET] = offset;
    return stop;
  }

  protected answer(kind: number, position: number, length: number): number {
    this.kind = kind;
    this.position = position;
    this.length = length;
    return MapEnd.Done;
  }

  protected corrupt(position: number): number {
    this.f64[D_STOP_POSITION] = position;
    return MapEnd.Corrupt;
  }

  protected miss(level: number, key: number, position: number): number {
    this.i32[W_STOP_KEY] = key * 2 + level;
    this.f64[D_STOP_POSITION] = position;
    return MapEnd.Miss;
  }

  protected placed(start: number, end: number): boolean {
    return start >= this.base && end <= this.limit && (end <= this.tableStart || start >= this.tableEnd);
  }
}

class FlatTwin extends TwinMapper {
  protected runAt(offset: number, left: number): number {
    const position = this.base + offset;
    if (position >= this.limit) return this.answer(this.hole, 0, left);
    return this.answer(MapExtent.Data, position, Math.min(left, this.limit - position));
  }
}

abstract class TopTwin extends TwinMapper {
  protected readonly top = new Entries(this.view, MapField.Top);
  protected readonly block = 2 ** this.word(MapField.BlockShift);
  protected readonly perBlock = 1 / this.block;
  protected readonly blockMask = this.block - 1;
  protected readonly pageShift = this.word(MapField.TopCache + CacheField.PageShift);
  protected readonly perPage = this.pageShift - this.top.shift;
  protected readonly leafShift = this.word(MapField.LeafShift);
  protected readonly leafPageShift = this.word(MapField.LeafCache + CacheField.PageShift);

  /** Word index of the top entry, or 0 after noting the miss. */
  protected topEntry(index: number): number {
    const key = index >>> this.perPage;
    const page = cachedPage(this.i32, W_TOP_CACHE, key, this.pageShift);
    if (page !== 0) return page + ((index & ((1 << this.perPage) - 1)) << (this.top.shift - 2));
    this.miss(0, key, this.tableStart + key * (1 << this.pageShift));
    return 0;
  }
}

class TableTwin extends TopTwin {
  private readonly bitShift = this.word(MapField.BitShift);
  private readonly perBit = 1 / 2 ** this.bitShift;
  private readonly bitsPerBlock = this.block * this.perBit;

  /**
   * The loop of TwinMapper.resolve with everything that a range inside one block of valid sectors needs inlined by hand
   * and loaded once a call; whatever else comes goes through runAt.
   */
  override resolve(count: number): number {
    const { i32, f64, base, limit, tableStart, tableEnd, block, perBlock, blockMask, perPage } = this;
    const { absent, zero, unit, data, shift, bigEndian, maskLow } = this.top;
    const bitShift = this.bitShift;
    // One page a bitmap, as in every VHD that we know of.
    if (shift !== 2 || bitShift === 0 || this.leafShift !== this.leafPageShift) return super.resolve(count);
    const slotMask = (1 << perPage) - 1;
    const bitsPerBlock = this.bitsPerBlock;
    const perBit = this.perBit;
    const topMask = i32[W_TOP_CACHE + W_SET_MASK];
    const topTags = i32[W_TOP_CACHE + W_TAGS] >>> 2;
    const topPages = i32[W_TOP_CACHE + W_PAGES] >>> 2;
    const topShift = this.pageShift - 2;
    const leafMask = i32[W_LEAF_CACHE + W_SET_MASK];
    const leafTags = i32[W_LEAF_CACHE + W_TAGS] >>> 2;
    const leafPages = i32[W_LEAF_CACHE + W_PAGES] >>> 2;
    const leafShift = this.leafPageShift - 2;
    i32[W_EXTENT_COUNT] = 0;
    let extents = 0;
    for (let index = 0; index < count; index++) {
      const range = D_RANGES + index * D_RANGE_SIZE;
      const offset = f64[range];
      const left = f64[range + 1];
      const within = offset & blockMask;
      const number = (offset * perBlock) | 0;
      const firstBit = within >>> bitShift;
      const lastBit = (within + left - 1) * perBit;
      if (left === 0 || lastBit >= bitsPerBlock) return this.rest(index, extents, count);

      const topKey = number >>> perPage;
      const topSet = (topKey & topMask) * MapLimit.Ways;
      const topWay = wayOf(i32, topTags + topSet * W_TAG_SIZE, topKey + 1);
      const leafSet = (number & leafMask) * MapLimit.Ways;
      const leafWay = wayOf(i32, leafTags + leafSet * W_TAG_SIZE, number + 1);
      if (topWay < 0 || leafWay < 0) return this.rest(index, extents, count);

      const raw = i32[topPages + ((topSet + topWay) << topShift) + (number & slotMask)];
      const value = ((bigEndian ? swap(raw) : raw) & maskLow) >>> 0;
      const start = value * unit;
      const position = start + data;
      const end = position + block;
      if (value === absent || value === zero || start < base || end > limit || (end > tableStart && start < tableEnd)) {
        return this.rest(index, extents, count);
      }
      const page = leafPages + ((leafSet + leafWay) << leafShift);
      if (!allOnes(i32, page, firstBit, lastBit | 0)) return this.rest(index, extents, count);

      touch(i32, W_TOP_CACHE, topTags, topSet + topWay);
      touch(i32, W_LEAF_CACHE, leafTags, leafSet + leafWay);
      const extent = extents * D_EXTENT_SIZE;
      f64[D_POSITION + extent] = position + within;
      f64[D_LENGTH + extent] = left;
      i32[W_KIND + extents * W_EXTENT_SIZE] = MapExtent.Data;
      i32[W_RANGE + extents * W_EXTENT_SIZE] = index;
      i32[W_EXTENT_COUNT] = ++extents;
      f64[range] = offset + left;
      f64[range + 1] = 0;
    }
    return MapEnd.Done;
  }

  protected runAt(offset: number, left: number): number {
    const index = (offset * this.perBlock) >>> 0;
    const within = offset & this.blockMask;
    const room = this.block - within;
    const length = Math.min(left, room);
    const at = this.topEntry(index);
    if (at === 0) return MapEnd.Miss;
    const entries = this.top;
    const value = entries.read(this.i32, at);
    if (value === entries.absent) return this.answer(this.hole, 0, length);
    if (value === entries.zero) return this.answer(MapExtent.Zero, 0, length);
    const start = value * entries.unit;
    const data = start + entries.data;
    if (!this.placed(start, data + this.block)) return this.corrupt(start);
    if (this.bitShift === 0) return this.answer(MapExtent.Data, data + within, length);
    return this.bitmapRun(index, start, data, within, length);
  }

  private bitmapRun(index: number, start: number, data: number, within: number, length: number): number {
    const unit = this.bitShift;
    const pageShift = this.leafPageShift;
    const pageOfBlock = within >>> (unit + pageShift + 3);
    const key = (index << (this.leafShift - pageShift)) + pageOfBlock;
    const { i32 } = this;
    const page = cachedPage(i32, W_LEAF_CACHE, key, pageShift);
    if (page === 0) return this.miss(1, key, start + (pageOfBlock << pageShift));

    const bits = 8 << pageShift;
    const first = (within >>> unit) & (bits - 1);
    const inside = within & ((1 << unit) - 1);
    const end = Math.min(bits, first + ((inside + length + (1 << unit) - 1) >>> unit));
    // Bit 31 of a swapped word is its first sector. Those like the first sector become ones: the run is the leading ones.
    let word = swap(i32[page + (first >>> 5)]) << (first & 31);
    const flip = word < 0 ? 0 : -1;
    let next = first + Math.clz32(~swap(i32[page + (first >>> 5)] ^ flip) << (first & 31));
    if (next >= ((first + 32) & ~31)) {
      next = (first + 32) & ~31;
      for (; next < end; next += 32) {
        word = i32[page + (next >>> 5)] ^ flip;
        if (word === -1) continue;
        next += Math.clz32(~swap(word));
        break;
      }
    }
    const run = (Math.min(next, end) - first) * (1 << unit) - inside;
    if (flip === 0) return this.answer(MapExtent.Data, data + within, Math.min(run, length));
    return this.answer(this.hole, 0, Math.min(run, length));
  }
}

class TreeTwin extends TopTwin {
  private readonly leaf = new Entries(this.view, MapField.Leaf);
  private readonly span = 2 ** this.word(MapField.SpanShift);
  private readonly perSpan = 1 / this.span;
  private readonly leafBytes = 2 ** this.leafShift;
  private readonly leafPerPage = this.leafPageShift - this.leaf.shift;

  /** As in TableTwin: big-endian 64-bit entries of both levels, all cached, and data in all of the range. */
  override resolve(count: number): number {
    const { i32, f64, base, limit, tableStart, tableEnd, block, perBlock, blockMask, perPage } = this;
    const { absent: topAbsent, unit: topUnit, maskLow: topLow, maskHigh: topHigh } = this.top;
    const { absent, zero, unit, data, maskLow, maskHigh } = this.leaf;
    const usual = this.top.shift === 3 && this.leaf.shift === 3 && this.top.bigEndian && this.leaf.bigEndian;
    if (!usual) return super.resolve(count);
    const span = this.span;
    const perSpan = this.perSpan;
    const leafBytes = this.leafBytes;
    const slotMask = (1 << perPage) - 1;
    const leafPerPage = this.leafPerPage;
    const leafSlotMask = (1 << leafPerPage) - 1;
    const keyShift = this.leafShift - this.leafPageShift;
    const topMask = i32[W_TOP_CACHE + W_SET_MASK];
    const topTags = i32[W_TOP_CACHE + W_TAGS] >>> 2;
    const topPages = i32[W_TOP_CACHE + W_PAGES] >>> 2;
    const topShift = this.pageShift - 2;
    const leafMask = i32[W_LEAF_CACHE + W_SET_MASK];
    const leafTags = i32[W_LEAF_CACHE + W_TAGS] >>> 2;
    const leafPages = i32[W_LEAF_CACHE + W_PAGES] >>> 2;
    const leafShift = this.leafPageShift - 2;
    i32[W_EXTENT_COUNT] = 0;
    let extents = 0;
    for (let index = 0; index < count; index++) {
      const range = D_RANGES + index * D_RANGE_SIZE;
      let offset = f64[range];
      let left = f64[range + 1];
      let lastEnd = -1;
      let lastLength = 0;
      while (left !== 0) {
        const number = (offset * perSpan) | 0;
        const entry = ((offset - number * span) * perBlock) | 0;
        const within = offset & blockMask;
        const room = block - within;
        const length = Math.min(left, room);

        const topKey = number >>> perPage;
        const topSet = (topKey & topMask) * MapLimit.Ways;
        const topWay = wayOf(i32, topTags + topSet * W_TAG_SIZE, topKey + 1);
        if (topWay < 0) return this.rest(index, extents, count);
        const topAt = topPages + ((topSet + topWay) << topShift) + ((number & slotMask) << 1);
        const high = (swap(i32[topAt]) & topHigh) >>> 0;
        const table = high * 4294967296 + ((swap(i32[topAt + 1]) & topLow) >>> 0);
        const tableAt = table * topUnit;
        const tablePast = tableAt + leafBytes;
        if (
          table === topAbsent ||
          tableAt < base ||
          tablePast > limit ||
          (tablePast > tableStart && tableAt < tableEnd)
        ) {
          return this.rest(index, extents, count);
        }

        const leafKey = (number << keyShift) + (entry >>> leafPerPage);
        const leafSet = (leafKey & leafMask) * MapLimit.Ways;
        const leafWay = wayOf(i32, leafTags + leafSet * W_TAG_SIZE, leafKey + 1);
        if (leafWay < 0) return this.rest(index, extents, count);
        const leafAt = leafPages + ((leafSet + leafWay) << leafShift) + ((entry & leafSlotMask) << 1);
        const leafHigh = (swap(i32[leafAt]) & maskHigh) >>> 0;
        const value = leafHigh * 4294967296 + ((swap(i32[leafAt + 1]) & maskLow) >>> 0);
        const start = value * unit;
        const end = start + data + block;
        if (
          value === absent ||
          value === zero ||
          start < base ||
          end > limit ||
          (end > tableStart && start < tableEnd)
        ) {
          return this.rest(index, extents, count);
        }
        touch(i32, W_TOP_CACHE, topTags, topSet + topWay);
        touch(i32, W_LEAF_CACHE, leafTags, leafSet + leafWay);

        const position = start + data + within;
        if (position === lastEnd) lastLength += length;
        else {
          if (extents === MapLimit.Extents) return this.rest(index, extents, count);
          f64[D_POSITION + extents * D_EXTENT_SIZE] = position;
          i32[W_KIND + extents * W_EXTENT_SIZE] = MapExtent.Data;
          i32[W_RANGE + extents * W_EXTENT_SIZE] = index;
          i32[W_EXTENT_COUNT] = ++extents;
          lastLength = length;
        }
        lastEnd = position + length;
        f64[D_LENGTH + (extents - 1) * D_EXTENT_SIZE] = lastLength;
        offset += length;
        left -= length;
        f64[range] = offset;
        f64[range + 1] = left;
      }
    }
    return MapEnd.Done;
  }

  protected runAt(offset: number, left: number): number {
    const top = this.top;
    const index = (offset * this.perSpan) >>> 0;
    const withinSpan = offset - index * this.span;
    const at = this.topEntry(index);
    if (at === 0) return MapEnd.Miss;
    const table = top.read(this.i32, at);
    if (table === top.absent) return this.answer(this.hole, 0, Math.min(left, this.span - withinSpan));
    const tableStart = table * top.unit;
    if (!this.placed(tableStart, tableStart + this.leafBytes)) return this.corrupt(tableStart);

    const leaf = this.leaf;
    const within = offset & this.blockMask;
    const room = this.block - within;
    const length = Math.min(left, room);
    const entry = (withinSpan * this.perBlock) | 0;
    const pageOfLeaf = entry >>> this.leafPerPage;
    const key = (index << (this.leafShift - this.leafPageShift)) + pageOfLeaf;
    const page = cachedPage(this.i32, W_LEAF_CACHE, key, this.leafPageShift);
    if (page === 0) return this.miss(1, key, tableStart + pageOfLeaf * (1 << this.leafPageShift));

    const inPage = entry & ((1 << this.leafPerPage) - 1);
    const value = leaf.read(this.i32, page + (inPage << (leaf.shift - 2)));
    if (value === leaf.absent) return this.answer(this.hole, 0, length);
    if (value === leaf.zero) return this.answer(MapExtent.Zero, 0, length);
    const start = value * leaf.unit;
    const data = start + leaf.data;
    if (!this.placed(start, data + this.block)) return this.corrupt(start);
    return this.answer(MapExtent.Data, data + within, length);
  }
}
