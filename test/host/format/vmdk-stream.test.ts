import { deflateSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { ParavaneError } from "../../../src/core/error.ts";
import { run } from "../../../src/core/flow.ts";
import type { CheckReport } from "../../../src/core/format.ts";
import { flush, readBytes, writeBytes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { vmdk } from "../../../src/host/format/vmdk/index.ts";
import { packDisk, packingOf } from "../../../src/host/image/pack.ts";
import { compressor } from "../../../src/node/compress.ts";
import { nativeInflate } from "../../../src/node/decompress.ts";
import { KeptStore } from "../../support/disks.ts";
import { contentOf, randomFrom } from "../../support/stores.ts";
import { overParent } from "../../support/vmdk.ts";

const GRAIN = 65536;
/** Grains 0, 1, 3, 600 (of another table) and the last one, which is not whole. */
const SIZE = 700 * GRAIN + 1536;
const PLACES = [0, GRAIN, 3 * GRAIN, 600 * GRAIN, 700 * GRAIN];

function plain(): Uint8Array {
  const random = randomFrom(3);
  const bytes = new Uint8Array(SIZE);
  for (const [i, at] of PLACES.entries()) {
    const length = Math.min(GRAIN, SIZE - at);
    // The second is noise, which gets no smaller.
    for (let j = 0; j < length; j++) bytes[at + j] = i === 1 ? random() * 256 : 1 + i + (j >> 9);
  }
  return bytes;
}

const CONTENT = plain();

async function made(): Promise<Uint8Array> {
  const source = await openDisk(new KeptStore(CONTENT.slice()), { format: "raw" });
  const store = new KeptStore();
  const target = await createDisk(store, { format: "vmdk", subformat: "streamOptimized", size: SIZE });
  await packDisk(source, target, { compress: await compressor(packingOf(target)), fresh: true });
  await target.close();
  return contentOf(store);
}

const bytes = await made();
const opened = (content: Uint8Array, codecs = {}) => openDisk(new KeptStore(content), { readOnly: true, codecs });
const check = (content: Uint8Array) => run(vmdk.check!(new KeptStore(content))) as CheckReport;
/** Grains come in the order of the disk, from the first whole 64 KiB on. */
const first = { marker: GRAIN, data: GRAIN + 12 };

function changed(edit: (view: DataView, content: Uint8Array) => void): Uint8Array {
  const content = bytes.slice();
  edit(new DataView(content.buffer), content);
  return content;
}

describe.each([
  ["our decoder", {}],
  ["the host's", { deflate: nativeInflate(false) }],
  ["the host's, later", { deflate: nativeInflate(true) }],
])("with %s", (_, codecs) => {
  test("what was packed is read, in any pieces", async () => {
    const disk = await opened(bytes, codecs);
    expect(disk.size).toBe(SIZE);
    expect(Buffer.compare(await readBytes(disk, 0, SIZE), CONTENT)).toBe(0);
    const random = randomFrom(9);
    for (let i = 0; i < 100; i++) {
      const at = Math.floor((random() * SIZE) / 512) * 512;
      const length = Math.min(SIZE - at, 512 * (1 + Math.floor(random() * 400)));
      expect(Buffer.compare(await readBytes(disk, at, length), CONTENT.subarray(at, at + length))).toBe(0);
    }
    await disk.close();
  });

  test("a tampered grain is an error that names it and where it is; the others are read", async () => {
    for (const offset of [0, 1, 2, 20, 60]) {
      const disk = await opened(
        changed((_view, content) => {
          content[first.data + offset] ^= 0x55;
        }),
        codecs,
      );
      await expect(readBytes(disk, 512, 512), String(offset)).rejects.toMatchObject({
        code: "CORRUPT",
        message: expect.stringContaining("grain 0: "),
        context: { structure: "compressed grain", offset: first.data },
      });
      expect((await readBytes(disk, 3 * GRAIN, 1))[0]).toBe(CONTENT[3 * GRAIN]);
      await disk.close();
    }
  });

  test("a grain that unpacks to more than a grain is refused, and not held", async () => {
    const bomb = deflateSync(new Uint8Array(40 * 2 ** 20), { level: 9 });
    const content = changed((view, all) => {
      // Over the noise of the second grain, which has room for it.
      const at = view.getUint32(tableAt(view) + 4, true) * 512;
      view.setUint32(at + 8, bomb.length, true);
      all.set(bomb, at + 12);
    });
    const disk = await opened(content, codecs);
    await expect(readBytes(disk, GRAIN, 512)).rejects.toMatchObject({
      code: "CORRUPT",
      message: expect.stringContaining("grain 1: there are more than 65536 bytes"),
    });
    await disk.close();
  });
});

/** Of the first table, through footer and directory. */
function tableAt(view: DataView): number {
  const directory = Number(view.getBigUint64(view.byteLength - 1024 + 56, true)) * 512;
  return view.getUint32(directory, true) * 512;
}

test("check unpacks everything, and says what does not", () => {
  expect(check(bytes)).toMatchObject({
    corruptions: 0,
    allocatedClusters: 5,
    compressedClusters: 5,
    totalClusters: 701,
  });
  const report = check(
    changed((_, content) => {
      content[first.data + 30] ^= 1;
    }),
  );
  expect(report).toMatchObject({ corruptions: 1, problems: [{ structure: "compressed grain", offset: first.data }] });
});

test.each<[string, (view: DataView, content: Uint8Array) => void, string]>([
  ["a grain's length", (view) => view.setUint32(first.marker + 8, 2 ** 31, true), "grain marker"],
  ["a grain of no bytes", (view) => view.setUint32(first.marker + 8, 0, true), "grain marker"],
  ["an entry", (view) => view.setUint32(tableAt(view), 0x7fffffff, true), "grain table"],
  [
    "a directory's entry",
    (view) => view.setUint32(Number(view.getBigUint64(view.byteLength - 1024 + 56, true)) * 512, 0x7fffffff, true),
    "grain directory",
  ],
])("%s out of the file: refused by name", async (_, edit, structure) => {
  const disk = await opened(changed(edit));
  await expect(readBytes(disk, 0, 512)).rejects.toMatchObject({ code: "CORRUPT", context: { structure } });
  await disk.close();
});

test("cut off anywhere, it has no footer", async () => {
  for (const length of [bytes.length - 512, bytes.length - 4096, GRAIN + 700, 1024, 600]) {
    await expect(opened(bytes.subarray(0, length))).rejects.toMatchObject({ code: "CORRUPT" });
  }
});

test("zeros behind the end, as copies in whole blocks have them, are passed over", async () => {
  for (const length of [512, 65536, 70_000]) {
    const padded = new Uint8Array(bytes.length + length);
    padded.set(bytes);
    const disk = await opened(padded);
    expect(Buffer.compare(await readBytes(disk, 0, SIZE), CONTENT)).toBe(0);
    await disk.close();
    padded[padded.length - 1] = 1;
    if (length % 512 === 0) await expect(opened(padded)).rejects.toMatchObject({ code: "CORRUPT" });
  }
});

test.each([
  ["another method", (view: DataView) => view.setUint16(77, 2, true)],
  ["markers, but nothing packed", (view: DataView) => view.setUint32(8, 0x20001, true)],
])("%s: refused by name", async (_, edit) => {
  await expect(opened(changed(edit))).rejects.toMatchObject({ code: "UNSUPPORTED", context: { structure: "header" } });
});

test("a descriptor inside that names more extents is not read as though this file were all", async () => {
  const more = changed((_, all) => {
    const text = new TextDecoder("latin1").decode(all.subarray(512, 21 * 512)).replace(/\0+$/, "");
    const line = /^R.*"$/m.exec(text)![0];
    all.set(new TextEncoder().encode(text.replace(line, `${line}\n${line}`)), 512);
  });
  await expect(opened(more)).rejects.toMatchObject({
    code: "UNSUPPORTED",
    message: expect.stringContaining("names 2 extents"),
  });
});

test("grains without markers, and a directory that the header names", async () => {
  const packed = deflateSync(CONTENT.subarray(0, GRAIN));
  const content = changed((view, all) => {
    const directory = view.getBigUint64(view.byteLength - 1024 + 56, true);
    view.setUint32(8, 0x10001, true);
    view.setBigUint64(56, directory, true);
    all.set(packed, first.marker);
  });
  const disk = await opened(content);
  expect(Buffer.compare(await readBytes(disk, 0, GRAIN), CONTENT.subarray(0, GRAIN))).toBe(0);
  await disk.close();
});

test("over a parent, what it does not hold is the parent's; without the parent, or over another, it is refused", async () => {
  const parent = new KeptStore();
  const below = await createDisk(parent, { format: "vmdk", size: SIZE });
  await writeBytes(below, 0, new Uint8Array(SIZE).fill(0x77));
  await below.close();
  const backing = () => openDisk(parent, { readOnly: true });
  const { formatSpecific } = (await backing()).describe() as { formatSpecific: { data: { cid: number } } };
  // VMware's tools make such disks; ours do not.
  const child = overParent(bytes, formatSpecific.data.cid, "base.vmdk");
  const disk = await openDisk(new KeptStore(child), { readOnly: true, backing: await backing() });
  const expected = new Uint8Array(SIZE).fill(0x77);
  for (const at of PLACES) expected.set(CONTENT.subarray(at, at + GRAIN), at);
  expect(Buffer.compare(await readBytes(disk, 0, SIZE), expected)).toBe(0);
  expect(await disk.places(2 * GRAIN, GRAIN)).toMatchObject([{ depth: 1, length: GRAIN }]);
  expect(check(child)).toMatchObject({ corruptions: 0, allocatedClusters: PLACES.length });
  const code = (opening: Promise<unknown>) =>
    opening.then(
      () => "opened",
      (error: ParavaneError) => [error.code, error.message],
    );
  expect(await code(opened(child))).toEqual(["NOT_FOUND", expect.stringContaining("base.vmdk")]);
  const other = overParent(bytes, 0x12345678, "base.vmdk");
  expect(await code(openDisk(new KeptStore(other), { readOnly: true, backing: await backing() }))).toEqual([
    "CORRUPT",
    expect.stringContaining("is another disk than base.vmdk"),
  ]);
});

test("a parentCID that is no CID is refused, and not taken for no parent", async () => {
  const store = new KeptStore();
  await (await createDisk(store, { format: "vmdk", size: SIZE })).close();
  for (const image of [bytes, contentOf(store)]) {
    await expect(opened(overParent(image, -0x1234567, "base.vmdk"))).rejects.toMatchObject({
      code: "CORRUPT",
      message: expect.stringContaining("parentCID"),
    });
  }
});

test("it is written once: not by a guest, nor again", async () => {
  const store = new KeptStore(bytes.slice());
  const disk = await openDisk(store);
  await expect(writeBytes(disk, 0, new Uint8Array(512))).rejects.toMatchObject({ code: "UNSUPPORTED" });
  await disk.close();
  expect(Buffer.compare(contentOf(store), bytes)).toBe(0);
  const empty = await createDisk(new KeptStore(), { format: "vmdk", subformat: "streamOptimized", size: SIZE });
  await expect(writeBytes(empty, 0, new Uint8Array(512))).rejects.toMatchObject({ code: "UNSUPPORTED" });
  expect((await readBytes(empty, 0, GRAIN)).every((byte) => byte === 0)).toBe(true);
  await empty.close();
});

test("flushed half-way, it is whole; what comes later goes over the old footer", async () => {
  const store = new KeptStore();
  const target = await createDisk(store, { format: "vmdk", subformat: "streamOptimized", size: SIZE });
  const options = { compress: await compressor(packingOf(target)), fresh: true };
  const part = async (from: number, to: number) => openDisk(new KeptStore(CONTENT.slice(from, to)), { format: "raw" });
  await packDisk(await part(0, 2 * GRAIN), target, options);
  await flush(target);
  expect((await readBytes(target, 0, 512))[0]).toBe(CONTENT[0]);
  const { size } = target;
  const half = async () => {
    const disk = await opened(contentOf(store));
    const read = await readBytes(disk, 0, size);
    await disk.close();
    return read;
  };
  expect(Buffer.compare((await half()).subarray(0, 2 * GRAIN), CONTENT.subarray(0, 2 * GRAIN))).toBe(0);
  await packDisk(await part(2 * GRAIN, SIZE), target, { ...options, to: 2 * GRAIN });
  await target.close();
  expect(Buffer.compare(await half(), CONTENT)).toBe(0);
});

test("damaged anywhere, every read ends in the format's own words", async () => {
  const random = randomFrom(21);
  const outcomes = new Map<string, number>();
  for (let i = 0; i < 400; i++) {
    const content = changed((view, all) => {
      const places = [
        Math.floor(random() * 100),
        GRAIN + Math.floor(random() * 800),
        tableAt(view) + Math.floor(random() * 16),
      ];
      const at = random() < 0.4 ? bytes.length - 1 - Math.floor(random() * 3000) : places[Math.floor(random() * 3)];
      all[at] = random() * 256;
    });
    let outcome = "read";
    try {
      const disk = await opened(content);
      await readBytes(disk, 0, Math.min(disk.size, 4 * GRAIN));
      await disk.close();
    } catch (thrown) {
      if (!(thrown instanceof ParavaneError)) throw thrown;
      outcome = thrown.code;
    }
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  expect([...outcomes.keys()].filter((each) => !["read", "CORRUPT", "UNSUPPORTED"].includes(each))).toEqual([]);
  expect(outcomes.get("CORRUPT")).toBeGreaterThan(50);
});
