import { deflateRawSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { readBytes, writeBytes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { repairQcow2 } from "../../../src/host/format/qcow2/check.ts";
import { openQcow2 } from "../../../src/host/format/qcow2/open.ts";
import { amendDisk } from "../../../src/host/image/amend.ts";
import { createSnapshot } from "../../../src/host/image/snapshot.ts";
import { MemoryStore } from "../../../src/host/store/memory.ts";
import { KeptStore } from "../../support/disks.ts";
import { check, now } from "../../support/qcow2.ts";
import { whole } from "../../support/qcow2-program.ts";
import { contentOf } from "../../support/stores.ts";

const MiB = 2 ** 20;
const CLUSTER = 65536;

async function made(options: Record<string, unknown> = {}, size = 8 * MiB): Promise<Uint8Array> {
  const store = new KeptStore();
  const disk = await createDisk(store, { format: "qcow2", size, ...options });
  await writeBytes(disk, 3 * MiB, new Uint8Array(4096).fill(0x5a));
  await disk.close();
  return contentOf(store).slice();
}
const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer);
/** Where the entry of the cluster at 3 MiB is. */
function entryAt(bytes: Uint8Array): number {
  const l1 = Number(viewOf(bytes).getBigUint64(40));
  return Number(viewOf(bytes).getBigUint64(l1) & 0x00fffffffffffe00n) + 48 * 8;
}
const open = (bytes: Uint8Array, options = {}) => openDisk(new KeptStore(bytes), { format: "qcow2", ...options });

describe("repair", () => {
  test.each([
    ["dirty", 1n],
    ["corrupt", 2n],
    ["both", 3n],
  ])("an image that is sound is not called %s any more", async (_name, bits) => {
    const bytes = await made();
    viewOf(bytes).setBigUint64(72, bits);
    const store = new KeptStore(bytes);
    expect(now(repairQcow2(store, "all"))).toMatchObject({ leaks: 0, corruptions: 0 });
    expect(viewOf(contentOf(store)).getBigUint64(72)).toBe(0n);
    await writeBytes(await openDisk(store), 0, new Uint8Array(512));
  });

  test("giving leaks back leaves the corrupt bit, and mends the counts of a dirty image", async () => {
    const bytes = await made();
    const view = viewOf(bytes);
    view.setBigUint64(72, 3n);
    const block = Number(view.getBigUint64(Number(view.getBigUint64(48))));
    view.setUint16(block + 2, 0);
    view.setUint16(block + 100, 7);
    const store = new KeptStore(bytes);
    expect(check(store)).toMatchObject({ leaks: 1, corruptions: 1 });
    expect(now(repairQcow2(store, "leaks"))).toMatchObject({ leaks: 0, corruptions: 0 });
    expect(viewOf(contentOf(store)).getBigUint64(72)).toBe(2n);
  });
});

describe("snapshots that do not say how large their disk is", () => {
  /** As programs before version 3 wrote them. */
  async function old(compat: string): Promise<Uint8Array> {
    const store = new KeptStore(await made({ compat: "1.1" }));
    const disk = await openDisk(store);
    await createSnapshot(disk, { name: "then" });
    await createSnapshot(disk, { name: "later" });
    await disk.close();
    const bytes = contentOf(store).slice();
    let at = Number(viewOf(bytes).getBigUint64(64));
    const extra = viewOf(bytes).getUint32(at + 36);
    const names = viewOf(bytes).getUint16(at + 12) + viewOf(bytes).getUint16(at + 14);
    bytes.copyWithin(at + 40, at + 40 + extra, at + 40 + extra + names);
    viewOf(bytes).setUint32(at + 36, 0);
    const [length, before] = [40 + names, 40 + extra + names].map((size) => Math.ceil(size / 8) * 8);
    bytes.copyWithin(at + length, at + before, at + before + 256);
    at += length;
    expect(viewOf(bytes).getUint32(at + 36)).toBe(extra);
    if (compat === "0.10") viewOf(bytes).setUint32(4, 2);
    return bytes;
  }
  const sizes = (store: KeptStore) => now(openQcow2(store, {})).volume.snapshots.map(({ diskSize }) => diskSize);

  test("are an error in version 3, which a repair mends", async () => {
    const store = new KeptStore(await old("1.1"));
    expect(check(store)).toMatchObject({ corruptions: 1, leaks: 0 });
    expect(now(repairQcow2(store, "all"))).toMatchObject({ corruptions: 0, leaks: 0 });
    expect(sizes(store)).toEqual([8 * MiB, 8 * MiB]);
  });

  test("are none in version 2, and say it from the change to version 3 on", async () => {
    const store = new KeptStore(await old("0.10"));
    expect(check(store)).toMatchObject({ corruptions: 0, leaks: 0 });
    const disk = await openDisk(store);
    await amendDisk(disk, { compat: "1.1" });
    await disk.close();
    expect(sizes(store)).toEqual([8 * MiB, 8 * MiB]);
    expect(check(store)).toMatchObject({ corruptions: 0, leaks: 0 });
  });
});

describe("headers of other writers", () => {
  test("a size that is not whole sectors ends at the last whole one, as for QEMU", async () => {
    const bytes = await made();
    viewOf(bytes).setBigUint64(24, BigInt(5 * MiB + 700));
    expect((await open(bytes)).size).toBe(5 * MiB + 512);
  });

  test("a longer header's unknown fields are kept", async () => {
    // 24 bytes more than are known here; the extensions move behind them.
    const bytes = await made();
    bytes.copyWithin(136, 112, 600);
    bytes.fill(0x77, 112, 136);
    viewOf(bytes).setUint32(100, 136);
    const store = new KeptStore(bytes);
    const disk = await openDisk(store);
    await writeBytes(disk, 0, new Uint8Array(512).fill(1));
    await whole(disk, (image) => image.snapshots!.create({ name: "a" }));
    await whole(disk, (image) => image.setParent!({ path: "p", format: "raw" }));
    await disk.close();
    expect(
      contentOf(store)
        .subarray(112, 136)
        .every((byte) => byte === 0x77),
    ).toBe(true);
    expect(now(openQcow2(store, {})).parent).toMatchObject({ paths: ["p"], format: "raw" });
  });

  test("version 2 ends after 72 bytes: what follows is not flags", async () => {
    const bytes = await made({ compat: "0.10" });
    // An extension of an unknown type, where version 3 has its feature bits.
    viewOf(bytes).setUint32(72, 0x7fffffff);
    viewOf(bytes).setUint32(76, 8);
    bytes.fill(0xff, 80, 88);
    expect((await readBytes(await open(bytes), 3 * MiB, 1))[0]).toBe(0x5a);
  });

  test("a feature is called what the image calls it, also where the list is cut off behind the name", async () => {
    const bytes = await made();
    const name = new TextEncoder().encode("time travel");
    viewOf(bytes).setBigUint64(72, 1n << 40n);
    viewOf(bytes).setUint32(112, 0x6803f857);
    viewOf(bytes).setUint32(116, 2 + name.length);
    bytes.set([0, 40, ...name], 120);
    bytes.fill(0, 122 + name.length, 200);
    await expect(open(bytes)).rejects.toMatchObject({ message: expect.stringContaining('"time travel" (bit 40)') });
  });

  test.each([
    ["host_device", "raw"],
    ["file", "raw"],
    ["vpc", "vhd"],
    ["qcow2", "qcow2"],
  ])("a parent of QEMU's %s is our %s", async (theirs, ours) => {
    const backing = await createDisk(new KeptStore(), { format: "raw", size: MiB });
    const store = new KeptStore();
    await createDisk(store, { format: "qcow2", size: MiB, backingFile: "p", backingFormat: theirs, backing });
    const image = now(openQcow2(store, {}));
    expect(image.parent).toEqual({ paths: ["p"], format: ours, identities: [] });
    expect(image.describe()).toMatchObject({ backingFormat: theirs });
  });
});

describe("hostile images", () => {
  test("a cluster that unpacks to 64 MiB stops at its own size", async () => {
    const bytes = await made();
    const bomb = deflateRawSync(new Uint8Array(64 * MiB), { level: 9 });
    const grown = new Uint8Array(bytes.length + 2 * CLUSTER);
    grown.set(bytes);
    grown.set(bomb.subarray(0, CLUSTER), bytes.length);
    const sectors = BigInt(Math.ceil(Math.min(bomb.length, CLUSTER) / 512) - 1);
    viewOf(grown).setBigUint64(entryAt(bytes), (1n << 62n) | (sectors << 54n) | BigInt(bytes.length));
    let asked = 0;
    const deflate = (_packed: Uint8Array, size: number) => {
      asked = size;
      return new Uint8Array(size);
    };
    await readBytes(await open(grown, { codecs: { deflate } }), 3 * MiB, 512);
    expect(asked).toBe(CLUSTER);
    // As QEMU does: what does not fit into the cluster is never unpacked.
    const whole = await readBytes(await open(grown), 3 * MiB, CLUSTER);
    expect(whole.some((byte) => byte !== 0)).toBe(false);
  });

  test("two guests' clusters in one place, and tables in a loop: found by check, and parted by a repair", async () => {
    const bytes = await made({}, 2 ** 30);
    const view = viewOf(bytes);
    const l1 = Number(view.getBigUint64(40));
    for (const [name, edit] of [
      ["an L2 table under two entries", () => view.setBigUint64(l1 + 8, view.getBigUint64(l1))],
      ["an L2 table that is its own cluster", () => view.setBigUint64(entryAt(bytes), view.getBigUint64(l1))],
      ["a cluster in the refcount table", () => view.setBigUint64(entryAt(bytes), (1n << 63n) | view.getBigUint64(48))],
    ] as const) {
      const before = bytes.slice();
      edit();
      const damaged = bytes.slice();
      bytes.set(before);
      expect(check(new MemoryStore(damaged)).corruptions, name).toBeGreaterThan(0);
      const store = new KeptStore(damaged);
      expect(() => now(repairQcow2(store, "leaks")), name).toThrow(expect.objectContaining({ code: "CORRUPT" }));
      expect(Buffer.compare(contentOf(store), damaged), name).toBe(0);
      expect(now(repairQcow2(store, "all")), name).toMatchObject({ corruptions: 0, leaks: 0 });
      const disk = await openDisk(store);
      await writeBytes(disk, 0, new Uint8Array(2 ** 20).fill(3));
      await disk.close();
      expect(check(store), name).toMatchObject({ corruptions: 0, leaks: 0 });
    }
  });

  test("absurd sizes cost nothing", async () => {
    const bytes = await made();
    for (const size of [2n ** 63n, 2n ** 53n, 2n ** 60n + 512n]) {
      const copy = bytes.slice();
      viewOf(copy).setBigUint64(24, size);
      await expect(open(copy)).rejects.toMatchObject({ code: "CORRUPT", context: { structure: "header" } });
    }
  });
});
