// DEFLATE (RFC 1951), of a known length: decoding stops when that is reached, so nothing that comes in can make more.
// Our own because the platform's stream decoder rejects bytes after the end, which image formats leave there, and is
// asynchronous.

/** RFC 1951, 3.2.5: base values and extra bits of length and distance codes. */
const LENGTH_BASE = [
  3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258,
];
const LENGTH_EXTRA = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCE_BASE = [
  1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145,
  8193, 12289, 16385, 24577,
];
const DISTANCE_EXTRA = [
  0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13,
];
/** 3.2.7: the order in which code length codes come. */
const CODE_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

const MAX_BITS = 15;
/** Codes up to this long are looked up at once. */
const FAST_BITS = 10;

/** A canonical Huffman code. */
interface Code {
  /** By the next FAST_BITS bits of input: symbol × 16 + length, 0 when the code is longer (or there is none). */
  fast: Uint16Array;
  /** Codes of each length, and all symbols ordered by code. */
  counts: Uint16Array;
  symbols: Uint16Array;
}

function makeCode(lengths: Uint8Array): Code {
  const counts = new Uint16Array(MAX_BITS + 1);
  for (const length of lengths) counts[length]++;
  counts[0] = 0;
  const next = new Uint16Array(MAX_BITS + 2);
  const firstIndex = new Uint16Array(MAX_BITS + 2);
  let code = 0;
  let index = 0;
  let left = 1;
  for (let bits = 1; bits <= MAX_BITS; bits++) {
    left = left * 2 - counts[bits];
    if (left < 0) throw new RangeError("a set of code lengths is over-subscribed");
    next[bits] = code;
    firstIndex[bits] = index;
    code = (code + counts[bits]) << 1;
    index += counts[bits];
  }
  const symbols = new Uint16Array(index);
  const fast = new Uint16Array(1 << FAST_BITS);
  for (let symbol = 0; symbol < lengths.length; symbol++) {
    const length = lengths[symbol];
    if (length === 0) continue;
    const mine = next[length]++;
    symbols[firstIndex[length]++] = symbol;
    if (length > FAST_BITS) continue;
    let reversed = 0;
    for (let bit = 0; bit < length; bit++) reversed |= ((mine >> bit) & 1) << (length - 1 - bit);
    for (let at = reversed; at < fast.length; at += 1 << length) fast[at] = symbol * 16 + length;
  }
  return { fast, counts, symbols };
}

let fixed: { literals: Code; distances: Code } | undefined;

function fixedCodes() {
  if (!fixed) {
    const lengths = new Uint8Array(288).fill(8);
    lengths.fill(9, 144, 256);
    lengths.fill(7, 256, 280);
    fixed = { literals: makeCode(lengths), distances: makeCode(new Uint8Array(30).fill(5)) };
  }
  return fixed;
}

/** Bits come from the least significant end of each byte. */
class Bits {
  readonly #input: Uint8Array;
  #at = 0;
  #hold = 0;
  #count = 0;

  constructor(input: Uint8Array) {
    this.#input = input;
  }

  take(count: number): number {
    while (this.#count < count) this.#more();
    const value = this.#hold & ((1 << count) - 1);
    this.#hold >>>= count;
    this.#count -= count;
    return value;
  }

  symbol({ fast, counts, symbols }: Code): number {
    while (this.#count < MAX_BITS && this.#at < this.#input.length) this.#more();
    const entry = fast[this.#hold & ((1 << FAST_BITS) - 1)];
    const length = entry & 15;
    if (length !== 0 && length <= this.#count) {
      this.#hold >>>= length;
      this.#count -= length;
      return entry >> 4;
    }
    // Longer codes, or the last bits of the input: one bit at a time.
    let code = 0;
    let first = 0;
    let index = 0;
    for (let bits = 1; bits <= MAX_BITS; bits++) {
      code |= this.take(1);
      const count = counts[bits];
      if (code - first < count) return symbols[index + code - first];
      index += count;
      first = (first + count) << 1;
      code <<= 1;
    }
    throw new RangeError("a code is not in its table");
  }

  /** Drops the bits up to the next byte; returns where that is. */
  align(): number {
    const at = this.#at - (this.#count >> 3);
    this.#hold = 0;
    this.#count = 0;
    this.#at = at;
    return at;
  }
  seek(at: number): void {
    this.#at = at;
  }

  #more(): void {
    if (this.#at >= this.#input.length) throw new RangeError("the data ends too early");
    this.#hold |= this.#input[this.#at++] << this.#count;
    this.#count += 8;
  }
}

/** Exactly `size` bytes out of raw DEFLATE data; what follows them is left alone. @throws RangeError when it is damaged */
export function inflate(packed: Uint8Array, size: number): Uint8Array {
  return decode(new Bits(packed), packed, size, false);
}

/**
 * Exactly `size` bytes out of zlib data (RFC 1950), which must end with them and have the right checksum; what follows is left
 * alone. @throws RangeError when it is damaged
 */
export function unzlib(packed: Uint8Array, size: number): Uint8Array {
  const [method, flags] = packed;
  if (packed.length < 6) throw new RangeError("the data ends too early");
  if ((method & 15) !== 8 || method >> 4 > 7 || ((method << 8) | flags) % 31 !== 0) {
    throw new RangeError("there is no zlib header");
  }
  if (flags & 32) throw new RangeError("it needs a dictionary");
  const bits = new Bits(packed);
  bits.seek(2);
  const output = decode(bits, packed, size, true);
  const end = bits.align();
  if (end + 4 > packed.length) throw new RangeError("the checksum is not there");
  if (new DataView(packed.buffer, packed.byteOffset).getUint32(end) !== adler32(output)) {
    throw new RangeError("the checksum is wrong");
  }
  return output;
}

/** RFC 1950, 8.2. */
export function adler32(bytes: Uint8Array): number {
  let low = 1;
  let high = 0;
  for (let at = 0; at < bytes.length; ) {
    // As many as keep the sums in 32 bits.
    const end = Math.min(bytes.length, at + 3800);
    for (; at < end; at++) {
      low += bytes[at];
      high += low;
    }
    low %= 65521;
    high %= 65521;
  }
  return ((high << 16) | low) >>> 0;
}

/** @param toEnd the data has to end with the last byte; else it is not looked at any further */
function decode(bits: Bits, packed: Uint8Array, size: number, toEnd: boolean): Uint8Array {
  const output = new Uint8Array(size);
  let at = 0;
  for (let last = 0; last === 0 && (toEnd || at < size); ) {
    last = bits.take(1);
    const type = bits.take(2);
    if (type === 0) {
      const start = bits.align();
      if (start + 4 > packed.length) throw new RangeError("the data ends too early");
      const length = packed[start] | (packed[start + 1] << 8);
      if (length !== (~(packed[start + 2] | (packed[start + 3] << 8)) & 0xffff)) {
        throw new RangeError("a stored block's length is wrong");
      }
      if (toEnd && length > size - at) throw tooMuch(size);
      const count = Math.min(length, size - at);
      if (start + 4 + count > packed.length) throw new RangeError("the data ends too early");
      output.set(packed.subarray(start + 4, start + 4 + count), at);
      at += count;
      bits.seek(start + 4 + length);
    } else if (type === 1) at = block(bits, fixedCodes(), output, at, toEnd);
    else if (type === 2) at = block(bits, readCodes(bits), output, at, toEnd);
    else throw new RangeError("a block has type 3, which there is not");
  }
  if (at < size) throw new RangeError(`the data ends after ${at} bytes of ${size}`);
  return output;
}

const tooMuch = (size: number) => new RangeError(`there are more than ${size} bytes`);

function readCodes(bits: Bits): { literals: Code; distances: Code } {
  const literals = bits.take(5) + 257;
  const distances = bits.take(5) + 1;
  const count = bits.take(4) + 4;
  if (literals > 286) throw new RangeError(`${literals} literal codes`);
  const codeLengths = new Uint8Array(19);
  for (let i = 0; i < count; i++) codeLengths[CODE_ORDER[i]] = bits.take(3);
  const code = makeCode(codeLengths);
  const lengths = new Uint8Array(literals + distances);
  for (let i = 0; i < lengths.length; ) {
    const symbol = bits.symbol(code);
    if (symbol < 16) {
      lengths[i++] = symbol;
      continue;
    }
    if (symbol === 16 && i === 0) throw new RangeError("a repeat of nothing");
    const value = symbol === 16 ? lengths[i - 1] : 0;
    const repeat = symbol === 16 ? 3 + bits.take(2) : symbol === 17 ? 3 + bits.take(3) : 11 + bits.take(7);
    if (i + repeat > lengths.length) throw new RangeError("a repeat past the last code");
    lengths.fill(value, i, i + repeat);
    i += repeat;
  }
  return { literals: makeCode(lengths.subarray(0, literals)), distances: makeCode(lengths.subarray(literals)) };
}

/** Decodes one block, as far as there is room; returns where the output has got. */
function block(
  bits: Bits,
  codes: { literals: Code; distances: Code },
  output: Uint8Array,
  at: number,
  toEnd: boolean,
): number {
  const size = output.length;
  while (toEnd || at < size) {
    const symbol = bits.symbol(codes.literals);
    if (symbol < 256) {
      if (at === size) throw tooMuch(size);
      output[at++] = symbol;
      continue;
    }
    if (symbol === 256) return at;
    const code = symbol - 257;
    if (code > 28) throw new RangeError(`there is no length code ${symbol}`);
    const length = LENGTH_BASE[code] + bits.take(LENGTH_EXTRA[code]);
    const away = bits.symbol(codes.distances);
    if (away > 29) throw new RangeError(`there is no distance code ${away}`);
    const distance = DISTANCE_BASE[away] + bits.take(DISTANCE_EXTRA[away]);
    if (distance > at) throw new RangeError("a distance reaches before the start");
    if (toEnd && at + length > size) throw tooMuch(size);
    const end = Math.min(size, at + length);
    if (distance >= end - at) {
      output.copyWithin(at, at - distance, end - distance);
      at = end;
    } else while (at < end) output[at] = output[at++ - distance];
  }
  return at;
}
