// Bits that are read from their end backwards (RFC 8878, 4.1), from below the highest set bit of the last byte. Who reads
// keeps the byte of the first bit and how many bits are left; 8 bytes past the end are read, whatever they are.

/** How many bits [start, end) has before its end mark; -1 when there is none. */
export function backwardBits(start: usize, end: usize): i32 {
  if (end <= start) return -1;
  const last: u32 = load<u8>(end - 1);
  if (last === 0) return -1;
  return <i32>(end - start) * 8 - <i32>clz<u32>(last) + 23;
}

/** At least the next 56 bits, from the highest on; zeros past the start. */
export function nextBits(start: usize, left: i32): u64 {
  if (left >= 64) return topBits(start, left);
  if (left <= 0) return 0;
  return load<u64>(start) << (<u64>(64 - left));
}

/** At least the next 57 bits, from the highest on, where at least 64 are left. */
export function topBits(start: usize, left: i32): u64 {
  const bytes = (left + 7) >> 3;
  return load<u64>(start + bytes - 8) << (<u64>((bytes << 3) - left));
}

/** The highest `count` bits, at most 32; none of them is a count, too. */
export function first(bits: u64, count: u32): u32 {
  return <u32>((bits >> 1) >> <u64>(63 - count));
}
