// What a buffer holds: zeros, which sparse copies leave out, or noise, which is not worth the work of compressing.

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

// Scratch of `incompressible`, in bytes: a histogram of 256 u32, then a hash table of 2^13 u32 (a word's tag; 0: none).
const TABLE: usize = 256 * 4;
const TABLE_BITS: u32 = 13;
/** Of the buffer so many pieces are looked at, of so many bytes, not evenly spaced: what has a period is not to fall between. */
const PIECES: u32 = 128;
const PIECE: u32 = 64;
/** 2^64 over the golden ratio: a product with it has its mixed bits at the top. */
const GOLDEN: u64 = ((<u64>0x9e3779b9) << 32) | 0x7f4a7c15;
/** Words of every so many bytes are remembered. */
const STRIDE: u32 = 16;
/**
 * The sum of the squared counts of N even bytes is N²/256 + N on average, ± 723 for N = 8192; 8 % above the first is 17 of
 * those from the average, and a loss of 0.06 bits a byte.
 */
const EVEN: u32 = 283115;

function pieceAt(index: u32, step: u32): u32 {
  return index * step + ((((index * 5) & 7) * (step - PIECE)) >> 3);
}

/** Of a piece, words are looked for from so many bytes on: each repeat has two of those that are remembered. */
const LOOKED_AT: u32 = STRIDE * 2;

/** Where a word with this product is remembered, and as what: 44 bits of it, which other words hardly share. */
function slot(scratch: usize, product: u64): usize {
  return scratch + TABLE + ((<usize>(product >> (64 - TABLE_BITS))) << 2);
}
function tag(product: u64): u32 {
  return <u32>(product >> (32 - TABLE_BITS)) | 1;
}

/**
 * Would compression gain next to nothing here? Yes when a sample has all bytes alike often, and repeats no eight bytes of
 * the rest. `length` is a multiple of 4096, at least 8192; `scratch` has 33 KiB.
 */
export function incompressible(at: usize, length: u32, scratch: usize): bool {
  memory.fill(scratch, 0, TABLE + (4 << TABLE_BITS));
  const step = length / PIECES;
  for (let piece: u32 = 0; piece < PIECES; piece++) {
    for (let p = at + pieceAt(piece, step), end = p + PIECE; p < end; p++) {
      const count = scratch + ((<usize>load<u8>(p)) << 2);
      store<u32>(count, load<u32>(count) + 1);
    }
  }
  let squares: u32 = 0;
  for (let count = scratch; count < scratch + TABLE; count += 4) squares += load<u32>(count) * load<u32>(count);
  if (squares > EVEN) return false;
  for (let p: u32 = 0; p < length; p += STRIDE) {
    const product = load<u64>(at + p) * GOLDEN;
    const place = slot(scratch, product);
    // A repeat at a multiple of the stride.
    if (load<u32>(place) === tag(product)) return false;
    store<u32>(place, tag(product));
  }
  for (let piece: u32 = 0; piece < PIECES; piece++) {
    for (let p = pieceAt(piece, step), end = p + LOOKED_AT; p < end; p++) {
      if (p % STRIDE === 0) continue;
      const product = load<u64>(at + p) * GOLDEN;
      if (load<u32>(slot(scratch, product)) === tag(product)) return false;
    }
  }
  return true;
}
