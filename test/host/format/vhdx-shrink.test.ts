import { expect, test } from "vitest";
import { run } from "../../../src/core/flow.ts";
import type { CheckReport } from "../../../src/core/format.ts";
import { flush, readBytes, writeBytes } from "../../../src/host/block/bytes.ts";
import { createDisk, type Disk, openDisk } from "../../../src/host/block/open.ts";
import { checkVhdx } from "../../../src/host/format/vhdx/check.ts";
import { KeptStore } from "../../support/disks.ts";
import { afterCut, RecordingStore } from "../../support/power.ts";
import { contentOf, randomFrom } from "../../support/stores.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;
const sound = (store: KeptStore) => expect(run(checkVhdx(store)) as CheckReport).toMatchObject({ corruptions: 0 });
const first = async (disk: Disk, at: number) => (await readBytes(disk, at, 1))[0];

test.each<[string, Record<string, unknown>, number, number]>([
  ["inside the last block", { blockSize: 2 * MiB }, 3 * MiB + 1024, 3 * MiB + 512],
  ["by blocks", { blockSize: MiB }, 40 * MiB, 5 * MiB + 512],
  ["fixed", { blockSize: MiB, subformat: "fixed" }, 40 * MiB, 5 * MiB + 512],
  ["over a chunk's end", { blockSize: 32 * MiB }, 9 * GiB, 4 * GiB],
  ["to less than a sector of the table", { blockSize: MiB }, 2 ** 40, GiB],
  ["sectors of 4 KiB, from 64 TiB", { blockSize: 256 * MiB, logicalSectorSize: 4096 }, 64 * 2 ** 40, 4096],
])(
  "shrinks %s, gives the end of the file back, and shows zeros when it grows again",
  async (_name, options, before, after) => {
    const store = new KeptStore();
    const sector = (options.logicalSectorSize as number) ?? 512;
    const disk = await createDisk(store, { format: "vhdx", size: before, ...options });
    await writeBytes(disk, 0, new Uint8Array(sector).fill(1));
    await writeBytes(disk, after - sector, new Uint8Array(sector).fill(2));
    for (const at of [after, before - sector]) await writeBytes(disk, at, new Uint8Array(sector).fill(3));
    await flush(disk);
    const full = store.size;
    await disk.resize(after);
    expect(disk.size).toBe(after);
    if (Math.ceil(after / (options.blockSize as number)) < Math.ceil(before / (options.blockSize as number))) {
      expect(store.size).toBeLessThan(full);
    }
    await expect(readBytes(disk, after, sector)).rejects.toMatchObject({ code: "OUT_OF_RANGE" });
    await disk.close();
    sound(store);
    const again = await openDisk(store);
    expect([again.size, await first(again, after - sector)]).toEqual([after, 2]);
    await again.resize(before);
    for (const at of [after, before - sector]) expect(await first(again, at)).toBe(0);
    expect(await first(again, after - sector)).toBe(2);
    await writeBytes(again, before - sector, new Uint8Array(sector).fill(4));
    await again.close();
    sound(store);
    expect(await first(await openDisk(store), before - sector)).toBe(4);
  },
);

test("entries that are dropped are empty on disk, for others who grow it", async () => {
  const store = new KeptStore();
  const disk = await createDisk(store, { format: "vhdx", size: 4 * GiB, blockSize: MiB });
  for (const block of [0, 9, 600, 4095]) await writeBytes(disk, block * MiB, new Uint8Array(512).fill(1));
  await disk.resize(5 * MiB);
  await disk.close();
  const table = contentOf(store).subarray(3 * MiB, 4 * MiB);
  expect(table.subarray(8).every((byte) => byte === 0)).toBe(true);
  expect(table[0] & 7).toBe(6);
});

/** A child as large as its parent, which is all 0xaa; 5 GiB of 1 MiB blocks, so two chunks. */
async function family(size: number) {
  const parent = new KeptStore();
  const base = await createDisk(parent, { format: "vhdx", size, blockSize: 256 * MiB });
  const edges = [0, MiB, MiB + 512, 2 * MiB, 4096 * MiB, size - MiB, size - 512];
  for (const at of edges) await writeBytes(base, at, new Uint8Array(512).fill(0xaa));
  const identity = String(base.describe().dataWriteGuid);
  await base.close();
  const child = new RecordingStore();
  const open = async (store: KeptStore = child) =>
    openDisk(store, { format: "vhdx", backing: await openDisk(parent, { readOnly: true }) });
  const options = { format: "vhdx", size, blockSize: MiB, parent: { identity, path: "x" } };
  const disk = await createDisk(child, { ...options, backing: await openDisk(parent, { readOnly: true }) });
  return { child, open, disk, edges };
}

test.each([
  ["nothing", false],
  ["sectors", true],
])(
  "a differencing disk that was smaller does not show its parent beyond that: %s in the block of its end",
  async (_name, write) => {
    const size = 5 * GiB;
    const { child, open, disk, edges } = await family(size);
    if (write) {
      await writeBytes(disk, MiB, new Uint8Array(512).fill(1));
      await writeBytes(disk, MiB + 1024, new Uint8Array(512).fill(2));
    }
    await writeBytes(disk, 4097 * MiB, new Uint8Array(512).fill(3));
    await disk.resize(MiB + 512);
    await disk.resize(size);
    const look = async (found: Disk) => {
      const seen: number[] = [];
      for (const at of [...edges, MiB + 1024, 4097 * MiB]) seen.push(await first(found, at));
      return seen;
    };
    const expected = [0xaa, write ? 1 : 0xaa, 0, 0, 0, 0, 0, 0, 0];
    expect(await look(disk)).toEqual(expected);
    await disk.close();
    sound(child);
    expect(await look(await open())).toEqual(expected);
  },
);

test.each(["dynamic", "differencing"])("power may be lost at any moment of it: %s", async (kind) => {
  const size = 5 * GiB;
  const small = 2 * MiB + 512;
  let store = new RecordingStore();
  let open = (of: KeptStore) => openDisk(of, { format: "vhdx" });
  let disk: Disk;
  if (kind === "dynamic") disk = await createDisk(store, { format: "vhdx", size, blockSize: MiB });
  else ({ child: store, open, disk } = await family(size));
  for (const at of [0, 2 * MiB, 700 * MiB, 4096 * MiB]) await writeBytes(disk, at, new Uint8Array(512).fill(7));
  await flush(disk);
  const start = store.steps.length;
  await disk.resize(small);
  const shrunk = store.steps.length;
  await disk.resize(size);
  await writeBytes(disk, 3 * MiB, new Uint8Array(512).fill(9));
  await disk.close();
  const sizes = new Set<string>();
  const random = randomFrom(3);
  for (let count = start; count <= store.steps.length; count++) {
    for (const torn of [undefined, random]) {
      const left = afterCut(store.steps, count, torn) as KeptStore;
      const found = await open(left);
      sizes.add(`${count <= shrunk ? "shrinking" : "growing"} ${found.size}`);
      expect([await first(found, 0), await first(found, 2 * MiB)]).toEqual([7, 7]);
      if (found.size === size) expect([0, 7]).toContain(await first(found, 700 * MiB));
      if (found.size === size && count > shrunk) expect(await first(found, 4096 * MiB)).toBe(0);
      await writeBytes(found, MiB, new Uint8Array(512).fill(8));
      await found.close();
      sound(left);
    }
  }
  expect(sizes).toEqual(new Set([`shrinking ${size}`, `shrinking ${small}`, `growing ${small}`, `growing ${size}`]));
});
