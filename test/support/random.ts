/** A seeded generator (xorshift32): the same seed, the same program, everywhere. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = (Math.imul(seed, 0x9e3779b1) ^ 0x85ebca6b) >>> 0 || 1;
  }

  /** 0 to 2^32 - 1. */
  u32(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x >>> 0;
    return this.#state;
  }
  /** 0 to `below` - 1. */
  below(below: number): number {
    return this.u32() % below;
  }
  /** True once in `times`. */
  oneIn(times: number): boolean {
    return this.u32() % times === 0;
  }
  pick<T>(from: readonly T[]): T {
    return from[this.u32() % from.length];
  }
}
