// Block Allocation Table (VHD 1.0): for each block the absolute sector of its bitmap, 32 bits, big-endian; all ones when
// there is none.
import type { Flow } from "../../../core/flow.ts";
import type { Store } from "../../../core/store.ts";
import { SECTOR } from "./footer.ts";
import { bitmapBytes, HEADER_BYTES, UNUSED } from "./header.ts";
import { align, read } from "./io.ts";
import type { DynamicLayout } from "./layout.ts";

/** Bytes of the table looked at a time. */
const RUN = 65536;

/** Shows every entry of the table at `position` that is not unused. */
export function* eachEntry(
  store: Store,
  position: number,
  entries: number,
  visit: (sector: number, index: number) => void,
): Flow {
  for (let at = 0; at < entries * 4; at += RUN) {
    const bytes = yield* read(store, position + at, Math.min(RUN, entries * 4 - at));
    const view = new DataView(bytes.buffer);
    const words = new Uint32Array(bytes.buffer);
    for (let i = 0; i < words.length; i++) if (words[i] !== UNUSED) visit(view.getUint32(i * 4), at / 4 + i);
  }
}

/** What the data of new blocks begins a multiple of: a page of the host's cache, a sector of its disk. */
const PAGE = 4096;
/** Blocks smaller than this lie close together. */
const MIN_ALIGNED = 65536;

/**
 * What a block takes, and where new ones go. The format lets a block begin at any sector; new ones are put so that 4 KiB of
 * the guest are 4 KiB of the host, which costs 3.5 KiB of each block of 2 MiB. All are bytes.
 */
export class Spacing {
  /** Of a block's bitmap, of both together, and from one new block to the next. */
  readonly bitmap: number;
  readonly stride: number;
  readonly step: number;
  readonly #unit: number;

  constructor(blockSize: number) {
    this.bitmap = bitmapBytes(blockSize);
    this.stride = this.bitmap + blockSize;
    this.#unit = blockSize < MIN_ALIGNED ? SECTOR : PAGE;
    this.step = Math.ceil(this.stride / this.#unit) * this.#unit;
  }

  /** Where the first new block begins that lies at `position` or behind it. */
  next(position: number): number {
    return Math.ceil((position + this.bitmap) / this.#unit) * this.#unit - this.bitmap;
  }

  /** The same within a gap that ends at `end`, wherever in it a block has room. */
  within(position: number, end: number): number {
    const next = this.next(position);
    return next + this.stride <= end ? next : align(position);
  }
}

/** Where the blocks of one image may lie. Positions are bytes. */
export class Ground extends Spacing {
  /** Nothing may lie over the footer copy at 0, nor over the header where it follows that, as it always does. */
  readonly base: number;
  readonly #table: number;
  readonly #tableEnd: number;

  constructor({ header, headerPosition, tablePosition }: DynamicLayout) {
    super(header.blockSize);
    this.base = headerPosition === SECTOR ? SECTOR + HEADER_BYTES : SECTOR;
    this.#table = tablePosition;
    this.#tableEnd = tablePosition + header.entries * 4;
  }

  /** Can an entry say that, when data ends at `end`? As the map decides it. */
  holds(sector: number, end: number): boolean {
    const start = sector * SECTOR;
    const last = start + this.stride;
    return sector !== UNUSED && start >= this.base && last <= end && (last <= this.#table || start >= this.#tableEnd);
  }
}

/**
 * The sectors of blocks that begin in the middle of, or at the same place as, another one: a write to one would change the
 * other. Takes four bytes of memory a block.
 */
export function* overlapping(store: Store, layout: DynamicLayout, end: number): Flow<Set<number>> {
  const ground = new Ground(layout);
  let count = 0;
  yield* eachEntry(store, layout.tablePosition, layout.header.entries, (sector) => {
    if (ground.holds(sector, end)) count++;
  });
  const sectors = new Uint32Array(count);
  yield* eachEntry(store, layout.tablePosition, layout.header.entries, (sector) => {
    if (count > 0 && ground.holds(sector, end)) sectors[--count] = sector;
  });
  sectors.sort();
  const shared = new Set<number>();
  for (let i = 1; i < sectors.length; i++) {
    if ((sectors[i] - sectors[i - 1]) * SECTOR < ground.stride) shared.add(sectors[i]);
  }
  return shared;
}

export interface Range {
  start: number;
  end: number;
}

/** Do header, table and all blocks leave these bytes alone? */
export function* untouched(store: Store, layout: DynamicLayout, end: number, ranges: readonly Range[]): Flow<boolean> {
  const ground = new Ground(layout);
  const { header, headerPosition, tablePosition } = layout;
  const meets = (start: number, length: number) =>
    ranges.some((range) => range.start < start + length && start < range.end);
  let free = ranges.every((range) => range.start >= SECTOR && range.end <= end);
  if (meets(headerPosition, HEADER_BYTES) || meets(tablePosition, header.entries * 4)) free = false;
  yield* eachEntry(store, tablePosition, header.entries, (sector) => {
    if (ground.holds(sector, end) && meets(sector * SECTOR, ground.stride)) free = false;
  });
  return free;
}

/** Places remembered at most: 4 MiB of memory, all the blocks of a 2,040 GiB disk. */
const PART = 4096;
const MAX_PARTS = 256;

/**
 * Which places the pages of the table that were seen have taken. In bytes [n × stride, (n + 1) × stride) of the file one
 * block at most can begin, so that one number for each of these is enough. With too many of them the oldest are forgotten.
 */
export class Claims {
  /** Sectors. */
  readonly #stride: number;
  /** Number of the part → for each of its 4,096 pieces of the file, the sector where a block begins; 0: none. */
  readonly #parts = new Map<number, Uint32Array>();

  constructor(strideBytes: number) {
    this.#stride = strideBytes / SECTOR;
  }

  /** False when another block has some of the place. */
  take(sector: number): boolean {
    const piece = Math.floor(sector / this.#stride);
    for (let near = Math.max(0, piece - 1); near <= piece + 1; near++) {
      const other = this.#parts.get(Math.floor(near / PART))?.[near % PART] ?? 0;
      if (other !== 0 && Math.abs(other - sector) < this.#stride) return false;
    }
    const number = Math.floor(piece / PART);
    let part = this.#parts.get(number);
    if (!part) {
      if (this.#parts.size === MAX_PARTS) this.#parts.delete(this.#parts.keys().next().value!);
      this.#parts.set(number, (part = new Uint32Array(PART)));
    }
    part[piece % PART] = sector;
    return true;
  }
}
