import { ZstdFault, ZstdScratch } from "../spec/zstd";
import { chanceOf, setChance, spread } from "./chances";
import { baseValue, extraBits, Weight } from "./codes";

// Finite state entropy codes (RFC 8878, 4.1). A state takes 8 bytes: what it stands for, and how the next one is found.
//
//   bit 0 ┌────────────┬────────────┬────────────┬──────────────────────┐ 64
//         │ base value │ extra bits │ state bits │ first of next states │
//         └────────────┴────────────┴────────────┴──────────────────────┘
//          32            8            8            16

/** Makes 2^log states out of the chances of `count` symbols, which add up to as many; -1 is "less than one". */
export function makeStates(scratch: usize, table: usize, log: u32, count: u32, kind: u32): void {
  const size: u32 = 1 << log;
  const chances = scratch + ZstdScratch.Chances;
  const symbols = scratch + ZstdScratch.Symbols;
  spread(chances, symbols, count, size);
  // From here on: how often the symbol has come, and its chance.
  for (let symbol: u32 = 0; symbol < count; symbol++) {
    if (chanceOf(chances, symbol) === -1) setChance(chances, symbol, 1);
  }
  for (let state: u32 = 0; state < size; state++) {
    const symbol: u32 = load<u8>(symbols + state);
    const value: u32 = chanceOf(chances, symbol);
    setChance(chances, symbol, value + 1);
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

/**
 * Reads the description of a code (4.1.1) and makes it; returns where it ends, 0 with a fault. The word at `bits` becomes how
 * many bits its states have.
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
  const chances = scratch + ZstdScratch.Chances;
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
    setChance(chances, count++, <i32>value - 1);
    if (value === 1) {
      for (let more: u32 = 3; more === 3; ) {
        more = (load<u32>(at + (bit >> 3)) >> (bit & 7)) & 3;
        bit += 2;
        if (count + more > symbols) return fail(scratch, ZstdFault.EntropySymbols);
        for (let i: u32 = 0; i < more; i++) setChance(chances, count++, 0);
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
