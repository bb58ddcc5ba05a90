import { type ErrorCode, ParavaneError } from "../../src/core/error.ts";
import type { Later } from "../../src/core/flow.ts";
import { SegmentList } from "../../src/core/segments.ts";
import type { Store } from "../../src/core/store.ts";

/** All the bytes of a synchronous store. */
export function contentOf(store: Store): Uint8Array {
  const bytes = new Uint8Array(store.size);
  const pending = store.readv(0, bytes, SegmentList.of(0, bytes.length));
  if (pending) throw new Error(`${store.name} is not synchronous`);
  return bytes;
}

/** Numbers in [0, 1) that are the same for the same seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export type Call = "readv" | "writev" | "flush" | "discard" | "resize";

/** A store in front of another; does nothing by itself. */
export class StoreFilter implements Store {
  readonly inner: Store;
  constructor(inner: Store) {
    this.inner = inner;
  }
  get name(): string {
    return this.inner.name;
  }
  get size(): number {
    return this.inner.size;
  }
  get readOnly(): boolean {
    return this.inner.readOnly;
  }
  get releases(): boolean {
    return this.inner.releases;
  }
  readv(position: number, memory: Uint8Array, segments: SegmentList): Later<void> {
    return this.around("readv", position, segments.total, () => this.inner.readv(position, memory, segments));
  }
  writev(position: number, memory: Uint8Array, segments: SegmentList): Later<void> {
    return this.around("writev", position, segments.total, () => this.inner.writev(position, memory, segments));
  }
  flush(): Later<void> {
    return this.around("flush", 0, 0, () => this.inner.flush());
  }
  discard(position: number, length: number): Later<void> {
    return this.around("discard", position, length, () => this.inner.discard(position, length));
  }
  resize(size: number): Later<void> {
    return this.around("resize", size, 0, () => this.inner.resize(size));
  }
  close(): Later<void> {
    return this.inner.close();
  }
  protected around(_call: Call, _position: number, _length: number, work: () => Later<void>): Later<void> {
    return work();
  }
}

/** Does everything later, after a random number of turns: calls in flight together finish in any order. */
export class LateStore extends StoreFilter {
  readonly #random: () => number;
  inFlight = 0;
  mostInFlight = 0;
  constructor(inner: Store, seed = 1) {
    super(inner);
    this.#random = randomFrom(seed);
  }
  protected override async around(_call: Call, _position: number, _length: number, work: () => Later<void>) {
    this.mostInFlight = Math.max(this.mostInFlight, ++this.inFlight);
    try {
      for (let turns = Math.floor(this.#random() * 4); turns >= 0; turns--) await new Promise(setImmediate);
      await work();
    } finally {
      this.inFlight--;
    }
  }
}

/** Holds back the calls that `holds` names until `release`; the others are done at once, but answer with a promise. */
export class HeldStore extends StoreFilter {
  holds: (call: Call, position: number, length: number) => boolean = () => false;
  #held: (() => void)[] = [];
  get held(): number {
    return this.#held.length;
  }
  release(): void {
    for (const go of this.#held.splice(0)) go();
  }
  protected override async around(call: Call, position: number, length: number, work: () => Later<void>) {
    if (this.holds(call, position, length)) await new Promise<void>((resolve) => this.#held.push(resolve));
    await work();
  }
}

/** Fails the calls that `fault` names a code for. */
export class FaultStore extends StoreFilter {
  fault: (call: Call, position: number, length: number) => ErrorCode | undefined = () => undefined;
  protected override around(call: Call, position: number, length: number, work: () => Later<void>): Later<void> {
    const code = this.fault(call, position, length);
    if (code === undefined) return work();
    throw new ParavaneError(code, `injected: ${call}`, { offset: position, length });
  }
}

const SECTOR = 512;

/**
 * Loses power: keeps what was flushed, and of what was written since any subset of sectors, as a disk with a volatile
 * cache may.
 */
export class CrashStore implements Store {
  readonly name = "crash";
  readonly readOnly = false;
  readonly releases = true;
  #content: Uint8Array;
  #durable: Uint8Array;
  /** Calls that still succeed; after that the power is off. */
  callsLeft = Number.POSITIVE_INFINITY;
  /** Sectors written since the last flush, in order. */
  #pending: { position: number; bytes: Uint8Array }[] = [];

  constructor(content: Uint8Array) {
    this.#content = content.slice();
    this.#durable = content.slice();
  }
  get size(): number {
    return this.#content.length;
  }
  #powered(): void {
    if (--this.callsLeft < 0) throw new ParavaneError("IO", "power is off");
  }
  readv(position: number, memory: Uint8Array, segments: SegmentList): void {
    this.#powered();
    for (let i = 0; i < segments.count; i++) {
      memory.set(this.#content.subarray(position, position + segments.length(i)), segments.start(i));
      position += segments.length(i);
    }
  }
  writev(position: number, memory: Uint8Array, segments: SegmentList): void {
    this.#powered();
    const bytes = new Uint8Array(segments.total);
    for (let i = 0, at = 0; i < segments.count; at += segments.length(i), i++) {
      bytes.set(memory.subarray(segments.start(i), segments.start(i) + segments.length(i)), at);
    }
    this.#content = put(this.#content, position, bytes);
    for (let at = 0; at < bytes.length; ) {
      const end = Math.min(bytes.length, (Math.floor((position + at) / SECTOR) + 1) * SECTOR - position);
      this.#pending.push({ position: position + at, bytes: bytes.slice(at, end) });
      at = end;
    }
  }
  discard(position: number, length: number): void {
    this.writev(position, new Uint8Array(length), SegmentList.of(0, length));
  }
  flush(): void {
    this.#powered();
    this.#durable = this.#content.slice();
    this.#pending = [];
  }
  resize(size: number): void {
    this.#powered();
    if (size < this.size) this.#content = this.#content.slice(0, size);
    else if (size > this.size) this.#content = put(this.#content, size, new Uint8Array(0));
  }
  close(): void {}

  /** What may be found after losing power now. */
  afterCrash(random: () => number): Uint8Array {
    let bytes: Uint8Array = this.#durable.slice();
    // Half of the time the newest writes are the ones that got through: the order that hurts.
    const oldest = random() < 0.5 ? Math.floor(random() * this.#pending.length) : 0;
    const share = random();
    for (const write of this.#pending.slice(oldest)) {
      if (oldest > 0 || random() < share) bytes = put(bytes, write.position, write.bytes);
    }
    return bytes;
  }
}

function put(into: Uint8Array, position: number, bytes: Uint8Array): Uint8Array {
  const end = position + bytes.length;
  const grown = end > into.length ? new Uint8Array(end) : into;
  if (grown !== into) grown.set(into);
  grown.set(bytes, position);
  return grown;
}
