import { expect } from "vitest";
import { discard, flush, readBytes, writeBytes, writeZeroes } from "../../src/host/block/bytes.ts";
import type { Disk } from "../../src/host/block/open.ts";
import type { Random } from "./random.ts";

const SECTOR = 512;
const MiB = 2 ** 20;
const GiB = 2 ** 30;

/** A byte for each sector, which is filled with it; 0 where nothing was written. What was discarded may also be zeros. */
export class Content {
  readonly #fills = new Map<number, number>();
  readonly #discarded = new Set<number>();
  readonly #base: Content | undefined;
  readonly #baseSectors: number;

  constructor(base?: Content, baseBytes = 0) {
    this.#base = base;
    this.#baseSectors = baseBytes / SECTOR;
  }

  fill(sector: number, count: number, value: number): void {
    for (let i = sector; i < sector + count; i++) {
      this.#fills.set(i, value);
      this.#discarded.delete(i);
    }
  }
  /** The bytes of a write: another fill every few sectors, so that none can stand for another. */
  write(sector: number, count: number, value: number): Uint8Array {
    for (let i = 0; i < count; i += 7) this.fill(sector + i, Math.min(7, count - i), ((value + i / 7) % 255) + 1);
    return this.bytes(sector, count);
  }
  bytes(sector: number, count: number): Uint8Array {
    const bytes = new Uint8Array(count * SECTOR);
    for (let i = 0; i < count; i++) bytes.fill(this.at(sector + i), i * SECTOR, (i + 1) * SECTOR);
    return bytes;
  }
  discard(sector: number, count: number): void {
    for (let i = sector; i < sector + count; i++) this.#discarded.add(i);
  }
  /** What lay past that is gone for good. */
  cut(sectors: number): void {
    for (const sector of [...this.#fills.keys()]) if (sector >= sectors) this.#fills.delete(sector);
    for (const sector of [...this.#discarded]) if (sector >= sectors) this.#discarded.delete(sector);
  }
  at(sector: number): number {
    return this.#fills.get(sector) ?? (sector < this.#baseSectors ? this.#base!.at(sector) : 0);
  }
  /** Discarded sectors that turned out to be zeros stay so. */
  settle(sector: number, seen: number): boolean {
    const expected = this.at(sector);
    const loose = this.#discarded.delete(sector);
    if (seen === expected) return true;
    if (!loose || seen !== 0) return false;
    this.#fills.set(sector, 0);
    return true;
  }
  /** Runs of sectors with one fill: what another reader must see. Of discarded ones nothing is said. */
  runs(sector: number, count: number): [offset: number, length: number, fill: number][] {
    const list: [number, number, number][] = [];
    for (let i = sector; i < sector + count; i++) {
      if (this.#discarded.has(i)) continue;
      const last = list[list.length - 1];
      const fill = this.at(i);
      if (last && last[2] === fill && last[0] + last[1] === i * SECTOR) last[1] += SECTOR;
      else list.push([i * SECTOR, SECTOR, fill]);
    }
    return list;
  }
}

export interface Subject {
  /** Bytes that the format gives out together. */
  unit: number;
  maxSize: number;
  /** Sectors that are changed together; 1 when absent. */
  grain?: number;
  open(): Promise<Disk>;
  /** May the disk be made that large now? */
  canResize?(from: number, to: number): boolean;
}

/** Sizes in bytes: odd ones, not whole blocks, on both sides of 4 GiB, and as large as it may be. */
export function sizes(random: Random, unit: number, maxSize: number): number {
  const usual = [unit, 3 * unit, 5 * MiB, 40 * MiB, 4 * GiB, 5 * GiB, 20 * GiB];
  const whole = random.oneIn(50) ? maxSize : random.pick(usual);
  const beside = random.pick([0, 0, 1, -1, 5, 4095]) * SECTOR;
  return Math.max(SECTOR, Math.min(maxSize, whole + beside));
}

/** Where formats have edges. */
function place(random: Random, { unit, maxSize }: Subject, size: number): number {
  const edges = [0, unit, 2 * unit, 1024 * unit, 4 * GiB, 2048 * GiB, size / 2, size, maxSize];
  const middle = Math.floor(random.pick(edges) / SECTOR) + random.below(80) - 40;
  return Math.max(0, Math.min(size / SECTOR - 1, middle));
}

/** Carries out a random program of `steps`; returns the runs of sectors that were touched. */
export async function runProgram(
  subject: Subject,
  content: Content,
  random: Random,
  steps: number,
  counts: Record<string, number>,
  resizes = true,
): Promise<{ touched: [number, number][]; size: number }> {
  let disk = await subject.open();
  const touched: [number, number][] = [];
  const verify = async (list: readonly [number, number][]) => {
    for (const [first, wanted] of list) {
      const count = Math.min(wanted, disk.size / SECTOR - first);
      if (count <= 0) continue;
      const bytes = await readBytes(disk, first * SECTOR, count * SECTOR);
      if (Buffer.compare(bytes, content.bytes(first, count)) === 0) {
        for (let i = 0; i < count; i++) content.settle(first + i, content.at(first + i));
        continue;
      }
      for (let i = 0; i < count; i++) {
        const seen = bytes[i * SECTOR];
        const whole = bytes.subarray(i * SECTOR, i * SECTOR + SECTOR);
        if (content.settle(first + i, seen) && whole.every((byte) => byte === seen)) continue;
        throw new Error(
          `sector ${first + i} of ${disk.size / SECTOR} begins with ${seen}, not ${content.at(first + i)}`,
        );
      }
    }
  };
  for (let step = 0; step < steps; step++) {
    const { grain = 1 } = subject;
    const first = Math.floor(place(random, subject, disk.size) / grain) * grain;
    const large = random.oneIn(12) ? Math.min(subject.unit, 2 * MiB) / SECTOR + 3 : 1 + random.below(60);
    const count = Math.min(Math.ceil(large / grain) * grain, disk.size / SECTOR - first);
    const [offset, length] = [first * SECTOR, count * SECTOR];
    const kind = random.pick(["write", "write", "write", "zero", "discard", "flush", "resize", "reopen"] as const);
    if (kind === "resize" && !resizes) continue;
    counts[kind] = (counts[kind] ?? 0) + 1;
    if (kind === "write") {
      await writeBytes(disk, offset, content.write(first, count, random.below(255)));
    } else if (kind === "zero") {
      await writeZeroes(disk, offset, length);
      content.fill(first, count, 0);
    } else if (kind === "discard") {
      await discard(disk, offset, length);
      content.discard(first, count);
    } else if (kind === "flush") await flush(disk);
    else if (kind === "reopen") {
      await disk.close();
      disk = await subject.open();
    } else {
      const before = disk.size;
      const size = random.oneIn(2)
        ? sizes(random, subject.unit, subject.maxSize)
        : Math.max(SECTOR, Math.min(subject.maxSize, before + (random.below(9000) - 4500) * SECTOR));
      if (subject.canResize && !subject.canResize(before, size)) {
        counts.refused = (counts.refused ?? 0) + 1;
        await expect(disk.resize(size)).rejects.toMatchObject({ code: "UNSUPPORTED" });
      } else {
        await disk.resize(size);
        expect(disk.size).toBe(size);
        content.cut(Math.min(size, before) / SECTOR);
        // The sectors on both sides of the old end and the new.
        for (const end of [before, size]) touched.push([Math.max(0, end / SECTOR - 4), 8]);
      }
    }
    if (kind !== "flush" && kind !== "resize" && kind !== "reopen") touched.push([Math.max(0, first - 3), count + 6]);
    await verify(touched.slice(-3));
  }
  await verify(touched);
  const { size } = disk;
  await disk.close();
  return { touched, size };
}
