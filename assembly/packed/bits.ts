// Bits that are read from their end backwards (RFC 8878, 4.1), from below the highest set bit of the last byte. Who reads
// keeps the byte of the first bit and how many bits are left; 8 bytes past the end are read, whatever they are.

/** Bits in [start, end); 0 when there is no end mark, or nothing before it. */
export function backwardBits(start: usize, end: usize): i32 {
  if (end <= start) return -1;
  const last: u32 = load<u8>(end - 1);
  if (last === 0) return -1;
  return <i32>(end - start) * 8 - <i32>clz<u32>(last) + 23;
}

/** The next 56 bits, the first of them the highest; zeros past the start. */
export function peek56(start: usize, left: i32): u64 {
  if (left >= 56) {
    const at = left - 56;
    return (load<u64>(start + (<usize>at >> 3)) >> <u64>(at & 7)) & (((<u64>1) << 56) - 1);
  }
  if (left <= 0) return 0;
  return (load<u64>(start) & (((<u64>1) << (<u64>left)) - 1)) << (<u64>(56 - left));
}

/** Of such 56 bits, `count` from the `used`th on. Together at most 56. */
export function field(bits: u64, used: u32, count: u32): u32 {
  return <u32>((bits >> <u64>(56 - used - count)) & (((<u64>1) << (<u64>count)) - 1));
}
