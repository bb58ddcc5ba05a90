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
import { SEQUENCE } from "./zstd-find";

// The sequences of a block, written (RFC 8878, 3.1.1.3.2).

/** Sequences that are too few for a code of their own. */
const FEW: u32 = 48;
/** In the list, codes are above so many bits of a length. */
const CODE: u32 = 24;
/** Lengths with their codes, from which on codes have extra bits. */
const LITERALS_PLAIN: u32 = 16 << CODE;
const MATCH_PLAIN: u32 = 32 << CODE;

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

/** Writes the sequences; returns where they end, 0 when they do not end before `limit`. */
export function writeSequences(scratch: usize, count: u32, output: usize, limit: usize): usize {
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
