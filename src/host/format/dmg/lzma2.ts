// LZMA2 (XZ format; its LZMA as in Igor Pavlov's LZMA specification, 2015): chunks of LZMA, and of bytes as they are.

/** Places of the adaptive probabilities. */
const Prob = {
  IsMatch: 0,
  IsRep: 192,
  IsRepG0: 204,
  IsRepG1: 216,
  IsRepG2: 228,
  IsRep0Long: 240,
  PosSlot: 432,
  Special: 688,
  Align: 803,
  MatchLength: 819,
  RepLength: 1333,
  Literal: 1847,
} as const;
/** Of a length: two choices, then 16 trees of 3 bits, as many again, and one of 8. */
const Length = { Choice: 0, Choice2: 1, Low: 2, Middle: 130, High: 258 } as const;
const LITERAL = 0x300;
const HALF = 1024;
const TOP = 2 ** 24;

const damaged = (what: string) => new RangeError(what);

class Lzma2 {
  readonly #packed: Uint8Array;
  readonly #out: Uint8Array;
  at = 0;
  end = 0;
  /** Where the dictionary begins. */
  #start = 0;
  #lc = 0;
  #lp = 0;
  #pb = 0;
  #probs = new Uint16Array(0);
  #state = 0;
  readonly #reps = [0, 0, 0, 0];
  #range = 0;
  #code = 0;
  /** Of the chunk at hand. */
  #limit = 0;

  constructor(packed: Uint8Array, at: number, out: Uint8Array, end: number) {
    this.#packed = packed;
    this.at = at;
    this.#out = out;
    this.end = end;
    this.#start = end;
  }

  /** All chunks to the mark of the end. */
  run(): void {
    let fresh = true;
    for (let control = this.#byte(); control !== 0; control = this.#byte()) {
      if (fresh && control !== 1 && control < 0xe0) throw damaged("the first chunk needs what came before");
      fresh = false;
      if (control < 0x80) {
        if (control > 2) throw damaged(`there is no chunk ${control}`);
        this.#plain(control === 1);
      } else this.#coded(control);
    }
  }

  #byte(): number {
    if (this.at < this.#packed.length) return this.#packed[this.at++];
    throw damaged("it is cut off");
  }
  #word(): number {
    return this.#byte() * 256 + this.#byte();
  }
  #room(length: number): void {
    if (this.end + length > this.#out.length) throw damaged(`it unpacks to more than ${this.#out.length} bytes`);
  }

  #plain(reset: boolean): void {
    const length = this.#word() + 1;
    if (reset) this.#start = this.end;
    this.#room(length);
    if (this.at + length > this.#packed.length) throw damaged("it is cut off");
    this.#out.set(this.#packed.subarray(this.at, this.at + length), this.end);
    this.at += length;
    this.end += length;
  }

  #coded(control: number): void {
    const length = (control & 31) * 65536 + this.#word() + 1;
    const bytes = this.#word() + 1;
    const reset = (control >> 5) & 3;
    if (reset === 3) this.#start = this.end;
    if (reset >= 2) this.#properties(this.#byte());
    else if (this.#probs.length === 0) throw damaged("a chunk needs properties");
    if (reset >= 1) {
      this.#probs.fill(HALF);
      this.#state = 0;
      this.#reps.fill(0);
    }
    this.#room(length);
    this.#limit = this.at + bytes;
    if (this.#limit > this.#packed.length) throw damaged("it is cut off");
    if (this.#byte() !== 0) throw damaged("a chunk does not begin as one");
    this.#range = 0xffffffff;
    this.#code = 0;
    for (let i = 0; i < 4; i++) this.#code = ((this.#code << 8) | this.#byte()) >>> 0;
    const to = this.end + length;
    while (this.end < to) this.#symbol(to);
    if (this.at !== this.#limit) throw damaged("a chunk is longer than what is in it");
  }

  #properties(byte: number): void {
    this.#lc = byte % 9;
    this.#lp = Math.floor(byte / 9) % 5;
    this.#pb = Math.floor(byte / 45);
    if (this.#pb > 4 || this.#lc + this.#lp > 4) throw damaged("a chunk has properties that cannot be");
    this.#probs = new Uint16Array(Prob.Literal + (LITERAL << (this.#lc + this.#lp)));
  }

  #normalise(): void {
    if (this.#range >= TOP) return;
    if (this.at >= this.#limit) throw damaged("a chunk is shorter than what is in it");
    this.#range = (this.#range << 8) >>> 0;
    this.#code = ((this.#code << 8) | this.#packed[this.at++]) >>> 0;
  }

  #bit(place: number): number {
    const probs = this.#probs;
    const bound = (this.#range >>> 11) * probs[place];
    let bit = 0;
    if (this.#code < bound) {
      this.#range = bound;
      probs[place] += (2048 - probs[place]) >> 5;
    } else {
      this.#range -= bound;
      this.#code -= bound;
      probs[place] -= probs[place] >> 5;
      bit = 1;
    }
    this.#normalise();
    return bit;
  }

  #tree(place: number, bits: number): number {
    let node = 1;
    for (let i = 0; i < bits; i++) node = node * 2 + this.#bit(place + node);
    return node - 2 ** bits;
  }
  /** The lowest bit first. */
  #reverse(place: number, bits: number): number {
    let node = 1;
    let value = 0;
    for (let i = 0; i < bits; i++) {
      const bit = this.#bit(place + node);
      node = node * 2 + bit;
      value += bit << i;
    }
    return value;
  }
  #direct(bits: number): number {
    let value = 0;
    for (let i = 0; i < bits; i++) {
      this.#range >>>= 1;
      const bit = this.#code >= this.#range ? 1 : 0;
      if (bit) this.#code -= this.#range;
      this.#normalise();
      value = value * 2 + bit;
    }
    return value;
  }

  #symbol(to: number): void {
    const position = (this.end - this.#start) & ((1 << this.#pb) - 1);
    const state = this.#state;
    if (this.#bit(Prob.IsMatch + state * 16 + position) === 0) {
      this.#literal();
      return;
    }
    const reps = this.#reps;
    let length: number;
    if (this.#bit(Prob.IsRep + state) === 0) {
      length = this.#length(Prob.MatchLength, position);
      reps.copyWithin(1, 0, 3);
      reps[0] = this.#distance(length);
      this.#state = state < 7 ? 7 : 10;
    } else {
      if (this.#bit(Prob.IsRepG0 + state) === 0) {
        if (this.#bit(Prob.IsRep0Long + state * 16 + position) === 0) {
          this.#state = state < 7 ? 9 : 11;
          this.#repeat(1, to);
          return;
        }
      } else {
        const which = this.#bit(Prob.IsRepG1 + state) === 0 ? 1 : 2 + this.#bit(Prob.IsRepG2 + state);
        const distance = reps[which];
        reps.copyWithin(1, 0, which);
        reps[0] = distance;
      }
      length = this.#length(Prob.RepLength, position);
      this.#state = state < 7 ? 8 : 11;
    }
    this.#repeat(length, to);
  }

  #literal(): void {
    const { end } = this;
    const out = this.#out;
    const before = end > this.#start ? out[end - 1] : 0;
    const low = (end - this.#start) & ((1 << this.#lp) - 1);
    const place = Prob.Literal + LITERAL * ((low << this.#lc) + (before >> (8 - this.#lc)));
    let symbol = 1;
    if (this.#state >= 7) {
      if (this.#reps[0] >= end - this.#start) throw damaged("a distance reaches before the start");
      let match = out[end - this.#reps[0] - 1];
      while (symbol < 256) {
        const wanted = match >> 7;
        match = (match << 1) & 255;
        const bit = this.#bit(place + ((1 + wanted) << 8) + symbol);
        symbol = symbol * 2 + bit;
        if (bit !== wanted) break;
      }
    }
    while (symbol < 256) symbol = symbol * 2 + this.#bit(place + symbol);
    out[this.end++] = symbol;
    this.#state = this.#state < 4 ? 0 : this.#state < 10 ? this.#state - 3 : this.#state - 6;
  }

  #length(place: number, position: number): number {
    if (this.#bit(place + Length.Choice) === 0) return 2 + this.#tree(place + Length.Low + position * 8, 3);
    if (this.#bit(place + Length.Choice2) === 0) return 10 + this.#tree(place + Length.Middle + position * 8, 3);
    return 18 + this.#tree(place + Length.High, 8);
  }

  /** One less than the distance. */
  #distance(length: number): number {
    const slot = this.#tree(Prob.PosSlot + Math.min(length - 2, 3) * 64, 6);
    if (slot < 4) return slot;
    const bits = (slot >> 1) - 1;
    const base = (2 + (slot & 1)) * 2 ** bits;
    if (slot < 14) return base + this.#reverse(Prob.Special + base - slot, bits);
    return base + this.#direct(bits - 4) * 16 + this.#reverse(Prob.Align, 4);
  }

  #repeat(length: number, to: number): void {
    const distance = this.#reps[0] + 1;
    if (distance > this.end - this.#start) throw damaged("a distance reaches before the start");
    if (this.end + length > to) throw damaged("a chunk unpacks to more than it says");
    const out = this.#out;
    for (const last = this.end + length; this.end < last; this.end++) out[this.end] = out[this.end - distance];
  }
}

/**
 * Unpacks from `at` on to the mark of the end, into `out` from `end` on.
 * @returns where both have come to @throws RangeError when it is damaged
 */
export function unlzma2(packed: Uint8Array, at: number, out: Uint8Array, end: number): { at: number; end: number } {
  const decoder = new Lzma2(packed, at, out, end);
  decoder.run();
  return { at: decoder.at, end: decoder.end };
}
