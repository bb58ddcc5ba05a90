import { LiteralsLength, OffsetCode } from "./codes";

// How likely the symbols of a finite state entropy code are (RFC 8878, 4.1.1): an i16 each, -1 for "less than one".

export function chanceOf(chances: usize, symbol: u32): i32 {
  return load<i16>(chances + ((<usize>symbol) << 1));
}

export function setChance(chances: usize, symbol: u32, chance: i32): void {
  store<i16>(chances + ((<usize>symbol) << 1), <i16>chance);
}

/** 3.1.1.3.2.2: the chances that need not be sent; returns of how many symbols. */
export function defaultChances(chances: usize, kind: u32): u32 {
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
    setChance(chances, i, chance);
  }
  return count;
}

/** Which of `count` symbols each of `size` states is, a byte each, as often as its chance says (4.1.1). */
export function spread(chances: usize, symbols: usize, count: u32, size: u32): void {
  let high = size;
  for (let symbol: u32 = 0; symbol < count; symbol++) {
    if (chanceOf(chances, symbol) === -1) store<u8>(symbols + --high, symbol);
  }
  const step = (size >> 1) + (size >> 3) + 3;
  let at: u32 = 0;
  for (let symbol: u32 = 0; symbol < count; symbol++) {
    const chance = chanceOf(chances, symbol);
    for (let i = 0; i < chance; i++) {
      store<u8>(symbols + at, symbol);
      do at = (at + step) & (size - 1);
      while (at >= high);
    }
  }
}
