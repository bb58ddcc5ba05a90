import { ParavaneError } from "../../../core/error.ts";
import type { Flow } from "../../../core/flow.ts";
import { ExtentKind } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { CoreMapper } from "../../../wasm/map.ts";
import {
  type BatEntry,
  BatLayout,
  BITMAP_BYTES,
  BITMAP_PRESENT,
  ENTRY_BYTES,
  entryAt,
  entryOf,
  hasPlace,
  putSlot,
  putWrongSlot,
  Slot,
  State,
  slotAt,
} from "./bat.ts";
import { mirror } from "./bitmap.ts";
import { MiB } from "./io.ts";
import type { Journal } from "./journal.ts";
import type { Metadata } from "./metadata.ts";
import type { Regions } from "./regions.ts";

const PAGE = 4096;
const PAGE_SLOTS = PAGE / ENTRY_BYTES;
/** Of the table in memory; 64 TiB of 32 MiB blocks take 16 MiB of it. */
const TABLE_CACHE = 2 * MiB;
const BITMAP_CACHE = MiB;
/** No file of a disk of 64 TiB needs to be as large; memory that grows with the file's MiB is bounded by it. */
const MAX_FILE = 2 ** 47;

/**
 * The block allocation table and the sector bitmaps of one disk, of the size it has now: the map over them, whose cache
 * holds the table as `Slot`s, each checked when it is read in. A change is in the cache at once and on disk with the
 * journal.
 */
export class BlockTable {
  readonly mapper: CoreMapper;
  readonly bat: BatLayout;
  readonly #store: Store;
  readonly #journal: Journal;
  readonly #regions: Regions;
  readonly #metadata: Metadata;

  constructor(store: Store, journal: Journal, regions: Regions, metadata: Metadata) {
    this.#store = store;
    this.#journal = journal;
    this.#regions = regions;
    this.#metadata = metadata;
    this.bat = new BatLayout(metadata);
    journal.bat = regions.bat;
    const { blockSize, hasParent, logicalSectorSize } = metadata;
    const { bitmapBytes } = this.bat;
    this.mapper = new CoreMapper({
      kind: "table",
      hole: hasParent ? ExtentKind.Backing : ExtentKind.Zero,
      base: MiB,
      limit: journal.end + blockSize,
      blockBytes: blockSize,
      table: {
        position: regions.bat.position,
        length: this.bat.payloadBlocks * ENTRY_BYTES,
        entries: {
          bytes: 8,
          bigEndian: false,
          mask: BigInt.asUintN(64, Slot.Mask),
          absent: Slot.Absent,
          zero: Slot.Zero,
          unit: 1,
        },
        cache: { pageBytes: PAGE, maxBytes: TABLE_CACHE },
      },
      bitmap: hasParent
        ? {
            bytes: bitmapBytes,
            bytesPerBit: logicalSectorSize,
            cache: { pageBytes: Math.min(PAGE, bitmapBytes), maxBytes: BITMAP_CACHE },
          }
        : undefined,
    });
  }

  /** Brings the page into the map's cache. */
  *load(key: number): Flow {
    const bytes = key & 1 ? yield* this.#bitmapPage(key) : yield* this.#tablePage(key);
    const at = this.mapper.claimPage(key);
    this.mapper.memory.set(bytes, at);
    this.mapper.commitPage(key, at);
  }

  /** A page of slots, each checked. */
  *#tablePage(key: number): Flow<Uint8Array> {
    const firstBlock = (key / 2) * PAGE_SLOTS;
    const count = Math.min(PAGE_SLOTS, this.bat.payloadBlocks - firstBlock);
    const firstEntry = this.bat.payloadEntry(firstBlock);
    const entries = this.bat.payloadEntry(firstBlock + count - 1) + 1 - firstEntry;
    const raw = yield* this.#journal.read(this.entryPosition(firstEntry), entries * ENTRY_BYTES);
    const source = new DataView(raw.buffer);
    const page = new Uint8Array(PAGE);
    const slots = new DataView(page.buffer);
    const found: BatEntry[] = [];
    // Whole MiB, so that the lowest bit is free to mark the short ones, those of sector bitmaps.
    const places: number[] = [];
    for (let index = 0, block = firstBlock; index < entries; index++) {
      const entry = entryAt(source, index * ENTRY_BYTES);
      if (this.bat.isBitmapEntry(firstEntry + index)) {
        if (this.#metadata.hasParent && entry.state === BITMAP_PRESENT) places.push(entry.position + 1);
        continue;
      }
      const sound = this.fault(block, entry) === null;
      if (sound && hasPlace(entry)) places.push(entry.position);
      found.push(entry);
      if (sound) putSlot(slots, (block - firstBlock) * ENTRY_BYTES, entry);
      else putWrongSlot(slots, (block - firstBlock) * ENTRY_BYTES, entry);
      block++;
    }
    const shared = overlaps(places, this.#metadata.blockSize);
    for (const [i, entry] of found.entries()) {
      if (!hasPlace(entry)) continue;
      if (shared.has(entry.position)) putWrongSlot(slots, i * ENTRY_BYTES, entry);
      // A log that extends the file is replayed in memory: what lies past its end is zeros.
      else if (entry.position >= this.#store.size && !slotAt(slots, i * ENTRY_BYTES).wrong) {
        putSlot(slots, i * ENTRY_BYTES, { state: State.Zero, position: 0 });
      }
    }
    return page;
  }

  /** What is wrong with the entry by itself, or null. */
  fault(block: number, entry: BatEntry): string | null {
    const { state } = entry;
    if (state === 4 || state === 5) return `has state ${state}, which is reserved`;
    if (state === State.PartiallyPresent && !this.#metadata.hasParent)
      return "is partially present, but the disk has no parent";
    if (!hasPlace(entry)) return null;
    const { blockSize, size } = this.#metadata;
    const length = Math.min(blockSize, size - block * blockSize);
    const misplaced = this.#misplaced(entry.position, length);
    if (misplaced === null && this.#journal.touches(entry.position, length)) {
      return "points to data that the log changes: open it writable once";
    }
    return misplaced;
  }

  /** Why `length` bytes at `position` cannot be a block, or null. */
  #misplaced(position: number, length: number): string | null {
    const end = position + length;
    if (position < MiB) return "points into the header";
    if (end > Math.min(this.#journal.end, MAX_FILE)) return `points past the end, to byte ${position}`;
    for (const region of this.#regions.all) {
      if (position < region.position + region.length && region.position < end) return `points into the ${region.name}`;
    }
    if (position < this.#store.size && end > this.#store.size) return "points to a block that is cut off";
    return null;
  }

  *#bitmapPage(key: number): Flow<Uint8Array> {
    const page = this.mapper.pageBytes(key);
    const pagesPerBlock = this.bat.bitmapBytes / page;
    const number = (key - 1) / 2;
    const block = Math.floor(number / pagesPerBlock);
    // Of a block that is all there no bitmap is kept.
    const { state } = yield* this.slot(block);
    if (state !== State.PartiallyPresent) return new Uint8Array(page).fill(0xff);
    const start = yield* this.bitmapStart(block);
    return mirror(yield* this.#journal.read(start + (number % pagesPerBlock) * page, page));
  }

  /** Where in the store the block's share of the sector bitmap is. @throws ParavaneError CORRUPT when there is none */
  *bitmapStart(block: number): Flow<number> {
    const index = this.bat.bitmapEntry(block);
    const entry = yield* this.rawEntry(index);
    const missing =
      entry.state === BITMAP_PRESENT ? null : `has state ${entry.state}, but block ${block} needs a bitmap`;
    const fault = missing ?? this.bitmapFault(entry);
    if (fault !== null) throw this.corruptEntry(index, fault);
    return entry.position + this.bat.bitmapOffset(block);
  }

  /** What is wrong with a sector bitmap's entry by itself, or null. Without a parent it says nothing. */
  bitmapFault({ state, position }: BatEntry): string | null {
    if (!this.#metadata.hasParent) return null;
    if (state !== 0 && state !== BITMAP_PRESENT) return `has state ${state}, which is not a sector bitmap's`;
    return state === 0 ? null : this.#misplaced(position, BITMAP_BYTES);
  }

  *rawEntry(index: number): Flow<BatEntry> {
    const bytes = yield* this.#journal.read(this.entryPosition(index), ENTRY_BYTES);
    return entryAt(new DataView(bytes.buffer), 0);
  }

  entryPosition(index: number): number {
    return this.#regions.bat.position + index * ENTRY_BYTES;
  }

  /** Why the map refuses the block. */
  faultAt(block: number): ParavaneError {
    const slot = this.cachedSlot(block);
    const fault = slot && this.fault(block, slot);
    return this.corruptEntry(this.bat.payloadEntry(block), fault ?? "shares its place with another block");
  }

  corruptEntry(index: number, what: string): ParavaneError {
    const structure = "block allocation table";
    const context = { file: this.#store.name, structure, offset: this.entryPosition(index) };
    return new ParavaneError("CORRUPT", `entry ${index} of the ${structure} ${what}`, context);
  }

  /** The block's slot; its page is brought in if need be. */
  *slot(block: number): Flow<BatEntry & { wrong: boolean }> {
    const cached = this.cachedSlot(block);
    if (cached) return cached;
    yield* this.load(this.mapper.topKey(block * ENTRY_BYTES));
    return this.cachedSlot(block)!;
  }

  cachedSlot(block: number): (BatEntry & { wrong: boolean }) | null {
    const at = this.mapper.pageAt(this.mapper.topKey(block * ENTRY_BYTES));
    return at < 0 ? null : slotAt(this.#memory(), at + (block % PAGE_SLOTS) * ENTRY_BYTES);
  }

  #memory(): DataView {
    return new DataView(this.mapper.memory.buffer);
  }

  *put(block: number, entry: BatEntry): Flow {
    yield* this.#journal.change(this.entryPosition(this.bat.payloadEntry(block)), entryOf(entry));
    const at = this.mapper.pageAt(this.mapper.topKey(block * ENTRY_BYTES));
    if (at >= 0) putSlot(this.#memory(), at + (block % PAGE_SLOTS) * ENTRY_BYTES, entry);
    if (this.#metadata.hasParent) yield* this.refreshBitmap(block);
  }

  /** Makes the cached pages of the block's bitmap say what the block's entry and bitmap now say. */
  *refreshBitmap(block: number): Flow {
    const step = this.mapper.pageBytes(1);
    for (let byte = 0; byte < this.bat.bitmapBytes; byte += step) {
      const key = this.mapper.leafKey(block, byte);
      if (this.mapper.pageAt(key) < 0) continue;
      const bytes = yield* this.#bitmapPage(key);
      const at = this.mapper.pageAt(key);
      if (at >= 0) this.mapper.memory.set(bytes, at);
    }
  }

  /** The file has grown: entries may point further. */
  grown(): void {
    this.mapper.limit = this.#store.size + this.#metadata.blockSize;
  }

  /** Is the entry of `other` in the same page as that of `block`? */
  together(block: number, other: number): boolean {
    return this.mapper.topKey(block * ENTRY_BYTES) === this.mapper.topKey(other * ENTRY_BYTES);
  }
}

/**
 * The places that share bytes with another: a write to one would change the other. Odd ones are of sector bitmaps, at the
 * byte before.
 */
function overlaps(places: number[], blockSize: number): Set<number> {
  const sorted = Float64Array.from(places).sort();
  const shared = new Set<number>();
  for (let i = 1; i < sorted.length; i++) {
    const bitmap = sorted[i - 1] % 2;
    const start = sorted[i - 1] - bitmap;
    const next = sorted[i] - (sorted[i] % 2);
    if (next - start < (bitmap ? BITMAP_BYTES : blockSize)) shared.add(start).add(next);
  }
  return shared;
}
