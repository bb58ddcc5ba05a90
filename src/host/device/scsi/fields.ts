/** Big-endian fields, as all of SCSI has them. */
export function get16(bytes: Uint8Array, at: number): number {
  return (bytes[at] << 8) | bytes[at + 1];
}
export function get24(bytes: Uint8Array, at: number): number {
  return (bytes[at] << 16) | get16(bytes, at + 1);
}
export function get32(bytes: Uint8Array, at: number): number {
  return get16(bytes, at) * 65536 + get16(bytes, at + 2);
}
export function put16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}
export function put24(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 16;
  put16(bytes, at + 1, value & 0xffff);
}
export function put32(bytes: Uint8Array, at: number, value: number): void {
  put16(bytes, at, Math.floor(value / 65536));
  put16(bytes, at + 2, value % 65536);
}

/** ASCII, padded with blanks. */
export function putAscii(bytes: Uint8Array, at: number, length: number, text: string): void {
  for (let i = 0; i < length; i++) bytes[at + i] = i < text.length ? text.charCodeAt(i) : 0x20;
}

/** Up to 2^53: past that it is inexact, and no place on any disk. */
export function get64(bytes: Uint8Array, at: number): number {
  return get32(bytes, at) * 2 ** 32 + get32(bytes, at + 4);
}
export function put64(bytes: Uint8Array, at: number, value: number): void {
  put32(bytes, at, Math.floor(value / 2 ** 32));
  put32(bytes, at + 4, value % 2 ** 32);
}
