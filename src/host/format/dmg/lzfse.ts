// LZFSE: Lempel-Ziv with finite state entropy coding, of literals, and of how many of them come, then how many bytes from
// how far before. Apple has published no description but its library (lzfse/lzfse, src/lzfse_internal.h, lzfse_fse.c),
// whose layouts and values these are. Little-endian.
import { textAt } from "../io.ts";
import { unpackLzvn } from "./lzvn.ts";

/** Symbols and states of the four codes, in the order of the frequencies. */
const CODES = [
  { symbols: 20, states: 64 },
  { symbols: 20, states: 64 },
  { symbols: 64, states: 256 },
  { symbols: 256, states: 1024 },
] as const;
/** Bits behind each symbol of literal counts, match lengths and distances; the values begin where those of the one before end. */
const L_BITS = [...new Array(16).fill(0), 2, 3, 5, 8];
const M_BITS = [...new Array(16).fill(0), 3, 5, 8, 11];
const D_BITS = Array.from({ length: 64 }, (_, symbol) => symbol >> 2);
/** In whole words. */
const HEADER_V1 = 772;
const MAX_LITERALS = 40_000;
const MAX_MATCHES = 10_000;

/** What a block's header says. */
interface Block {
  /** Bytes of the header, and of what it unpacks to. */
  header: number;
  raw: number;
  literals: { count: number; bytes: number; bits: number; states: number[] };
  matches: { count: number; bytes: number; bits: number; states: number[] };
  frequencies: Uint16Array;
}

/** @returns exactly `size` bytes @throws RangeError when it is damaged */
export function unlzfse(packed: Uint8Array, size: number): Uint8Array {
  // Before memory is taken for what it should become.
  if (textAt(packed, 0, 3) !== "bvx") throw new RangeError("there is no block that is known");
  const out = new Uint8Array(size);
  const view = new DataView(packed.buffer, packed.byteOffset, packed.length);
  const word = (at: number) => {
    if (at + 4 <= packed.length) return view.getUint32(at, true);
    throw new RangeError("a block passes the end");
  };
  let end = 0;
  for (let at = 0; end < size; ) {
    const kind = textAt(packed, at, 4);
    if (kind === "bvx$") break;
    const raw = word(at + 4);
    if (raw > size - end) throw new RangeError(`it unpacks to more than ${size} bytes`);
    if (kind === "bvx-") {
      at += 8;
      if (at + raw > packed.length) throw new RangeError("a block passes the end");
      out.set(packed.subarray(at, at + raw), end);
      at += raw;
    } else if (kind === "bvxn") {
      const bytes = word(at + 8);
      at += 12;
      if (at + bytes > packed.length) throw new RangeError("a block passes the end");
      unpackLzvn(packed.subarray(at, at + bytes), out, end, end + raw);
      at += bytes;
    } else if (kind === "bvx1" || kind === "bvx2") {
      const block = kind === "bvx1" ? headerV1(packed, at) : headerV2(packed, at);
      at += block.header;
      const { literals, matches } = block;
      if (at + literals.bytes + matches.bytes > packed.length) throw new RangeError("a block passes the end");
      const tables = tablesOf(block.frequencies);
      const text = literalsOf(block, new Bits(packed, at, literals.bytes, literals.bits), tables[3]);
      at += literals.bytes;
      execute(block, new Bits(packed, at, matches.bytes, matches.bits), tables, text, out, end);
      at += matches.bytes;
    } else throw new RangeError("there is no block that is known");
    end += raw;
  }
  if (end < size) throw new RangeError(`it unpacks to ${end} bytes, not ${size}`);
  return out;
}

/** Bits from the end of some bytes to their start, each group's highest first. */
class Bits {
  readonly #bytes: Uint8Array;
  readonly #start: number;
  /** The lowest of those that were read. */
  #at: number;

  /** @param unused bits at the end, up to 7 */
  constructor(bytes: Uint8Array, start: number, length: number, unused: number) {
    this.#bytes = bytes;
    this.#start = start * 8;
    this.#at = (start + length) * 8 - unused;
  }

  /** Up to 24. @throws RangeError */
  pull(count: number): number {
    this.#at -= count;
    if (this.#at < this.#start) throw new RangeError("a code passes the start of its block");
    const at = this.#at >> 3;
    const bytes = this.#bytes;
    const word = bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
    return (word >>> (this.#at & 7)) & ((1 << count) - 1);
  }
}

/** What each state of a code is: its symbol, how many bits lead to the next state, and from where on. */
interface Table {
  symbol: Uint8Array;
  bits: Uint8Array;
  base: Int16Array;
  /** States that there are. */
  count: number;
}

function tablesOf(frequencies: Uint16Array): Table[] {
  let first = 0;
  return CODES.map(({ symbols, states }) => {
    const own = frequencies.subarray(first, first + symbols);
    first += symbols;
    if (own.reduce((sum, count) => sum + count, 0) > states) throw new RangeError("a code has more states than it can");
    const table = {
      symbol: new Uint8Array(states),
      bits: new Uint8Array(states),
      base: new Int16Array(states),
      count: 0,
    };
    for (const [symbol, count] of own.entries()) {
      if (count === 0) continue;
      const bits = Math.clz32(count) - Math.clz32(states);
      const longer = ((2 * states) >> bits) - count;
      for (let i = 0; i < count; i++) {
        const at = table.count++;
        table.symbol[at] = symbol;
        table.bits[at] = i < longer ? bits : bits - 1;
        table.base[at] = i < longer ? ((count + i) << bits) - states : (i - longer) << (bits - 1);
      }
    }
    return table;
  });
}

const checked = (state: number, { count }: Table): number => {
  if (state < count) return state;
  throw new RangeError("a code is in a state that it does not have");
};

/** Four codes by turns. */
function literalsOf({ literals: { count, states } }: Block, bits: Bits, table: Table): Uint8Array {
  const text = new Uint8Array(Math.ceil(count / 4) * 4);
  const now = [...states];
  for (let i = 0; i < count; i++) {
    const state = checked(now[i & 3], table);
    text[i] = table.symbol[state];
    now[i & 3] = table.base[state] + bits.pull(table.bits[state]);
  }
  return text.subarray(0, count);
}

const basesOf = (bits: readonly number[]): number[] => {
  let next = 0;
  return bits.map((count) => (next += 2 ** count) - 2 ** count);
};
const VALUES = [L_BITS, M_BITS, D_BITS].map((bits) => ({ bits, bases: basesOf(bits) }));

function execute(
  { raw, matches: { count, states } }: Block,
  bits: Bits,
  tables: readonly Table[],
  text: Uint8Array,
  out: Uint8Array,
  from: number,
): void {
  const now = [...states];
  const value = (which: number) => {
    const table = tables[which];
    const state = checked(now[which], table);
    const more = VALUES[which].bits[table.symbol[state]];
    const pulled = bits.pull(table.bits[state] + more);
    now[which] = table.base[state] + (pulled >> more);
    return VALUES[which].bases[table.symbol[state]] + (pulled & ((1 << more) - 1));
  };
  const last = from + raw;
  let end = from;
  let used = 0;
  let distance = 0;
  for (let i = 0; i < count; i++) {
    const literals = value(0);
    const match = value(1);
    distance = value(2) || distance;
    if (used + literals > text.length) throw new RangeError("a block has too few literals");
    if (end + literals + match > last) throw new RangeError("a block unpacks to more than it says");
    out.set(text.subarray(used, used + literals), end);
    used += literals;
    end += literals;
    if (match === 0) continue;
    if (distance === 0 || distance > end) throw new RangeError("a distance reaches before the start");
    for (const to = end + match; end < to; end++) out[end] = out[end - distance];
  }
  if (end !== last) throw new RangeError("a block unpacks to less than it says");
}

/** Frequencies as they are. */
function headerV1(packed: Uint8Array, at: number): Block {
  if (at + HEADER_V1 > packed.length) throw new RangeError("a block passes the end");
  const view = new DataView(packed.buffer, packed.byteOffset + at);
  const [word, half] = [(from: number) => view.getUint32(from, true), (from: number) => view.getUint16(from, true)];
  return sane({
    header: HEADER_V1,
    raw: word(4),
    literals: { count: word(12), bytes: word(20), bits: -view.getInt32(28, true), states: [32, 34, 36, 38].map(half) },
    matches: { count: word(16), bytes: word(24), bits: -view.getInt32(40, true), states: [44, 46, 48].map(half) },
    frequencies: Uint16Array.from({ length: 360 }, (_, i) => half(50 + i * 2)),
  });
}

/** Three words of fields, and frequencies in codes of 2 to 14 bits. */
function headerV2(packed: Uint8Array, at: number): Block {
  if (at + 32 > packed.length) throw new RangeError("a block passes the end");
  const view = new DataView(packed.buffer, packed.byteOffset + at);
  const field = (word: number, from: number, bits: number) =>
    Number((view.getBigUint64(8 + word * 8, true) >> BigInt(from)) & ((1n << BigInt(bits)) - 1n));
  const header = field(2, 0, 32);
  if (header < 32 || at + header > packed.length) throw new RangeError("a header passes the end");
  return sane({
    header,
    raw: view.getUint32(4, true),
    literals: {
      ...{ count: field(0, 0, 20), bytes: field(0, 20, 20), bits: 7 - field(0, 60, 3) },
      states: [0, 10, 20, 30].map((from) => field(1, from, 10)),
    },
    matches: {
      ...{ count: field(0, 40, 20), bytes: field(1, 40, 20), bits: 7 - field(1, 60, 3) },
      states: [32, 42, 52].map((from) => field(2, from, 10)),
    },
    frequencies: frequenciesOf(packed.subarray(at + 32, at + header)),
  });
}

function frequenciesOf(packed: Uint8Array): Uint16Array {
  const list = new Uint16Array(360);
  let at = 0;
  const peek = (count: number, skip = 0) => {
    let value = 0;
    for (let i = 0; i < count; i++) {
      const bit = at + skip + i;
      value |= (((packed[bit >> 3] ?? 0) >> (bit & 7)) & 1) << i;
    }
    return value;
  };
  for (let i = 0; packed.length > 0 && i < list.length; i++) {
    // 00: 0 · 10: 1 · 001: 2 · 101: 3 · xx011: 4 to 7 · xxxx0111: 8 to 23 · ten bits, then 1111: 24 and more.
    const [bits, value] =
      peek(1) === 0
        ? [2, peek(1, 1)]
        : peek(2) === 1
          ? [3, 2 + peek(1, 2)]
          : peek(3) === 3
            ? [5, 4 + peek(2, 3)]
            : peek(4) === 7
              ? [8, 8 + peek(4, 4)]
              : [14, 24 + peek(10, 4)];
    at += bits;
    if (at > packed.length * 8) throw new RangeError("the frequencies pass the end of a header");
    list[i] = value;
  }
  return list;
}

function sane(block: Block): Block {
  const { literals, matches } = block;
  const odd = [literals, matches].some(({ bits }) => bits < 0 || bits > 7);
  if (odd || literals.count > MAX_LITERALS || matches.count > MAX_MATCHES) {
    throw new RangeError("a header says what cannot be");
  }
  return block;
}
