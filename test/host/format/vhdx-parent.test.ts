import { describe, expect, test } from "vitest";
import { type Flow, run } from "../../../src/core/flow.ts";
import type { CheckReport, Image, NewParent } from "../../../src/core/format.ts";
import { flush, readBytes, writeBytes, writeZeroes } from "../../../src/host/block/bytes.ts";
import type { Engine } from "../../../src/host/block/engine.ts";
import { createDisk, type Disk, openDisk } from "../../../src/host/block/open.ts";
import { vhdx } from "../../../src/host/format/vhdx/index.ts";
import { KeptStore } from "../../support/disks.ts";
import { afterCut, RecordingStore } from "../../support/power.ts";
import { contentOf, randomFrom } from "../../support/stores.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;
const sound = (store: KeptStore) => expect(run(vhdx.check!(store)) as CheckReport).toMatchObject({ corruptions: 0 });
const exclusive = (disk: Disk, work: (image: Image) => Flow) => (disk as Disk & Engine).exclusive(work);
const setParent = (disk: Disk, parent?: NewParent) => exclusive(disk, (image) => image.setParent!(parent));
const first = async (disk: Disk, at: number) => (await readBytes(disk, at, 1))[0];

async function filled(fill: number, size: number): Promise<{ store: KeptStore; parent: NewParent }> {
  const store = new KeptStore();
  const disk = await createDisk(store, { format: "vhdx", size });
  for (const at of [0, MiB, 2 * MiB, size - MiB]) await writeBytes(disk, at, new Uint8Array(MiB).fill(fill));
  const identity = String(disk.describe().dataWriteGuid);
  await disk.close();
  return { store, parent: { path: `base-${fill}.vhdx`, absolutePath: "C:/disks/b.vhdx", identity, format: "vhdx" } };
}
const over = (store: KeptStore) => openDisk(store, { readOnly: true });

/** A child of a parent that is all 0xaa: sectors in block 1, all of block 2, zeros in block 3. */
async function child(size = 8 * MiB, options: Record<string, unknown> = {}) {
  const a = await filled(0xaa, size);
  const store = new RecordingStore();
  const create = { format: "vhdx", size, blockSize: MiB, parent: a.parent, ...options };
  const disk = await createDisk(store, { ...create, backing: await over(a.store) });
  await writeBytes(disk, MiB + 512, new Uint8Array(1024).fill(1));
  await writeBytes(disk, 2 * MiB, new Uint8Array(MiB).fill(2));
  await writeZeroes(disk, 3 * MiB, MiB);
  await flush(disk);
  return { a, store, disk };
}

/** The first byte of some places. */
async function look(disk: Disk): Promise<number[]> {
  const seen: number[] = [];
  for (const at of [0, MiB, MiB + 512, MiB + 1536, 2 * MiB, 3 * MiB, 4 * MiB, disk.size - 512])
    seen.push(await first(disk, at));
  return seen;
}

test("another parent shows where the disk itself has nothing", async () => {
  const { a, store, disk } = await child();
  const b = await filled(0xbb, 8 * MiB);
  await setParent(disk, b.parent);
  await disk.close();
  await expect(openDisk(store, { backing: await over(a.store) })).rejects.toMatchObject({ code: "CORRUPT" });
  const again = await openDisk(store, { backing: await over(b.store) });
  expect(await look(again)).toEqual([0xbb, 0xbb, 1, 0xbb, 2, 0, 0, 0xbb]);
  expect(again.describe().parentLocator).toEqual({
    parent_linkage: `{${b.parent.identity}}`,
    relative_path: ".\\base-187.vhdx",
    absolute_win32_path: "C:\\disks\\b.vhdx",
  });
  await writeBytes(again, MiB + 2048, new Uint8Array(512).fill(5));
  expect(await first(again, MiB + 1536)).toBe(0xbb);
  await again.close();
  sound(store);
});

test("without one, zeros show, also under clear bits where others left something", async () => {
  const { a, store, disk } = await child();
  await disk.close();
  const bytes = contentOf(store);
  const entry = new DataView(bytes.buffer).getUint32(3 * MiB + 8, true);
  expect(entry & 7).toBe(7);
  bytes.fill(0xee, entry - 7, entry - 7 + 512);
  const left = new KeptStore(bytes);
  const open = await openDisk(left, { backing: await over(a.store) });
  await setParent(open);
  await open.close();
  sound(left);
  const again = await openDisk(left);
  expect(again.describe()).toMatchObject({ subformat: "dynamic" });
  expect(await look(again)).toEqual([0, 0, 1, 0, 2, 0, 0, 0]);
  await writeBytes(again, MiB, new Uint8Array(512).fill(5));
  await again.resize(6 * GiB);
  await writeBytes(again, 6 * GiB - 512, new Uint8Array(512).fill(6));
  await again.close();
  sound(left);
  expect(await look(await openDisk(left))).toEqual([0, 5, 1, 0, 2, 0, 0, 6]);
});

test("a dynamic disk gets a parent; what its table says of sector bitmaps is forgotten", async () => {
  const b = await filled(0xbb, 5 * GiB);
  const store = new KeptStore();
  const disk = await createDisk(store, { format: "vhdx", size: 5 * GiB, blockSize: MiB });
  await writeBytes(disk, MiB, new Uint8Array(512).fill(1));
  await disk.close();
  const bytes = contentOf(store);
  new DataView(bytes.buffer).setUint32(3 * MiB + 4096 * 8, 6 + 4 * MiB, true);
  const odd = new KeptStore(bytes);
  const open = await openDisk(odd);
  await setParent(open, b.parent);
  await open.close();
  sound(odd);
  const again = await openDisk(odd, { backing: await over(b.store) });
  expect(await look(again)).toEqual([0xbb, 1, 0, 0, 0xbb, 0, 0, 0xbb]);
  await writeBytes(again, 512, new Uint8Array(512).fill(3));
  await again.close();
  sound(odd);
});

test("more changes to the table than a log entry takes: it is written anew, elsewhere", async () => {
  const size = 40 * GiB;
  const { store, disk, a } = await child(size);
  for (let i = 0; i < 70; i++) await writeBytes(disk, i * 512 * MiB + 4096, new Uint8Array(512).fill(9));
  await flush(disk);
  const start = store.steps.length;
  await setParent(disk);
  await disk.close();
  sound(store);
  const random = randomFrom(5);
  const kinds = new Set<unknown>();
  for (let count = start; count <= store.steps.length; count++) {
    const left = afterCut(store.steps, count, random);
    let found: Disk;
    try {
      found = await openDisk(left, { format: "vhdx" });
      expect(await first(found, 0)).toBe(0);
    } catch (error) {
      expect(error).toMatchObject({ code: "NOT_FOUND" });
      found = await openDisk(left, { format: "vhdx", backing: await over(a.store) });
      expect(await first(found, 0)).toBe(0xaa);
    }
    kinds.add(found.describe().subformat);
    for (let i = 0; i < 70; i += 23) expect(await first(found, i * 512 * MiB + 4096)).toBe(9);
  }
  expect([...kinds].sort()).toEqual(["differencing", "dynamic"]);
});

test("emptying shows the parent and gives the blocks back; another is the same without one", async () => {
  const { a, store, disk } = await child();
  const start = store.steps.length;
  await exclusive(disk, (image) => image.empty!());
  expect(await look(disk)).toEqual([0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0, 0, 0xaa]);
  expect(store.size).toBe(4 * MiB);
  await writeBytes(disk, 4 * MiB + 512, new Uint8Array(512).fill(4));
  await disk.close();
  sound(store);
  const random = randomFrom(6);
  const seen = new Set<string>();
  for (let count = start; count <= store.steps.length; count++) {
    for (const torn of [undefined, random]) {
      const left = afterCut(store.steps, count, torn) as KeptStore;
      const found = await openDisk(left, { format: "vhdx", backing: await over(a.store) });
      const [, , sectors, , block] = await look(found);
      seen.add(`${sectors} ${block}`);
      await writeBytes(found, 5 * MiB, new Uint8Array(512).fill(6));
      await found.close();
      sound(left);
    }
  }
  // All of it or nothing.
  expect([...seen].sort()).toEqual(["1 2", "170 170"]);

  const plain = new KeptStore();
  const dynamic = await createDisk(plain, { format: "vhdx", size: 8 * MiB, blockSize: MiB });
  await writeBytes(dynamic, MiB, new Uint8Array(MiB).fill(1));
  await exclusive(dynamic, (image) => image.empty!());
  expect(await look(dynamic)).toEqual(Array(8).fill(0));
});

test("power may be lost while the parent changes: one parent or the other is noted", async () => {
  const { a, store, disk } = await child();
  const b = await filled(0xbb, 8 * MiB);
  const start = store.steps.length;
  await setParent(disk, b.parent);
  await setParent(disk);
  await disk.close();
  const random = randomFrom(5);
  const seen = new Set<string>();
  for (let count = start; count <= store.steps.length; count++) {
    for (const torn of [undefined, random]) {
      const left = afterCut(store.steps, count, torn);
      const image = run(vhdx.open(left, {})) as Image;
      const identity = image.parent?.identities[0];
      const backing = !image.parent ? undefined : await over(identity === a.parent.identity ? a.store : b.store);
      const found = await openDisk(left, { format: "vhdx", backing });
      const shown = identity === undefined ? 0 : identity === a.parent.identity ? 0xaa : 0xbb;
      expect(await look(found)).toEqual([shown, shown, 1, shown, 2, 0, 0, shown]);
      seen.add(String(shown));
    }
  }
  expect(seen.size).toBe(3);
});

describe("refused by name", () => {
  const code = (promise: Promise<unknown>) =>
    promise.then(
      () => "done",
      (error) => `${error.code} ${error.message}`,
    );
  test("a parent that is no VHDX, or has no identity, or a path that is too long", async () => {
    const { disk, a } = await child();
    expect(await code(setParent(disk, { ...a.parent, format: "qcow2" }))).toMatch(/^INVALID .*qcow2/);
    expect(await code(setParent(disk, { path: "x" }))).toMatch(/^INVALID .*DataWriteGuid/);
    expect(await code(setParent(disk, { ...a.parent, path: "x".repeat(40_000) }))).toMatch(/^INVALID .*path/);
    expect(await look(disk)).toEqual([0xaa, 0xaa, 1, 0xaa, 2, 0, 0, 0xaa]);
    const long = { ...a.parent, path: "x".repeat(32_000), absolutePath: `C:\\${"y".repeat(32_000)}` };
    expect(await code(setParent(disk, long))).toBe("done");
  });
  test("a parent for a fixed disk, and its emptying", async () => {
    const { parent } = await filled(1, 8 * MiB);
    const disk = await createDisk(new KeptStore(), { format: "vhdx", size: 8 * MiB, subformat: "fixed" });
    expect(await code(setParent(disk, parent))).toMatch(/^INVALID .*fixed/);
    expect(await code(exclusive(disk, (image) => image.empty!()))).toMatch(/^UNSUPPORTED .*fixed/);
  });
  test("a parent of larger sectors", async () => {
    const parent = new KeptStore();
    const base = await createDisk(parent, { format: "vhdx", size: 8 * MiB, logicalSectorSize: 4096 });
    const identity = String(base.describe().dataWriteGuid);
    await base.close();
    const options = { format: "vhdx", size: 8 * MiB, parent: { path: "x", identity } };
    const backing = () => openDisk(parent, { readOnly: true });
    expect(await code(createDisk(new KeptStore(), { ...options, backing: await backing() }))).toMatch(
      /^INVALID .*4096/,
    );
    const large = { ...options, logicalSectorSize: 4096, backing: await backing() };
    expect(await code(createDisk(new KeptStore(), large))).toBe("done");
  });
});

test("the file is as large as measured, or smaller for bitmaps that share a chunk", async () => {
  for (const options of [
    { size: 20 * MiB, blockSize: MiB },
    { size: 20 * MiB + 512, subformat: "fixed", blockSize: 4 * MiB },
    { size: 300 * GiB },
    { size: 20 * MiB, logicalSectorSize: 4096, logSize: 3 * MiB },
  ]) {
    const store = new KeptStore();
    const measure = vhdx.measure!(options);
    const disk = await createDisk(store, { format: "vhdx", ...options });
    expect([options, store.size]).toEqual([options, measure.bytes(0)]);
    for (const at of [0, measure.unit, 3 * measure.unit]) await writeBytes(disk, at, new Uint8Array(4096));
    expect([options, store.size]).toEqual([options, measure.bytes(3)]);
    await disk.close();
  }
  const { store } = await child();
  const parent = { path: "x", identity: "00000000-0000-0000-0000-000000000001" };
  expect(store.size).toBeLessThanOrEqual(vhdx.measure!({ size: 8 * MiB, blockSize: MiB, parent }).bytes(2));
});
