import { expect, test } from "vitest";
import { readBytes, writeBytes, writeZeroes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { dataFile } from "../../support/data.ts";
import { KeptStore } from "../../support/disks.ts";
import { contentOf } from "../../support/stores.ts";

const MiB = 2 ** 20;
const SIZE = 6 * MiB + 512;
const AA = 0xaa;

/** A child with sectors 1 to 11 of block 1 written, and all of block 2, over a parent full of 0xaa. */
async function family() {
  const parent = new KeptStore();
  const base = await createDisk(parent, { format: "vhd", size: SIZE });
  await writeBytes(base, 0, new Uint8Array(SIZE).fill(AA));
  const { uuid } = base.describe();
  await base.close();
  const child = new KeptStore();
  const open = async (store = child) => openDisk(store, { backing: await openDisk(parent, { readOnly: true }) });
  const names = { identity: String(uuid), path: ".\\base.vhd", absolutePath: "C:\\d\\base.vhd" };
  const backing = await openDisk(parent, { readOnly: true });
  const disk = await createDisk(child, { format: "vhd", size: SIZE, parent: names, backing });
  await writeBytes(disk, 2 * MiB + 512, new Uint8Array(11 * 512).fill(0xbb));
  await writeBytes(disk, 4 * MiB, new Uint8Array(2 * MiB).fill(0xcc));
  await disk.close();
  return { parent, child, open };
}

async function sectors(disk: Parameters<typeof readBytes>[0], offset: number, count: number): Promise<number[]> {
  const bytes = await readBytes(disk, offset, count * 512);
  return Array.from({ length: count }, (_, i) => bytes[i * 512 + 17]);
}
const place = (bytes: Uint8Array, block: number) => new DataView(bytes.buffer).getUint32(1536 + block * 4) * 512;

test("sectors come from the child where its bitmap says so, else from the parent", async () => {
  const { child, open } = await family();
  const disk = await open();
  expect(await sectors(disk, 2 * MiB, 14)).toEqual([AA, ...Array(11).fill(0xbb), AA, AA]);
  expect((await sectors(disk, 4 * MiB, 4096)).every((byte) => byte === 0xcc)).toBe(true);
  expect(await sectors(disk, 0, 2)).toEqual([AA, AA]);
  expect(await sectors(disk, SIZE - 512, 1)).toEqual([AA]);
  // Sector 0 is the highest bit: 1 to 11 are set.
  const bytes = contentOf(child);
  expect([...bytes.subarray(place(bytes, 1), place(bytes, 1) + 3)]).toEqual([0x7f, 0xf0, 0]);
  expect(disk.describe()).toMatchObject({
    subformat: "differencing",
    parent: { paths: [".\\base.vhd", "C:\\d\\base.vhd"] },
  });
});

test("zeros hide the parent, and stay when the disk is opened again", async () => {
  const { open } = await family();
  let disk = await open();
  await writeZeroes(disk, 512, 1024);
  await writeZeroes(disk, 2 * MiB, 1024);
  for (let turn = 0; turn < 2; turn++) {
    expect(await sectors(disk, 0, 4)).toEqual([AA, 0, 0, AA]);
    expect(await sectors(disk, 2 * MiB, 3)).toEqual([0, 0, 0xbb]);
    await disk.close();
    disk = await open();
  }
});

test("what lies under clear bits never shows, even when others left it there", async () => {
  const { child, open } = await family();
  const bytes = contentOf(child);
  bytes.fill(0xee, place(bytes, 1) + 512 + 12 * 512, place(bytes, 1) + 512 + 2 * MiB);
  const disk = await open(new KeptStore(bytes));
  await writeBytes(disk, 2 * MiB + 14 * 512, new Uint8Array(512).fill(1));
  expect(await sectors(disk, 2 * MiB, 16)).toEqual([AA, ...Array(11).fill(0xbb), AA, AA, 1, AA]);
});

test("refused by name without its parent, or over another disk", async () => {
  const { child } = await family();
  for (const readOnly of [true, false]) {
    await expect(openDisk(child, { readOnly })).rejects.toMatchObject({
      code: "NOT_FOUND",
      message: expect.stringContaining("base.vhd"),
    });
  }
  const other = new KeptStore();
  await (await createDisk(other, { format: "vhd", size: SIZE })).close();
  const backing = await openDisk(other, { readOnly: true });
  await expect(openDisk(child, { backing })).rejects.toMatchObject({ code: "CORRUPT" });
});

test("of other products: the parent is named as they name it, and read through", async () => {
  const windows = new KeptStore(dataFile("dfvfs-fat-differential.vhd"));
  await expect(openDisk(windows)).rejects.toMatchObject({
    code: "NOT_FOUND",
    context: { paths: [".\\fat-parent.vhd", "C:\\Projects\\dfvfs\\test_data\\fat-parent.vhd"] },
  });
  const base = await openDisk(new KeptStore(dataFile("dfvfs-image.vhd")), { readOnly: true });
  const child = new KeptStore(dataFile("dfvfs-image-differential.vhd"));
  await expect(openDisk(child)).rejects.toMatchObject({ context: { paths: ["image.vhd"] } });
  const disk = await openDisk(child, { readOnly: true, backing: base });
  expect(disk.size).toBe(base.size);
  await readBytes(disk, 0, disk.size);
});

test("a locator past the end is passed over, with a warning", async () => {
  const { child, parent } = await family();
  const bytes = contentOf(child);
  new DataView(bytes.buffer).setBigUint64(512 + 576 + 24 + 16, 2n ** 60n);
  const warnings: string[] = [];
  const backing = await openDisk(parent, { readOnly: true });
  const disk = await openDisk(new KeptStore(bytes), { backing, onWarning: (text) => warnings.push(text) });
  expect(warnings).toContainEqual(expect.stringContaining("parent locator"));
  expect(disk.describe()).toMatchObject({ parent: { paths: ["C:\\d\\base.vhd"] } });
});
