import { describe, expect, test } from "vitest";
import type { Block } from "../../../src/core/block.ts";
import { discard, flush, readBytes, writeBytes, writeZeroes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { unzstd } from "../../../src/host/format/zstd.ts";
import { MemoryStore } from "../../../src/host/store/memory.ts";
import { dataFile } from "../../support/data.ts";
import { KeptStore } from "../../support/disks.ts";
import { MeteredStore } from "../../support/metered.ts";
import { check, hash } from "../../support/qcow2.ts";
import { contentOf } from "../../support/stores.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;
const TiB = 2 ** 40;

const parent = async (name: string, backing?: Block) =>
  openDisk(new MemoryStore(dataFile(name), { name, readOnly: true }), { backing });

describe("images of other products", () => {
  test.each([
    ["dfvfs-ext2.qcow2", 4194304, "a6c2f0e39afe6c6a"],
    ["dissect-qcow2_basic.qcow2", 536870912, "3c86a52ad19ebbe3"],
    ["dissect-qcow2_basic-zstd.qcow2", 536870912, "3c86a52ad19ebbe3"],
    ["plaso-image.qcow2", 102400, "a9c0220b1dadd181"],
    ["plaso-vsstest.qcow2", 1073741824, "5cba558cfac0916c"],
    ["backing-chain-3.qcow2", 536870912, "4a57a3a5c273c7c1"],
  ])("%s", async (name, size, expected) => {
    const disk = await parent(name);
    expect(disk.format).toBe("qcow2");
    expect(disk.size).toBe(size);
    expect(await hash(disk)).toBe(expected);
    expect(check(new MemoryStore(dataFile(name)))).toMatchObject({ corruptions: 0, leaks: 0 });
  });

  test("a chain of three", async () => {
    const third = await parent("backing-chain-3.qcow2");
    const second = await parent("backing-chain-2.qcow2", third);
    expect(second.describe()).toMatchObject({ backingFile: "backing-chain-3.qcow2" });
    expect(await hash(await parent("backing-chain-1.qcow2", second))).toBe("186334af67c1acb5");
    await expect(parent("backing-chain-1.qcow2")).rejects.toMatchObject({
      code: "NOT_FOUND",
      message: expect.stringContaining("backing-chain-2.qcow2"),
    });
  });
});

/** A small image with some data, and its bytes. */
async function made(options: Record<string, unknown> = {}, size = 8 * MiB): Promise<Uint8Array> {
  const store = new KeptStore();
  const disk = await createDisk(store, { format: "qcow2", size, ...options });
  await writeBytes(disk, 3 * MiB, new Uint8Array(4096).fill(0x5a));
  await disk.close();
  return contentOf(store);
}

const open = (bytes: Uint8Array, options = {}) => openDisk(new MemoryStore(bytes), { format: "qcow2", ...options });
/** The bytes with some of them changed. */
function edited(bytes: Uint8Array, at: number, value: bigint, width: 4 | 8 = 8): Uint8Array {
  const copy = bytes.slice();
  const view = new DataView(copy.buffer);
  if (width === 8) view.setBigUint64(at, value);
  else view.setUint32(at, Number(value));
  return copy;
}

describe("features", () => {
  test.each([
    [32, 4, 3n, "method 3"],
    [72, 8, 1n << 5n, "bit 5"],
    [72, 8, 1n << 63n, "bit 63"],
    [4, 4, 4n, "version 4"],
  ] as const)("byte %i of %i bytes as %i: refused by name (%s)", async (at, width, value, name) => {
    const bytes = await made();
    for (const readOnly of [false, true]) {
      await expect(open(edited(bytes, at, value, width), { readOnly })).rejects.toMatchObject({
        code: "UNSUPPORTED",
        message: expect.stringContaining(name),
      });
    }
  });

  test("a feature's own name is used, where the image gives one", async () => {
    const bytes = await made();
    // The name table's entry for bit 4 is made to be about bit 40.
    const names = Buffer.from(bytes).indexOf("extended L2 entries");
    bytes[names - 1] = 40;
    await expect(open(edited(bytes, 72, 1n << 40n))).rejects.toMatchObject({
      message: expect.stringContaining("extended L2 entries"),
    });
  });

  test("decoders of the caller's are used, and what they throw is named", async () => {
    const sample = dataFile("dissect-qcow2_basic-zstd.qcow2");
    let calls = 0;
    const zstd = (packed: Uint8Array, size: number) => {
      calls++;
      if (calls > 2) throw new Error("worn out");
      return unzstd(packed, size);
    };
    const reading = await open(sample, { readOnly: true, codecs: { zstd } });
    await expect(hash(reading)).rejects.toMatchObject({
      code: "CORRUPT",
      message: expect.stringContaining("worn out"),
      context: { structure: "compressed cluster" },
    });
    expect(calls).toBeGreaterThan(2);
  });

  test("an image marked as corrupt can be read, and not written", async () => {
    const bytes = edited(await made(), 72, 2n);
    await expect(open(bytes)).rejects.toMatchObject({ code: "CORRUPT" });
    const warnings: string[] = [];
    const disk = await open(bytes, { readOnly: true, onWarning: (text: string) => warnings.push(text) });
    expect(warnings).toEqual([expect.stringContaining("corrupt")]);
    expect((await readBytes(disk, 3 * MiB, 1))[0]).toBe(0x5a);
  });

  test("unknown compatible bits are ignored; autoclear bits stay until the first write", async () => {
    const bytes = edited(edited(await made(), 80, 1n << 44n), 88, 1n << 33n);
    const store = new KeptStore(bytes);
    const disk = await openDisk(store);
    await readBytes(disk, 0, 4096);
    const autoclear = () => new DataView(contentOf(store).buffer).getBigUint64(88);
    expect(autoclear()).toBe(1n << 33n);
    await writeBytes(disk, 0, new Uint8Array(512));
    expect(autoclear()).toBe(0n);
    expect(new DataView(contentOf(store).buffer).getBigUint64(80)).toBe(1n << 44n);
  });

  test("an external data file is asked for by name", async () => {
    const store = new KeptStore();
    await expect(createDisk(store, { format: "qcow2", size: MiB, dataFile: "data.bin" })).rejects.toMatchObject({
      code: "NOT_FOUND",
      message: expect.stringContaining("data.bin"),
    });
    const data = new KeptStore(MiB);
    const asked: unknown[] = [];
    const openFile = (name: string, readOnly: boolean) => {
      asked.push([name, readOnly]);
      return data;
    };
    const disk = await openDisk(store, { openFile });
    await writeBytes(disk, 4096, new Uint8Array(512).fill(7));
    await disk.close();
    expect(asked).toEqual([["data.bin", false]]);
    expect(contentOf(data)[4096]).toBe(7);
    expect(check(store)).toMatchObject({ corruptions: 0, leaks: 0, allocatedClusters: 1 });
  });
});

describe("damage names the structure and the place", () => {
  test.each<[string, number, bigint, 4 | 8, string]>([
    ["cluster_bits 8", 20, 8n, 4, "header"],
    ["cluster_bits 22", 20, 22n, 4, "header"],
    ["size 2^63", 24, 1n << 63n, 8, "header"],
    ["an L1 table of 2^32 - 1 entries", 36, 0xffffffffn, 4, "header"],
    ["no L1 table", 36, 0n, 4, "header"],
    ["an L1 table past the end", 40, 1n << 40n, 8, "header"],
    ["an L1 table that is not aligned", 40, 65536n + 512n, 8, "header"],
    ["an L1 table over the header", 40, 0n, 8, "header"],
    ["a refcount table past the end", 48, 1n << 62n, 8, "header"],
    ["no refcount table", 56, 0n, 4, "header"],
    ["a huge refcount table", 56, 0xffffffffn, 4, "header"],
    ["2^32 - 1 snapshots", 60, 0xffffffffn, 4, "header"],
    ["a snapshot table past the end", 60, 1n, 4, "header"],
    ["refcount_order 7", 96, 7n, 4, "header"],
    ["a header length of 1 GiB", 100, 1n << 30n, 4, "header"],
    ["a backing name past the cluster", 8, 65530n, 8, "header"],
  ])("%s", async (_name, at, value, width, structure) => {
    let bytes = await made();
    if (at === 8) bytes = edited(bytes, 16, 100n, 4);
    await expect(open(edited(bytes, at, value, width), { readOnly: true })).rejects.toMatchObject({
      code: "CORRUPT",
      context: { structure, offset: expect.any(Number) },
    });
  });

  const L1 = 65536;
  const tableOf = (bytes: Uint8Array) => Number(new DataView(bytes.buffer).getBigUint64(L1) & 0x00fffffffffffe00n);
  test.each<[string, (bytes: Uint8Array) => [number, bigint], string]>([
    ["an L2 table past the end", () => [L1, (1n << 63n) | (1n << 50n)], "L1 table"],
    ["an L2 table that is not aligned", () => [L1, (1n << 63n) | 0x30200n], "L1 table"],
    ["an L2 table over the L1 table", () => [L1, (1n << 63n) | 65536n], "L1 table"],
    ["a cluster past the end", (bytes) => [tableOf(bytes) + 48 * 8, (1n << 63n) | (1n << 50n)], "L2 table"],
    ["a cluster that is not aligned", (bytes) => [tableOf(bytes) + 48 * 8, (1n << 63n) | 0x30200n], "L2 table"],
    ["a cluster over the L1 table", (bytes) => [tableOf(bytes) + 48 * 8, (1n << 63n) | 65536n], "L2 table"],
    [
      "a compressed cluster past the end",
      (bytes) => [tableOf(bytes) + 48 * 8, (1n << 62n) | (1n << 45n)],
      "compressed cluster",
    ],
    [
      "a compressed cluster that is none",
      (bytes) => [tableOf(bytes) + 48 * 8, (1n << 62n) | 65536n],
      "compressed cluster",
    ],
  ])("%s fails its requests, and no others", async (_name, edit, structure) => {
    const bytes = await made({}, 2 * GiB);
    const [at, value] = edit(bytes);
    const disk = await open(edited(bytes, at, value));
    await expect(readBytes(disk, 3 * MiB, 512)).rejects.toMatchObject({
      code: "CORRUPT",
      context: { structure, offset: expect.any(Number) },
    });
    if (structure !== "compressed cluster") {
      await expect(writeBytes(disk, 3 * MiB, new Uint8Array(512))).rejects.toMatchObject({ code: "CORRUPT" });
    }
    expect((await readBytes(disk, GiB, 512))[0]).toBe(0);
    expect(check(new MemoryStore(edited(bytes, at, value))).corruptions).toBeGreaterThan(0);
  });

  test("a zero flag in version 2 is damage", async () => {
    const bytes = await made({ compat: "0.10" });
    const disk = await open(edited(bytes, tableOf(bytes) + 48 * 8, 1n));
    await expect(readBytes(disk, 3 * MiB, 512)).rejects.toMatchObject({ context: { structure: "L2 table" } });
  });

  test("metadata that its refcount calls free is never given away", async () => {
    const bytes = await made();
    const table = Number(new DataView(bytes.buffer).getBigUint64(48));
    const block = Number(new DataView(bytes.buffer).getBigUint64(table));
    bytes.fill(0, block, block + 65536);
    const store = new KeptStore(bytes);
    const disk = await openDisk(store);
    await expect(writeBytes(disk, 0, new Uint8Array(512).fill(1))).rejects.toMatchObject({
      code: "CORRUPT",
      message: expect.stringContaining("header"),
    });
    expect((await readBytes(disk, 3 * MiB, 1))[0]).toBe(0x5a);
  });
});

describe("large images", () => {
  test("64 TiB open with a few reads and a few MiB, and are written at both ends", async () => {
    const store = new MeteredStore();
    const size = 64 * TiB;
    await (await createDisk(store, { format: "qcow2", size })).close();
    store.reset();
    expect((await openDisk(store)).size).toBe(size);
    expect(store.reads).toBeLessThan(20);
    expect(store.bytesRead).toBeLessThan(1 << 20);
    const disk = await openDisk(store);
    for (const at of [0, 4 * GiB - 512, 2 * TiB - 4096, size - 8192])
      await writeBytes(disk, at, new Uint8Array(8192).fill(at % 251));
    for (const at of [0, 4 * GiB - 512, 2 * TiB - 4096, size - 8192]) {
      expect((await readBytes(disk, at, 8192)).every((byte) => byte === at % 251)).toBe(true);
    }
    await disk.close();
    expect(store.allocated).toBeLessThan(8 * MiB);
    expect(check(store)).toMatchObject({ corruptions: 0, leaks: 0 });
  });

  test("zeroing all of 64 TiB takes no space where there is nothing", async () => {
    const store = new KeptStore();
    const disk = await createDisk(store, { format: "qcow2", size: 64 * TiB });
    await writeZeroes(disk, 0, 64 * TiB);
    expect(store.size).toBeLessThan(4 * MiB);
  });

  test("the refcount table grows with the file", async () => {
    const store = new KeptStore();
    // A refcount block counts 64 clusters, the first table 64 blocks: 2 MiB.
    const disk = await createDisk(store, { format: "qcow2", size: 16 * MiB, clusterSize: 512, refcountBits: 64 });
    for (let at = 0; at < 12 * MiB; at += MiB) await writeBytes(disk, at, new Uint8Array(MiB).fill(1 + at / MiB));
    await disk.close();
    const table = new DataView(contentOf(store).buffer).getUint32(56);
    expect(table).toBeGreaterThan(1);
    expect(check(store)).toMatchObject({ corruptions: 0, leaks: 0 });
    const again = await openDisk(store);
    for (let at = 0; at < 12 * MiB; at += MiB) expect((await readBytes(again, at + 777, 1))[0]).toBe(1 + at / MiB);
  });
});

test("space that was discarded is used again", async () => {
  for (const compat of ["1.1", "0.10"]) {
    const store = new KeptStore();
    const disk = await createDisk(store, { format: "qcow2", size: 64 * MiB, compat });
    for (let round = 0; round < 6; round++) {
      await writeBytes(disk, 0, new Uint8Array(4 * MiB).fill(round + 1));
      await discard(disk, 0, 4 * MiB);
      expect((await readBytes(disk, MiB, 1))[0]).toBe(0);
      await writeBytes(disk, 32 * MiB, new Uint8Array(512).fill(1));
      await discard(disk, 32 * MiB, 65536);
      await flush(disk);
    }
    await disk.close();
    expect(store.size).toBeLessThan(10 * MiB);
    expect(check(store)).toMatchObject({ corruptions: 0, leaks: 0, allocatedClusters: 0 });
  }
});

test("creating refuses what cannot be", async () => {
  const refused = (options: Record<string, unknown>) =>
    expect(createDisk(new MemoryStore(), { format: "qcow2", size: MiB, ...options })).rejects.toMatchObject({
      code: "INVALID",
    });
  await refused({ clusterSize: 256 });
  await refused({ clusterSize: 4 * MiB });
  await refused({ clusterSize: 65537 });
  await refused({ refcountBits: 3 });
  await refused({ refcountBits: 128 });
  await refused({ compat: "2" });
  await refused({ compat: "0.10", extendedL2: true });
  await refused({ compat: "0.10", refcountBits: 8 });
  await refused({ extendedL2: true, clusterSize: 4096 });
  await refused({ preallocation: "full", backingFile: "x" });
  await refused({ preallocation: "some" });
  await refused({ dataFileRaw: true });
  await refused({ dataFile: "x", dataFileRaw: true, backingFile: "y" });
  await refused({ parent: { path: "x" }, backingFile: "x" });
  await refused({ backingFormat: "raw" });
  await refused({ backingFile: "x".repeat(1024) });
  await refused({ size: 256 * GiB, clusterSize: 512 });
  await refused({ compressionType: "lz4" });
});
