// DEFLATE (RFC 1951), of a known length. What is damaged is found, not explained: src/host/format/inflate.ts has the words.
//
// Reads up to 16 bytes past the input's end and writes up to 272 past the output's, whatever comes in.

import { copyMatch } from "./copy";

/** Bits of input that are looked up at once; longer codes go on in a table of their own. */
const LITERAL_BITS: u32 = 10;
const DISTANCE_BITS: u32 = 8;
const MAX_BITS: u32 = 15;

// Scratch, in bytes. A set of codes has its first table, and then as many others as codes could need that are longer: so
// many that even what is not a complete code stays inside.
const LITERALS: usize = 0;
const DISTANCES: usize = LITERALS + ((1 << LITERAL_BITS) + (288 << (MAX_BITS - LITERAL_BITS))) * 4;
/** A byte each: lengths of literal and distance codes, in one row. */
const LENGTHS: usize = DISTANCES + ((1 << DISTANCE_BITS) + (32 << (MAX_BITS - DISTANCE_BITS))) * 4;
/** u16 each: how many codes have a length, then where the next one goes, then symbols by code. */
const COUNTS: usize = LENGTHS + 320;
const PLACES: usize = COUNTS + 32;
const SYMBOLS: usize = PLACES + 32;

// An entry: code bits (0: there is none) | extra bits << 4 | kind << 8 | value << 16.
const Literal: u32 = 0;
/** A base, to which the extra bits are added. */
const Base: u32 = 1 << 8;
const End: u32 = 2 << 8;
/** Another table: the value is where, the extra bits how many bits it takes. */
const Link: u32 = 3 << 8;
const KIND: u32 = 3 << 8;

// What a set of symbols stands for.
const CODE_LENGTHS: u32 = 0;
const LENGTHS_OF_MATCHES: u32 = 1;
const DISTANCES_OF_MATCHES: u32 = 2;

/** Entry of a symbol without its code bits (3.2.5); 0 bits of kind `Base` with value 0 stand for what is not defined. */
function meaning(set: u32, symbol: u32): u32 {
  if (set === CODE_LENGTHS) return Literal | (symbol << 16);
  if (set === LENGTHS_OF_MATCHES) {
    if (symbol < 256) return Literal | (symbol << 16);
    if (symbol === 256) return End;
    const code = symbol - 257;
    if (code > 28) return Base;
    if (code === 28) return Base | (258 << 16);
    if (code < 8) return Base | ((3 + code) << 16);
    const extra = (code - 4) >> 2;
    return Base | (extra << 4) | ((3 + ((4 + (code & 3)) << extra)) << 16);
  }
  if (symbol > 29) return Base;
  if (symbol < 4) return Base | ((1 + symbol) << 16);
  const extra = (symbol - 2) >> 1;
  return Base | (extra << 4) | ((1 + ((2 + (symbol & 1)) << extra)) << 16);
}

function reversed(code: u32, bits: u32): u32 {
  let result: u32 = 0;
  for (let i: u32 = 0; i < bits; i++) result |= ((code >> i) & 1) << (bits - 1 - i);
  return result;
}

/** Fills every entry of `table` whose index ends with `code`. */
function spread(table: usize, size: u32, code: u32, bits: u32, entry: u32): void {
  for (let at = code; at < size; at += 1 << bits) store<u32>(table + ((<usize>at) << 2), entry);
}

/** Tables for the canonical code (3.2.2) with these lengths, a byte each. False: there are more codes than fit. */
function makeTables(scratch: usize, table: usize, tableBits: u32, lengths: usize, count: u32, set: u32): bool {
  const counts = scratch + COUNTS;
  const places = scratch + PLACES;
  const symbols = scratch + SYMBOLS;
  memory.fill(counts, 0, 32);
  for (let i: u32 = 0; i < count; i++) {
    const at = counts + ((<usize>load<u8>(lengths + i)) << 1);
    store<u16>(at, load<u16>(at) + 1);
  }
  store<u16>(counts, 0);
  let left: i32 = 1;
  let place: u32 = 0;
  for (let bits: u32 = 1; bits <= MAX_BITS; bits++) {
    const some: u32 = load<u16>(counts + (bits << 1));
    left = (left << 1) - <i32>some;
    if (left < 0) return false;
    store<u16>(places + (bits << 1), place);
    place += some;
  }
  for (let i: u32 = 0; i < count; i++) {
    const length: usize = load<u8>(lengths + i);
    if (length === 0) continue;
    const at = places + (length << 1);
    const free: u32 = load<u16>(at);
    store<u16>(symbols + (free << 1), i);
    store<u16>(at, free + 1);
  }
  const size: u32 = 1 << tableBits;
  memory.fill(table, 0, size << 2);
  let code: u32 = 0;
  let index: u32 = 0;
  let end = size;
  for (let bits: u32 = 1; bits <= MAX_BITS; bits++, code <<= 1) {
    for (let left: u32 = load<u16>(counts + (bits << 1)); left > 0; left--, code++, index++) {
      const entry = meaning(set, load<u16>(symbols + (index << 1)));
      const mine = reversed(code, bits);
      if (bits <= tableBits) {
        spread(table, size, mine, bits, entry | bits);
        continue;
      }
      const link = table + ((<usize>(mine & (size - 1))) << 2);
      const more = MAX_BITS - tableBits;
      if (load<u32>(link) === 0) {
        memory.fill(table + ((<usize>end) << 2), 0, 4 << more);
        store<u32>(link, Link | (more << 4) | (end << 16) | tableBits);
        end += 1 << more;
      }
      const other = table + ((<usize>(load<u32>(link) >> 16)) << 2);
      spread(other, 1 << more, mine >> tableBits, bits - tableBits, entry | (bits - tableBits));
    }
  }
  return true;
}

/** 3.2.6: the codes that need not be sent. */
function fixedTables(scratch: usize): void {
  const lengths = scratch + LENGTHS;
  memory.fill(lengths, 8, 288);
  memory.fill(lengths + 144, 9, 112);
  memory.fill(lengths + 256, 7, 24);
  makeTables(scratch, scratch + LITERALS, LITERAL_BITS, lengths, 288, LENGTHS_OF_MATCHES);
  memory.fill(lengths, 5, 30);
  makeTables(scratch, scratch + DISTANCES, DISTANCE_BITS, lengths, 30, DISTANCES_OF_MATCHES);
}

/** 3.2.7: the order in which code length codes come: 16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15. */
function codeOrder(index: u32): u32 {
  if (index < 3) return 16 + index;
  if (index === 3) return 0;
  const half = (index - 4) >> 1;
  return index & 1 ? 7 - half : 8 + half;
}

/**
 * Exactly `size` bytes out of the raw DEFLATE data in [input, inputEnd). How many bytes of it that took; 0: it is damaged.
 * @param toEnd the data has to end with the last byte; else it is not looked at any further
 * @param scratch 58 KiB, at a multiple of 4
 */
export function inflate(input: usize, inputEnd: usize, output: usize, size: u32, toEnd: bool, scratch: usize): u32 {
  const start = input;
  const begin = output;
  const outputEnd = output + size;
  // Bits come from the least significant end; `input` is up to 7 bytes ahead of them.
  const limit = inputEnd + 8;
  let hold: u64 = 0;
  let held: u64 = 0;
  let last = false;
  while (!last && (toEnd || output < outputEnd)) {
    hold |= load<u64>(input) << held;
    input += <usize>((63 - held) >> 3);
    held |= 56;
    if (input > limit) return 0;
    last = (hold & 1) !== 0;
    const type = (<u32>hold >> 1) & 3;
    hold >>= 3;
    held -= 3;
    if (type === 3) return 0;
    if (type === 0) {
      input -= <usize>(held >> 3);
      hold = 0;
      held = 0;
      if (input + 4 > inputEnd) return 0;
      const length: u32 = load<u16>(input);
      if (length !== (~(<u32>load<u16>(input, 2)) & 0xffff)) return 0;
      const room = <u32>(outputEnd - output);
      if (toEnd && length > room) return 0;
      const count = min(length, room);
      if (input + 4 + count > inputEnd) return 0;
      memory.copy(output, input + 4, count);
      output += count;
      input += 4 + count;
      // Of a block that is not wanted to its end, the rest need not be there.
      if (count < length) break;
      continue;
    }
    if (type === 1) fixedTables(scratch);
    else {
      const literals = (<u32>hold & 31) + 257;
      const distances = (<u32>(hold >> 5) & 31) + 1;
      const count = (<u32>(hold >> 10) & 15) + 4;
      hold >>= 14;
      held -= 14;
      if (literals > 286) return 0;
      const lengths = scratch + LENGTHS;
      memory.fill(lengths, 0, 19);
      for (let i: u32 = 0; i < count; i++) {
        hold |= load<u64>(input) << held;
        input += <usize>((63 - held) >> 3);
        held |= 56;
        store<u8>(lengths + codeOrder(i), <u32>hold & 7);
        hold >>= 3;
        held -= 3;
      }
      const table = scratch + LITERALS;
      if (!makeTables(scratch, table, LITERAL_BITS, lengths, 19, CODE_LENGTHS)) return 0;
      const all = literals + distances;
      for (let i: u32 = 0; i < all; ) {
        hold |= load<u64>(input) << held;
        input += <usize>((63 - held) >> 3);
        held |= 56;
        if (input > limit) return 0;
        const entry = load<u32>(table + ((<usize>hold & ((1 << LITERAL_BITS) - 1)) << 2));
        const bits: u64 = entry & 15;
        if (bits === 0) return 0;
        hold >>= bits;
        held -= bits;
        const symbol = entry >> 16;
        if (symbol < 16) {
          store<u8>(lengths + i++, symbol);
          continue;
        }
        let value: u32 = 0;
        let repeat: u32 = 3;
        let extra: u64 = 2;
        if (symbol === 16) {
          if (i === 0) return 0;
          value = load<u8>(lengths + i - 1);
        } else if (symbol === 17) extra = 3;
        else {
          extra = 7;
          repeat = 11;
        }
        repeat += <u32>hold & ((1 << (<u32>extra)) - 1);
        hold >>= extra;
        held -= extra;
        if (i + repeat > all) return 0;
        memory.fill(lengths + i, <u8>value, repeat);
        i += repeat;
      }
      // The distances' first, since the literals' tables take the place of the code lengths'.
      const bits = lengths + literals;
      if (!makeTables(scratch, scratch + DISTANCES, DISTANCE_BITS, bits, distances, DISTANCES_OF_MATCHES)) return 0;
      if (!makeTables(scratch, table, LITERAL_BITS, lengths, literals, LENGTHS_OF_MATCHES)) return 0;
    }

    const codes = scratch + LITERALS;
    const aways = scratch + DISTANCES;
    while (toEnd || output < outputEnd) {
      // 56 bits are enough for a length and a distance: 15 + 5 + 15 + 13.
      hold |= load<u64>(input) << held;
      input += <usize>((63 - held) >> 3);
      held |= 56;
      if (input > limit) return 0;
      let entry = load<u32>(codes + ((<usize>hold & ((1 << LITERAL_BITS) - 1)) << 2));
      if ((entry & (KIND | 15)) < 16 && (entry & 15) !== 0 && output < outputEnd) {
        // Most are literals, with short codes; another one may follow without more bits.
        store<u8>(output++, entry >> 16);
        hold >>= <u64>(entry & 15);
        held -= <u64>(entry & 15);
        entry = load<u32>(codes + ((<usize>hold & ((1 << LITERAL_BITS) - 1)) << 2));
        if ((entry & (KIND | 15)) < 16 && (entry & 15) !== 0 && output < outputEnd) {
          store<u8>(output++, entry >> 16);
          hold >>= <u64>(entry & 15);
          held -= <u64>(entry & 15);
        }
        continue;
      }
      if ((entry & KIND) === Link) {
        hold >>= <u64>LITERAL_BITS;
        held -= <u64>LITERAL_BITS;
        const index = (entry >> 16) + (<u32>hold & ((1 << ((entry >> 4) & 15)) - 1));
        entry = load<u32>(codes + ((<usize>index) << 2));
      }
      let bits: u64 = entry & 15;
      if (bits === 0) return 0;
      hold >>= bits;
      held -= bits;
      if ((entry & KIND) === Literal) {
        if (output >= outputEnd) return 0;
        store<u8>(output++, entry >> 16);
        continue;
      }
      if ((entry & KIND) === End) break;
      bits = (entry >> 4) & 15;
      let length = (entry >> 16) + (<u32>hold & ((1 << (<u32>bits)) - 1));
      hold >>= bits;
      held -= bits;
      if (length < 3) return 0;
      entry = load<u32>(aways + ((<usize>hold & ((1 << DISTANCE_BITS) - 1)) << 2));
      if ((entry & KIND) === Link) {
        hold >>= <u64>DISTANCE_BITS;
        held -= <u64>DISTANCE_BITS;
        const index = (entry >> 16) + (<u32>hold & ((1 << ((entry >> 4) & 15)) - 1));
        entry = load<u32>(aways + ((<usize>index) << 2));
      }
      bits = entry & 15;
      if (bits === 0) return 0;
      hold >>= bits;
      held -= bits;
      bits = (entry >> 4) & 15;
      const distance = (entry >> 16) + (<u32>hold & ((1 << (<u32>bits)) - 1));
      hold >>= bits;
      held -= bits;
      if (distance === 0 || <usize>distance > output - begin) return 0;
      const room = <u32>(outputEnd - output);
      if (length > room) {
        if (toEnd) return 0;
        length = room;
      }
      copyMatch(output, distance, length);
      output += length;
    }
  }
  input -= <usize>(held >> 3);
  return output === outputEnd && input <= inputEnd ? <u32>(input - start) : 0;
}
