import { ZstdFault, ZstdScratch } from "../spec/zstd";
import { backwardBits, first, nextBits } from "./bits";
import { defaultChances } from "./chances";
import { defaultBits, LiteralsLength, MatchLength, mostBits, OffsetCode, symbolsOf } from "./codes";
import { copyMatch, copyWild } from "./copy";
import { fail, makeStates, oneState, readStates } from "./fse";
import { huffmanStream, huffmanStreams, readHuffman } from "./huffman";

// Zstandard frames (RFC 8878), of a known length: nothing that comes in can make more. Without dictionaries.
//
// Reads up to 32 bytes past the input's end and writes up to 32 past the output's, whatever comes in.

const MAGIC: u32 = 0xfd2fb528;
const MAX_BLOCK: u32 = 131072;
/** Bits that are read together, and how many of them the next three states of a sequence may take. */
const WORD: u32 = 56;
const STATES: u32 = 26;

/** Where a kind's code is in the scratch, in a table of those that are sent, or of those that need not be. */
function tableOf(scratch: usize, kind: u32): usize {
  return scratch + ZstdScratch.Tables + (kind === LiteralsLength ? 0 : kind === OffsetCode ? 4096 : 6144);
}
function defaultOf(scratch: usize, kind: u32): usize {
  return scratch + ZstdScratch.Defaults + (kind === LiteralsLength ? 0 : kind === OffsetCode ? 512 : 768);
}
/** A kind's address and bits. */
function inUse(scratch: usize, kind: u32): usize {
  return scratch + ZstdScratch.Codes + ((<usize>kind) << 3);
}

/** 3.1.1.3.1: the literals, at `LiteralsAt`; returns where the section ends, 0 with a fault. */
function readLiterals(scratch: usize, at: usize, end: usize): usize {
  const first: u32 = load<u8>(at);
  const type = first & 3;
  const format = (first >> 2) & 3;
  const literals = scratch + ZstdScratch.Literals;
  if (type < 2) {
    const header: u32 = format === 1 ? 2 : format === 3 ? 3 : 1;
    let size = first >> 3;
    if (header > 1) size = (load<u32>(at) & (header === 2 ? 0xffff : 0xffffff)) >> 4;
    at += header;
    const stop = at + (type === 0 ? size : 1);
    if (stop > end || size > MAX_BLOCK) return fail(scratch, ZstdFault.Literals);
    store<u32>(scratch, size, ZstdScratch.LiteralsSize);
    store<u32>(scratch, <u32>(type === 0 ? at : literals), ZstdScratch.LiteralsAt);
    if (type === 1) memory.fill(literals, load<u8>(at), size);
    return stop;
  }
  const bits: u32 = format < 2 ? 10 : format === 2 ? 14 : 18;
  const word = load<u64>(at) >> 4;
  const size = <u32>word & ((1 << bits) - 1);
  const packed = <u32>(word >> <u64>bits) & ((1 << bits) - 1);
  at += format < 2 ? 3 : format === 2 ? 4 : 5;
  const stop = at + packed;
  if (stop > end || size > MAX_BLOCK) return fail(scratch, ZstdFault.Literals);
  if (type === 2) {
    at = readHuffman(scratch, at, stop);
    if (at === 0) return 0;
  }
  if (load<u32>(scratch, ZstdScratch.HuffmanBits) === 0) return fail(scratch, ZstdFault.NoHuffman);
  const whole =
    format === 0 ? huffmanStream(scratch, at, stop, literals, size) : huffmanStreams(scratch, at, stop, literals, size);
  if (!whole) return 0;
  store<u32>(scratch, size, ZstdScratch.LiteralsSize);
  store<u32>(scratch, <u32>literals, ZstdScratch.LiteralsAt);
  return stop;
}

/** 3.1.1.3.2.1: the code that a kind has in this block; returns where its description ends, 0 with a fault. */
function chooseCode(scratch: usize, at: usize, end: usize, mode: u32, kind: u32): usize {
  const chosen = inUse(scratch, kind);
  const table = tableOf(scratch, kind);
  const symbols = symbolsOf(kind);
  if (mode === 3) return load<u32>(chosen) === 0 ? <usize>fail(scratch, ZstdFault.NoTable) : at;
  if (mode === 0) {
    store<u32>(chosen, <u32>defaultOf(scratch, kind));
    store<u32>(chosen, defaultBits(kind), 4);
    return at;
  }
  store<u32>(chosen, <u32>table);
  if (mode === 2) return readStates(scratch, at, end, table, chosen + 4, mostBits(kind), symbols, kind);
  if (at >= end) return fail(scratch, ZstdFault.SequenceSymbol);
  const symbol: u32 = load<u8>(at);
  if (symbol >= symbols) return fail(scratch, ZstdFault.SequenceSymbol);
  oneState(table, symbol, kind);
  store<u32>(chosen, 0, 4);
  return at + 1;
}

/** 3.1.1.3: a block of [at, end), carried out at `output`; returns where that has got, 0 with a fault. */
function block(scratch: usize, at: usize, end: usize, begin: usize, output: usize, outputEnd: usize): usize {
  if (at >= end) return fail(scratch, ZstdFault.Literals);
  at = readLiterals(scratch, at, end);
  if (at === 0) return 0;
  if (at >= end) return fail(scratch, ZstdFault.Sequences);
  let from: usize = load<u32>(scratch, ZstdScratch.LiteralsAt);
  const literalsEnd = from + load<u32>(scratch, ZstdScratch.LiteralsSize);
  let count: u32 = load<u8>(at++);
  if (count === 255) {
    count = <u32>load<u16>(at) + 0x7f00;
    at += 2;
  } else if (count >= 128) count = ((count - 128) << 8) | load<u8>(at++);
  if (count > 0) {
    if (at >= end) return fail(scratch, ZstdFault.Sequences);
    const modes: u32 = load<u8>(at++);
    if (modes & 3) return fail(scratch, ZstdFault.ReservedModes);
    at = chooseCode(scratch, at, end, modes >> 6, LiteralsLength);
    if (at === 0) return 0;
    at = chooseCode(scratch, at, end, (modes >> 4) & 3, OffsetCode);
    if (at === 0) return 0;
    at = chooseCode(scratch, at, end, (modes >> 2) & 3, MatchLength);
    if (at === 0) return 0;
    const literals: usize = load<u32>(inUse(scratch, LiteralsLength));
    const literalsLog = load<u32>(inUse(scratch, LiteralsLength), 4);
    const offsets: usize = load<u32>(inUse(scratch, OffsetCode));
    const offsetsLog = load<u32>(inUse(scratch, OffsetCode), 4);
    const matches: usize = load<u32>(inUse(scratch, MatchLength));
    const matchesLog = load<u32>(inUse(scratch, MatchLength), 4);
    let recent = load<u32>(scratch, ZstdScratch.Recent);
    let second = load<u32>(scratch, ZstdScratch.Recent + 4);
    let third = load<u32>(scratch, ZstdScratch.Recent + 8);
    let left = backwardBits(at, end);
    if (left < 0) return fail(scratch, ZstdFault.NoEndMark);
    let bits = nextBits(at, left);
    let l = first(bits, literalsLog);
    bits <<= <u64>literalsLog;
    let o = first(bits, offsetsLog);
    bits <<= <u64>offsetsLog;
    let m = first(bits, matchesLog);
    left -= <i32>(literalsLog + offsetsLog + matchesLog);
    for (;;) {
      const literal = load<u64>(literals + ((<usize>l) << 3));
      const offset = load<u64>(offsets + ((<usize>o) << 3));
      const match = load<u64>(matches + ((<usize>m) << 3));
      const literalCode = <u32>(literal >> 32);
      const offsetCode = <u32>(offset >> 32);
      const matchCode = <u32>(match >> 32);
      // An offset has up to 31 bits more, and each length 16; then come the next states, of 26 at the most.
      bits = nextBits(at, left);
      const offsetBits = offsetCode & 0xff;
      const value = <u32>offset + first(bits, offsetBits);
      bits <<= <u64>offsetBits;
      const matchBits = matchCode & 0xff;
      const length = <u32>match + first(bits, matchBits);
      bits <<= <u64>matchBits;
      left -= <i32>(offsetBits + matchBits);
      const literalBits = literalCode & 0xff;
      const many = offsetBits + matchBits + literalBits > WORD - STATES;
      if (many) bits = nextBits(at, left);
      const before = <u32>literal + first(bits, literalBits);
      bits <<= <u64>literalBits;
      left -= <i32>literalBits;
      if (left < 0) return fail(scratch, ZstdFault.Sequences);

      // 3.1.1.5: offset values 1 to 3 mean one of the last three; without literals, the next of them.
      let distance = value - 3;
      if (value > 3) {
        third = second;
        second = recent;
        recent = distance;
      } else {
        const index = value - 1 + <u32>(before === 0);
        distance = index === 0 ? recent : index === 1 ? second : index === 2 ? third : recent - 1;
        if (index > 1) third = second;
        if (index > 0) second = recent;
        recent = distance;
      }

      if (<usize>before > literalsEnd - from) return fail(scratch, ZstdFault.LiteralsUsed);
      if (<usize>before + <usize>length > outputEnd - output) return fail(scratch, ZstdFault.TooMuch);
      copyWild(output, from, before);
      from += before;
      output += before;
      if (distance === 0 || <usize>distance > output - begin) return fail(scratch, ZstdFault.Offset);
      copyMatch(output, distance, length);
      output += length;
      if (--count === 0) break;

      const literalNext = (literalCode >> 8) & 0xff;
      l = (literalCode >> 16) + first(bits, literalNext);
      bits <<= <u64>literalNext;
      const matchNext = (matchCode >> 8) & 0xff;
      m = (matchCode >> 16) + first(bits, matchNext);
      bits <<= <u64>matchNext;
      const offsetNext = (offsetCode >> 8) & 0xff;
      o = (offsetCode >> 16) + first(bits, offsetNext);
      left -= <i32>(literalNext + matchNext + offsetNext);
    }
    store<u32>(scratch, recent, ZstdScratch.Recent);
    store<u32>(scratch, second, ZstdScratch.Recent + 4);
    store<u32>(scratch, third, ZstdScratch.Recent + 8);
    if (left !== 0) return fail(scratch, ZstdFault.SequenceStream);
  }
  const rest = literalsEnd - from;
  if (rest > outputEnd - output) return fail(scratch, ZstdFault.TooMuch);
  memory.copy(output, from, rest);
  return output + rest;
}

/** The codes that need not be sent, once per scratch; and of a new frame, what its blocks hand on. */
function beginFrame(scratch: usize): void {
  if (load<u32>(scratch, ZstdScratch.Ready) === 0) {
    for (let kind: u32 = 0; kind < 3; kind++) {
      const count = defaultChances(scratch + ZstdScratch.Chances, kind);
      makeStates(scratch, defaultOf(scratch, kind), defaultBits(kind), count, kind);
    }
    store<u32>(scratch, 1, ZstdScratch.Ready);
  }
  store<u32>(scratch, 1, ZstdScratch.Recent);
  store<u32>(scratch, 4, ZstdScratch.Recent + 4);
  store<u32>(scratch, 8, ZstdScratch.Recent + 8);
  memory.fill(scratch + ZstdScratch.HuffmanBits, 0, ZstdScratch.Ready - ZstdScratch.HuffmanBits);
}

/** 3.1.1.1.4: bytes of a frame's content, in a field of 0, 1, 2, 4 or 8 bytes. */
function contentSize(at: usize, bytes: u32): u64 {
  if (bytes === 2) return <u64>load<u16>(at) + 256;
  return bytes === 8 ? load<u64>(at) : load<u64>(at) & (((<u64>1) << (<u64>(bytes << 3))) - 1);
}

/**
 * Exactly `size` bytes out of the frames in [input, end); what follows them is left alone. 0, or ZstdFault; the bytes made
 * before it are in `ZstdScratch.Done`.
 * @param scratch ZstdScratch.Size bytes, at a multiple of 8; zeros at first, and only this decoder's
 */
export function unzstd(input: usize, end: usize, output: usize, size: u32, scratch: usize): u32 {
  const outputEnd = output + size;
  const start = output;
  store<u32>(scratch, ZstdFault.None, ZstdScratch.Fault);
  let fault: u32 = ZstdFault.None;
  while (output < outputEnd && fault === ZstdFault.None) {
    fault = ZstdFault.Ends;
    if (input + 6 > end) break;
    const magic = load<u32>(input);
    if (magic >>> 4 === 0x184d2a5 && input + 8 <= end) {
      // A frame to be skipped (3.1.2).
      const length = load<u32>(input, 4);
      if (<usize>length > end - input - 8) break;
      input += 8 + <usize>length;
      fault = ZstdFault.None;
      continue;
    }
    const flags: u32 = load<u8>(input, 4);
    if (magic !== MAGIC) fault = ZstdFault.NoFrame;
    else if (flags & 8) fault = ZstdFault.ReservedFrame;
    else if (flags & 3) fault = ZstdFault.Dictionary;
    if (fault !== ZstdFault.Ends) break;
    const single = (flags >> 5) & 1;
    const sizeBytes = flags >> 6 === 0 ? single : 1 << (flags >> 6);
    input += 6 - single;
    const stated = contentSize(input, sizeBytes);
    input += sizeBytes;
    beginFrame(scratch);
    const begin = output;
    for (let last: u32 = 0; last === 0; ) {
      fault = ZstdFault.Ends;
      if (input + 3 > end) break;
      const header = load<u32>(input) & 0xffffff;
      input += 3;
      last = header & 1;
      const type = (header >> 1) & 3;
      const length: usize = header >> 3;
      if (type === 3 || length > MAX_BLOCK) {
        fault = ZstdFault.Block;
        break;
      }
      const blockEnd = input + (type === 1 ? 1 : length);
      if (blockEnd > end) break;
      if (type === 2) {
        const next = block(scratch, input, blockEnd, begin, output, outputEnd);
        if (next === 0) {
          fault = load<u32>(scratch, ZstdScratch.Fault);
          break;
        }
        output = next;
      } else {
        if (length > outputEnd - output) {
          fault = ZstdFault.TooMuch;
          break;
        }
        if (type === 1) memory.fill(output, load<u8>(input), length);
        else memory.copy(output, input, length);
        output += length;
      }
      input = blockEnd;
      fault = ZstdFault.None;
    }
    if (fault === ZstdFault.None && sizeBytes > 0 && stated !== <u64>(output - begin)) fault = ZstdFault.ContentSize;
    // The content's checksum, which images need not have.
    if (flags & 4) input += 4;
  }
  store<u32>(scratch, <u32>(output - start), ZstdScratch.Done);
  return fault;
}
