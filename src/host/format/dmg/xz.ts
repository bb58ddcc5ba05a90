// The .xz file format, version 1.2.1, as libcompression writes it for disk images (ULMO): one stream of blocks with LZMA2 alone.
import { crc32 } from "./crc32.ts";
import { unlzma2 } from "./lzma2.ts";

const MAGIC = [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0];
const LZMA2 = 0x21;
/** Bytes of a block's checksum, by its type ("Check ID"). */
const CHECK_BYTES: Record<number, number> = { 0: 0, 1: 4, 4: 8, 10: 32 };
const Crc32 = 1;
const Crc64 = 4;

/** @returns exactly `size` bytes @throws RangeError when it is damaged, or has other filters */
export function unxz(packed: Uint8Array, size: number): Uint8Array {
  const view = new DataView(packed.buffer, packed.byteOffset, packed.length);
  const inside = (at: number, length: number) => {
    if (at + length > packed.length) throw new RangeError("it is cut off");
  };
  inside(0, 12);
  if (MAGIC.some((byte, i) => packed[i] !== byte)) throw new RangeError("it is no xz stream");
  if (crc32(packed.subarray(6, 8)) !== view.getUint32(8, true))
    throw new RangeError("the checksum of its header is wrong");
  const check = packed[7] & 15;
  const checkBytes = CHECK_BYTES[check];
  if (packed[6] !== 0 || packed[7] > 15 || checkBytes === undefined)
    throw new RangeError("it has flags that are not known");
  const out = new Uint8Array(size);
  let end = 0;
  // A block's header begins with its size; the index, behind the last, with 0.
  for (let at = 12; ; ) {
    inside(at, 1);
    if (packed[at] === 0) break;
    const header = (packed[at] + 1) * 4;
    inside(at, header);
    const sum = view.getUint32(at + header - 4, true);
    if (crc32(packed.subarray(at, at + header - 4)) !== sum)
      throw new RangeError("the checksum of a block's header is wrong");
    onlyLzma2(packed.subarray(at + 1, at + header - 4));
    const start = at + header;
    const from = end;
    ({ at, end } = unlzma2(packed, start, out, end));
    at += (4 - ((at - start) & 3)) & 3;
    inside(at, checkBytes);
    const bytes = out.subarray(from, end);
    const right =
      check === Crc32
        ? crc32(bytes) === view.getUint32(at, true)
        : check !== Crc64 || crc64(bytes) === view.getBigUint64(at, true);
    if (!right) throw new RangeError("the checksum of a block is wrong");
    at += checkBytes;
  }
  if (end !== size) throw new RangeError(`it unpacks to ${end} bytes, not ${size}`);
  return out;
}

/** Flags, sizes where they are, and one filter with one byte of properties. */
function onlyLzma2(header: Uint8Array): void {
  let at = 1;
  const number = () => {
    let value = 0;
    for (let shift = 0; ; shift++) {
      if (at >= header.length || shift > 8) throw new RangeError("a block's header has a number that does not end");
      const byte = header[at++];
      value += (byte & 127) * 2 ** (shift * 7);
      if (byte < 128) return value;
    }
  };
  const flags = header[0];
  if ((flags & 0x3f) !== 0) throw new RangeError("a block has more filters than LZMA2");
  for (const size of [0x40, 0x80]) if (flags & size) number();
  if (number() !== LZMA2 || number() !== 1) throw new RangeError("a block has another filter than LZMA2");
}

/** ECMA-182, reflected, in halves. */
const [LOW, HIGH] = [new Uint32Array(256), new Uint32Array(256)];
for (let i = 0; i < 256; i++) {
  let value = BigInt(i);
  for (let bit = 0; bit < 8; bit++) value = (value >> 1n) ^ (value & 1n ? 0xc96c5795d7870f42n : 0n);
  LOW[i] = Number(value & 0xffffffffn);
  HIGH[i] = Number(value >> 32n);
}

function crc64(bytes: Uint8Array): bigint {
  let low = 0xffffffff;
  let high = 0xffffffff;
  for (const byte of bytes) {
    const i = (low ^ byte) & 255;
    low = ((low >>> 8) | (high << 24)) ^ LOW[i];
    high = (high >>> 8) ^ HIGH[i];
  }
  return (BigInt(~high >>> 0) << 32n) | BigInt(~low >>> 0);
}
