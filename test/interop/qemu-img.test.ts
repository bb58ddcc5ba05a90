import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { readBytes, writeBytes } from "../../src/host/block/bytes.ts";
import { createDisk, type Disk, openDisk } from "../../src/host/block/open.ts";
import { FileStore } from "../../src/host/store/file.ts";
import { peerTest } from "../support/peers.ts";
import { randomFrom } from "../support/stores.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;
const folder = fs.mkdtempSync(join(tmpdir(), "paravane-qemu-"));
afterAll(() => fs.rmSync(folder, { recursive: true }));
let files = 0;
const path = (ending: string) => join(folder, `${files++}.${ending}`);
const qemuImg = (...args: string[]) => execFileSync("qemu-img", args, { encoding: "utf8" });
const qemuIo = (format: string, file: string, ...commands: string[]) =>
  execFileSync("qemu-io", ["-f", format, ...commands.flatMap((command) => ["-c", command]), file], {
    encoding: "utf8",
  });

interface Pair {
  name: string;
  /** Ours and QEMU's words for it. */
  ours: { format: string; subformat?: string };
  qemu: { format: string; options?: string };
}

/** Formats that QEMU knows too. */
const PAIRS: Pair[] = [
  { name: "raw", ours: { format: "raw" }, qemu: { format: "raw" } },
  {
    name: "vhd, dynamic",
    ours: { format: "vhd", subformat: "dynamic" },
    qemu: { format: "vpc", options: "subformat=dynamic,force_size=on" },
  },
  {
    name: "vhd, fixed",
    ours: { format: "vhd", subformat: "fixed" },
    qemu: { format: "vpc", options: "subformat=fixed,force_size=on" },
  },
  { name: "parallels", ours: { format: "parallels" }, qemu: { format: "parallels" } },
  { name: "vmdk", ours: { format: "vmdk" }, qemu: { format: "vmdk" } },
  { name: "vdi, dynamic", ours: { format: "vdi" }, qemu: { format: "vdi" } },
  { name: "vdi, fixed", ours: { format: "vdi", subformat: "fixed" }, qemu: { format: "vdi", options: "static=on" } },
];

/** Offset, length and fill of some extents, here and there, sector by sector or large. */
function scatter(seed: number, size: number): { offset: number; length: number; fill: number }[] {
  const random = randomFrom(seed);
  return Array.from({ length: 24 }, () => {
    const offset = Math.floor((random() * size) / 512) * 512;
    const wanted = 512 * (1 + Math.floor(random() * (random() < 0.3 ? 6000 : 16)));
    return { offset, length: Math.min(wanted, size - offset), fill: 1 + Math.floor(random() * 255) };
  });
}

/** The same as a flat file. */
function flat(size: number, extents: ReturnType<typeof scatter>): string {
  const file = path("raw");
  const fd = fs.openSync(file, "w");
  fs.ftruncateSync(fd, size);
  for (const { offset, length, fill } of extents)
    fs.writeSync(fd, new Uint8Array(length).fill(fill), 0, length, offset);
  fs.closeSync(fd);
  return file;
}

async function write(disk: Disk, extents: ReturnType<typeof scatter>): Promise<void> {
  for (const { offset, length, fill } of extents) await writeBytes(disk, offset, new Uint8Array(length).fill(fill));
}

async function same(disk: Disk, file: string): Promise<void> {
  expect(disk.size).toBe(fs.statSync(file).size);
  const fd = fs.openSync(file, "r");
  const expected = new Uint8Array(4 * MiB);
  for (let at = 0; at < disk.size; at += expected.length) {
    const length = fs.readSync(fd, expected, 0, expected.length, at);
    const bytes = await readBytes(disk, at, length);
    if (Buffer.compare(bytes, expected.subarray(0, length)) !== 0) throw new Error(`differs in the 4 MiB at ${at}`);
  }
  fs.closeSync(fd);
}

describe.each(PAIRS)("$name", ({ ours, qemu }) => {
  const size = 40 * MiB + 17 * 512;
  const creation = qemu.options ? ["-o", qemu.options] : [];

  peerTest("qemu-img", "qemu-utils", "an image that QEMU made and filled reads the same here", async () => {
    const raw = flat(size, scatter(1, size));
    const image = path("img");
    qemuImg("convert", "-f", "raw", "-O", qemu.format, ...creation, raw, image);
    const disk = await openDisk(new FileStore(image, { readOnly: true }), { format: ours.format });
    await same(disk, raw);
    await disk.close();
  });

  peerTest("qemu-img", "qemu-utils", "an image made and filled here is the same to QEMU", async () => {
    for (const async of [false, true]) {
      const extents = scatter(2, size);
      const image = path("img");
      const disk = await createDisk(new FileStore(image, { create: true, async }), { ...ours, size });
      await write(disk, extents);
      await disk.close();
      expect(JSON.parse(qemuImg("info", "-f", qemu.format, "--output=json", image))["virtual-size"]).toBe(size);
      qemuImg("compare", "-f", qemu.format, "-F", "raw", image, flat(size, extents));
      const back = path("raw");
      qemuImg("convert", "-f", qemu.format, "-O", "raw", image, back);
      expect(fs.readFileSync(back).equals(fs.readFileSync(flat(size, extents)))).toBe(true);
    }
  });

  peerTest(
    "qemu-io",
    "qemu-utils",
    "both write to one image by turns",
    async () => {
      const image = path("img");
      qemuImg("create", "-f", qemu.format, ...creation, image, String(size));
      const all: ReturnType<typeof scatter> = [];
      for (let turn = 0; turn < 4; turn++) {
        const extents = scatter(10 + turn, size);
        all.push(...extents);
        if (turn % 2 === 0) {
          const disk = await openDisk(new FileStore(image), { format: ours.format });
          await write(disk, extents);
          await disk.close();
          // QEMU checks what it reads: -P fails on another byte.
          const { offset, length, fill } = extents[extents.length - 1];
          expect(qemuIo(qemu.format, image, `read -P ${fill} ${offset} ${length}`)).toMatch(/^read /m);
        } else {
          const commands = extents.map(({ offset, length, fill }) => `write -P ${fill} ${offset} ${length}`);
          qemuIo(qemu.format, image, ...commands);
        }
        const disk = await openDisk(new FileStore(image, { readOnly: true }), { format: ours.format });
        const raw = flat(size, all);
        await same(disk, raw);
        await disk.close();
        qemuImg("compare", "-f", qemu.format, "-F", "raw", image, raw);
      }
    },
    180_000,
  );

  peerTest("qemu-img", "qemu-utils", "large disks have the size that was asked for", async () => {
    for (const large of [GiB + 512, 127 * GiB, 2040 * GiB]) {
      if (ours.subformat === "fixed" && large > 200 * GiB) continue;
      const image = path("img");
      const disk = await createDisk(new FileStore(image, { create: true }), { ...ours, size: large });
      await writeBytes(disk, large - 4096, new Uint8Array(4096).fill(0x77));
      await disk.close();
      expect(JSON.parse(qemuImg("info", "-f", qemu.format, "--output=json", image))["virtual-size"]).toBe(large);
      expect(qemuIo(qemu.format, image, `read -P 0x77 ${large - 4096} 4096`)).toMatch(/^read /m);
      fs.rmSync(image);
    }
  });
});

peerTest("qemu-img", "qemu-utils", "QEMU's own idea of a VHD's size is ours", async () => {
  // Without force_size QEMU rounds up to a geometry, and its creator name says so.
  for (const size of [MiB, 10 * MiB + 512, 500 * MiB, 3 * GiB, 127 * GiB, 300 * GiB]) {
    for (const options of ["subformat=dynamic", "subformat=dynamic,force_size=on"]) {
      const image = path("vhd");
      qemuImg("create", "-f", "vpc", "-o", options, image, String(size));
      const { "virtual-size": expected } = JSON.parse(qemuImg("info", "-f", "vpc", "--output=json", image));
      const disk = await openDisk(new FileStore(image, { readOnly: true }));
      expect([options, size, disk.size]).toEqual([options, size, expected]);
      await disk.close();
    }
  }
});

test("the scatter covers every kind of place", () => {
  const extents = scatter(2, 40 * MiB);
  expect(extents.some(({ length }) => length > 2 * MiB)).toBe(true);
  expect(extents.some(({ length }) => length < 8192)).toBe(true);
});
