/** Copies what lies `distance` bytes before; up to 15 bytes more than `length`. */
export function copyMatch(to: usize, distance: u32, length: u32): void {
  const end = to + length;
  if (ASC_FEATURE_SIMD) {
    if (distance >= 16) {
      for (; to < end; to += 16) v128.store(to, v128.load(to - distance));
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

/** Copies `length` bytes, and up to 15 more; those from `from` on are read before they are written over. */
export function copyWild(to: usize, from: usize, length: usize): void {
  const end = to + length;
  if (ASC_FEATURE_SIMD) {
    for (; to < end; to += 16, from += 16) v128.store(to, v128.load(from));
  } else {
    for (; to < end; to += 8, from += 8) store<u64>(to, load<u64>(from));
  }
}
