import { describe, expect, test } from "vitest";
import { readBytes, writeBytes, writeZeroes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { newGuid } from "../../../src/host/format/guid.ts";
import { buildLocator, parentReference, parseLocator } from "../../../src/host/format/vhdx/locator.ts";
import { KeptStore } from "../../support/disks.ts";
import { contentOf } from "../../support/stores.ts";

const MiB = 2 ** 20;
const BAT = 3 * MiB;
const SIZE = 8 * MiB;

/** A parent filled with 0xaa, and a child of it whose block 2 has 0xbb in sectors 1 to 11 and whose block 3 is all 0xcc. */
async function family() {
  const parent = new KeptStore();
  const base = await createDisk(parent, { format: "vhdx", size: SIZE });
  await writeBytes(base, 0, new Uint8Array(SIZE).fill(0xaa));
  const { dataWriteGuid } = base.describe();
  await base.close();
  const child = new KeptStore();
  const open = async (store = child) => openDisk(store, { backing: await openDisk(parent, { readOnly: true }) });
  const options = { identity: String(dataWriteGuid), path: ".\\base.vhdx", absolutePath: "C:\\base.vhdx" };
  const backing = await openDisk(parent, { readOnly: true });
  const disk = await createDisk(child, { format: "vhdx", size: SIZE, blockSize: MiB, parent: options, backing });
  await writeBytes(disk, 2 * MiB + 512, new Uint8Array(11 * 512).fill(0xbb));
  await writeBytes(disk, 3 * MiB, new Uint8Array(MiB).fill(0xcc));
  await disk.close();
  return { parent, child, open, dataWriteGuid };
}

/** Fill bytes of sectors [0, count) of a block. */
async function sectors(disk: Parameters<typeof readBytes>[0], block: number, count: number): Promise<number[]> {
  const bytes = await readBytes(disk, block * MiB, count * 512);
  return Array.from({ length: count }, (_, i) => bytes[i * 512 + 17]);
}
const AA = 0xaa;
const BB = 0xbb;

/** The table's entry of payload block `index`, or with 4096 that of the sector bitmap. */
function entry(bytes: Uint8Array, index: number): { at: number; state: number; place: number } {
  const at = BAT + index * 8;
  const low = new DataView(bytes.buffer).getUint32(at, true);
  return { at, state: low & 7, place: low - (low & 7) };
}
const BITMAP = 4096;

test("sectors come from the child where its bitmap says so, else from the parent", async () => {
  const { child, open } = await family();
  const disk = await open();
  expect(await sectors(disk, 2, 14)).toEqual([AA, ...Array(11).fill(BB), AA, AA]);
  expect((await sectors(disk, 3, 2048)).every((byte) => byte === 0xcc)).toBe(true);
  expect(await sectors(disk, 4, 2)).toEqual([AA, AA]);
  const bytes = contentOf(child);
  expect([1, 2, 3].map((block) => entry(bytes, block).state)).toEqual([0, 7, 6]);
  // Sector 0 is the lowest bit: 1 to 11 are set.
  const share = entry(bytes, BITMAP).place + 2 * 256;
  expect([...bytes.subarray(share, share + 3)]).toEqual([0xfe, 0x0f, 0]);
  expect(disk.describe()).toMatchObject({
    subformat: "differencing",
    parentLocator: { relative_path: ".\\base.vhdx", absolute_win32_path: "C:\\base.vhdx" },
  });
});

test("zeroing hides the parent; what is written into that shows zeros around it", async () => {
  const { open } = await family();
  let disk = await open();
  await writeZeroes(disk, 2 * MiB, MiB);
  await writeZeroes(disk, 4 * MiB, MiB);
  await writeZeroes(disk, 5 * MiB + 512, 1024);
  for (let turn = 0; turn < 2; turn++) {
    expect(await sectors(disk, 2, 3)).toEqual([0, 0, 0]);
    expect(await sectors(disk, 4, 3)).toEqual([0, 0, 0]);
    expect(await sectors(disk, 5, 4)).toEqual([AA, 0, 0, AA]);
    await disk.close();
    disk = await open();
  }
  await writeBytes(disk, 2 * MiB + 512, new Uint8Array(512).fill(1));
  await writeBytes(disk, 4 * MiB + 512, new Uint8Array(512).fill(1));
  await disk.close();
  disk = await open();
  expect(await sectors(disk, 2, 3)).toEqual([0, 1, 0]);
  expect(await sectors(disk, 4, 3)).toEqual([0, 1, 0]);
});

test("what lies under clear bits never shows, even when others left it there", async () => {
  const { child, open } = await family();
  const bytes = contentOf(child);
  const { place } = entry(bytes, 2);
  bytes.fill(0xee, place + 12 * 512, place + 2048 * 512);
  const disk = await open(new KeptStore(bytes));
  await writeBytes(disk, 2 * MiB + 14 * 512, new Uint8Array(512).fill(1));
  expect(await sectors(disk, 2, 16)).toEqual([AA, ...Array(11).fill(BB), AA, AA, 1, AA]);
});

test("a block whose bits are stale starts with none of them", async () => {
  const { child, open } = await family();
  const bytes = contentOf(child);
  bytes.fill(0xff, entry(bytes, BITMAP).place + 5 * 256, entry(bytes, BITMAP).place + 6 * 256);
  const disk = await open(new KeptStore(bytes));
  await writeBytes(disk, 5 * MiB + 512, new Uint8Array(512).fill(1));
  expect(await sectors(disk, 5, 4)).toEqual([AA, 1, AA, AA]);
});

describe("refused", () => {
  const refusal = (promise: Promise<unknown>) =>
    promise.then(
      () => "opened",
      (error) => `${error.code} ${error.message}`,
    );
  test("without its parent, by name", async () => {
    const { child } = await family();
    expect(await refusal(openDisk(child))).toMatch(/^NOT_FOUND .*base\.vhdx/);
    expect(await refusal(openDisk(child, { readOnly: true }))).toMatch(/^NOT_FOUND .*base\.vhdx/);
  });
  test("over another disk, or a parent that was written since", async () => {
    const { child, parent, open } = await family();
    const other = new KeptStore();
    await (await createDisk(other, { format: "vhdx", size: SIZE })).close();
    expect(await refusal(openDisk(child, { backing: await openDisk(other) }))).toMatch(/^CORRUPT the parent/);
    expect(await refusal(open())).toBe("opened");
    const disk = await openDisk(parent);
    await writeBytes(disk, 0, new Uint8Array(512));
    await disk.close();
    expect(await refusal(open())).toMatch(/^CORRUPT the parent/);
  });
  test("a parent for one that has none", async () => {
    const { parent } = await family();
    const backing = await openDisk(parent, { readOnly: true });
    expect(await refusal(openDisk(parent, { backing }))).toMatch(/^INVALID/);
  });
  test.each<[string, number, number, RegExp]>([
    ["a block whose chunk has no bitmap", BITMAP, 0, /state 0, but block 2/],
    ["a bitmap past the end", BITMAP, 6 + 512 * MiB, /past the end/],
    ["a bitmap in the table", BITMAP, 6 + BAT, /table/],
  ])("%s fails that block", async (_name, index, low, message) => {
    const { child, open } = await family();
    const bytes = contentOf(child);
    new DataView(bytes.buffer).setUint32(entry(bytes, index).at, low, true);
    const disk = await open(new KeptStore(bytes));
    await expect(readBytes(disk, 2 * MiB, 512)).rejects.toMatchObject({ code: "CORRUPT", message });
    await expect(writeBytes(disk, 2 * MiB, new Uint8Array(512))).rejects.toMatchObject({ code: "CORRUPT" });
    expect(await sectors(disk, 3, 1)).toEqual([0xcc]);
    expect(await sectors(disk, 4, 1)).toEqual([AA]);
  });
});

describe("parent locators", () => {
  const values = {
    parent_linkage: `{${newGuid().toUpperCase()}}`,
    relative_path: "..\\ä\\p.vhdx",
    volume_path: "\\\\?\\x",
  };
  test("come back as they were written", () => {
    expect(parseLocator(buildLocator(values))).toMatchObject({ values });
    expect(parentReference({ type: "", values: { ...values, parent_linkage2: "" } })).toEqual({
      format: "vhdx",
      windows: true,
      paths: ["..\\ä\\p.vhdx", "\\\\?\\x"],
      identities: [values.parent_linkage.slice(1, -1).toLowerCase()],
    });
  });
  test.each<[string, (bytes: Uint8Array) => Uint8Array, RegExp]>([
    ["nothing", () => new Uint8Array(0), /less than its header/],
    ["too many entries", (bytes) => bytes.fill(0xff, 18, 20), /more than fit/],
    ["a key outside", (bytes) => bytes.fill(0xff, 20, 24), /entry 0 outside/],
    ["a value outside", (bytes) => bytes.subarray(0, bytes.length - 1), /outside/],
    ["one key twice", (bytes) => bytes.copyWithin(32, 20, 32), /twice/],
  ])("%s: said so", (_name, change, message) => {
    expect(parseLocator(change(buildLocator(values)))).toMatch(message);
  });
  test("a key that is no ordinary one is only a key", () => {
    const parsed = parseLocator(buildLocator({ ["__proto__"]: "x", relative_path: "p" }));
    expect(Object.getPrototypeOf((parsed as { values: object }).values)).toBe(Object.prototype);
  });
});
