import fc from "fast-check";
import { expect, test } from "vitest";
import type { Block } from "../../../src/core/block.ts";
import { discard, flush, readBytes, writeBytes, writeZeroes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { KeptStore } from "../../support/disks.ts";

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
  kind: fc.constantFrom("write", "write", "write", "zero", "discard", "flush", "reopen", "read"),
  /** Where: near one of these. */
  near: fc.constantFrom("start", "end", "block", "page", "chunk", "2 TiB"),
  delta: fc.integer({ min: -40, max: 40 }),
  length: fc.oneof(
    { weight: 9, arbitrary: fc.integer({ min: 1, max: 70 }) },
    { weight: 1, arbitrary: fc.constant(-1) },
  ),
  tag: fc.integer({ min: 1, max: 255 }),
});

const shape = fc.record({
  sector: fc.constantFrom(512, 4096),
  block: fc.constantFrom(1, 1, 2, 32, 256),
  size: fc.constantFrom(MiB, 3 * MiB, 40 * MiB, 5 * GiB, 2 * TiB + 3 * MiB, 64 * TiB - 3 * MiB),
  /** Sectors beyond that. */
  odd: fc.integer({ min: 0, max: 5 }),
  kind: fc.constantFrom("dynamic", "dynamic", "fixed", "differencing"),
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

const PROGRAMS = process.env.PARAVANE_NIGHTLY ? 50_000 : 2_000;

test(`${PROGRAMS} random programs leave what a model says`, { timeout: 600_000 }, async () => {
  const counts: Record<string, number> = {};
  await fc.assert(
    fc.asyncProperty(shape, fc.array(operation, { minLength: 3, maxLength: 12 }), async (disk, operations) => {
      const { sector, kind } = disk;
      const blockSize = disk.block * MiB;
      // A fixed disk's table is written out, so that a large one takes its time.
      const size = Math.min(disk.size, kind === "fixed" ? 5 * GiB : 64 * TiB) + disk.odd * sector;
      const options = { format: "vhdx", size, blockSize, logicalSectorSize: sector };
      const store = new KeptStore();
      const model: Model = new Map();
      const range = ({ near, delta, length }: { near: string; delta: number; length: number }) => {
        const last = size / sector - 1;
        const middle = Math.min(place(near, size, blockSize, sector), size) / sector;
        const first = Math.max(0, Math.min(last, length < 0 ? middle : middle + delta));
        const count = length < 0 ? (MiB * Math.min(disk.block, 2)) / sector : length;
        return { first, count: Math.min(count, last + 1 - first) };
      };
      const fill = (first: number, count: number, tag: number) => {
        for (let i = 0; i < count; i++) model.set(first + i, tag);
      };

      let parent: KeptStore | undefined;
      let dataWriteGuid: unknown;
      const backing = async () => parent && openDisk(parent, { readOnly: true });
      if (kind === "differencing") {
        parent = new KeptStore();
        const base = await createDisk(parent, { ...options, blockSize: 2 * MiB });
        for (const [i, each] of operations.entries()) {
          const { first, count } = range({ ...each, delta: each.delta + i, length: 30 });
          fill(first, count, each.tag);
          await writeBytes(base, first * sector, content(model, first, count, sector));
        }
        dataWriteGuid = base.describe().dataWriteGuid;
        await base.close();
      }
      const open = async (): Promise<Block> => openDisk(store, { backing: await backing() });
      let image: Block = await createDisk(store, {
        ...options,
        ...(kind === "fixed" && { subformat: "fixed" }),
        ...(parent && { parent: { identity: String(dataWriteGuid), path: "x" }, backing: await backing() }),
      });

      const touched: { first: number; count: number }[] = [];
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
        }
        touched.push({
          first: Math.max(0, first - 3),
          count: Math.min(count + 6, size / sector - Math.max(0, first - 3)),
        });
        for (const { first, count } of touched.slice(-2)) {
          const read = await readBytes(image, first * sector, count * sector);
          expect(Buffer.compare(read, content(model, first, count, sector))).toBe(0);
        }
      }
      await image.close();
      const again = await openDisk(store, { readOnly: true, backing: await backing() });
      expect(again.size).toBe(size);
      for (const { first, count } of touched) {
        const read = await readBytes(again, first * sector, count * sector);
        expect(Buffer.compare(read, content(model, first, count, sector))).toBe(0);
      }
    }),
    { numRuns: PROGRAMS, seed: 2026 },
  );
  console.log(`steps: ${JSON.stringify(counts)}`);
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
