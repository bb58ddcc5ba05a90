import { ZstdPack } from "../spec/zstd";
import { countBytes, makeCode, writeCode, writeStream } from "./huffman-pack";

// The literals of a block, written (RFC 8878, 3.1.1.3.1).

/** Writes `size` literals; returns where they end. */
export function writeLiterals(scratch: usize, size: u32, output: usize): usize {
  const literals = scratch + ZstdPack.Literals;
  if (size >= 32) {
    const most = countBytes(scratch, literals, size);
    if (most === size) {
      const at = literalsHeader(output, 1, size);
      store<u8>(at, load<u8>(literals));
      return at + 1;
    }
    // Where the commonest is hardly more than any, nothing is gained.
    if (most > (size >> 7) + 4) {
      makeCode(scratch);
      const end = packLiterals(scratch, literals, size, output);
      if (end !== 0) return end;
    }
  }
  const at = literalsHeader(output, 0, size);
  memory.copy(at, literals, size);
  return at + size;
}

/** The header of literals that are as they are (0), or all the same (1); returns where it ends. */
function literalsHeader(output: usize, type: u32, size: u32): usize {
  if (size < 32) {
    store<u8>(output, type | (size << 3));
    return output + 1;
  }
  if (size < 4096) {
    store<u16>(output, type | 4 | (size << 4));
    return output + 2;
  }
  store<u32>(output, type | 12 | (size << 4));
  return output + 3;
}

/** Literals by the code that was made for them; 0 when they get no smaller. */
function packLiterals(scratch: usize, literals: usize, size: u32, output: usize): usize {
  const single = size < 256;
  const header: usize = size < 1024 ? 3 : size < 16384 ? 4 : 5;
  let at = writeCode(scratch, output + header);
  if (at === 0) return 0;
  if (single) at = writeStream(scratch, literals, literals + size, at);
  else {
    const sizes = at;
    const part: usize = (size + 3) >> 2;
    at += 6;
    for (let i: usize = 0; i < 4; i++) {
      const from = at;
      at = writeStream(scratch, literals + part * i, i === 3 ? literals + size : literals + part * (i + 1), at);
      if (i === 3) break;
      if (at - from > 0xffff) return 0;
      store<u16>(sizes + (i << 1), <u32>(at - from));
    }
  }
  const packed = <u32>(at - output - header);
  if (packed + (size >> 6) + 2 >= size) return 0;
  const format: u32 = header === 3 ? (single ? 0 : 1) : header === 4 ? 2 : 3;
  const bits: u64 = header === 3 ? 10 : header === 4 ? 14 : 18;
  const word = <u64>(2 | (format << 2) | (size << 4)) | ((<u64>packed) << (bits + 4));
  for (let i: usize = 0; i < header; i++) store<u8>(output + i, word >> ((<u64>i) << 3));
  return at;
}
