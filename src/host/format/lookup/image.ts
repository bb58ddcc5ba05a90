import type { Block } from "../../../core/block.ts";
import { ParavaneError } from "../../../core/error.ts";
import { type Flow, type Later, wait } from "../../../core/flow.ts";
import type { Image, ParentReference } from "../../../core/format.ts";
import type { SegmentList } from "../../../core/segments.ts";
import type { Store } from "../../../core/store.ts";
import { corrupt, read } from "../io.ts";
import { Scatter } from "../scatter.ts";
import { type Found, LookupMapper, type Unit } from "./mapper.ts";
import { Pages } from "./pages.ts";

/** Unpacked units are kept, so that small reads of one do not unpack it again and again. */
const CACHE_BYTES = 2 ** 22;

/** An image of a format that is only read: its tables are looked up as they are on disk, and its packed units unpacked. */
export abstract class LookupImage implements Image {
  abstract readonly format: string;
  readonly sectorSize = 512;
  readonly store: Store;
  size: number;
  readonly mapper: LookupMapper;
  protected readonly pages: Pages;
  /** By position in the store; the least recently used first. */
  readonly #unpacked = new Map<number, Uint8Array>();

  constructor(store: Store, size: number) {
    this.store = store;
    this.size = size;
    this.pages = new Pages(store);
    this.mapper = new LookupMapper((offset, wanted) => this.find(offset, wanted));
  }

  get dirty(): boolean {
    return false;
  }
  get parent(): ParentReference | undefined {
    return undefined;
  }

  /**
   * What is at `offset`, which is in the disk.
   * @param wanted bytes that are asked for: no more need to be looked at
   * @throws Missing, ParavaneError CORRUPT
   */
  abstract find(offset: number, wanted?: number): Found;

  /** The name of a packed unit in this format. */
  protected readonly unitName: string = "compressed block";

  /** Exactly `unit.size` bytes. @throws RangeError when what is packed is damaged */
  protected unpackBytes(_packed: Uint8Array, _unit: Unit): Later<Uint8Array> {
    throw new RangeError("nothing is compressed here");
  }

  abstract describe(): Record<string, unknown>;

  attach(_backing: Block): void {}
  *load(): Flow {
    yield* this.loadPage(this.mapper.stopKey);
  }
  /** What a look-up said to be missing. */
  *loadPage(page: number): Flow {
    yield* this.pages.load(page);
  }
  *sync(): Flow {}
  fault(): ParavaneError {
    return this.mapper.damage!;
  }
  // Nobody opens it for writing.
  *allocate(): Flow {
    throw new ParavaneError("READ_ONLY", `${this.format} images are only read`, { file: this.store.name });
  }

  /** The units that [offset, end) is in, all of them compressed. */
  protected packedUnits(offset: number, end: number): Unit[] {
    const units: Unit[] = [];
    for (let at = offset; at < end; ) {
      const { unit, length } = this.find(at);
      units.push(unit!);
      at += length;
    }
    return units;
  }

  *unpack(offset: number, memory: Uint8Array, segments: SegmentList): Flow {
    const end = offset + segments.total;
    const scatter = new Scatter(memory, segments);
    for (const [i, unit] of this.packedUnits(offset, end).entries()) {
      const from = i === 0 ? offset - unit.start : 0;
      const bytes = yield* this.open(unit, from, Math.min(unit.size, end - unit.start));
      scatter.put(unit.start + from - offset, bytes);
    }
  }

  /** Bytes [from, to) of a unit. */
  protected *open(unit: Unit, from: number, to: number): Flow<Uint8Array> {
    return (yield* this.unpackUnit(unit)).subarray(from, to);
  }

  /** Guest bytes of the whole unit. @throws ParavaneError CORRUPT */
  *unpackUnit(unit: Unit): Flow<Uint8Array> {
    const { position, packed, size } = unit;
    const cached = this.#unpacked.get(position);
    if (cached?.length === size) {
      this.#unpacked.delete(position);
      this.#unpacked.set(position, cached);
      return cached;
    }
    const stored = yield* read(this.store, position, packed);
    let bytes: Uint8Array;
    try {
      bytes = yield* wait(this.unpackBytes(stored, unit));
    } catch (thrown) {
      if (!(thrown instanceof RangeError)) throw thrown;
      throw corrupt(this.store, this.unitName, position, `does not unpack: ${thrown.message}`);
    }
    let held = size;
    for (const { length } of this.#unpacked.values()) held += length;
    for (const [key, { length }] of this.#unpacked) {
      if (held <= CACHE_BYTES) break;
      this.#unpacked.delete(key);
      held -= length;
    }
    this.#unpacked.set(position, bytes);
    return bytes;
  }
}
