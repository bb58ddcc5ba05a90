import { disposable } from "../../core/dispose.ts";
import { ParavaneError } from "../../core/error.ts";
import type { SegmentList } from "../../core/segments.ts";
import type { Store } from "../../core/store.ts";

/** Bytes of a chunk: what the first write to any of them costs. */
const CHUNK = 65536;

/**
 * A store in memory, growing as it is written. Only chunks that were written take space, so a sparse disk costs what it
 * holds and not its size.
 */
export class MemoryStore implements Store {
  declare readonly [Symbol.asyncDispose]: () => Promise<void>;
  readonly name: string;
  readonly readOnly: boolean;
  readonly releases: boolean = true;
  #size: number;
  #closed = false;
  /** Chunk number → its bytes; a missing chunk reads as zeros. */
  readonly #chunks = new Map<number, Uint8Array>();

  /** @param content its size in bytes (all zeros), or its first bytes, copied */
  constructor(content: number | Uint8Array = 0, options: { name?: string; readOnly?: boolean } = {}) {
    this.name = options.name ?? "memory";
    this.readOnly = options.readOnly ?? false;
    this.#size = typeof content === "number" ? content : content.length;
    if (typeof content === "number") return;
    this.#each(0, content.length, (chunk, from, length, done) => {
      const bytes = content.subarray(done, done + length);
      let last = bytes.length;
      while (last > 0 && bytes[last - 1] === 0) last--;
      if (last > 0) this.#chunk(chunk).set(bytes, from);
    });
  }

  get size(): number {
    return this.#size;
  }

  /** Bytes of memory the content takes. */
  get allocated(): number {
    return this.#chunks.size * CHUNK;
  }

  readv(position: number, memory: Uint8Array, segments: SegmentList): void {
    this.#check(position, segments.total, this.#size);
    for (let i = 0; i < segments.count; i++) {
      const start = segments.start(i);
      this.#each(position, segments.length(i), (chunk, from, length, done) => {
        const bytes = this.#chunks.get(chunk);
        if (bytes) memory.set(bytes.subarray(from, from + length), start + done);
        else memory.fill(0, start + done, start + done + length);
      });
      position += segments.length(i);
    }
  }

  writev(position: number, memory: Uint8Array, segments: SegmentList): void {
    this.#check(position, segments.total, Number.MAX_SAFE_INTEGER, true);
    for (let i = 0; i < segments.count; i++) {
      const start = segments.start(i);
      this.#each(position, segments.length(i), (chunk, from, length, done) => {
        this.#chunk(chunk).set(memory.subarray(start + done, start + done + length), from);
      });
      position += segments.length(i);
    }
    if (segments.total > 0 && position > this.#size) this.#size = position;
  }

  flush(): void {
    this.#check(0, 0, 0);
  }

  discard(position: number, length: number): void {
    this.#check(position, length, this.#size, true);
    this.#each(position, length, (chunk, from, count) => {
      if (count === CHUNK) this.#chunks.delete(chunk);
      else this.#chunks.get(chunk)?.fill(0, from, from + count);
    });
  }

  extent(position: number, length: number): { hole: boolean; length: number } {
    this.#check(position, length, this.#size);
    const hole = (at: number) => !this.#chunks.has(Math.floor(at / CHUNK));
    const first = hole(position);
    let end = (Math.floor(position / CHUNK) + 1) * CHUNK;
    while (end < position + length && hole(end) === first) end += CHUNK;
    return { hole: first, length: Math.min(end - position, length) };
  }

  resize(size: number): void {
    this.#check(size, 0, Number.MAX_SAFE_INTEGER, true);
    if (size < this.#size) {
      const kept = Math.ceil(size / CHUNK);
      for (const chunk of [...this.#chunks.keys()]) if (chunk >= kept) this.#chunks.delete(chunk);
      if (size % CHUNK !== 0) this.#chunks.get(kept - 1)?.fill(0, size % CHUNK);
    }
    this.#size = size;
  }

  close(): void {
    this.#closed = true;
    this.#chunks.clear();
  }

  #check(position: number, length: number, end: number, write = false): void {
    if (this.#closed) throw new ParavaneError("CLOSED", `${this.name} is closed`);
    if (write && this.readOnly) throw new ParavaneError("READ_ONLY", `${this.name} is read-only`);
    if (position < 0 || position + length > end) {
      throw new ParavaneError("OUT_OF_RANGE", `${length} bytes at ${position} pass the end, ${end}`, {
        file: this.name,
      });
    }
  }

  #chunk(number: number): Uint8Array {
    let chunk = this.#chunks.get(number);
    if (!chunk) this.#chunks.set(number, (chunk = new Uint8Array(CHUNK)));
    return chunk;
  }

  /** Visits the chunk pieces of [position, position + length): chunk, first byte in it, bytes, bytes visited before. */
  #each(position: number, length: number, visit: (chunk: number, from: number, length: number, done: number) => void) {
    for (let done = 0; done < length; ) {
      const from = (position + done) % CHUNK;
      const count = Math.min(length - done, CHUNK - from);
      visit(Math.floor((position + done) / CHUNK), from, count, done);
      done += count;
    }
  }
}
disposable(MemoryStore.prototype);
