/** Copies what lies `distance` bytes before; up to 16 bytes more than `length`. */
export function copyMatch(to: usize, distance: u32, length: u32): void {
  const end = to + length;
  if (ASC_FEATURE_SIMD) {
    if (distance >= 16) {
      // Most are short.
      v128.store(to, v128.load(to - distance));
      for (to += 16; to < end; to += 16) v128.store(to, v128.load(to - distance));
      return;
    }
  }
  if (distance < 8) {
    // What repeats every `distance` bytes does so every multiple of it.
    let period = distance;
    while (period < 8) period += distance;
    const first = min<usize>(end, to + period);
    for (; to < first; to++) store<u8>(to, load<u8>(to - distance));
    distance = period;
  }
  for (; to < end; to += 8) store<u64>(to, load<u64>(to - distance));
}

/** Copies `length` bytes from elsewhere, and up to 16 more. */
export function copyWild(to: usize, from: usize, length: usize): void {
  const end = to + length;
  if (ASC_FEATURE_SIMD) {
    // Most are short.
    v128.store(to, v128.load(from));
    for (to += 16, from += 16; to < end; to += 16, from += 16) v128.store(to, v128.load(from));
  } else {
    for (; to < end; to += 8, from += 8) store<u64>(to, load<u64>(from));
  }
}
