import { ZstdPack } from "../spec/zstd";
import { findSequences, forgetSeen } from "./zstd-find";
import { writeLiterals } from "./zstd-literals";
import { writeSequences } from "./zstd-sequences";

// Zstandard frames (RFC 8878) are written here, for units of up to a few MiB.

const MAGIC: u32 = 0xfd2fb528;
const MAX_BLOCK: u32 = 131072;

/** A frame of the bytes of [input, input + size); returns how many bytes it has, for which there is room at `output`. */
export function zstd(input: usize, size: u32, output: usize, scratch: usize): u32 {
  const start = output;
  const end = input + size;
  forgetSeen(scratch);
  store<u32>(output, MAGIC);
  // One segment; the content's size in 1, 2 or 4 bytes.
  const kind: u32 = size < 256 ? 0 : size < 65792 ? 1 : 2;
  store<u8>(output, 0x20 | (kind << 6), 4);
  store<u32>(output, kind === 1 ? size - 256 : size, 5);
  output += 5 + ((<usize>1) << kind);
  const recent = scratch + ZstdPack.Recent;
  store<u32>(recent, 1);
  store<u32>(recent, 4, 4);
  for (let at = input; ; ) {
    const blockEnd = min(end, at + MAX_BLOCK);
    const length = <u32>(blockEnd - at);
    const last: u32 = blockEnd === end ? 1 : 0;
    const body = output + 3;
    const offsets = load<u64>(recent);
    const count = findSequences(scratch, input, at, blockEnd, recent);
    let stop = writeLiterals(scratch, load<u32>(recent, 8), body);
    if (stop < body + length) stop = writeSequences(scratch, count, stop, body + length);
    let header = last | (length << 3);
    if (stop !== 0 && stop < body + length) {
      header = last | 4 | ((<u32>(stop - body)) << 3);
      output = stop;
    } else {
      // As it is, and as if its offsets had not been.
      store<u64>(recent, offsets);
      memory.copy(body, at, length);
      output = body + length;
    }
    store<u16>(body - 3, header);
    store<u8>(body - 3, header >> 16, 2);
    at = blockEnd;
    if (last) break;
  }
  return <u32>(output - start);
}
