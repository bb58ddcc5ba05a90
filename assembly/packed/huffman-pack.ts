import { ZstdPack } from "../spec/zstd";
import { Weight } from "./codes";
import { bitsLeft, chancesOf, firstState, makeWriter, stateBefore, writeChances } from "./fse-pack";

// Huffman codes for writing (RFC 8878, 4.2).

const MAX_BITS: u32 = 11;

/** Counts the bytes of [at, at + length); returns how often the commonest comes. */
export function countBytes(scratch: usize, at: usize, length: u32): u32 {
  const counts = scratch + ZstdPack.Counts;
  memory.fill(counts, 0, 1024);
  const end = at + length;
  for (; at < end; at++) {
    const place = counts + ((<usize>load<u8>(at)) << 2);
    store<u32>(place, load<u32>(place) + 1);
  }
  let most: u32 = 0;
  for (let i: usize = 0; i < 256; i++) most = max(most, load<u32>(counts + (i << 2)));
  return most;
}

/** Makes a code out of the counts, of which two at least are not 0; returns its longest code's bits. */
export function makeCode(scratch: usize): u32 {
  const counts = scratch + ZstdPack.Counts;
  const leaves = scratch + ZstdPack.Leaves;
  const nodes = scratch + ZstdPack.Nodes;
  const parents = scratch + ZstdPack.Parents;
  const depths = scratch + ZstdPack.Depths;
  const count = sortCounts(counts, nodes, leaves, parents);
  // The two least nodes become one, which comes after all that were made before it.
  const last = (count << 1) - 2;
  let leaf: u32 = 0;
  let inner = count;
  for (let made = count; made <= last; made++) {
    let sum: u32 = 0;
    for (let i = 0; i < 2; i++) {
      const first =
        leaf < count &&
        (inner >= made || load<u32>(nodes + ((<usize>leaf) << 2)) <= load<u32>(nodes + ((<usize>inner) << 2)));
      const chosen = first ? leaf++ : inner++;
      sum += load<u32>(nodes + ((<usize>chosen) << 2));
      store<u16>(parents + ((<usize>chosen) << 1), made);
    }
    store<u32>(nodes + ((<usize>made) << 2), sum);
  }
  store<u8>(depths + last, 0);
  for (let node = <i32>last - 1; node >= 0; node--) {
    const parent: usize = load<u16>(parents + ((<usize>node) << 1));
    store<u8>(depths + node, load<u8>(depths + parent) + 1);
  }
  shorten(depths, count);
  const log: u32 = load<u8>(depths);
  assign(scratch, count, log);
  return log;
}

/** Symbols that come at all, the rarest first, and their counts; returns how many. `scratch` has 80 bytes. */
function sortCounts(counts: usize, nodes: usize, leaves: usize, scratch: usize): u32 {
  // By how many bits a count has, then in place.
  memory.fill(scratch, 0, 80);
  let count: u32 = 0;
  for (let symbol: usize = 0; symbol < 256; symbol++) {
    const mine = load<u32>(counts + (symbol << 2));
    if (mine === 0) continue;
    count++;
    // What has fewer bits is before all that has more.
    const place = scratch + ((<usize>(33 - <u32>clz<u32>(mine))) << 2);
    store<u32>(place, load<u32>(place) + 1);
  }
  let sum: u32 = 0;
  for (let bits: usize = 0; bits < 80; bits += 4) store<u32>(scratch + bits, (sum += load<u32>(scratch + bits)));
  // What is not there yet is not more than anything.
  memory.fill(nodes, 0, (<usize>count) << 2);
  for (let symbol: usize = 0; symbol < 256; symbol++) {
    const mine = load<u32>(counts + (symbol << 2));
    if (mine === 0) continue;
    const free = scratch + ((<usize>(32 - <u32>clz<u32>(mine))) << 2);
    let place: usize = load<u32>(free);
    store<u32>(free, <u32>place + 1);
    for (; place > 0 && load<u32>(nodes + ((place - 1) << 2)) > mine; place--) {
      store<u32>(nodes + (place << 2), load<u32>(nodes + ((place - 1) << 2)));
      store<u8>(leaves + place, load<u8>(leaves + place - 1));
    }
    store<u32>(nodes + (place << 2), mine);
    store<u8>(leaves + place, <u32>symbol);
  }
  return count;
}

/** Depths of `count` leaves, the rarest first, become MAX_BITS at most, and stay a whole code. */
function shorten(depths: usize, count: u32): void {
  const whole: u32 = 1 << MAX_BITS;
  let sum: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    const depth = min<u32>(load<u8>(depths + i), MAX_BITS);
    store<u8>(depths + i, depth);
    sum += whole >> depth;
  }
  while (sum > whole) {
    for (let i: u32 = 0; i < count && sum > whole; i++) {
      const depth: u32 = load<u8>(depths + i);
      if (depth === MAX_BITS) continue;
      store<u8>(depths + i, depth + 1);
      sum -= whole >> (depth + 1);
      if (depth + 1 < MAX_BITS) break;
    }
  }
  // What that has left, for the commonest. What is left is a multiple of what the deepest takes, so this ends.
  while (sum < whole) {
    for (let i = <i32>count - 1; i >= 0 && sum < whole; i--) {
      const depth: u32 = load<u8>(depths + i);
      if (sum + (whole >> depth) > whole) continue;
      store<u8>(depths + i, depth - 1);
      sum += whole >> depth;
    }
  }
  // In order again: depths go down as counts go up.
  for (let i: u32 = 1; i < count; i++) {
    const depth = load<u8>(depths + i);
    let place = i;
    for (; place > 0 && load<u8>(depths + place - 1) < depth; place--)
      store<u8>(depths + place, load<u8>(depths + place - 1));
    store<u8>(depths + place, depth);
  }
}

/** Weights of all symbols, and the codes: the longest first, those of a length by symbol. */
function assign(scratch: usize, count: u32, log: u32): void {
  const weights = scratch + ZstdPack.Weights;
  const leaves = scratch + ZstdPack.Leaves;
  const depths = scratch + ZstdPack.Depths;
  // Where the next code of a weight is among all of 2^log; its first one comes after all that are longer.
  const places = scratch + ZstdPack.Nodes;
  memory.fill(weights, 0, 256);
  memory.fill(places, 0, (MAX_BITS + 2) << 2);
  for (let i: u32 = 0; i < count; i++) {
    const weight = log + 1 - load<u8>(depths + i);
    store<u8>(weights + load<u8>(leaves + i), weight);
    const place = places + ((<usize>weight + 1) << 2);
    store<u32>(place, load<u32>(place) + (1 << (weight - 1)));
  }
  for (let weight: usize = 1; weight <= <usize>log; weight++) {
    const place = places + (weight << 2);
    store<u32>(place, load<u32>(place) + load<u32>(place - 4));
  }
  for (let symbol: usize = 0; symbol < 256; symbol++) {
    const weight: u32 = load<u8>(weights + symbol);
    if (weight === 0) continue;
    const place = places + ((<usize>weight) << 2);
    const at = load<u32>(place);
    store<u32>(place, at + (1 << (weight - 1)));
    store<u32>(scratch + (symbol << 2), (at >> (weight - 1)) | ((log + 1 - weight) << 16), ZstdPack.HuffmanCodes);
  }
}

/** Writes the description of the code (4.2.1); returns where it ends, 0 when it cannot be described. */
export function writeCode(scratch: usize, output: usize): usize {
  const weights = scratch + ZstdPack.Weights;
  let last: u32 = 255;
  while (load<u8>(weights + last) === 0) last--;
  // The last weight follows from the others.
  const end = packWeights(scratch, weights, last, output + 1);
  const packed = <u32>(end - output - 1);
  const plain = (last + 1) >> 1;
  if (end !== 0 && packed < 128 && (packed < plain || last > 128)) {
    store<u8>(output, packed);
    return end;
  }
  if (last > 128) return 0;
  store<u8>(output++, 127 + last);
  // One more byte than weights of a whole number of pairs is a zero.
  for (let i: u32 = 0; i < last; i += 2) {
    const low: u32 = i + 1 < last ? load<u8>(weights + i + 1) : 0;
    store<u8>(output++, ((<u32>load<u8>(weights + i)) << 4) | low);
  }
  return output;
}

/** 4.2.1.2: weights as states, two of which take turns. 0: they are all the same, or too few. */
function packWeights(scratch: usize, weights: usize, count: u32, output: usize): usize {
  if (count < 3) return 0;
  const counts = scratch + ZstdPack.Counts;
  memory.fill(counts, 0, 64);
  for (let i: u32 = 0; i < count; i++) {
    const place = counts + ((<usize>load<u8>(weights + i)) << 2);
    store<u32>(place, load<u32>(place) + 1);
  }
  let kinds: u32 = 0;
  for (let i: u32 = 0; i <= MAX_BITS; i++) if (load<u32>(counts + ((<usize>i) << 2)) > 0) kinds++;
  if (kinds < 2) return 0;
  const log: u32 = 6;
  chancesOf(scratch, counts, MAX_BITS + 1, count, log);
  let at = writeChances(scratch, MAX_BITS + 1, log, output);
  makeWriter(scratch, Weight, MAX_BITS + 1, log);
  let even: u32 = 0;
  let odd: u32 = 0;
  let bits: u64 = 0;
  let held: u64 = 0;
  for (let i = <i32>count - 1; i >= 0; i--) {
    const symbol: u32 = load<u8>(weights + i);
    const state = i & 1 ? odd : even;
    let next: u32;
    if (i >= <i32>count - 2) next = firstState(scratch, Weight, symbol);
    else {
      const out = bitsLeft(scratch, Weight, state, symbol);
      bits |= (<u64>(state & ((1 << out) - 1))) << held;
      held += <u64>out;
      next = stateBefore(scratch, Weight, state, symbol, out);
    }
    if (i & 1) odd = next;
    else even = next;
    for (; held >= 8; held -= 8, bits >>= 8) store<u8>(at++, bits);
  }
  bits |= (<u64>(odd & 63)) << held;
  bits |= (<u64>(even & 63)) << (held + 6);
  bits |= (<u64>1) << (held + 12);
  for (held += 13; held > 0; held = held > 8 ? held - 8 : 0, bits >>= 8) store<u8>(at++, bits);
  return at;
}

/** Writes a stream of the codes of [at, end), the last one first; returns where it ends. */
export function writeStream(scratch: usize, at: usize, end: usize, output: usize): usize {
  const codes = scratch + ZstdPack.HuffmanCodes;
  let bits: u64 = 0;
  let held: u64 = 0;
  while (end >= at + 4) {
    // Four codes of 11 bits, and 7 that are held, fit a word.
    const a = load<u32>(codes + ((<usize>load<u8>(end - 1)) << 2));
    bits |= (<u64>(a & 0xffff)) << held;
    held += <u64>(a >> 16);
    const b = load<u32>(codes + ((<usize>load<u8>(end - 2)) << 2));
    bits |= (<u64>(b & 0xffff)) << held;
    held += <u64>(b >> 16);
    const c = load<u32>(codes + ((<usize>load<u8>(end - 3)) << 2));
    bits |= (<u64>(c & 0xffff)) << held;
    held += <u64>(c >> 16);
    const d = load<u32>(codes + ((<usize>load<u8>(end - 4)) << 2));
    bits |= (<u64>(d & 0xffff)) << held;
    held += <u64>(d >> 16);
    end -= 4;
    store<u64>(output, bits);
    output += <usize>(held >> 3);
    bits >>= held & ~7;
    held &= 7;
  }
  for (; end > at; end--) {
    const code = load<u32>(codes + ((<usize>load<u8>(end - 1)) << 2));
    bits |= (<u64>(code & 0xffff)) << held;
    held += <u64>(code >> 16);
  }
  // Three codes at most, and the mark.
  bits |= (<u64>1) << held;
  store<u64>(output, bits);
  return output + <usize>((held + 8) >> 3);
}
