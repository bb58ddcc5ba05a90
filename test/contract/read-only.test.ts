import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { run } from "../../src/core/flow.ts";
import { readBytes, writeBytes } from "../../src/host/block/bytes.ts";
import type { OpenRequest } from "../../src/host/block/gate.ts";
import { createDisk, type Disk, openDisk } from "../../src/host/block/open.ts";
import { FORMATS } from "../../src/host/format/index.ts";
import { checkImage, repairImage } from "../../src/host/image/check.ts";
import { copyDisk } from "../../src/host/image/copy.ts";
import { createImage } from "../../src/host/image/create.ts";
import { mapDisk } from "../../src/host/image/map.ts";
import { measureImage } from "../../src/host/image/measure.ts";
import { KeptStore } from "../support/disks.ts";
import { bundle, hdsImage, mixed, READ_ONLY, sparseBundle } from "../support/read-only.ts";
import { contentOf, LateStore, randomFrom } from "../support/stores.ts";
import { cowdExtent, descriptorText, seSparseExtent, streamExtent, streamImage } from "../support/vmdk.ts";

const SIZE = 1 << 20;
const CONTENT = mixed(SIZE);
const hash = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const code = (promise: Promise<unknown>) =>
  promise.then(
    () => "none",
    (error) => error.code,
  );

test("every format that is only read is in this suite", () => {
  const read = FORMATS.filter(({ create }) => !create).map(({ name }) => name);
  expect(read.sort()).toEqual(Object.keys(READ_ONLY).sort());
});

interface Case {
  name: string;
  format: string;
  image: Uint8Array;
  /** The other files of the image. */
  files?: Record<string, Uint8Array>;
  /** Others of that format are written. */
  others?: boolean;
  /** It is written itself, though none is made. */
  written?: boolean;
  /** It has no holes that it tells of; nothing is compressed. */
  whole?: boolean;
  plain?: boolean;
  /** Why it is not mended. */
  mending?: string;
}
const PLAIN = ["qed", "bochs", "parallels-bundle", "sparseimage", "sparsebundle"];
const parallels = { format: "parallels", others: true, plain: true, mending: "UNSUPPORTED" };
const lone = (type: string) => descriptorText(type, [`RW ${SIZE / 512} ${type.toUpperCase()} "e"`]);
const vmdk = { format: "vmdk", others: true };
const CASES: Case[] = [
  ...Object.entries(READ_ONLY).map(([format, make]) => ({
    ...{ name: format, format, image: make(CONTENT), plain: PLAIN.includes(format) },
    whole: ["cloop", "parallels-bundle"].includes(format),
    ...(format === "parallels-bundle" && { files: bundle(CONTENT, mixed(SIZE, 9)).files, written: true }),
    ...(format === "sparsebundle" && { files: sparseBundle(CONTENT).files }),
  })),
  { ...vmdk, name: "vmdk, streamOptimized", image: streamImage(CONTENT), mending: "UNSUPPORTED" },
  ...[{ footer: false }, { markers: false }].map((options) => ({
    ...{ ...vmdk, name: `vmdk, streamOptimized, no ${Object.keys(options)}`, mending: "UNSUPPORTED" },
    image: streamImage(CONTENT, options),
  })),
  {
    ...{ ...vmdk, name: "vmdk, vmfsSparse, grains of 3 sectors", plain: true },
    ...{ image: lone("vmfsSparse"), files: { e: cowdExtent(CONTENT, 3) } },
  },
  {
    ...{ ...vmdk, name: "vmdk, seSparse", plain: true },
    ...{ image: lone("seSparse"), files: { e: seSparseExtent(CONTENT) } },
  },
  {
    ...{ ...vmdk, name: "vmdk, compressed extents", files: { e: streamExtent(CONTENT, { entries: 128, grain: 8 }) } },
    image: descriptorText("custom", [`RW ${SIZE / 512} SPARSE "e"`]),
  },
  {
    ...{ ...parallels, name: "parallels, clusters of 63 sectors", whole: true },
    image: hdsImage(CONTENT, undefined, 63 * 512, true),
  },
  { ...parallels, name: "parallels, clusters of 6 KiB", image: hdsImage(CONTENT, undefined, 6144) },
];

describe.each(CASES)("$name", ({ format, image, files = {}, others, written, whole, plain, mending }) => {
  const openFile = (name: string) => new KeptStore(files[name]);
  const gate = { open: ({ names: [name] }: OpenRequest) => ({ store: openFile(name) }) };
  const reading = { readOnly: true, openFile };
  const open = (store = new KeptStore(image)): Promise<Disk> => openDisk(store, reading);

  test("is known by its content, and says what it is", async () => {
    const disk = await open();
    expect([disk.format, disk.size, disk.readOnly]).toEqual([format, SIZE, true]);
    expect(JSON.parse(JSON.stringify(disk.describe()))).toMatchObject({ format, size: SIZE });
    const claims = FORMATS.filter(({ probe }) => probe(image.subarray(0, 512), image.subarray(-512)) > 1);
    expect(claims.map(({ name }) => name)).toEqual([format]);
  });

  test("gives all bytes of the disk, at once and here and there", async () => {
    for (const late of [false, true]) {
      const store = new KeptStore(image);
      const disk = await openDisk(late ? new LateStore(store) : store, reading);
      expect(hash(await readBytes(disk, 0, SIZE))).toBe(hash(CONTENT));
      const random = randomFrom(3);
      const reads = Array.from({ length: 60 }, async () => {
        const at = Math.floor((random() * SIZE) / 512) * 512;
        const length = Math.min(SIZE - at, 512 * (1 + Math.floor(random() * 300)));
        expect(hash(await readBytes(disk, at, length))).toBe(hash(CONTENT.subarray(at, at + length)));
      });
      await Promise.all(reads);
      await disk.close();
      expect(hash(contentOf(store))).toBe(hash(image));
    }
  });

  test.skipIf(!others)("is opened for writing, but changed by no write", async () => {
    const store = new KeptStore(image.slice());
    const kept = Object.fromEntries(Object.entries(files).map(([name, bytes]) => [name, new KeptStore(bytes.slice())]));
    const disk = await openDisk(store, { openFile: (name) => kept[name] });
    expect(["READ_ONLY", "UNSUPPORTED"]).toContain(await code(writeBytes(disk, 0, new Uint8Array(512))));
    await disk.close();
    expect(hash(contentOf(store))).toBe(hash(image));
    for (const [name, bytes] of Object.entries(files)) expect(hash(contentOf(kept[name]))).toBe(hash(bytes));
  });

  test.skipIf(others || written)("is not opened for writing, nor made: another format is named", async () => {
    await expect(openDisk(new KeptStore(image))).rejects.toMatchObject({
      code: "READ_ONLY",
      message: `${format} images are only read`,
      hint: expect.stringContaining("-O qcow2"),
    });
    const refused = { code: "UNSUPPORTED", hint: expect.stringContaining("qcow2") };
    await expect(createDisk(new KeptStore(), { format, size: SIZE })).rejects.toMatchObject(refused);
    await expect((async () => createImage(new KeptStore(), { format, size: SIZE }))()).rejects.toMatchObject(refused);
    expect(await code((async () => measureImage({ format, source: SIZE }))())).toBe("UNSUPPORTED");
    const disk = await open();
    expect(await code(writeBytes(disk, 0, new Uint8Array(512)))).toBe("READ_ONLY");
    expect(await code(disk.resize(512))).toBe("READ_ONLY");
  });

  test("is checked, mapped, measured for another format, and converted", async () => {
    const store = new KeptStore(image);
    expect(await checkImage(store, { gate })).toMatchObject({ format, leaks: 0, corruptions: 0, problems: [] });
    if (written) expect(await repairImage(store, "all", { gate })).toMatchObject({ leaks: 0, corruptions: 0 });
    else if (!others) expect(await code(repairImage(store, "all"))).toBe("UNSUPPORTED");
    else if (mending) expect(await code(repairImage(store, "all"))).toBe(mending);
    const disk = await open();
    let at = 0;
    const kinds = new Set<string>();
    for await (const { start, length, kind } of mapDisk(disk)) {
      expect(start).toBe(at);
      at += length;
      kinds.add(kind);
      const bytes = CONTENT.subarray(start, start + length);
      if (kind === "zero" || kind === "hole") expect(bytes.every((byte) => byte === 0)).toBe(true);
    }
    expect(at).toBe(SIZE);
    if (!whole) expect([...kinds].some((kind) => kind === "zero" || kind === "hole")).toBe(true);
    if (!plain) expect(kinds).toContain("packed");
    const { required, fullyAllocated } = await measureImage({ format: "qcow2", source: disk });
    expect(required).toBeLessThanOrEqual(fullyAllocated);
    const target = await createDisk(new KeptStore(), { format: "qcow2", size: SIZE });
    await copyDisk(disk, target, { fresh: true });
    expect(hash(await readBytes(target, 0, SIZE))).toBe(hash(CONTENT));
    await target.close();
  });

  test("cut off at any length, it is refused or read in its own words", async () => {
    const random = randomFrom(7);
    const outcomes = new Set<string>();
    for (let i = 0; i < 80; i++) {
      const part = (bytes: Uint8Array) => new KeptStore(bytes.subarray(0, Math.floor(random() ** 2 * bytes.length)));
      // Of several files the last one, if it holds all of the disk.
      const cut = files.e && part(files.e);
      const store = cut ? new KeptStore(image) : part(image);
      const options = { ...reading, ...(cut && { openFile: () => cut }) };
      let outcome = await code(openDisk(store, { format, ...options }));
      if (outcome === "none") {
        const disk = await openDisk(store, { format, ...options });
        for (let at = 0; at < disk.size; at += 65536) {
          const length = Math.min(65536, disk.size - at);
          const read = await readBytes(disk, at, length).catch((error) => error);
          if (read instanceof Uint8Array) expect(hash(read)).toBe(hash(CONTENT.subarray(at, at + length)));
          else expect(read.code).toBe("CORRUPT");
        }
        const { check } = FORMATS.find(({ name }) => name === format)!;
        if (check) expect(await run(check(store, options))).toMatchObject({ corruptions: expect.any(Number) });
        outcome = "opened";
      }
      outcomes.add(outcome);
    }
    expect([...outcomes].filter((each) => !["opened", "CORRUPT"].includes(each))).toEqual([]);
  });
});
