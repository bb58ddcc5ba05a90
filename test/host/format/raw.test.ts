import { describe, expect, test } from "vitest";
import { type Block, BlockRequest, Op, Status } from "../../../src/core/block.ts";
import type { Store } from "../../../src/core/store.ts";
import { discard, readBytes, writeBytes, writeZeroes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { FORMATS } from "../../../src/host/format/index.ts";
import { raw } from "../../../src/host/format/raw.ts";
import { dataFile } from "../../support/data.ts";
import { KeptStore } from "../../support/disks.ts";
import { contentOf, LateStore } from "../../support/stores.ts";

const SIZE = 64 * 1024;

/** A sector that begins (or, from `at` on, goes on) with the text. */
function sector(text: string, at = 0): Uint8Array {
  const bytes = new Uint8Array(512).fill(0x20);
  for (let i = 0; i < text.length; i++) bytes[at + i] = text.charCodeAt(i);
  return bytes;
}
async function vhdFooter(): Promise<Uint8Array> {
  const store = new KeptStore();
  await (await createDisk(store, { format: "vhd", size: 4096, subformat: "fixed" })).close();
  return contentOf(store).slice(-512);
}
const probed = (store: Store = new KeptStore(SIZE)) => openDisk(store);

const HEADS: [string, Uint8Array][] = [
  ["qcow2", dataFile("backing-chain-1.qcow2").slice(0, 512)],
  ["vhd", dataFile("dfvfs-ext2.vhd").slice(0, 512)],
  ["vdi", dataFile("dissect-vdi_basic.vdi").slice(0, 512)],
  ["parallels", dataFile("qemu-parallels-v1.hdd").slice(0, 512)],
  ["vhdx", dataFile("discutils-log-replay.vhdx").slice(0, 512)],
  ["vmdk", sector("KDMV")],
  ["vmdk", sector("COWD")],
  ["vmdk", sector("# Disk DescriptorFile\nversion=1\n")],
  ["vmdk", sector("# anything\n\n  \nversion=3\n")],
  ["qed", sector("QED\0")],
  ["luks", sector("LUKS\xba\xbe\0\x01")],
  ["qcow", sector("QFI\xfb\0\0\0\x01")],
  ["bochs", sector("Bochs Virtual HD Image\0")],
  ["cloop", sector("#!/bin/sh\n#V2.0 Format\n")],
  ["encrypted dmg", sector("encrcdsa\0\0\0\x02")],
];

describe("a raw disk whose format was guessed", () => {
  test.each(HEADS)("does not become a %s image", async (name, head) => {
    for (const store of [new KeptStore(SIZE), new LateStore(new KeptStore(SIZE))]) {
      const disk = await probed(store);
      await writeBytes(disk, 0, new Uint8Array(1024).fill(0x11));
      const long = new Uint8Array(4096).fill(0x22);
      long.set(head);
      for (const bytes of [head, long]) {
        await expect(writeBytes(disk, 0, bytes)).rejects.toMatchObject({
          code: "DENIED",
          message: expect.stringContaining(` ${name} `),
          hint: expect.stringContaining('"raw"'),
        });
        // Nothing of the request was written.
        expect(await readBytes(disk, 0, 1024)).toEqual(new Uint8Array(1024).fill(0x11));
      }
      // Elsewhere, and as anything else, it may be written.
      await writeBytes(disk, 512, head);
      await writeZeroes(disk, 0, 1024);
      await discard(disk, 0, 512);
      await disk.close();
    }
  });

  test.each(HEADS)("may, when it was named: %s", async (_name, head) => {
    const store = new KeptStore(SIZE);
    const disk = await openDisk(store, { format: "raw" });
    await writeBytes(disk, 0, head);
    expect(await readBytes(disk, 0, 512)).toEqual(head);
  });

  test("nor a VHD by its last sector, whatever the file's length", async () => {
    const footer = await vhdFooter();
    for (const size of [SIZE, SIZE + 1, SIZE + 200, SIZE + 500]) {
      const store = new KeptStore(size);
      const disk = await probed(store);
      const last = disk.size - 512;
      await writeBytes(disk, last - 512, new Uint8Array(512).fill(0x11));
      // Where the next probe would look, and, once the last sector has been written, where it then looks.
      const lead = size % 512;
      if (lead > 0) {
        const shifted = new Uint8Array(1024);
        shifted.set(footer, lead);
        await expect(writeBytes(disk, last - 512, shifted.subarray(0, 512))).rejects.toMatchObject({ code: "DENIED" });
      }
      await expect(writeBytes(disk, last, footer)).rejects.toMatchObject({ code: "DENIED" });
      const long = new Uint8Array(4096);
      long.set(footer, 4096 - 512);
      await expect(writeBytes(disk, disk.size - 4096, long)).rejects.toMatchObject({ code: "DENIED" });
      await writeBytes(
        disk,
        last - 512,
        footer.map((byte) => byte ^ 1),
      );
      await writeBytes(disk, last, new Uint8Array(512).fill(0x33));
      await disk.close();
      expect((await probed(store)).format).toBe("raw");
    }
  });

  test("nor by being cut off", async () => {
    const disk = await probed();
    await writeBytes(disk, 4096, await vhdFooter());
    await expect(disk.resize(4096 + 512)).rejects.toMatchObject({ code: "DENIED" });
    await disk.resize(4096);
    expect(disk.size).toBe(4096);
  });

  test("looks at the header wherever its segments lie, and writes what it looked at", async () => {
    const [[, head]] = HEADS;
    const disk = await probed(new LateStore(new KeptStore(SIZE)));
    const request = new BlockRequest();
    const memory = new Uint8Array(4096);
    request.op = Op.Write;
    request.length = 1536;
    request.memory = memory;
    for (let i = 0; i < 24; i++) {
      request.segments.push(4096 - 128 * (i + 1), 64);
      memory.set(head.subarray(i * 64, i * 64 + 64), 4096 - 128 * (i + 1));
    }
    await disk.submit([request]);
    expect(request.status).not.toBe(Status.Ok);
    expect(request.error?.code).toBe("DENIED");

    // A guest that changes its memory after the look changes nothing on disk.
    for (let i = 0; i < 24; i++) memory.fill(i + 1, 4096 - 128 * (i + 1), 4096 - 128 * (i + 1) + 64);
    const pending = disk.submit([request]);
    for (let i = 0; i < 8; i++) memory.set(head.subarray(i * 64, i * 64 + 64), 4096 - 128 * (i + 1));
    await pending;
    expect(request.status).toBe(Status.Ok);
    const read = await readBytes(disk, 0, 1536);
    for (let i = 0; i < 24; i++) expect(read[i * 64]).toBe(i + 1);
  });

  test("what stands around a refused request in its batch is carried out, in order", async () => {
    const disk = await probed();
    const requests = [0x41, -1, 0x42].map((fill) => {
      const request = new BlockRequest();
      request.op = Op.Write;
      request.length = 512;
      request.memory = fill < 0 ? HEADS[0][1] : new Uint8Array(512).fill(fill);
      request.segments.push(0, 512);
      return request;
    });
    await disk.submit(requests);
    expect(requests.map(({ error }) => error?.code)).toEqual([undefined, "DENIED", undefined]);
    expect((await readBytes(disk, 0, 1))[0]).toBe(0x42);
  });

  test("wrong requests are still told apart", async () => {
    const disk = await probed();
    const code = (offset: number, bytes: Uint8Array) => writeBytes(disk, offset, bytes).catch((error) => error.code);
    expect(await code(disk.size, HEADS[0][1])).toBe("OUT_OF_RANGE");
    expect(await code(0, HEADS[0][1].subarray(0, 100))).toBe("INVALID");
  });
});

test.each(HEADS.filter(([name]) => !FORMATS.some((format) => format.name === name)))(
  "what is a %s image is not guessed to be raw",
  async (name, head) => {
    const store = new KeptStore(SIZE);
    await writeBytes(await openDisk(store, { format: "raw" }), 0, head);
    await expect(openDisk(store)).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: expect.stringContaining(name),
      hint: expect.stringContaining('"raw"'),
    });
  },
);

describe("sizes", () => {
  async function filled(block: Block, from: number, to: number): Promise<number[]> {
    return [...new Set(await readBytes(block, from, to - from))];
  }

  test("a file that ends inside a sector: the rest is zeros, and a write makes it whole", async () => {
    for (const length of [1, 511, 513, 1023]) {
      const store = new KeptStore(new Uint8Array(length).fill(0x77));
      const disk = await openDisk(store, { format: "raw" });
      expect(disk.size).toBe(Math.ceil(length / 512) * 512);
      expect(await filled(disk, 0, length)).toEqual([0x77]);
      expect(await filled(disk, length, disk.size)).toEqual([0]);
      expect(store.size).toBe(length);
      await writeBytes(disk, disk.size - 512, new Uint8Array(512).fill(0x78));
      expect(store.size).toBe(disk.size);
      expect(await filled(disk, disk.size - 512, disk.size)).toEqual([0x78]);
    }
  });

  test("grows with zeros and shrinks, also from an odd length", async () => {
    for (const length of [4096, 4000]) {
      const store = new KeptStore(new Uint8Array(length).fill(0x77));
      const disk = await openDisk(store, { format: "raw" });
      await disk.resize(8192);
      expect([disk.size, store.size]).toEqual([8192, 8192]);
      expect(await filled(disk, length, 8192)).toEqual([0]);
      await writeBytes(disk, 7680, new Uint8Array(512).fill(1));
      await disk.resize(1024);
      await disk.resize(8192);
      expect(await filled(disk, 0, 1024)).toEqual([0x77]);
      expect(await filled(disk, 1024, 8192)).toEqual([0]);
      for (const wrong of [-512, 1000, 0.5, Number.NaN, 2 ** 60]) {
        await expect(disk.resize(wrong)).rejects.toMatchObject({ code: "INVALID" });
      }
    }
  });

  test("past 2 TiB", async () => {
    const size = 3 * 2 ** 40 + 512;
    const store = new KeptStore();
    const disk = await createDisk(store, { format: "raw", size });
    for (const at of [2 ** 32 - 512, 2 ** 41 - 512, 2 ** 41, size - 512]) {
      await writeBytes(disk, at, new Uint8Array(512).fill(at / 512 + 1));
    }
    await disk.close();
    const again = await openDisk(store);
    expect(again.size).toBe(size);
    for (const at of [2 ** 32 - 512, 2 ** 41 - 512, 2 ** 41, size - 512]) {
      expect(await filled(again, at, at + 512)).toEqual([(at / 512 + 1) & 255]);
    }
  });
});

test("preallocation writes the zeros; without it nothing is stored", async () => {
  for (const [preallocation, allocated] of [
    ["off", 0],
    ["falloc", 3 * 2 ** 20],
    ["full", 3 * 2 ** 20],
  ] as const) {
    const store = new KeptStore();
    const size = 3 * 2 ** 20 - 512;
    const disk = await createDisk(store, { format: "raw", size, preallocation });
    expect([store.size, disk.size, store.allocated]).toEqual([size, size, allocated]);
    expect(raw.measure!({ size, preallocation }).bytes(7)).toBe(size);
  }
  await expect(createDisk(new KeptStore(), { format: "raw", size: 512, preallocation: "some" })).rejects.toMatchObject({
    code: "INVALID",
  });
});
