import type { SegmentList } from "../../core/segments.ts";

/** Fills segments, in their order, with bytes that come in pieces. */
export class Scatter {
  readonly #memory: Uint8Array;
  readonly #segments: SegmentList;
  #run = 0;
  #inRun = 0;

  constructor(memory: Uint8Array, segments: SegmentList) {
    this.#memory = memory;
    this.#segments = segments;
  }

  /** What does not fit is left out. */
  put(bytes: Uint8Array): void {
    const segments = this.#segments;
    for (let at = 0; at < bytes.length && this.#run < segments.count; ) {
      const take = Math.min(bytes.length - at, segments.length(this.#run) - this.#inRun);
      this.#memory.set(bytes.subarray(at, at + take), segments.start(this.#run) + this.#inRun);
      at += take;
      this.#inRun += take;
      if (this.#inRun < segments.length(this.#run)) continue;
      this.#run++;
      this.#inRun = 0;
    }
  }
}
