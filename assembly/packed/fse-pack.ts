import { ZstdPack } from "../spec/zstd";
import { chanceOf, setChance, spread } from "./chances";

// Finite state entropy codes for writing (RFC 8878, 4.1): states are made as their reader makes them.

/** Bytes that a kind of code takes, and where in them it is said how a symbol is left. */
const KIND: usize = 1536;
const LEAVE: usize = 1024;

function statesOf(scratch: usize, kind: u32): usize {
  return scratch + ZstdPack.States + <usize>kind * KIND;
}
/**
 * Chances that add up to 2^log, from `counts` (u32 each), how often each of `symbols` comes; whatever comes has one. `total` is the sum of the
 * counts, of which two at least are not 0.
 */
export function chancesOf(scratch: usize, counts: usize, symbols: u32, total: u32, log: u32): void {
  const chances = scratch + ZstdPack.Chances;
  const size: i32 = 1 << log;
  let left = size;
  let largest: u32 = 0;
  let most: i32 = 0;
  for (let symbol: u32 = 0; symbol < symbols; symbol++) {
    const count = load<u32>(counts + ((<usize>symbol) << 2));
    let chance: i32 = 0;
    if (count > 0) chance = max<i32>(1, <i32>((((<u64>count) << log) + (total >> 1)) / <u64>total));
    if (chance > most) {
      most = chance;
      largest = symbol;
    }
    left -= chance;
    setChance(chances, symbol, chance);
  }
  if (most + left > most >> 1) {
    // The commonest bears what rounding has left, or has taken too much.
    setChance(chances, largest, most + left);
    return;
  }
  // Too many that are rare: of each that can spare something, one.
  while (left < 0) {
    for (let symbol: u32 = 0; symbol < symbols && left < 0; symbol++) {
      const chance = chanceOf(chances, symbol);
      if (chance < 2) continue;
      setChance(chances, symbol, chance - 1);
      left++;
    }
  }
}

/** Writes the description of a code (4.1.1); returns where it ends. */
export function writeChances(scratch: usize, symbols: u32, log: u32, output: usize): usize {
  const chances = scratch + ZstdPack.Chances;
  let bits: u64 = log - 5;
  let count: u32 = 4;
  let left: i32 = 1 << log;
  let at = output;
  for (let symbol: u32 = 0; left > 0; ) {
    const chance = chanceOf(chances, symbol++);
    // Of the values 0 to left + 1, the lower ones take one bit less.
    const wide: u32 = 32 - clz<u32>(left + 1);
    const spare: u32 = (1 << wide) - 1 - (left + 1);
    const value = <u32>(chance + 1);
    const short = value < spare;
    const written = !short && value >= <u32>(1 << (wide - 1)) ? value + spare : value;
    bits |= (<u64>written) << (<u64>count);
    count += short ? wide - 1 : wide;
    left -= chance;
    if (chance === 0) {
      let more: u32 = 0;
      while (symbol + more < symbols && chanceOf(chances, symbol + more) === 0) more++;
      symbol += more;
      for (; more >= 3; more -= 3) {
        bits |= (<u64>3) << (<u64>count);
        count += 2;
        if (count > 32) {
          store<u64>(at, bits);
          at += 4;
          bits >>= 32;
          count -= 32;
        }
      }
      bits |= (<u64>more) << (<u64>count);
      count += 2;
    }
    while (count >= 8) {
      store<u8>(at++, bits);
      bits >>= 8;
      count -= 8;
    }
  }
  if (count > 0) store<u8>(at++, bits);
  return at;
}

/** Makes 2^log states out of the chances of `symbols`, for writing. */
export function makeWriter(scratch: usize, kind: u32, symbols: u32, log: u32): void {
  const size: u32 = 1 << log;
  const chances = scratch + ZstdPack.Chances;
  const list = scratch + ZstdPack.Symbols;
  const states = statesOf(scratch, kind);
  spread(chances, list, symbols, size);
  let first: u32 = 0;
  for (let symbol: u32 = 0; symbol < symbols; symbol++) {
    const chance = chanceOf(chances, symbol);
    if (chance === 0) continue;
    const count: u32 = abs(chance);
    // A state s is left with (s + bits) >> 16 bits, and what is above them leads from its first on to the next.
    const out: u32 = count === 1 ? log : log - (31 - clz<u32>(count - 1));
    const bits: u32 = (out << 16) - (count === 1 ? size : count << out);
    const leave = states + LEAVE + ((<usize>symbol) << 3);
    store<u32>(leave, bits);
    store<i32>(leave, <i32>first - <i32>count, 4);
    setChance(chances, symbol, <i32>first);
    first += count;
  }
  // From here on a chance is where the symbol's next state goes.
  for (let state: u32 = 0; state < size; state++) {
    const symbol: u32 = load<u8>(list + state);
    const place = <u32>chanceOf(chances, symbol);
    store<u16>(states + ((<usize>place) << 1), size + state);
    setChance(chances, symbol, place + 1);
  }
}

/** A code that always says the same: its one state takes no bits. */
export function makeSame(scratch: usize, kind: u32, symbol: u32): void {
  store<u16>(statesOf(scratch, kind), 0);
  store<u64>(statesOf(scratch, kind) + LEAVE + ((<usize>symbol) << 3), 0);
}

/** The state in which the last symbol is, which is written first: the lowest, so that its reader asks for more than there is. */
export function firstState(scratch: usize, kind: u32, symbol: u32): u32 {
  const states = statesOf(scratch, kind);
  const leave = states + LEAVE + ((<usize>symbol) << 3);
  const bits = load<u32>(leave);
  const out = (bits + 0x8000) >> 16;
  const value = (out << 16) - bits;
  return load<u16>(states + ((<usize>(<i32>(value >> out) + load<i32>(leave, 4))) << 1));
}

/** How many bits of a state are written when `symbol` comes before. */
export function bitsLeft(scratch: usize, kind: u32, state: u32, symbol: u32): u32 {
  return (state + load<u32>(statesOf(scratch, kind) + LEAVE + ((<usize>symbol) << 3))) >> 16;
}

/** The state of `symbol` that leads to what is above those bits. */
export function stateBefore(scratch: usize, kind: u32, state: u32, symbol: u32, bits: u32): u32 {
  const states = statesOf(scratch, kind);
  const from = load<i32>(states + LEAVE + ((<usize>symbol) << 3), 4);
  return load<u16>(states + ((<usize>(<i32>(state >> bits) + from)) << 1));
}
