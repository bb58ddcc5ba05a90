import fc from "fast-check";
import { expect, test } from "vitest";
import { run } from "../../../src/core/flow.ts";
import type { CheckReport } from "../../../src/core/format.ts";
import { discard, flush, readBytes, writeBytes, writeZeroes } from "../../../src/host/block/bytes.ts";
import { createDisk, type Disk, openDisk } from "../../../src/host/block/open.ts";
import { checkVhdx } from "../../../src/host/format/vhdx/check.ts";
import { KeptStore } from "../../support/disks.ts";
import { tier } from "../../support/tier.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;
const TiB = 2 ** 40;

/** Sector number → what was written there: 0 is zeros. A sector holds its number, then its tag over and over. */
type Model = Map<number, number>;

function content(model: Model, first: number, count: number, sector: number): Uint8Array {
  const bytes = new Uint8Array(count * sector);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < count; i++) {
    const tag = model.get(first + i) ?? 0;
    if (tag === 0) continue;
    bytes.fill(tag, i * sector, (i + 1) * sector);
    view.setFloat64(i * sector, first + i);
  }
  return bytes;
}

const operation = fc.record({
  kind: fc.constantFrom("write", "write", "write", "zero", "discard", "flush", "reopen", "read", "resize"),
  /** Where: near one of these. */
  near: fc.constantFrom("start", "end", "block", "page", "chunk", "2 TiB"),
  delta: fc.integer({ min: -40, max: 40 }),
  length: fc.oneof(
    { weight: 9, arbitrary: fc.integer({ min: 1, max: 70 }) },
    { weight: 1, arbitrary: fc.constant(-1) },
  ),
  tag: fc.integer({ min: 1, max: 255 }),
  /** Of a resize. */
  to: fc.constantFrom("near", "half", "twice", "block", "start"),
});

const shape = fc.record({
  sector: fc.constantFrom(512, 4096),
  block: fc.constantFrom(1, 1, 2, 32, 256),
  size: fc.constantFrom(MiB, 3 * MiB, 40 * MiB, 5 * GiB, 2 * TiB + 3 * MiB, 64 * TiB - 3 * MiB),
  /** Sectors beyond that. */
  odd: fc.integer({ min: 0, max: 5 }),
  /** Blocks that the parent has more. */
  more: fc.integer({ min: -2, max: 2 }),
});

/** Both sides of every edge that the format has. */
function place(near: string, size: number, block: number, sector: number): number {
  const chunk = 2 ** 23 * sector;
  if (near === "end") return size;
  if (near === "block") return block;
  if (near === "page") return 512 * block;
  if (near === "chunk") return chunk;
  if (near === "2 TiB") return 2 * TiB;
  return 0;
}

/** The size that a resize asks for, whole sectors. A fixed disk grows by a few blocks only: its blocks are all written. */
function nextSize(to: string, delta: number, size: number, block: number, sector: number, fixed: boolean): number {
  const sectors = size / sector;
  // A shrink reads the table that is left, and growing over a large parent writes it.
  if (size / block > 2 ** 17) to = "start";
  const wanted = {
    near: sectors + delta,
    half: Math.floor(sectors / 2) + delta,
    twice: fixed ? sectors + (3 * MiB) / sector + delta : sectors * 2,
    block: Math.floor(size / block) * (block / sector),
    start: 1 + Math.abs(delta),
  }[to]!;
  const most = fixed ? 6 * GiB : 64 * TiB;
  return Math.max(1, Math.min(wanted, most / sector)) * sector;
}

const PROGRAMS = tier(2_000, 20_000);

test.each([
  ["dynamic and fixed", ["dynamic", "dynamic", "fixed"]],
  ["differencing", ["differencing"]],
])(`${PROGRAMS} random programs leave what a model says: %s`, { timeout: 3_600_000 }, async (_name, kinds) => {
  const counts: Record<string, number> = {};
  const programs = fc.asyncProperty(
    shape,
    fc.constantFrom(...kinds),
    fc.array(operation, { minLength: 3, maxLength: 12 }),
    async (disk, kind, operations) => {
      const { sector } = disk;
      const blockSize = disk.block * MiB;
      // A fixed disk's table is written out, so that a large one takes its time.
      let size = Math.min(disk.size, kind === "fixed" ? 5 * GiB : 64 * TiB) + disk.odd * sector;
      const options = { format: "vhdx", size, blockSize, logicalSectorSize: sector };
      const store = new KeptStore();
      const model: Model = new Map();
      const range = ({ near, delta, length }: { near: string; delta: number; length: number }) => {
        const last = size / sector - 1;
        const middle = Math.floor(Math.min(place(near, size, blockSize, sector), size) / sector);
        const first = Math.max(0, Math.min(last, length < 0 ? middle : middle + delta));
        const count = length < 0 ? (MiB * Math.min(disk.block, 2)) / sector : length;
        return { first, count: Math.min(count, last + 1 - first) };
      };
      const fill = (first: number, count: number, tag: number) => {
        for (let i = 0; i < count; i++) model.set(first + i, tag);
      };

      let parent: KeptStore | undefined;
      let identity = "";
      const backing = async () => parent && openDisk(parent, { readOnly: true });
      if (kind === "differencing") {
        parent = new KeptStore();
        const larger = Math.max(sector, Math.min(64 * TiB, size + disk.more * blockSize));
        const base = await createDisk(parent, { ...options, size: larger, blockSize: 2 * MiB });
        for (const [i, each] of operations.entries()) {
          const { first, count } = range({ ...each, delta: each.delta + i, length: 30 });
          const inside = Math.min(count, larger / sector - first);
          if (inside <= 0) continue;
          fill(first, inside, each.tag);
          await writeBytes(base, first * sector, content(model, first, inside, sector));
        }
        // Never to be seen, whatever size the child takes.
        for (const at of [size, larger - sector]) {
          if (at >= size && at < larger) await writeBytes(base, at, new Uint8Array(sector).fill(0xee));
        }
        identity = String(base.describe().dataWriteGuid);
        await base.close();
      }
      const open = async (): Promise<Disk> => openDisk(store, { backing: await backing() });
      let image = await createDisk(store, {
        ...options,
        ...(kind === "fixed" && { subformat: "fixed" }),
        ...(parent && { parent: { identity, path: "x" }, backing: await backing() }),
      });

      const touched: { first: number; count: number }[] = [];
      const check = async (found: Disk, ranges: typeof touched) => {
        for (const { first, count } of ranges) {
          const inside = Math.min(count, size / sector - first);
          if (inside <= 0) continue;
          const read = await readBytes(found, first * sector, inside * sector);
          expect(Buffer.compare(read, content(model, first, inside, sector))).toBe(0);
        }
      };
      for (const step of operations) {
        counts[step.kind] = (counts[step.kind] ?? 0) + 1;
        const { first, count } = range(step);
        const offset = first * sector;
        const length = count * sector;
        if (step.kind === "write") {
          fill(first, count, step.tag);
          await writeBytes(image, offset, content(model, first, count, sector));
        } else if (step.kind === "zero" || (step.kind === "discard" && parent)) {
          fill(first, count, 0);
          await writeZeroes(image, offset, length);
        } else if (step.kind === "discard") {
          fill(first, count, 0);
          await discard(image, offset, length);
        } else if (step.kind === "flush") await flush(image);
        else if (step.kind === "reopen") {
          await image.close();
          image = await open();
        } else if (step.kind === "resize") {
          touched.push({ first: Math.max(0, size / sector - 40), count: 80 });
          size = nextSize(step.to, step.delta, size, blockSize, sector, kind === "fixed");
          await image.resize(size);
          for (const at of model.keys()) if (at >= size / sector) model.delete(at);
          touched.push({ first: Math.max(0, size / sector - 40), count: 40 });
        }
        touched.push({ first: Math.max(0, first - 3), count: count + 6 });
        await check(image, touched.slice(-3));
      }
      await image.close();
      const again = await openDisk(store, { readOnly: true, backing: await backing() });
      expect(again.size).toBe(size);
      await check(again, touched);
      if (size <= 5 * GiB) expect((run(checkVhdx(store)) as CheckReport).corruptions).toBe(0);
    },
  );
  await fc.assert(programs, { numRuns: PROGRAMS, seed: 2026 });
  console.log(`${kinds}: ${JSON.stringify(counts)}`);
});

test("zeroing and writing blocks over and over does not make the file grow", async () => {
  const store = new KeptStore();
  const disk = await createDisk(store, { format: "vhdx", size: 16 * MiB, blockSize: MiB });
  for (let round = 0; round < 5; round++) {
    for (let block = 0; block < 16; block++) await writeBytes(disk, block * MiB, new Uint8Array(MiB).fill(round + 1));
    await flush(disk);
    await writeZeroes(disk, 0, 16 * MiB);
    await flush(disk);
    expect((await readBytes(disk, 0, 16 * MiB)).some((byte) => byte !== 0)).toBe(false);
  }
  expect(store.size).toBeLessThanOrEqual((4 + 16) * MiB);
  // What is written to a part of such a block has zeros around it.
  await writeBytes(disk, 3 * MiB + 512, new Uint8Array(512).fill(9));
  const block = await readBytes(disk, 3 * MiB, MiB);
  expect(block.filter((byte) => byte !== 0).length).toBe(512);
});
