import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import { ExtentKind, type Image, type ParentReference } from "../../../core/format.ts";
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
  putSlot,
  putWrongSlot,
  Slot,
  State,
  slotAt,
} from "./bat.ts";
import { findBit, mirror, setBits } from "./bitmap.ts";
import { newGuid } from "./guid.ts";
import type { Headers } from "./header.ts";
import { alignUp, MiB } from "./io.ts";
import type { Journal } from "./journal.ts";
import { parentReference } from "./locator.ts";
import type { Metadata } from "./metadata.ts";
import type { Regions } from "./regions.ts";

/** What `open` found out. */
export interface Layout {
  store: Store;
  creator: string;
  headers: Headers;
  journal: Journal;
  regions: Regions;
  metadata: Metadata;
}

const PAGE = 4096;
const PAGE_SLOTS = PAGE / ENTRY_BYTES;
/** Of the table in memory; 64 TiB of 32 MiB blocks take 16 MiB of it. */
const TABLE_CACHE = 2 * MiB;
const BITMAP_CACHE = MiB;
/** Places of zeroed blocks remembered, to be used again. */
const MAX_SPARE = 65536;

/**
 * Fixed, dynamic and differencing disks: they differ only in what their table says.
 *
 * The map's cache holds the table as `Slot`s, checked when they are read in. Entries change there at once and, through the
 * journal, on disk with the next `sync`, after what they point to.
 */
export class VhdxImage implements Image {
  readonly format = "vhdx";
  readonly size: number;
  readonly sectorSize: number;
  readonly zeroUnit: number;
  readonly mapper: CoreMapper;
  readonly parent: ParentReference | undefined;
  readonly #layout: Layout;
  readonly #store: Store;
  readonly #journal: Journal;
  readonly #bat: BatLayout;
  readonly #blockSize: number;
  /** Block → where it was before it was zeroed. Only that block goes there again: writes to it may still be under way. */
  readonly #spare = new Map<number, number>();

  constructor(layout: Layout) {
    const { metadata, regions, store, journal } = layout;
    this.#layout = layout;
    this.#store = store;
    this.#journal = journal;
    this.size = metadata.size;
    this.sectorSize = metadata.logicalSectorSize;
    this.#blockSize = this.zeroUnit = metadata.blockSize;
    this.#bat = new BatLayout(metadata);
    this.parent = metadata.locator && parentReference(metadata.locator);
    const bitmapPage = Math.min(PAGE, this.#bat.bitmapBytes);
    this.mapper = new CoreMapper({
      kind: "table",
      hole: this.parent ? ExtentKind.Backing : ExtentKind.Zero,
      base: MiB,
      limit: journal.end + this.#blockSize,
      blockBytes: this.#blockSize,
      table: {
        position: regions.bat.position,
        length: this.#bat.payloadBlocks * ENTRY_BYTES,
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
      bitmap: this.parent && {
        bytes: this.#bat.bitmapBytes,
        bytesPerBit: this.sectorSize,
        cache: { pageBytes: bitmapPage, maxBytes: BITMAP_CACHE },
      },
    });
  }

  get dirty(): boolean {
    return this.#journal.dirty;
  }
  get identity(): string {
    return this.#layout.headers.current.dataWriteGuid;
  }

  describe(): Record<string, unknown> {
    const { metadata, headers, creator } = this.#layout;
    const { fileWriteGuid, dataWriteGuid, logGuid, logLength } = headers.current;
    const { replayed } = this.#journal;
    return {
      format: this.format,
      subformat: metadata.hasParent ? "differencing" : metadata.leaveAllocated ? "fixed" : "dynamic",
      size: this.size,
      blockSize: this.#blockSize,
      logicalSectorSize: this.sectorSize,
      physicalSectorSize: metadata.physicalSectorSize,
      creator,
      diskId: metadata.diskId,
      fileWriteGuid,
      dataWriteGuid,
      log: { size: logLength, guid: logGuid, replayedEntries: replayed },
      ...(metadata.locator && { parentLocator: metadata.locator.values }),
    };
  }

  // --- metadata in -------------------------------------------------------------------------------------------------------

  *load(): Flow {
    yield* this.#load(this.mapper.stopKey);
  }

  *#load(key: number): Flow {
    const bytes = key & 1 ? yield* this.#bitmapPage(key) : yield* this.#tablePage(key);
    const at = this.mapper.claimPage(key);
    this.mapper.memory.set(bytes, at);
    this.mapper.commitPage(key, at);
  }

  /** A page of slots, each checked. */
  *#tablePage(key: number): Flow<Uint8Array> {
    const firstBlock = (key / 2) * PAGE_SLOTS;
    const count = Math.min(PAGE_SLOTS, this.#bat.payloadBlocks - firstBlock);
    const firstEntry = this.#bat.payloadEntry(firstBlock);
    const entries = this.#bat.payloadEntry(firstBlock + count - 1) + 1 - firstEntry;
    const raw = yield* this.#journal.read(this.#entryPosition(firstEntry), entries * ENTRY_BYTES);
    const source = new DataView(raw.buffer);
    const page = new Uint8Array(PAGE);
    const slots = new DataView(page.buffer);
    const found: BatEntry[] = [];
    // Whole MiB, so that the lowest bit is free to mark the short ones, those of sector bitmaps.
    const places: number[] = [];
    for (let index = 0, block = firstBlock; index < entries; index++) {
      const entry = entryAt(source, index * ENTRY_BYTES);
      if (this.#bat.isBitmapEntry(firstEntry + index)) {
        if (entry.state === BITMAP_PRESENT) places.push(entry.position + 1);
        continue;
      }
      const sound = this.#fault(block, entry) === null;
      if (sound && hasPlace(entry)) places.push(entry.position);
      found.push(entry);
      if (sound) putSlot(slots, (block - firstBlock) * ENTRY_BYTES, entry);
      else putWrongSlot(slots, (block - firstBlock) * ENTRY_BYTES, entry);
      block++;
    }
    const shared = overlaps(places, this.#blockSize);
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
  #fault(block: number, entry: BatEntry): string | null {
    const { state } = entry;
    if (state === 4 || state === 5) return `has state ${state}, which is reserved`;
    if (state === State.PartiallyPresent && !this.parent) return "is partially present, but the disk has no parent";
    if (!hasPlace(entry)) return null;
    return this.#misplaced(entry.position, Math.min(this.#blockSize, this.size - block * this.#blockSize));
  }

  /** Why `length` bytes at `position` cannot be a block, or null. */
  #misplaced(position: number, length: number): string | null {
    const end = position + length;
    if (position < MiB) return "points into the header";
    if (end > this.#journal.end) return `points past the end, to byte ${position}`;
    for (const region of this.#layout.regions.all) {
      if (position < region.position + region.length && region.position < end) return `points into the ${region.name}`;
    }
    if (position < this.#store.size && end > this.#store.size) return "points to a block that is cut off";
    if (this.#journal.touches(position, length)) return "points to data that the log changes: open it writable once";
    return null;
  }

  *#bitmapPage(key: number): Flow<Uint8Array> {
    const page = this.mapper.pageBytes(key);
    const pagesPerBlock = this.#bat.bitmapBytes / page;
    const number = (key - 1) / 2;
    const block = Math.floor(number / pagesPerBlock);
    // Of a block that is all there no bitmap is kept.
    const { state } = yield* this.#slot(block);
    if (state !== State.PartiallyPresent) return new Uint8Array(page).fill(0xff);
    const start = yield* this.#bitmapStart(block);
    return mirror(yield* this.#journal.read(start + (number % pagesPerBlock) * page, page));
  }

  /** Where in the store the block's share of the sector bitmap is. @throws ParavaneError CORRUPT when there is none */
  *#bitmapStart(block: number): Flow<number> {
    const index = this.#bat.bitmapEntry(block);
    const { state, position } = yield* this.#rawEntry(index);
    const fault =
      state === BITMAP_PRESENT
        ? this.#misplaced(position, BITMAP_BYTES)
        : `has state ${state}, but block ${block} is partially present`;
    // What a replay in memory changes of a bitmap is read from that memory.
    if (fault === null || (state === BITMAP_PRESENT && this.#journal.touches(position, BITMAP_BYTES))) {
      return position + this.#bat.bitmapOffset(block);
    }
    throw this.#corruptEntry(index, fault);
  }

  *#rawEntry(index: number): Flow<BatEntry> {
    const bytes = yield* this.#journal.read(this.#entryPosition(index), ENTRY_BYTES);
    return entryAt(new DataView(bytes.buffer), 0);
  }

  #entryPosition(index: number): number {
    return this.#layout.regions.bat.position + index * ENTRY_BYTES;
  }

  fault(): ParavaneError {
    const block = Math.floor(this.mapper.stopOffset / this.#blockSize);
    const slot = this.#cachedSlot(block);
    const fault = slot && this.#fault(block, slot);
    return this.#corruptEntry(this.#bat.payloadEntry(block), fault ?? "shares its place with another block");
  }

  #corruptEntry(index: number, what: string): ParavaneError {
    const structure = "block allocation table";
    const context = { file: this.#store.name, structure, offset: this.#entryPosition(index) };
    return new ParavaneError("CORRUPT", `entry ${index} of the ${structure} ${what}`, context);
  }

  /** The block's slot; its page is brought in if need be. */
  *#slot(block: number): Flow<BatEntry & { wrong: boolean }> {
    const cached = this.#cachedSlot(block);
    if (cached) return cached;
    yield* this.#load(this.mapper.topKey(block * ENTRY_BYTES));
    return this.#cachedSlot(block)!;
  }

  #cachedSlot(block: number): (BatEntry & { wrong: boolean }) | null {
    const at = this.mapper.pageAt(this.mapper.topKey(block * ENTRY_BYTES));
    return at < 0 ? null : slotAt(this.#memory(), at + (block % PAGE_SLOTS) * ENTRY_BYTES);
  }

  #memory(): DataView {
    return new DataView(this.mapper.memory.buffer);
  }

  // --- metadata out ------------------------------------------------------------------------------------------------------

  *begin(): Flow {
    yield* this.#layout.headers.update({ fileWriteGuid: newGuid(), dataWriteGuid: newGuid() });
  }
  *sync(): Flow {
    yield* this.#journal.commit();
  }
  *finish(): Flow {
    yield* this.#journal.finish();
  }

  *allocate(offset: number, length: number): Flow {
    yield* this.#journal.bound();
    const block = Math.floor(offset / this.#blockSize);
    const within = offset % this.#blockSize;
    const { state } = yield* this.#slot(block);
    const hole = this.parent && state === State.NotPresent;
    if (state === State.PartiallyPresent || (hole && !this.#whole(block, offset, length))) {
      yield* this.#addSectors(block, within, Math.min(length, this.#blockSize - within), state);
    } else yield* this.#addBlocks(block, offset, length);
  }

  /** Does the range cover all of the block? */
  #whole(block: number, offset: number, length: number): boolean {
    const start = block * this.#blockSize;
    return offset <= start && offset + length >= Math.min(start + this.#blockSize, this.size);
  }

  /** Gives the block, and those after it in the range as far as they need the same, a place. It is all zeros. */
  *#addBlocks(first: number, offset: number, length: number): Flow {
    const last = Math.ceil((offset + length) / this.#blockSize);
    const key = this.mapper.topKey(first * ENTRY_BYTES);
    const spare = this.#spare.get(first);
    if (spare !== undefined) {
      yield* wait(this.#store.discard(spare, Math.min(this.#blockSize, this.#store.size - spare)));
      yield* this.#setEntry(first, { state: State.FullyPresent, position: spare });
      this.#spare.delete(first);
      return;
    }
    let next = first + 1;
    for (; next < last && this.mapper.topKey(next * ENTRY_BYTES) === key && !this.#spare.has(next); next++) {
      const { state, wrong } = this.#cachedSlot(next)!;
      if (wrong || hasPlace({ state })) break;
      if (this.parent && state === State.NotPresent && !this.#whole(next, offset, length)) break;
    }
    const start = yield* this.#grow((next - first) * this.#blockSize);
    for (let block = first; block < next; block++) {
      const position = start + (block - first) * this.#blockSize;
      yield* this.#setEntry(block, { state: State.FullyPresent, position });
    }
  }

  /** Marks sectors of a block as present in this file, which gets a place for it and its bitmap if they have none. */
  *#addSectors(block: number, within: number, length: number, state: number): Flow {
    const first = Math.floor(within / this.sectorSize);
    const end = first + length / this.sectorSize;
    if (state !== State.PartiallyPresent) {
      const bitmap = yield* this.#ensureBitmap(block);
      const position = yield* this.#grow(this.#blockSize);
      yield* this.#journal.change(bitmap, setBits(new Uint8Array(this.#bat.bitmapBytes), first, end));
      yield* this.#setEntry(block, { state: State.PartiallyPresent, position });
      return;
    }
    const { position } = yield* this.#slot(block);
    const bitmap = yield* this.#bitmapStart(block);
    const from = first >> 3;
    const bytes = yield* this.#journal.read(bitmap + from, ((end - 1) >> 3) + 1 - from);
    // A clear bit hides whatever lies in the block, which must not show up around what the guest writes.
    for (let bit = first; bit < end; ) {
      const clear = findBit(bytes, bit - from * 8, end - from * 8, 0) + from * 8;
      bit = findBit(bytes, clear - from * 8, end - from * 8, 1) + from * 8;
      if (bit > clear) {
        const place = position + clear * this.sectorSize;
        yield* wait(this.#store.discard(place, (bit - clear) * this.sectorSize));
      }
    }
    yield* this.#journal.change(bitmap + from, setBits(bytes, first - from * 8, end - from * 8));
    yield* this.#refreshBitmap(block);
  }

  /** Where the block's share of the sector bitmap is; its chunk gets one if it has none. */
  *#ensureBitmap(block: number): Flow<number> {
    const index = this.#bat.bitmapEntry(block);
    const { state } = yield* this.#rawEntry(index);
    if (state !== BITMAP_PRESENT) {
      const position = yield* this.#grow(BITMAP_BYTES);
      yield* this.#journal.change(this.#entryPosition(index), entryOf({ state: BITMAP_PRESENT, position }));
    }
    return yield* this.#bitmapStart(block);
  }

  /** Adds zeros at the end of the file; returns where. */
  *#grow(bytes: number): Flow<number> {
    const start = alignUp(this.#store.size, MiB);
    yield* wait(this.#store.resize(start + bytes));
    this.mapper.limit = this.#store.size + this.#blockSize;
    return start;
  }

  *#setEntry(block: number, entry: BatEntry): Flow {
    yield* this.#journal.change(this.#entryPosition(this.#bat.payloadEntry(block)), entryOf(entry));
    const at = this.mapper.pageAt(this.mapper.topKey(block * ENTRY_BYTES));
    if (at >= 0) putSlot(this.#memory(), at + (block % PAGE_SLOTS) * ENTRY_BYTES, entry);
    if (this.parent) yield* this.#refreshBitmap(block);
  }

  /** Makes the cached pages of the block's bitmap say what the block's entry and bitmap now say. */
  *#refreshBitmap(block: number): Flow {
    const step = this.mapper.pageBytes(1);
    for (let byte = 0; byte < this.#bat.bitmapBytes; byte += step) {
      const key = this.mapper.leafKey(block, byte);
      if (this.mapper.pageAt(key) < 0) continue;
      const bytes = yield* this.#bitmapPage(key);
      const at = this.mapper.pageAt(key);
      if (at >= 0) this.mapper.memory.set(bytes, at);
    }
  }

  *zero(offset: number, length: number): Flow<number> {
    yield* this.#journal.bound();
    const first = Math.floor(offset / this.#blockSize);
    const end = offset + length;
    const key = this.mapper.topKey(first * ENTRY_BYTES);
    let done = 0;
    for (let block = first; offset + done < end && this.mapper.topKey(block * ENTRY_BYTES) === key; block++) {
      const entry = yield* this.#slot(block);
      const { state } = entry;
      if (entry.wrong) break;
      const isZero = state === State.Zero || (state === State.NotPresent && !this.parent);
      if (!isZero) {
        if (!this.#whole(block, offset, length) || (hasPlace(entry) && this.#layout.metadata.leaveAllocated)) break;
        yield* this.#setEntry(block, { state: State.Zero, position: 0 });
        if (hasPlace(entry) && this.#spare.size < MAX_SPARE) this.#spare.set(block, entry.position);
      }
      done = Math.min((block + 1) * this.#blockSize, end) - offset;
    }
    return done;
  }
}

function hasPlace({ state }: { state: number }): boolean {
  return state === State.FullyPresent || state === State.PartiallyPresent;
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
