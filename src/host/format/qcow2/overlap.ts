// Nothing may be written over metadata. What a damaged image says is checked right before it would be: guest data in place,
// new clusters, L2 tables and refcount blocks (QEMU's "pre-write overlap checks", those that need no reading).
import { ParavaneError } from "../../../core/error.ts";
import type { Store } from "../../../core/store.ts";
import type { Header } from "./header.ts";

/** Known metadata: clusters [first, end). */
interface Range {
  first: number;
  end: number;
  structure: string;
}

/** Where the metadata of an open image is. */
export class Overlaps {
  readonly #store: Store;
  readonly #clusterBytes: number;
  /** Everything that is not a table of its own: by first cluster. */
  #ranges: Range[] = [];
  /** The furthest end among the ranges up to each one; null until they are sorted. */
  #ends: Float64Array | null = null;
  /** Clusters that are L2 tables under the active L1 table, once that is known. */
  readonly #tables = new Set<number>();
  /** Clusters that are refcount blocks. */
  readonly blocks = new Set<number>();

  constructor(store: Store, header: Header) {
    this.#store = store;
    this.#clusterBytes = 2 ** header.clusterBits;
  }

  add(structure: string, position: number, bytes: number): void {
    if (bytes === 0) return;
    const first = Math.floor(position / this.#clusterBytes);
    this.#ranges.push({ first, end: Math.ceil((position + bytes) / this.#clusterBytes), structure });
    this.#ends = null;
  }
  remove(structure: string): void {
    this.#ranges = this.#ranges.filter((range) => range.structure !== structure);
    this.#ends = null;
  }
  get ranges(): readonly Readonly<Range>[] {
    return this.#ranges;
  }

  addTable(position: number): void {
    this.#tables.add(position / this.#clusterBytes);
  }
  removeTable(position: number): void {
    this.#tables.delete(position / this.#clusterBytes);
  }

  /** The metadata in any of the clusters from number `first` on; `own` is what is to be written there itself. */
  find(first: number, count: number, own?: "L2 table" | "refcount block"): string | undefined {
    const end = first + count;
    const range = this.#rangeIn(first, end);
    if (range) return range.structure;
    for (let cluster = first; cluster < end; cluster++) {
      if (own !== "L2 table" && this.#tables.has(cluster)) return "L2 table";
      if (own !== "refcount block" && this.blocks.has(cluster)) return "refcount block";
    }
    return undefined;
  }

  #rangeIn(first: number, end: number): Range | undefined {
    const ranges = this.#ranges;
    if (!this.#ends) {
      ranges.sort((a, b) => a.first - b.first);
      this.#ends = new Float64Array(ranges.length);
      for (let i = 0, most = 0; i < ranges.length; i++) this.#ends[i] = most = Math.max(most, ranges[i].end);
    }
    let low = 0;
    for (let high = ranges.length; low < high; ) {
      const middle = (low + high) >>> 1;
      if (ranges[middle].first < end) low = middle + 1;
      else high = middle;
    }
    if (low === 0 || this.#ends[low - 1] <= first) return undefined;
    return ranges.slice(0, low).findLast((range) => range.end > first);
  }

  /** Why these bytes must not be written, or null. @param what would be */
  refusal(what: string, position: number, length: number, own?: "L2 table" | "refcount block"): ParavaneError | null {
    const first = Math.floor(position / this.#clusterBytes);
    const end = Math.ceil((position + length) / this.#clusterBytes);
    const structure = this.find(first, end - first, own);
    return structure === undefined ? null : overlap(this.#store, structure, position, what);
  }
}

/** Damage that would have made a write destroy metadata: whoever meets it marks the image as corrupt. */
export function overlap(store: Store, structure: string, offset: number, what: string): ParavaneError {
  const message = `${what} would be written over the ${structure}: the image is damaged`;
  const context = { file: store.name, structure, offset, overlap: true };
  return new ParavaneError("CORRUPT", message, context, { hint: "Repair it: paravane img check -r all" });
}

export function isOverlap(thrown: unknown): thrown is ParavaneError {
  return thrown instanceof ParavaneError && thrown.context.overlap === true;
}
