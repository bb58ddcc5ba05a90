import { describe, expect, test } from "vitest";
import { type Later, run } from "../../../src/core/flow.ts";
import type { CheckReport, CreateOptions } from "../../../src/core/format.ts";
import { SegmentList } from "../../../src/core/segments.ts";
import { flush, readBytes, writeBytes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { parentNote } from "../../../src/host/block/overlay.ts";
import { vmdk } from "../../../src/host/format/vmdk/index.ts";
import { KeptStore } from "../../support/disks.ts";
import { Folder } from "../../support/folder.ts";
import { mixed } from "../../support/read-only.ts";
import { type Call, contentOf, StoreFilter } from "../../support/stores.ts";
import { cowdExtent, descriptorText } from "../../support/vmdk.ts";

const MiB = 2 ** 20;
const SIZE = 5 * MiB + 512;
/** Bytes of the header's fields. */
const [SECTORS, DIRECTORY, TABLES, FREE, UNCLEAN] = [12, 20, 24, 28, 1648];

/** What is done to a store. */
class Counter extends StoreFilter {
  calls: Call[] = [];

  protected override around(call: Call, _position: number, _length: number, work: () => Later<void>): Later<void> {
    this.calls.push(call);
    return work();
  }
}

async function made(size = SIZE) {
  const counters: Counter[] = [];
  const folder = new Folder((store) => {
    counters.push(new Counter(store));
    return counters[counters.length - 1];
  });
  const store = new KeptStore();
  const options = { size, subformat: "vmfsSparse" } as CreateOptions;
  run(vmdk.create!(store, options, folder.making("d.vmdk")));
  const open = () => openDisk(store, { openFile: folder.openFile });
  const check = () => run(vmdk.check!(store, { openFile: folder.openFile })) as CheckReport;
  const repair = (what: "leaks" | "all") => run(vmdk.repair!(store, what, { openFile: folder.openFile }));
  const extent = folder.files.get("d-delta.vmdk")!;
  const word = (at: number) => new DataView(contentOf(extent).buffer).getUint32(at, true);
  const put = (at: number, value: number) => {
    const bytes = new Uint8Array(new Uint32Array([value]).buffer);
    return extent.writev(at, bytes, SegmentList.of(0, 4));
  };
  return { counters, store, open, check, repair, extent, word, put };
}

const pattern = (length: number) => Uint8Array.from({ length }, (_, i) => 1 + (i >> 9) + (i % 7));

describe("vmfsSparse", () => {
  test("the header says what there is, where the next grain goes, and whether the disk is open", async () => {
    const { open, word, extent, check, store } = await made();
    expect([word(SECTORS), word(DIRECTORY), word(TABLES), word(FREE), word(UNCLEAN)]).toEqual([SIZE / 512, 4, 3, 5, 0]);
    const before = new TextDecoder().decode(contentOf(store)).match(/CID=(\w+)/)![1];
    const disk = await open();
    await writeBytes(disk, 0, pattern(1024));
    expect(word(UNCLEAN)).toBe(1);
    await flush(disk);
    // The table of 32 sectors, and two grains.
    expect(word(FREE)).toBe(5 + 32 + 2);
    await disk.close();
    expect([word(FREE), word(UNCLEAN), extent.size]).toEqual([39, 0, 39 * 512]);
    expect(new TextDecoder().decode(contentOf(store)).match(/CID=(\w+)/)![1]).not.toBe(before);
    expect(check()).toMatchObject({ corruptions: 0, leaks: 0, allocatedClusters: 2 });
  });

  test("a mebibyte in grains of a sector is one write of data, and one of its table", async () => {
    const { counters, open } = await made();
    const disk = await open();
    await writeBytes(disk, 3 * MiB, pattern(512));
    await flush(disk);
    const { calls } = counters[counters.length - 1];
    calls.length = 0;
    await writeBytes(disk, 0, pattern(MiB));
    await flush(disk);
    // Data; then the table, the directory, and the header's free sector.
    expect(calls.filter((call) => call === "writev")).toHaveLength(4);
    expect(calls.filter((call) => call === "flush").length).toBeLessThanOrEqual(3);
    expect(Buffer.compare(await readBytes(disk, 0, MiB), pattern(MiB))).toBe(0);
    await disk.close();
  });

  test.each([1, 2, 8, 128])("grains of %d sectors, in the file of another", async (grain) => {
    const content = mixed(SIZE, 3).slice();
    const folder = new Folder();
    folder.files.set("e", new KeptStore(cowdExtent(content, grain)));
    const store = new KeptStore(descriptorText("vmfsSparse", [`RW ${SIZE / 512} VMFSSPARSE "e"`]));
    const disk = await openDisk(store, { openFile: folder.openFile });
    for (const at of [512, MiB - 1024, 4 * MiB, SIZE - 3 * 512]) {
      const bytes = pattern(Math.min(100 * 512, SIZE - at));
      content.set(bytes, at);
      await writeBytes(disk, at, bytes);
    }
    expect(Buffer.compare(await readBytes(disk, 0, SIZE), content)).toBe(0);
    await disk.close();
    const again = await openDisk(store, { openFile: folder.openFile, readOnly: true });
    expect(Buffer.compare(await readBytes(again, 0, SIZE), content)).toBe(0);
    expect(run(vmdk.check!(store, { openFile: folder.openFile }))).toMatchObject({ corruptions: 0, leaks: 0 });
  });

  test("what is lost is found, and given back; a free sector that is in use is said, and mended", async () => {
    const { open, extent, check, repair, word, put } = await made();
    const disk = await open();
    for (let at = 0; at < 4 * MiB; at += MiB) await writeBytes(disk, at, pattern(2048));
    await disk.close();
    const end = extent.size;
    await extent.resize(end + 20 * 512);
    expect(check()).toMatchObject({ corruptions: 0, leaks: 20 });
    expect(repair("leaks")).toMatchObject({ corruptions: 0, leaks: 0 });
    expect(extent.size).toBe(end);
    await put(FREE, 6);
    expect(check().problems).toEqual([expect.objectContaining({ kind: "count", offset: FREE })]);
    expect(repair("all")).toMatchObject({ corruptions: 0, problems: [] });
    expect(word(FREE)).toBe(end / 512);
    // A grain in the middle is lost: the last one takes its place.
    const table = word(4 * 512);
    await put(table * 512, 0);
    expect(check()).toMatchObject({ corruptions: 0, leaks: 1 });
    expect(repair("all")).toMatchObject({ corruptions: 0, leaks: 0 });
    expect([extent.size, word(FREE)]).toEqual([end - 512, end / 512 - 1]);
    const again = await open();
    expect(Buffer.compare(await readBytes(again, 3 * MiB, 2048), pattern(2048))).toBe(0);
    await again.close();
  });

  test("it grows, with an empty directory, and shrinks; up to what its fields can say", async () => {
    const { open, extent, word, check } = await made();
    const disk = await open();
    await writeBytes(disk, 0, pattern(MiB));
    await disk.resize(2 ** 40);
    await writeBytes(disk, 2 ** 40 - 512, pattern(512));
    expect(extent.size).toBeLessThan(5 * MiB);
    await expect(disk.resize(2 ** 41)).rejects.toMatchObject({ code: "INVALID" });
    await disk.close();
    expect([word(SECTORS), word(TABLES)]).toEqual([2 ** 31, 2 ** 19]);
    const again = await open();
    expect(Buffer.compare(await readBytes(again, 0, MiB), pattern(MiB))).toBe(0);
    expect((await readBytes(again, 2 ** 40 - 512, 512))[0]).toBe(1);
    await again.resize(MiB);
    await again.close();
    expect([word(SECTORS), word(TABLES)]).toEqual([MiB / 512, 1]);
    expect(check()).toMatchObject({ corruptions: 0 });
  });

  test("over a parent: what is beside a write in its grain is the parent's", async () => {
    const parent = new KeptStore();
    const base = await createDisk(parent, { format: "vmdk", size: SIZE });
    await writeBytes(base, 0, new Uint8Array(SIZE).fill(0xee));
    await base.close();
    const backing = () => openDisk(parent, { readOnly: true });
    for (const grain of [1, 8]) {
      const folder = new Folder();
      folder.files.set("e", new KeptStore(cowdExtent(new Uint8Array(SIZE), grain)));
      const { identity } = await parentNote(await backing(), { path: "p.vmdk" });
      const lines = [`parentCID=${identity}`, 'parentFileNameHint="p.vmdk"'];
      const store = new KeptStore(descriptorText("vmfsSparse", [`RW ${SIZE / 512} VMFSSPARSE "e"`], lines));
      const disk = await openDisk(store, { openFile: folder.openFile, backing: await backing() });
      await writeBytes(disk, 3 * 512, new Uint8Array(512).fill(1));
      const bytes = await readBytes(disk, 0, SIZE);
      expect(bytes.findIndex((byte) => byte !== 0xee)).toBe(3 * 512);
      expect(bytes.subarray(4 * 512).every((byte) => byte === 0xee)).toBe(true);
      expect((await disk.places(0, 4096)).some(({ depth }) => depth === 1)).toBe(grain === 1);
      await disk.close();
    }
  });

  test("options that it has no use for are refused", async () => {
    const files = new Folder().making("d.vmdk");
    const create = (options: Record<string, unknown>) =>
      run(vmdk.create!(new KeptStore(), { size: SIZE, subformat: "vmfsSparse", ...options }, files));
    expect(() => create({ zeroedGrain: true })).toThrow("cannot say that a grain is zeros");
    expect(() => create({ size: 2 ** 41 })).toThrow("cannot be");
  });

  test("one can be made over a parent", () => {
    const store = new KeptStore();
    const parent = { path: "p.vmdk", identity: "0badcafe" };
    run(
      vmdk.create!(
        store,
        { size: SIZE, subformat: "vmfsSparse", parent } as CreateOptions,
        new Folder().making("d.vmdk"),
      ),
    );
    const text = new TextDecoder().decode(contentOf(store));
    expect(text).toContain("parentCID=0badcafe");
    expect(text).toContain(`RW ${SIZE / 512} VMFSSPARSE "d-delta.vmdk"`);
  });
});
