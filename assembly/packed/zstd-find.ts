import { ZstdPack } from "../spec/zstd";
import { copyWild } from "./copy";

// Repeats are found by where the same bytes were last, and the first that is found is taken: fast, and about as good as what
// image formats are compressed with elsewhere. Reads up to 32 bytes past the input's end.

/** Bytes of a sequence in the list: u32 each, literals length, match length, offset value. */
export const SEQUENCE: u32 = 12;
const SEEN_BITS: u64 = 13;
/** Bytes that are looked up; a repeat of four of them is one. */
const LOOK: u64 = 6;
/** 2^64 over the golden ratio. */
const GOLDEN: u64 = ((<u64>0x9e3779b9) << 32) | 0x7f4a7c15;
/** Where so many bytes have had no repeat, every other one is looked up, then every third, and so on. */
const PATIENCE: u32 = 6;
/** The last bytes of a block are not looked up: a word has to fit. */
const TAIL: usize = 12;

function seenAt(scratch: usize, at: usize): usize {
  return scratch + ((<usize>(((load<u64>(at) << (64 - 8 * LOOK)) * GOLDEN) >> (64 - SEEN_BITS))) << 2);
}

/** Bytes that are the same from `a` and from `b` on; `b` is the later, and ends at `end`. */
function sameBytes(a: usize, b: usize, end: usize): u32 {
  const start = b;
  while (b + 8 <= end) {
    const differ = load<u64>(a) ^ load<u64>(b);
    if (differ !== 0) return <u32>(b - start) + <u32>(ctz<u64>(differ) >> 3);
    a += 8;
    b += 8;
  }
  while (b < end && load<u8>(a) === load<u8>(b)) {
    a++;
    b++;
  }
  return <u32>(b - start);
}

/** Nothing has been seen, as when a frame begins. */
export function forgetSeen(scratch: usize): void {
  memory.fill(scratch + ZstdPack.Seen, 0, (<usize>4) << (<usize>SEEN_BITS));
}

/**
 * The sequences of the block [at, end) of what begins at `begin`, and its literals; returns how many sequences. The last two
 * offsets are at `recent`, and what literals there are after it.
 */
export function findSequences(scratch: usize, begin: usize, at: usize, end: usize, recent: usize): u32 {
  const literals = scratch + ZstdPack.Literals;
  let list = scratch + ZstdPack.Sequences;
  let put = literals;
  let anchor = at;
  let first = load<u32>(recent);
  let second = load<u32>(recent, 4);
  // What has not been seen is at `base`, in front of all.
  const base = begin - 1;
  const stop = end - begin > TAIL ? end - TAIL : begin;
  if (at === begin) at++;
  while (at < stop) {
    let slot = seenAt(scratch, at);
    let seen = load<u32>(slot);
    store<u32>(slot, <u32>(at - base));
    let length: u32 = 0;
    let value: u32 = 1;
    const next = at + 2;
    if (load<u32>(next) === load<u32>(next - first)) {
      at = next;
      length = 4 + sameBytes(at - first + 4, at + 4, end);
      if (load<u8>(at - 1) === load<u8>(at - 1 - first)) {
        at--;
        length++;
      }
    } else {
      let match: usize = base + seen;
      if (load<u32>(match) !== load<u32>(at) || seen === 0) {
        at++;
        slot = seenAt(scratch, at);
        seen = load<u32>(slot);
        store<u32>(slot, <u32>(at - base));
        match = base + seen;
        if (load<u32>(match) !== load<u32>(at) || seen === 0) {
          at += 1 + ((at - anchor) >> PATIENCE);
          continue;
        }
      }
      length = 4 + sameBytes(match + 4, at + 4, end);
      while (at > anchor && match > begin && load<u8>(at - 1) === load<u8>(match - 1)) {
        at--;
        match--;
        length++;
      }
      second = first;
      first = <u32>(at - match);
      value = first + 3;
    }
    const before = <u32>(at - anchor);
    copyWild(put, anchor, before);
    put += before;
    store<u32>(list, before);
    store<u32>(list, length, 4);
    store<u32>(list, value, 8);
    list += SEQUENCE;
    const from = at;
    at += length;
    anchor = at;
    if (at >= stop) break;
    store<u32>(seenAt(scratch, from + 2), <u32>(from + 2 - base));
    store<u32>(seenAt(scratch, at - 2), <u32>(at - 2 - base));
    // With no literals between, 1 means the offset before the last.
    while (at < stop && load<u32>(at) === load<u32>(at - second)) {
      const again = 4 + sameBytes(at - second + 4, at + 4, end);
      const last = second;
      second = first;
      first = last;
      store<u32>(seenAt(scratch, at), <u32>(at - base));
      store<u32>(list, 0);
      store<u32>(list, again, 4);
      store<u32>(list, 1, 8);
      list += SEQUENCE;
      at += again;
      anchor = at;
    }
  }
  const rest = <u32>(end - anchor);
  memory.copy(put, anchor, rest);
  put += rest;
  store<u32>(recent, first);
  store<u32>(recent, second, 4);
  store<u32>(recent, <u32>(put - literals), 8);
  return <u32>(list - scratch - ZstdPack.Sequences) / SEQUENCE;
}
