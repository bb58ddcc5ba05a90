import type { SegmentList } from "../../core/segments.ts";

/** Fills segments with bytes that come in pieces, in any order. */
export class Scatter {
  readonly #memory: Uint8Array;
  readonly #segments: SegmentList;
  /** A run, and which byte of all of them is its first. */
  #run = 0;
  #start = 0;

  constructor(memory: Uint8Array, segments: SegmentList) {
    this.#memory = memory;
    this.#segments = segments;
  }

  /** @param at which byte of all the segments the first one is; below 0, as many are left out, and what passes the end is too */
  put(at: number, bytes: Uint8Array): void {
    const segments = this.#segments;
    let from = Math.max(0, -at);
    if (at + from < this.#start) this.#run = this.#start = 0;
    while (from < bytes.length && this.#run < segments.count) {
      const length = segments.length(this.#run);
      const inRun = at + from - this.#start;
      const take = Math.min(bytes.length - from, length - inRun);
      if (take > 0) {
        this.#memory.set(bytes.subarray(from, from + take), segments.start(this.#run) + inRun);
        from += take;
      }
      if (inRun + Math.max(0, take) < length) continue;
      this.#start += length;
      this.#run++;
    }
  }
}
