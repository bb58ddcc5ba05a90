import { describe, expect, test } from "vitest";
import { run } from "../../../src/core/flow.ts";
import type { CheckReport } from "../../../src/core/format.ts";
import { readBytes, writeBytes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { vmdk } from "../../../src/host/format/vmdk/index.ts";
import type { MemoryStore } from "../../../src/host/store/memory.ts";
import { KeptStore } from "../../support/disks.ts";
import { Folder } from "../../support/folder.ts";
import { afterCut, RecordingStore } from "../../support/power.ts";
import { contentOf, randomFrom } from "../../support/stores.ts";

const GRAIN = 65536;
/** Of a disk of three tables: the second directory and its tables, then the first and its own. Sectors. */
const SECOND = { directory: 21, table: (i: number) => 22 + i * 4 };
const FIRST = { directory: 34, table: (i: number) => 35 + i * 4 };
const TABLES = 3;
const SIZE = TABLES * 512 * GRAIN - 7 * 512;
const GRAINS = [0, 1, 511, 512, 700, 1023, 1024, 1500, 1535];

const check = (store: MemoryStore) => run(vmdk.check!(store)) as CheckReport;
const repair = (store: MemoryStore, what: "leaks" | "all") => run(vmdk.repair!(store, what)) as CheckReport;

async function made(): Promise<Uint8Array> {
  const store = new KeptStore();
  const disk = await createDisk(store, { format: "vmdk", size: SIZE });
  for (const [i, grain] of GRAINS.entries()) await writeBytes(disk, grain * GRAIN, new Uint8Array(4096).fill(i + 1));
  await disk.close();
  return contentOf(store);
}

/** What every grain begins with. */
async function seen(store: MemoryStore, onWarning?: (message: string) => void): Promise<number[]> {
  const disk = await openDisk(store, { format: "vmdk", readOnly: true, ...(onWarning && { onWarning }) });
  const bytes: number[] = [];
  for (const grain of GRAINS) bytes.push((await readBytes(disk, grain * GRAIN, 4096))[4095]);
  expect((await readBytes(disk, 2 * GRAIN, GRAIN)).every((byte) => byte === 0)).toBe(true);
  await disk.close();
  return bytes;
}
const WHOLE = GRAINS.map((_, i) => i + 1);

type Damage = (view: DataView, bytes: Uint8Array) => void;
const point =
  (directory: number, sector: number): Damage =>
  (view) =>
    view.setUint32(directory * 512 + 4, sector, true);
const entry =
  (at: number, sector: number): Damage =>
  (view) =>
    view.setUint32(FIRST.table(1) * 512 + at * 4, sector, true);

/** Where the first copy has that grain: bytes of the file. */
async function grainOf(grain: number): Promise<number> {
  return new DataView((await made()).buffer).getUint32(FIRST.table(0) * 512 + grain * 4, true) * 512;
}

async function damaged(damage: Damage): Promise<KeptStore> {
  const bytes = await made();
  damage(new DataView(bytes.buffer), bytes);
  return new KeptStore(bytes);
}

async function refusesWrites(store: KeptStore): Promise<void> {
  const before = contentOf(store);
  const disk = await openDisk(store, { format: "vmdk" });
  await expect(writeBytes(disk, 2 * GRAIN, new Uint8Array(512))).rejects.toMatchObject({
    code: "CORRUPT",
    hint: expect.stringContaining("check -r all"),
  });
  await disk.close();
  expect(Buffer.compare(contentOf(store), before)).toBe(0);
}

async function mended(store: KeptStore): Promise<void> {
  expect(check(store).problems.map(({ kind }) => kind)).not.toContain("structure");
  expect(() => repair(store, "leaks")).toThrow(expect.objectContaining({ hint: expect.stringContaining("-r all") }));
  expect(repair(store, "all")).toMatchObject({ corruptions: 0, leaks: 0, problems: [] });
  expect(await seen(store)).toEqual(WHOLE);
  // Both copies are whole: either does without the other.
  const view = new DataView(contentOf(store).buffer);
  for (const at of [48, 56]) {
    const bytes = contentOf(store);
    new DataView(bytes.buffer).setUint32(view.getUint32(at, true) * 512 + 4, 0x7ffffff0, true);
    expect(await seen(new KeptStore(bytes))).toEqual(WHOLE);
  }
  const disk = await openDisk(store, { format: "vmdk" });
  await writeBytes(disk, 600 * GRAIN, new Uint8Array(512).fill(1));
  await disk.close();
  expect(check(store)).toMatchObject({ corruptions: 0, leaks: 0 });
}

const random = randomFrom(9);
const noise: Damage = (_, bytes) => {
  for (let i = 0; i < 2048; i++) bytes[FIRST.table(1) * 512 + i] = random() * 256;
};

describe("one grain table of the first copy", () => {
  test.each<[string, Damage]>([
    ["is not there", point(FIRST.directory, 0)],
    ["is outside the file", point(FIRST.directory, 0x7ffffff0)],
    ["ends outside the file", (view, bytes) => point(FIRST.directory, bytes.length / 512 - 1)(view, bytes)],
    ["is put into the descriptor", point(FIRST.directory, 3)],
    ["is put over the directory", point(FIRST.directory, FIRST.directory)],
    ["is put over another", point(FIRST.directory, FIRST.table(2))],
    ["is put half over another", point(FIRST.directory, FIRST.table(0) + 2)],
    ["is put over the copy of another", point(FIRST.directory, SECOND.table(0))],
    ["has an entry past the end", entry(188, 0x7fffff00)],
    ["has an entry that ends past the end", (view, bytes) => entry(188, bytes.length / 512 - 64)(view, bytes)],
    ["has an entry for the header", entry(500, 2)],
    ["has an entry for another table", entry(0, FIRST.table(0))],
    ["is noise", noise],
  ])("%s: its copy is read, and a repair makes it whole", async (_, damage) => {
    const store = await damaged(damage);
    const warnings: string[] = [];
    expect(await seen(store, (message) => void warnings.push(message))).toEqual(WHOLE);
    expect(warnings.filter((message) => message.includes("its copy is used"))).toHaveLength(1);
    await refusesWrites(store);
    await mended(store);
  });

  test("is put over a grain with bytes that cannot be entries: the copy is read, the grain is as it is", async () => {
    const sector = (await grainOf(0)) / 512;
    const store = await damaged((view, bytes) => {
      bytes.fill(0xa5, sector * 512, sector * 512 + 4096);
      point(FIRST.directory, sector)(view, bytes);
    });
    expect(await seen(store)).toEqual([0xa5, ...WHOLE.slice(1)]);
    await refusesWrites(store);
    expect(repair(store, "all")).toMatchObject({ corruptions: 0, leaks: 0 });
    expect(await seen(store)).toEqual([0xa5, ...WHOLE.slice(1)]);
  });

  test("has an entry for another's grain, which no look at it alone can tell: a check does, and a repair mends it", async () => {
    const store = await damaged(entry(0, (await grainOf(0)) / 512));
    await refusesWrites(store);
    await mended(store);
  });

  test("is emptied: the copy is taken for right, when the disk was closed properly", async () => {
    const empty: Damage = (_, bytes) => bytes.fill(0, FIRST.table(1) * 512, FIRST.table(1) * 512 + 2048);
    const store = await damaged(empty);
    const warnings: string[] = [];
    expect(await seen(store, (message) => void warnings.push(message))).toEqual(WHOLE);
    expect(warnings.join()).toContain("grain table 1 is damaged; its copy is used");
    await refusesWrites(store);
    await mended(store);
    // Where the copy cannot be gone by either, nothing is known to be lost.
    const both = await damaged((view, bytes) => {
      empty(view, bytes);
      bytes.fill(0xa5, SECOND.table(1) * 512, SECOND.table(1) * 512 + 2048);
    });
    expect((await seen(both)).slice(3, 6)).toEqual([0, 0, 0]);
    const unclean = await damaged((view, bytes) => {
      empty(view, bytes);
      bytes[72] = 1;
    });
    expect(repair(unclean, "all")).toMatchObject({ corruptions: 0 });
    expect((await seen(unclean)).slice(3, 6)).toEqual([0, 0, 0]);
  });

  test("and its copy are bad: only that part of the disk is lost", async () => {
    const store = await damaged((view, bytes) => {
      noise(view, bytes);
      bytes.fill(0xa5, SECOND.table(1) * 512, SECOND.table(1) * 512 + 2048);
    });
    const disk = await openDisk(store, { format: "vmdk", readOnly: true });
    expect((await readBytes(disk, 1024 * GRAIN, 1))[0]).toBe(7);
    await expect(readBytes(disk, 700 * GRAIN, 512)).rejects.toMatchObject({ code: "CORRUPT" });
    await disk.close();
    expect(() => repair(store, "all")).toThrow(expect.objectContaining({ code: "CORRUPT" }));
  });
});

test.each([0, 0x7ffffff0, FIRST.directory, SECOND.table(2)])(
  "a table of the second copy at sector %i: the disk is read as it is, and not written until it is mended",
  async (sector) => {
    const store = await damaged(point(SECOND.directory, sector));
    expect(await seen(store)).toEqual(WHOLE);
    await refusesWrites(store);
    await mended(store);
  },
);

test("power may be lost at any step of a repair", async () => {
  const bytes = await made();
  new DataView(bytes.buffer).setUint32(FIRST.directory * 512, 0x7ffffff0, true);
  new DataView(bytes.buffer).setUint32(SECOND.directory * 512 + 8, 3, true);
  noise(new DataView(bytes.buffer), bytes);
  const recording = new RecordingStore(bytes.slice());
  repair(recording, "all");
  const steps = [{ kind: "write", position: 0, bytes } as const, { kind: "flush" } as const, ...recording.steps];
  for (let count = 2; count <= steps.length; count++) {
    for (const torn of [undefined, random, random]) {
      const left = afterCut(steps, count, torn);
      expect(await seen(left)).toEqual(WHOLE);
      expect(repair(left, "all")).toMatchObject({ corruptions: 0, leaks: 0 });
      expect(await seen(left)).toEqual(WHOLE);
    }
  }
});

test("tables bad in different copies, and one in a file of several", async () => {
  const bytes = await made();
  const view = new DataView(bytes.buffer);
  view.setUint32(FIRST.directory * 512, 0x7ffffff0, true);
  view.setUint32(SECOND.directory * 512 + 8, 3, true);
  noise(view, bytes);
  const store = new KeptStore(bytes);
  expect(await seen(store)).toEqual(WHOLE);
  const folder = new Folder();
  folder.files.set("e.vmdk", new KeptStore(bytes.slice()));
  const text = ["version=1", "CID=1", 'createType="custom"', `RW ${SIZE / 512} SPARSE "e.vmdk"`].join("\n");
  const descriptor = new KeptStore(new TextEncoder().encode(`# Disk DescriptorFile\n${text}\n`));
  const warnings: string[] = [];
  const options = { openFile: folder.openFile, onWarning: (message: string) => void warnings.push(message) };
  const disk = await openDisk(descriptor, { ...options, readOnly: true });
  expect((await readBytes(disk, 700 * GRAIN, 1))[0]).toBe(5);
  await disk.close();
  expect(warnings.filter((message) => message.includes("its copy is used"))).toHaveLength(2);
  const report = run(vmdk.repair!(descriptor, "all", { openFile: folder.openFile }));
  expect(await report).toMatchObject({ corruptions: 0, leaks: 0 });
  await mended(store);
});
