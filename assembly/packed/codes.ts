// The codes of sequences (RFC 8878, 3.1.1.3.2.1.1): each stands for a range of values, and extra bits say which.

/** What a code's symbols are. */
export const LiteralsLength: u32 = 0;
export const OffsetCode: u32 = 1;
export const MatchLength: u32 = 2;
export const Weight: u32 = 3;

/** How many symbols such a code may have. */
export function symbolsOf(kind: u32): u32 {
  return kind === LiteralsLength ? 36 : kind === OffsetCode ? 32 : 53;
}

/** Bits of its states, at the most; and of those that need not be sent (3.1.1.3.2.2). */
export function mostBits(kind: u32): u32 {
  return kind === OffsetCode ? 8 : 9;
}
export function defaultBits(kind: u32): u32 {
  return kind === OffsetCode ? 5 : 6;
}

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
export function baseValue(kind: u32, symbol: u32): u32 {
  if (kind === OffsetCode) return 1 << symbol;
  const least: u32 = kind === MatchLength ? 3 : 0;
  const plain: u32 = kind === MatchLength ? 32 : 16;
  let value = least + min(symbol, plain);
  for (let i = plain; i < symbol; i++) value += 1 << extraBits(kind, i);
  return value;
}

/** 3.1.1.3.2.1.1: the code of an offset value; what its extra bits say are the value's lowest. */
export function offsetCodeOf(value: u32): u32 {
  return 31 - clz<u32>(value);
}

/** The same of a literals length. */
export function literalsCodeOf(value: u32): u32 {
  if (value < 16) return value;
  if (value < 24) return 16 + ((value - 16) >> 1);
  if (value < 32) return 20 + ((value - 24) >> 2);
  if (value < 48) return 22 + ((value - 32) >> 3);
  return value < 64 ? 24 : 50 - clz<u32>(value);
}

/** The same of a match length less 3. */
export function matchCodeOf(value: u32): u32 {
  if (value < 32) return value;
  if (value < 40) return 32 + ((value - 32) >> 1);
  if (value < 48) return 36 + ((value - 40) >> 2);
  if (value < 64) return 38 + ((value - 48) >> 3);
  if (value < 96) return 40 + ((value - 64) >> 4);
  return value < 128 ? 42 : 67 - clz<u32>(value);
}
