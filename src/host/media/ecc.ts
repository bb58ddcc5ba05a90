/** Error detection and correction codes of data sectors (ECMA-130 §14, annexes A and B). Offsets are in a raw sector. */

/** Annex A: P(x) = (x^16 + x^15 + x^2 + 1)(x^16 + x^2 + x + 1), least significant bit first. */
const EDC_POLYNOMIAL = 0xd8018001;

const EDC = new Uint32Array(256);
for (let i = 0; i < 256; i++) {
  let value = i;
  for (let bit = 0; bit < 8; bit++) value = (value >>> 1) ^ (value & 1 ? EDC_POLYNOMIAL : 0);
  EDC[i] = value;
}

/** The EDC of [from, to), unsigned. */
export function edc(bytes: Uint8Array, from: number, to: number): number {
  let value = 0;
  for (let i = from; i < to; i++) value = (value >>> 8) ^ EDC[(value ^ bytes[i]) & 0xff];
  return value >>> 0;
}

/** Annex B: the field has 256 elements and the primitive polynomial x^8 + x^4 + x^3 + x^2 + 1. */
const DOUBLE = new Uint8Array(256);
/** For a code word's last two symbols: c with c·(α + 1) = x. */
const BY_THREE = new Uint8Array(256);
for (let i = 0; i < 256; i++) {
  DOUBLE[i] = (i << 1) ^ (i & 0x80 ? 0x11d : 0);
  BY_THREE[i ^ DOUBLE[i]] = i;
}

/** Where the header starts, which is where the code words start counting. */
const HEADER = 12;

/**
 * One parity field: `major` code words of `minor` symbols, each `step` apart and taken modulo the field's `size`.
 * `headerless` leaves the header out, as mode 2 does.
 */
function parity(
  sector: Uint8Array,
  major: number,
  minor: number,
  across: number,
  step: number,
  at: number,
  headerless: boolean,
): void {
  const size = major * minor;
  for (let word = 0; word < major; word++) {
    let index = (word >> 1) * across + (word & 1);
    let a = 0;
    let b = 0;
    for (let symbol = 0; symbol < minor; symbol++) {
      const value = headerless && index < 4 ? 0 : sector[HEADER + index];
      index += step;
      if (index >= size) index -= size;
      a = DOUBLE[a ^ value];
      b ^= value;
    }
    a = BY_THREE[DOUBLE[a] ^ b];
    sector[at + word] = a;
    sector[at + word + major] = a ^ b;
  }
}

/** Fills P parity (172 bytes at 2076) and Q parity (104 bytes at 2248). Mode 2 form 1 counts the header as zeros. */
export function fillParity(sector: Uint8Array, headerless: boolean): void {
  parity(sector, 86, 24, 2, 86, 2076, headerless);
  parity(sector, 52, 43, 86, 88, 2248, headerless);
}
