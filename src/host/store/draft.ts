import { disposable } from "../../core/dispose.ts";
import type { Later } from "../../core/flow.ts";
import { SegmentList } from "../../core/segments.ts";
import type { Store } from "../../core/store.ts";

/** Bytes that the store grows by beyond what is needed; a hole where the host has holes. */
const STEP = 2 ** 26;
const SECTOR = 512;
/** The largest write that is held back, in bytes; and how many sectors are, at most. */
const SMALL = 8 * SECTOR;
const MAX_HELD = 8192;
/** Sectors are found by the 2 MiB they lie in. */
const REGION = 2 ** 21;

/**
 * A store that nobody reads before it is whole, such as the target of a conversion: until it is flushed or closed, what lies
 * below may be longer than it says, and lack its small writes. So its users need not wait, at each place they give away,
 * for the large writes that are under way: a file system lets nothing change a file's length in the meantime.
 */
export class DraftStore implements Store {
  declare readonly [Symbol.asyncDispose]: () => Promise<void>;
  readonly #store: Store;
  #size: number;
  /** The writes held back: 512 bytes each, by region, then by position. */
  #held = new Map<number, Map<number, Uint8Array>>();
  #count = 0;
  #draining: Promise<void> | null = null;
  #closed = false;

  /** Takes over an open, writable store, and closes it. */
  constructor(store: Store) {
    this.#store = store;
    this.#size = store.size;
  }

  get name(): string {
    return this.#store.name;
  }
  get identity(): string | undefined {
    return this.#store.identity;
  }
  get modified(): number | undefined {
    return this.#store.modified;
  }
  get readOnly(): boolean {
    return this.#store.readOnly;
  }
  get releases(): boolean {
    return this.#store.releases;
  }
  get size(): number {
    return this.#size;
  }

  readv(position: number, memory: Uint8Array, segments: SegmentList): Later<void> {
    // What lies past the end is the store below's to refuse, in its words.
    if (position + segments.total > this.#size) return this.#exact(() => this.#store.readv(position, memory, segments));
    if (this.#touched(position, segments.total).next().done) return this.#store.readv(position, memory, segments);
    return this.#settled(() => this.#store.readv(position, memory, segments));
  }

  writev(position: number, memory: Uint8Array, segments: SegmentList): Later<void> {
    const length = segments.total;
    const end = position + length;
    const aligned = position % SECTOR === 0 && length % SECTOR === 0;
    if (this.#closed || this.readOnly || position < 0 || length === 0 || !Number.isSafeInteger(end)) {
      return this.#store.writev(position, memory, segments);
    }
    if (this.#draining) return this.#draining.then(() => this.writev(position, memory, segments));
    if (end > this.#store.size) return this.#grow(end, () => this.writev(position, memory, segments));
    if (aligned && length <= SMALL && this.#count < MAX_HELD) {
      this.#hold(position, gathered(memory, segments));
      this.#size = Math.max(this.#size, end);
      return;
    }
    if (!this.#forget(position, length)) return this.#settled(() => this.writev(position, memory, segments));
    const done = () => {
      this.#size = Math.max(this.#size, end);
    };
    const pending = this.#store.writev(position, memory, segments);
    return pending ? pending.then(done) : done();
  }

  flush(): Later<void> {
    return this.#exact(() => this.#store.flush());
  }

  discard(position: number, length: number): Later<void> {
    if (position + length > this.#size) return this.#exact(() => this.#store.discard(position, length));
    if (!this.#forget(position, length)) return this.#settled(() => this.#store.discard(position, length));
    return this.#store.discard(position, length);
  }

  reserve(length: number): boolean {
    if (!this.#store.reserve?.(length)) return false;
    this.#size = Math.max(this.#size, length);
    return true;
  }

  extent(position: number, length: number): { hole: boolean; length: number } {
    if (position + length <= this.#size && this.#touched(position, length).next().done && this.#store.extent) {
      return this.#store.extent(position, length);
    }
    if (position + length > this.#size && this.#store.extent) return this.#store.extent(this.#store.size, length);
    return { hole: false, length };
  }

  resize(size: number): Later<void> {
    if (this.#closed || this.readOnly) return this.#store.resize(size);
    if (size < this.#size) {
      return this.#settled(() => {
        const done = () => {
          this.#size = size;
        };
        const pending = this.#store.resize(size);
        return pending ? pending.then(done) : done();
      });
    }
    if (size > this.#store.size) return this.#grow(size, () => this.resize(size));
    this.#size = size;
  }

  close(): Later<void> {
    if (this.#closed) return;
    this.#closed = true;
    const over = (): Later<void> => this.#store.close();
    const failed = (thrown: unknown): Later<void> => {
      const pending = over();
      if (!pending) throw thrown;
      return pending.then(() => {
        throw thrown;
      });
    };
    try {
      const pending = this.#exact(over);
      return pending?.catch(failed);
    } catch (thrown) {
      return failed(thrown);
    }
  }

  /** The store below grows, past the need; then the work is done. */
  #grow(size: number, work: () => Later<void>): Later<void> {
    const pending = this.#store.resize(size + STEP);
    return pending ? pending.then(work) : work();
  }

  /** With all that was held back written, and the store below as long as it should be. */
  #exact(work: () => Later<void>): Later<void> {
    return this.#settled(() => {
      if (this.#store.readOnly || this.#store.size === this.#size) return work();
      const pending = this.#store.resize(this.#size);
      return pending ? pending.then(work) : work();
    });
  }

  /** With all that was held back written. */
  #settled(work: () => Later<void>): Later<void> {
    if (this.#draining) return this.#draining.then(() => this.#settled(work));
    if (this.#count === 0) return work();
    const pending = this.#drain();
    if (!pending) return work();
    this.#draining = pending.finally(() => {
      this.#draining = null;
    });
    return this.#draining.then(work);
  }

  /** Writes what is held, neighbours together. What could not be written stays held. */
  #drain(): Later<void> {
    const all = [...this.#held.values()].flatMap((region) => [...region]).sort(([a], [b]) => a - b);
    const writeFrom = (first: number): Later<void> => {
      for (let at = first; at < all.length; ) {
        let end = at + 1;
        while (end < all.length && all[end][0] === all[end - 1][0] + SECTOR) end++;
        const bytes = new Uint8Array((end - at) * SECTOR);
        for (let i = at; i < end; i++) bytes.set(all[i][1], (i - at) * SECTOR);
        const pending = this.#store.writev(all[at][0], bytes, SegmentList.of(0, bytes.length));
        at = end;
        if (pending) return pending.then(() => writeFrom(at));
      }
      this.#held.clear();
      this.#count = 0;
    };
    return writeFrom(0);
  }

  #hold(position: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; done += SECTOR) {
      const at = position + done;
      const region = Math.floor(at / REGION);
      let sectors = this.#held.get(region);
      if (!sectors) this.#held.set(region, (sectors = new Map()));
      if (!sectors.has(at)) this.#count++;
      sectors.set(at, bytes.subarray(done, done + SECTOR));
    }
  }

  /** The positions of held sectors that share bytes with the range. */
  *#touched(position: number, length: number): Generator<number> {
    if (this.#count === 0) return;
    const end = position + length;
    for (let region = Math.floor(position / REGION); region * REGION < end; region++) {
      for (const at of this.#held.get(region)?.keys() ?? []) {
        if (at < end && at + SECTOR > position) yield at;
      }
    }
  }

  /** Drops what is about to be overwritten. False: something would be in part, or is being written. */
  #forget(position: number, length: number): boolean {
    if (this.#draining) return false;
    const touched = [...this.#touched(position, length)];
    if (touched.some((at) => at < position || at + SECTOR > position + length)) return false;
    for (const at of touched) this.#held.get(Math.floor(at / REGION))!.delete(at);
    this.#count -= touched.length;
    return true;
  }
}
disposable(DraftStore.prototype);

/** The segments' bytes, in one array of their own. */
function gathered(memory: Uint8Array, segments: SegmentList): Uint8Array {
  const bytes = new Uint8Array(segments.total);
  let at = 0;
  for (let i = 0; i < segments.count; i++) {
    const start = segments.start(i);
    bytes.set(memory.subarray(start, start + segments.length(i)), at);
    at += segments.length(i);
  }
  return bytes;
}
