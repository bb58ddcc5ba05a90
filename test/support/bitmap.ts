import type { Disk } from "../../src/host/block/open.ts";
import { bitmapExtents } from "../../src/host/image/bitmap.ts";

/** Dirty bytes as [start, end) pairs. */
export async function dirtyOf(disk: Disk, name: string): Promise<[number, number][]> {
  const list: [number, number][] = [];
  for await (const { start, length, dirty } of bitmapExtents(disk, name)) if (dirty) list.push([start, start + length]);
  return list;
}

/** What a bitmap should say: units of the disk, by number. */
export class BitmapModel {
  readonly granularity: number;
  readonly units = new Set<number>();

  constructor(granularity: number) {
    this.granularity = granularity;
  }
  mark(offset: number, length: number): void {
    for (let at = Math.floor(offset / this.granularity); at * this.granularity < offset + length; at++) {
      if (length > 0) this.units.add(at);
    }
  }
  /** As `dirtyOf` says it, of a disk of that size. */
  extents(size: number): [number, number][] {
    const list: [number, number][] = [];
    for (const unit of [...this.units].sort((a, b) => a - b)) {
      const start = unit * this.granularity;
      const end = Math.min(size, start + this.granularity);
      if (start >= size) continue;
      const last = list[list.length - 1];
      if (last && last[1] === start) last[1] = end;
      else list.push([start, end]);
    }
    return list;
  }
  /** The disk has another size now. */
  resize(size: number): void {
    for (const unit of [...this.units]) if (unit * this.granularity >= size) this.units.delete(unit);
  }
}
