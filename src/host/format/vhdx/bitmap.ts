// Sector bitmaps (MS-VHDX 2.4): a bit a sector, set when this file has it and not the parent. The first sector is bit 0 of
// byte 0; the map wants it in bit 7, as VHD has it.

const MIRRORED = new Uint8Array(256).map((_, byte) => {
  let mirrored = 0;
  for (let bit = 0; bit < 8; bit++) if (byte & (1 << bit)) mirrored |= 0x80 >> bit;
  return mirrored;
});

/** Turns the bits of each byte around, in place. */
export function mirror(bytes: Uint8Array): Uint8Array {
  for (let i = 0; i < bytes.length; i++) bytes[i] = MIRRORED[bytes[i]];
  return bytes;
}

/** Sets bits [from, to), counted from bit 0 of byte 0 up. */
export function setBits(bytes: Uint8Array, from: number, to: number): Uint8Array {
  let bit = from;
  for (; bit < to && bit & 7; bit++) bytes[bit >> 3] |= 1 << (bit & 7);
  if (to - bit >= 8) bytes.fill(0xff, bit >> 3, to >> 3);
  for (bit = Math.max(bit, to & ~7); bit < to; bit++) bytes[bit >> 3] |= 1 << (bit & 7);
  return bytes;
}

/** The first bit in [from, to) that is `value`, or `to`. */
export function findBit(bytes: Uint8Array, from: number, to: number, value: 0 | 1): number {
  let bit = from;
  while (bit < to && ((bytes[bit >> 3] >> (bit & 7)) & 1) !== value) bit++;
  return bit;
}
