import { Pattern, SECTOR } from "./pattern.ts";

/** A run of the disk, in bytes; both multiples of 512. */
export interface Region {
  offset: number;
  length: number;
}

/** What each sector of a region must hold: the generation written last. */
export class Ledger {
  readonly region: Region;
  readonly pattern: Pattern;
  readonly #first: number;
  readonly #generations: Uint32Array;

  constructor(region: Region, seed: number) {
    this.region = region;
    this.pattern = new Pattern(seed);
    this.#first = region.offset / SECTOR;
    this.#generations = new Uint32Array(region.length / SECTOR);
  }

  /** Writes the next generation of [offset, offset + length) to `words`, and expects it there from now on. */
  write(words: Uint32Array, offset: number, length: number, generation?: number): void {
    const first = offset / SECTOR;
    for (let i = 0; i < length / SECTOR; i++) {
      const index = first + i - this.#first;
      const next = generation ?? this.#generations[index] + 1;
      this.#generations[index] = next;
      this.pattern.fill(words, i * (SECTOR / 4), first + i, next);
    }
  }

  /** Null when `words` is what [offset, offset + length) must hold, else what is wrong with it. */
  check(words: Uint32Array, offset: number, length: number): string | null {
    const first = offset / SECTOR;
    for (let i = 0; i < length / SECTOR; i++) {
      const generation = this.#generations[first + i - this.#first];
      const at = i * (SECTOR / 4);
      if (!this.pattern.check(words, at, first + i, generation)) {
        return this.pattern.explain(words, at, first + i, generation);
      }
    }
    return null;
  }
}
