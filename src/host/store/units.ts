import type { SegmentList } from "../../core/segments.ts";

export interface UnitOptions {
  /** Bytes that are fetched and kept together. */
  unit: number;
  /** Bytes kept, at most. */
  cacheBytes: number;
  /** Bytes fetched ahead of one who reads in order, at most. */
  readahead: number;
  /** Fetches under way together, at most. */
  inFlight: number;
}

/** Exactly these bytes, from a source where asking is dear. */
type Fetch = (position: number, length: number) => Promise<Uint8Array>;

/** Bytes fetched at once, and bytes that one read waits for at a time. */
const MAX_FETCH = 2 ** 20;
const WINDOW = 2 ** 22;
/** Readers in order that are told apart. */
const STREAMS = 4;

/**
 * Reads a source in units, and keeps the last ones that were used. Reads of the same unit wait for the same fetch; units that
 * lie together are one; one who reads in order finds what follows fetched.
 */
export class Units {
  readonly #size: number;
  readonly #fetch: Fetch;
  readonly #options: UnitOptions;
  /** Unit → its bytes, the one that was used last at the end. */
  readonly #kept = new Map<number, Uint8Array>();
  readonly #flying = new Map<number, Promise<Uint8Array>>();
  /** Where readers in order are, the latest last: the next unit, how many are fetched ahead, and up to where. */
  readonly #streams: { next: number; ahead: number; until: number }[] = [];
  #busy = 0;
  readonly #queue: (() => void)[] = [];

  constructor(size: number, fetch: Fetch, options: UnitOptions) {
    this.#size = size;
    this.#fetch = fetch;
    this.#options = options;
  }

  /** Units that are known without asking for them. */
  put(unit: number, bytes: Uint8Array): void {
    this.#keep(unit, bytes);
  }

  /** Fills the segments from `position` on, inside the source. */
  async read(position: number, memory: Uint8Array, segments: SegmentList): Promise<void> {
    const { unit } = this.#options;
    const end = position + segments.total;
    const cursor = { run: 0, within: 0 };
    for (let at = position; at < end; ) {
      const first = Math.floor(at / unit);
      const last = Math.floor((Math.min(end, at + WINDOW) - 1) / unit);
      const parts = this.#get(first, last, at + WINDOW >= end);
      for (let i = 0; i < parts.length; i++) {
        const bytes = await parts[i];
        const start = (first + i) * unit;
        const to = Math.min(end, start + bytes.length);
        scatter(bytes.subarray(at - start, to - start), memory, segments, cursor);
        at = to;
      }
    }
  }

  /** Units first…last, kept ones and fetches alike; and the fetches ahead of whoever reads on from there. */
  #get(first: number, last: number, ends: boolean): (Uint8Array | Promise<Uint8Array>)[] {
    const ahead = ends ? this.#follow(first, last) : 0;
    const end = Math.min(last + ahead, Math.ceil(this.#size / this.#options.unit) - 1);
    const most = Math.max(1, Math.floor(MAX_FETCH / this.#options.unit));
    for (let at = first; at <= end; ) {
      let count = 0;
      while (at + count <= end && count < most && !this.#kept.has(at + count) && !this.#flying.has(at + count)) count++;
      if (count > 0) this.#start(at, count);
      at += Math.max(1, count);
    }
    return Array.from({ length: last - first + 1 }, (_, i) => {
      const bytes = this.#kept.get(first + i);
      if (!bytes) return this.#flying.get(first + i)!;
      this.#keep(first + i, bytes);
      return bytes;
    });
  }

  /** How many units to fetch ahead: more with each read that goes on where one ended. */
  #follow(first: number, last: number): number {
    const streams = this.#streams;
    const index = streams.findIndex(({ next }) => next === first || next === first + 1);
    const [stream] = index < 0 ? [{ next: first, ahead: 0, until: first }] : streams.splice(index, 1);
    const onward = index >= 0 && last + 1 > stream.next;
    stream.next = Math.max(stream.next, last + 1);
    streams.push(stream);
    if (streams.length > STREAMS) streams.shift();
    // While half of it is still to come nothing is asked for, so that it is asked for in large pieces.
    if (!onward || stream.until - stream.next > stream.ahead / 2) return 0;
    const { unit, readahead, cacheBytes } = this.#options;
    stream.ahead = Math.min(Math.floor(Math.min(readahead, cacheBytes / 4) / unit), Math.max(1, stream.ahead * 2));
    stream.until = stream.next + stream.ahead;
    return stream.ahead;
  }

  #start(first: number, count: number): void {
    const { unit } = this.#options;
    const position = first * unit;
    const whole = this.#limited(() => this.#fetch(position, Math.min(count * unit, this.#size - position)));
    for (let i = 0; i < count; i++) {
      const one = whole.then(
        (bytes) => {
          // A copy, so that a kept unit does not hold its neighbours.
          const own = count === 1 ? bytes : bytes.slice(i * unit, (i + 1) * unit);
          this.#flying.delete(first + i);
          this.#keep(first + i, own);
          return own;
        },
        (thrown) => {
          this.#flying.delete(first + i);
          throw thrown;
        },
      );
      // Whoever waits for it is told; nobody may be.
      one.catch(() => {});
      this.#flying.set(first + i, one);
    }
  }

  async #limited<T>(work: () => Promise<T>): Promise<T> {
    if (this.#busy >= this.#options.inFlight) await new Promise<void>((go) => this.#queue.push(go));
    else this.#busy++;
    try {
      return await work();
    } finally {
      const next = this.#queue.shift();
      if (next) next();
      else this.#busy--;
    }
  }

  #keep(unit: number, bytes: Uint8Array): void {
    this.#kept.delete(unit);
    this.#kept.set(unit, bytes);
    const most = Math.max(1, Math.floor(this.#options.cacheBytes / this.#options.unit));
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= most) break;
      this.#kept.delete(oldest);
    }
  }
}

/** Copies bytes to where the segments go on; moves the cursor. */
function scatter(
  bytes: Uint8Array,
  memory: Uint8Array,
  segments: SegmentList,
  cursor: { run: number; within: number },
): void {
  for (let at = 0; at < bytes.length; ) {
    const length = Math.min(segments.length(cursor.run) - cursor.within, bytes.length - at);
    memory.set(bytes.subarray(at, at + length), segments.start(cursor.run) + cursor.within);
    at += length;
    cursor.within += length;
    if (cursor.within < segments.length(cursor.run)) continue;
    cursor.run++;
    cursor.within = 0;
  }
}
