import { deflateRawSync } from "node:zlib";
import type { Packing } from "../../src/core/format.ts";

const SECTOR = 512;

/** Compresses a cluster whose sectors are each filled with one byte, as `packing` says. */
export function packFills(bytes: Uint8Array, { codec, windowBits }: Packing): Uint8Array {
  if (codec === "deflate")
    return new Uint8Array(deflateRawSync(bytes, { level: 9, ...(windowBits && { windowBits }) }));
  // A zstd frame (RFC 8878) of one RLE block a sector, which is all that such clusters need.
  const sectors = bytes.length / SECTOR;
  const frame = new Uint8Array(9 + sectors * 4);
  const view = new DataView(frame.buffer);
  view.setUint32(0, 0xfd2fb528, true);
  frame[4] = 0xa0; // single segment, 4 bytes of content size
  view.setUint32(5, bytes.length, true);
  for (let i = 0; i < sectors; i++) {
    const header = (SECTOR << 3) | (1 << 1) | (i === sectors - 1 ? 1 : 0);
    frame.set([header & 0xff, (header >> 8) & 0xff, header >> 16, bytes[i * SECTOR]], 9 + i * 4);
  }
  return frame;
}
