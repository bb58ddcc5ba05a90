/**
 * A scatter list: runs of bytes inside one `Uint8Array` (normally a whole WebAssembly memory, so that a device can point
 * straight at guest RAM). Starts and lengths are bytes. Reused between requests: `clear()` keeps the storage.
 */
export class SegmentList {
  #runs: Uint32Array;
  count = 0;
  /** Sum of the lengths, in bytes. */
  total = 0;

  constructor(capacity = 16) {
    this.#runs = new Uint32Array(capacity * 2);
  }

  static of(start: number, length: number): SegmentList {
    const list = new SegmentList(1);
    list.push(start, length);
    return list;
  }

  clear(): void {
    this.count = 0;
    this.total = 0;
  }

  /** Appends a run; one that continues the last run is merged into it. Empty runs are dropped. */
  push(start: number, length: number): void {
    if (length === 0) return;
    this.total += length;
    const last = this.count * 2 - 2;
    if (last >= 0 && this.#runs[last] + this.#runs[last + 1] === start) {
      this.#runs[last + 1] += length;
      return;
    }
    if (last + 4 > this.#runs.length) {
      const grown = new Uint32Array(this.#runs.length * 2);
      grown.set(this.#runs);
      this.#runs = grown;
    }
    this.#runs[last + 2] = start;
    this.#runs[last + 3] = length;
    this.count++;
  }

  start(index: number): number {
    return this.#runs[index * 2];
  }

  length(index: number): number {
    return this.#runs[index * 2 + 1];
  }

  /** Appends the bytes [from, from + length) of `source`'s concatenated runs. */
  pushSlice(source: SegmentList, from: number, length: number): void {
    let skip = from;
    let left = length;
    for (let i = 0; left > 0 && i < source.count; i++) {
      const runLength = source.length(i);
      if (skip >= runLength) {
        skip -= runLength;
        continue;
      }
      const take = Math.min(left, runLength - skip);
      this.push(source.start(i) + skip, take);
      left -= take;
      skip = 0;
    }
  }
}
