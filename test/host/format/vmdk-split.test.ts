import { describe, expect, test } from "vitest";
import { Status } from "../../../src/core/block.ts";
import { run } from "../../../src/core/flow.ts";
import { readBytes, writeBytes } from "../../../src/host/block/bytes.ts";
import { createDisk, type Disk, openDisk } from "../../../src/host/block/open.ts";
import { parentNote } from "../../../src/host/block/overlay.ts";
import { vmdk } from "../../../src/host/format/vmdk/index.ts";
import { measureImage } from "../../../src/host/image/measure.ts";
import { KeptStore } from "../../support/disks.ts";
import { Folder } from "../../support/folder.ts";
import { batchOf, compare, Model, type Step } from "../../support/model.ts";
import { contentOf, FaultStore, LateStore, randomFrom } from "../../support/stores.ts";
import { seSparseExtent, streamExtent } from "../../support/vmdk.ts";

const GiB = 2 ** 30;
const MiB = 2 ** 20;
const text = (content: string) => new KeptStore(new TextEncoder().encode(content));
const textOf = (store: KeptStore) => new TextDecoder().decode(contentOf(store));

function descriptor(lines: string[], more: string[] = []): KeptStore {
  return text(
    [
      "# Disk DescriptorFile",
      "version=1",
      "CID=12345678",
      "parentCID=ffffffff",
      'createType="custom"',
      ...more,
      ...lines,
    ]
      .join("\n")
      .concat("\n"),
  );
}

/** A disk of extents of every kind that can be written, with borders that no grain has. */
async function mixed(seen?: (store: KeptStore) => LateStore | FaultStore) {
  const folder = new Folder(seen);
  for (const [name, size] of [
    ["s1", 3 * MiB + 512],
    ["s2", 2 * MiB],
  ] as const) {
    const store = new KeptStore();
    await (await createDisk(store, { format: "vmdk", size })).close();
    folder.files.set(name, store);
  }
  for (const name of ["f1", "f2"]) folder.files.set(name, new KeptStore(new Uint8Array(2 * MiB)));
  const store = descriptor([
    `RW ${(3 * MiB) / 512 + 1} SPARSE "s1"`,
    `RW 2047 FLAT "f1" 5`,
    `RW 33 VMFS "f2"`,
    `RW ${(2 * MiB) / 512} SPARSE "s2"`,
    `RW 1000 FLAT "f1" 2500`,
  ]);
  return { folder, store, open: () => openDisk(store, { openFile: folder.openFile }) };
}

function steps(random: () => number, sectors: number, count: number): Step[] {
  return Array.from({ length: count }, () => {
    const kinds: Step["kind"][] = ["write", "write", "write", "read", "zero", "discard", "flush"];
    const sector = Math.floor(random() * sectors);
    const length = 1 + Math.floor(random() * (random() < 0.2 ? 5000 : 20));
    return { kind: kinds[Math.floor(random() * kinds.length)], sector, count: Math.min(length, sectors - sector) };
  });
}

async function play(disk: Disk, model: Model, list: Step[]) {
  const { batch, check } = batchOf(model, list);
  await disk.submit(batch);
  expect(check()).toBeNull();
}

const checked = (store: KeptStore, folder: Folder) => run(vmdk.check!(store, { openFile: folder.openFile }));

describe("extents of every kind", () => {
  test.each([false, true])("hold what is written, over stores that answer late: %s", async (late) => {
    const { folder, store, open } = await mixed(late ? (inner) => new LateStore(inner, 5) : undefined);
    const random = randomFrom(11);
    const model = new Model();
    for (let life = 0; life < 6; life++) {
      const disk = await open();
      for (let i = 0; i < 6; i++) await play(disk, model, steps(random, disk.size / 512, 12));
      expect(await compare(disk, model)).toBeNull();
      await disk.close();
    }
    const disk = await open();
    expect(await compare(disk, model)).toBeNull();
    await disk.close();
    expect(await checked(store, folder)).toMatchObject({ corruptions: 0, leaks: 0, problems: [] });
    expect(textOf(store)).not.toContain("CID=12345678");
    // What is behind an extent's end in its file is no business of ours.
    const flat = contentOf(folder.files.get("f1")!);
    expect(flat.subarray(2052 * 512, 2500 * 512).every((byte) => byte === 0)).toBe(true);
  });

  test("any call of an extent's store may fail: requests say so, and what was written before stays", async () => {
    let failures = 0;
    for (let failing = 0; failing < 60; failing++) {
      const faulty: FaultStore[] = [];
      const { folder, store, open } = await mixed((inner) => {
        faulty.push(new FaultStore(inner));
        return faulty[faulty.length - 1];
      });
      const model = new Model();
      const disk = await open();
      await play(disk, model, [{ kind: "write", sector: 6100, count: 2200 }]);
      let left = failing;
      for (const each of faulty) each.fault = () => (left-- === 0 ? "IO" : undefined);
      const { batch } = batchOf(new Model(), [
        { kind: "write", sector: 0, count: 2000 },
        { kind: "flush", sector: 0, count: 0 },
        { kind: "write", sector: 10_000, count: 2000 },
      ]);
      await disk.submit(batch);
      if (batch.some(({ status }) => status === Status.Io)) failures++;
      for (const each of faulty) each.fault = () => undefined;
      await Promise.resolve(disk.close()).catch(() => {});
      const again = await openDisk(store, { openFile: folder.openFile });
      await play(again, model, [{ kind: "read", sector: 6100, count: 2200 }]);
      await again.close();
      expect((await checked(store, folder)).problems.filter(({ kind }) => kind === "structure")).toEqual([]);
    }
    expect(failures).toBeGreaterThan(3);
  });

  test("the map names the extents' files", async () => {
    const { open } = await mixed();
    const disk = await open();
    await writeBytes(disk, 0, new Uint8Array(512).fill(1));
    expect((await disk.places(0, 512))[0]).toMatchObject({ kind: "data", depth: 0, position: expect.any(Number) });
    const [place] = await disk.places(3 * MiB + 512, 512);
    expect(place).toMatchObject({ kind: "data", position: 5 * 512 });
    await disk.close();
  });

  test("zeros are in no file: they are read, and writes there are refused", async () => {
    const folder = new Folder();
    folder.files.set("f", new KeptStore(new Uint8Array(1024).fill(7)));
    const store = descriptor(['RW 1 FLAT "f" 0', "RW 8 ZERO", 'RW 1 FLAT "f" 1']);
    const disk = await openDisk(store, { openFile: folder.openFile });
    expect(disk.size).toBe(5120);
    expect((await readBytes(disk, 0, 5120)).reduce((sum, byte) => sum + byte)).toBe(7 * 1024);
    await expect(writeBytes(disk, 1024, new Uint8Array(512))).rejects.toMatchObject({ code: "UNSUPPORTED" });
    await writeBytes(disk, 4608, new Uint8Array(512).fill(9));
    await disk.close();
    expect(contentOf(folder.files.get("f")!).subarray(511, 513)).toEqual(Uint8Array.of(7, 9));
  });
});

describe.each(["monolithicFlat", "twoGbMaxExtentFlat", "twoGbMaxExtentSparse", "vmfs", "vmfsSparse"])(
  "%s",
  (subformat) => {
    const files = subformat.startsWith("twoGb") ? 3 : 1;
    // Flat files of this size would be held in memory.
    const size = subformat === "twoGbMaxExtentSparse" ? 5 * GiB : subformat === "twoGbMaxExtentFlat" ? 0 : 8 * MiB;

    test.skipIf(size === 0)("is made, written, grows and shrinks", async () => {
      const folder = new Folder();
      const store = new KeptStore();
      await createFiles(folder, store, { subformat, size });
      expect(folder.files.size).toBe(files);
      const open = () => openDisk(store, { openFile: folder.openFile });
      const disk = await open();
      expect(disk.size).toBe(size);
      expect(disk.describe().formatSpecific).toMatchObject({ data: { "create-type": subformat } });
      const places = [0, size / 2, size - 4096];
      for (const [i, at] of places.entries()) await writeBytes(disk, at, new Uint8Array(4096).fill(i + 1));
      await disk.resize(size + MiB);
      await writeBytes(disk, size + MiB - 512, new Uint8Array(512).fill(9));
      await disk.close();
      const again = await open();
      expect(again.size).toBe(size + MiB);
      for (const [i, at] of places.entries()) expect((await readBytes(again, at, 1))[0]).toBe(i + 1);
      expect((await readBytes(again, size + MiB - 1024, 1024)).subarray(511, 513)).toEqual(Uint8Array.of(0, 9));
      await again.resize(size);
      await again.resize(size + MiB);
      expect((await readBytes(again, size, MiB)).every((byte) => byte === 0)).toBe(true);
      await expect(again.resize(size + 513)).rejects.toMatchObject({ code: "INVALID" });
      if (files > 1) await expect(again.resize(size + 2 * GiB)).rejects.toMatchObject({ code: "UNSUPPORTED" });
      await again.close();
      const repaired = run(vmdk.repair!(store, "all", { openFile: folder.openFile }));
      expect(await repaired).toMatchObject({ corruptions: 0, leaks: 0 });
    });

    test("needs somebody to make its files", async () => {
      await expect(createDisk(new KeptStore(), { format: "vmdk", size: MiB, subformat })).rejects.toMatchObject({
        code: "INVALID",
        message: expect.stringContaining("several files"),
      });
    });

    test("is measured with all its files", async () => {
      const folder = new Folder();
      const store = new KeptStore();
      const small = 8 * MiB;
      await createFiles(folder, store, { subformat, size: small });
      const { required } = await measureImage({ format: "vmdk", source: small, subformat });
      const taken = [store, ...folder.files.values()].reduce((sum, file) => sum + file.size, 0);
      expect(Math.abs(required - taken)).toBeLessThan(512);
    });
  },
);

async function createFiles(folder: Folder, store: KeptStore, options: Record<string, unknown> & { size: number }) {
  const files = folder.making("disk.vmdk");
  const disk = await createDisk(store, { format: "vmdk", openFile: folder.openFile, files, ...options });
  await disk.close();
}

test("a twoGbMaxExtentSparse disk over a parent, each extent from its own place there", async () => {
  const size = 2 * GiB + 4 * MiB;
  const parent = new KeptStore();
  const base = await createDisk(parent, { format: "vmdk", size });
  const spots = [65536, 2 * GiB - 65536, 2 * GiB, 2 * GiB + MiB];
  for (const at of spots) await writeBytes(base, at, new Uint8Array(65536).fill(0xaa));
  const note = parentNote(base, { path: "p.vmdk" });
  await base.close();
  const folder = new Folder();
  const store = new KeptStore();
  const backing = () => openDisk(parent, { readOnly: true });
  await (
    await createDisk(store, {
      ...{ format: "vmdk", subformat: "twoGbMaxExtentSparse", size, parent: note, backing: await backing() },
      files: folder.making("c.vmdk"),
      openFile: folder.openFile,
    })
  ).close();
  const disk = await openDisk(store, { openFile: folder.openFile, backing: await backing() });
  const first = async (at: number) => (await readBytes(disk, at, 1))[0];
  // The rest of each grain comes from the parent, in the second extent too.
  for (const at of spots) await writeBytes(disk, at + 512, new Uint8Array(512).fill(1));
  for (const at of spots)
    expect([await first(at), await first(at + 512), await first(at + 1024)]).toEqual([0xaa, 1, 0xaa]);
  await disk.close();
  const alone = await openDisk(store, { openFile: folder.openFile, alone: true });
  for (const at of spots) expect((await readBytes(alone, at, 1))[0]).toBe(0xaa);
  await alone.close();
  const wrong = await openDisk(parent);
  await writeBytes(wrong, 0, new Uint8Array(512).fill(1));
  await wrong.close();
  const stale = openDisk(store, { openFile: folder.openFile, backing: await backing() });
  await expect(stale).rejects.toMatchObject({ code: "CORRUPT", message: expect.stringContaining("was changed") });
});

describe("an extent named by its path on another host", () => {
  test.each([
    ["C:\\vm\\disk-flat.vmdk", "disk-flat.vmdk"],
    ["/vmfs/volumes/datastore1/vm/disk-flat.vmdk", "disk-flat.vmdk"],
    ["\\\\server\\share\\disk-flat.vmdk", "disk-flat.vmdk"],
    ["parts\\disk-flat.vmdk", "parts/disk-flat.vmdk"],
  ])("%s is looked for beside the descriptor", async (name, here) => {
    const folder = new Folder();
    folder.files.set(here, new KeptStore(new Uint8Array(512).fill(7)));
    const disk = await openDisk(descriptor([`RW 1 FLAT "${name}" 0`]), { openFile: folder.openFile });
    expect((await readBytes(disk, 0, 512))[9]).toBe(7);
    await disk.close();
    const absent = openDisk(descriptor([`RW 1 FLAT "${name}" 0`]), { openFile: new Folder().openFile });
    await expect(absent).rejects.toMatchObject({ code: "NOT_FOUND", message: expect.stringContaining(name) });
  });
});

describe("refused", () => {
  const folder = new Folder();
  folder.files.set("f", new KeptStore(new Uint8Array(4096)));
  const open = (lines: string[], more: string[] = []) =>
    openDisk(descriptor(lines, more), { openFile: folder.openFile });

  test.each<[string, string[], string, string]>([
    ["an absent extent", ['RW 8 FLAT "gone" 0'], "NOT_FOUND", "gone"],
    ["one that is too short", ['RW 9 FLAT "f" 0'], "CORRUPT", "the descriptor gives it 4608 bytes"],
    ["one that is too short after its offset", ['RW 8 FLAT "f" 1'], "CORRUPT", "ends here"],
    ["no extents", [], "CORRUPT", "names no extent"],
    ["an extent without a file", ["RW 8 FLAT"], "CORRUPT", "names no file"],
    [
      "a line that is no extent, between others",
      ['RW 4 FLAT "f" 0', 'RW 0x4 FLAT "f" 4'],
      "CORRUPT",
      'RW 0x4 FLAT "f"',
    ],
    ["an offset that is none", ['RW 4 FLAT "f" -1'], "CORRUPT", 'RW 4 FLAT "f" -1'],
    ["a device of another machine", ['RW 8 FLAT "\\\\.\\PhysicalDrive0" 0'], "UNSUPPORTED", "is a device"],
    ["an unknown type", ['RW 8 VMFSRDM "f"'], "UNSUPPORTED", "VMFSRDM"],
    ["one that must not be read", ['NOACCESS 8 FLAT "f" 0'], "UNSUPPORTED", "must not be read"],
    ["a sparse extent that is none", ['RW 8 SPARSE "f"'], "CORRUPT", "no magic"],
    ["the same bytes in two extents", ['RW 4 FLAT "f" 0', 'RW 4 FLAT "f" 3'], "CORRUPT", "two extents"],
    ["more files than a disk can need", Array(40_000).fill('RW 1 FLAT "f" 0'), "UNSUPPORTED", "40000 extents in files"],
    ["absurd sizes", ['RW 999999999999999 FLAT "f" 0'], "CORRUPT", "sectors"],
  ])("%s", async (_, lines, code, said) => {
    await expect(open(lines)).rejects.toMatchObject({ code, message: expect.stringContaining(said) });
  });

  test("a disk that VMware has encrypted", async () => {
    const keys = 'encryptionKeys="vmware:key/list/(pair/(fqid/<VMWARE-NULL>/x,HMAC-SHA-256,abc))"';
    await expect(open(['RW 8 FLAT "f" 0'], [keys])).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: "the disk is encrypted by VMware",
    });
  });

  test("writes, when others go by a record of what changes", async () => {
    const disk = await open(['RW 8 FLAT "f" 0'], ["# Change Tracking File", 'changeTrackPath="f-ctk.vmdk"']);
    expect(disk.describe()).toMatchObject({ changeTracking: "f-ctk.vmdk" });
    await expect(writeBytes(disk, 0, new Uint8Array(512))).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: expect.stringContaining("f-ctk.vmdk"),
    });
    await disk.close();
  });

  test.each<[string, number, number, string, string]>([
    ["has no magic", 0, 0, "CORRUPT", "no magic"],
    ["of another version", 1, 7, "UNSUPPORTED", "word 1 of the seSparse header is 7"],
    ["of less than the descriptor says", 2, 8, "CORRUPT", "says 8 sectors"],
    ["with a directory behind the end", 16, 2 ** 30, "CORRUPT", "where it cannot be"],
    ["whose journal was not replayed", 64 + 3, 1, "UNSUPPORTED", "has not been replayed"],
    ["without its volatile header", 64, 1, "CORRUPT", "volatile header has no magic"],
  ])("a seSparse extent that %s", async (_, word, value, code, said) => {
    const extent = seSparseExtent(new Uint8Array(16 * 512));
    new DataView(extent.buffer).setBigUint64(word * 8, BigInt(value), true);
    folder.files.set("se", new KeptStore(extent));
    await expect(open(['RW 16 SESPARSE "se"'])).rejects.toMatchObject({ code, message: expect.stringContaining(said) });
  });

  test("a compressed grain that was tampered with, by the name of its file", async () => {
    const extent = streamExtent(new Uint8Array(64 * 512).fill(3), { footer: false });
    extent[512 + 20] ^= 255;
    folder.files.set("c", new KeptStore(extent));
    const disk = await openDisk(descriptor(['RW 64 SPARSE "c"']), { readOnly: true, openFile: () => named("c.vmdk") });
    await expect(readBytes(disk, 0, 512)).rejects.toMatchObject({
      code: "CORRUPT",
      context: { file: "c.vmdk", structure: "compressed grain", offset: 524 },
    });
    await disk.close();
  });
  const named = (name: string) => {
    const store = folder.files.get("c")!;
    return Object.defineProperty(store, "name", { value: name });
  };

  test("writes, when an extent is read-only", async () => {
    const disk = await open(['RDONLY 8 FLAT "f" 0']);
    await expect(writeBytes(disk, 0, new Uint8Array(512))).rejects.toMatchObject({ code: "READ_ONLY" });
    await disk.close();
  });

  test("extents without somebody who opens them, and one extent by itself", async () => {
    await expect(openDisk(descriptor(['RW 8 FLAT "f" 0']))).rejects.toMatchObject({
      code: "NOT_FOUND",
      message: expect.stringContaining("f"),
    });
    const made = new Folder();
    await createFiles(made, new KeptStore(), { subformat: "twoGbMaxExtentSparse", size: MiB });
    await expect(openDisk(made.files.get("disk-s001.vmdk")!)).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: expect.stringContaining("descriptor is another file"),
    });
  });
});
