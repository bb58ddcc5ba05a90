import { SegmentList } from "../../src/core/segments.ts";
import { openCue } from "../../src/host/media/cue/open.ts";
import type { Disc } from "../../src/host/media/disc.ts";
import { MemoryStore } from "../../src/host/store/memory.ts";

/** Bytes that tell their sector: its number, then a pattern of it. */
export function sectors(count: number, bytes: number, seed = 0): Uint8Array {
  const out = new Uint8Array(count * bytes);
  for (let i = 0; i < count; i++) {
    for (let at = 0; at < bytes; at++) out[i * bytes + at] = (seed + i * 7 + at * 13 + (at >> 8)) & 0xff;
  }
  return out;
}

/** A disc from a sheet whose files are in memory. */
export function cueDisc(sheet: string, files: Record<string, Uint8Array>): Disc {
  const openFile = (name: string) => {
    if (!files[name]) throw new Error(`no file ${name}`);
    return new MemoryStore(files[name], { name, readOnly: true });
  };
  return openCue(sheet, { openFile }) as Disc;
}

export function segmentsOf(length: number): SegmentList {
  return SegmentList.of(0, length);
}
