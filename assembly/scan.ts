// Where a buffer holds zeros: what sparse copies leave out.

/** Are bytes [at, at + length) zero? `length` is a multiple of 64. */
function isZero(at: usize, length: u32): bool {
  const end = at + length;
  if (ASC_FEATURE_SIMD) {
    for (; at < end; at += 64) {
      const low = v128.or(v128.load(at), v128.load(at, 16));
      const high = v128.or(v128.load(at, 32), v128.load(at, 48));
      if (v128.any_true(v128.or(low, high))) return false;
    }
  } else {
    for (; at < end; at += 32) {
      if ((load<u64>(at) | load<u64>(at, 8) | load<u64>(at, 16) | load<u64>(at, 24)) !== 0) return false;
    }
  }
  return true;
}

/**
 * The bytes from `at` on, in whole units (the last one may be cut short by `length`), that are all zeros, or of which no unit
 * is: how many, plus 1 when they are zeros. `length` and `unit` are multiples of 64, below 2^31.
 */
export function zeroRun(at: usize, length: u32, unit: u32): u32 {
  let run = min<u32>(unit, length);
  const zero = isZero(at, run);
  while (run < length) {
    const next = min<u32>(unit, length - run);
    if (isZero(at + run, next) !== zero) break;
    run += next;
  }
  return run | <u32>zero;
}
