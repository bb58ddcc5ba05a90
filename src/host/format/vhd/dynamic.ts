import type { Block } from "../../../core/block.ts";
import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import { ExtentKind, type Image, type NewParent, type ParentReference } from "../../../core/format.ts";
import { SegmentList } from "../../../core/segments.ts";
import type { Store } from "../../../core/store.ts";
import { CoreMapper } from "../../../wasm/map.ts";
import { Metadata } from "../metadata.ts";
import { showThrough } from "./bitmap.ts";
import { compact } from "./compact.ts";
import { changedFooter, FOOTER_BYTES, makerOf, SECTOR } from "./footer.ts";
import { UNUSED } from "./header.ts";
import { fill, read, write } from "./io.ts";
import { type DynamicLayout, type Layout, readLayout } from "./layout.ts";
import { locate, presentHomes, writeParent } from "./parent.ts";
import { checkSize, grow, shrink } from "./resize.ts";
import { Claims, eachEntry, Ground, overlapping } from "./table.ts";

/**
 * Entries of the largest table that is looked at as a whole before the first write: all that 2,040 GiB have in blocks of
 * 512 KiB. Larger ones, which no product makes, are looked at page by page as they are needed.
 */
const MAX_SCAN = 2 ** 22;

/**
 * A dynamic or differencing disk: blocks appear at the end of the file when first written.
 *
 *   footer copy │ header │ BAT │ bitmap, block │ bitmap, block │ … │ footer
 *
 * In a differencing disk, what has no block or a clear bit is the parent's.
 */
export class DynamicVhd implements Image {
  readonly format = "vhd";
  readonly sectorSize = SECTOR;
  readonly #store: Store;
  #layout: Layout;
  #dynamic: DynamicLayout;
  #ground: Ground;
  #mapper: CoreMapper;
  #metadata: Metadata;
  /** Pages of the table that were seen, and the places that their entries have taken. */
  #seen = new Set<number>();
  #claims: Claims;
  /** No two blocks share a place; or, when some do, why nothing can be written. */
  #sound: boolean | ParavaneError = false;
  #backing: Block | undefined;

  constructor(layout: Layout, dynamic: DynamicLayout) {
    this.#store = layout.store;
    this.#layout = layout;
    this.#dynamic = dynamic;
    this.#ground = new Ground(dynamic);
    this.#claims = new Claims(this.#ground.stride);
    this.#mapper = mapperFor(layout, dynamic, this.#ground);
    this.#metadata = metadataFor(layout, dynamic, this.#mapper);
  }

  get size(): number {
    return this.#layout.size;
  }
  get mapper(): CoreMapper {
    return this.#mapper;
  }
  get parent(): ParentReference | undefined {
    return this.#dynamic.parent;
  }
  get dirty(): boolean {
    return this.#metadata.dirty;
  }
  get crowded(): boolean {
    return this.#metadata.crowded;
  }
  get identity(): string {
    return this.#layout.footer.uuid;
  }

  attach(backing: Block): void {
    this.#backing = backing;
  }

  *load(): Flow {
    yield* this.#metadata.load((page, key, position) => {
      if (!(key & 1) && this.#sound !== true) this.#claim(page, key, position);
    });
  }

  /**
   * A write to a block must not change another, so the whole table is looked at once. Then both footers are made to say the
   * same: a power cut may have come between them.
   */
  *begin(): Flow {
    const { end, footer } = this.#layout;
    const { tablePosition, header } = this.#dynamic;
    if (typeof this.#sound !== "boolean") throw this.#sound;
    if (header.entries <= MAX_SCAN) {
      const shared = yield* overlapping(this.#store, this.#dynamic, end);
      let found = -1;
      yield* eachEntry(this.#store, tablePosition, shared.size > 0 ? header.entries : 0, (sector, index) => {
        if (found < 0 && shared.has(sector)) found = index;
      });
      this.#sound = found < 0 || this.#corruptEntry(found, "overlaps another block: the disk can only be read");
      if (this.#sound !== true) throw this.#sound;
    }
    const wanted = changedFooter(footer, {});
    for (const position of [0, end]) {
      const whole = this.#store.size >= position + FOOTER_BYTES;
      const there = whole ? yield* read(this.#store, position, FOOTER_BYTES) : null;
      if (there?.every((byte, i) => byte === wanted[i])) continue;
      yield* write(this.#store, position, wanted);
      yield* wait(this.#store.flush());
    }
  }

  *sync(): Flow {
    yield* this.#metadata.sync();
  }

  fault(): ParavaneError {
    const index = Math.floor(this.mapper.stopOffset / this.#dynamic.header.blockSize);
    const target = this.mapper.stopPosition;
    return this.#corruptEntry(index, `points at byte ${target}, where no block can be`);
  }

  *allocate(offset: number, length: number): Flow {
    const { blockSize } = this.#dynamic.header;
    const index = Math.floor(offset / blockSize);
    // The resolve that stopped for want of a place has looked this entry up, so its page is cached.
    const entry = this.#entry(this.mapper.topKey(index * 4), index);
    if (entry === UNUSED) yield* this.#addBlocks(index, offset, length);
    else yield* this.#addSectors(index, entry * SECTOR, offset % blockSize, length);
  }

  /** @throws ParavaneError INVALID, NO_SPACE, UNSUPPORTED when the parent would show in what is new */
  *resize(size: number): Flow {
    checkSize(this.#layout, size);
    if (size > this.size && this.parent && (this.#backing?.size ?? 0) > this.size) {
      const context = { file: this.#store.name, parentSize: this.#backing!.size };
      const hint = "Make the change in a disk without a parent";
      const message = "a differencing VHD smaller than its parent cannot grow: the new bytes would be the parent's";
      throw new ParavaneError("UNSUPPORTED", message, context, { hint });
    }
    if (size > this.size) yield* grow(this.#layout, this.#dynamic, size);
    else if (size < this.size) yield* shrink(this.#layout, this.#dynamic, size);
    yield* this.#reload();
  }

  *setParent(parent: NewParent | undefined): Flow {
    const texts = parent && locate(parent);
    const homes = yield* presentHomes(this.#layout, this.#dynamic);
    yield* writeParent(this.#layout, this.#dynamic, texts, homes);
    if (!parent) {
      this.#backing = undefined;
      yield* showThrough(this.#layout, this.#dynamic);
    }
    yield* this.#reload();
  }

  /** Each block is there or gone, wherever power is lost. */
  *empty(): Flow {
    const { tablePosition, header } = this.#dynamic;
    yield* fill(this.#store, tablePosition, tablePosition + header.entries * 4, 0xff);
    yield* wait(this.#store.flush());
    yield* compact(this.#layout, this.#dynamic);
    yield* this.#reload();
  }

  /** The image has been changed as a whole. */
  *#reload(): Flow {
    const layout = yield* readLayout(this.#store);
    this.#layout = layout;
    this.#dynamic = layout.dynamic!;
    this.#ground = new Ground(this.#dynamic);
    this.#seen = new Set();
    this.#claims = new Claims(this.#ground.stride);
    this.#mapper = mapperFor(layout, this.#dynamic, this.#ground);
    this.#metadata = metadataFor(layout, this.#dynamic, this.#mapper);
  }

  describe(): Record<string, unknown> {
    const { footer } = this.#layout;
    const { header } = this.#dynamic;
    return {
      format: "vhd",
      subformat: this.parent ? "differencing" : "dynamic",
      size: this.size,
      blockSize: header.blockSize,
      tableEntries: header.entries,
      ...makerOf(footer),
      uuid: footer.uuid,
      geometry: footer.geometry,
      ...(this.parent && { parent: { uuid: this.parent.identities[0] ?? null, paths: this.parent.paths } }),
    };
  }

  /**
   * Gives block `index`, and those after it that the range reaches, a place at the end of the file, as far as they have none
   * and share a BAT page.
   *
   * The order survives a crash at any point. The footer goes to its new end first, so that the file always has one there;
   * then the bitmaps, the first of them over the old footer or behind it. A new block is all zeros (the file has just grown
   * by it), with every sector marked as present, which is what products that ignore bitmaps assume; in a differencing disk
   * only those of the range are. The BAT entries stay in memory until `sync`, after a flush: an entry on disk never points
   * to anything that is not.
   */
  *#addBlocks(index: number, offset: number, length: number): Flow {
    const { blockSize } = this.#dynamic.header;
    const { bitmap: bitmapBytes, stride, step } = this.#ground;
    const last = Math.ceil((offset + length) / blockSize);
    const key = this.mapper.topKey(index * 4);
    let count = 0;
    for (let next = index; next < last && this.mapper.topKey(next * 4) === key; next++, count++) {
      if (this.#entry(key, next) !== UNUSED) break;
    }
    const start = this.#ground.next(this.#layout.end);
    const first = start / SECTOR;
    const room = Math.floor((UNUSED - first) / (step / SECTOR));
    count = Math.min(count, room);
    if (count <= 0) {
      throw new ParavaneError("NO_SPACE", "the VHD has reached the last sector it can number", {
        file: this.#store.name,
      });
    }
    const end = start + (count - 1) * step + stride;
    yield* this.#write(end, changedFooter(this.#layout.footer, {}));
    this.#layout.end = end;
    const whole = new Uint8Array(bitmapBytes).fill(0xff);
    for (let i = 0; i < count; i++) {
      const within = (at: number) => Math.max(0, Math.min(blockSize, at - (index + i) * blockSize));
      const bitmap = this.parent ? this.#bits(within(offset), within(offset + length)) : whole;
      yield* this.#write(start + i * step, bitmap);
    }
    this.mapper.limit = this.#layout.end;
    this.#metadata.change(key, this.#pagePosition(key), (page) => {
      const view = new DataView(page.buffer, page.byteOffset, page.length);
      for (let i = 0; i < count; i++) {
        view.setUint32(((index + i) * 4) % page.length, first + (i * step) / SECTOR);
      }
    });
  }

  /**
   * Marks sectors of an existing block as present. A clear bit hides what lies in the block, so that is zeroed first: the
   * guest's data may come after the bit.
   */
  *#addSectors(index: number, block: number, within: number, length: number): Flow {
    const key = this.mapper.leafKey(index, Math.floor(within / SECTOR / 8));
    const perPage = this.mapper.pageBytes(key) * 8;
    const first = Math.floor(within / SECTOR) % perPage;
    const pageStart = within - first * SECTOR;
    const end = Math.min(
      first + Math.ceil(length / SECTOR),
      perPage,
      (this.#dynamic.header.blockSize - pageStart) / SECTOR,
    );
    const present = (bit: number) => (this.#metadata.page(key)[bit >> 3] >> (7 - (bit & 7))) & 1;
    for (let bit = first; bit < end; ) {
      const from = bit;
      while (bit < end && present(bit) === 0) bit++;
      if (bit > from) {
        const position = block + this.#ground.bitmap + pageStart + from * SECTOR;
        yield* wait(this.#store.discard(position, (bit - from) * SECTOR));
      } else bit++;
    }
    this.#metadata.change(key, block + Math.floor(pageStart / SECTOR / 8), (page) => {
      for (let bit = first; bit < end; bit++) page[bit >> 3] |= 0x80 >> (bit & 7);
    });
  }

  /** A bitmap with the sectors of [from, to) set. */
  #bits(from: number, to: number): Uint8Array {
    const bitmap = new Uint8Array(this.#ground.bitmap);
    for (let bit = from / SECTOR; bit < to / SECTOR; bit++) bitmap[bit >> 3] |= 0x80 >> (bit & 7);
    return bitmap;
  }

  #entry(key: number, index: number): number {
    const page = this.#metadata.page(key);
    return new DataView(page.buffer, page.byteOffset, page.length).getUint32((index * 4) % page.length);
  }

  /** Where in the store a page of the BAT is. */
  #pagePosition(key: number): number {
    return this.#dynamic.tablePosition + (key / 2) * this.mapper.pageBytes(key);
  }

  *#write(position: number, bytes: Uint8Array): Flow {
    const pending = this.#store.writev(position, bytes, SegmentList.of(0, bytes.length));
    if (pending) yield pending;
  }

  /** Two blocks in the same place would make a write to one a write to the other. Seen when the second is looked up. */
  #claim(page: Uint8Array, key: number, position: number): void {
    if (this.#seen.has(key)) return;
    const view = new DataView(page.buffer, page.byteOffset, page.length);
    const firstIndex = (position - this.#dynamic.tablePosition) / 4;
    for (let i = 0; i < page.length / 4; i++) {
      const sector = view.getUint32(i * 4);
      if (!this.#ground.holds(sector, this.#layout.end) || this.#claims.take(sector)) continue;
      // What this page has taken stays taken: the page is refused each time.
      throw this.#corruptEntry(firstIndex + i, "overlaps another block");
    }
    this.#seen.add(key);
  }

  #corruptEntry(index: number, what: string): ParavaneError {
    return new ParavaneError("CORRUPT", `BAT entry ${index} ${what}`, {
      file: this.#store.name,
      structure: "block allocation table",
      offset: this.#dynamic.tablePosition + index * 4,
    });
  }
}

function mapperFor({ end }: Layout, { header, tablePosition, parent }: DynamicLayout, ground: Ground): CoreMapper {
  return new CoreMapper({
    kind: "table",
    hole: parent ? ExtentKind.Backing : ExtentKind.Zero,
    base: ground.base,
    limit: end,
    blockBytes: header.blockSize,
    table: {
      position: tablePosition,
      length: header.entries * 4,
      // BAT entries are absolute sector numbers of the bitmap ("Block Allocation Table").
      entries: {
        bytes: 4,
        bigEndian: true,
        mask: 0xffffffffn,
        absent: BigInt(UNUSED),
        unit: SECTOR,
        data: ground.bitmap,
      },
      // The whole table of a 2,040 GiB disk.
      cache: { pageBytes: 4096, maxBytes: 2 ** 22 },
    },
    // Bitmaps of 8 GiB of 2 MiB blocks.
    bitmap: { bytes: ground.bitmap, bytesPerBit: SECTOR, cache: { pageBytes: 512, maxBytes: 2 ** 21 } },
  });
}

function metadataFor({ store }: Layout, { tablePosition, header }: DynamicLayout, mapper: CoreMapper): Metadata {
  return new Metadata(store, mapper, tablePosition + header.entries * 4);
}
