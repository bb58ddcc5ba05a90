import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import { ExtentKind, type Image, type ParentReference } from "../../../core/format.ts";
import { SegmentList } from "../../../core/segments.ts";
import type { Store } from "../../../core/store.ts";
import { CoreMapper } from "../../../wasm/map.ts";
import { Metadata } from "../metadata.ts";
import { type Footer, SECTOR, sealFooter } from "./footer.ts";
import { bitmapBytes, HEADER_BYTES, type Header, UNUSED } from "./header.ts";

/** What `open` found out; positions are bytes in the store. */
export interface DynamicLayout {
  store: Store;
  size: number;
  footer: Footer;
  header: Header;
  headerPosition: number;
  tablePosition: number;
  /** Where the footer is, or would be: data ends here, and the next block goes here. A multiple of the sector. */
  end: number;
  /** Of a differencing disk. */
  parent?: ParentReference;
}

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
  readonly size: number;
  readonly mapper: CoreMapper;
  readonly parent: ParentReference | undefined;
  readonly #layout: DynamicLayout;
  readonly #store: Store;
  readonly #metadata: Metadata;
  /** Bytes of a block's bitmap, and of both together. */
  readonly #bitmap: number;
  readonly #stride: number;
  /** Blocks lie in [base, end). */
  readonly #base: number;
  #end: number;

  constructor(layout: DynamicLayout) {
    const { store, size, header, headerPosition, tablePosition, end, parent } = layout;
    const { blockSize, entries } = header;
    this.#layout = layout;
    this.#store = store;
    this.size = size;
    this.parent = parent;
    this.#bitmap = bitmapBytes(blockSize);
    this.#stride = this.#bitmap + blockSize;
    // Nothing may lie over the footer copy at 0, nor over the header where it follows that, as it always does.
    this.#base = headerPosition === SECTOR ? SECTOR + HEADER_BYTES : SECTOR;
    this.#end = end;
    this.mapper = new CoreMapper({
      kind: "table",
      hole: parent ? ExtentKind.Backing : ExtentKind.Zero,
      base: this.#base,
      limit: end,
      blockBytes: blockSize,
      table: {
        position: tablePosition,
        length: entries * 4,
        // BAT entries are absolute sector numbers of the bitmap ("Block Allocation Table").
        entries: {
          bytes: 4,
          bigEndian: true,
          mask: 0xffffffffn,
          absent: BigInt(UNUSED),
          unit: SECTOR,
          data: this.#bitmap,
        },
        // The whole table of a 2,040 GiB disk.
        cache: { pageBytes: 4096, maxBytes: 2 ** 22 },
      },
      // Bitmaps of 8 GiB of 2 MiB blocks.
      bitmap: { bytes: this.#bitmap, bytesPerBit: SECTOR, cache: { pageBytes: 512, maxBytes: 2 ** 21 } },
    });
    this.#metadata = new Metadata(store, this.mapper, tablePosition + entries * 4);
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

  *load(): Flow {
    yield* this.#metadata.load((page, key, position) => {
      if (!(key & 1)) this.#refuseOverlaps(page, position);
    });
  }

  *sync(): Flow {
    yield* this.#metadata.sync();
  }

  fault(): ParavaneError {
    const index = Math.floor(this.mapper.stopOffset / this.#layout.header.blockSize);
    const target = this.mapper.stopPosition;
    return this.#corruptEntry(index, `points at byte ${target}, where no block can be`);
  }

  *allocate(offset: number, length: number): Flow {
    const { blockSize } = this.#layout.header;
    const index = Math.floor(offset / blockSize);
    // The resolve that stopped for want of a place has looked this entry up, so its page is cached.
    const entry = this.#entry(this.mapper.topKey(index * 4), index);
    if (entry === UNUSED) yield* this.#addBlocks(index, offset, length);
    else yield* this.#addSectors(index, entry * SECTOR, offset % blockSize, length);
  }

  describe(): Record<string, unknown> {
    const { footer, header } = this.#layout;
    return {
      format: "vhd",
      subformat: this.parent ? "differencing" : "dynamic",
      size: this.size,
      blockSize: header.blockSize,
      tableEntries: header.entries,
      creator: footer.creator,
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
   * then the bitmaps, the first of them over the old footer. A new block is all zeros (the file has just grown by it), with
   * every sector marked as present, which is what products that ignore bitmaps assume; in a differencing disk only those of
   * the range are. The BAT entries stay in memory until `sync`, after a flush: an entry on disk never points to anything
   * that is not.
   */
  *#addBlocks(index: number, offset: number, length: number): Flow {
    const { blockSize } = this.#layout.header;
    const last = Math.ceil((offset + length) / blockSize);
    const key = this.mapper.topKey(index * 4);
    let count = 0;
    for (let next = index; next < last && this.mapper.topKey(next * 4) === key; next++, count++) {
      if (this.#entry(key, next) !== UNUSED) break;
    }
    const first = this.#end / SECTOR;
    const room = Math.floor((UNUSED - first) / (this.#stride / SECTOR));
    count = Math.min(count, room);
    if (count <= 0) {
      throw new ParavaneError("NO_SPACE", "the VHD has reached the last sector it can number", {
        file: this.#store.name,
      });
    }
    yield* this.#write(this.#end + count * this.#stride, sealFooter(this.#layout.footer.bytes));
    const start = this.#end;
    this.#end += count * this.#stride;
    const whole = new Uint8Array(this.#bitmap).fill(0xff);
    for (let i = 0; i < count; i++) {
      const within = (at: number) => Math.max(0, Math.min(blockSize, at - (index + i) * blockSize));
      const bitmap = this.parent ? this.#bits(within(offset), within(offset + length)) : whole;
      yield* this.#write(start + i * this.#stride, bitmap);
    }
    this.mapper.limit = this.#end;
    this.#metadata.change(key, this.#pagePosition(key), (page) => {
      const view = new DataView(page.buffer, page.byteOffset, page.length);
      for (let i = 0; i < count; i++) {
        view.setUint32(((index + i) * 4) % page.length, first + (i * this.#stride) / SECTOR);
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
      (this.#layout.header.blockSize - pageStart) / SECTOR,
    );
    const present = (bit: number) => (this.#metadata.page(key)[bit >> 3] >> (7 - (bit & 7))) & 1;
    for (let bit = first; bit < end; ) {
      const from = bit;
      while (bit < end && present(bit) === 0) bit++;
      if (bit > from) {
        const position = block + this.#bitmap + pageStart + from * SECTOR;
        yield* wait(this.#store.discard(position, (bit - from) * SECTOR));
      } else bit++;
    }
    this.#metadata.change(key, block + Math.floor(pageStart / SECTOR / 8), (page) => {
      for (let bit = first; bit < end; bit++) page[bit >> 3] |= 0x80 >> (bit & 7);
    });
  }

  /** A bitmap with the sectors of [from, to) set. */
  #bits(from: number, to: number): Uint8Array {
    const bitmap = new Uint8Array(this.#bitmap);
    for (let bit = from / SECTOR; bit < to / SECTOR; bit++) bitmap[bit >> 3] |= 0x80 >> (bit & 7);
    return bitmap;
  }

  #entry(key: number, index: number): number {
    const page = this.#metadata.page(key);
    return new DataView(page.buffer, page.byteOffset, page.length).getUint32((index * 4) % page.length);
  }

  /** Where in the store a page of the BAT is. */
  #pagePosition(key: number): number {
    return this.#layout.tablePosition + (key / 2) * this.mapper.pageBytes(key);
  }

  *#write(position: number, bytes: Uint8Array): Flow {
    const pending = this.#store.writev(position, bytes, SegmentList.of(0, bytes.length));
    if (pending) yield pending;
  }

  /** Can a block be at that byte? The mapper refuses the others. */
  #placed(start: number): boolean {
    const end = start + this.#stride;
    const { tablePosition, header } = this.#layout;
    return (
      start >= this.#base && end <= this.#end && (end <= tablePosition || start >= tablePosition + header.entries * 4)
    );
  }

  /** Two blocks in the same place would make a write to one a write to the other. Seen within a page of the BAT. */
  #refuseOverlaps(page: Uint8Array, position: number): void {
    const view = new DataView(page.buffer, page.byteOffset, page.length);
    const firstIndex = (position - this.#layout.tablePosition) / 4;
    const used: { sector: number; index: number }[] = [];
    for (let i = 0; i < page.length / 4; i++) {
      const sector = view.getUint32(i * 4);
      if (this.#placed(sector * SECTOR)) used.push({ sector, index: firstIndex + i });
    }
    used.sort((a, b) => a.sector - b.sector);
    for (let i = 1; i < used.length; i++) {
      if ((used[i].sector - used[i - 1].sector) * SECTOR >= this.#stride) continue;
      throw this.#corruptEntry(used[i].index, `overlaps the block of entry ${used[i - 1].index}`);
    }
  }

  #corruptEntry(index: number, what: string): ParavaneError {
    return new ParavaneError("CORRUPT", `BAT entry ${index} ${what}`, {
      file: this.#store.name,
      structure: "block allocation table",
      offset: this.#layout.tablePosition + index * 4,
    });
  }
}
