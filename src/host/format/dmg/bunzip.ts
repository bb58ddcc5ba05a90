// bzip2 streams, of a known length: nothing that comes in can make more. There is no specification but the program's source
// (bzip2 1.0.8, decompress.c); names are its own.

const BLOCK_MAGIC = 0x314159265359;
const END_MAGIC = 0x177245385090;
const MAX_CODE = 20;
/** Symbols that one Huffman table is used for. */
const GROUP = 50;

class Bits {
  readonly #input: Uint8Array;
  #at = 0;
  #hold = 0;
  #count = 0;

  constructor(input: Uint8Array, at: number) {
    this.#input = input;
    this.#at = at;
  }
  /** Up to 24 bits, most significant first. */
  take(count: number): number {
    while (this.#count < count) {
      if (this.#at >= this.#input.length) throw new RangeError("the data ends too early");
      this.#hold = ((this.#hold << 8) | this.#input[this.#at++]) & 0x7fffffff;
      this.#count += 8;
    }
    this.#count -= count;
    return (this.#hold >>> this.#count) & ((1 << count) - 1);
  }
  wide(count: 32 | 48): number {
    const high = count === 48 ? this.take(16) * 2 ** 32 : 0;
    return high + this.take(16) * 65536 + this.take(16);
  }
}

const CRC = Uint32Array.from({ length: 256 }, (_, i) => {
  let crc = i << 24;
  for (let bit = 0; bit < 8; bit++) crc = crc & 0x80000000 ? (crc << 1) ^ 0x04c11db7 : crc << 1;
  return crc;
});

/** Exactly `size` bytes; the stream has to end with them. @throws RangeError when it is damaged */
export function bunzip(packed: Uint8Array, size: number): Uint8Array {
  const level = packed[3] - 0x30;
  if (packed[0] !== 0x42 || packed[1] !== 0x5a || packed[2] !== 0x68 || !(level >= 1 && level <= 9)) {
    throw new RangeError("there is no bzip2 header");
  }
  const bits = new Bits(packed, 4);
  const output = new Uint8Array(size);
  const block = new Uint32Array(level * 100_000);
  let at = 0;
  let combined = 0;
  for (;;) {
    const magic = bits.wide(48);
    const crc = bits.wide(32) | 0;
    if (magic === END_MAGIC) {
      if (crc !== combined) throw new RangeError("the checksum of all blocks is wrong");
      break;
    }
    if (magic !== BLOCK_MAGIC) throw new RangeError("a block has no magic");
    const end = expand(bits, block, output, at);
    if (crcOf(output.subarray(at, end)) !== crc) throw new RangeError("the checksum of a block is wrong");
    combined = ((combined << 1) | (combined >>> 31)) ^ crc;
    at = end;
  }
  if (at < size) throw new RangeError(`the data ends after ${at} bytes of ${size}`);
  return output;
}

function crcOf(bytes: Uint8Array): number {
  let crc = -1;
  for (const byte of bytes) crc = (crc << 8) ^ CRC[(crc >>> 24) ^ byte];
  return ~crc;
}

/** One block, behind its checksum, into the output; returns where that has got. */
function expand(bits: Bits, block: Uint32Array, output: Uint8Array, start: number): number {
  if (bits.take(1)) throw new RangeError("a block is randomised, as no bzip2 since 0.9.5 makes them");
  const origin = bits.take(24);
  const length = readBlock(bits, block);
  if (origin >= length) throw new RangeError("a block begins past its end");
  // The inverse Burrows-Wheeler transform: the low byte of each word is what was read, the rest becomes where to go on.
  const counts = new Uint32Array(257);
  for (let i = 0; i < length; i++) counts[block[i] + 1]++;
  for (let i = 1; i < 257; i++) counts[i] += counts[i - 1];
  for (let i = 0; i < length; i++) block[counts[block[i] & 255]++] |= i << 8;
  let at = start;
  let next = block[origin] >>> 8;
  let same = 0;
  let last = -1;
  for (let i = 0; i < length; i++) {
    const word = block[next];
    const byte = word & 255;
    next = word >>> 8;
    // Four equal bytes are followed by how many more there are.
    if (same === 4) {
      if (at + byte > output.length) throw tooMuch(output);
      output.fill(last, at, at + byte);
      at += byte;
      same = 0;
      last = -1;
      continue;
    }
    if (at === output.length) throw tooMuch(output);
    output[at++] = byte;
    same = byte === last ? same + 1 : 1;
    last = byte;
  }
  return at;
}

const tooMuch = ({ length }: Uint8Array) => new RangeError(`there are more than ${length} bytes`);

/** Undoes Huffman codes, run lengths and move-to-front; returns how many bytes there are, one a word. */
function readBlock(bits: Bits, block: Uint32Array): number {
  const front = usedBytes(bits);
  const end = front.length + 1;
  const tableCount = bits.take(3);
  const selectorCount = bits.take(15);
  if (tableCount < 2 || tableCount > 6) throw new RangeError(`a block has ${tableCount} Huffman tables`);
  if (selectorCount === 0) throw new RangeError("a block has no selectors");
  const selectors = readSelectors(bits, selectorCount, tableCount);
  const tables = Array.from({ length: tableCount }, () => readTable(bits, front.length + 2));
  let length = 0;
  let run = 0;
  let weight = 1;
  for (let group = 0; group < selectorCount; group++) {
    const table = tables[selectors[group]];
    for (let i = 0; i < GROUP; i++) {
      const symbol = readSymbol(bits, table);
      if (symbol <= 1) {
        // Runs are numbers of digits 1 and 2, least significant first.
        run += weight << symbol;
        weight *= 2;
        if (run > block.length - length) throw new RangeError("a block is too long");
        continue;
      }
      if (run > 0) {
        block.fill(front[0], length, length + run);
        length += run;
        run = 0;
        weight = 1;
      }
      if (symbol === end) return length;
      if (length === block.length) throw new RangeError("a block is too long");
      const byte = front[symbol - 1];
      front.copyWithin(1, 0, symbol - 1);
      front[0] = byte;
      block[length++] = byte;
    }
  }
  throw new RangeError("a block has no end");
}

/** Which bytes there are, ascending. */
function usedBytes(bits: Bits): Uint8Array {
  const ranges = bits.take(16);
  const list: number[] = [];
  for (let i = 0; i < 16; i++) {
    if ((ranges & (0x8000 >> i)) === 0) continue;
    const range = bits.take(16);
    for (let j = 0; j < 16; j++) if (range & (0x8000 >> j)) list.push(i * 16 + j);
  }
  if (list.length === 0) throw new RangeError("a block uses no bytes");
  return Uint8Array.from(list);
}

function readSelectors(bits: Bits, count: number, tables: number): Uint8Array {
  const order = [0, 1, 2, 3, 4, 5];
  return Uint8Array.from({ length: count }, () => {
    let index = 0;
    while (bits.take(1)) if (++index >= tables) throw new RangeError("a selector names no table");
    order.unshift(...order.splice(index, 1));
    return order[0];
  });
}

/** Codes of each length, and all symbols ordered by code. */
interface Table {
  counts: Uint16Array;
  symbols: Uint16Array;
}

function readTable(bits: Bits, symbols: number): Table {
  const counts = new Uint16Array(MAX_CODE + 1);
  const lengths: number[] = [];
  let length = bits.take(5);
  for (let i = 0; i < symbols; i++) {
    for (;;) {
      if (length < 1 || length > MAX_CODE) throw new RangeError(`a Huffman code has ${length} bits`);
      if (!bits.take(1)) break;
      length += bits.take(1) ? -1 : 1;
    }
    lengths.push(length);
    counts[length]++;
  }
  const order = lengths.map((_, i) => i).sort((a, b) => lengths[a] - lengths[b] || a - b);
  return { counts, symbols: Uint16Array.from(order) };
}

function readSymbol(bits: Bits, { counts, symbols }: Table): number {
  let code = 0;
  let first = 0;
  let index = 0;
  for (let length = 1; length <= MAX_CODE; length++) {
    code |= bits.take(1);
    const count = counts[length];
    if (code - first < count) return symbols[index + code - first];
    index += count;
    first = (first + count) << 1;
    code <<= 1;
  }
  throw new RangeError("a code is not in its table");
}
