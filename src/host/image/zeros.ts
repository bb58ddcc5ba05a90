/** Finds zeros in a buffer, eight bytes at a time. */
export class ZeroFinder {
  readonly #words: BigUint64Array;

  /** @param bytes starts and ends on a multiple of 32 bytes of its array buffer */
  constructor(bytes: Uint8Array<ArrayBuffer>) {
    this.#words = new BigUint64Array(bytes.buffer, bytes.byteOffset, bytes.length / 8);
  }

  /** Are bytes [from, to), multiples of 32, all zero? */
  isZero(from: number, to: number): boolean {
    const words = this.#words;
    const end = to / 8;
    for (let i = from / 8; i < end; i += 4) {
      if ((words[i] | words[i + 1] | words[i + 2] | words[i + 3]) !== 0n) return false;
    }
    return true;
  }

  /** Where the run of `unit`s from `from` on ends in which all are zeros, or none is. */
  runEnd(from: number, to: number, unit: number): { end: number; zero: boolean } {
    const zero = this.isZero(from, Math.min(from + unit, to));
    let end = from + unit;
    while (end < to && this.isZero(end, Math.min(end + unit, to)) === zero) end += unit;
    return { end: Math.min(end, to), zero };
  }
}
