import type { Block } from "../../core/block.ts";
import { ParavaneError } from "../../core/error.ts";
import { type Flow, wait } from "../../core/flow.ts";
import { ExtentKind, type Image, type Mapper, MapStop } from "../../core/format.ts";
import type { Store } from "../../core/store.ts";

/** Bytes of scratch space taken at a time. */
const GROWTH = 1 << 22;
/** Instead of a slot number: every sector of the cluster reads as zeros, and no scratch space is taken. */
const ZEROS = -1;

/**
 * What was written over a base block, kept in a scratch store: an image whose backing is the base. The map is in memory
 * only, so the changes end with it. A cluster has a slot in scratch from its first write on, and a bit for each sector that
 * was written; the rest of it still comes from the base, so that a small write reads nothing.
 */
export class OverlayImage implements Image, Mapper {
  readonly format = "overlay";
  readonly size: number;
  readonly sectorSize: number;
  readonly mapper = this;
  readonly dirty = false;
  readonly zeroUnit: number;
  readonly #base: Block;
  readonly #scratch: Store;
  /** Cluster → slot, or ZEROS. */
  readonly #slots = new Map<number, number>();
  /** Words per slot of the written-sectors bits. */
  readonly #words: number;
  #bits = new Uint32Array(1024);
  #nextSlot = 0;

  constructor(base: Block, scratch: Store, clusterBytes: number) {
    this.size = base.size;
    this.sectorSize = base.sectorSize;
    this.zeroUnit = clusterBytes;
    this.#base = base;
    this.#scratch = scratch;
    this.#words = Math.ceil(clusterBytes / this.sectorSize / 32);
  }

  // --- Mapper ------------------------------------------------------------------------------------------------------------

  readonly maxRanges = 256;
  extentCount = 0;
  stopRange = 0;
  stopOffset = 0;
  stopLength = 0;
  readonly stopKey = 0;
  readonly stopPosition = 0;
  /** Offset, length and write of each range; then range, kind, length and position of each extent. */
  readonly #ranges = new Float64Array(this.maxRanges * 3);
  readonly #extents = new Float64Array(1024 * 4);

  setRange(index: number, offset: number, length: number, write: boolean): void {
    this.#ranges[index * 3] = offset;
    this.#ranges[index * 3 + 1] = length;
    this.#ranges[index * 3 + 2] = write ? 1 : 0;
  }
  extentRange(index: number): number {
    return this.#extents[index * 4];
  }
  extentKind(index: number): ExtentKind {
    return this.#extents[index * 4 + 1] as ExtentKind;
  }
  extentLength(index: number): number {
    return this.#extents[index * 4 + 2];
  }
  extentPosition(index: number): number {
    return this.#extents[index * 4 + 3];
  }

  resolve(count: number): MapStop {
    this.extentCount = 0;
    for (let range = 0; range < count; range++) {
      const at = range * 3;
      while (this.#ranges[at + 1] > 0) {
        const offset = this.#ranges[at];
        const left = this.#ranges[at + 1];
        const slot = this.#slots.get(Math.floor(offset / this.zeroUnit));
        const length = this.#run(offset, left, slot);
        const kind =
          slot === ZEROS ? ExtentKind.Zero : this.#written(offset, slot) ? ExtentKind.Data : ExtentKind.Backing;
        if (this.#ranges[at + 2] === 1 && kind !== ExtentKind.Data) {
          this.stopRange = range;
          this.stopOffset = offset;
          this.stopLength = length;
          return MapStop.Allocate;
        }
        const position = kind === ExtentKind.Data ? slot! * this.zeroUnit + (offset % this.zeroUnit) : 0;
        if (!this.#emit(range, kind, length, position)) return MapStop.Full;
        this.#ranges[at] = offset + length;
        this.#ranges[at + 1] = left - length;
      }
    }
    return MapStop.Done;
  }

  /** Bytes from `offset`, in its cluster, whose sectors are in the same state. */
  #run(offset: number, left: number, slot: number | undefined): number {
    const end = Math.min(left, this.zeroUnit - (offset % this.zeroUnit));
    if (slot === undefined || slot === ZEROS) return end;
    const first = this.#written(offset, slot);
    let length = this.sectorSize;
    while (length < end && this.#written(offset + length, slot) === first) length += this.sectorSize;
    return Math.min(length, end);
  }

  #written(offset: number, slot: number | undefined): boolean {
    if (slot === undefined) return false;
    const sector = Math.floor((offset % this.zeroUnit) / this.sectorSize);
    return ((this.#bits[slot * this.#words + (sector >>> 5)] >>> (sector & 31)) & 1) === 1;
  }

  #emit(range: number, kind: ExtentKind, length: number, position: number): boolean {
    const last = (this.extentCount - 1) * 4;
    const [lastRange, lastKind, lastLength, lastPosition] = this.#extents.subarray(Math.max(0, last), last + 4);
    if (last >= 0 && lastRange === range && lastKind === kind) {
      if (kind !== ExtentKind.Data || lastPosition + lastLength === position) {
        this.#extents[last + 2] += length;
        return true;
      }
    }
    if (last + 4 === this.#extents.length) return false;
    this.#extents.set([range, kind, length, position], last + 4);
    this.extentCount++;
    return true;
  }

  // --- Image -------------------------------------------------------------------------------------------------------------

  /** One cluster, or the part of it that is asked for. */
  *allocate(offset: number, length: number): Flow {
    const cluster = Math.floor(offset / this.zeroUnit);
    let slot = this.#slots.get(cluster);
    const zeros = slot === ZEROS;
    if (slot === undefined || zeros) {
      slot = this.#nextSlot;
      const end = (slot + 1) * this.zeroUnit;
      // Readable at once, whoever reads before the write arrives.
      if (end > this.#scratch.size) yield* wait(this.#scratch.resize(end + GROWTH));
      const words = (slot + 1) * this.#words;
      if (words > this.#bits.length) {
        const grown = new Uint32Array(words * 2);
        grown.set(this.#bits);
        this.#bits = grown;
      }
      this.#nextSlot++;
    }
    const first = zeros ? 0 : offset % this.zeroUnit;
    const last = zeros ? this.zeroUnit : Math.min(this.zeroUnit, first + length);
    for (let at = first; at < last; at += this.sectorSize) {
      const sector = at / this.sectorSize;
      this.#bits[slot * this.#words + (sector >>> 5)] |= 1 << (sector & 31);
    }
    this.#slots.set(cluster, slot);
  }

  /** Whole clusters; one that has a slot keeps it, and zeros are written there. */
  *zero(offset: number, length: number): Flow<number> {
    if (offset % this.zeroUnit !== 0) return 0;
    let done = 0;
    while (done < length) {
      const at = offset + done;
      const unit = Math.min(this.zeroUnit, this.size - at);
      const cluster = at / this.zeroUnit;
      if (length - done < unit || (this.#slots.get(cluster) ?? ZEROS) !== ZEROS) break;
      this.#slots.set(cluster, ZEROS);
      done += unit;
    }
    return done;
  }

  // The map is always whole, and nothing of it is kept.
  *load(): Flow {}
  *sync(): Flow {}
  fault(): ParavaneError {
    return new ParavaneError("CORRUPT", "an overlay's map is in memory");
  }

  describe(): Record<string, unknown> {
    return { format: this.format, size: this.size, base: this.#base.size, changed: this.#nextSlot * this.zeroUnit };
  }
}
