// LZVN, as blocks of LZFSE have it: an opcode says how many bytes follow as they are, and how many come again from before.
// Apple has published no description but its decoder (lzfse/lzfse, src/lzvn_decode_base.c), whose opcodes these are.

/** End of stream. */
const End = 0x06;
const Nothing = [0x0e, 0x16];
/** Literals and matches alone: the length is in the low four bits, or, where those are 0, 16 more than the next byte. */
const Literal = 0xe0;
const Match = 0xf0;

interface Step {
  /** Bytes of the opcode. */
  bytes: number;
  literals: number;
  match: number;
  /** Absent: as before. */
  distance?: number;
}

/** Fills bytes [from, to) of `out`, of which those before are there already. @throws RangeError when it is damaged */
export function unpackLzvn(packed: Uint8Array, out: Uint8Array, from: number, to: number): void {
  let at = 0;
  let end = from;
  let distance = 0;
  while (at < packed.length) {
    const opcode = packed[at];
    if (opcode === End) break;
    const step = decode(packed, at);
    at += step.bytes;
    if (at + step.literals > packed.length) throw new RangeError("literals pass the end of an LZVN block");
    if (end + step.literals + step.match > to) throw new RangeError("an LZVN block unpacks to more than it says");
    out.set(packed.subarray(at, at + step.literals), end);
    at += step.literals;
    end += step.literals;
    if (step.match === 0) continue;
    distance = step.distance ?? distance;
    if (distance === 0 || distance > end) throw new RangeError("an LZVN distance reaches before the start");
    for (const last = end + step.match; end < last; end++) out[end] = out[end - distance];
  }
  if (end !== to) throw new RangeError("an LZVN block unpacks to less than it says");
}

function decode(packed: Uint8Array, at: number): Step {
  const opcode = packed[at];
  const next = (offset: number) => {
    if (at + offset < packed.length) return packed[at + offset];
    throw new RangeError("an LZVN opcode passes the end of its block");
  };
  if (opcode >= Literal) {
    const long = (opcode & 15) === 0;
    const length = long ? next(1) + 16 : opcode & 15;
    const bytes = long ? 2 : 1;
    return opcode >= Match ? { bytes, literals: 0, match: length } : { bytes, literals: length, match: 0 };
  }
  if (Nothing.includes(opcode)) return { bytes: 1, literals: 0, match: 0 };
  const high = opcode >> 4;
  if (high === 7 || high === 13) throw new RangeError(`there is no LZVN opcode ${opcode}`);
  if (high === 10 || high === 11) {
    const word = next(1) | (next(2) << 8);
    const match = (((opcode & 7) << 2) | (word & 3)) + 3;
    return { bytes: 3, literals: (opcode >> 3) & 3, match, distance: word >> 2 };
  }
  const lengths = { literals: opcode >> 6, match: ((opcode >> 3) & 7) + 3 };
  switch (opcode & 7) {
    case 6:
      if (opcode < 0x40) throw new RangeError(`there is no LZVN opcode ${opcode}`);
      return { bytes: 1, ...lengths };
    case 7:
      return { bytes: 3, ...lengths, distance: next(1) | (next(2) << 8) };
    default:
      return { bytes: 2, ...lengths, distance: ((opcode & 7) << 8) | next(1) };
  }
}
