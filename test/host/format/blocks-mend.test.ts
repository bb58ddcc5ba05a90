// What is wrong with the table of a Parallels disk or a VDI, and how it is mended.
import { describe, expect, test } from "vitest";
import { run } from "../../../src/core/flow.ts";
import type { CheckReport } from "../../../src/core/format.ts";
import { SegmentList } from "../../../src/core/segments.ts";
import { readBytes, writeBytes } from "../../../src/host/block/bytes.ts";
import { createDisk, type Disk, openDisk } from "../../../src/host/block/open.ts";
import { createOverlay } from "../../../src/host/block/overlay.ts";
import { parallels } from "../../../src/host/format/parallels/index.ts";
import { vdi } from "../../../src/host/format/vdi/index.ts";
import { MemoryStore } from "../../../src/host/store/memory.ts";
import { dataFile } from "../../support/data.ts";
import { KeptStore } from "../../support/disks.ts";
import { BLOCK } from "../../support/life.ts";
import { afterCut, RecordingStore } from "../../support/power.ts";
import { contentOf, randomFrom } from "../../support/stores.ts";

const SOUND = { leaks: 0, corruptions: 0, problems: [] };
/** Entries of the first blocks: blocks 3, 0 and 1 come in that order. */
const KINDS = {
  parallels: { format: parallels, options: { clusterSize: BLOCK }, table: 64, first: 1 },
  vdi: { format: vdi, options: { blockSize: BLOCK }, table: 512, first: 0 },
};

describe.each(Object.entries(KINDS))("%s", (name, { format, options, table, first }) => {
  const check = (store: MemoryStore) => run(format.check!(store)) as CheckReport;
  const repair = (store: MemoryStore, what: "leaks" | "all" = "all") => run(format.repair!(store, what)) as CheckReport;
  const fills = async (disk: Disk) => {
    const list: number[] = [];
    for (let i = 0; i < 6; i++) list.push((await readBytes(disk, i * BLOCK, BLOCK))[7]);
    return list;
  };

  /** Places of blocks by number, counted from the first; as many bytes fewer. */
  async function damaged(places: Record<number, number>, cut = 0): Promise<Uint8Array> {
    const store = new KeptStore();
    const disk = await createDisk(store, { format: name, size: 8 * BLOCK, ...options });
    for (const block of [3, 0, 1]) await writeBytes(disk, block * BLOCK, new Uint8Array(BLOCK).fill(0x10 + block));
    await disk.close();
    const bytes = contentOf(store);
    const view = new DataView(bytes.buffer);
    for (const [block, place] of Object.entries(places)) view.setUint32(table + Number(block) * 4, first + place, true);
    return bytes.slice(0, bytes.length - cut);
  }

  test("an entry behind the file's end reads as zeros, and others keep what they have", async () => {
    const store = new KeptStore(await damaged({ 0: 1000, 5: 0x7fffff00 }));
    expect(check(store).corruptions).toBe(2);
    expect(repair(store)).toMatchObject({ ...SOUND, allocatedClusters: 2 });
    expect(check(store)).toMatchObject(SOUND);
    expect(await fills(await openDisk(store))).toEqual([0, 0x11, 0, 0x13, 0, 0]);
  });

  test("what there is of a block that the file's end cuts off is kept", async () => {
    const store = new KeptStore(await damaged({}, BLOCK - 8192));
    await expect(readBytes(await openDisk(store, { readOnly: true }), BLOCK, 512)).rejects.toThrow();
    expect(check(store).corruptions).toBe(1);
    expect(repair(store)).toMatchObject({ ...SOUND, allocatedClusters: 3 });
    const disk = await openDisk(store);
    const wanted = new Uint8Array(BLOCK).fill(0x11, 0, 8192);
    expect(Buffer.compare(await readBytes(disk, BLOCK, BLOCK), wanted)).toBe(0);
    expect(await fills(disk)).toEqual([0x10, 0x11, 0, 0x13, 0, 0]);
  });

  test("entries that share a block have one each", async () => {
    const store = new KeptStore(await damaged({ 2: 0, 4: 0, 5: 2 }));
    expect(check(store).corruptions).toBe(5);
    const before = await fills(await openDisk(store, { readOnly: true }));
    expect(before).toEqual([0x10, 0x11, 0x13, 0x13, 0x13, 0x11]);
    expect(repair(store)).toMatchObject({ ...SOUND, allocatedClusters: 6 });
    const disk = await openDisk(store);
    expect(await fills(disk)).toEqual(before);
    for (let i = 0; i < 6; i++) await writeBytes(disk, i * BLOCK, new Uint8Array(512).fill(0x60 + i));
    expect(await fills(disk)).toEqual([0x60, 0x61, 0x62, 0x63, 0x64, 0x65]);
    await disk.close();
    expect(check(store)).toMatchObject(SOUND);
  });

  test("copies of what is zeros take no space", async () => {
    const size = 2 ** 26;
    const store = new KeptStore();
    const large = name === "vdi" ? { blockSize: size } : { clusterSize: size };
    const disk = await createDisk(store, { format: name, size: 4 * size, ...large });
    await writeBytes(disk, 5 * 512, new Uint8Array(512).fill(7));
    await disk.close();
    const before = store.allocated;
    for (const block of [1, 2, 3]) word(store, table + block * 4, first);
    expect(repair(store)).toMatchObject({ ...SOUND, allocatedClusters: 4 });
    expect(store.size).toBeGreaterThan(4 * size);
    expect(store.allocated).toBeLessThan(before + 4 * 2 ** 20);
    const mended = await openDisk(store);
    for (const block of [0, 1, 2, 3]) expect((await readBytes(mended, block * size + 5 * 512, 512))[0]).toBe(7);
  });

  test("a sound image is left as it is, and so is one that can only be read, or whose leaks alone are asked for", async () => {
    const mended = new KeptStore(await damaged({ 2: 0, 4: 1000 }));
    repair(mended);
    const bytes = contentOf(mended);
    repair(mended);
    expect(Buffer.compare(contentOf(mended), bytes)).toBe(0);
    for (const [readOnly, what, code] of [
      [true, "all", "READ_ONLY"],
      [false, "leaks", "CORRUPT"],
    ] as const) {
      const damage = await damaged({ 2: 0, 4: 1000 });
      const store = new MemoryStore(damage, { readOnly });
      expect(check(store).corruptions).toBe(3);
      expect(() => repair(store, what)).toThrow(expect.objectContaining({ code }));
      expect(Buffer.compare(contentOf(store), damage)).toBe(0);
    }
  });

  test("power may be lost at any step", async () => {
    const cases = [
      { bytes: await damaged({ 0: 1000, 2: 0, 4: 2, 5: 1 }), wanted: [0, 0x11, 0x13, 0x13, 0x11, 0x10] },
      { bytes: await damaged({ 2: 0, 5: 2 }, 4096), wanted: [0x10, 0x11, 0x13, 0x13, 0, 0x11] },
    ];
    for (const { bytes, wanted } of cases) {
      const store = RecordingStore.holding(bytes);
      const begin = store.steps.length;
      repair(store);
      expect(store.steps.length).toBeGreaterThan(begin + 8);
      for (let count = begin; count <= store.steps.length; count++) {
        for (const random of [undefined, ...[1, 2, 3].map((seed) => randomFrom(seed * 1000 + count))]) {
          const cut = afterCut(store.steps, count, random);
          // Before it is mended again, what can be read is right already.
          const half = await openDisk(cut, { readOnly: true });
          for (const [i, fill] of wanted.entries()) {
            const found = await readBytes(half, i * BLOCK, 512).catch(() => undefined);
            if (found) expect([count, i, found[7]]).toEqual([count, i, fill]);
          }
          expect(repair(cut), `cut after ${count}`).toMatchObject(SOUND);
          expect(await fills(await openDisk(cut)), `cut after ${count}`).toEqual(wanted);
        }
      }
    }
  });
});

const word = (store: MemoryStore, at: number, value: number) =>
  store.writev(at, new Uint8Array(Uint32Array.of(value).buffer), SegmentList.of(0, 4));

test("a differencing VDI has zeros where a block was lost, not what its parent has", async () => {
  const parent = new KeptStore();
  const base = await createDisk(parent, { format: "vdi", size: 8 * BLOCK, blockSize: BLOCK });
  await writeBytes(base, 0, new Uint8Array(8 * BLOCK).fill(0xee));
  await base.close();
  const behind = await openDisk(parent, { readOnly: true });
  const store = new KeptStore();
  const child = await createOverlay(behind, store, { format: "vdi", blockSize: BLOCK, parent: { path: "p.vdi" } });
  for (const block of [2, 4]) await writeBytes(child, block * BLOCK, new Uint8Array(BLOCK).fill(block));
  await child.close();
  word(store, 512 + 2 * 4, 1000);
  expect(run(vdi.repair!(store, "all"))).toMatchObject(SOUND);
  const disk = await openDisk(store, { backing: await openDisk(parent, { readOnly: true }) });
  const found: number[] = [];
  for (let i = 1; i < 6; i++) found.push((await readBytes(disk, i * BLOCK, 512))[7]);
  expect(found).toEqual([0xee, 0, 0xee, 4, 0xee]);
});

test("a VDI counts its copies before the map points to them, for others put new blocks where the count says", async () => {
  const store = new RecordingStore();
  const disk = await createDisk(store, { format: "vdi", size: 8 * BLOCK, blockSize: BLOCK });
  await writeBytes(disk, 0, new Uint8Array(2 * BLOCK).fill(1));
  await disk.close();
  word(store, 512 + 4 * 4, 1);
  store.flush();
  const begin = store.steps.length;
  run(vdi.repair!(store, "all"));
  for (let count = begin; count <= store.steps.length; count++) {
    const view = new DataView(contentOf(afterCut(store.steps, count)).buffer);
    if (view.getUint32(512 + 4 * 4, true) === 2) expect([count, view.getUint32(388, true)]).toEqual([count, 3]);
  }
});

test("a Parallels header that puts the data too far back is wrong, not the clusters before", async () => {
  const store = new KeptStore();
  const disk = await createDisk(store, { format: "parallels", size: 8 * BLOCK, clusterSize: BLOCK });
  for (const block of [3, 0, 1]) await writeBytes(disk, block * BLOCK, new Uint8Array(BLOCK).fill(0x10 + block));
  await disk.close();
  word(store, 48, 0x7fffffff);
  expect(run(parallels.check!(store))).toMatchObject({ corruptions: 3 });
  expect(run(parallels.repair!(store, "all"))).toMatchObject({ ...SOUND, allocatedClusters: 3 });
  const mended = await openDisk(store);
  for (const block of [0, 1, 3]) expect((await readBytes(mended, block * BLOCK, 512))[7]).toBe(0x10 + block);
});

test("copies go behind bitmaps that a Parallels disk keeps, as far as entries can say", async () => {
  const old = (size: number) => {
    const store = new KeptStore(dataFile("qemu-parallels-v1.hdd"));
    word(store, 56, store.size / 512);
    store.resize(size);
    word(
      store,
      64 + 4,
      new DataView(contentOf(new KeptStore(dataFile("qemu-parallels-v1.hdd"))).buffer).getUint32(64, true),
    );
    return store;
  };
  const bitmaps = new Uint8Array(BLOCK).fill(0xbb);
  const { size } = new KeptStore(dataFile("qemu-parallels-v1.hdd"));
  const store = old(size + BLOCK);
  store.writev(size, bitmaps, SegmentList.of(0, BLOCK));
  expect(run(parallels.repair!(store, "all"))).toMatchObject({ corruptions: 0 });
  const kept = new Uint8Array(BLOCK);
  store.readv(size, kept, SegmentList.of(0, BLOCK));
  expect(Buffer.compare(kept, bitmaps)).toBe(0);
  expect((await readBytes(await openDisk(store, { readOnly: true }), BLOCK, 512))[7]).toBe(0x11);

  const far = old(2 ** 41);
  expect(() => run(parallels.repair!(far, "all"))).toThrow(expect.objectContaining({ code: "NO_SPACE" }));
  expect(run(parallels.check!(far))).toMatchObject({ corruptions: 1 + 1 });
});
