/** RFC 1950, 8.2. */
const MODULUS: u32 = 65521;
/** As many bytes as keep the sums in 32 bits; whole blocks of 16. */
const RUN: u32 = 5552;

/** The Adler-32 of bytes [at, at + length). */
export function adler32(at: usize, length: u32): u32 {
  let low: u32 = 1;
  let high: u32 = 0;
  while (length > 0) {
    let run = min(length, RUN);
    length -= run;
    if (ASC_FEATURE_SIMD && run >= 16) {
      // Of each block of 16: its sum, its sum weighted by 16 to 1, and the sum of all blocks before it.
      let sums = i32x4.splat(0);
      let weighted = i32x4.splat(0);
      let before = i32x4.splat(0);
      const blocks = run >> 4;
      for (const end = at + (blocks << 4); at < end; at += 16) {
        const bytes = v128.load(at);
        before = v128.add<i32>(before, sums);
        const first = i16x8.extmul_low_i8x16_u(bytes, i8x16(16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1));
        const second = i16x8.extmul_high_i8x16_u(bytes, i8x16(16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1));
        const both = v128.add<i16>(first, second);
        weighted = v128.add<i32>(weighted, i32x4.extadd_pairwise_i16x8_u(both));
        sums = v128.add<i32>(sums, i32x4.extadd_pairwise_i16x8_u(i16x8.extadd_pairwise_i8x16_u(bytes)));
      }
      high += total(before) * 16 + total(weighted) + low * (blocks << 4);
      low += total(sums);
      run &= 15;
    }
    for (; run > 0; run--) {
      low += load<u8>(at++);
      high += low;
    }
    low %= MODULUS;
    high %= MODULUS;
  }
  return (high << 16) | low;
}

function total(lanes: v128): u32 {
  const two = v128.add<i32>(lanes, v128.shuffle<i32>(lanes, lanes, 2, 3, 0, 1));
  return <u32>(i32x4.extract_lane(two, 0) + i32x4.extract_lane(two, 1));
}
