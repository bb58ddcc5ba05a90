import { expect, test } from "vitest";
import { type Flow, run } from "../../../src/core/flow.ts";
import { readBytes, writeBytes, writeZeroes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { checkVhdx, repairVhdx } from "../../../src/host/format/vhdx/check.ts";
import { KeptStore } from "../../support/disks.ts";
import { contentOf } from "../../support/stores.ts";

const MiB = 2 ** 20;
const BAT = 3 * MiB;
/** Over memory nothing waits. */
const now = <T>(flow: Flow<T>): T => run(flow) as T;

/** Blocks 0, 3 and 7 of 8, in this order in the file from 4 MiB on. */
async function image(): Promise<KeptStore> {
  const store = new KeptStore();
  const disk = await createDisk(store, { format: "vhdx", size: 8 * MiB, blockSize: MiB });
  for (const block of [0, 3, 7]) await writeBytes(disk, block * MiB, new Uint8Array(512).fill(block + 1));
  await disk.close();
  return store;
}
const edited = (store: KeptStore, edit: (bytes: Uint8Array, view: DataView) => void) => {
  const bytes = contentOf(store);
  edit(bytes, new DataView(bytes.buffer));
  return new KeptStore(bytes);
};

test("a sound image has nothing wrong", async () => {
  const store = await image();
  const before = contentOf(store);
  expect(now(checkVhdx(store))).toEqual({
    leaks: 0,
    corruptions: 0,
    problems: [],
    totalClusters: 8,
    allocatedClusters: 3,
    compressedClusters: 0,
    imageEndOffset: 7 * MiB,
  });
  expect(Buffer.compare(contentOf(store), before)).toBe(0);
});

test("zeroed blocks leave gaps; those at the end are leaks, and given back", async () => {
  const store = await image();
  const disk = await openDisk(store);
  await writeZeroes(disk, 0, MiB);
  await writeZeroes(disk, 7 * MiB, MiB);
  await disk.close();
  expect(now(checkVhdx(store))).toMatchObject({ leaks: 1, corruptions: 0, problems: [{ kind: "leak" }] });
  expect(now(repairVhdx(store, "leaks"))).toMatchObject({ leaks: 0, corruptions: 0 });
  expect(store.size).toBe(6 * MiB);
  const again = await openDisk(store);
  expect((await readBytes(again, 3 * MiB, 1))[0]).toBe(4);
  await writeBytes(again, 7 * MiB, new Uint8Array(512).fill(9));
  await again.close();
  expect(now(checkVhdx(store))).toMatchObject({ leaks: 0, corruptions: 0, allocatedClusters: 2 });
});

test.each<[string, number, number, RegExp]>([
  ["a block past the end", 1, 6 + 64 * MiB, /entry 1 points past the end/],
  ["a reserved state", 1, 5, /entry 1 has state 5/],
  ["a block in the log", 1, 6 + MiB, /entry 1 points into the log/],
  ["two blocks in one place", 5, 6 + 5 * MiB, /entry 5 shares its place/],
])("%s is found and cannot be mended", async (_name, entry, low, message) => {
  const store = edited(await image(), (_bytes, view) => view.setUint32(BAT + entry * 8, low, true));
  const report = now(checkVhdx(store));
  expect(report.corruptions).toBe(1);
  expect(report.problems[0]).toMatchObject({ kind: "structure", structure: "block allocation table", message });
  const before = contentOf(store);
  expect(() => now(repairVhdx(store, "all"))).toThrow(expect.objectContaining({ code: "CORRUPT" }));
  expect(Buffer.compare(contentOf(store), before)).toBe(0);
});

test("blocks far apart in the table that share a place are found", async () => {
  const store = new KeptStore();
  const disk = await createDisk(store, { format: "vhdx", size: 5 * 2 ** 30, blockSize: MiB });
  await writeBytes(disk, 0, new Uint8Array(512));
  await disk.close();
  const shared = edited(store, (_bytes, view) => view.setUint32(BAT + 5000 * 8, view.getUint32(BAT, true), true));
  // Entry 5,000 is past a bitmap's, so it is block 4,999.
  expect(now(checkVhdx(shared)).problems[0].message).toMatch(/entry 5000 shares/);
});

test.each([
  ["header", 65536 + 200],
  ["header", 131072 + 200],
  ["region table", 196608 + 200],
])("a damaged copy of the %s is mended (byte %i)", async (structure, place) => {
  const store = edited(await image(), (bytes) => {
    bytes[place] ^= 1;
  });
  expect(now(checkVhdx(store))).toMatchObject({ corruptions: 1, problems: [{ kind: "copy", structure }] });
  expect(now(repairVhdx(store, "all"))).toMatchObject({ leaks: 0, corruptions: 0 });
  const warnings: string[] = [];
  const disk = await openDisk(store, { onWarning: (text) => warnings.push(text) });
  expect(warnings).toEqual([]);
  expect((await readBytes(disk, 3 * MiB, 1))[0]).toBe(4);
});

test("the sector bitmap entries of a disk without a parent say nothing, whatever others left there", async () => {
  const store = new KeptStore();
  const disk = await createDisk(store, { format: "vhdx", size: 5 * 2 ** 30, blockSize: MiB });
  for (const block of [4095, 4096]) await writeBytes(disk, block * MiB, new Uint8Array(512).fill(7));
  await disk.close();
  const odd = edited(store, (_bytes, view) => {
    // Entry 4,096 is the bitmap's; it names the place of block 4,095.
    view.setUint32(BAT + 4096 * 8, view.getUint32(BAT + 4095 * 8, true), true);
  });
  expect(now(checkVhdx(odd))).toMatchObject({ leaks: 0, corruptions: 0 });
  const again = await openDisk(odd);
  for (const block of [4095, 4096]) expect((await readBytes(again, block * MiB, 1))[0]).toBe(7);
});

test("two blocks in one place, far apart in the table: nothing is written, for it would change the other", async () => {
  const store = new KeptStore();
  const disk = await createDisk(store, { format: "vhdx", size: 5 * 2 ** 30, blockSize: MiB });
  for (const block of [0, 3000]) await writeBytes(disk, block * MiB, new Uint8Array(512).fill(block & 255));
  await disk.close();
  const shared = edited(store, (_bytes, view) => view.setUint32(BAT + 3000 * 8, view.getUint32(BAT, true), true));
  const before = contentOf(shared);
  const again = await openDisk(shared);
  const refusal = { code: "CORRUPT", context: { structure: "block allocation table", offset: BAT + 3000 * 8 } };
  for (const at of [0, 3000 * MiB, MiB]) {
    await expect(writeBytes(again, at, new Uint8Array(512))).rejects.toMatchObject(refusal);
  }
  await again.close();
  expect(Buffer.compare(contentOf(shared), before)).toBe(0);
});

test("a block partly there whose chunk has no sector bitmap is found", async () => {
  const parent = await image();
  const identity = String((await openDisk(parent, { readOnly: true })).describe().dataWriteGuid);
  const store = new KeptStore();
  const backing = await openDisk(parent, { readOnly: true });
  const options = { format: "vhdx", size: 5 * 2 ** 30, blockSize: MiB, parent: { path: "x", identity } };
  const disk = await createDisk(store, { ...options, backing });
  for (const block of [4000, 4100]) await writeBytes(disk, block * MiB, new Uint8Array(512));
  await disk.close();
  expect(now(checkVhdx(store))).toMatchObject({ corruptions: 0, leaks: 0 });
  for (const [bitmap, block] of [
    [4096, 4000],
    [8193, 4101],
  ]) {
    const odd = edited(store, (_bytes, view) => view.setUint32(BAT + bitmap * 8, 0, true));
    const message = expect.stringMatching(new RegExp(`^entry ${block} .*no sector bitmap`));
    expect(now(checkVhdx(odd)).problems[0]).toMatchObject({ kind: "structure", message });
  }
});
