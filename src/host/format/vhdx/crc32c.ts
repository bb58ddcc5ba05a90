// CRC-32C (Castagnoli), the checksum of every VHDX structure: reflected polynomial 0x82F63B78, initial value and final
// inversion of all ones.

const TABLE = new Uint32Array(256).map((_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  return crc;
});

/** Checksum of the bytes; `crc` continues one over bytes that came before. */
export function crc32c(bytes: Uint8Array, crc = 0): number {
  let value = ~crc;
  for (let i = 0; i < bytes.length; i++) value = TABLE[(value ^ bytes[i]) & 0xff] ^ (value >>> 8);
  return ~value >>> 0;
}

const ZERO_FIELD = new Uint8Array(4);
/** Where every structure keeps its checksum. */
const CHECKSUM = 4;

/** Checksum of a structure, its own checksum field taken as zero. */
function structureCrc(bytes: Uint8Array): number {
  let crc = crc32c(bytes.subarray(0, CHECKSUM));
  crc = crc32c(ZERO_FIELD, crc);
  return crc32c(bytes.subarray(CHECKSUM + 4), crc);
}

/** Does the structure begin with `signature`, and is its checksum right? */
export function intact(bytes: Uint8Array, signature: string): boolean {
  return signed(bytes, signature) && viewOf(bytes).getUint32(CHECKSUM, true) === structureCrc(bytes);
}

/** Writes the signature and the checksum of the structure as it is now. */
export function seal(bytes: Uint8Array, signature: string): Uint8Array {
  sign(bytes, signature);
  viewOf(bytes).setUint32(CHECKSUM, structureCrc(bytes), true);
  return bytes;
}

export function signed(bytes: Uint8Array, signature: string): boolean {
  for (let i = 0; i < signature.length; i++) if (bytes[i] !== signature.charCodeAt(i)) return false;
  return true;
}

export function sign(bytes: Uint8Array, signature: string): void {
  for (let i = 0; i < signature.length; i++) bytes[i] = signature.charCodeAt(i);
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}
