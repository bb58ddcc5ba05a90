import type { Random } from "./random.ts";

/** Bytes of many kinds: noise, letters of any alphabet, runs, and repeats at any distance. */
export function mixed(random: Random, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const letters = 1 + random.below(2 ** random.below(9));
  for (let at = 0; at < length; ) {
    const run = Math.min(length - at, 1 + random.below(2 ** random.below(14)));
    const back = Math.min(at, 1 + random.below(2 ** random.below(18)));
    const kind = random.below(5);
    const byte = random.below(256);
    for (const end = at + run; at < end; at++) {
      if (kind === 0) bytes[at] = random.below(256);
      else if (kind < 3) bytes[at] = Math.floor(random.below(letters) * (random.below(256) / 256));
      else bytes[at] = kind === 3 || back === 0 ? byte : bytes[at - back];
    }
  }
  return bytes;
}
