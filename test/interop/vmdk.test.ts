import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect } from "vitest";
import { ours as img } from "../support/img.ts";
import { peerTest } from "../support/peers.ts";
import { randomFrom } from "../support/stores.ts";
import { cowdExtent, descriptorText, overParent, seSparseExtent, streamExtent } from "../support/vmdk.ts";

const MiB = 2 ** 20;
const SIZE = 2 ** 31 + 40 * MiB + 17 * 512;
const folder = fs.mkdtempSync(join(tmpdir(), "paravane-vmdk-"));
afterAll(() => fs.rmSync(folder, { recursive: true }));
const at = (name: string) => join(folder, name);
const qemuImg = (...args: string[]) => execFileSync("qemu-img", args, { encoding: "utf8" });
const qemuIo = (file: string, ...commands: string[]) =>
  execFileSync("qemu-io", ["-f", "vmdk", ...commands.flatMap((command) => ["-c", command]), file], {
    encoding: "utf8",
  });

beforeAll(() => {
  const random = randomFrom(5);
  const fd = fs.openSync(at("src.raw"), "w");
  fs.ftruncateSync(fd, SIZE);
  const put = (offset: number, length: number) => {
    const bytes = Uint8Array.from({ length }, (_, i) => (i % 700 < 300 ? random() * 256 : 1 + (i >> 12)));
    fs.writeSync(fd, bytes, 0, length, offset);
  };
  for (let i = 0; i < 30; i++)
    put(Math.floor((random() * (SIZE - MiB)) / 512) * 512, 512 * (1 + Math.floor(random() * 300)));
  put(2 ** 31 - 4096, 8192);
  put(SIZE - 512, 512);
  fs.closeSync(fd);
});
afterEach(() => {
  for (const name of fs.readdirSync(folder)) if (name !== "src.raw") fs.rmSync(at(name));
});

const same = (image: string) => qemuImg("compare", "-f", "vmdk", "-F", "raw", at(image), at("src.raw"));

describe.each(["monolithicFlat", "twoGbMaxExtentFlat", "twoGbMaxExtentSparse", "monolithicSparse"])(
  "%s",
  (subformat) => {
    const options = ["-O", "vmdk", "-o", `subformat=${subformat}`];

    peerTest("qemu-img", "qemu-utils", "what QEMU made reads the same here, and is described as it does", async () => {
      qemuImg("convert", ...options, at("src.raw"), at("q.vmdk"));
      expect(await img("compare", "-F", "raw", at("q.vmdk"), at("src.raw"))).toMatchObject({ code: 0 });
      const { paravane: _, ...ours } = JSON.parse((await img("info", "--output", "json", at("q.vmdk"))).stdout);
      expect(ours).toEqual(JSON.parse(qemuImg("info", "--output=json", at("q.vmdk"))));
      const places = (text: string) =>
        JSON.parse(text).map(({ start, length, zero, offset }: Record<string, unknown>) => ({
          start,
          length,
          zero,
          offset,
        }));
      const map = places((await img("map", "--output", "json", at("q.vmdk"))).stdout);
      // QEMU calls holes of a flat file data that reads as zeros.
      const known = places(qemuImg("map", "--output=json", at("q.vmdk")));
      expect(map.filter(({ zero }: { zero: boolean }) => !zero)).toEqual(
        known.filter(({ zero }: { zero: boolean }) => !zero),
      );
      expect(await img("check", at("q.vmdk"))).toMatchObject({ code: 0 });
    });

    peerTest("qemu-img", "qemu-utils", "what is made here is the same to QEMU, which can write to it", async () => {
      expect(await img("convert", ...options, at("src.raw"), at("p.vmdk"))).toMatchObject({ code: 0 });
      same("p.vmdk");
      qemuImg("check", at("p.vmdk"));
      qemuImg("convert", ...options, at("src.raw"), at("q.vmdk"));
      const names = (letter: string) => fs.readdirSync(folder).filter((name) => name.startsWith(letter));
      expect(names("p").map((name) => name.slice(1))).toEqual(names("q").map((name) => name.slice(1)));
      const [made, known] = ["p", "q"].map((name) => {
        const { data } = JSON.parse(qemuImg("info", "--output=json", at(`${name}.vmdk`)))["format-specific"];
        for (const extent of data.extents) extent.filename = extent.filename.slice(at(name).length);
        return { ...data, cid: 0 };
      });
      expect(made).toEqual(known);
      qemuIo(at("p.vmdk"), "write -P 7 1000448 200k", `write -P 8 ${2 ** 31 - 65536} 128k`);
      qemuImg("convert", "-O", "raw", at("p.vmdk"), at("back.raw"));
      expect(await img("compare", "-F", "raw", at("p.vmdk"), at("back.raw"))).toMatchObject({ code: 0 });
      expect(await img("check", at("p.vmdk"))).toMatchObject({ code: 0 });
    });

    peerTest("qemu-io", "qemu-utils", "QEMU reads what was written and grown here", async () => {
      qemuImg("create", "-f", "vmdk", "-o", `subformat=${subformat}`, at("q.vmdk"), String(SIZE));
      expect(await img("convert", "-n", "-O", "vmdk", at("src.raw"), at("q.vmdk"))).toMatchObject({ code: 0 });
      same("q.vmdk");
      qemuImg("check", at("q.vmdk"));
      expect(await img("resize", at("q.vmdk"), String(SIZE + MiB))).toMatchObject({ code: 0 });
      expect(JSON.parse(qemuImg("info", "--output=json", at("q.vmdk")))["virtual-size"]).toBe(SIZE + MiB);
      expect(qemuIo(at("q.vmdk"), `read -P 0 ${SIZE} 1M`, `write -P 3 ${SIZE} 1M`)).toMatch(/^wrote /m);
    });
  },
);

peerTest("qemu-img", "qemu-utils", "streamOptimized disks are the same to both, and described alike", async () => {
  const options = ["-O", "vmdk", "-o", "subformat=streamOptimized"];
  const described = (text: string) => {
    const { data } = JSON.parse(text)["format-specific"];
    return { ...data, cid: 0, extents: data.extents.map((extent: object) => ({ ...extent, filename: "" })) };
  };
  qemuImg("convert", ...options, at("src.raw"), at("q.vmdk"));
  expect(await img("compare", "-F", "raw", at("q.vmdk"), at("src.raw"))).toMatchObject({ code: 0 });
  expect(await img("check", at("q.vmdk"))).toMatchObject({ code: 0 });
  expect(await img("convert", ...options, at("src.raw"), at("p.vmdk"))).toMatchObject({ code: 0 });
  same("p.vmdk");
  qemuImg("check", at("p.vmdk"));
  const known = described(qemuImg("info", "--output=json", at("q.vmdk")));
  expect(described(qemuImg("info", "--output=json", at("p.vmdk")))).toEqual(known);
  expect(described((await img("info", "--output", "json", at("q.vmdk"))).stdout)).toEqual(known);
  expect(fs.statSync(at("p.vmdk")).size).toBeLessThan(fs.statSync(at("q.vmdk")).size * 1.1);
});

peerTest("qemu-img", "qemu-utils", "a streamOptimized disk over a parent reads the same to both", async () => {
  qemuImg("create", "-f", "vmdk", at("base.vmdk"), String(SIZE));
  qemuIo(at("base.vmdk"), `write -P 5 0 ${MiB}`, `write -P 6 ${SIZE - MiB} ${MiB}`);
  const { cid } = JSON.parse(qemuImg("info", "--output=json", at("base.vmdk")))["format-specific"].data;
  qemuImg("convert", "-O", "vmdk", "-o", "subformat=streamOptimized", at("src.raw"), at("s.vmdk"));
  fs.writeFileSync(at("s.vmdk"), overParent(fs.readFileSync(at("s.vmdk")), cid, "base.vmdk"));
  qemuImg("convert", "-f", "vmdk", "-O", "raw", at("s.vmdk"), at("back.raw"));
  const bytes = Buffer.alloc(4096);
  const fd = fs.openSync(at("back.raw"), "r");
  fs.readSync(fd, bytes, 0, 4096, SIZE - MiB / 2);
  fs.closeSync(fd);
  expect(bytes.every((byte) => byte === 6)).toBe(true);
  expect(await img("compare", "-f", "vmdk", "-F", "raw", at("s.vmdk"), at("back.raw"))).toMatchObject({ code: 0 });
});

peerTest(
  "qemu-img",
  "qemu-utils",
  "a parent named by another host's path is found beside the disk, by its name",
  async () => {
    qemuImg("create", "-f", "vmdk", at("base.vmdk"), String(8 * MiB));
    qemuIo(at("base.vmdk"), `write -P 5 0 ${MiB}`);
    const { cid } = JSON.parse(qemuImg("info", "--output=json", at("base.vmdk")))["format-specific"].data;
    qemuImg("create", "-f", "vmdk", at("c.vmdk"), String(8 * MiB));
    const child = Uint8Array.from(fs.readFileSync(at("c.vmdk")));
    fs.writeFileSync(at("c.vmdk"), overParent(child, cid, "base.vmdk"));
    qemuImg("convert", "-f", "vmdk", "-O", "raw", at("c.vmdk"), at("back.raw"));
    expect(fs.readFileSync(at("back.raw"))[0]).toBe(5);
    for (const hint of [
      "/vmfs/volumes/5e0c/vm/base.vmdk",
      "C:\\vms\\base.vmdk",
      "\\\\host\\share\\base.vmdk",
      "./base.vmdk",
    ]) {
      fs.writeFileSync(at("c.vmdk"), overParent(child, cid, hint));
      expect(await img("compare", "-f", "vmdk", "-F", "raw", at("c.vmdk"), at("back.raw"))).toMatchObject({ code: 0 });
    }
    fs.writeFileSync(at("c.vmdk"), overParent(child, (cid ^ 1) >>> 0, "/vmfs/volumes/5e0c/vm/base.vmdk"));
    expect((await img("compare", "-f", "vmdk", "-F", "raw", at("c.vmdk"), at("back.raw"))).stderr).toContain(
      "another disk",
    );
  },
);

/** A disk of some tables' length, of which much is zeros; not whole in any unit. */
function content(): Uint8Array {
  const random = randomFrom(8);
  const bytes = new Uint8Array(36 * MiB + 3 * 512);
  for (const at of [0, 70_000, 4 * MiB - 512, 20 * MiB, 33 * MiB, bytes.length - 5000]) {
    const length = Math.min(bytes.length - at, 1 + Math.floor(random() * 150_000));
    for (let i = at; i < at + length; i++) bytes[i] = i % 900 < 500 ? random() * 256 : i >> 13;
  }
  return bytes;
}

/** Makes the extents' files and a descriptor, d.vmdk, has QEMU read it to back.raw, and compares that to what is there. */
async function judged(createType: string, type: string, extents: readonly [sectors: number, file: Uint8Array][]) {
  const lines = extents.map(([sectors], i) => `RW ${sectors} ${type} "d-${i}.vmdk"`);
  for (const [i, [, file]] of extents.entries()) fs.writeFileSync(at(`d-${i}.vmdk`), file);
  fs.writeFileSync(at("d.vmdk"), descriptorText(createType, lines));
  qemuImg("convert", "-f", "vmdk", "-O", "raw", at("d.vmdk"), at("back.raw"));
  expect(Buffer.compare(fs.readFileSync(at("back.raw")), content())).toBe(0);
  expect(await img("compare", "-F", "raw", at("d.vmdk"), at("back.raw"))).toMatchObject({ code: 0 });
  expect(await img("check", at("d.vmdk"))).toMatchObject({ code: 0 });
  const { paravane: _, ...ours } = JSON.parse((await img("info", "--output", "json", at("d.vmdk"))).stdout);
  const known = JSON.parse(qemuImg("info", "--output=json", at("d.vmdk")));
  // Of compressed extents QEMU says that the whole disk is streamOptimized.
  known["format-specific"].data["create-type"] = createType;
  expect(ours).toEqual(known);
  const written = await img("convert", "-n", "-O", "vmdk", at("back.raw"), at("d.vmdk"));
  expect(written.stderr).toContain("d-0.vmdk can only be read");
}

describe("disks that neither makes read the same to both, and are only read", () => {
  const bytes = content();
  const whole = bytes.length / 512;

  peerTest("qemu-img", "qemu-utils", "vmfsSparse, with grains that are no power of two", async () => {
    // Whole grains: QEMU takes the next extent to begin with a new one.
    const cut = 3 * 512 * 2000;
    await judged("vmfsSparse", "VMFSSPARSE", [
      [cut / 512, cowdExtent(bytes.subarray(0, cut), 3)],
      [(bytes.length - cut) / 512, cowdExtent(bytes.subarray(cut), 3)],
    ]);
  });

  peerTest("qemu-img", "qemu-utils", "seSparse", async () => {
    await judged("seSparse", "SESPARSE", [[whole, seSparseExtent(bytes)]]);
  });

  peerTest("qemu-img", "qemu-utils", "compressed extents, several in one descriptor", async () => {
    // Whole grains: QEMU reads on in the first extent where its last one is not.
    const cut = 20 * MiB;
    const [first, second] = [bytes.subarray(0, cut), bytes.subarray(cut)];
    await judged("twoGbMaxExtentSparse", "SPARSE", [
      [cut / 512, streamExtent(first, { footer: false })],
      [second.length / 512, streamExtent(second, { footer: false })],
    ]);
  });
});

peerTest("qemu-img", "qemu-utils", "an absent extent is named in one line", async () => {
  qemuImg("create", "-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", at("q.vmdk"), String(SIZE));
  fs.rmSync(at("q-s002.vmdk"));
  const { code, stderr } = await img("info", at("q.vmdk"));
  expect(code).toBe(1);
  expect(stderr.trim().split("\n")).toEqual([expect.stringContaining("q-s002.vmdk, is not there")]);
});
