import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { run } from "../../../src/core/flow.ts";
import type { CheckReport } from "../../../src/core/format.ts";
import { readBytes, writeBytes } from "../../../src/host/block/bytes.ts";
import { createDisk, type Disk, openDisk } from "../../../src/host/block/open.ts";
import { parallels } from "../../../src/host/format/parallels/index.ts";
import { MemoryStore } from "../../../src/host/store/memory.ts";
import { dataFile } from "../../support/data.ts";
import { KeptStore } from "../../support/disks.ts";
import { BLOCK, cutEverywhere, SIZE } from "../../support/life.ts";
import { afterCut, RecordingStore } from "../../support/power.ts";
import { contentOf, randomFrom } from "../../support/stores.ts";
import { tier } from "../../support/tier.ts";

const check = (store: MemoryStore) => run(parallels.check!(store)) as CheckReport;
const repair = (store: MemoryStore, what: "leaks" | "all" = "all") =>
  run(parallels.repair!(store, what)) as CheckReport;
const word = (bytes: Uint8Array, at: number) => new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);
const IN_USE = 0x746f6e59;

async function made(): Promise<Uint8Array> {
  const store = new KeptStore();
  const disk = await createDisk(store, { format: "parallels", size: 8 * BLOCK, clusterSize: BLOCK });
  for (const block of [3, 0, 1]) await writeBytes(disk, block * BLOCK, new Uint8Array(BLOCK).fill(0x10 + block));
  await disk.close();
  return contentOf(store);
}
function patched(bytes: Uint8Array, words: Record<number, number>): KeptStore {
  const copy = bytes.slice();
  for (const [at, value] of Object.entries(words)) new DataView(copy.buffer).setUint32(Number(at), value, true);
  return new KeptStore(copy);
}
const fills = async (disk: Disk, blocks: number) => {
  const list: number[] = [];
  for (let i = 0; i < blocks; i++) list.push((await readBytes(disk, i * BLOCK, 512))[7]);
  return list;
};

test("QEMU's sample of the older kind, read and written", async () => {
  const store = new KeptStore(dataFile("qemu-parallels-v1.hdd"));
  const disk = await openDisk(store);
  const bytes = await readBytes(disk, 0, disk.size);
  expect([disk.format, disk.size]).toEqual(["parallels", 2097152]);
  expect(createHash("sha256").update(bytes).digest("hex").slice(0, 16)).toBe("15faf41ebc93b5f7");
  await writeBytes(disk, 20 * BLOCK, new Uint8Array(512).fill(0x77));
  await disk.resize(5000 * BLOCK);
  expect(await fills(disk, 6)).toEqual([0x11, 0x22, 0x33, 0x44, 0, 0]);
  expect((await readBytes(disk, 20 * BLOCK, 512))[0]).toBe(0x77);
  await disk.close();
  expect(check(store)).toMatchObject({ leaks: 0, corruptions: 0, allocatedClusters: 5, totalClusters: 5000 });
});

test("clusters come in the order in which they are written, counted in clusters", async () => {
  const bytes = await made();
  expect([0, 1, 2, 3].map((i) => word(bytes, 64 + i * 4))).toEqual([2, 3, 0, 1]);
  expect(bytes.length).toBe(4 * BLOCK);
  expect(word(bytes, 44)).toBe(0);
  expect(check(new MemoryStore(bytes))).toMatchObject({
    ...{ leaks: 0, corruptions: 0, totalClusters: 8, allocatedClusters: 3, imageEndOffset: bytes.length },
  });
});

test("the mark of a disk in use is there from the first write to the end", async () => {
  const store = new KeptStore(await made());
  const disk = await openDisk(store);
  expect(word(contentOf(store), 44)).toBe(0);
  await writeBytes(disk, 0, new Uint8Array(512));
  expect(word(contentOf(store), 44)).toBe(IN_USE);
  const warnings: string[] = [];
  await openDisk(new KeptStore(contentOf(store)), { onWarning: (text) => warnings.push(text) });
  expect(warnings).toEqual(["memory: the disk was not closed properly, or is open elsewhere"]);
  expect(check(store)).toMatchObject({ corruptions: 1 });
  await disk.close();
  expect(check(store)).toMatchObject({ corruptions: 0 });
  const unclean = patched(await made(), { 44: IN_USE });
  expect(repair(unclean)).toMatchObject({ corruptions: 0 });
});

test("a table that has no room moves the first clusters away; and the file shrinks again", async () => {
  const store = new KeptStore(await made());
  const disk = await openDisk(store);
  for (const blocks of [20_000, 70_000, 20]) {
    await disk.resize(blocks * BLOCK);
    expect(await fills(disk, 6)).toEqual([0x10, 0x11, 0, 0x13, 0, 0]);
    await writeBytes(disk, (blocks - 1) * BLOCK, new Uint8Array(512).fill(9));
    expect((await readBytes(disk, (blocks - 1) * BLOCK, 512))[0]).toBe(9);
  }
  await disk.resize(4 * BLOCK);
  await disk.close();
  expect(check(store)).toMatchObject({ leaks: 0, corruptions: 0, allocatedClusters: 3, totalClusters: 4 });
});

test("a write gives up bitmaps that it does not keep", async () => {
  const store = patched(await made(), { 56: 384 });
  const disk = await openDisk(store);
  expect(disk.describe()).toMatchObject({ formatExtension: 384 * 512 });
  await writeBytes(disk, 0, new Uint8Array(512));
  await disk.close();
  expect(word(contentOf(store), 56)).toBe(0);
});

describe("damage", () => {
  test.each([
    ["no magic", { 0: 0 }, "CORRUPT header"],
    ["version 3", { 16: 3 }, "UNSUPPORTED header"],
    ["clusters of nothing", { 28: 0 }, "CORRUPT header"],
    ["clusters of seven sectors", { 28: 7 }, "UNSUPPORTED header"],
    ["huge clusters", { 28: 0x80000000 }, "UNSUPPORTED header"],
    ["a table past the end", { 32: 0x7fffffff }, "CORRUPT block allocation table"],
    ["few entries", { 32: 2 }, "CORRUPT header"],
    ["many sectors", { 40: 1 }, "CORRUPT header"],
  ])("%s", async (_, words, outcome) => {
    const opening = openDisk(patched(await made(), words), { format: "parallels" });
    const found = await opening.then(
      () => "opened",
      ({ code, context }) => `${code} ${context.structure}`,
    );
    expect(found).toBe(outcome);
  });

  test("an entry that points nowhere, or at another cluster", async () => {
    const far = patched(await made(), { 64: 1000 });
    const disk = await openDisk(far);
    await expect(readBytes(disk, 0, 512)).rejects.toMatchObject({ code: "CORRUPT" });
    expect((await readBytes(disk, BLOCK, 512))[0]).toBe(0x11);
    expect(check(far)).toMatchObject({ corruptions: 1 });
    expect(() => repair(far, "leaks")).toThrow(/beyond this repair/);
    const shared = patched(await made(), { 64: 3 });
    await expect(writeBytes(await openDisk(shared), 0, new Uint8Array(512))).rejects.toMatchObject({ code: "CORRUPT" });
  });

  test("is mended when that is asked for: what is lost reads as zeros, what is shared is copied", async () => {
    const sound = { leaks: 0, corruptions: 0 };
    const store = patched(await made(), { 64: 1000, 72: 3, 76: 3, 80: 3 });
    expect(check(store).corruptions).toBeGreaterThan(1);
    expect(repair(store)).toMatchObject({ ...sound, allocatedClusters: 4 });
    expect(check(store)).toMatchObject(sound);
    const disk = await openDisk(store);
    expect(await fills(disk, 6)).toEqual([0, 0x11, 0x11, 0x11, 0x11, 0]);
    // Each has its own now.
    for (const block of [1, 2, 3, 4]) await writeBytes(disk, block * BLOCK, new Uint8Array(512).fill(block));
    expect(await fills(disk, 6)).toEqual([0, 1, 2, 3, 4, 0]);
    await disk.close();
    expect(check(store)).toMatchObject(sound);
  });

  test("of the older kind may be half over another block", async () => {
    const bytes = dataFile("qemu-parallels-v1.hdd");
    const before = await fills(await openDisk(new MemoryStore(bytes, { readOnly: true })), 6);
    const first = word(bytes, 64);
    const store = patched(bytes, { 68: first + 1, 72: first });
    const read = async () => Buffer.from(await readBytes(await openDisk(store, { readOnly: true }), 0, 3 * BLOCK));
    const damaged = await read();
    expect(check(store).corruptions).toBe(3);
    expect(repair(store)).toMatchObject({ leaks: 0, corruptions: 0 });
    expect((await read()).equals(damaged)).toBe(true);
    expect((await fills(await openDisk(store), 4))[2]).toBe(before[0]);
  });

  test("is what it was, or nearer to being mended, whenever a power cut ends the mending", async () => {
    const bytes = contentOf(patched(await made(), { 64: 1000, 72: 3, 80: 2 }));
    const store = RecordingStore.holding(bytes);
    const begin = store.steps.length;
    repair(store);
    expect(store.steps.length).toBeGreaterThan(begin + 5);
    for (let count = begin; count <= store.steps.length; count++) {
      for (const random of [undefined, randomFrom(count)]) {
        const cut = afterCut(store.steps, count, random);
        expect(repair(cut)).toMatchObject({ leaks: 0, corruptions: 0 });
        expect(await fills(await openDisk(cut), 6)).toEqual([0, 0x11, 0x11, 0x13, 0x10, 0]);
      }
    }
  });

  test("space that nothing uses is a leak, and is given back", async () => {
    const store = patched(await made(), { 64: 0 });
    expect(check(store)).toMatchObject({ leaks: 1, corruptions: 0 });
    expect(repair(store, "leaks")).toMatchObject({ leaks: 0, corruptions: 0, allocatedClusters: 2 });
    expect(store.size).toBe(3 * BLOCK);
    expect(await fills(await openDisk(store), 4)).toEqual([0, 0x11, 0, 0x13]);
  });
});

test("power may be lost at any step of a Parallels disk's life", { timeout: tier(300_000, 7_200_000) }, async () => {
  const programs = tier(3, 100);
  const cuts = await cutEverywhere(
    {
      format: parallels,
      hasParent: false,
      keeps: true,
      create: (store) => createDisk(store, { format: "parallels", size: SIZE, clusterSize: BLOCK }),
      open: (store) => openDisk(store),
    },
    programs,
  );
  console.log(`Parallels: ${cuts} cuts of ${programs} programs`);
  expect(cuts).toBeGreaterThan(programs * 20);
});
