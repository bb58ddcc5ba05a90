import type { Block } from "../../../core/block.ts";
import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { Image, NewParent, ParentReference } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import type { CoreMapper } from "../../../wasm/map.ts";
import { newGuid } from "../guid.ts";
import { BITMAP_BYTES, BITMAP_PRESENT, entryOf, hasPlace, State } from "./bat.ts";
import { findBit, setBits } from "./bitmap.ts";
import type { Headers } from "./header.ts";
import { alignUp, MiB } from "./io.ts";
import type { Journal } from "./journal.ts";
import { parentReference } from "./locator.ts";
import type { Metadata } from "./metadata.ts";
import { empty, setParent } from "./parent.ts";
import type { Regions } from "./regions.ts";
import { checkSize, grow, shrink } from "./resize.ts";
import { survey } from "./survey.ts";
import { BlockTable } from "./table.ts";

/** What `open` found out. */
export interface Layout {
  store: Store;
  creator: string;
  headers: Headers;
  journal: Journal;
  regions: Regions;
  metadata: Metadata;
}

/** Places of zeroed blocks remembered, to be used again. */
const MAX_SPARE = 65536;
/**
 * Tables of so many entries, 8 MiB, are searched for blocks in one place before the first change; in larger ones only
 * those of one page are seen, and the rest by `check`.
 */
const MAX_SURVEYED = 2 ** 20;

/** Fixed, dynamic and differencing disks: they differ only in what their table says. */
export class VhdxImage implements Image {
  readonly format = "vhdx";
  readonly sectorSize: number;
  readonly zeroUnit: number;
  readonly #layout: Layout;
  readonly #store: Store;
  readonly #journal: Journal;
  readonly #blockSize: number;
  #table: BlockTable;
  /** Block → where it was before it was zeroed. Only that block goes there again: writes to it may still be under way. */
  readonly #spare = new Map<number, number>();
  /** Bytes of the parent. */
  #covered = 0;
  /** The table has been looked at as a whole. */
  #sound = false;

  constructor(layout: Layout) {
    const { metadata, regions, store, journal } = layout;
    this.#layout = layout;
    this.#store = store;
    this.#journal = journal;
    this.sectorSize = metadata.logicalSectorSize;
    this.#blockSize = this.zeroUnit = metadata.blockSize;
    this.#table = new BlockTable(store, journal, regions, metadata);
  }

  get size(): number {
    return this.#layout.metadata.size;
  }
  get parent(): ParentReference | undefined {
    const { locator } = this.#layout.metadata;
    return locator && parentReference(locator);
  }
  get #hasParent(): boolean {
    return this.#layout.metadata.hasParent;
  }
  get mapper(): CoreMapper {
    return this.#table.mapper;
  }
  /** For `check`. */
  get parts(): Layout & { table: BlockTable } {
    return { ...this.#layout, table: this.#table };
  }

  get dirty(): boolean {
    return this.#journal.dirty;
  }
  get crowded(): boolean {
    return this.#journal.crowded;
  }
  /** Made up beforehand, so that whoever is going to write to this disk can note it in those based on it. */
  readonly nextIdentity = newGuid();
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

  *load(): Flow {
    yield* this.#table.load(this.mapper.stopKey);
  }
  fault(): ParavaneError {
    return this.#table.faultAt(Math.floor(this.mapper.stopOffset / this.#blockSize));
  }
  /** @throws ParavaneError INVALID when requests of this disk's sectors could not be passed on */
  attach(backing: Block): void {
    this.#covered = backing.size;
    if (backing.sectorSize <= this.sectorSize) return;
    throw new ParavaneError(
      "INVALID",
      `the parent has sectors of ${backing.sectorSize} bytes, this disk of ${this.sectorSize}`,
      { file: this.#store.name },
    );
  }

  /** @throws ParavaneError CORRUPT when a write to one block would change another */
  *begin(): Flow {
    if (!this.#sound && this.#table.bat.entries <= MAX_SURVEYED) {
      yield* survey(this.#layout, this.#table, (index, fault) => {
        if (fault.startsWith("shares")) throw this.#table.corruptEntry(index, fault);
      });
      this.#sound = true;
    }
    yield* this.#layout.headers.update({ fileWriteGuid: newGuid(), dataWriteGuid: this.nextIdentity });
  }
  *sync(): Flow {
    yield* this.#journal.commit();
  }
  *finish(): Flow {
    yield* this.#journal.finish();
  }

  *allocate(offset: number, length: number): Flow {
    const block = Math.floor(offset / this.#blockSize);
    const within = offset % this.#blockSize;
    const { state } = yield* this.#table.slot(block);
    const hole = this.#hasParent && state === State.NotPresent;
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
    const spare = this.#spare.get(first);
    if (spare !== undefined) {
      yield* wait(this.#store.discard(spare, Math.min(this.#blockSize, this.#store.size - spare)));
      yield* this.#table.put(first, { state: State.FullyPresent, position: spare });
      this.#spare.delete(first);
      return;
    }
    let next = first + 1;
    for (; next < last && this.#table.together(first, next) && !this.#spare.has(next); next++) {
      const { state, wrong } = this.#table.cachedSlot(next)!;
      if (wrong || hasPlace({ state })) break;
      if (this.#hasParent && state === State.NotPresent && !this.#whole(next, offset, length)) break;
    }
    const start = yield* this.#grow((next - first) * this.#blockSize);
    for (let block = first; block < next; block++) {
      const position = start + (block - first) * this.#blockSize;
      yield* this.#table.put(block, { state: State.FullyPresent, position });
    }
  }

  /** Marks sectors of a block as present in this file, which gets a place for it and its bitmap if they have none. */
  *#addSectors(block: number, within: number, length: number, state: number): Flow {
    const first = Math.floor(within / this.sectorSize);
    const end = first + length / this.sectorSize;
    if (state !== State.PartiallyPresent) {
      const bitmap = yield* this.#ensureBitmap(block);
      const position = yield* this.#grow(this.#blockSize);
      yield* this.#journal.change(bitmap, setBits(new Uint8Array(this.#table.bat.bitmapBytes), first, end));
      yield* this.#table.put(block, { state: State.PartiallyPresent, position });
      return;
    }
    const { position } = yield* this.#table.slot(block);
    const bitmap = yield* this.#table.bitmapStart(block);
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
    yield* this.#table.refreshBitmap(block);
  }

  /** Where the block's share of the sector bitmap is; its chunk gets one if it has none. */
  *#ensureBitmap(block: number): Flow<number> {
    const index = this.#table.bat.bitmapEntry(block);
    const { state } = yield* this.#table.rawEntry(index);
    if (state !== BITMAP_PRESENT) {
      const position = yield* this.#grow(BITMAP_BYTES);
      yield* this.#journal.change(this.#table.entryPosition(index), entryOf({ state: BITMAP_PRESENT, position }));
    }
    return yield* this.#table.bitmapStart(block);
  }

  /** Adds zeros at the end of the file; returns where. */
  *#grow(bytes: number): Flow<number> {
    const start = alignUp(this.#store.size, MiB);
    yield* wait(this.#store.resize(start + bytes));
    this.#table.grown();
    return start;
  }

  *zero(offset: number, length: number): Flow<number> {
    const first = Math.floor(offset / this.#blockSize);
    const end = offset + length;
    let done = 0;
    for (let block = first; offset + done < end && this.#table.together(first, block); block++) {
      const entry = yield* this.#table.slot(block);
      const { state } = entry;
      if (entry.wrong) break;
      const isZero = state === State.Zero || (state === State.NotPresent && !this.#hasParent);
      if (!isZero) {
        if (!this.#whole(block, offset, length) || (hasPlace(entry) && this.#layout.metadata.leaveAllocated)) break;
        yield* this.#table.put(block, { state: State.Zero, position: 0 });
        if (hasPlace(entry) && this.#spare.size < MAX_SPARE) this.#spare.set(block, entry.position);
      }
      done = Math.min((block + 1) * this.#blockSize, end) - offset;
    }
    return done;
  }

  /** @throws ParavaneError INVALID, NO_SPACE */
  *resize(size: number): Flow {
    checkSize(this.#layout, size);
    yield* this.#settle();
    const before = this.size;
    if (size > before) {
      yield* this.#hideParent();
      yield* this.#settle();
      yield* grow(this.#layout, size, this.#covered);
    } else if (size < before) yield* shrink(this.#layout, size);
    this.#renew();
    if (size >= before) return;
    const used = yield* survey(this.#layout, this.#table, () => {});
    if (used.end < this.#store.size) yield* this.#journal.truncate(used.end);
    this.#spare.clear();
  }

  /** The block that the disk ends in shows zeros beyond that end once there is more of it, whatever the parent has there. */
  *#hideParent(): Flow {
    const within = this.size % this.#blockSize;
    if (within === 0 || this.#covered <= this.size) return;
    const block = Math.floor(this.size / this.#blockSize);
    const { state, wrong } = yield* this.#table.slot(block);
    if (wrong || (state !== State.NotPresent && state !== State.PartiallyPresent)) return;
    yield* this.#addSectors(block, within, this.#blockSize - within, state);
  }

  /** @throws ParavaneError INVALID, NO_SPACE */
  *setParent(parent: NewParent | undefined): Flow {
    if (!parent && !this.parent) return;
    yield* this.#settle();
    yield* setParent(this.#layout, this.#table, parent);
    this.#renew();
  }

  /** @throws ParavaneError UNSUPPORTED, for a fixed disk */
  *empty(): Flow {
    yield* this.#settle();
    yield* empty(this.#layout, this.#table);
    this.#spare.clear();
    this.#renew();
  }

  *#settle(): Flow {
    yield* wait(this.#store.flush());
    yield* this.#journal.commit();
    yield* wait(this.#store.flush());
  }

  /** After the layout has changed. */
  #renew(): void {
    const { regions, metadata } = this.#layout;
    this.#table = new BlockTable(this.#store, this.#journal, regions, metadata);
  }
}
