import { ZstdFault, ZstdScratch } from "../spec/zstd";
import { backwardBits, field, peek56 } from "./bits";
import { copyMatch, copyWild } from "./copy";
import { defaultChances, fail, LiteralsLength, MatchLength, makeStates, OffsetCode, oneState, readStates } from "./fse";
import { huffmanStream, readHuffman } from "./huffman";

// Zstandard frames (RFC 8878), of a known length: nothing that comes in can make more. Without dictionaries.
//
// Reads up to 16 bytes past the input's end and writes up to 16 past the output's, whatever comes in.

const MAGIC: u32 = 0xfd2fb528;
const MAX_BLOCK: u32 = 131072;

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
  if (format === 0) {
    if (!huffmanStream(scratch, at, stop, literals, size)) return 0;
  } else {
    if (at + 6 > stop) return fail(scratch, ZstdFault.Literals);
    const part = (size + 3) >> 2;
    if (part * 3 > size) return fail(scratch, ZstdFault.FewLiterals);
    let from = at + 6;
    for (let i: u32 = 0; i < 4; i++) {
      const to = i === 3 ? stop : from + load<u16>(at + ((<usize>i) << 1));
      if (to > stop) return fail(scratch, ZstdFault.Literals);
      const count = i === 3 ? size - part * 3 : part;
      if (!huffmanStream(scratch, from, to, literals + part * i, count)) return 0;
      from = to;
    }
  }
  store<u32>(scratch, size, ZstdScratch.LiteralsSize);
  store<u32>(scratch, <u32>literals, ZstdScratch.LiteralsAt);
  return stop;
}

/** 3.1.1.3.2.1: the code that a kind has in this block; returns where its description ends, 0 with a fault. */
function chooseCode(scratch: usize, at: usize, end: usize, mode: u32, kind: u32): usize {
  const chosen = inUse(scratch, kind);
  const table = tableOf(scratch, kind);
  const symbols: u32 = kind === LiteralsLength ? 36 : kind === OffsetCode ? 32 : 53;
  if (mode === 3) return load<u32>(chosen) === 0 ? <usize>fail(scratch, ZstdFault.NoTable) : at;
  if (mode === 0) {
    store<u32>(chosen, <u32>defaultOf(scratch, kind));
    store<u32>(chosen, kind === OffsetCode ? 5 : 6, 4);
    return at;
  }
  store<u32>(chosen, <u32>table);
  if (mode === 2) return readStates(scratch, at, end, table, chosen + 4, kind === OffsetCode ? 8 : 9, symbols, kind);
  if (at >= end) return fail(scratch, ZstdFault.SequenceSymbol);
  const symbol: u32 = load<u8>(at);
  if (symbol >= symbols) return fail(scratch, ZstdFault.SequenceSymbol);
  oneState(table, symbol, kind);
  store<u32>(chosen, 0, 4);
  return at + 1;
}

/** 3.1.1.5: offset values 1 to 3 mean one of the last three. */
function nextOffset(scratch: usize, value: u32, noLiterals: u32): u32 {
  const first = load<u32>(scratch, ZstdScratch.Recent);
  const second = load<u32>(scratch, ZstdScratch.Recent + 4);
  let offset = value - 3;
  if (value <= 3) {
    const index = value - 1 + noLiterals;
    if (index === 0) return first;
    if (index === 1) {
      store<u32>(scratch, first, ZstdScratch.Recent + 4);
      store<u32>(scratch, second, ZstdScratch.Recent);
      return second;
    }
    offset = index === 3 ? first - 1 : load<u32>(scratch, ZstdScratch.Recent + 8);
  }
  store<u32>(scratch, second, ZstdScratch.Recent + 8);
  store<u32>(scratch, first, ZstdScratch.Recent + 4);
  store<u32>(scratch, offset, ZstdScratch.Recent);
  return offset;
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
    let left = backwardBits(at, end);
    if (left < 0) return fail(scratch, ZstdFault.NoEndMark);
    let bits = peek56(at, left);
    let l = field(bits, 0, literalsLog);
    let o = field(bits, literalsLog, offsetsLog);
    let m = field(bits, literalsLog + offsetsLog, matchesLog);
    left -= <i32>(literalsLog + offsetsLog + matchesLog);
    for (;;) {
      const literal = load<u64>(literals + ((<usize>l) << 3));
      const offset = load<u64>(offsets + ((<usize>o) << 3));
      const match = load<u64>(matches + ((<usize>m) << 3));
      // An offset has up to 31 bits more, and each length 16; then come the next states, of 26 at the most.
      const offsetBits = <u32>(offset >> 32) & 0xff;
      const matchBits = <u32>(match >> 32) & 0xff;
      const literalBits = <u32>(literal >> 32) & 0xff;
      bits = peek56(at, left);
      const value = <u32>offset + field(bits, 0, offsetBits);
      const length = <u32>match + field(bits, offsetBits, matchBits);
      left -= <i32>(offsetBits + matchBits);
      bits = peek56(at, left);
      const before = <u32>literal + field(bits, 0, literalBits);
      left -= <i32>literalBits;
      if (left < 0) return fail(scratch, ZstdFault.Sequences);
      const distance = nextOffset(scratch, value, <u32>(before === 0));
      if (<usize>before > literalsEnd - from) return fail(scratch, ZstdFault.LiteralsUsed);
      if (<usize>before > outputEnd - output) return fail(scratch, ZstdFault.TooMuch);
      copyWild(output, from, before);
      from += before;
      output += before;
      if (distance === 0 || <usize>distance > output - begin) return fail(scratch, ZstdFault.Offset);
      if (<usize>length > outputEnd - output) return fail(scratch, ZstdFault.TooMuch);
      copyMatch(output, distance, length);
      output += length;
      if (--count === 0) break;
      const literalNext = <u32>(literal >> 40) & 0xff;
      const matchNext = <u32>(match >> 40) & 0xff;
      const offsetNext = <u32>(offset >> 40) & 0xff;
      l = <u32>(literal >> 48) + field(bits, literalBits, literalNext);
      m = <u32>(match >> 48) + field(bits, literalBits + literalNext, matchNext);
      o = <u32>(offset >> 48) + field(bits, literalBits + literalNext + matchNext, offsetNext);
      left -= <i32>(literalNext + matchNext + offsetNext);
    }
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
      const count = defaultChances(scratch, kind);
      makeStates(scratch, defaultOf(scratch, kind), kind === OffsetCode ? 5 : 6, count, kind);
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
