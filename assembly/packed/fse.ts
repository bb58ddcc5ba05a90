import { ZstdFault, ZstdScratch } from "../spec/zstd";

// Finite state entropy codes (RFC 8878, 4.1). A state takes 8 bytes: what it stands for, and how the next one is found.
//
//   bit 0 ┌────────────┬────────────┬────────────┬──────────────────────┐ 64
//         │ base value │ extra bits │ state bits │ first of next states │
//         └────────────┴────────────┴────────────┴──────────────────────┘
//          32            8            8            16

/** What a code's symbols are. */
export const LiteralsLength: u32 = 0;
export const OffsetCode: u32 = 1;
export const MatchLength: u32 = 2;
export const Weight: u32 = 3;

/** Extra bits of literals length codes 16 to 31 and of match length codes 32 to 47, in 4 bits each (3.1.1.3.2.1.1). */
const LITERALS_EXTRA: u64 = ((<u64>0xcba98764) << 32) | 0x33221111;
const MATCH_EXTRA: u64 = ((<u64>0xba987544) << 32) | 0x33221111;

/** 3.1.1.3.2.1.1: bits that follow a code. */
export function extraBits(kind: u32, symbol: u32): u32 {
  if (kind === OffsetCode) return symbol;
  if (kind === LiteralsLength) {
    if (symbol < 16) return 0;
    return symbol > 31 ? symbol - 19 : <u32>(LITERALS_EXTRA >> <u64>((symbol - 16) << 2)) & 15;
  }
  if (symbol < 32) return 0;
  return symbol > 47 ? symbol - 36 : <u32>(MATCH_EXTRA >> <u64>((symbol - 32) << 2)) & 15;
}

/** The same section: what they are added to. */
function baseValue(kind: u32, symbol: u32): u32 {
  if (kind === OffsetCode) return 1 << symbol;
  const least: u32 = kind === MatchLength ? 3 : 0;
  const plain: u32 = kind === MatchLength ? 32 : 16;
  let value = least + min(symbol, plain);
  for (let i = plain; i < symbol; i++) value += 1 << extraBits(kind, i);
  return value;
}

function chanceOf(scratch: usize, symbol: u32): i32 {
  return load<i16>(scratch + ((<usize>symbol) << 1), ZstdScratch.Chances);
}

function setChance(scratch: usize, symbol: u32, chance: i32): void {
  store<i16>(scratch + ((<usize>symbol) << 1), <i16>chance, ZstdScratch.Chances);
}

/** Makes 2^log states out of the chances of `count` symbols, which add up to as many; -1 is "less than one". */
export function makeStates(scratch: usize, table: usize, log: u32, count: u32, kind: u32): void {
  const size: u32 = 1 << log;
  const symbols = scratch + ZstdScratch.Symbols;
  let high = size;
  for (let symbol: u32 = 0; symbol < count; symbol++) {
    if (chanceOf(scratch, symbol) === -1) store<u8>(symbols + --high, symbol);
  }
  const step = (size >> 1) + (size >> 3) + 3;
  let at: u32 = 0;
  for (let symbol: u32 = 0; symbol < count; symbol++) {
    const chance = chanceOf(scratch, symbol);
    for (let i = 0; i < chance; i++) {
      store<u8>(symbols + at, symbol);
      do at = (at + step) & (size - 1);
      while (at >= high);
    }
    // From here on: how often the symbol has come, and its chance.
    if (chance === -1) setChance(scratch, symbol, 1);
  }
  for (let state: u32 = 0; state < size; state++) {
    const symbol: u32 = load<u8>(symbols + state);
    const value: u32 = chanceOf(scratch, symbol);
    setChance(scratch, symbol, value + 1);
    const bits: u32 = log - (31 - clz<u32>(value));
    const next: u32 = (value << bits) - size;
    const base = kind === Weight ? symbol : baseValue(kind, symbol);
    const extra: u32 = kind === Weight ? 0 : extraBits(kind, symbol);
    const low = <u64>base;
    store<u64>(table + ((<usize>state) << 3), low | ((<u64>(extra | (bits << 8) | (next << 16))) << 32));
  }
}

/** A code that always says the same (RLE mode). */
export function oneState(table: usize, symbol: u32, kind: u32): void {
  store<u64>(table, <u64>baseValue(kind, symbol) | ((<u64>extraBits(kind, symbol)) << 32));
}

/** 3.1.1.3.2.2: the chances that need not be sent; returns of how many symbols. */
export function defaultChances(scratch: usize, kind: u32): u32 {
  const count: u32 = kind === OffsetCode ? 29 : kind === LiteralsLength ? 36 : 53;
  for (let i: u32 = 0; i < count; i++) {
    let chance: i32 = 1;
    if (kind === OffsetCode) {
      if (i >= 24) chance = -1;
      else if (i >= 6 && i <= 8) chance = 2;
    } else if (kind === LiteralsLength) {
      if (i >= 32) chance = -1;
      else if (i === 0) chance = 4;
      else if (i === 1 || i === 25) chance = 3;
      else if (i <= 12 || (i >= 16 && i <= 26)) chance = 2;
    } else if (i >= 46) chance = -1;
    else if (i === 1) chance = 4;
    else if (i === 2) chance = 3;
    else if (i >= 3 && i <= 8) chance = 2;
    setChance(scratch, i, chance);
  }
  return count;
}

/**
 * Reads the description of a code (4.1.1) and makes it; returns where it ends, 0 with a fault. The low 4 bits of the word
 * `bits` are how many bits its states have.
 */
export function readStates(
  scratch: usize,
  at: usize,
  end: usize,
  table: usize,
  bits: usize,
  most: u32,
  symbols: u32,
  kind: u32,
): usize {
  let bit: u32 = 4;
  const last = (<u32>(end - at)) << 3;
  const log = (<u32>load<u8>(at) & 15) + 5;
  if (log > most) return fail(scratch, ZstdFault.EntropyBits);
  let count: u32 = 0;
  for (let left: u32 = 1 << log; left > 0; ) {
    if (count >= symbols) return fail(scratch, ZstdFault.EntropySymbols);
    // Of the values 0 to left + 1, the lower ones take one bit less.
    const wide: u32 = 32 - clz<u32>(left + 1);
    const spare: u32 = (1 << wide) - 1 - (left + 1);
    const word = load<u32>(at + (bit >> 3)) >> (bit & 7);
    let value = word & ((1 << wide) - 1);
    const low = word & ((1 << (wide - 1)) - 1);
    if (low < spare) {
      bit += wide - 1;
      value = low;
    } else {
      bit += wide;
      if (value >= <u32>(1 << (wide - 1))) value -= spare;
    }
    left -= value === 0 ? 1 : value - 1;
    setChance(scratch, count++, <i32>value - 1);
    if (value === 1) {
      for (let more: u32 = 3; more === 3; ) {
        more = (load<u32>(at + (bit >> 3)) >> (bit & 7)) & 3;
        bit += 2;
        if (count + more > symbols) return fail(scratch, ZstdFault.EntropySymbols);
        for (let i: u32 = 0; i < more; i++) setChance(scratch, count++, 0);
      }
    }
    if (bit > last) return fail(scratch, ZstdFault.EntropyCut);
  }
  makeStates(scratch, table, log, count, kind);
  store<u32>(bits, log);
  return at + ((bit + 7) >> 3);
}

export function fail(scratch: usize, fault: u32): u32 {
  store<u32>(scratch, fault, ZstdScratch.Fault);
  return 0;
}
