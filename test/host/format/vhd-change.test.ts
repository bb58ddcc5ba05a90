import { describe, expect, test } from "vitest";
import type { Flow } from "../../../src/core/flow.ts";
import type { Image } from "../../../src/core/format.ts";
import { flush, readBytes, writeBytes } from "../../../src/host/block/bytes.ts";
import type { Engine } from "../../../src/host/block/engine.ts";
import { createDisk, type Disk, openDisk } from "../../../src/host/block/open.ts";
import { checksum } from "../../../src/host/format/vhd/footer.ts";
import { vhd } from "../../../src/host/format/vhd/index.ts";
import { KeptStore } from "../../support/disks.ts";
import { RecordingStore } from "../../support/power.ts";
import { contentOf } from "../../support/stores.ts";
import { createChild, GiB, MiB, openChild, SECTOR } from "../../support/vhd.ts";

const whole = (disk: Disk, work: (image: Image) => Flow) => (disk as unknown as Engine).exclusive(work);
const fills = async (disk: Disk, offset: number, length: number) => [...new Set(await readBytes(disk, offset, length))];

/** A parent of 6 MiB full of 0xaa, and a child with sector 9 of block 1 written. */
async function family(size = 6 * MiB) {
  const [parent, child] = [new KeptStore(), new RecordingStore()];
  const base = await createDisk(parent, { format: "vhd", size: 6 * MiB });
  await writeBytes(base, 0, new Uint8Array(6 * MiB).fill(0xaa));
  const uuid = String(base.describe().uuid);
  await base.close();
  const behind = () => openDisk(parent, { readOnly: true });
  const disk = await createChild(child, behind, { size });
  await writeBytes(disk, 2 * MiB + 9 * SECTOR, new Uint8Array(SECTOR).fill(0xbb));
  return { parent, child, behind, disk, uuid };
}

describe("resizing", () => {
  test("a table that must grow over the first block moves that to the end", async () => {
    const store = new KeptStore();
    const disk = await createDisk(store, { format: "vhd", size: 256 * MiB });
    await writeBytes(disk, 0, new Uint8Array(4096).fill(1));
    await writeBytes(disk, 4 * MiB, new Uint8Array(4096).fill(2));
    const before = store.size;
    await disk.resize(300 * GiB);
    // The table's 600 KiB take the place of the first block, which moves to where 4 KiB of it are 4 KiB of the file.
    expect(store.size - before).toBe(2 * MiB + 4096);
    const [{ position }] = await disk.places(0, 4096);
    expect(position! % 4096).toBe(0);
    await writeBytes(disk, 300 * GiB - 4096, new Uint8Array(4096).fill(3));
    await disk.close();
    const again = await openDisk(store);
    expect(again.size).toBe(300 * GiB);
    expect(again.describe()).toMatchObject({ tableEntries: 153_600 });
    for (const [at, value] of [
      [0, 1],
      [4 * MiB, 2],
      [300 * GiB - 4096, 3],
    ]) {
      expect(await fills(again, at, 4096)).toEqual([value]);
    }
  });

  test("what was cut off does not come back", async () => {
    for (const options of [{}, { subformat: "fixed" }]) {
      const store = new KeptStore();
      const disk = await createDisk(store, { format: "vhd", size: 10 * MiB, ...options });
      await writeBytes(disk, 0, new Uint8Array(10 * MiB).fill(7));
      await disk.resize(3 * MiB + SECTOR);
      expect(store.size).toBeLessThan(5 * MiB);
      await disk.resize(10 * MiB);
      expect(await fills(disk, 0, 3 * MiB + SECTOR)).toEqual([7]);
      expect(await fills(disk, 3 * MiB + SECTOR, 7 * MiB - SECTOR)).toEqual([0]);
    }
  });

  test("sizes that cannot be are refused, and change nothing", async () => {
    for (const options of [{}, { subformat: "fixed" }]) {
      const store = new KeptStore();
      const disk = await createDisk(store, { format: "vhd", size: MiB, ...options });
      const before = contentOf(store);
      for (const size of [0, -512, 1000, 2040 * GiB + 512, Number.NaN, 0.5]) {
        await expect(disk.resize(size)).rejects.toMatchObject({ code: "INVALID" });
      }
      expect(contentOf(store)).toEqual(before);
    }
  });

  test("the geometry's disks get a name that says the size to the byte", async () => {
    const store = new KeptStore();
    const disk = await createDisk(store, { format: "vhd", size: 100 * MiB, forceSize: false });
    // As qemu-img makes it: the next size that a geometry says.
    expect(disk.size).toBe(1024 * 12 * 17 * 512 > 100 * MiB ? disk.size : 0);
    expect(disk.size % (17 * 512)).toBe(0);
    expect(disk.describe()).toMatchObject({ creator: "qemu" });
    await disk.resize(101 * MiB + SECTOR);
    expect(disk.size).toBe(101 * MiB + SECTOR);
    expect(disk.describe()).toMatchObject({ creator: "qem2" });
  });

  test("a differencing disk grows with zeros, unless its parent would show", async () => {
    const { disk, child, behind } = await family();
    await disk.resize(7 * MiB);
    expect(await fills(disk, 6 * MiB, MiB)).toEqual([0]);
    await disk.resize(5 * MiB);
    await expect(disk.resize(6 * MiB)).rejects.toMatchObject({ code: "UNSUPPORTED", message: /parent/ });
    await disk.close();
    const again = await openChild(child, behind);
    expect(again.size).toBe(5 * MiB);
    expect(await fills(again, 4 * MiB, MiB)).toEqual([0xaa]);
    expect(await fills(again, 2 * MiB + 9 * SECTOR, SECTOR)).toEqual([0xbb]);
  });

  test("a differencing disk's table grows over its parent's locators, which move", async () => {
    const { disk, child, behind } = await family();
    const paths = (disk.describe().parent as { paths: string[] }).paths;
    await disk.resize(600 * GiB);
    await writeBytes(disk, 600 * GiB - SECTOR, new Uint8Array(SECTOR).fill(1));
    await disk.close();
    const warnings: string[] = [];
    const backing = await behind();
    const again = await openDisk(child, { backing, onWarning: (text) => warnings.push(text) });
    expect(warnings).toEqual([]);
    expect((again.describe().parent as { paths: string[] }).paths).toEqual(paths);
    expect(await fills(again, 600 * GiB - SECTOR, SECTOR)).toEqual([1]);
    expect(await fills(again, 2 * MiB + 9 * SECTOR, SECTOR)).toEqual([0xbb]);
    expect(await fills(again, 0, MiB)).toEqual([0xaa]);
  });
});

describe("parents", () => {
  const reopened = async (child: KeptStore, behind: () => Promise<Disk>) => (await openChild(child, behind)).describe();

  test("another is noted with both its paths, its UUID and its time", async () => {
    const { disk, child, behind, uuid } = await family();
    const path = "..\\base images\\Käse.vhd";
    const modified = 1_700_000_000;
    for (const round of [1, 2, 3]) {
      const absolutePath = `D:\\${"long ".repeat(round)}\\base images\\Käse.vhd`;
      await whole(disk, (image) => image.setParent!({ path, absolutePath, identity: uuid, modified }));
      expect((await reopened(child, behind)).parent).toMatchObject({ uuid, paths: [path, absolutePath] });
    }
    expect(await fills(disk, 2 * MiB + 9 * SECTOR, SECTOR)).toEqual([0xbb]);
    const bytes = contentOf(child);
    const view = new DataView(bytes.buffer);
    expect(view.getUint32(512 + 56)).toBe(modified - 946_684_800);
    expect(view.getUint32(512 + 36)).toBe(checksum(bytes.subarray(512, 1536), 36));
    // The texts stay where there is room for them.
    const { size } = child;
    await whole(disk, (image) => image.setParent!({ path, identity: uuid }));
    expect(child.size).toBe(size);
  });

  test("none: what was the parent's is zeros, for readers that ignore bitmaps too", async () => {
    const { disk, child } = await family();
    await whole(disk, (image) => image.setParent!(undefined));
    await disk.close();
    const again = await openDisk(child);
    expect(again.describe()).toMatchObject({ subformat: "dynamic" });
    expect(await fills(again, 0, 2 * MiB + 9 * SECTOR)).toEqual([0]);
    expect(await fills(again, 2 * MiB + 9 * SECTOR, SECTOR)).toEqual([0xbb]);
    const bytes = contentOf(child);
    const block = new DataView(bytes.buffer).getUint32(1540) * 512;
    expect([...new Set(bytes.subarray(block, block + 512))]).toEqual([0xff]);
  });

  test("one for a disk that had none", async () => {
    const { parent, uuid } = await family();
    const store = new KeptStore();
    const disk = await createDisk(store, { format: "vhd", size: 6 * MiB });
    await writeBytes(disk, 0, new Uint8Array(SECTOR).fill(1));
    await whole(disk, (image) => image.setParent!({ path: "base.vhd", identity: uuid }));
    await disk.close();
    const again = await openChild(store, () => openDisk(parent, { readOnly: true }));
    expect(await fills(again, 0, SECTOR)).toEqual([1]);
    expect(await fills(again, 2 * MiB, 4 * MiB)).toEqual([0xaa]);
  });

  test("a raw parent has no UUID, and its format is said", async () => {
    const raw = new KeptStore(new Uint8Array(MiB).fill(0x55));
    const backing = await openDisk(raw, { format: "raw", readOnly: true });
    const store = new KeptStore();
    const parent = { path: "disk.img", format: "raw" };
    const disk = await createDisk(store, { format: "vhd", size: MiB, parent, backing });
    expect((disk as unknown as Engine).image.parent).toMatchObject({
      format: "raw",
      identities: [],
      paths: ["disk.img"],
    });
    expect(await fills(disk, 0, MiB)).toEqual([0x55]);
    for (const wrong of [
      { path: "x" },
      { path: "x", format: "qcow2" },
      { path: "x", identity: "12" },
      { path: "", format: "raw" },
    ]) {
      await expect(createDisk(new KeptStore(), { format: "vhd", size: MiB, parent: wrong })).rejects.toMatchObject({
        code: "INVALID",
      });
    }
  });

  test("XenServer's file URLs are read as paths", async () => {
    const { disk, child, behind } = await family();
    await disk.close();
    const bytes = contentOf(child);
    const view = new DataView(bytes.buffer);
    view.setUint32(512 + 576, 0x4d616358); // MacX
    const text = new TextEncoder().encode("file://./base%20image.vhd");
    view.setUint32(512 + 576 + 8, text.length);
    bytes.set(text, Number(view.getBigUint64(512 + 576 + 16)));
    view.setUint32(512 + 36, checksum(bytes.subarray(512, 1536), 36));
    const { parent } = await reopened(new KeptStore(bytes), behind);
    expect((parent as { paths: string[] }).paths[0]).toBe("./base image.vhd");
  });
});

test("emptied, the parent shows, and the file is as small as a new one", async () => {
  const { disk, child, behind } = await family();
  const fresh = new KeptStore();
  await (await createChild(fresh, behind, { size: 6 * MiB })).close();
  expect(child.size).toBeGreaterThan(2 * MiB);
  await whole(disk, (image) => image.empty!());
  expect(await fills(disk, 0, 6 * MiB)).toEqual([0xaa]);
  expect(child.size).toBe(fresh.size);
  await writeBytes(disk, 0, new Uint8Array(SECTOR).fill(1));
  await disk.close();
  expect(await fills(await openChild(child, behind), 0, SECTOR)).toEqual([1]);
});

test("measured sizes are those that files get", async () => {
  for (const [options, units] of [
    [{ size: 20 * MiB + SECTOR }, 11],
    [{ size: 20 * MiB, blockSize: 65536 }, 320],
    [{ size: 20 * MiB, subformat: "fixed" }, 0],
  ] as const) {
    const { unit, bytes } = vhd.measure!(options);
    const store = new KeptStore();
    const disk = await createDisk(store, { format: "vhd", ...options });
    expect(store.size).toBe(bytes(0));
    await writeBytes(disk, 0, new Uint8Array(disk.size).fill(1));
    await disk.close();
    if (units > 0) expect(Math.ceil(options.size / unit)).toBe(units);
    expect(store.size).toBe(bytes(units));
  }
});

describe("sector bitmaps", () => {
  const near = (store: RecordingStore, from: number, [first, end]: [number, number]) =>
    store.steps.slice(from).filter((step) => step.kind === "write" && step.position >= first && step.position < end);

  test("of a dynamic disk are written once, all ones", async () => {
    const store = new RecordingStore();
    const disk = await createDisk(store, { format: "vhd", size: 8 * MiB });
    await writeBytes(disk, 0, new Uint8Array(SECTOR).fill(1));
    await flush(disk);
    const block = new DataView(contentOf(store).buffer).getUint32(1536) * SECTOR;
    const from = store.steps.length;
    for (let i = 1; i < 400; i++) await writeBytes(disk, i * 8 * SECTOR, new Uint8Array(SECTOR).fill(1));
    await flush(disk);
    expect(near(store, from, [0, block + SECTOR])).toEqual([]);
    expect(store.steps.length - from).toBe(399 + 1);
  });

  test("of a differencing disk are written at a flush, once each", async () => {
    const { disk, child } = await family();
    await writeBytes(disk, 0, new Uint8Array(SECTOR).fill(1));
    await flush(disk);
    const from = child.steps.length;
    for (let i = 0; i < 200; i++) {
      await writeBytes(disk, ((i % 2) * 2 + 0.5) * MiB + i * 8 * SECTOR, new Uint8Array(SECTOR).fill(1));
    }
    const writes = () => child.steps.slice(from).filter(({ kind }) => kind === "write").length;
    expect(writes()).toBe(200);
    await flush(disk);
    expect(writes()).toBe(200 + 2);
  });

  test("that pile up are written without being asked for: memory stays bounded", async () => {
    const { behind } = await family();
    const store = new RecordingStore();
    const disk = await createChild(store, behind, { size: 32 * GiB });
    // One bitmap each, of blocks that have a place already.
    const BLOCKS = 1500;
    for (let block = 0; block < BLOCKS; block++) {
      await writeBytes(disk, block * 2 * MiB, new Uint8Array(SECTOR).fill(1));
    }
    await flush(disk);
    const from = store.steps.length;
    for (let block = 0; block < BLOCKS; block++) {
      await writeBytes(disk, block * 2 * MiB + MiB, new Uint8Array(SECTOR).fill(2));
    }
    const steps = store.steps.slice(from);
    const flushes = steps.filter(({ kind }) => kind === "flush").length;
    expect(flushes).toBeGreaterThan(0);
    expect(flushes).toBeLessThan(10);
    // Two sets of 1,024 at most: no more than one of them still waits.
    expect(steps.filter(({ kind }) => kind === "write").length).toBeGreaterThanOrEqual(BLOCKS + 1024);
  });
});
