// Apple Data Compression, of DiskCopy's days: bytes as they are, and copies of earlier ones. Not specified by Apple; as described
// with libmodi ("Apple Disk Image Format", ADC).

/** Exactly `size` bytes. @throws RangeError when it is damaged */
export function unpackAdc(packed: Uint8Array, size: number): Uint8Array {
  const output = new Uint8Array(size);
  let at = 0;
  for (let i = 0; i < packed.length && at < size; ) {
    const first = packed[i];
    if (first & 0x80) {
      const length = (first & 0x7f) + 1;
      if (i + 1 + length > packed.length) throw new RangeError("the data ends too early");
      if (at + length > size) throw new RangeError(`there are more than ${size} bytes`);
      output.set(packed.subarray(i + 1, i + 1 + length), at);
      at += length;
      i += 1 + length;
      continue;
    }
    const long = (first & 0x40) !== 0;
    if (i + (long ? 3 : 2) > packed.length) throw new RangeError("the data ends too early");
    const length = long ? (first & 0x3f) + 4 : (first >> 2) + 3;
    const distance = 1 + (long ? (packed[i + 1] << 8) | packed[i + 2] : ((first & 3) << 8) | packed[i + 1]);
    i += long ? 3 : 2;
    if (distance > at) throw new RangeError("a distance reaches before the start");
    if (at + length > size) throw new RangeError(`there are more than ${size} bytes`);
    for (let end = at + length; at < end; at++) output[at] = output[at - distance];
  }
  if (at < size) throw new RangeError(`the data ends after ${at} bytes of ${size}`);
  return output;
}
