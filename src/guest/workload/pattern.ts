/** Pattern and generations are per 512 bytes, whatever the disk's sector size. */
export const SECTOR = 512;
const WORDS = SECTOR / 4;
/** The first words of a sector name it: sector number (low, high), generation, and a mark derived from these. */
const NAMED = 4;

/** A bijection of 32-bit numbers that spreads every bit over all (the finalizer of MurmurHash3). */
function mix(value: number): number {
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return (value ^ (value >>> 16)) >>> 0;
}

/**
 * What the lab writes: the content of a sector is a pure function of (seed, sector number, generation). No two
 * generations of a sector, and no two sectors, agree in more than a few words; every word is checked, so a lost write,
 * a stale read, a misplaced sector and a flipped bit all show, and `explain` tells which it was.
 */
export class Pattern {
  readonly seed: number;
  readonly #table = new Uint32Array(WORDS);

  constructor(seed: number) {
    this.seed = seed >>> 0;
    for (let i = 0; i < WORDS; i++) this.#table[i] = mix(mix(this.seed ^ 0x9e3779b9) + i);
  }

  /** Writes the sector's content to words [at, at + 128). */
  fill(words: Uint32Array, at: number, sector: number, generation: number): void {
    const table = this.#table;
    const mark = this.#mark(sector, generation);
    words[at] = sector;
    words[at + 1] = sector / 2 ** 32;
    words[at + 2] = generation;
    words[at + 3] = mark;
    for (let i = NAMED; i < WORDS; i++) words[at + i] = table[i] ^ mark;
  }

  /** Is this, to the last bit, what `fill` writes? */
  check(words: Uint32Array, at: number, sector: number, generation: number): boolean {
    const table = this.#table;
    const mark = this.#mark(sector, generation);
    let wrong = words[at] ^ sector;
    wrong |= words[at + 1] ^ (sector / 2 ** 32);
    wrong |= words[at + 2] ^ generation;
    wrong |= words[at + 3] ^ mark;
    for (let i = NAMED; i < WORDS; i++) wrong |= words[at + i] ^ table[i] ^ mark;
    return wrong === 0;
  }

  /** After `check` has failed: in words, what is there instead. */
  explain(words: Uint32Array, at: number, sector: number, generation: number): string {
    const found = words[at] + words[at + 1] * 2 ** 32;
    const age = words[at + 2];
    if (words[at + 3] === this.#mark(found, age) && this.check(words, at, found, age)) {
      if (found !== sector) return `sector ${sector} holds what belongs to sector ${found}`;
      return `sector ${sector} holds generation ${age} where ${generation} was written last`;
    }
    const expected = new Uint32Array(WORDS);
    this.fill(expected, 0, sector, generation);
    const a = new Uint8Array(expected.buffer);
    const b = new Uint8Array(words.buffer, words.byteOffset + at * 4, SECTOR);
    const first = a.findIndex((byte, i) => byte !== b[i]);
    const wrong = a.reduce((sum, byte, i) => sum + (byte === b[i] ? 0 : 1), 0);
    return `sector ${sector}: ${wrong} of ${SECTOR} bytes are wrong, the first at ${first} (0x${hex(b[first])}, not 0x${hex(a[first])})`;
  }

  #mark(sector: number, generation: number): number {
    const place = mix(this.seed + mix(sector >>> 0) + Math.imul(sector / 2 ** 32, 0x9e3779b1));
    return mix((place + generation) >>> 0);
  }
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, "0");
}
