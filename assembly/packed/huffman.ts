import { ZstdFault, ZstdScratch } from "../spec/zstd";
import { backwardBits, first, nextBits, topBits } from "./bits";
import { Weight } from "./codes";
import { fail, readStates } from "./fse";

// Huffman codes (RFC 8878, 4.2). An entry takes 2 bytes, by the next bits: symbol, and how many of the bits are its code.

const MAX_BITS: u32 = 11;
/** Codes that are read out of one word: so many have 55 bits at most, and it has 57. */
const CODES: usize = 5;

/** Reads the description of a code and makes it; returns where it ends, 0 with a fault. */
export function readHuffman(scratch: usize, at: usize, end: usize): usize {
  if (at >= end) return fail(scratch, ZstdFault.HuffmanCut);
  const weights = scratch + ZstdScratch.WeightList;
  const header: u32 = load<u8>(at++);
  let count: u32 = 0;
  if (header >= 128) {
    count = header - 127;
    const stop = at + ((count + 1) >> 1);
    if (stop > end) return fail(scratch, ZstdFault.HuffmanCut);
    for (let i: u32 = 0; i < count; i++) {
      const pair: u32 = load<u8>(at + (i >> 1));
      store<u8>(weights + i, i & 1 ? pair & 15 : pair >> 4);
    }
    at = stop;
  } else {
    const stop = at + header;
    if (stop > end) return fail(scratch, ZstdFault.HuffmanCut);
    count = unpackWeights(scratch, weights, at, stop);
    if (count === 0) return 0;
    at = stop;
  }
  return makeHuffman(scratch, weights, count) ? at : 0;
}

/** 4.2.1.2: two states take turns until the bits are used up; returns how many weights there are, 0 with a fault. */
function unpackWeights(scratch: usize, weights: usize, at: usize, stop: usize): u32 {
  const table = scratch + ZstdScratch.Weights;
  const logAt = scratch + ZstdScratch.LiteralsSize; // not in use yet
  const from = readStates(scratch, at, stop, table, logAt, 6, 256, Weight);
  if (from === 0) return 0;
  const log = load<u32>(logAt);
  let left = backwardBits(from, stop);
  if (left < 0) return fail(scratch, ZstdFault.NoEndMark);
  const bits = nextBits(from, left);
  let state = first(bits, log);
  let other = first(bits << (<u64>log), log);
  left -= <i32>(log << 1);
  let count: u32 = 0;
  while (count < 255) {
    const entry = load<u64>(table + ((<usize>state) << 3));
    store<u8>(weights + count++, <u8>entry);
    const need = <u32>(entry >> 40) & 0xff;
    if (left < <i32>need) {
      store<u8>(weights + count++, load<u8>(table + ((<usize>other) << 3)));
      return count;
    }
    const next = <u32>(entry >> 48) + first(nextBits(from, left), need);
    left -= <i32>need;
    state = other;
    other = next;
  }
  return fail(scratch, ZstdFault.HuffmanSymbols);
}

/** The last symbol's weight is what is missing (4.2.1). False: there is a fault. */
function makeHuffman(scratch: usize, weights: usize, count: u32): bool {
  let sum: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    const weight: u32 = load<u8>(weights + i);
    if (weight > MAX_BITS) return <bool>fail(scratch, ZstdFault.HuffmanSum);
    if (weight > 0) sum += 1 << (weight - 1);
  }
  if (sum === 0) return <bool>fail(scratch, ZstdFault.HuffmanEmpty);
  const log: u32 = 32 - clz<u32>(sum);
  const rest: u32 = (1 << log) - sum;
  if (log > MAX_BITS || (rest & (rest - 1)) !== 0) return <bool>fail(scratch, ZstdFault.HuffmanSum);
  if (count > 255) return <bool>fail(scratch, ZstdFault.HuffmanSymbols);
  store<u8>(weights + count++, 32 - clz<u32>(rest));
  let at = scratch + ZstdScratch.Huffman;
  for (let weight: u32 = 1; weight <= log; weight++) {
    const span: u32 = 1 << (weight - 1);
    const length = (log + 1 - weight) << 8;
    for (let symbol: u32 = 0; symbol < count; symbol++) {
      if (<u32>load<u8>(weights + symbol) !== weight) continue;
      for (let i: u32 = 0; i < span; i++, at += 2) store<u16>(at, symbol | length);
    }
  }
  store<u32>(scratch, log, ZstdScratch.HuffmanBits);
  return true;
}

/** Exactly `size` literals out of the stream in [at, end). False: there is a fault. */
export function huffmanStream(scratch: usize, at: usize, end: usize, output: usize, size: u32): bool {
  const left = backwardBits(at, end);
  if (left < 0) return <bool>fail(scratch, ZstdFault.NoEndMark);
  return finishStream(scratch, at, left, output, output + size);
}

/** Of a stream with `left` bits: all literals up to `outputEnd`, which have to be its last. False: there is a fault. */
function finishStream(scratch: usize, at: usize, left: i32, output: usize, outputEnd: usize): bool {
  const table = scratch + ZstdScratch.Huffman;
  const shift = <u64>(64 - load<u32>(scratch, ZstdScratch.HuffmanBits));
  for (; output + CODES <= outputEnd && left >= 64; output += CODES) {
    let bits = topBits(at, left);
    let used: u32 = 0;
    for (let i: usize = 0; i < CODES; i++) {
      const entry: u32 = load<u16>(table + ((<usize>(bits >> shift)) << 1));
      store<u8>(output + i, entry);
      bits <<= <u64>(entry >> 8);
      used += entry >> 8;
    }
    left -= <i32>used;
  }
  for (; output < outputEnd; output++) {
    const entry: u32 = load<u16>(table + ((<usize>(nextBits(at, left) >> shift)) << 1));
    store<u8>(output, entry);
    left -= <i32>(entry >> 8);
    if (left < 0) break;
  }
  return left === 0 && output === outputEnd ? true : <bool>fail(scratch, ZstdFault.HuffmanStream);
}

/**
 * `size` literals out of four streams, in [at, end) after the lengths of the first three (3.1.1.3.1.6). They are read side by
 * side: of one alone, each code would wait for the one before. False: there is a fault.
 */
export function huffmanStreams(scratch: usize, at: usize, end: usize, output: usize, size: u32): bool {
  if (at + 6 > end) return <bool>fail(scratch, ZstdFault.Literals);
  const part: usize = (size + 3) >> 2;
  if (part * 3 > <usize>size) return <bool>fail(scratch, ZstdFault.FewLiterals);
  const a = at + 6;
  const b = a + load<u16>(at);
  const c = b + load<u16>(at, 2);
  const d = c + load<u16>(at, 4);
  if (d > end) return <bool>fail(scratch, ZstdFault.Literals);
  let leftA = backwardBits(a, b);
  let leftB = backwardBits(b, c);
  let leftC = backwardBits(c, d);
  let leftD = backwardBits(d, end);
  if ((leftA | leftB | leftC | leftD) < 0) return <bool>fail(scratch, ZstdFault.NoEndMark);
  const table = scratch + ZstdScratch.Huffman;
  const shift = <u64>(64 - load<u32>(scratch, ZstdScratch.HuffmanBits));
  const outputEnd = output + size;
  // The last one has the fewest literals.
  const most = output + (size - part * 3);
  const outB = part;
  const outC = part << 1;
  const outD = outB + outC;
  let to = output;
  for (; to + CODES <= most && leftA >= 64 && leftB >= 64 && leftC >= 64 && leftD >= 64; to += CODES) {
    let bitsA = topBits(a, leftA);
    let bitsB = topBits(b, leftB);
    let bitsC = topBits(c, leftC);
    let bitsD = topBits(d, leftD);
    for (let i: usize = 0; i < CODES; i++) {
      const codeA: u32 = load<u16>(table + ((<usize>(bitsA >> shift)) << 1));
      const codeB: u32 = load<u16>(table + ((<usize>(bitsB >> shift)) << 1));
      const codeC: u32 = load<u16>(table + ((<usize>(bitsC >> shift)) << 1));
      const codeD: u32 = load<u16>(table + ((<usize>(bitsD >> shift)) << 1));
      const place = to + i;
      store<u8>(place, codeA);
      store<u8>(place + outB, codeB);
      store<u8>(place + outC, codeC);
      store<u8>(place + outD, codeD);
      bitsA <<= <u64>(codeA >> 8);
      bitsB <<= <u64>(codeB >> 8);
      bitsC <<= <u64>(codeC >> 8);
      bitsD <<= <u64>(codeD >> 8);
      leftA -= <i32>(codeA >> 8);
      leftB -= <i32>(codeB >> 8);
      leftC -= <i32>(codeC >> 8);
      leftD -= <i32>(codeD >> 8);
    }
  }
  return (
    finishStream(scratch, a, leftA, to, output + outB) &&
    finishStream(scratch, b, leftB, to + outB, output + outC) &&
    finishStream(scratch, c, leftC, to + outC, output + outD) &&
    finishStream(scratch, d, leftD, to + outD, outputEnd)
  );
}
