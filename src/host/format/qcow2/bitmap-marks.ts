/** Bytes of a page: 32,768 bits. */
const PAGE = 4096;
const PAGE_BITS = PAGE * 8;
/** Every page that is all ones; never written to. */
const ONES = new Uint8Array(PAGE).fill(0xff);

/** Bits that were set since a bitmap was stored. Only stretches with one take memory. Bit n is bit n % 8 of byte n / 8. */
export class Marks {
  readonly #granularityBits: number;
  readonly #pages = new Map<number, Uint8Array>();

  constructor(granularityBits: number) {
    this.#granularityBits = granularityBits;
  }

  get empty(): boolean {
    return this.#pages.size === 0;
  }

  clone(): Marks {
    const copy = new Marks(this.#granularityBits);
    for (const [number, page] of this.#pages) copy.#pages.set(number, page === ONES ? page : page.slice());
    return copy;
  }

  /** Bytes [offset, offset + length) of the disk. */
  set(offset: number, length: number): void {
    if (length === 0) return;
    const unit = 2 ** this.#granularityBits;
    const last = Math.floor((offset + length - 1) / unit);
    for (let bit = Math.floor(offset / unit); bit <= last; ) {
      const number = Math.floor(bit / PAGE_BITS);
      const from = bit % PAGE_BITS;
      const to = Math.min(PAGE_BITS, last + 1 - number * PAGE_BITS);
      if (from === 0 && to === PAGE_BITS) this.#pages.set(number, ONES);
      else this.#setIn(number, from, to);
      bit = number * PAGE_BITS + to;
    }
  }

  #setIn(number: number, from: number, to: number): void {
    let page = this.#pages.get(number);
    if (page === ONES) return;
    if (!page) this.#pages.set(number, (page = new Uint8Array(PAGE)));
    setBits(page, from, to);
  }

  /** Is any of these bytes of the bitmap's data marked? */
  touches(from: number, length: number): boolean {
    for (let number = Math.floor(from / PAGE); number * PAGE < from + length; number++) {
      const page = this.#pages.get(number);
      if (!page) continue;
      const first = Math.max(0, from - number * PAGE);
      const end = Math.min(PAGE, from + length - number * PAGE);
      for (let i = first; i < end; i++) if (page[i] !== 0) return true;
    }
    return false;
  }

  /** Adds the marks to the bitmap's data from byte `from` on. */
  overlay(from: number, data: Uint8Array): void {
    for (let number = Math.floor(from / PAGE); number * PAGE < from + data.length; number++) {
      const page = this.#pages.get(number);
      if (!page) continue;
      const first = Math.max(0, from - number * PAGE);
      const end = Math.min(PAGE, from + data.length - number * PAGE);
      for (let i = first; i < end; i++) data[number * PAGE + i - from] |= page[i];
    }
  }
}

/** Sets bits [from, to). */
export function setBits(bytes: Uint8Array, from: number, to: number): void {
  const first = from >>> 3;
  const last = to >>> 3;
  const low = 0xff << (from & 7);
  const high = (1 << (to & 7)) - 1;
  if (first === last) {
    bytes[first] |= low & high;
    return;
  }
  bytes[first] |= low;
  bytes.fill(0xff, first + 1, last);
  if (high !== 0) bytes[last] |= high;
}

/** Clears the bits from `from` on. */
export function clipBits(bytes: Uint8Array, from: number): void {
  if (from >= bytes.length * 8) return;
  bytes[from >>> 3] &= (1 << (from & 7)) - 1;
  bytes.fill(0, (from >>> 3) + 1);
}

/** Where the run of equal bits that begins at `from` ends, `end` at the most. */
export function runEnd(bytes: Uint8Array, from: number, end: number): number {
  const value = (bytes[from >>> 3] >> (from & 7)) & 1;
  const whole = value === 1 ? 0xff : 0;
  let at = from + 1;
  for (; at < end; at++) {
    if ((at & 7) === 0) {
      while (at + 8 <= end && bytes[at >>> 3] === whole) at += 8;
      if (at >= end) return end;
    }
    if (((bytes[at >>> 3] >> (at & 7)) & 1) !== value) return at;
  }
  return at;
}
