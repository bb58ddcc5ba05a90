import { ZstdPack } from "../spec/zstd";
import { defaultChances } from "./chances";
import {
  defaultBits,
  extraBits,
  LiteralsLength,
  literalsCodeOf,
  MatchLength,
  matchCodeOf,
  mostBits,
  OffsetCode,
  offsetCodeOf,
  symbolsOf,
} from "./codes";
import { bitsLeft, chancesOf, firstState, makeSame, makeWriter, stateBefore, writeChances } from "./fse-pack";
import { countBytes, makeCode, writeCode, writeStream } from "./huffman-pack";
import { findSequences, forgetSeen, SEQUENCE } from "./zstd-find";

// Zstandard frames (RFC 8878) are written here, for units of up to a few MiB.

const MAGIC: u32 = 0xfd2fb528;
const MAX_BLOCK: u32 = 131072;
/** In the list, codes are above so many bits of a length. */
const CODE: u32 = 24;
/** Lengths with their codes, from which on codes have extra bits. */
const LITERALS_PLAIN: u32 = 16 << CODE;
const MATCH_PLAIN: u32 = 32 << CODE;
/** Sequences that are too few for a code of their own. */
const FEW: u32 = 48;
/** 3.1.1.3.1: writes the literals; returns where they end. */
function writeLiterals(scratch: usize, size: u32, output: usize): usize {
  const literals = scratch + ZstdPack.Literals;
  if (size >= 32) {
    const most = countBytes(scratch, literals, size);
    if (most === size) {
      const at = literalsHeader(output, 1, size);
      store<u8>(at, load<u8>(literals));
      return at + 1;
    }
    // Where the commonest is hardly more than any, nothing is gained.
    if (most > (size >> 7) + 4) {
      makeCode(scratch);
      const end = packLiterals(scratch, literals, size, output);
      if (end !== 0) return end;
    }
  }
  const at = literalsHeader(output, 0, size);
  memory.copy(at, literals, size);
  return at + size;
}

/** The header of literals that are as they are (0), or all the same (1); returns where it ends. */
function literalsHeader(output: usize, type: u32, size: u32): usize {
  if (size < 32) {
    store<u8>(output, type | (size << 3));
    return output + 1;
  }
  if (size < 4096) {
    store<u16>(output, type | 4 | (size << 4));
    return output + 2;
  }
  store<u32>(output, type | 12 | (size << 4));
  return output + 3;
}

/** Literals by the code that was made for them; 0 when they get no smaller. */
function packLiterals(scratch: usize, literals: usize, size: u32, output: usize): usize {
  const single = size < 256;
  const header: usize = size < 1024 ? 3 : size < 16384 ? 4 : 5;
  let at = writeCode(scratch, output + header);
  if (at === 0) return 0;
  if (single) at = writeStream(scratch, literals, literals + size, at);
  else {
    const sizes = at;
    const part: usize = (size + 3) >> 2;
    at += 6;
    for (let i: usize = 0; i < 4; i++) {
      const from = at;
      at = writeStream(scratch, literals + part * i, i === 3 ? literals + size : literals + part * (i + 1), at);
      if (i === 3) break;
      if (at - from > 0xffff) return 0;
      store<u16>(sizes + (i << 1), <u32>(at - from));
    }
  }
  const packed = <u32>(at - output - header);
  if (packed + (size >> 6) + 2 >= size) return 0;
  const format: u32 = header === 3 ? (single ? 0 : 1) : header === 4 ? 2 : 3;
  const bits: u64 = header === 3 ? 10 : header === 4 ? 14 : 18;
  const word = <u64>(2 | (format << 2) | (size << 4)) | ((<u64>packed) << (bits + 4));
  for (let i: usize = 0; i < header; i++) store<u8>(output + i, word >> ((<u64>i) << 3));
  return at;
}

/** Counts of a kind's codes. */
function countsOf(scratch: usize, kind: u32): usize {
  return scratch + ZstdPack.Counts + ((<usize>kind) << 8);
}

function countOne(counts: usize, code: u32): void {
  const place = counts + ((<usize>code) << 2);
  store<u32>(place, load<u32>(place) + 1);
}

/** Puts the codes of all lengths above them, counts all codes, and takes 3 from match lengths. */
function codeSequences(scratch: usize, count: u32): void {
  memory.fill(scratch + ZstdPack.Counts, 0, 3 << 8);
  const literalCounts = countsOf(scratch, LiteralsLength);
  const offsetCounts = countsOf(scratch, OffsetCode);
  const matchCounts = countsOf(scratch, MatchLength);
  let sequence = scratch + ZstdPack.Sequences;
  const end = sequence + <usize>count * SEQUENCE;
  for (; sequence < end; sequence += SEQUENCE) {
    const literals = load<u32>(sequence);
    const literalCode = literalsCodeOf(literals);
    store<u32>(sequence, literals | (literalCode << CODE));
    countOne(literalCounts, literalCode);
    const match = load<u32>(sequence, 4) - 3;
    const matchCode = matchCodeOf(match);
    store<u32>(sequence, match | (matchCode << CODE), 4);
    countOne(matchCounts, matchCode);
    countOne(offsetCounts, offsetCodeOf(load<u32>(sequence, 8)));
  }
}

/**
 * Makes a kind's code for `count` sequences, of which one has `symbol`, and writes its description; returns where that ends,
 * less `output`, above the mode (2 bits) and the bits of its states (4 bits).
 */
function chooseCode(scratch: usize, kind: u32, count: u32, symbol: u32, output: usize): u32 {
  const counts = countsOf(scratch, kind);
  if (load<u32>(counts + ((<usize>symbol) << 2)) === count) {
    makeSame(scratch, kind, symbol);
    store<u8>(output, symbol);
    return 1 | (1 << 6);
  }
  if (count < FEW) {
    const log = defaultBits(kind);
    makeWriter(scratch, kind, defaultChances(scratch + ZstdPack.Chances, kind), log);
    return log << 2;
  }
  const symbols = symbolsOf(kind);
  const log = min<u32>(mostBits(kind), max<u32>(6, 29 - clz<u32>(count)));
  chancesOf(scratch, counts, symbols, count, log);
  const end = writeChances(scratch, symbols, log, output);
  makeWriter(scratch, kind, symbols, log);
  return 2 | (log << 2) | ((<u32>(end - output)) << 6);
}

/** 3.1.1.3.2: writes the sequences; returns where they end, 0 when they do not end before `limit`. */
function writeSequences(scratch: usize, count: u32, output: usize, limit: usize): usize {
  if (count < 128) store<u8>(output++, count);
  else if (count < 0x7f00) {
    store<u8>(output, (count >> 8) + 128);
    store<u8>(output, count, 1);
    output += 2;
  } else {
    store<u8>(output, 255);
    store<u16>(output, count - 0x7f00, 1);
    output += 3;
  }
  if (count === 0) return output;
  codeSequences(scratch, count);
  const modes = output++;
  const first = scratch + ZstdPack.Sequences;
  let sequence = first + <usize>count * SEQUENCE - SEQUENCE;
  let literals = load<u32>(sequence);
  let match = load<u32>(sequence, 4);
  let offset = load<u32>(sequence, 8);
  let offsetCode = offsetCodeOf(offset);
  const l = chooseCode(scratch, LiteralsLength, count, literals >> CODE, output);
  output += l >> 6;
  const o = chooseCode(scratch, OffsetCode, count, offsetCode, output);
  output += o >> 6;
  const m = chooseCode(scratch, MatchLength, count, match >> CODE, output);
  output += m >> 6;
  store<u8>(modes, ((l & 3) << 6) | ((o & 3) << 4) | ((m & 3) << 2));
  let bits: u64 = 0;
  let held: u64 = 0;
  let literalState = firstState(scratch, LiteralsLength, literals >> CODE);
  let offsetState = firstState(scratch, OffsetCode, offsetCode);
  let matchState = firstState(scratch, MatchLength, match >> CODE);
  // The last one first; each one's states before its extra bits, which are read the other way round.
  for (;;) {
    // 7 bits that are held, 26 of states, 16 of a length; then 7, 16 and 24 of an offset. Most lengths have none: all fits at once.
    if (literals >= LITERALS_PLAIN || match >= MATCH_PLAIN) {
      const literalExtra = extraBits(LiteralsLength, literals >> CODE);
      bits |= (<u64>(literals & ((1 << literalExtra) - 1))) << held;
      held += <u64>literalExtra;
      store<u64>(output, bits);
      output += <usize>(held >> 3);
      bits >>= held & ~7;
      held &= 7;
      const matchExtra = extraBits(MatchLength, match >> CODE);
      bits |= (<u64>(match & ((1 << matchExtra) - 1))) << held;
      held += <u64>matchExtra;
    }
    bits |= (<u64>(offset ^ (1 << offsetCode))) << held;
    held += <u64>offsetCode;
    store<u64>(output, bits);
    output += <usize>(held >> 3);
    bits >>= held & ~7;
    held &= 7;
    if (output > limit) return 0;
    if (sequence === first) break;
    sequence -= SEQUENCE;
    literals = load<u32>(sequence);
    match = load<u32>(sequence, 4);
    offset = load<u32>(sequence, 8);
    offsetCode = offsetCodeOf(offset);
    let out = bitsLeft(scratch, OffsetCode, offsetState, offsetCode);
    bits |= (<u64>(offsetState & ((1 << out) - 1))) << held;
    held += <u64>out;
    offsetState = stateBefore(scratch, OffsetCode, offsetState, offsetCode, out);
    out = bitsLeft(scratch, MatchLength, matchState, match >> CODE);
    bits |= (<u64>(matchState & ((1 << out) - 1))) << held;
    held += <u64>out;
    matchState = stateBefore(scratch, MatchLength, matchState, match >> CODE, out);
    out = bitsLeft(scratch, LiteralsLength, literalState, literals >> CODE);
    bits |= (<u64>(literalState & ((1 << out) - 1))) << held;
    held += <u64>out;
    literalState = stateBefore(scratch, LiteralsLength, literalState, literals >> CODE, out);
  }
  const matchLog = (m >> 2) & 15;
  const offsetLog = (o >> 2) & 15;
  const literalLog = (l >> 2) & 15;
  bits |= (<u64>(matchState & ((1 << matchLog) - 1))) << held;
  held += <u64>matchLog;
  bits |= (<u64>(offsetState & ((1 << offsetLog) - 1))) << held;
  held += <u64>offsetLog;
  bits |= (<u64>(literalState & ((1 << literalLog) - 1))) << held;
  held += <u64>literalLog;
  bits |= (<u64>1) << held;
  store<u64>(output, bits);
  return output + <usize>((held + 8) >> 3);
}

/** A frame of the bytes of [input, input + size); returns how many bytes it has, for which there is room at `output`. */
export function zstd(input: usize, size: u32, output: usize, scratch: usize): u32 {
  const start = output;
  const end = input + size;
  forgetSeen(scratch);
  store<u32>(output, MAGIC);
  // One segment; the content's size in 1, 2 or 4 bytes.
  const kind: u32 = size < 256 ? 0 : size < 65792 ? 1 : 2;
  store<u8>(output, 0x20 | (kind << 6), 4);
  store<u32>(output, kind === 1 ? size - 256 : size, 5);
  output += 5 + ((<usize>1) << kind);
  const recent = scratch + ZstdPack.Recent;
  store<u32>(recent, 1);
  store<u32>(recent, 4, 4);
  for (let at = input; ; ) {
    const blockEnd = min(end, at + MAX_BLOCK);
    const length = <u32>(blockEnd - at);
    const last: u32 = blockEnd === end ? 1 : 0;
    const body = output + 3;
    const offsets = load<u64>(recent);
    const count = findSequences(scratch, input, at, blockEnd, recent);
    let stop = writeLiterals(scratch, load<u32>(recent, 8), body);
    if (stop < body + length) stop = writeSequences(scratch, count, stop, body + length);
    let header = last | (length << 3);
    if (stop !== 0 && stop < body + length) {
      header = last | 4 | ((<u32>(stop - body)) << 3);
      output = stop;
    } else {
      // As it is, and as if its offsets had not been.
      store<u64>(recent, offsets);
      memory.copy(body, at, length);
      output = body + length;
    }
    store<u16>(body - 3, header);
    store<u8>(body - 3, header >> 16, 2);
    at = blockEnd;
    if (last) break;
  }
  return <u32>(output - start);
}
