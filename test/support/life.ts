import { expect } from "vitest";
import { BlockRequest, Op, Status } from "../../src/core/block.ts";
import { type Flow, run } from "../../src/core/flow.ts";
import type { CheckReport, Format, Image, NewParent } from "../../src/core/format.ts";
import { discard, flush, readBytes, writeBytes, writeZeroes } from "../../src/host/block/bytes.ts";
import type { Engine } from "../../src/host/block/engine.ts";
import type { Disk } from "../../src/host/block/open.ts";
import type { MemoryStore } from "../../src/host/store/memory.ts";
import { afterCut, RecordingStore } from "./power.ts";
import { Random } from "./random.ts";
import { randomFrom } from "./stores.ts";

const SECTOR = 512;
/** Bytes of a block, in the lives led here. */
export const BLOCK = 65536;
/** Of a table of one sector, 128 entries: the next block needs another. */
export const SIZE = 128 * BLOCK - 3 * SECTOR;
export const BLOCKS = [0, 1, 2, 63, 126, 127];
/** The byte that a parent is full of. */
export const PARENT = 0xee;

/** An image whose life is led, recorded and cut off. */
export interface Life {
  format: Format;
  /** Over a parent full of `PARENT`. */
  hasParent: boolean;
  create(store: RecordingStore): Promise<Disk>;
  open(store: MemoryStore): Promise<Disk>;
  /** Another name for the same parent. */
  renamed?(times: number): Promise<NewParent>;
  /** It cannot be emptied. */
  keeps?: boolean;
  /** Its size cannot be changed. */
  fixed?: boolean;
}

const SIZES = [SIZE - 100 * BLOCK, SIZE, SIZE + 3 * SECTOR, SIZE + 2 * BLOCK, SIZE + 300 * BLOCK + SECTOR];

/**
 * What may be found if power is lost now: sizes, and for each sector the fill that was flushed and those that came after.
 * Sectors that are not listed hold what shows through.
 */
interface Possible {
  sizes: Set<number>;
  fills: Map<number, Set<number>>;
  /** The parent may show, or zeros do where there is none. */
  through: Set<number>;
}
interface Moment {
  steps: number;
  possible: Possible;
}

export const whole = (disk: Disk, work: (image: Image) => Flow) => (disk as unknown as Engine).exclusive(work);

/** Carries out a random program; remembers what may be found at each of its moments. */
async function program(seed: number, life: Life) {
  const random = new Random(seed + 1);
  const store = new RecordingStore();
  const { hasParent, open } = life;
  let disk = await life.create(store);
  const start = store.steps.length;
  const moments: Moment[] = [];
  const through = hasParent ? PARENT : 0;
  let now: Possible = { sizes: new Set([SIZE]), fills: new Map(), through: new Set([through]) };
  const record = () => {
    const fills = new Map([...now.fills].map(([sector, set]) => [sector, new Set(set)]));
    moments.push({
      steps: store.steps.length,
      possible: { sizes: new Set(now.sizes), fills, through: new Set(now.through) },
    });
  };
  const last = <T>(set: Set<T>): T => [...set][set.size - 1];
  const put = (first: number, count: number, value: number) => {
    for (let sector = first; sector < first + count; sector++) {
      const set = now.fills.get(sector) ?? new Set([sector < SIZE / SECTOR ? through : 0]);
      // The newest comes last.
      set.delete(value);
      now.fills.set(sector, set.add(value));
    }
  };
  const settle = () => {
    now = { sizes: new Set([last(now.sizes)]), fills: now.fills, through: new Set([last(now.through)]) };
    for (const [sector, set] of now.fills) now.fills.set(sector, new Set([last(set)]));
  };
  const operations: string[] = [];
  for (let i = 0; i < 12; i++) {
    const sectors = disk.size / SECTOR;
    const block = random.oneIn(4) ? Math.floor((sectors - 1) / 128) : random.pick(BLOCKS);
    const first = Math.min(sectors - 1, block * 128 + random.below(128));
    const count = Math.min(sectors - first, random.oneIn(5) ? 128 : 1 + random.below(20));
    const [offset, length] = [first * SECTOR, count * SECTOR];
    const kind = random.pick([
      "write",
      "write",
      "write",
      "write",
      "zero",
      "discard",
      "flush",
      "reopen",
      "resize",
      "whole",
    ]);
    operations.push(`${kind} ${first}+${count}`);
    if (kind === "write") {
      const value = 1 + random.below(200);
      put(first, count, value);
      record();
      await writeBytes(disk, offset, new Uint8Array(length).fill(value));
    } else if (kind === "zero" || (kind === "discard" && !hasParent)) {
      put(first, count, 0);
      record();
      await (kind === "zero" ? writeZeroes : discard)(disk, offset, length);
    } else if (kind === "flush") {
      record();
      await flush(disk);
      settle();
    } else if (kind === "reopen") {
      record();
      await disk.close();
      settle();
      disk = await open(store);
    } else if (kind === "resize") {
      if (life.fixed) continue;
      const size = random.pick(SIZES);
      // What is under way is made durable first.
      await flush(disk);
      settle();
      if (hasParent && size > disk.size && disk.size < SIZE) continue;
      const before = disk.size;
      now.sizes.add(size);
      record();
      await disk.resize(size);
      settle();
      // Gone, and zeros if it comes back; what a smaller disk hides of its parent does not come back.
      const end = Math.min(size, before) / SECTOR;
      for (const sector of [...now.fills.keys()]) if (sector >= end) now.fills.delete(sector);
      if (!hasParent && size < before) operations.push("(cut)");
    } else if (kind === "whole") {
      await flush(disk);
      settle();
      const empty = random.oneIn(2) && !life.keeps;
      if (empty) {
        // A block is there or gone.
        for (const [sector, set] of now.fills) set.add(sector < SIZE / SECTOR ? through : 0);
        record();
        await whole(disk, (image) => image.empty!());
        now.fills.clear();
      } else if (life.renamed) {
        record();
        const parent = await life.renamed(random.below(4));
        await whole(disk, (image) => image.setParent!(parent));
      } else continue;
      settle();
    }
    record();
  }
  await disk.close();
  settle();
  record();
  return { store, start, moments, operations };
}

/** What is read is read into this each time, since fresh memory costs more than all of the judging. */
const CONTENT = new Uint8Array(Math.max(...SIZES));

/** All bytes of the disk; what it does not fill is no fill. */
async function contentOf(disk: Disk): Promise<Uint8Array> {
  const request = new BlockRequest();
  Object.assign(request, { op: Op.Read, length: disk.size, memory: CONTENT.fill(0xff, 0, disk.size) });
  request.segments.push(0, disk.size);
  await disk.submit([request]);
  if (request.status !== Status.Ok) throw request.error;
  return CONTENT;
}

/** Opens what is left and compares each sector that was touched. */
async function judge(left: MemoryStore, { sizes, fills, through }: Possible, { open, format }: Life) {
  const wrong = (what: string) => new Error(what);
  const disk = await open(left);
  if (!sizes.has(disk.size)) throw wrong(`has ${disk.size} bytes, not ${[...sizes]}`);
  const sectors = disk.size / SECTOR;
  const bytes = await contentOf(disk);
  for (let sector = 0; sector < sectors; sector++) {
    const fill = bytes[sector * SECTOR];
    const allowed = fills.get(sector) ?? (sector < SIZE / SECTOR ? through : new Set([0]));
    const torn = bytes[sector * SECTOR + 200] !== fill || bytes[sector * SECTOR + 511] !== fill;
    if (!torn && allowed.has(fill)) continue;
    throw wrong(`sector ${sector} of ${sectors} holds ${fill}, not one of ${[...allowed]}${torn ? "; torn" : ""}`);
  }
  // The rest of the disk still works.
  await writeBytes(disk, 90 * BLOCK > disk.size ? 0 : 20 * BLOCK, new Uint8Array(SECTOR).fill(0x77));
  await disk.close();
  const report = run(format.check!(left)) as CheckReport;
  expect(report.problems.filter(({ kind }) => kind !== "leak")).toEqual([]);
  const repaired = run(format.repair!(left, "all")) as CheckReport;
  expect([repaired.problems, repaired.leaks]).toEqual([[], 0]);
  const again = await open(left);
  expect((await readBytes(again, 90 * BLOCK > again.size ? 0 : 20 * BLOCK, 1))[0]).toBe(0x77);
  await again.close();
}

/** Cuts the power after every step of `programs` random lives, three ways each; how many times. */
export async function cutEverywhere(life: Life, programs: number): Promise<number> {
  let cuts = 0;
  const only = process.env.PARAVANE_SEED;
  for (let seed = Number(only ?? 0); seed < (only ? Number(only) + 1 : programs); seed++) {
    const { store, start, moments, operations } = await program(seed, life);
    const uniform = randomFrom(seed);
    for (let count = start; count <= store.steps.length; count++) {
      const moment = moments.findLast(({ steps }) => steps <= Math.max(start, count - 1)) ?? moments[0];
      const { possible } = count === store.steps.length ? moments[moments.length - 1] : moment;
      // In order; and with what was not flushed dropped in part.
      for (const torn of [undefined, uniform, uniform]) {
        try {
          await judge(afterCut(store.steps, count, torn), possible, life);
        } catch (cause) {
          const where = `program ${seed}, ${count} of ${start}…${store.steps.length} steps${torn ? ", reordered" : ""}`;
          throw new Error(`${where}: ${operations.join(", ")}`, { cause });
        }
        cuts++;
      }
    }
  }
  return cuts;
}
