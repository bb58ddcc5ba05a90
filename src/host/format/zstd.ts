// Zstandard frames (RFC 8878), of a known length: nothing that comes in can make more. Without dictionaries.

/** 3.1.1.3.2.1.1: base values and extra bits of literals length and match length codes. */
const LITERALS_BASE = [
  0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 24, 28, 32, 40, 48, 64, 128, 256, 512, 1024,
  2048, 4096, 8192, 16384, 32768, 65536,
];
const LITERALS_EXTRA = [
  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
];
const MATCH_BASE = [
  3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33,
  34, 35, 37, 39, 41, 43, 47, 51, 59, 67, 83, 99, 131, 259, 515, 1027, 2051, 4099, 8195, 16387, 32771, 65539,
];
const MATCH_EXTRA = [
  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3,
  3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
];
/** 3.1.1.3.2.2: the distributions that need not be sent. -1: "less than one". */
const LITERALS_DEFAULT = [
  4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1,
];
const MATCH_DEFAULT = [
  1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
  1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
];
const OFFSET_DEFAULT = [1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1];

const MAGIC = 0xfd2fb528;
const MAX_HUFFMAN_BITS = 11;
const MAX_BLOCK = 131072;

const damaged = (what: string) => new RangeError(what);

/** A finite state entropy code (4.1): what each state stands for, and how the next one is found. */
interface States {
  log: number;
  symbols: Uint8Array;
  bits: Uint8Array;
  bases: Uint16Array;
}

function makeStates(chances: ArrayLike<number>, log: number): States {
  const size = 1 << log;
  const symbols = new Uint8Array(size);
  const next = new Uint16Array(chances.length);
  let high = size;
  for (let s = 0; s < chances.length; s++) {
    next[s] = Math.abs(chances[s]);
    if (chances[s] === -1) symbols[--high] = s;
  }
  const step = (size >> 1) + (size >> 3) + 3;
  let at = 0;
  for (let s = 0; s < chances.length; s++) {
    for (let i = 0; i < chances[s]; i++) {
      symbols[at] = s;
      do at = (at + step) & (size - 1);
      while (at >= high);
    }
  }
  const bits = new Uint8Array(size);
  const bases = new Uint16Array(size);
  for (let state = 0; state < size; state++) {
    const value = next[symbols[state]]++;
    bits[state] = log - (31 - Math.clz32(value));
    bases[state] = (value << bits[state]) - size;
  }
  return { log, symbols, bits, bases };
}

/** A code that always says the same (RLE mode). */
function oneState(symbol: number): States {
  return { log: 0, symbols: Uint8Array.of(symbol), bits: new Uint8Array(1), bases: new Uint16Array(1) };
}

/** Reads an FSE table description (4.1.1) at `at`; returns the code and where the description ends. */
function readStates(input: Uint8Array, at: number, end: number, maxLog: number, maxSymbol: number): [States, number] {
  let bit = at * 8;
  const last = end * 8;
  const peek = (count: number) => {
    const byte = bit >> 3;
    const word = (input[byte] ?? 0) | ((input[byte + 1] ?? 0) << 8) | ((input[byte + 2] ?? 0) << 16);
    return (word >> (bit & 7)) & ((1 << count) - 1);
  };
  const log = peek(4) + 5;
  bit += 4;
  if (log > maxLog) throw damaged(`an entropy table has ${log} bits, more than ${maxLog}`);
  const chances: number[] = [];
  for (let left = 1 << log; left > 0; ) {
    if (chances.length > maxSymbol) throw damaged("an entropy table has too many symbols");
    // Of the values 0 to left + 1, the lower ones take one bit less.
    const bits = 32 - Math.clz32(left + 1);
    const spare = (1 << bits) - 1 - (left + 1);
    let value = peek(bits);
    const low = value & ((1 << (bits - 1)) - 1);
    if (low < spare) {
      bit += bits - 1;
      value = low;
    } else {
      bit += bits;
      if (value >= 1 << (bits - 1)) value -= spare;
    }
    left -= Math.abs(value - 1);
    chances.push(value - 1);
    if (value !== 1) continue;
    for (let more = 3; more === 3; ) {
      more = peek(2);
      bit += 2;
      for (let i = 0; i < more; i++) chances.push(0);
      if (bit > last) throw damaged("an entropy table is cut off");
    }
  }
  if (bit > last) throw damaged("an entropy table is cut off");
  if (chances.length > maxSymbol + 1) throw damaged("an entropy table has too many symbols");
  return [makeStates(chances, log), (bit + 7) >> 3];
}

/** Bits from the end of the input backwards, from below the highest set bit of the last byte. */
class Backward {
  readonly #input: Uint8Array;
  readonly #start: number;
  /** Bits left. */
  left: number;

  constructor(input: Uint8Array, start: number, end: number) {
    const last = end > start ? input[end - 1] : 0;
    if (last === 0) throw damaged("a bit stream has no end mark");
    this.#input = input;
    this.#start = start;
    this.left = (end - start) * 8 - (Math.clz32(last) - 24) - 1;
  }

  /** The next `count` bits, at most 25; zeros past the start. */
  peek(count: number): number {
    const from = this.left - count;
    if (from < 0) return from <= -count ? 0 : this.#at(0, this.left) << -from;
    return this.#at(from, count);
  }
  take(count: number): number {
    if (count > 25) {
      const high = this.take(count - 16);
      return high * 65536 + this.take(16);
    }
    const value = this.peek(count);
    this.left -= count;
    return value;
  }

  #at(bit: number, count: number): number {
    const input = this.#input;
    const byte = this.#start + (bit >> 3);
    const word = input[byte] | (input[byte + 1] << 8) | (input[byte + 2] << 16) | (input[byte + 3] << 24);
    return (word >>> (bit & 7)) & ((1 << count) - 1);
  }
}

/** A Huffman code (4.2): by the next `log` bits, symbol and length. */
interface Huffman {
  log: number;
  symbols: Uint8Array;
  lengths: Uint8Array;
}

function readHuffman(input: Uint8Array, at: number, end: number): [Huffman, number] {
  const header = input[at++];
  const weights: number[] = [];
  if (header >= 128) {
    const count = header - 127;
    for (let i = 0; i < count; i++) weights.push(i % 2 ? input[at + (i >> 1)] & 15 : input[at + (i >> 1)] >> 4);
    at += (count + 1) >> 1;
  } else {
    const stop = at + header;
    if (stop > end) throw damaged("a Huffman table is cut off");
    const [states, from] = readStates(input, at, stop, 6, 255);
    const bits = new Backward(input, from, stop);
    // Two states take turns, until the bits are used up (4.2.1.2).
    let [state, other] = [bits.take(states.log), bits.take(states.log)];
    for (;;) {
      if (weights.length > 255) throw damaged("a Huffman table has too many symbols");
      weights.push(states.symbols[state]);
      if (bits.left < states.bits[state]) {
        weights.push(states.symbols[other]);
        break;
      }
      const next = states.bases[state] + bits.take(states.bits[state]);
      state = other;
      other = next;
    }
    at = stop;
  }
  if (at > end) throw damaged("a Huffman table is cut off");
  return [makeHuffman(weights), at];
}

function makeHuffman(weights: number[]): Huffman {
  let sum = 0;
  for (const weight of weights) if (weight > 0) sum += 2 ** (weight - 1);
  if (sum === 0) throw damaged("a Huffman table is empty");
  const log = 32 - Math.clz32(sum);
  const rest = 2 ** log - sum;
  if (log > MAX_HUFFMAN_BITS || (rest & (rest - 1)) !== 0) throw damaged("a Huffman table does not add up");
  weights.push(32 - Math.clz32(rest));
  if (weights.length > 256) throw damaged("a Huffman table has too many symbols");
  const symbols = new Uint8Array(1 << log);
  const lengths = new Uint8Array(1 << log);
  let at = 0;
  for (let weight = 1; weight <= log; weight++) {
    for (let symbol = 0; symbol < weights.length; symbol++) {
      if (weights[symbol] !== weight) continue;
      const span = 1 << (weight - 1);
      symbols.fill(symbol, at, at + span);
      lengths.fill(log + 1 - weight, at, at + span);
      at += span;
    }
  }
  if (at !== 1 << log) throw damaged("a Huffman table does not add up");
  return { log, symbols, lengths };
}

function huffmanStream(code: Huffman, input: Uint8Array, at: number, end: number, output: Uint8Array): void {
  const bits = new Backward(input, at, end);
  const { log, symbols, lengths } = code;
  for (let i = 0; i < output.length; i++) {
    const next = bits.peek(log);
    output[i] = symbols[next];
    bits.left -= lengths[next];
  }
  if (bits.left !== 0) throw damaged("a Huffman stream has the wrong length");
}

/** What blocks of one frame hand on. */
interface FrameState {
  huffman?: Huffman;
  literals?: States;
  offsets?: States;
  matches?: States;
  /** The last three offsets, the newest first. */
  recent: [number, number, number];
}

/** 3.1.1.3.1: the literals, and where the section ends. */
function readLiterals(input: Uint8Array, at: number, end: number, frame: FrameState): [Uint8Array, number] {
  const type = input[at] & 3;
  const format = (input[at] >> 2) & 3;
  const byte = (i: number) => input[at + i] ?? 0;
  if (type < 2) {
    const header = format === 1 ? 2 : format === 3 ? 3 : 1;
    const size = header === 1 ? byte(0) >> 3 : (byte(0) >> 4) | (byte(1) << 4) | (header === 3 ? byte(2) << 12 : 0);
    at += header;
    const stop = at + (type === 0 ? size : 1);
    if (stop > end || size > MAX_BLOCK) throw damaged("literals are cut off");
    return [type === 0 ? input.subarray(at, stop) : new Uint8Array(size).fill(input[at]), stop];
  }
  const bits = [10, 10, 14, 18][format];
  const header = [3, 3, 4, 5][format];
  const low = byte(0) | (byte(1) << 8) | (byte(2) << 16);
  const wide = low + byte(3) * 2 ** 24 + byte(4) * 2 ** 32;
  const mask = 2 ** bits;
  const size = Math.floor(wide / 16) % mask;
  const packed = Math.floor(wide / 16 / mask) % mask;
  at += header;
  const stop = at + packed;
  if (stop > end || size > MAX_BLOCK) throw damaged("literals are cut off");
  if (type === 2) [frame.huffman, at] = readHuffman(input, at, stop);
  if (!frame.huffman) throw damaged("literals use a Huffman table that was never sent");
  const output = new Uint8Array(size);
  if (format === 0) huffmanStream(frame.huffman, input, at, stop, output);
  else {
    if (at + 6 > stop) throw damaged("literals are cut off");
    const part = (size + 3) >> 2;
    if (part * 3 > size) throw damaged("four streams of too few literals");
    let from = at + 6;
    for (let i = 0; i < 4; i++) {
      const to = i === 3 ? stop : from + (input[at + i * 2] | (input[at + i * 2 + 1] << 8));
      if (to > stop) throw damaged("literals are cut off");
      huffmanStream(frame.huffman, input, from, to, output.subarray(part * i, i === 3 ? size : part * (i + 1)));
      from = to;
    }
  }
  return [output, stop];
}

/** 3.1.1.3.2: the sequences, carried out. Returns where the output has got. */
function block(
  input: Uint8Array,
  at: number,
  end: number,
  frame: FrameState,
  output: Uint8Array,
  done: number,
): number {
  let literals: Uint8Array;
  [literals, at] = readLiterals(input, at, end, frame);
  if (at >= end) throw damaged("sequences are cut off");
  let count = input[at++];
  if (count >= 128) {
    if (count === 255) {
      count = (input[at] | (input[at + 1] << 8)) + 0x7f00;
      at += 2;
    } else count = ((count - 128) << 8) | input[at++];
  }
  let used = 0;
  const copy = (length: number) => {
    if (used + length > literals.length) throw damaged("more literals are used than there are");
    if (done + length > output.length) throw damaged("there is more data than there should be");
    output.set(literals.subarray(used, used + length), done);
    used += length;
    done += length;
  };
  if (count > 0) {
    if (at >= end) throw damaged("sequences are cut off");
    const modes = input[at++];
    if (modes & 3) throw damaged("reserved bits of the sequence modes are set");
    const table = (
      mode: number,
      last: States | undefined,
      log: number,
      most: number,
      chances: number[],
      plain: number,
    ): States => {
      if (mode === 0) return makeStates(chances, plain);
      if (mode === 1) {
        if (at >= end || input[at] > most) throw damaged("a sequence symbol is out of range");
        return oneState(input[at++]);
      }
      if (mode === 2) {
        const [states, next] = readStates(input, at, end, log, most);
        at = next;
        return states;
      }
      if (!last) throw damaged("sequences use a table that was never sent");
      return last;
    };
    frame.literals = table(modes >> 6, frame.literals, 9, 35, LITERALS_DEFAULT, 6);
    frame.offsets = table((modes >> 4) & 3, frame.offsets, 8, 31, OFFSET_DEFAULT, 5);
    frame.matches = table((modes >> 2) & 3, frame.matches, 9, 52, MATCH_DEFAULT, 6);
    const { literals: L, offsets: O, matches: M, recent } = frame;
    const bits = new Backward(input, at, end);
    let l = bits.take(L.log);
    let o = bits.take(O.log);
    let m = bits.take(M.log);
    for (let i = 0; i < count; i++) {
      const offsetCode = O.symbols[o];
      const value = 2 ** offsetCode + bits.take(offsetCode);
      const matchCode = M.symbols[m];
      const length = MATCH_BASE[matchCode] + bits.take(MATCH_EXTRA[matchCode]);
      const literalCode = L.symbols[l];
      const before = LITERALS_BASE[literalCode] + bits.take(LITERALS_EXTRA[literalCode]);
      if (bits.left < 0) throw damaged("sequences are cut off");
      const offset = nextOffset(recent, value, before === 0);
      copy(before);
      if (offset < 1 || offset > done) throw damaged("an offset reaches before the start");
      if (done + length > output.length) throw damaged("there is more data than there should be");
      repeat(output, done, offset, length);
      done += length;
      if (i === count - 1) break;
      l = L.bases[l] + bits.take(L.bits[l]);
      m = M.bases[m] + bits.take(M.bits[m]);
      o = O.bases[o] + bits.take(O.bits[o]);
    }
    if (bits.left !== 0) throw damaged("a sequence stream has the wrong length");
  }
  copy(literals.length - used);
  return done;
}

/** Copies `length` bytes from `offset` before; where they overlap, what repeats gets twice as long with each copy. */
function repeat(output: Uint8Array, to: number, offset: number, length: number): void {
  if (length < 16) {
    for (let k = 0; k < length; k++) output[to + k] = output[to + k - offset];
    return;
  }
  const from = to - offset;
  for (let done = 0; done < length; ) {
    const some = Math.min(length - done, offset + done);
    output.copyWithin(to + done, from, from + some);
    done += some;
  }
}

/** 3.1.1.5: offset values 1 to 3 mean one of the last three. */
function nextOffset(recent: FrameState["recent"], value: number, noLiterals: boolean): number {
  let offset = value - 3;
  let moved = 3;
  if (value <= 3) {
    const index = value - 1 + (noLiterals ? 1 : 0);
    offset = index === 3 ? recent[0] - 1 : recent[index];
    moved = index;
  }
  if (moved > 1) recent[2] = recent[1];
  if (moved > 0) recent[1] = recent[0];
  recent[0] = offset;
  return offset;
}

/** Exactly `size` bytes out of a frame; what follows them is left alone. @throws RangeError when it is damaged */
export function unzstd(packed: Uint8Array, size: number, output: Uint8Array = new Uint8Array(size)): Uint8Array {
  const view = new DataView(packed.buffer, packed.byteOffset, packed.length);
  let done = 0;
  let at = 0;
  while (done < size) {
    if (at + 6 > packed.length) throw damaged(`the data ends after ${done} bytes of ${size}`);
    const magic = view.getUint32(at, true);
    if (magic >>> 4 === 0x184d2a5 && at + 8 <= packed.length) {
      at += 8 + view.getUint32(at + 4, true); // a frame to be skipped
      continue;
    }
    if (magic !== MAGIC) throw damaged("there is no zstd frame");
    const flags = packed[at + 4];
    if (flags & 8) throw damaged("a reserved bit of the frame header is set");
    if (flags & 3) throw damaged("the frame needs a dictionary");
    const single = (flags >> 5) & 1;
    at += 5 + (single ? 0 : 1) + [single, 2, 4, 8][flags >> 6];
    const frame: FrameState = { recent: [1, 4, 8] };
    for (let last = 0; last === 0; ) {
      if (at + 3 > packed.length) throw damaged(`the data ends after ${done} bytes of ${size}`);
      const header = packed[at] | (packed[at + 1] << 8) | (packed[at + 2] << 16);
      at += 3;
      last = header & 1;
      const type = (header >> 1) & 3;
      const length = header >> 3;
      const end = at + (type === 1 ? 1 : length);
      if (type === 3 || length > MAX_BLOCK) throw damaged("a block of unknown type or size");
      if (end > packed.length) throw damaged(`the data ends after ${done} bytes of ${size}`);
      if (type === 2) done = block(packed, at, end, frame, output, done);
      else {
        if (done + length > size) throw damaged("there is more data than there should be");
        if (type === 1) output.fill(packed[at], done, done + length);
        else output.set(packed.subarray(at, end), done);
        done += length;
      }
      at = end;
    }
    if (flags & 4) at += 4; // the content's checksum, which images need not have
  }
  return output;
}
