import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { run } from "../../../src/core/flow.ts";
import type { CheckReport } from "../../../src/core/format.ts";
import { readBytes, writeBytes, writeZeroes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { createOverlay } from "../../../src/host/block/overlay.ts";
import { vmdk } from "../../../src/host/format/vmdk/index.ts";
import { MemoryStore } from "../../../src/host/store/memory.ts";
import { dataFile } from "../../support/data.ts";
import { KeptStore } from "../../support/disks.ts";
import { contentOf } from "../../support/stores.ts";

const GRAIN = 65536;
const GiB = 2 ** 30;
const TiB = 2 ** 40;
/** Of a disk of one table: the copies, then the first. */
const [COPY, COPY_TABLE, DIRECTORY, TABLE] = [21, 22, 26, 27].map((sector) => sector * 512);
const check = (store: MemoryStore) => run(vmdk.check!(store)) as CheckReport;
const repair = (store: MemoryStore, what: "leaks" | "all" = "all") => run(vmdk.repair!(store, what)) as CheckReport;
const word = (bytes: Uint8Array, at: number) => new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);
const open = (store: MemoryStore, readOnly = false) => openDisk(store, { format: "vmdk", readOnly });

async function made(options: Record<string, unknown> = {}, grains = [3, 0, 1]): Promise<Uint8Array> {
  const store = new KeptStore();
  const disk = await createDisk(store, { format: "vmdk", size: 8 * GRAIN, ...options });
  for (const grain of grains) await writeBytes(disk, grain * GRAIN, new Uint8Array(GRAIN).fill(0x10 + grain));
  await disk.close();
  return contentOf(store);
}

/** The bytes with 32-bit words changed. */
function patched(bytes: Uint8Array, words: Record<number, number>): KeptStore {
  const copy = bytes.slice();
  for (const [at, value] of Object.entries(words)) new DataView(copy.buffer).setUint32(Number(at), value, true);
  return new KeptStore(copy);
}

test.each([
  ["dfvfs-ext2.vmdk", "a6c2f0e39afe6c6a", 4194304],
  ["plaso-image.vmdk", "854c3db1c4a07a24", 102400],
])("%s, made by QEMU", async (name, hash, size) => {
  const disk = await openDisk(new MemoryStore(dataFile(name), { readOnly: true }));
  expect(disk.describe()).toMatchObject({ format: "vmdk", size, clusterSize: GRAIN, dirty: false });
  const bytes = await readBytes(disk, 0, size);
  expect(createHash("sha256").update(bytes).digest("hex").slice(0, 16)).toBe(hash);
  expect(check(new MemoryStore(dataFile(name)))).toMatchObject({ corruptions: 0 });
});

test("grains come in the order in which they are written; both copies of the table name them", async () => {
  const bytes = await made();
  for (const table of [TABLE, COPY_TABLE]) {
    expect([0, 1, 2, 3].map((i) => word(bytes, table + i * 4))).toEqual([256, 384, 0, 128]);
  }
  expect(bytes[72]).toBe(0);
});

test("the unclean flag stands while the disk is open for writing; then unequal copies are made equal", async () => {
  const store = new KeptStore(await made());
  const disk = await open(store);
  await writeBytes(disk, 0, new Uint8Array(512).fill(1));
  expect(contentOf(store)[72]).toBe(1);
  await disk.close();
  expect(contentOf(store)[72]).toBe(0);
  const left = patched(contentOf(store), { [COPY_TABLE]: 0 });
  expect(check(left).problems).toMatchObject([{ kind: "copy" }]);
  const bytes = contentOf(left);
  bytes[72] = 1;
  const again = new KeptStore(bytes);
  const opened = await open(again);
  await writeBytes(opened, 512, new Uint8Array(512).fill(1));
  await opened.close();
  expect(check(again)).toMatchObject({ corruptions: 0, leaks: 0 });
});

describe("damage", () => {
  test("a directory outside the file: its copy is read, writes are refused, and repair goes over to it", async () => {
    const store = patched(await made(), { [DIRECTORY]: 0x7fffffff });
    const warnings: string[] = [];
    const onWarning = (message: string) => void warnings.push(message);
    const disk = await openDisk(store, { format: "vmdk", onWarning });
    expect(warnings.join()).toContain("copy is used");
    expect((await readBytes(disk, 3 * GRAIN, 1))[0]).toBe(0x13);
    await expect(writeBytes(disk, 0, new Uint8Array(512))).rejects.toMatchObject({ code: "CORRUPT" });
    await disk.close();
    expect(repair(store)).toMatchObject({ corruptions: 0 });
    const mended = await open(store);
    await writeBytes(mended, 5 * GRAIN, new Uint8Array(512).fill(9));
    expect((await readBytes(mended, GRAIN, 1))[0]).toBe(0x11);
    await mended.close();
    expect(check(store)).toMatchObject({ corruptions: 0 });
  });

  test("both directories outside the file, absurd sizes, damage by text transfer: refused", async () => {
    const bytes = await made();
    for (const [words, code] of [
      [{ [DIRECTORY]: 0x7fffffff, [COPY]: 0x7fffffff }, "CORRUPT"],
      [{ 16: 0x7fffffff }, "CORRUPT"],
      [{ 12: 0xffffffff, 16: 0xff }, "CORRUPT"],
      [{ 20: 3 }, "CORRUPT"],
      [{ 20: 0 }, "CORRUPT"],
      [{ 44: 0 }, "CORRUPT"],
      [{ 44: 0x80000000 }, "CORRUPT"],
      [{ 72: 0x0a0d0a00 }, "CORRUPT"],
      [{ 4: 4 }, "UNSUPPORTED"],
      [{ 8: 0x30001, 56: 0, 76: 0x10a }, "CORRUPT"],
    ] as const) {
      await expect(open(patched(bytes, words)), JSON.stringify(words)).rejects.toMatchObject({ code });
    }
    const afl = open(new KeptStore(dataFile("qemu-afl9.vmdk")));
    await expect(afl).rejects.toMatchObject({ code: "CORRUPT" });
  });

  test.each([
    ["over another grain", 128],
    ["into the header", 1],
    ["into its own table", 27],
    ["half into another grain", 192],
    ["past the end", 0x7fffff00],
  ])("an entry that points %s: nothing is written", async (_, sector) => {
    const store = patched(await made(), { [TABLE]: sector, [COPY_TABLE]: sector });
    const before = contentOf(store);
    const disk = await open(store);
    await expect(writeBytes(disk, 5 * GRAIN, new Uint8Array(512))).rejects.toMatchObject({ code: "CORRUPT" });
    await disk.close();
    expect(Buffer.compare(contentOf(store), before)).toBe(0);
    expect(check(store).problems.some(({ kind }) => kind === "structure")).toBe(true);
    expect(() => repair(store)).toThrow(expect.objectContaining({ code: "CORRUPT" }));
  });

  test("gaps are filled from the end", async () => {
    const bytes = await made();
    const store = patched(bytes, { [TABLE + 12]: 0, [COPY_TABLE + 12]: 0 });
    expect(check(store)).toMatchObject({ leaks: 1, corruptions: 0 });
    expect(repair(store, "leaks")).toMatchObject({ leaks: 0, corruptions: 0 });
    expect(store.size).toBe(bytes.length - GRAIN);
    const disk = await open(store, true);
    expect([(await readBytes(disk, 0, 1))[0], (await readBytes(disk, GRAIN, 1))[0]]).toEqual([0x10, 0x11]);
    await disk.close();
  });
});

test("a directory without tables, as others make it, gets one when it is written", async () => {
  const store = patched(await made({}, []), { [DIRECTORY]: 0, [COPY]: 0 });
  const disk = await open(store);
  await writeBytes(disk, GRAIN, new Uint8Array(GRAIN).fill(7));
  await disk.close();
  const again = await open(store);
  expect((await readBytes(again, GRAIN, 2 * GRAIN)).subarray(GRAIN - 1, GRAIN + 1)).toEqual(Uint8Array.of(7, 0));
  await again.close();
  expect(check(store)).toMatchObject({ corruptions: 0, allocatedClusters: 1 });
});

test("sizes at 4 GiB and past 2 TiB, odd ones, and what grows there", async () => {
  for (const size of [4 * GiB - 512, 4 * GiB, 4 * GiB + 512, 2 * TiB + 3 * 512]) {
    const store = new KeptStore();
    const disk = await createDisk(store, { format: "vmdk", size });
    const places = [...new Set([0, 4 * GiB - 1024, size - 512])];
    for (const [i, at] of places.entries()) await writeBytes(disk, at, new Uint8Array(512).fill(i + 1));
    await disk.resize(size + 40 * 2 ** 20);
    await writeBytes(disk, disk.size - 512, new Uint8Array(512).fill(99));
    await disk.close();
    const again = await open(store);
    expect(again.size).toBe(size + 40 * 2 ** 20);
    for (const [i, at] of places.entries()) expect((await readBytes(again, at, 512))[5]).toBe(i + 1);
    expect((await readBytes(again, again.size - 512, 1))[0]).toBe(99);
    expect((await readBytes(again, size, 512)).every((byte) => byte === 0)).toBe(true);
    await again.close();
    if (size < TiB) expect(check(store)).toMatchObject({ corruptions: 0 });
  }
}, 60_000);

test("over a parent: its CID must be the one that was noted", async () => {
  const parent = new KeptStore(await made());
  const store = new KeptStore();
  const child = await createOverlay(await open(parent, true), store, { format: "vmdk", parent: { path: "p.vmdk" } });
  await writeBytes(child, GRAIN + 512, new Uint8Array(512).fill(5));
  await writeZeroes(child, 0, 512);
  await child.close();
  const again = await openDisk(store, { backing: await open(parent, true) });
  expect(again.parent).toMatchObject({ paths: ["p.vmdk"], format: "vmdk" });
  const seen = async (at: number) => (await readBytes(again, at, 1))[0];
  expect([await seen(0), await seen(512), await seen(GRAIN), await seen(GRAIN + 512), await seen(3 * GRAIN)]).toEqual([
    0, 0x10, 0x11, 5, 0x13,
  ]);
  await again.close();
  const changed = await open(parent);
  await writeBytes(changed, 0, new Uint8Array(512));
  await changed.close();
  await expect(openDisk(store, { backing: await open(parent, true) })).rejects.toMatchObject({
    code: "CORRUPT",
    message: expect.stringContaining("is another disk than p.vmdk, or was changed"),
  });
});

test("kinds that are not supported are refused by name", async () => {
  const text = (content: string) => new KeptStore(new TextEncoder().encode(content.padEnd(1024, "\n")));
  for (const [store, said] of [[text("COWD"), "vmfsSparse"]] as const) {
    await expect(openDisk(store)).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: expect.stringContaining(said),
    });
  }
});
