import { expect, test } from "vitest";
import { run } from "../../../src/core/flow.ts";
import type { CheckReport } from "../../../src/core/format.ts";
import { SegmentList } from "../../../src/core/segments.ts";
import { readBytes, writeBytes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { checksum } from "../../../src/host/format/vhd/footer.ts";
import { vhd } from "../../../src/host/format/vhd/index.ts";
import { dataFile } from "../../support/data.ts";
import { KeptStore } from "../../support/disks.ts";
import { MeteredStore } from "../../support/metered.ts";
import { contentOf } from "../../support/stores.ts";
import { createChild, GiB, MiB } from "../../support/vhd.ts";

const check = (store: KeptStore) => run(vhd.check!(store)) as CheckReport;
const repair = (store: KeptStore, what: "leaks" | "all") => run(vhd.repair!(store, what)) as CheckReport;
const kinds = ({ problems }: CheckReport) => problems.map(({ kind, structure }) => `${kind}: ${structure}`);

/** Blocks 0, 1 and 2 of 64 KiB are in use, in that order, and filled with 1, 2 and 3. */
async function made(): Promise<Uint8Array<ArrayBuffer>> {
  const store = new KeptStore();
  const disk = await createDisk(store, { format: "vhd", size: MiB, blockSize: 65536 });
  for (let block = 0; block < 3; block++) await writeBytes(disk, block * 65536, new Uint8Array(65536).fill(block + 1));
  await disk.close();
  return contentOf(store).slice();
}
const entry = (bytes: Uint8Array<ArrayBuffer>, index: number) => new DataView(bytes.buffer).getUint32(1536 + index * 4);
function setEntry(bytes: Uint8Array<ArrayBuffer>, index: number, sector: number): void {
  new DataView(bytes.buffer).setUint32(1536 + index * 4, sector);
}

test("our own disks and those of other products are sound", async () => {
  expect(check(new KeptStore(await made()))).toMatchObject({
    leaks: 0,
    corruptions: 0,
    problems: [],
    totalClusters: 16,
    allocatedClusters: 3,
  });
  for (const name of ["dfvfs-ext2.vhd", "dissect-vhd_dynamic.vhd", "plaso-image.vhd", "qemu-virtualpc-dynamic.vhd"]) {
    const store = new KeptStore(dataFile(name));
    const { problems, imageEndOffset } = check(store);
    expect([name, problems, imageEndOffset <= store.size]).toEqual([name, [], true]);
  }
  const fixed = new KeptStore();
  await (await createDisk(fixed, { format: "vhd", subformat: "fixed", size: MiB })).close();
  expect(check(fixed)).toMatchObject({ leaks: 0, corruptions: 0 });
});

test.each<[string, string[], (bytes: Uint8Array<ArrayBuffer>) => void]>([
  ["copy of the footer damaged", ["copy: hard disk footer"], (bytes) => bytes.fill(0xee, 0, 100)],
  ["footer damaged", ["copy: hard disk footer"], (bytes) => bytes.fill(0xee, bytes.length - 512)],
  [
    "copies that differ",
    ["copy: hard disk footer"],
    (bytes) => {
      bytes[70] ^= 1;
      new DataView(bytes.buffer).setUint32(64, checksum(bytes.subarray(0, 512), 64));
    },
  ],
  [
    "stale checksum after the UUID was set",
    ["count: hard disk footer"],
    (bytes) => {
      bytes[70] ^= 1;
      bytes[bytes.length - 512 + 70] ^= 1;
    },
  ],
  ["stale checksum of the header", ["count: dynamic disk header"], (bytes) => (bytes[512 + 36] ^= 1)],
])("%s is found and mended", async (_name, expected, damage) => {
  const bytes = await made();
  damage(bytes);
  const store = new KeptStore(bytes);
  expect(kinds(check(store))).toEqual(expected);
  expect(contentOf(store)).toEqual(bytes);
  expect(repair(store, "all").problems).toEqual([]);
  expect(check(store).problems).toEqual([]);
  const warnings: string[] = [];
  const disk = await openDisk(store, { onWarning: (text) => warnings.push(text) });
  expect(warnings).toEqual([]);
  for (let block = 0; block < 3; block++) expect((await readBytes(disk, block * 65536 + 9, 1))[0]).toBe(block + 1);
});

test("leaks are given back: blocks move into gaps, and the file ends after the last", async () => {
  const bytes = await made();
  setEntry(bytes, 0, 0xffffffff);
  const store = new KeptStore(bytes);
  expect(check(store)).toMatchObject({ leaks: 1, corruptions: 0, allocatedClusters: 2 });
  expect(repair(store, "leaks")).toMatchObject({ leaks: 0, corruptions: 0, problems: [] });
  // Each block of 64 KiB is 68 KiB behind the one before, so that its data begins with a page.
  expect(store.size).toBe(bytes.length - 65536 - 4096);
  const disk = await openDisk(store);
  expect([...new Set(await readBytes(disk, 0, 65536))]).toEqual([0]);
  expect([...new Set(await readBytes(disk, 65536, 65536))]).toEqual([2]);
  expect([...new Set(await readBytes(disk, 131072, 65536))]).toEqual([3]);
});

test.each<[string, (bytes: Uint8Array<ArrayBuffer>) => number]>([
  ["past the end", () => 0x7fffffff],
  ["into the header", () => 1],
  ["into the table", () => 3],
  ["not a whole block before the footer", (bytes) => (bytes.length - 1024) / 512],
  ["into another block", (bytes) => entry(bytes, 1) + 8],
  ["to the place of another block", (bytes) => entry(bytes, 1)],
])("an entry that points %s is a bad structure, which repair leaves alone", async (_name, sector) => {
  const bytes = await made();
  setEntry(bytes, 0, sector(bytes));
  const store = new KeptStore(bytes);
  expect(kinds(check(store)).filter((kind) => !kind.startsWith("leak"))).toContain("structure: block allocation table");
  expect(() => repair(store, "all")).toThrow(/beyond this repair/);
  expect(contentOf(store)).toEqual(bytes);
});

test("a locator outside the file is named", async () => {
  const [parent, child] = [new KeptStore(), new KeptStore()];
  await (await createDisk(parent, { format: "vhd", size: MiB })).close();
  await (await createChild(child, () => openDisk(parent), { size: MiB })).close();
  const bytes = contentOf(child);
  new DataView(bytes.buffer).setBigUint64(512 + 576 + 16, 2n ** 60n);
  const store = new KeptStore(bytes);
  expect(kinds(check(store))).toEqual(["count: dynamic disk header", "structure: parent locator"]);
  expect(repair(store, "all")).toMatchObject({ leaks: 0 });
});

/** Entries 0 and 5,000, four pages apart, share a place. */
async function farOverlap(): Promise<KeptStore> {
  const store = new KeptStore();
  const disk = await createDisk(store, { format: "vhd", size: 2040 * GiB });
  for (const block of [0, 5000, 9000]) await writeBytes(disk, block * 2 * MiB, new Uint8Array(512).fill(7));
  await disk.close();
  const bytes = new Uint8Array(4);
  const segments = SegmentList.of(0, 4);
  store.readv(1536, bytes, segments);
  new DataView(bytes.buffer).setUint32(0, new DataView(bytes.buffer).getUint32(0) + 16);
  store.writev(1536 + 5000 * 4, bytes, segments);
  return store;
}

test("blocks in one place are found wherever in the table their entries are", async () => {
  const store = await farOverlap();
  expect(kinds(check(store))).toContain("structure: block allocation table");
  // Reading: whichever comes second is refused.
  const disk = await openDisk(store, { readOnly: true });
  expect((await readBytes(disk, 0, 1))[0]).toBe(7);
  await expect(readBytes(disk, 5000 * 2 * MiB, 512)).rejects.toMatchObject({ code: "CORRUPT", message: /overlaps/ });
  expect((await readBytes(disk, 9000 * 2 * MiB, 1))[0]).toBe(7);
  // Writing: nothing, for either could change the other.
  const writable = await openDisk(store);
  for (const block of [0, 5000, 9000, 20]) {
    await expect(writeBytes(writable, block * 2 * MiB, new Uint8Array(512))).rejects.toMatchObject({
      code: "CORRUPT",
      message: /overlaps/,
      context: { structure: "block allocation table", offset: 1536 + 5000 * 4 },
    });
  }
});

test("a full disk of 2,040 GiB opens with few reads, and is looked at once before it is written", async () => {
  const store = new MeteredStore();
  await (await createDisk(store, { format: "vhd", size: 2040 * GiB })).close();
  // Every block has a place; the file is all holes.
  const entries = 1_044_480;
  const table = new Uint8Array(entries * 4);
  const view = new DataView(table.buffer);
  const first = (1536 + table.length) / 512;
  for (let i = 0; i < entries; i++) view.setUint32(i * 4, first + i * 4097);
  const copy = new Uint8Array(512);
  const all = (bytes: Uint8Array) => SegmentList.of(0, bytes.length);
  store.readv(0, copy, all(copy));
  store.writev(1536, table, all(table));
  store.writev(first * 512 + entries * 4097 * 512, copy, all(copy));
  store.reset();
  const disk = await openDisk(store);
  await readBytes(disk, 2040 * GiB - 4096, 4096);
  await readBytes(disk, 1000 * GiB, 4096);
  expect(store.reads).toBeLessThan(20);
  expect(store.bytesRead).toBeLessThan(65536);
  await writeBytes(disk, 0, new Uint8Array(4096));
  expect(store.bytesRead).toBeLessThan(3 * table.length);
  const { bytesRead } = store;
  await writeBytes(disk, 1024 * GiB, new Uint8Array(4096));
  expect(store.bytesRead - bytesRead).toBeLessThan(65536);
  expect(check(store)).toMatchObject({ leaks: 0, corruptions: 0, allocatedClusters: entries });
});
