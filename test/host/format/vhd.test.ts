import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import type { Block } from "../../../src/core/block.ts";
import { flush, readBytes, writeBytes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { checksum, geometryOf } from "../../../src/host/format/vhd/footer.ts";
import { MemoryStore } from "../../../src/host/store/memory.ts";
import { dataFile } from "../../support/data.ts";
import { MeteredStore } from "../../support/metered.ts";
import { contentOf } from "../../support/stores.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;

async function hash(block: Block): Promise<string> {
  const sha = createHash("sha256");
  for (let at = 0; at < block.size; at += MiB) sha.update(await readBytes(block, at, Math.min(MiB, block.size - at)));
  return sha.digest("hex").slice(0, 16);
}

async function created(options: Record<string, unknown> = {}): Promise<Uint8Array> {
  const store = new MemoryStore();
  const disk = await createDisk(store, { format: "vhd", size: 8 * MiB, ...options });
  await writeBytes(disk, 3 * MiB, new Uint8Array(4096).fill(0x5a));
  await flush(disk);
  return contentOf(store);
}

/** Opens the bytes; answers the warnings along with the disk. */
async function opened(bytes: Uint8Array, options: Record<string, unknown> = {}) {
  const warnings: string[] = [];
  const store = new MemoryStore(bytes);
  const disk = await openDisk(store, { format: "vhd", onWarning: (text) => warnings.push(text), ...options });
  return { disk, store, warnings };
}

const refusal = (bytes: Uint8Array) =>
  opened(bytes).then(
    () => "opened",
    (error) => ({ code: error.code, structure: error.context.structure, message: error.message }),
  );

describe("images of other products", () => {
  test.each([
    ["dfvfs-ext2.vhd", 4212736, "870be7ae16c1fa8f"],
    ["dissect-vhd_dynamic.vhd", 10485760, "ecff2ef6615a3cdd"],
    ["plaso-image.vhd", 104448, "c6db12a7db548e19"],
    ["tsk-image.vhd", 104448, "84c172cd6e864e2a"],
  ])("%s", async (name, size, expected) => {
    const { disk } = await opened(dataFile(name), { format: undefined });
    expect(disk.format).toBe("vhd");
    expect(disk.size).toBe(size);
    expect(await hash(disk)).toBe(expected);
  });

  test("Virtual PC's disk is as large as its geometry", async () => {
    const { disk } = await opened(dataFile("qemu-virtualpc-dynamic.vhd"));
    expect(disk.size).toBe(65278 * 16 * 255 * 512);
    expect(await readBytes(disk, disk.size - 4096, 4096)).toEqual(new Uint8Array(4096));
  });

  test("a table of 2^30 entries in 1,028 bytes is refused", async () => {
    expect(await refusal(dataFile("qemu-afl5.img"))).toMatchObject({ code: "CORRUPT" });
  });
});

describe("the disk's size", () => {
  const sized = async (creator: string, geometry: [number, number, number]) => {
    const bytes = await created({ subformat: "fixed" });
    const footer = bytes.subarray(bytes.length - 512);
    for (let i = 0; i < 4; i++) footer[28 + i] = creator.charCodeAt(i);
    const view = new DataView(footer.buffer, footer.byteOffset);
    view.setUint16(56, geometry[0]);
    footer[58] = geometry[1];
    footer[59] = geometry[2];
    view.setUint32(64, checksum(footer, 64));
    return (await opened(bytes)).disk.size;
  };

  test("is the geometry's for Virtual PC and old QEMU, the footer's for the rest", async () => {
    expect(await sized("vpc ", [100, 4, 17])).toBe(100 * 4 * 17 * 512);
    expect(await sized("qemu", [100, 4, 17])).toBe(100 * 4 * 17 * 512);
    for (const creator of ["qem2", "win ", "d2v ", "tap\0", "CTXS", "wa\0\0", "vbox"]) {
      expect(await sized(creator, [100, 4, 17])).toBe(8 * MiB);
    }
  });
  test("is the footer's when the geometry is the largest there is, or none", async () => {
    expect(await sized("vpc ", [65535, 16, 255])).toBe(8 * MiB);
    expect(await sized("vpc ", [0, 0, 0])).toBe(8 * MiB);
  });
  test("geometry follows the specification's appendix", () => {
    // Expected values: qemu-img create -f vpc, then its footer.
    expect(geometryOf((100 * MiB) / 512)).toEqual({ cylinders: 1003, heads: 12, sectors: 17 });
    expect(geometryOf(GiB / 512)).toEqual({ cylinders: 2080, heads: 16, sectors: 63 });
    expect(geometryOf((2040 * GiB) / 512)).toEqual({ cylinders: 65535, heads: 16, sectors: 255 });
  });
});

describe("a damaged footer", () => {
  test("gives way to its copy", async () => {
    const bytes = await created();
    bytes.fill(0xee, bytes.length - 512);
    const { disk, store, warnings } = await opened(bytes, { format: undefined });
    expect(warnings).toEqual([expect.stringContaining("copy")]);
    expect((await readBytes(disk, 3 * MiB, 1))[0]).toBe(0x5a);
    // Growing it puts a good one at the end.
    await writeBytes(disk, 6 * MiB, new Uint8Array(512).fill(1));
    await flush(disk);
    expect((await opened(contentOf(store))).warnings).toEqual([]);
  });

  test("with a stale checksum only is used, with a warning", async () => {
    for (const options of [{}, { subformat: "fixed" }]) {
      const bytes = await created(options);
      bytes[bytes.length - 512 + 70] ^= 0xff; // its UUID
      if (!("subformat" in options)) bytes[70] ^= 0xff;
      const { disk, warnings } = await opened(bytes);
      expect(warnings).toEqual([expect.stringContaining("checksum")]);
      expect((await readBytes(disk, 3 * MiB, 1))[0]).toBe(0x5a);
    }
  });

  test("of a fixed disk whose guest holds a VHD is not replaced by that one's", async () => {
    const bytes = await created({ subformat: "fixed" });
    bytes.set(await created(), 0);
    bytes[bytes.length - 1] ^= 1;
    const { disk } = await opened(bytes);
    expect(disk.describe().subformat).toBe("fixed");
    expect(disk.size).toBe(8 * MiB);
  });

  test("of 511 bytes, as Virtual PC wrote before 2004, is read and outgrown", async () => {
    const bytes = await created();
    const { disk, store } = await opened(bytes.subarray(0, bytes.length - 1));
    await writeBytes(disk, 0, new Uint8Array(512).fill(7));
    await flush(disk);
    const again = await opened(contentOf(store));
    expect((await readBytes(again.disk, 0, 1))[0]).toBe(7);
    expect((await readBytes(again.disk, 3 * MiB, 1))[0]).toBe(0x5a);
  });

  test("missing along with a block is a truncated image", async () => {
    const bytes = await created();
    expect(await refusal(bytes.subarray(0, MiB))).toMatchObject({ code: "CORRUPT", message: /truncated/ });
    expect(await refusal(bytes.subarray(0, 100))).toMatchObject({ code: "CORRUPT" });
    const fixed = await created({ subformat: "fixed" });
    expect(await refusal(fixed.subarray(0, MiB))).toMatchObject({ code: "CORRUPT", message: /truncated/ });
  });
});

describe("hostile values are refused by name", () => {
  /** Changes fields of the header at 512, or of both footers, and fixes the checksums. */
  async function hostile(edit: (header: DataView, footer: DataView) => void): Promise<Uint8Array> {
    const bytes = await created();
    const header = new DataView(bytes.buffer, bytes.byteOffset + 512, 1024);
    const footer = new DataView(bytes.buffer, bytes.byteOffset, 512);
    edit(header, footer);
    header.setUint32(36, checksum(bytes.subarray(512, 1536), 36));
    footer.setUint32(64, checksum(bytes.subarray(0, 512), 64));
    bytes.set(bytes.slice(0, 512), bytes.length - 512);
    return bytes;
  }
  test.each<[string, string, (header: DataView, footer: DataView) => void]>([
    ["block size 0", "dynamic disk header", (header) => header.setUint32(32, 0)],
    ["block size no power of two", "dynamic disk header", (header) => header.setUint32(32, 3 * 512)],
    ["table of 2^30 entries", "block allocation table", (header) => header.setUint32(28, 2 ** 30)],
    ["too few entries", "dynamic disk header", (header) => header.setUint32(28, 1)],
    ["table past the end", "block allocation table", (header) => header.setBigUint64(16, 2n ** 40n)],
    ["table at 2^64-1", "block allocation table", (header) => header.setBigUint64(16, 2n ** 64n - 1n)],
    ["table over the header", "dynamic disk header", (header) => header.setBigUint64(16, 600n)],
    ["table over the footer copy", "block allocation table", (header) => header.setBigUint64(16, 0n)],
    ["no header cookie", "dynamic disk header", (header) => header.setUint32(0, 0)],
    ["header past the end", "dynamic disk header", (_, footer) => footer.setBigUint64(16, 2n ** 50n)],
    ["unknown type", "hard disk footer", (_, footer) => footer.setUint32(60, 9)],
    ["size 2^63", "hard disk footer", (_, footer) => footer.setBigUint64(48, 2n ** 63n)],
    ["more than the table covers", "dynamic disk header", (_, footer) => footer.setBigUint64(48, 2n ** 40n)],
  ])("%s", async (_name, structure, edit) => {
    expect(await refusal(await hostile(edit))).toMatchObject({ code: "CORRUPT", structure });
  });

  test("a differencing disk is not taken for one without a parent", async () => {
    const bytes = await hostile((_, footer) => footer.setUint32(60, 4));
    expect(await refusal(bytes)).toMatchObject({ code: "NOT_FOUND", message: /needs its parent/ });
  });

  test.each([
    ["past the end", 0x7fffffff],
    ["at the footer copy", 0],
    ["into the header", 1],
    ["into the table", 3],
    ["at the footer", -1],
  ])("a BAT entry that points %s fails its requests and no others", async (_name, sector) => {
    const bytes = await created();
    const view = new DataView(bytes.buffer);
    view.setUint32(1536, sector < 0 ? (bytes.length - 512) / 512 : sector);
    const { disk } = await opened(bytes);
    await expect(readBytes(disk, 0, 512)).rejects.toMatchObject({
      code: "CORRUPT",
      context: { structure: "block allocation table", offset: 1536 },
    });
    await expect(writeBytes(disk, 0, new Uint8Array(512))).rejects.toMatchObject({ code: "CORRUPT" });
    expect((await readBytes(disk, 3 * MiB, 1))[0]).toBe(0x5a);
  });

  test("two blocks in one place are refused", async () => {
    const bytes = await created();
    const view = new DataView(bytes.buffer);
    view.setUint32(1536, view.getUint32(1540) + 8);
    const { disk } = await opened(bytes);
    await expect(readBytes(disk, 0, 512)).rejects.toMatchObject({ code: "CORRUPT", message: /overlaps/ });
  });
});

describe("sector bitmaps", () => {
  /** Block 1 exists, its bitmap as given; its data is all 0xcc. */
  async function withBitmap(set: (bit: number) => boolean): Promise<Uint8Array> {
    const bytes = await created();
    const block = new DataView(bytes.buffer).getUint32(1540) * 512;
    bytes.fill(0xcc, block + 512, block + 512 + 2 * MiB);
    for (let bit = 0; bit < 4096; bit++) {
      const mask = 0x80 >> (bit & 7);
      if (set(bit)) bytes[block + (bit >> 3)] |= mask;
      else bytes[block + (bit >> 3)] &= ~mask;
    }
    return bytes;
  }

  test("a clear bit reads as zeros", async () => {
    const odd = (bit: number) => bit % 3 === 1 || (bit > 1000 && bit < 1300);
    const { disk } = await opened(await withBitmap(odd));
    const read = await readBytes(disk, 2 * MiB, 2 * MiB);
    for (let bit = 0; bit < 4096; bit++) expect(read[bit * 512 + 100]).toBe(odd(bit) ? 0xcc : 0);
  });

  test("writing sets the bits of what was written, and shows nothing old beside it", async () => {
    const { disk, store } = await opened(await withBitmap((bit) => bit === 5));
    await writeBytes(disk, 2 * MiB + 4 * 512, new Uint8Array(4 * 512).fill(0x11));
    await flush(disk);
    for (const again of [disk, (await opened(contentOf(store))).disk]) {
      const read = await readBytes(again, 2 * MiB, 2 * MiB);
      for (let bit = 0; bit < 4096; bit++) expect(read[bit * 512]).toBe(bit >= 4 && bit < 8 ? 0x11 : 0);
    }
  });

  test("a new block has all of them", async () => {
    const bytes = await created();
    const block = new DataView(bytes.buffer).getUint32(1540) * 512;
    expect(bytes.subarray(block, block + 512)).toEqual(new Uint8Array(512).fill(0xff));
  });
});

test("a 2,040 GiB disk opens with a few reads and a few MiB, and is written at its end", async () => {
  const store = new MeteredStore();
  const disk = await createDisk(store, { format: "vhd", size: 2040 * GiB });
  await writeBytes(disk, 2040 * GiB - 4096, new Uint8Array(4096).fill(1));
  await disk.close();
  store.reset();
  const again = await openDisk(store);
  expect((await readBytes(again, 2040 * GiB - 1, 1))[0]).toBe(1);
  expect(store.reads).toBeLessThan(20);
  expect(store.bytesRead).toBeLessThan(1 << 20);
  expect(store.allocated).toBeLessThan(8 * MiB);
});
