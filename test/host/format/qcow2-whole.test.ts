import { describe, expect, test } from "vitest";
import type { Block } from "../../../src/core/block.ts";
import { discard, flush, readBytes, writeBytes, writeZeroes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { qcow2 } from "../../../src/host/format/qcow2/index.ts";
import { openQcow2 } from "../../../src/host/format/qcow2/open.ts";
import { KeptStore } from "../../support/disks.ts";
import { MeteredStore } from "../../support/metered.ts";
import { packFills } from "../../support/pack.ts";
import { RecordingStore } from "../../support/power.ts";
import { check, now } from "../../support/qcow2.ts";
import { whole } from "../../support/qcow2-program.ts";
import { contentOf, LateStore, randomFrom } from "../../support/stores.ts";

const SECTOR = 512;
const MiB = 2 ** 20;
const GiB = 2 ** 30;
const TiB = 2 ** 40;
const CLUSTER = 65536;

async function made(size: number, options: Record<string, unknown> = {}): Promise<{ store: KeptStore; disk: Block }> {
  const store = new KeptStore();
  return { store, disk: await createDisk(store, { format: "qcow2", size, ...options }) };
}
const filled = (length: number, byte: number) => new Uint8Array(length).fill(byte);
const resize = (disk: Block, size: number) => whole(disk, (image) => image.resize!(size));
const pack = (disk: Block, at: number, byte: number) =>
  whole(disk, (image) => image.writePacked!(at, packFills(filled(image.packing!.unit, byte), image.packing!)));
const clean = { leaks: 0, corruptions: 0 };

describe("metadata that piles up", () => {
  test("is not written by allocating or zeroing: the image asks for it", async () => {
    const store = new RecordingStore();
    await (await createDisk(store, { format: "qcow2", size: 64 * MiB, clusterSize: 512 })).close();
    const image = now(openQcow2(store, {}));
    now(image.begin());
    const tables = () => {
      const { header } = image.volume;
      const l1 = { position: header.l1Position, end: header.l1Position + header.l1Size * 8 };
      return store.steps.filter(
        (step) => step.kind === "write" && step.position >= l1.position && step.position < l1.end,
      );
    };
    expect(image.crowded).toBe(false);
    const before = tables().length;
    for (let i = 0; i < 1200; i++) now(image.allocate(i * 32768, 512));
    for (let i = 0; i < 1200; i++) now(image.zero(i * 32768 + 1024, 1024));
    // An L2 table that L1 refers to on disk may be seen there; none is, as nobody has said that data is durable.
    expect(tables().length).toBe(before);
    expect(image.crowded).toBe(true);
  });

  test("is written by the engine in time, and every batch keeps its data", async () => {
    const kept = new KeptStore();
    const store = new LateStore(kept, 3);
    const disk = await createDisk(store, { format: "qcow2", size: 48 * MiB, clusterSize: 512 });
    const random = randomFrom(8);
    const model = new Map<number, number>();
    const guest = async (mine: number) => {
      for (let i = 0; i < 220; i++) {
        // Guests share clusters' neighbours and tables, but no sector.
        const sector = Math.floor((random() * 48 * MiB) / SECTOR / 4) * 4 + mine;
        const kind = random();
        if (kind < 0.8) {
          const byte = 1 + Math.floor(random() * 250);
          model.set(sector, byte);
          await writeBytes(disk, sector * SECTOR, filled(SECTOR, byte));
        } else if (kind < 0.95) {
          model.set(sector, 0);
          await writeZeroes(disk, sector * SECTOR, SECTOR);
        } else if (kind < 0.97) await flush(disk);
        else if (mine === 0) await whole(disk, (image) => image.snapshots!.create({ name: `${i}` }));
      }
    };
    await Promise.all([0, 1, 2, 3].map(guest));
    expect(store.mostInFlight).toBeGreaterThan(1);
    for (const [sector, byte] of model) expect((await readBytes(disk, sector * SECTOR, 1))[0]).toBe(byte);
    await disk.close();
    expect(check(kept)).toMatchObject(clean);
    const again = await openDisk(kept, { readOnly: true });
    for (const [sector, byte] of model) expect((await readBytes(again, sector * SECTOR, 1))[0]).toBe(byte);
  });
});

describe("compressed clusters", () => {
  test("a host cluster that was given up is not packed into any more", async () => {
    const { store, disk } = await made(4 * MiB);
    await pack(disk, 0, 1);
    await flush(disk);
    await discard(disk, 0, CLUSTER);
    await flush(disk);
    await flush(disk);
    // Takes the place that the packed cluster had.
    await writeBytes(disk, MiB, filled(CLUSTER, 7));
    await pack(disk, CLUSTER, 2);
    expect((await readBytes(disk, MiB, CLUSTER)).every((byte) => byte === 7)).toBe(true);
    expect((await readBytes(disk, CLUSTER, CLUSTER)).every((byte) => byte === 2)).toBe(true);
    await disk.close();
    expect(check(store)).toMatchObject({ ...clean, compressedClusters: 1, allocatedClusters: 2 });
  });

  test("share host clusters, as many as a refcount can count", async () => {
    for (const [refcountBits, most] of [
      [1, 1],
      [2, 3],
      [4, 15],
      [16, 40],
    ]) {
      const { store, disk } = await made(4 * MiB, { refcountBits });
      for (let i = 0; i < 40; i++) await pack(disk, i * CLUSTER, i + 1);
      await disk.close();
      const clusters = Math.ceil(store.size / CLUSTER) - 5;
      expect(clusters).toBeLessThanOrEqual(Math.ceil(40 / most) + 1);
      expect(check(store)).toMatchObject({ ...clean, compressedClusters: 40 });
      const again = await openDisk(store);
      for (let i = 0; i < 40; i++) expect((await readBytes(again, i * CLUSTER + 999, 1))[0]).toBe(i + 1);
    }
  });

  test("refused: what is not a cluster, or not smaller", async () => {
    const { disk } = await made(MiB + SECTOR);
    const refused = (at: number, bytes: number) =>
      expect(whole(disk, (image) => image.writePacked!(at, new Uint8Array(bytes)))).rejects.toMatchObject({
        code: "INVALID",
      });
    await refused(512, 10);
    await refused(2 * MiB, 10);
    await refused(0, 0);
    await refused(0, CLUSTER);
    await whole(disk, (image) => image.writePacked!(MiB, packFills(filled(CLUSTER, 0), image.packing!)));
  });

  test("an image with a data file has none", async () => {
    const openFile = () => new KeptStore(MiB);
    const disk = await createDisk(new KeptStore(), { format: "qcow2", size: MiB, dataFile: "d", openFile });
    await whole(disk, function* (image) {
      expect([image.packing, image.writePacked]).toEqual([undefined, undefined]);
    });
  });
});

describe("the size", () => {
  test("smaller: gives back what lies past the end, and the end of the file", async () => {
    for (const clusterSize of [4096, CLUSTER]) {
      const { store, disk } = await made(40 * MiB, { clusterSize });
      await writeBytes(disk, 0, filled(30 * MiB, 5));
      await resize(disk, 3 * MiB + SECTOR);
      expect((await readBytes(disk, 3 * MiB, SECTOR))[0]).toBe(5);
      await disk.close();
      const stored = Math.ceil((3 * MiB + SECTOR) / clusterSize);
      expect(check(store)).toMatchObject({ ...clean, totalClusters: stored, allocatedClusters: stored });
      expect(store.size).toBeLessThan(4 * MiB);
    }
  });

  test("larger, up to 64 TiB, and back to nothing", async () => {
    const { store, disk } = await made(MiB);
    await writeBytes(disk, 0, filled(MiB, 1));
    await resize(disk, 64 * TiB);
    await writeBytes(disk, 64 * TiB - SECTOR, filled(SECTOR, 2));
    expect((await readBytes(disk, 64 * TiB - SECTOR, 1))[0]).toBe(2);
    await resize(disk, 0);
    await resize(disk, 2 * MiB);
    expect((await readBytes(disk, 0, 2 * MiB)).some((byte) => byte !== 0)).toBe(false);
    await disk.close();
    expect(check(store)).toMatchObject({ ...clean, allocatedClusters: 0 });
  });

  test("refused by name", async () => {
    const { disk } = await made(MiB, { clusterSize: 512 });
    await expect(resize(disk, 1000)).rejects.toMatchObject({ code: "INVALID" });
    await expect(resize(disk, -512)).rejects.toMatchObject({ code: "INVALID" });
    await expect(resize(disk, TiB)).rejects.toMatchObject({ code: "INVALID", message: /clusters of 512/ });
    const parent = await createDisk(new KeptStore(), { format: "raw", size: 2 * MiB });
    const over = { compat: "0.10", parent: { path: "p", format: "raw" }, backing: parent };
    const { disk: v2 } = await made(MiB, over);
    await expect(resize(v2, 2 * MiB)).rejects.toMatchObject({ code: "UNSUPPORTED", message: /parent/ });
    await resize(v2, MiB / 2);
  });
});

describe("snapshots", () => {
  test("do not make the file grow without end", async () => {
    const { store, disk } = await made(GiB);
    for (let i = 0; i < 40; i++) {
      await writeBytes(disk, (i % 4) * MiB, filled(CLUSTER, i + 1));
      await whole(disk, (image) => image.snapshots!.create({ name: `${i}` }));
      if (i >= 3) await whole(disk, (image) => image.snapshots!.delete(`${i - 3}`));
    }
    await disk.close();
    expect(store.size).toBeLessThan(40 * CLUSTER);
    expect(check(store)).toMatchObject(clean);
  });

  test("are found by id, then by name; those of a data file are refused", async () => {
    const { disk } = await made(MiB);
    const kept = await whole(disk, (image) => image.snapshots!.create({ name: "a", date: 86400000 }));
    expect(kept).toEqual({ id: "1", name: "a", date: 86400000, diskSize: MiB, stateSize: 0, clock: 0n });
    await expect(whole(disk, (image) => image.snapshots!.apply("b"))).rejects.toMatchObject({ code: "NOT_FOUND" });
    await whole(disk, (image) => image.snapshots!.delete("a"));
    const openFile = () => new KeptStore(MiB);
    const external = await createDisk(new KeptStore(), { format: "qcow2", size: MiB, dataFile: "d", openFile });
    await expect(whole(external, (image) => image.snapshots!.create({ name: "x" }))).rejects.toMatchObject({
      code: "UNSUPPORTED",
    });
  });

  test("refcounts of one bit cannot count two", async () => {
    const { store, disk } = await made(MiB, { refcountBits: 1 });
    await writeBytes(disk, 0, filled(MiB, 3));
    await expect(whole(disk, (image) => image.snapshots!.create({ name: "a" }))).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: /references/,
    });
    // And the image is as it was.
    await writeBytes(disk, 0, filled(SECTOR, 4));
    await disk.close();
    expect(check(store)).toMatchObject(clean);
  });
});

describe("the parent's name", () => {
  test("other extensions are kept, and what has no room is refused", async () => {
    const { store, disk } = await made(MiB, {
      clusterSize: 512,
      parent: { path: "a", format: "raw" },
      backing: await raw(),
    });
    await whole(disk, (image) => image.setParent!({ path: "b".repeat(300), format: "vhd" }));
    expect(now(openQcow2(store, {})).parent).toEqual({ paths: ["b".repeat(300)], format: "vhd", identities: [] });
    await expect(
      whole(disk, (image) => image.setParent!({ path: "c".repeat(500), format: "raw" })),
    ).rejects.toMatchObject({ code: "UNSUPPORTED" });
    expect(disk.size).toBe(MiB);
    await expect(whole(disk, (image) => image.setParent!({ path: "" }))).rejects.toMatchObject({ code: "INVALID" });

    // An extension that nobody here knows stands before the end marker.
    const bytes = contentOf((await made(MiB)).store).slice();
    const view = new DataView(bytes.buffer);
    const names = bytes.slice(112, 112 + 8 + view.getUint32(116));
    bytes.fill(0, 112, 600);
    view.setUint32(112, 0x12345678);
    view.setUint32(116, 5);
    bytes.set([1, 2, 3, 4, 5], 120);
    bytes.set(names, 128);
    const kept = new KeptStore(bytes);
    const other = await openDisk(kept);
    await whole(other, (image) => image.setParent!({ path: "parent", format: "qcow2" }));
    const after = Buffer.from(contentOf(kept).subarray(0, 2048));
    expect(after.indexOf(Buffer.from([0x12, 0x34, 0x56, 0x78, 0, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0]))).toBeGreaterThan(0);
    expect(after.indexOf("compression type")).toBeGreaterThan(0);
    expect(after.indexOf("parent")).toBeGreaterThan(0);
  });
  const raw = () => createDisk(new KeptStore(), { format: "raw", size: MiB });
});

describe("lazy refcounts", () => {
  test("the dirty bit stands from before the first change until the end", async () => {
    const store = new RecordingStore();
    await (await createDisk(store, { format: "qcow2", size: MiB, lazyRefcounts: true })).close();
    const dirty = () => contentOf(store)[79] & 1;
    const disk = await openDisk(store);
    await readBytes(disk, 0, SECTOR);
    expect(dirty()).toBe(0);
    const from = store.steps.length;
    await writeBytes(disk, 0, filled(SECTOR, 1));
    expect(dirty()).toBe(1);
    // Set durably before anything else.
    expect(store.steps.slice(from, from + 2)).toMatchObject([{ kind: "write", position: 72 }, { kind: "flush" }]);
    await flush(disk);
    expect(check(store).corruptions).toBeGreaterThan(0);
    await whole(disk, (image) => image.snapshots!.create({ name: "a" }));
    expect(dirty()).toBe(1);
    await disk.close();
    expect(dirty()).toBe(0);
    expect(check(store)).toMatchObject(clean);
  });
});

describe("large images", () => {
  test.each([
    [{}, 64 * TiB],
    [{ extendedL2: true }, 64 * TiB],
    [{ clusterSize: 2 * MiB }, 4096 * TiB],
    [{ clusterSize: 512 }, 128 * GiB],
  ])("%j of %i bytes opens with a few reads and a few MiB", async (options, size) => {
    const store = new MeteredStore();
    await (await createDisk(store, { format: "qcow2", size, ...options })).close();
    store.reset();
    const image = now(openQcow2(store, {}));
    expect(image.size).toBe(size);
    expect(store.reads).toBeLessThan(5);
    expect(store.bytesRead).toBeLessThan(3 * MiB);
    expect(image.volume.tables.mapper.memory.length).toBeLessThan(8 * MiB);
  });
});

test("refcounts of every width count what they must", async () => {
  for (const refcountBits of [1, 2, 4, 8, 16, 32, 64]) {
    const { store, disk } = await made(9 * MiB, { clusterSize: 4096, refcountBits });
    await writeBytes(disk, 0, filled(6 * MiB, 1));
    await discard(disk, MiB, MiB);
    if (refcountBits > 1) await whole(disk, (image) => image.snapshots!.create({ name: "a" }));
    await writeBytes(disk, 0, filled(2 * MiB, 2));
    if (refcountBits > 1) await whole(disk, (image) => image.snapshots!.delete("a"));
    await disk.close();
    expect(check(store)).toMatchObject({ ...clean, allocatedClusters: 1536 });
  }
});

test("what is measured is what it takes", async () => {
  for (const options of [{}, { clusterSize: 512 }, { extendedL2: true }]) {
    const size = 20 * MiB + SECTOR;
    const { unit, bytes } = qcow2.measure!({ size, ...options });
    const { store, disk } = await made(size, options);
    await writeBytes(disk, 0, filled(size, 9));
    await disk.close();
    expect(store.size).toBeLessThanOrEqual(bytes(Math.ceil(size / unit)) + 8 * unit);
    expect(store.size).toBeGreaterThan(bytes(Math.ceil(size / unit)) * 0.98);
  }
});
