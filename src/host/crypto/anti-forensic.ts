// The anti-forensic splitter ("Anti-forensic splitting" in the LUKS on-disk format): a key is spread over many stripes, all of
// which are needed, so that overwriting any one of them on a disk destroys it.
import { type Hash, randomBytes } from "./hash.ts";

/** Hashes each digest-sized piece with its number, big-endian, before it; the last piece may be shorter. */
async function diffuse(hash: Hash, block: Uint8Array): Promise<void> {
  const pieces: Promise<Uint8Array>[] = [];
  for (let at = 0, number = 0; at < block.length; at += hash.bytes, number++) {
    const piece = block.subarray(at, at + hash.bytes);
    const input = new Uint8Array(4 + piece.length);
    new DataView(input.buffer).setUint32(0, number);
    input.set(piece, 4);
    pieces.push(hash.digest(input));
  }
  const digests = await Promise.all(pieces);
  for (const [i, digest] of digests.entries()) {
    const at = i * hash.bytes;
    block.set(digest.subarray(0, Math.min(hash.bytes, block.length - at)), at);
  }
}

function xor(into: Uint8Array, bytes: Uint8Array): void {
  for (let i = 0; i < into.length; i++) into[i] ^= bytes[i];
}

/** The key of `length` bytes that is spread over `stripes` stripes. */
export async function mergeKey(hash: Hash, material: Uint8Array, length: number, stripes: number): Promise<Uint8Array> {
  const key = new Uint8Array(length);
  for (let i = 0; i < stripes - 1; i++) {
    xor(key, material.subarray(i * length));
    await diffuse(hash, key);
  }
  xor(key, material.subarray((stripes - 1) * length, stripes * length));
  return key;
}

/** Spreads the key. */
export async function splitKey(hash: Hash, key: Uint8Array, stripes: number): Promise<Uint8Array> {
  const { length } = key;
  const material = new Uint8Array(length * stripes);
  material.set(randomBytes(length * (stripes - 1)));
  const sum = new Uint8Array(length);
  for (let i = 0; i < stripes - 1; i++) {
    xor(sum, material.subarray(i * length));
    await diffuse(hash, sum);
  }
  xor(sum, key);
  material.set(sum, length * (stripes - 1));
  return material;
}
