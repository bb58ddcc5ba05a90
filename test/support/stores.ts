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

/** Bytes that are copied when one of them is first written. */
const PAGE = 4096;

/** A store over bytes that stay as they are, so that one of many stores over the same costs what it changes. Outlives its disk. */
export class ForkStore implements Store {
  readonly name: string = "fork";
  readonly readOnly = false;
  readonly releases = true;
  readonly #base: Uint8Array;
  #pages = new Map<number, Uint8Array>();
  /** Those that no fork shares. */
  readonly #own = new Set<number>();
  #size: number;
  /** Of the base's bytes, those that were not cut off since. */
  #kept: number;

  constructor(base: Uint8Array) {
    this.#base = base;
    this.#size = this.#kept = base.length;
  }

  /** Another one with the content as it is. */
  fork(): ForkStore {
    const made = new ForkStore(this.#base);
    made.#pages = new Map(this.#pages);
    this.#own.clear();
    made.#size = this.#size;
    made.#kept = this.#kept;
    return made;
  }

  get size(): number {
    return this.#size;
  }
  readv(position: number, memory: Uint8Array, segments: SegmentList): void {
    if (position < 0 || position + segments.total > this.#size) throw new ParavaneError("OUT_OF_RANGE", "past the end");
    for (let i = 0; i < segments.count; i++) {
      const into = memory.subarray(segments.start(i), segments.start(i) + segments.length(i));
      const kept = this.#base.subarray(position, Math.min(this.#kept, position + into.length));
      into.fill(0, kept.length);
      into.set(kept);
      for (let page = Math.floor(position / PAGE); page * PAGE < position + into.length; page++) {
        const bytes = this.#pages.get(page);
        if (!bytes) continue;
        const from = Math.max(0, position - page * PAGE);
        const to = Math.min(PAGE, position + into.length - page * PAGE);
        into.set(bytes.subarray(from, to), page * PAGE + from - position);
      }
      position += into.length;
    }
  }
  writev(position: number, memory: Uint8Array, segments: SegmentList): void {
    for (let i = 0; i < segments.count; i++) {
      this.put(position, memory.subarray(segments.start(i), segments.start(i) + segments.length(i)));
      position += segments.length(i);
    }
  }
  put(position: number, bytes: Uint8Array): void {
    const end = position + bytes.length;
    for (let at = position; at < end; ) {
      const page = Math.floor(at / PAGE);
      const next = Math.min(end, (page + 1) * PAGE);
      this.#owned(page).set(bytes.subarray(at - position, next - position), at - page * PAGE);
      at = next;
    }
    if (bytes.length > 0) this.#size = Math.max(this.#size, end);
  }
  discard(position: number, length: number): void {
    if (position < 0 || position + length > this.#size) throw new ParavaneError("OUT_OF_RANGE", "past the end");
    this.put(position, new Uint8Array(length));
  }
  flush(): void {}
  resize(size: number): void {
    if (size < this.#size) {
      for (const page of this.#pages.keys()) if (page * PAGE >= size) this.#pages.delete(page);
      const last = Math.floor(size / PAGE);
      if (this.#pages.has(last)) this.#owned(last).fill(0, size - last * PAGE);
      this.#kept = Math.min(this.#kept, size);
    }
    this.#size = size;
  }
  close(): void {}

  #owned(page: number): Uint8Array {
    let bytes = this.#pages.get(page);
    if (bytes && this.#own.has(page)) return bytes;
    if (bytes) bytes = bytes.slice();
    else {
      bytes = new Uint8Array(PAGE);
      const from = page * PAGE;
      if (from < this.#kept) bytes.set(this.#base.subarray(from, Math.min(this.#kept, from + PAGE)));
    }
    this.#pages.set(page, bytes);
    this.#own.add(page);
    return bytes;
  }
}

/**
 * Loses power: keeps what was flushed, and of what was written since any subset of sectors, as a disk with a volatile
 * cache may.
 */
export class CrashStore extends ForkStore {
  override readonly name = "crash";
  #durable: ForkStore;
  /** Calls that still succeed; after that the power is off. */
  callsLeft = Number.POSITIVE_INFINITY;
  /** Sectors written since the last flush, in order. */
  #pending: { position: number; bytes: Uint8Array }[] = [];

  constructor(content: Uint8Array) {
    super(content);
    this.#durable = new ForkStore(content);
  }
  #powered(): void {
    if (--this.callsLeft < 0) throw new ParavaneError("IO", "power is off");
  }
  override readv(position: number, memory: Uint8Array, segments: SegmentList): void {
    this.#powered();
    super.readv(position, memory, segments);
  }
  override writev(position: number, memory: Uint8Array, segments: SegmentList): void {
    this.#powered();
    const bytes = new Uint8Array(segments.total);
    for (let i = 0, at = 0; i < segments.count; at += segments.length(i), i++) {
      bytes.set(memory.subarray(segments.start(i), segments.start(i) + segments.length(i)), at);
    }
    this.put(position, bytes);
    for (let at = 0; at < bytes.length; ) {
      const end = Math.min(bytes.length, (Math.floor((position + at) / SECTOR) + 1) * SECTOR - position);
      this.#pending.push({ position: position + at, bytes: bytes.subarray(at, end) });
      at = end;
    }
  }
  override discard(position: number, length: number): void {
    this.writev(position, new Uint8Array(length), SegmentList.of(0, length));
  }
  override flush(): void {
    this.#powered();
    this.#durable = this.fork();
    this.#pending = [];
  }
  override resize(size: number): void {
    this.#powered();
    super.resize(size);
  }

  /** What may be found after losing power now. */
  afterCrash(random: () => number): ForkStore {
    const left = this.#durable.fork();
    // Half of the time the newest writes are the ones that got through: the order that hurts.
    const oldest = random() < 0.5 ? Math.floor(random() * this.#pending.length) : 0;
    const share = random();
    for (const write of this.#pending.slice(oldest)) {
      if (oldest > 0 || random() < share) left.put(write.position, write.bytes);
    }
    return left;
  }
}
