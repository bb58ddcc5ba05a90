import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import type { Block } from "../../../src/core/block.ts";
import { flush, readBytes, writeBytes, writeZeroes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { guidAt, NO_GUID, newGuid, putGuid } from "../../../src/host/format/guid.ts";
import { BatLayout } from "../../../src/host/format/vhdx/bat.ts";
import { findBit, mirror, setBits } from "../../../src/host/format/vhdx/bitmap.ts";
import { crc32c, seal } from "../../../src/host/format/vhdx/crc32c.ts";
import { MemoryStore } from "../../../src/host/store/memory.ts";
import { dataFile } from "../../support/data.ts";
import { KeptStore } from "../../support/disks.ts";
import { MeteredStore } from "../../support/metered.ts";
import { contentOf } from "../../support/stores.ts";

const KiB = 2 ** 10;
const MiB = 2 ** 20;
const GiB = 2 ** 30;
const TiB = 2 ** 40;
/** Where `createDisk` puts things. */
const AT = { headers: [64 * KiB, 128 * KiB], regions: [192 * KiB, 256 * KiB], metadata: 2 * MiB, bat: 3 * MiB };
const FIRST_BLOCK = 4 * MiB;

async function hash(block: Block): Promise<string> {
  const sha = createHash("sha256");
  for (let at = 0; at < block.size; at += MiB) sha.update(await readBytes(block, at, Math.min(MiB, block.size - at)));
  return sha.digest("hex").slice(0, 16);
}

/** 8 MiB of 1 MiB blocks; block 3 is there and holds 0x5a. */
async function created(options: Record<string, unknown> = {}): Promise<Uint8Array> {
  const store = new KeptStore();
  const disk = await createDisk(store, { format: "vhdx", size: 8 * MiB, blockSize: MiB, ...options });
  await writeBytes(disk, 3 * MiB, new Uint8Array(MiB).fill(0x5a));
  await disk.close();
  return contentOf(store);
}

async function opened(bytes: Uint8Array, options: Record<string, unknown> = {}) {
  const warnings: string[] = [];
  const store = new KeptStore(bytes);
  const disk = await openDisk(store, { format: "vhdx", onWarning: (text) => warnings.push(text), ...options });
  return { disk, store, warnings };
}

const refusal = (bytes: Uint8Array, options: Record<string, unknown> = {}) =>
  opened(bytes, options).then(
    () => "opened",
    (error) => ({ code: error.code, structure: error.context.structure, message: error.message }),
  );

/** Changes both headers, or both region tables, and makes their checksums right again. */
function edit(bytes: Uint8Array, places: number[], signature: string, change: (view: DataView) => void): Uint8Array {
  const length = signature === "head" ? 4096 : 65536;
  for (const place of places) {
    change(new DataView(bytes.buffer, bytes.byteOffset + place, length));
    seal(bytes.subarray(place, place + length), signature);
  }
  return bytes;
}
const editHeaders = (bytes: Uint8Array, change: (view: DataView) => void) => edit(bytes, AT.headers, "head", change);
const editRegions = (bytes: Uint8Array, change: (view: DataView) => void) => edit(bytes, AT.regions, "regi", change);
const viewAt = (bytes: Uint8Array, place: number) => new DataView(bytes.buffer, bytes.byteOffset + place);

describe("parts", () => {
  test("CRC-32C of the standard check string", () => {
    expect(crc32c(new TextEncoder().encode("123456789"))).toBe(0xe3069283);
    const bytes = Uint8Array.from({ length: 999 }, (_, i) => i * 7);
    expect(crc32c(bytes.subarray(400), crc32c(bytes.subarray(0, 400)))).toBe(crc32c(bytes));
  });
  test("GUIDs in Microsoft's byte order", () => {
    const bytes = new Uint8Array(16);
    putGuid(bytes, 0, "2dc27766-f623-4200-9d64-115e9bfd4a08");
    expect([...bytes.subarray(0, 8)]).toEqual([0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42]);
    expect(guidAt(bytes, 0)).toBe("2dc27766-f623-4200-9d64-115e9bfd4a08");
    expect(newGuid()).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });
  test("where entries are in the table (MS-VHDX 2.5)", () => {
    const shape = { size: 9 * GiB, blockSize: 32 * MiB, logicalSectorSize: 512, hasParent: false };
    const bat = new BatLayout(shape);
    expect(bat.chunkRatio).toBe(128);
    expect([0, 127, 128, 256, 287].map((block) => bat.payloadEntry(block))).toEqual([0, 127, 129, 258, 289]);
    expect([0, 127, 128].map((block) => bat.bitmapEntry(block))).toEqual([128, 128, 257]);
    expect(bat.entries).toBe(290); // 288 blocks, and the bitmap entries between the three chunks
    expect(new BatLayout({ ...shape, hasParent: true }).entries).toBe(3 * 129);
    expect(new BatLayout({ ...shape, logicalSectorSize: 4096 }).chunkRatio).toBe(1024);
    expect(new BatLayout({ ...shape, size: 4 * GiB }).entries).toBe(128);
  });
  test("bits of sector bitmaps", () => {
    for (const [from, to] of [
      [0, 0],
      [3, 4],
      [0, 8],
      [5, 11],
      [7, 40],
      [16, 64],
      [1, 63],
    ]) {
      const bytes = setBits(new Uint8Array(8), from, to);
      const bits = Array.from({ length: 64 }, (_, i) => (bytes[i >> 3] >> (i & 7)) & 1);
      expect(bits).toEqual(Array.from({ length: 64 }, (_, i) => (i >= from && i < to ? 1 : 0)));
      expect(findBit(bytes, 0, 64, 1)).toBe(from === to ? 64 : from);
    }
    expect([...mirror(Uint8Array.of(0x01, 0x0f, 0xa0))]).toEqual([0x80, 0xf0, 0x05]);
  });
});

describe("images of other products", () => {
  test.each([
    ["dissect-vhdx_dynamic.vhdx", 10485760, "8e2b5e9265d694b4", 0, "Microsoft Windows 10.0.18363.0"],
    ["discutils-log-replay.vhdx", 1073741824, "3ba3b309425b7ff5", 2, "Microsoft Windows 10.0.15063.0"],
  ])("%s", async (name, size, expected, replayedEntries, creator) => {
    const bytes = dataFile(name);
    for (const readOnly of [true, false]) {
      const { disk, store, warnings } = await opened(bytes, { readOnly, format: undefined });
      expect(disk.format).toBe("vhdx");
      expect(disk.size).toBe(size);
      expect(disk.describe()).toMatchObject({ creator, log: { replayedEntries } });
      expect(warnings.length).toBe(replayedEntries ? 1 : 0);
      if (size < GiB || readOnly) expect(await hash(disk)).toBe(expected);
      await disk.close();
      if (readOnly) expect(Buffer.compare(contentOf(store), bytes)).toBe(0);
      else {
        const again = await opened(contentOf(store), { readOnly: true });
        expect(again.warnings).toEqual([]);
        expect(await hash(again.disk)).toBe(expected);
      }
    }
  });
});

describe("headers", () => {
  test("one damaged: the other is used, whichever it is", async () => {
    const bytes = await created();
    for (const place of AT.headers) {
      const damaged = bytes.slice();
      damaged[place + 100] ^= 1;
      const { disk, warnings } = await opened(damaged, { readOnly: true });
      expect(warnings).toEqual([expect.stringContaining("header")]);
      expect((await readBytes(disk, 3 * MiB, 1))[0]).toBe(0x5a);
    }
  });
  test("two alike are as good as one", async () => {
    const bytes = await created();
    bytes.copyWithin(AT.headers[0], AT.headers[1], AT.headers[1] + 4096);
    expect(await refusal(bytes)).toBe("opened");
  });
  test("the first change of a disk changes its GUIDs, reading does not", async () => {
    const bytes = await created();
    const { disk, store } = await opened(bytes);
    const before = disk.describe();
    await readBytes(disk, 0, 4096);
    await disk.close();
    expect(Buffer.compare(contentOf(store), bytes)).toBe(0);
    const again = await opened(bytes);
    await writeBytes(again.disk, 3 * MiB, new Uint8Array(512)); // needs no new block
    const after = again.disk.describe();
    expect(after.fileWriteGuid).not.toBe(before.fileWriteGuid);
    expect(after.dataWriteGuid).not.toBe(before.dataWriteGuid);
    await writeBytes(again.disk, 3 * MiB, new Uint8Array(512));
    expect(again.disk.describe().dataWriteGuid).toBe(after.dataWriteGuid);
    await again.disk.close();
    expect((await opened(contentOf(again.store))).disk.describe().dataWriteGuid).toBe(after.dataWriteGuid);
  });
  test("name the log from its first entry to the end of the session", async () => {
    const { disk, store } = await opened(await created());
    const guid = () => (disk.describe().log as { guid: string }).guid;
    expect(guid()).toBe(NO_GUID);
    await writeBytes(disk, 0, new Uint8Array(512).fill(1));
    expect(guid()).toBe(NO_GUID);
    await flush(disk);
    expect(guid()).not.toBe(NO_GUID);
    expect((await opened(contentOf(store), { readOnly: true })).disk.describe().log).toMatchObject({
      replayedEntries: 1,
    });
    await disk.close();
    expect((await opened(contentOf(store), { readOnly: true })).disk.describe().log).toMatchObject({ guid: NO_GUID });
  });
  test.each<[string, string, (view: DataView) => void]>([
    ["version 2", "UNSUPPORTED", (view) => view.setUint16(66, 2, true)],
    [
      "a log of version 1 to replay",
      "UNSUPPORTED",
      (view) => {
        view.setUint16(64, 1, true);
        view.setUint8(48, 1);
      },
    ],
    ["a log at 0", "CORRUPT", (view) => view.setBigUint64(72, 0n, true)],
    ["a log past the end", "CORRUPT", (view) => view.setBigUint64(72, BigInt(TiB), true)],
    ["a log at 2^63", "CORRUPT", (view) => view.setBigUint64(72, 2n ** 63n, true)],
    ["a log of no bytes", "CORRUPT", (view) => view.setUint32(68, 0, true)],
    ["a log of odd length", "CORRUPT", (view) => view.setUint32(68, MiB + 4096, true)],
    [
      "one number, two contents",
      "CORRUPT",
      (view) => {
        view.setBigUint64(8, 9n, true);
        view.setUint8(20, view.byteOffset / 65536);
      },
    ],
  ])("%s: refused", async (_name, code, change) => {
    expect(await refusal(editHeaders(await created(), change))).toMatchObject({ code, structure: "header" });
  });
  test("both damaged, or no file identifier: refused", async () => {
    const bytes = await created();
    bytes.fill(0, AT.headers[0], AT.headers[0] + 9);
    bytes.fill(0, AT.headers[1], AT.headers[1] + 9);
    expect(await refusal(bytes)).toMatchObject({ code: "CORRUPT", structure: "header" });
    bytes[0] = 0;
    expect(await refusal(bytes)).toMatchObject({ code: "CORRUPT", structure: "file type identifier" });
  });
  test("the last sequence number there is cannot be followed", async () => {
    const last = (view: DataView) => view.setBigUint64(8, view.byteOffset > 100_000 ? 2n ** 64n - 1n : 5n, true);
    const { disk } = await opened(editHeaders(await created(), last));
    await expect(writeBytes(disk, 0, new Uint8Array(512))).rejects.toMatchObject({ code: "CORRUPT" });
  });
});

describe("region table", () => {
  test("damaged: its copy is used", async () => {
    const bytes = await created();
    bytes[AT.regions[0] + 1000] ^= 1;
    const { warnings, disk } = await opened(bytes);
    expect(warnings).toEqual([expect.stringContaining("region table")]);
    expect((await readBytes(disk, 3 * MiB, 1))[0]).toBe(0x5a);
    bytes[AT.regions[1] + 1000] ^= 1;
    expect(await refusal(bytes)).toMatchObject({ code: "CORRUPT", structure: "region table" });
  });
  const third =
    (flags: number, position = 5 * MiB) =>
    (view: DataView) => {
      view.setUint32(8, 3, true);
      view.setUint8(16 + 64, 0x77);
      view.setBigUint64(16 + 64 + 16, BigInt(position), true);
      view.setUint32(16 + 64 + 24, MiB, true);
      view.setUint32(16 + 64 + 28, flags, true);
    };
  test("an unknown region is left alone, if it may be", async () => {
    const bytes = await created();
    expect(await refusal(editRegions(bytes.slice(), third(1)))).toMatchObject({
      code: "UNSUPPORTED",
      message: /00000077/,
    });
    const grown = new Uint8Array(bytes.length + MiB);
    grown.set(bytes);
    expect(await refusal(editRegions(grown, third(0)))).toBe("opened");
  });
  test.each<[string, (view: DataView) => void]>([
    ["2,048 entries", (view) => view.setUint32(8, 2048, true)],
    [
      "no BAT",
      (view) => {
        view.setUint8(16, 0);
        view.setUint32(44, 0, true); // nor is what is there required
      },
    ],
    ["no metadata", (view) => view.setUint32(8, 1, true)],
    [
      "the BAT twice",
      (view) =>
        new Uint8Array(view.buffer).copyWithin(view.byteOffset + 48, view.byteOffset + 16, view.byteOffset + 48),
    ],
    ["a region past the end", (view) => view.setBigUint64(32, BigInt(TiB), true)],
    ["a region at 2^64-1", (view) => view.setBigUint64(32, 2n ** 64n - 1n, true)],
    ["a region in the header", (view) => view.setBigUint64(32, 0n, true)],
    ["a region not on a MiB", (view) => view.setBigUint64(32, BigInt(3 * MiB + 4096), true)],
    ["a region of no bytes", (view) => view.setUint32(40, 0, true)],
    ["the BAT over the metadata", (view) => view.setBigUint64(32, BigInt(AT.metadata), true)],
    ["the BAT over the log", (view) => view.setBigUint64(32, BigInt(MiB), true)],
    ["an optional region over the BAT", third(0, AT.bat)],
  ])("%s: refused", async (_name, change) => {
    const bytes = editRegions(await created(), change);
    expect(await refusal(bytes)).toMatchObject({ code: "CORRUPT", structure: "region table" });
  });
});

describe("metadata", () => {
  const ITEMS = 64 * KiB;
  /** Item n's entry in the table; its flags are 24 bytes on. */
  const entry = (n: number) => 32 + n * 32;
  test.each<[string, string, string, (view: DataView) => void]>([
    ["no signature", "CORRUPT", "metadata table", (view) => view.setUint8(0, 0)],
    ["2,048 entries", "CORRUPT", "metadata table", (view) => view.setUint16(10, 2048, true)],
    ["an unknown item that is required", "UNSUPPORTED", "metadata table", (view) => view.setUint8(entry(2), 0x11)],
    [
      "a user's item that is required",
      "UNSUPPORTED",
      "metadata table",
      (view) => view.setUint32(entry(2) + 24, 5, true),
    ],
    [
      "no file parameters",
      "CORRUPT",
      "metadata table",
      (view) => {
        view.setUint8(entry(0), 0x11);
        view.setUint32(entry(0) + 24, 0, true);
      },
    ],
    ["an item in the table", "CORRUPT", "metadata table", (view) => view.setUint32(entry(1) + 16, 32, true)],
    ["an item past the region", "CORRUPT", "metadata table", (view) => view.setUint32(entry(1) + 16, MiB - 4, true)],
    ["an item of 2 MiB", "CORRUPT", "metadata table", (view) => view.setUint32(entry(1) + 20, 2 * MiB, true)],
    ["an item too short", "CORRUPT", "metadata table", (view) => view.setUint32(entry(1) + 20, 4, true)],
    ["blocks of 512 KiB", "CORRUPT", "file parameters", (view) => view.setUint32(ITEMS, MiB / 2, true)],
    ["blocks of 3 MiB", "CORRUPT", "file parameters", (view) => view.setUint32(ITEMS, 3 * MiB, true)],
    ["blocks of 512 MiB", "CORRUPT", "file parameters", (view) => view.setUint32(ITEMS, 512 * MiB, true)],
    ["blocks of 2^31", "CORRUPT", "file parameters", (view) => view.setUint32(ITEMS, 2 ** 31, true)],
    ["a parent that is not named", "CORRUPT", "metadata table", (view) => view.setUint32(ITEMS + 4, 2, true)],
    [
      "64 TiB and a sector",
      "CORRUPT",
      "virtual disk size",
      (view) => view.setBigUint64(ITEMS + 8, BigInt(64 * TiB + 512), true),
    ],
    ["2^64-1 bytes", "CORRUPT", "virtual disk size", (view) => view.setBigUint64(ITEMS + 8, 2n ** 64n - 1n, true)],
    ["half a sector", "CORRUPT", "virtual disk size", (view) => view.setBigUint64(ITEMS + 8, 700n, true)],
    [
      "more blocks than entries",
      "CORRUPT",
      "block allocation table",
      (view) => view.setBigUint64(ITEMS + 8, BigInt(TiB), true),
    ],
    ["sectors of 1,024", "CORRUPT", "logical sector size", (view) => view.setUint32(ITEMS + 32, 1024, true)],
    ["physical sectors of 8,192", "CORRUPT", "physical sector size", (view) => view.setUint32(ITEMS + 36, 8192, true)],
  ])("%s: refused", async (_name, code, structure, change) => {
    const bytes = await created();
    change(viewAt(bytes, AT.metadata));
    expect(await refusal(bytes)).toMatchObject({ code, structure });
  });
  test("an unknown item that is not required is left alone", async () => {
    const bytes = await created();
    const view = viewAt(bytes, AT.metadata);
    view.setUint16(10, 6, true);
    view.setUint8(entry(5), 0x99);
    view.setUint32(entry(5) + 16, 0xffffffff, true);
    expect(await refusal(bytes)).toBe("opened");
  });
});

describe("the table's entries", () => {
  const withEntry = async (low: number, high = 0) => {
    const bytes = await created();
    const view = viewAt(bytes, AT.bat);
    view.setUint32(0, low, true);
    view.setUint32(4, high, true);
    return bytes;
  };
  test.each([
    ["not present", 0],
    ["undefined", 1],
    ["zero", 2],
    ["unmapped", 3],
    ["unmapped, with a place kept", 3 + 4 * MiB],
  ])("%s reads as zeros and can be written", async (_name, low) => {
    const { disk, store } = await opened(await withEntry(low));
    expect((await readBytes(disk, 0, MiB)).some((byte) => byte !== 0)).toBe(false);
    await writeBytes(disk, 512, new Uint8Array(512).fill(7));
    await disk.close();
    const again = (await opened(contentOf(store))).disk;
    expect([...(await readBytes(again, 0, 1536))].filter((_, i) => i % 512 === 9)).toEqual([0, 7, 0]);
    expect((await readBytes(again, 3 * MiB, 1))[0]).toBe(0x5a);
  });
  test.each([
    ["reserved state 4", 4, 0, /state 4/],
    ["reserved state 5", 5, 0, /state 5/],
    ["partially present without a parent", 7 + FIRST_BLOCK, 0, /parent/],
    ["in the header", 6, 0, /header/],
    ["in the log", 6 + MiB, 0, /log/],
    ["in the metadata", 6 + AT.metadata, 0, /metadata region/],
    ["in the table", 6 + AT.bat, 0, /block allocation table/],
    ["past the end", 6 + 64 * MiB, 0, /past the end/],
    ["at 2^64 - 1 MiB", 0xfff00006, 0xffffffff, /past the end/],
    ["at 2^63", 6, 0x80000000, /past the end/],
    ["where another block is", 6 + FIRST_BLOCK, 0, /shares/],
  ])("%s fails its own requests only", async (_name, low, high, message) => {
    const { disk } = await opened(await withEntry(low, high));
    const refused = { code: "CORRUPT", message, context: { structure: "block allocation table", offset: AT.bat } };
    await expect(readBytes(disk, 0, 512)).rejects.toMatchObject(refused);
    await expect(writeBytes(disk, 0, new Uint8Array(512))).rejects.toMatchObject({ code: "CORRUPT" });
    await expect(writeZeroes(disk, 0, MiB)).rejects.toMatchObject({ code: "CORRUPT" });
    expect((await readBytes(disk, MiB, 512))[0]).toBe(0);
    if (!/shares/.test(String(message))) expect((await readBytes(disk, 3 * MiB, 1))[0]).toBe(0x5a);
  });
  test("a block that the file cuts short is refused, unless the disk ends before", async () => {
    const bytes = (await created()).subarray(0, FIRST_BLOCK + MiB - 512);
    await expect(readBytes((await opened(bytes)).disk, 3 * MiB, 512)).rejects.toMatchObject({ code: "CORRUPT" });
    const odd = await created({ size: 3 * MiB + 512 * 3 }).catch(() => null);
    expect(odd).toBeNull(); // the helper writes a whole block
    const store = new KeptStore();
    const disk = await createDisk(store, { format: "vhdx", size: MiB + 1536, blockSize: MiB });
    await writeBytes(disk, MiB, new Uint8Array(1536).fill(9));
    await disk.close();
    const { disk: short } = await opened(contentOf(store).subarray(0, FIRST_BLOCK + 1536));
    expect((await readBytes(short, MiB + 1535, 1))[0]).toBe(9);
  });
});

test("zeroing a whole block takes its entry away, but not from a fixed disk", async () => {
  for (const [subformat, state] of [
    ["dynamic", 2],
    ["fixed", 6],
  ] as const) {
    const { disk, store } = await opened(await created({ subformat }));
    await writeZeroes(disk, 3 * MiB, MiB);
    await disk.close();
    expect(contentOf(store)[AT.bat + 3 * 8] & 7).toBe(state);
    const again = await opened(contentOf(store));
    expect((await readBytes(again.disk, 3 * MiB, MiB)).some((byte) => byte !== 0)).toBe(false);
  }
});

test("creating refuses what the format cannot say", async () => {
  const code = (options: Record<string, unknown>) =>
    createDisk(new MemoryStore(), { format: "vhdx", size: MiB, ...options }).then(
      () => "made",
      (error) => error.code,
    );
  for (const options of [
    { size: 0 },
    { size: 64 * TiB + 512 },
    { blockSize: MiB / 2 },
    { blockSize: 3 * MiB },
    { blockSize: 512 * MiB },
    { logicalSectorSize: 1024 },
    { physicalSectorSize: 0 },
    { logSize: 0 },
    { logSize: MiB + 1 },
    { subformat: "sparse" },
    { subformat: "fixed", parent: { identity: newGuid(), path: "x" } },
    { colour: "blue" },
  ]) {
    expect([options, await code(options)]).toEqual([options, "INVALID"]);
  }
  expect(await code({ size: 64 * TiB, logicalSectorSize: 4096, physicalSectorSize: 4096 })).toBe("made");
  expect(await code({ parent: { identity: newGuid(), path: "x" } })).toBe("NOT_FOUND");
});

test("a 64 TiB disk of 1 MiB blocks opens with a few reads and a few MiB, and is written at both ends", async () => {
  const store = new MeteredStore();
  const disk = await createDisk(store, { format: "vhdx", size: 64 * TiB, blockSize: MiB });
  for (const at of [0, 4 * GiB, 2 * TiB, 64 * TiB - 512]) await writeBytes(disk, at, new Uint8Array(512).fill(1));
  await disk.close();
  store.reset();
  const again = await openDisk(store);
  expect(store.reads).toBeLessThan(40);
  expect(store.bytesRead).toBeLessThan(4 << 20);
  for (const at of [0, 4 * GiB, 2 * TiB, 64 * TiB - 512]) expect((await readBytes(again, at, 1))[0]).toBe(1);
  expect(store.allocated).toBeLessThan(8 * MiB);
});
