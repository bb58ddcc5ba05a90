/** The most that a stored block holds (RFC 1951, 3.2.4). */
const BLOCK = 65535;

/**
 * The bytes as they are, in zlib's format (RFC 1950): a header, stored blocks, the checksum. What compression gains nothing on
 * comes out no larger, and at the speed of memory.
 */
export function storedZlib(bytes: Uint8Array, adler32: number): Uint8Array {
  const blocks = Math.max(1, Math.ceil(bytes.length / BLOCK));
  const packed = new Uint8Array(2 + blocks * 5 + bytes.length + 4);
  const view = new DataView(packed.buffer);
  // Deflate with a window of 32 KiB, packed the fastest way (2.2).
  view.setUint16(0, 0x7801);
  let to = 2;
  for (let block = 0; block < blocks; block++) {
    const part = bytes.subarray(block * BLOCK, (block + 1) * BLOCK);
    packed[to] = block === blocks - 1 ? 1 : 0;
    view.setUint16(to + 1, part.length, true);
    view.setUint16(to + 3, part.length ^ 0xffff, true);
    packed.set(part, to + 5);
    to += 5 + part.length;
  }
  view.setUint32(to, adler32);
  return packed;
}
