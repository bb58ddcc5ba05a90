import { expect, test } from "vitest";
import { flush, readBytes, writeBytes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { seal } from "../../../src/host/format/vhdx/crc32c.ts";
import { KeptStore } from "../../support/disks.ts";
import { afterCut, RecordingStore } from "../../support/power.ts";
import { contentOf, LateStore, randomFrom } from "../../support/stores.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;
const TiB = 2 ** 40;

test.each<[string, Record<string, unknown>, number, number]>([
  ["inside the last block", { blockSize: 2 * MiB }, 3 * MiB + 512, 3 * MiB + 1024],
  ["by blocks", { blockSize: MiB }, 5 * MiB + 512, 40 * MiB],
  ["fixed", { blockSize: MiB, subformat: "fixed" }, 5 * MiB + 512, 40 * MiB],
  ["over a chunk's end", { blockSize: 32 * MiB }, 4 * GiB, 9 * GiB],
  ["to a table that must move", { blockSize: MiB }, GiB + 512, TiB],
  ["sectors of 4 KiB, to 64 TiB", { blockSize: 256 * MiB, logicalSectorSize: 4096 }, 3 * TiB, 64 * TiB],
])("grows %s", async (_name, options, before, after) => {
  const store = new KeptStore();
  const sector = (options.logicalSectorSize as number) ?? 512;
  const disk = await createDisk(store, { format: "vhdx", size: before, ...options });
  await writeBytes(disk, 0, new Uint8Array(sector).fill(1));
  await writeBytes(disk, before - sector, new Uint8Array(sector).fill(2));
  await disk.resize(after);
  expect(disk.size).toBe(after);
  const length = Math.min(MiB, after - before);
  expect((await readBytes(disk, before, length)).some((byte) => byte !== 0)).toBe(false);
  await writeBytes(disk, after - sector, new Uint8Array(sector).fill(3));
  await disk.close();
  const again = await openDisk(store, { readOnly: true });
  expect(again.size).toBe(after);
  for (const [at, value] of [
    [0, 1],
    [before - sector, 2],
    [after - sector, 3],
  ]) {
    expect((await readBytes(again, at, 1))[0]).toBe(value);
  }
  expect((await readBytes(again, before, Math.min(MiB, after - sector - before))).some((byte) => byte !== 0)).toBe(
    false,
  );
});

test("what lay beyond the old end does not show", async () => {
  const store = new KeptStore();
  const disk = await createDisk(store, { format: "vhdx", size: MiB / 2, blockSize: MiB });
  await writeBytes(disk, 0, new Uint8Array(512).fill(1));
  await disk.close();
  const bytes = contentOf(store);
  bytes.fill(0xee, 4 * MiB + MiB / 2); // the second half of the block
  bytes.fill(0xee, 3 * MiB + 8, 3 * MiB + 16); // the second entry
  const again = await openDisk(new KeptStore(bytes));
  await again.resize(2 * MiB);
  expect((await readBytes(again, 512, 2 * MiB - 512)).some((byte) => byte !== 0)).toBe(false);
});

test("a differencing disk grows, keeping its bitmap; the parent ends where it did", async () => {
  const parent = new KeptStore();
  const base = await createDisk(parent, { format: "vhdx", size: 3 * MiB });
  await writeBytes(base, 0, new Uint8Array(3 * MiB).fill(0xaa));
  const { dataWriteGuid } = base.describe();
  await base.close();
  const child = new KeptStore();
  const backing = () => openDisk(parent, { readOnly: true });
  const options = {
    format: "vhdx",
    size: 3 * MiB,
    blockSize: MiB,
    parent: { identity: String(dataWriteGuid), path: "x" },
  };
  const disk = await createDisk(child, { ...options, backing: await backing() });
  await writeBytes(disk, 512, new Uint8Array(512).fill(1));
  await disk.resize(5 * GiB);
  await writeBytes(disk, 5 * GiB - 1024, new Uint8Array(512).fill(2));
  await disk.close();
  const again = await openDisk(child, { backing: await backing() });
  const fill = async (at: number) => (await readBytes(again, at, 1))[0];
  expect([await fill(0), await fill(512), await fill(3 * MiB - 1), await fill(3 * MiB)]).toEqual([0xaa, 1, 0xaa, 0]);
  expect([await fill(5 * GiB - 1536), await fill(5 * GiB - 1024), await fill(5 * GiB - 512)]).toEqual([0, 2, 0]);
});

test("other regions stay when the table moves, and a damaged copy of theirs is made good", async () => {
  const store = new KeptStore();
  await (await createDisk(store, { format: "vhdx", size: GiB, blockSize: MiB })).close();
  const bytes = new Uint8Array(6 * MiB);
  bytes.set(contentOf(store));
  const view = new DataView(bytes.buffer);
  for (const table of [192 * 1024, 256 * 1024]) {
    view.setUint32(table + 8, 3, true);
    view.setUint8(table + 16 + 64, 0x77);
    view.setUint32(table + 16 + 64 + 16, 5 * MiB, true);
    view.setUint32(table + 16 + 64 + 24, MiB, true);
    seal(bytes.subarray(table, table + 65536), "regi");
  }
  bytes[192 * 1024 + 40_000] = 1;
  const kept = new KeptStore(bytes);
  const disk = await openDisk(kept);
  await disk.resize(TiB);
  await writeBytes(disk, 0, new Uint8Array(512).fill(1));
  await disk.close();
  const warnings: string[] = [];
  const again = await openDisk(kept, { onWarning: (text) => warnings.push(text) });
  expect(warnings).toEqual([]);
  expect((await readBytes(again, 0, 1))[0]).toBe(1);
  const head = new Uint8Array(contentOf(kept).buffer, 0, 6 * MiB);
  expect(head[192 * 1024 + 80]).toBe(0x77);
});

test("power may be lost at any moment of it: the disk is as before, or as after", async () => {
  const store = new RecordingStore();
  const disk = await createDisk(store, { format: "vhdx", size: GiB + 512, blockSize: MiB });
  await writeBytes(disk, GiB, new Uint8Array(512).fill(7));
  await writeBytes(disk, 0, new Uint8Array(512).fill(8));
  await flush(disk);
  const start = store.steps.length;
  await disk.resize(TiB);
  await writeBytes(disk, TiB - 512, new Uint8Array(512).fill(9));
  await disk.close();
  const sizes = new Set<number>();
  const random = randomFrom(3);
  for (let count = start; count <= store.steps.length; count++) {
    for (const torn of [undefined, random]) {
      const left = afterCut(store.steps, count, torn);
      for (const readOnly of [true, false]) {
        const found = await openDisk(left, { format: "vhdx", readOnly });
        sizes.add(found.size);
        expect([GiB + 512, TiB]).toContain(found.size);
        expect((await readBytes(found, GiB, 1))[0]).toBe(7);
        expect((await readBytes(found, 0, 1))[0]).toBe(8);
        await found.close();
      }
    }
  }
  expect(sizes.size).toBe(2);
});

test("requests under way finish before, later ones wait; it is refused where it cannot be", async () => {
  const store = new KeptStore();
  const disk = await createDisk(new LateStore(store, 4), { format: "vhdx", size: 4 * MiB, blockSize: MiB });
  const writes = [0, 1, 2, 3].map((block) => writeBytes(disk, block * MiB, new Uint8Array(4096).fill(block + 1)));
  const resized = disk.resize(GiB * 200);
  const after = writeBytes(disk, 3 * MiB + 8192, new Uint8Array(512).fill(9));
  const twice = disk.resize(GiB * 300);
  const closed = Promise.all([...writes, resized, after, twice]).then(() => disk.close());
  await closed;
  const again = await openDisk(store);
  expect(again.size).toBe(GiB * 300);
  for (const block of [0, 1, 2, 3]) expect((await readBytes(again, block * MiB, 1))[0]).toBe(block + 1);
  expect((await readBytes(again, 3 * MiB + 8192, 1))[0]).toBe(9);
  const code = (promise: Promise<unknown>) => promise.catch((error) => error.code);
  expect(await code(again.resize(0))).toBe("INVALID");
  expect(await code(again.resize(GiB * 300 + 100))).toBe("INVALID");
  expect(await code(again.resize(65 * TiB))).toBe("INVALID");
  expect((await readBytes(again, 0, 1))[0]).toBe(1);
  await again.close();
  expect(await code(again.resize(GiB))).toBe("CLOSED");
  expect(await code((await openDisk(store, { readOnly: true })).resize(TiB))).toBe("READ_ONLY");
});
