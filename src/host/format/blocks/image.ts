import type { Block } from "../../../core/block.ts";
import { BlockRequest, Op, Status } from "../../../core/block.ts";
import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import { type Image, MapStop, type ParentReference } from "../../../core/format.ts";
import { CoreMapper } from "../../../wasm/map.ts";
import { clear, fill, write } from "../io.ts";
import { Metadata } from "../metadata.ts";
import { type BlockLayout, eachUsed, endOf, entryFor, isUsed, overlapping, usedValues } from "./layout.ts";

/** Bytes copied from the parent at a time. */
const COPY = 2 ** 20;
/** Larger tables, of 256 MiB, are not looked at as a whole, as they must be before the first change. */
const MAX_SCAN = 2 ** 26;

/**
 * A disk in blocks behind one table. A block appears at the end of the file when it is first written, whole: over a parent,
 * with what that has there. The entry that shows it is written after.
 */
export abstract class BlocksImage implements Image {
  abstract readonly format: string;
  readonly sectorSize = 512;
  protected layout: BlockLayout;
  /** Where the next block goes. Known once the image has been changed. */
  protected end = 0;
  #mapper: CoreMapper;
  #metadata: Metadata;
  protected backing: Block | undefined;

  constructor(layout: BlockLayout) {
    this.layout = layout;
    this.#mapper = mapperFor(layout);
    this.#metadata = metadataFor(layout, this.#mapper);
  }

  get size(): number {
    return this.layout.size;
  }
  get zeroUnit(): number {
    return this.layout.blockSize;
  }
  get mapper(): CoreMapper {
    return this.#mapper;
  }
  get parent(): ParentReference | undefined {
    return undefined;
  }
  get dirty(): boolean {
    return this.#metadata.dirty;
  }
  get crowded(): boolean {
    return this.#metadata.crowded;
  }

  abstract describe(): Record<string, unknown>;

  attach(backing: Block): void {
    this.backing = backing;
  }
  *load(): Flow {
    yield* this.#metadata.load();
  }
  *sync(): Flow {
    yield* this.#metadata.sync();
  }
  fault(): ParavaneError {
    const index = Math.floor(this.mapper.stopOffset / this.layout.blockSize);
    return this.#corruptEntry(index, `points at byte ${this.mapper.stopPosition}, where no block can be`);
  }

  /** @throws ParavaneError CORRUPT when a write to one block would change another */
  *begin(): Flow {
    yield* this.survey();
  }

  /** Looks at the whole table, and finds out where the file's free space begins. Returns how many blocks are in use. */
  protected *survey(): Flow<number> {
    const { layout } = this;
    if (layout.table.entries > MAX_SCAN) {
      const message = `a disk of ${layout.table.entries} blocks cannot be looked at as a whole, to be changed safely`;
      const hint = "Convert the disk to another format";
      throw new ParavaneError("UNSUPPORTED", message, { file: layout.store.name }, { hint });
    }
    const values = yield* usedValues(layout);
    const shared = overlapping(layout, values);
    let found = -1;
    yield* eachUsed(
      layout,
      (value, index) => void (found < 0 && shared.has(value) && (found = index)),
      shared.size > 0 ? layout.table.entries : 0,
    );
    if (found >= 0) throw this.#corruptEntry(found, "overlaps another block: the disk can only be read");
    this.end = endOf(layout, values);
    return values.length;
  }

  /**
   * Blocks from `offset` on, as far as none has a place and their entries are in one page. They are zeros, or what the parent
   * has, where the guest will not write. Entries stay in memory until `sync`, which comes after a flush.
   */
  *allocate(offset: number, length: number): Flow {
    const { layout, mapper } = this;
    const { blockSize, store, stride, lead, entry } = layout;
    const index = Math.floor(offset / blockSize);
    // The resolve that stopped for want of a place has looked this entry up, so its page is cached.
    const key = mapper.topKey(index * 4);
    const last = Math.ceil((offset + length) / blockSize);
    const first = this.end;
    const room = Math.floor(
      (Math.min(entry.zero ?? 2 ** 32, 2 ** 32 - 1) - entryFor(layout, first)) / (stride / entry.unit),
    );
    let count = 0;
    for (let next = index; next < last && mapper.topKey(next * 4) === key && count < room; next++, count++) {
      if (isUsed(layout, this.#entry(key, next))) break;
    }
    if (count === 0) {
      throw new ParavaneError("NO_SPACE", `the ${this.format} has reached the last block that it can number`, {
        file: store.name,
      });
    }
    yield* clear(store, first, first + count * stride);
    for (let i = 0; i < count; i++) {
      const hole = this.#entry(key, index + i) === entry.absent;
      if (!hole || !this.backing) continue;
      const start = (index + i) * blockSize;
      const data = first + i * stride + lead;
      const from = Math.max(0, offset - start);
      const to = Math.min(blockSize, offset + length - start);
      yield* this.#copyBacking(data, start, from);
      yield* this.#copyBacking(data + to, start + to, blockSize - to);
    }
    mapper.limit = store.size;
    this.end = first + count * stride;
    this.#metadata.change(key, this.#pagePosition(key), (page) => {
      const view = new DataView(page.buffer, page.byteOffset, page.length);
      for (let i = 0; i < count; i++) {
        view.setUint32(((index + i) * 4) % page.length, entryFor(layout, first + i * stride), true);
      }
    });
  }

  /** The parent's bytes, as far as it and the disk reach. */
  *#copyBacking(position: number, guest: number, length: number): Flow {
    const covered = Math.min(length, Math.min(this.backing!.size, this.size) - guest);
    for (let done = 0; done < covered; done += COPY) {
      const bytes = yield* readBacking(this.backing!, guest + done, Math.min(COPY, covered - done));
      yield* write(this.layout.store, position + done, bytes);
    }
  }

  /** Whole blocks without a place, over a parent, where the format has an entry for zeros. */
  *zero(offset: number, length: number): Flow<number> {
    const { entry, blockSize, hasParent } = this.layout;
    const { zero } = entry;
    if (zero === undefined || !hasParent || offset % blockSize !== 0) return 0;
    let done = 0;
    while (done < length) {
      const at = offset + done;
      const unit = Math.min(blockSize, this.size - at);
      if (length - done < unit) break;
      const index = at / blockSize;
      const key = this.mapper.topKey(index * 4);
      yield* this.#cached(at, unit);
      const value = this.#entry(key, index);
      if (isUsed(this.layout, value) || this.crowded) break;
      if (value !== zero) {
        this.#metadata.change(key, this.#pagePosition(key), (page) => {
          new DataView(page.buffer, page.byteOffset).setUint32((index * 4) % page.length, zero, true);
        });
      }
      done += unit;
    }
    return done;
  }

  /** Drops all blocks; each is there or gone, wherever power is lost. */
  protected *dropAll(): Flow {
    const { store, table, entry } = this.layout;
    // Both formats' entry is four times the same byte.
    yield* fill(store, table.position, table.position + table.entries * 4, entry.absent & 0xff);
    yield* wait(store.flush());
    this.end = endOf(this.layout, new Uint32Array(0));
    if (store.size > this.end) yield* wait(store.resize(this.end));
    yield* wait(store.flush());
  }

  /** The image has been changed as a whole. */
  protected renew(layout: BlockLayout): void {
    this.layout = layout;
    this.#mapper = mapperFor(layout);
    this.#metadata = metadataFor(layout, this.#mapper);
  }

  /** Sees to it that the entry of the block is cached. */
  *#cached(offset: number, length: number): Flow {
    for (;;) {
      this.mapper.setRange(0, offset, length, false);
      if (this.mapper.resolve(1) !== MapStop.Miss) return;
      yield* this.load();
    }
  }

  #entry(key: number, index: number): number {
    const page = this.#metadata.page(key);
    return new DataView(page.buffer, page.byteOffset, page.length).getUint32((index * 4) % page.length, true);
  }
  #pagePosition(key: number): number {
    return this.layout.table.position + (key / 2) * this.mapper.pageBytes(key);
  }
  #corruptEntry(index: number, what: string): ParavaneError {
    const { store, table } = this.layout;
    return new ParavaneError("CORRUPT", `entry ${index} of the ${table.name} ${what}`, {
      file: store.name,
      structure: table.name,
      offset: table.position + index * 4,
    });
  }
}

/** Bytes of the parent, whose sectors may be larger. @throws what the parent's read fails with */
export function* readBacking(backing: Block, offset: number, length: number): Flow<Uint8Array> {
  const { sectorSize } = backing;
  const request = new BlockRequest();
  request.op = Op.Read;
  request.offset = Math.floor(offset / sectorSize) * sectorSize;
  request.length = Math.ceil((offset + length) / sectorSize) * sectorSize - request.offset;
  request.memory = new Uint8Array(request.length);
  request.segments.push(0, request.length);
  yield* wait(backing.submit([request]));
  if (request.status !== Status.Ok) {
    throw request.error ?? new ParavaneError("MEDIA", "the backing disk could not be read", { offset });
  }
  const lead = offset - request.offset;
  return request.memory.subarray(lead, lead + length);
}

function mapperFor(layout: BlockLayout): CoreMapper {
  const { table, entry, blockSize, start, store, hole, lead } = layout;
  return new CoreMapper({
    kind: "table",
    hole,
    base: start,
    limit: store.size,
    blockBytes: blockSize,
    table: {
      position: table.position,
      length: table.entries * 4,
      entries: {
        bytes: 4,
        bigEndian: false,
        mask: 0xffffffffn,
        absent: BigInt(entry.absent),
        ...(entry.zero !== undefined && { zero: BigInt(entry.zero) }),
        unit: entry.unit,
        origin: entry.origin,
        data: lead,
      },
      // The whole table of a disk of 1 TiB in blocks of 1 MiB.
      cache: { pageBytes: 4096, maxBytes: 2 ** 22 },
    },
  });
}

function metadataFor({ store, table }: BlockLayout, mapper: CoreMapper): Metadata {
  return new Metadata(store, mapper, table.position + table.entries * 4);
}
