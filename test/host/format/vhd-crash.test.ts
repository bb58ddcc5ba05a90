import { expect, test } from "vitest";
import { type Flow, run } from "../../../src/core/flow.ts";
import type { CheckReport, Image } from "../../../src/core/format.ts";
import { discard, flush, readBytes, writeBytes, writeZeroes } from "../../../src/host/block/bytes.ts";
import type { Engine } from "../../../src/host/block/engine.ts";
import { createDisk, type Disk, openDisk } from "../../../src/host/block/open.ts";
import { vhd } from "../../../src/host/format/vhd/index.ts";
import type { MemoryStore } from "../../../src/host/store/memory.ts";
import { KeptStore } from "../../support/disks.ts";
import { afterCut, RecordingStore } from "../../support/power.ts";
import { Random } from "../../support/random.ts";
import { randomFrom } from "../../support/stores.ts";
import { tier } from "../../support/tier.ts";
import { createChild, openChild, SECTOR } from "../../support/vhd.ts";

const BLOCK = 65536;
/** Of a table of one sector, 128 entries: the next block needs another. */
const SIZE = 128 * BLOCK - 3 * SECTOR;
const BLOCKS = [0, 1, 2, 63, 126, 127];
const PARENT = 0xee;
const PROGRAMS = tier(6, 100);
const TIMEOUT = { timeout: tier(300_000, 7_200_000) };

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

const whole = (disk: Disk, work: (image: Image) => Flow) => (disk as unknown as Engine).exclusive(work);

async function parentStore(): Promise<KeptStore> {
  const store = new KeptStore();
  const disk = await createDisk(store, { format: "vhd", size: SIZE });
  for (let at = 0; at < SIZE; at += 2 ** 20) {
    await writeBytes(disk, at, new Uint8Array(Math.min(2 ** 20, SIZE - at)).fill(PARENT));
  }
  await disk.close();
  return store;
}

/** Carries out a random program; remembers what may be found at each of its moments. */
async function program(seed: number, parent: KeptStore | null) {
  const random = new Random(seed + 1);
  const store = new RecordingStore();
  const behind = () => openDisk(parent!, { readOnly: true });
  const open = async (): Promise<Disk> => (parent ? openChild(store, behind) : openDisk(store));
  let disk = parent
    ? await createChild(store, behind, { size: SIZE, blockSize: BLOCK })
    : await createDisk(store, { format: "vhd", size: SIZE, blockSize: BLOCK });
  const start = store.steps.length;
  const moments: Moment[] = [];
  const through = parent ? PARENT : 0;
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
    } else if (kind === "zero" || (kind === "discard" && !parent)) {
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
      disk = await open();
    } else if (kind === "resize") {
      const size = random.pick([
        SIZE - 100 * BLOCK,
        SIZE,
        SIZE + 3 * SECTOR,
        SIZE + 2 * BLOCK,
        SIZE + 300 * BLOCK + SECTOR,
      ]);
      // What is under way is made durable first.
      await flush(disk);
      settle();
      if (parent && size > disk.size && disk.size < SIZE) continue;
      const before = disk.size;
      now.sizes.add(size);
      record();
      await disk.resize(size);
      settle();
      // Gone, and zeros if it comes back; what a smaller disk hides of its parent does not come back.
      const end = Math.min(size, before) / SECTOR;
      for (const sector of [...now.fills.keys()]) if (sector >= end) now.fills.delete(sector);
      if (!parent && size < before) operations.push("(cut)");
    } else if (kind === "whole") {
      await flush(disk);
      settle();
      const empty = random.oneIn(2);
      if (empty) {
        // A block is there or gone.
        for (const [sector, set] of now.fills) set.add(sector < SIZE / SECTOR ? through : 0);
        record();
        await whole(disk, (image) => image.empty!());
        now.fills.clear();
      } else if (parent) {
        record();
        const path = `.\\${"renamed".repeat(random.below(4))}.vhd`;
        const identity = String((await behind()).describe().uuid);
        await whole(disk, (image) => image.setParent!({ path, identity, absolutePath: `C:\\d\\${path}` }));
      } else continue;
      settle();
    }
    record();
  }
  await disk.close();
  settle();
  record();
  return { store, start, moments, behind, operations };
}

/** Opens what is left and compares each sector that was touched. */
async function judge(
  left: MemoryStore,
  { sizes, fills, through }: Possible,
  open: (store: MemoryStore) => Promise<Disk>,
) {
  const wrong = (what: string) => new Error(what);
  const disk = await open(left);
  if (!sizes.has(disk.size)) throw wrong(`has ${disk.size} bytes, not ${[...sizes]}`);
  const sectors = disk.size / SECTOR;
  const bytes = await readBytes(disk, 0, disk.size);
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
  const report = run(vhd.check!(left)) as CheckReport;
  expect(report.problems.filter(({ kind }) => kind !== "leak")).toEqual([]);
  const repaired = run(vhd.repair!(left, "all")) as CheckReport;
  expect([repaired.problems, repaired.leaks]).toEqual([[], 0]);
  const again = await open(left);
  expect((await readBytes(again, 90 * BLOCK > again.size ? 0 : 20 * BLOCK, 1))[0]).toBe(0x77);
  await again.close();
}

/** What is left reads as, over the parent if it says that it has one. */
async function contentOf(left: MemoryStore, behind: () => Promise<Disk>): Promise<string> {
  const look = await openDisk(left, { format: "vhd", readOnly: true, alone: true });
  const disk = look.parent ? await openChild(left, behind, true) : look;
  const parts: string[] = [];
  // The blocks that programs play with, and one that they do not.
  for (const block of [...BLOCKS, 80]) {
    const at = block * BLOCK;
    parts.push(Buffer.from(await readBytes(disk, at, Math.min(BLOCK, disk.size - at))).toString("latin1"));
  }
  return `${look.parent !== undefined}|${parts.join()}`;
}

test("power may be lost while a parent is taken away, while one is given again, and another", TIMEOUT, async () => {
  const parent = await parentStore();
  const behind = () => openDisk(parent, { readOnly: true });
  const identity = String((await behind()).describe().uuid);
  let cuts = 0;
  for (let seed = 0; seed < tier(1, 60); seed++) {
    const random = new Random(seed + 40);
    const store = new RecordingStore();
    let disk: Disk = await createChild(store, behind, { size: SIZE, blockSize: BLOCK });
    let over = true;
    const changes: [string, Parameters<NonNullable<Image["setParent"]>>[0]][] = [
      ["none", undefined],
      ["some", { path: ".\\parent.vhd", identity, absolutePath: "C:\\disks\\parent.vhd" }],
      ["another name", { path: `.\\${"renamed".repeat(random.below(60))}.vhd`, identity }],
      ["none again", undefined],
    ];
    for (const [name, next] of changes) {
      // Blocks that are there in part, and whole.
      for (let i = 0; i < 5; i++) {
        const first = random.pick(BLOCKS) * 128 + random.below(100);
        const count = random.oneIn(4) ? 28 : 1 + random.below(20);
        await writeBytes(disk, first * SECTOR, new Uint8Array(count * SECTOR).fill(1 + random.below(200)));
      }
      await disk.close();
      disk = over ? await openChild(store, behind) : await openDisk(store, { format: "vhd" });
      store.steps.push({ kind: "flush" });
      const from = store.steps.length;
      const before = await contentOf(afterCut(store.steps, from), behind);
      await whole(disk, (image) => image.setParent!(next));
      await disk.close();
      over = next !== undefined;
      const after = await contentOf(afterCut(store.steps, store.steps.length), behind);
      if (over !== before.startsWith("true")) expect(after === before, name).toBe(false);
      const uniform = randomFrom(seed);
      for (let count = from; count <= store.steps.length; count++) {
        for (const torn of [undefined, uniform]) {
          const left = afterCut(store.steps, count, torn);
          const where = `${name}, program ${seed}, ${count - from} of ${store.steps.length - from} steps${torn ? ", torn" : ""}`;
          const found = await contentOf(left, behind);
          expect([before, after].includes(found), where).toBe(true);
          const report = run(vhd.check!(left)) as CheckReport;
          expect([where, report.problems.filter(({ kind }) => kind !== "leak" && kind !== "copy")]).toEqual([
            where,
            [],
          ]);
          const repaired = run(vhd.repair!(left, "all")) as CheckReport;
          expect([where, repaired.problems, repaired.leaks]).toEqual([where, [], 0]);
          expect((await contentOf(left, behind)) === found, where).toBe(true);
          cuts++;
        }
      }
      disk = over ? await openChild(store, behind) : await openDisk(store, { format: "vhd" });
    }
  }
  console.log(`parents: ${cuts} cuts`);
  expect(cuts).toBeGreaterThan(50);
});

test.each(["dynamic", "differencing"])("power may be lost at any step of a %s disk's life", TIMEOUT, async (kind) => {
  const parent = kind === "differencing" ? await parentStore() : null;
  let cuts = 0;
  const only = process.env.PARAVANE_SEED;
  for (let seed = Number(only ?? 0); seed < (only ? Number(only) + 1 : PROGRAMS); seed++) {
    const { store, start, moments, behind, operations } = await program(seed, parent);
    const open = (left: MemoryStore) => (parent ? openChild(left, behind) : openDisk(left));
    const uniform = randomFrom(seed);
    for (let count = start; count <= store.steps.length; count++) {
      const moment = moments.findLast(({ steps }) => steps <= Math.max(start, count - 1)) ?? moments[0];
      const { possible } = count === store.steps.length ? moments[moments.length - 1] : moment;
      // In order; and with what was not flushed dropped in part.
      for (const torn of [undefined, uniform, uniform]) {
        try {
          await judge(afterCut(store.steps, count, torn), possible, open);
        } catch (cause) {
          const where = `program ${seed}, ${count} of ${start}…${store.steps.length} steps${torn ? ", reordered" : ""}`;
          throw new Error(`${where}: ${operations.join(", ")}`, { cause });
        }
        cuts++;
      }
    }
  }
  console.log(`${kind}: ${cuts} cuts of ${PROGRAMS} programs`);
});
