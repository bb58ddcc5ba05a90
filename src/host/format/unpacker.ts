import { type Flow, type Later, wait } from "../../core/flow.ts";
import { SegmentList } from "../../core/segments.ts";
import type { Store } from "../../core/store.ts";
import { UnpackBuffers } from "../../wasm/unpack.ts";

/** Bytes that were compressed together, and where they are. */
export interface PackedUnit {
  /** Byte in the store, and how many there may belong to it; the store may end before. */
  position: number;
  packed: number;
  /** Bytes that it holds. */
  size: number;
}

/** How a format's units are unpacked. */
export interface Codec<U extends PackedUnit> {
  /** Makes `packed` what the unit's own first bytes say. @throws ParavaneError when that cannot be */
  measure?(bytes: Uint8Array, unit: U): void;
  /** The same as `here`, by the caller's decoder, where that pays. */
  elsewhere?(bytes: Uint8Array, unit: U): Later<Uint8Array> | undefined;
  /** Is what `elsewhere` made right? It is in the slot. Where not, or where that failed, `here` judges; without this, it does. */
  proves?(buffers: UnpackBuffers, slot: number, bytes: Uint8Array, unit: U): boolean;
  /** Unpacks an area's bytes into a slot, now. @throws RangeError when they are damaged */
  here(buffers: UnpackBuffers, slot: number, bytes: Uint8Array, unit: U): void;
  /** The error that says so. */
  damaged(unit: U, what: string): Error;
}

/** Unpacked units are kept, so that small reads of one do not unpack it again and again. */
const CACHE_BYTES = 2 ** 22;
/** Units that lie side by side are read together: so many bytes, from so many readers. */
const AREA_BYTES = 2 ** 19;
const AREAS = 6;
/** Bytes between units that are read in vain rather than asked for apart. */
const GAP = 2 ** 14;

/** Reads what is stored compressed, with a bounded cache. */
export class Unpacker<U extends PackedUnit> {
  readonly #store: Store;
  readonly #codec: Codec<U>;
  readonly #unitBytes: number;
  /** There once something is unpacked. */
  #buffers: UnpackBuffers | undefined;
  /** Slots by position in the store; the least recently used first. */
  readonly #cached = new Map<number, number>();
  readonly #freeSlots: number[] = [];
  readonly #freeAreas: Uint8Array[] = [];
  readonly #waiting: (() => void)[] = [];

  /** @param unitBytes the most that a unit holds; packed, it takes at most twice that, and 4 KiB */
  constructor(store: Store, unitBytes: number, codec: Codec<U>) {
    this.#store = store;
    this.#unitBytes = unitBytes;
    this.#codec = codec;
  }

  /**
   * Hands out what the units hold, in the order of the store; the bytes are good during the call only.
   * @throws ParavaneError CORRUPT, and what the store throws
   */
  *each(given: readonly U[], use: (bytes: Uint8Array, index: number) => void): Flow {
    // Writers that do several things at a time leave neighbours in any order.
    const order = [...given.keys()].sort((a, b) => given[a].position - given[b].position);
    yield* this.#ordered(
      order.map((index) => given[index]),
      (bytes, i) => use(bytes, order[i]),
    );
  }

  *#ordered(units: readonly U[], use: (bytes: Uint8Array, index: number) => void): Flow {
    const buffers = this.#open();
    for (let i = 0; i < units.length; ) {
      const slot = this.#cached.get(units[i].position);
      if (slot !== undefined) {
        this.#keep(units[i], slot);
        use(buffers.slots[slot].subarray(0, units[i].size), i++);
        continue;
      }
      const area = yield* this.#area();
      try {
        i = yield* this.#group(area, units, i, use);
      } finally {
        this.#freeAreas.push(area);
        this.#waiting.shift()?.();
      }
    }
  }

  /** To be called before the space of units is used again. */
  forget(): void {
    this.#freeSlots.push(...this.#cached.values());
    this.#cached.clear();
  }

  #open(): UnpackBuffers {
    if (this.#buffers) return this.#buffers;
    const slotBytes = this.#unitBytes;
    const slots = Math.max(2, Math.floor(CACHE_BYTES / slotBytes));
    const areaBytes = Math.max(AREA_BYTES, slotBytes * 2 + 4096);
    this.#buffers = new UnpackBuffers({ areas: AREAS, areaBytes, slots, slotBytes });
    this.#freeAreas.push(...this.#buffers.areas);
    this.#freeSlots.push(...this.#buffers.slots.keys());
    return this.#buffers;
  }

  *#area(): Flow<Uint8Array> {
    for (;;) {
      const area = this.#freeAreas.pop();
      if (area) return area;
      yield new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  /** Reads the unit and those that follow it in the store, and unpacks them; returns the first unit that is left. */
  *#group(area: Uint8Array, units: readonly U[], first: number, use: (bytes: Uint8Array, index: number) => void) {
    const codec = this.#codec;
    const { position: start } = units[first];
    let end = start + units[first].packed;
    let next = first + 1;
    for (; next < units.length; next++) {
      const { position, packed } = units[next];
      if (position > end + GAP || position + packed - start > area.length || this.#cached.has(position)) break;
      end = Math.max(end, position + packed);
    }
    end = Math.min(end, this.#store.size);
    yield* this.#read(area, start, end);
    const bytesOf = ({ position, packed }: U) =>
      area.subarray(position - start, Math.min(position + packed, end) - start);
    const group = units.slice(first, next);
    for (const [i, unit] of group.entries()) {
      codec.measure?.(bytesOf(unit), unit);
      if (unit.position + unit.packed <= end || i === 0) continue;
      // It is longer than it was thought to be; so it and those after it are read again.
      group.splice(i);
      next = first + i;
      break;
    }
    // The first one alone may be too long for what was read.
    if (group[0].position + group[0].packed > end && end < this.#store.size) {
      end = Math.min(start + group[0].packed, this.#store.size);
      yield* this.#read(area, start, end);
      group.splice(1);
      next = first + 1;
    }
    const others = group.map((unit) => this.#begin(bytesOf(unit), unit));
    for (const [i, unit] of group.entries()) {
      const outcome = yield* wait(others[i]);
      use(this.#unpack(bytesOf(unit), unit, outcome), first + i);
    }
    return next;
  }

  /** What the caller's decoder makes of it, or throws; nothing when it is not asked. */
  #begin(packed: Uint8Array, unit: U): Later<Outcome | undefined> {
    const failed = (thrown: unknown): Outcome => ({
      thrown: thrown instanceof Error ? thrown.message : String(thrown),
    });
    try {
      const bytes = this.#codec.elsewhere?.(packed, unit);
      if (bytes instanceof Promise) return bytes.then((bytes) => ({ bytes }), failed);
      return bytes && { bytes };
    } catch (thrown) {
      return failed(thrown);
    }
  }

  *#read(area: Uint8Array, start: number, end: number): Flow {
    yield* wait(this.#store.readv(start, area, SegmentList.of(0, end - start)));
  }

  #unpack(packed: Uint8Array, unit: U, outcome: Outcome | undefined): Uint8Array {
    const codec = this.#codec;
    const buffers = this.#buffers!;
    const wrong = outcome && !codec.proves && fault(outcome, unit.size);
    if (wrong) throw codec.damaged(unit, wrong);
    const slot = this.#cached.get(unit.position) ?? this.#freeSlots.pop() ?? this.#oldest();
    const bytes = buffers.slots[slot].subarray(0, unit.size);
    this.#cached.delete(unit.position);
    try {
      let done = outcome?.bytes?.length === unit.size;
      if (done) bytes.set(outcome!.bytes!);
      if (done && codec.proves) done = codec.proves(buffers, slot, packed, unit);
      if (!done) codec.here(buffers, slot, packed, unit);
    } catch (thrown) {
      this.#freeSlots.push(slot);
      if (!(thrown instanceof RangeError)) throw thrown;
      throw codec.damaged(unit, `does not unpack: ${thrown.message}`);
    }
    this.#keep(unit, slot);
    return bytes;
  }

  #oldest(): number {
    const [[position, slot]] = this.#cached;
    this.#cached.delete(position);
    return slot;
  }

  #keep({ position }: U, slot: number): void {
    this.#cached.delete(position);
    this.#cached.set(position, slot);
  }
}

interface Outcome {
  bytes?: Uint8Array;
  thrown?: string;
}

function fault({ bytes, thrown }: Outcome, size: number): string | undefined {
  if (!bytes) return `does not unpack: ${thrown}`;
  return bytes.length === size ? undefined : `holds ${bytes.length} bytes, not ${size}`;
}
