import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { run } from "../../../src/core/flow.ts";
import type { CheckReport } from "../../../src/core/format.ts";
import { readBytes, writeBytes, writeZeroes } from "../../../src/host/block/bytes.ts";
import { createDisk, type Disk, openDisk } from "../../../src/host/block/open.ts";
import { createOverlay } from "../../../src/host/block/overlay.ts";
import { vdi } from "../../../src/host/format/vdi/index.ts";
import { measureImage } from "../../../src/host/image/measure.ts";
import { MemoryStore } from "../../../src/host/store/memory.ts";
import { dataFile } from "../../support/data.ts";
import { KeptStore } from "../../support/disks.ts";
import { whole } from "../../support/life.ts";
import { contentOf } from "../../support/stores.ts";

const MiB = 2 ** 20;
const BLOCK = 65536;
const check = (store: MemoryStore) => run(vdi.check!(store)) as CheckReport;
const repair = (store: MemoryStore, what: "leaks" | "all" = "all") => run(vdi.repair!(store, what)) as CheckReport;
const word = (bytes: Uint8Array, at: number) => new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);

async function made(options: Record<string, unknown> = {}, blocks = [3, 0, 1]): Promise<Uint8Array> {
  const store = new KeptStore();
  const disk = await createDisk(store, { format: "vdi", size: 8 * BLOCK, blockSize: BLOCK, ...options });
  for (const block of blocks) await writeBytes(disk, block * BLOCK, new Uint8Array(BLOCK).fill(0x10 + block));
  await disk.close();
  return contentOf(store);
}

/** The bytes with 32-bit words changed. */
function patched(bytes: Uint8Array, words: Record<number, number>): KeptStore {
  const copy = bytes.slice();
  for (const [at, value] of Object.entries(words)) new DataView(copy.buffer).setUint32(Number(at), value, true);
  return new KeptStore(copy);
}
const fills = async (disk: Disk, blocks = disk.size / BLOCK) => {
  const list: number[] = [];
  for (let i = 0; i < blocks; i++) list.push((await readBytes(disk, i * BLOCK, 512))[7]);
  return list;
};

test("dissect's image, made by QEMU", async () => {
  const disk = await openDisk(new MemoryStore(dataFile("dissect-vdi_basic.vdi"), { readOnly: true }));
  const bytes = await readBytes(disk, 0, disk.size);
  expect(createHash("sha256").update(bytes).digest("hex").slice(0, 16)).toBe("92d551781f9b62f3");
  expect(disk.describe()).toMatchObject({
    format: "vdi",
    subformat: "dynamic",
    size: 10485760,
    creator: "QEMU VM Virtual Disk Image",
    version: "1.1",
    uuid: "874ef599-4fd0-4f09-a3ee-cb161c1f8c41",
    allocatedBlocks: 9,
  });
  expect(check(new MemoryStore(dataFile("dissect-vdi_basic.vdi")))).toMatchObject({ leaks: 0, corruptions: 0 });
});

test("blocks come in the order in which they are written, and the header counts them", async () => {
  const bytes = await made();
  expect([0, 1, 2, 3].map((i) => word(bytes, 512 + i * 4))).toEqual([1, 2, 0xffffffff, 0]);
  expect(word(bytes, 388)).toBe(3);
  expect(bytes.length).toBe(4096 + 3 * BLOCK);
  expect(check(new MemoryStore(bytes))).toMatchObject({
    ...{ leaks: 0, corruptions: 0, totalClusters: 8, allocatedClusters: 3, imageEndOffset: bytes.length },
  });
});

test("a fixed disk has all its blocks from the start, and when it grows", async () => {
  const store = new KeptStore(await made({ subformat: "fixed" }, [5]));
  expect(store.size).toBe(4096 + 8 * BLOCK);
  const disk = await openDisk(store);
  await disk.resize(2000 * BLOCK);
  expect(await fills(disk, 9)).toEqual([0, 0, 0, 0, 0, 0x15, 0, 0, 0]);
  await disk.close();
  expect(check(store)).toMatchObject({ leaks: 0, corruptions: 0, allocatedClusters: 2000 });
});

test("what a fixed disk, and a measured one, takes is known beforehand", async () => {
  for (const subformat of ["dynamic", "fixed"]) {
    const store = new KeptStore();
    const disk = await createDisk(store, { format: "vdi", size: 5 * MiB, subformat });
    const { required } = await measureImage({ format: "vdi", source: 5 * MiB, subformat });
    expect(store.size).toBe(required);
    await writeBytes(disk, 0, new Uint8Array(5 * MiB).fill(1));
    await disk.close();
    const { fullyAllocated } = await measureImage({ format: "vdi", source: 5 * MiB, subformat });
    expect(store.size).toBe(fullyAllocated);
  }
});

test("a map that has no room moves past the first blocks; and back, and the file shrinks", async () => {
  const store = new KeptStore(await made());
  const disk = await openDisk(store);
  for (const blocks of [900, 40_000, 90_000, 20]) {
    await disk.resize(blocks * BLOCK);
    expect(await fills(disk, 6)).toEqual([0x10, 0x11, 0, 0x13, 0, 0]);
    await writeBytes(disk, (blocks - 1) * BLOCK, new Uint8Array(512).fill(9));
    expect((await readBytes(disk, (blocks - 1) * BLOCK, 512))[0]).toBe(9);
  }
  await disk.resize(4 * BLOCK);
  await disk.close();
  expect(check(store)).toMatchObject({ leaks: 0, corruptions: 0, allocatedClusters: 3, totalClusters: 4 });
  const again = await openDisk(store);
  expect(await fills(again)).toEqual([0x10, 0x11, 0, 0x13]);
  await again.close();
});

describe("differencing disks", () => {
  async function family() {
    const base = new KeptStore(await made({}, [0, 1, 2, 3, 4]), { name: "base" });
    const store = new KeptStore(0, { name: "child" });
    const child = await createOverlay(await openDisk(base, { readOnly: true }), store, {
      format: "vdi",
      blockSize: BLOCK,
      parent: { path: "base" },
    });
    return { base, store, child };
  }

  test("a write brings the rest of its block along; a block of zeros takes no space", async () => {
    const { base, store, child } = await family();
    await writeBytes(child, BLOCK + 512, new Uint8Array(512).fill(0xcc));
    await writeZeroes(child, 3 * BLOCK, BLOCK);
    await writeBytes(child, 4 * BLOCK + 1024, new Uint8Array(512).fill(0xdd));
    expect(await fills(child)).toEqual([0x10, 0x11, 0x12, 0, 0x14, 0, 0, 0]);
    await child.close();
    const bytes = contentOf(store);
    expect([0, 1, 2, 3, 4].map((i) => word(bytes, 512 + i * 4))).toEqual([0xffffffff, 0, 0xffffffff, 0xfffffffe, 1]);
    const disk = await openDisk(store, { backing: await openDisk(base, { readOnly: true }) });
    const block = await readBytes(disk, BLOCK, BLOCK);
    expect([block[0], block[512], block[1023], block[1024], block[BLOCK - 1]]).toEqual([0x11, 0xcc, 0xcc, 0x11, 0x11]);
    expect(disk.describe()).toMatchObject({ subformat: "differencing", allocatedBlocks: 2 });
    await disk.close();
  });

  test("a zeroed block that is written again shows nothing of its parent", async () => {
    const { child } = await family();
    await writeZeroes(child, 0, BLOCK);
    await writeBytes(child, 512, new Uint8Array(512).fill(1));
    expect([...new Set(await readBytes(child, 1024, BLOCK - 1024))]).toEqual([0]);
    await child.close();
  });

  test("another parent, or one that was written since, is refused", async () => {
    const { base, store, child } = await family();
    await child.close();
    const other = new KeptStore(await made());
    await expect(openDisk(store, { backing: await openDisk(other) })).rejects.toMatchObject({ code: "CORRUPT" });
    const disk = await openDisk(base);
    await writeBytes(disk, 0, new Uint8Array(512));
    await disk.close();
    await expect(openDisk(store, { backing: await openDisk(base) })).rejects.toMatchObject({ code: "CORRUPT" });
    await expect(openDisk(store)).rejects.toMatchObject({ code: "NOT_FOUND" });
  });

  test("a parent is noted by its UUIDs, and must be a VDI", async () => {
    const parent = { path: "x.vdi", identity: "1".repeat(32) };
    await expect(createDisk(new KeptStore(), { format: "vdi", size: MiB, parent })).rejects.toMatchObject({
      code: "INVALID",
    });
  });
});

test("a map behind the blocks is left alone by writing, emptying, mending and a change of size", async () => {
  // The same blocks, with the map behind where the last was, and one moved behind that, where there is another, too.
  const moved = async () => {
    const bytes = await made();
    const all = new Uint8Array(bytes.length + 3 * BLOCK);
    all.set(bytes);
    all.set(bytes.subarray(512, 1024), bytes.length);
    const view = new DataView(all.buffer);
    all.copyWithin(bytes.length + BLOCK, bytes.length - BLOCK, bytes.length);
    all.fill(0, bytes.length - BLOCK, bytes.length);
    for (let i = 0; i < 8; i++) {
      const at = bytes.length + i * 4;
      if (view.getUint32(at, true) === 2) view.setUint32(at, 4, true);
    }
    all.fill(0x16, bytes.length + 2 * BLOCK);
    view.setUint32(bytes.length + 6 * 4, 5, true);
    all.fill(0xff, 512, 1024);
    view.setUint32(340, bytes.length, true);
    view.setUint32(388, 6, true);
    return new KeptStore(all);
  };
  const wanted = [0x10, 0x11, 0, 0x13, 0, 0, 0x16, 0];
  const store = await moved();
  expect(check(store)).toMatchObject({ leaks: 1, corruptions: 0 });
  expect(repair(store)).toMatchObject({ leaks: 0, corruptions: 0, allocatedClusters: 4 });
  expect(await fills(await openDisk(store))).toEqual(wanted);
  for (const source of [store, await moved()]) {
    const disk = await openDisk(source);
    await writeBytes(disk, 5 * BLOCK, new Uint8Array(BLOCK).fill(0x15));
    expect(await fills(disk)).toEqual(wanted.with(5, 0x15));
    await disk.resize(1000 * BLOCK);
    await disk.resize(8 * BLOCK);
    expect(await fills(disk)).toEqual(wanted.with(5, 0x15));
    await disk.close();
    repair(source);
    expect(check(source)).toMatchObject({ leaks: 0, corruptions: 0, allocatedClusters: 5 });
  }
  const left = await moved();
  const emptied = await openDisk(left);
  await whole(emptied, (image) => image.empty!());
  expect(check(left)).toMatchObject({ leaks: 0, corruptions: 0, allocatedClusters: 0 });
  expect(await fills(emptied)).toEqual(wanted.fill(0));
  await writeBytes(emptied, 0, new Uint8Array(BLOCK).fill(0x10));
  expect(await fills(emptied)).toEqual(wanted.with(0, 0x10));
  await emptied.close();
});

describe("damage", () => {
  const refused = (store: KeptStore) =>
    openDisk(store, { format: "vdi" }).then(
      () => "opened",
      ({ code, context }) => `${code} ${context.structure}`,
    );

  test.each([
    ["signature", { 64: 0 }, "CORRUPT header"],
    ["version 0.1", { 68: 1 }, "UNSUPPORTED header"],
    ["short header", { 72: 100 }, "CORRUPT header"],
    ["undo image", { 76: 3 }, "UNSUPPORTED header"],
    ["unknown type", { 76: 9 }, "CORRUPT header"],
    ["differencing without a parent", { 76: 4 }, "CORRUPT header"],
    ["map in the header", { 340: 8 }, "CORRUPT header"],
    ["map past the end", { 340: 0x7ffffff0 }, "CORRUPT block map"],
    ["data in the map", { 344: 512 }, "CORRUPT header"],
    ["data in the header", { 344: 0 }, "CORRUPT header"],
    ["huge disk", { 372: 0x7fffffff }, "CORRUPT header"],
    ["odd blocks", { 376: 3000 }, "CORRUPT header"],
    ["tiny blocks", { 376: 512 }, "UNSUPPORTED header"],
    ["odd extra bytes", { 380: 7 }, "UNSUPPORTED header"],
    ["few blocks", { 384: 2 }, "CORRUPT header"],
    ["a parent that is not there", { 424: 5 }, "NOT_FOUND parent locator"],
  ])("%s", async (_, words, outcome) => {
    expect(await refused(patched(await made(), words))).toBe(outcome);
  });

  test("an entry that points nowhere, or at another block's place", async () => {
    const far = patched(await made(), { 512: 1000 });
    const disk = await openDisk(far);
    await expect(readBytes(disk, 0, 512)).rejects.toMatchObject({ code: "CORRUPT" });
    expect((await readBytes(disk, BLOCK, 512))[0]).toBe(0x11);
    await disk.close();
    expect(check(far)).toMatchObject({ corruptions: 1 });
    expect(() => repair(far, "leaks")).toThrow(/beyond this repair/);
    expect(repair(far)).toMatchObject({ leaks: 0, corruptions: 0, allocatedClusters: 2 });
    expect(await fills(await openDisk(far))).toEqual([0, 0x11, 0, 0x13, 0, 0, 0, 0]);

    const shared = patched(await made(), { 512: 2 });
    const other = await openDisk(shared);
    expect((await readBytes(other, 0, 512))[0]).toBe(0x11);
    await expect(writeBytes(other, 5 * BLOCK, new Uint8Array(512))).rejects.toMatchObject({ code: "CORRUPT" });
    await other.close();
    expect(check(shared).problems.map(({ kind }) => kind)).toContain("structure");
    expect(repair(shared)).toMatchObject({ leaks: 0, corruptions: 0, allocatedClusters: 3 });
    const mended = await openDisk(shared);
    await writeBytes(mended, 0, new Uint8Array(512).fill(0x55));
    await writeBytes(mended, 5 * BLOCK, new Uint8Array(512).fill(0x66));
    expect(await fills(mended)).toEqual([0x55, 0x11, 0, 0x13, 0, 0x66, 0, 0]);
    await mended.close();
    expect(check(shared)).toMatchObject({ leaks: 0, corruptions: 0 });
  });

  test("a count that is too small is made right before another block is written", async () => {
    const store = patched(await made(), { 388: 1 });
    expect(check(store).problems.map(({ kind }) => kind)).toEqual(["count"]);
    const disk = await openDisk(store);
    await writeBytes(disk, 7 * BLOCK, new Uint8Array(512).fill(7));
    await disk.close();
    expect(word(contentOf(store), 388)).toBe(4);
    expect(check(store)).toMatchObject({ leaks: 0, corruptions: 0 });
    const small = patched(await made(), { 388: 1 });
    expect(repair(small)).toMatchObject({ leaks: 0, corruptions: 0 });
    expect(word(contentOf(small), 388)).toBe(3);
  });

  test("space that nothing uses is a leak, and is given back", async () => {
    const store = patched(await made(), { 516: 0xffffffff });
    expect(check(store)).toMatchObject({ leaks: 1, corruptions: 0, allocatedClusters: 2 });
    const before = patched(await made(), { 512: 0xffffffff });
    expect(check(before)).toMatchObject({ leaks: 1, corruptions: 0 });
    for (const each of [store, before]) {
      expect(repair(each, "leaks")).toMatchObject({ leaks: 0, corruptions: 0, allocatedClusters: 2 });
      expect(each.size).toBe(4096 + 2 * BLOCK);
      expect(word(contentOf(each), 388)).toBe(2);
    }
    const disk = await openDisk(before);
    expect(await fills(disk)).toEqual([0, 0x11, 0, 0x13, 0, 0, 0, 0]);
    await disk.close();
  });
});

test.each([
  ["gzip", [0x1f, 0x8b, 8], "gzip -dk"],
  ["xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0], "xz -dk"],
  ["Zstandard", [0x28, 0xb5, 0x2f, 0xfd], "zstd -d"],
  ["bzip2", [0x42, 0x5a, 0x68, 0x39], "bzip2 -dk"],
  ["zip", [0x50, 0x4b, 3, 4], "unzip"],
  ["7z", [0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c], "7z x"],
])("an image packed with %s is refused, with the command that unpacks it", async (name, magic, command) => {
  const bytes = new Uint8Array(2048);
  bytes.set(magic);
  const store = new MemoryStore(bytes, { name: "disk.vhdx.packed" });
  await expect(openDisk(store)).rejects.toMatchObject({
    code: "UNSUPPORTED",
    message: `it is packed with ${name}`,
    hint: expect.stringContaining(`${command} disk.vhdx.packed`),
  });
  for (const format of ["vhd", "vhdx", "qcow2", "vdi", "vmdk", "parallels"]) {
    await expect(openDisk(store, { format })).rejects.toMatchObject({ message: `it is packed with ${name}` });
  }
  await (await openDisk(store, { format: "raw" })).close();
});
