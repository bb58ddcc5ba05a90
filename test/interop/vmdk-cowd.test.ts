import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, expect } from "vitest";
import { openFile, writeBytes } from "../../src/node.ts";
import { ours as img } from "../support/img.ts";
import { peerTest } from "../support/peers.ts";
import { mixed } from "../support/read-only.ts";
import { randomFrom } from "../support/stores.ts";
import { cowdExtent, descriptorText } from "../support/vmdk.ts";

// QEMU cannot make vmfsSparse disks, but reads and writes them. It must not write where a disk has no grain table yet: 7.2 makes
// none there, but puts the data over the file's header.
const MiB = 2 ** 20;
const SIZE = 36 * MiB + 3 * 512;
const folder = fs.mkdtempSync(join(tmpdir(), "paravane-cowd-"));
afterAll(() => fs.rmSync(folder, { recursive: true }));
afterEach(() => {
  for (const name of fs.readdirSync(folder)) fs.rmSync(join(folder, name));
});
const at = (name: string) => join(folder, name);
const qemuImg = (...args: string[]) => execFileSync("qemu-img", args, { encoding: "utf8" });
const qemuIo = (file: string, ...commands: string[]) =>
  execFileSync("qemu-io", ["-f", "vmdk", ...commands.flatMap((command) => ["-c", command]), file], {
    encoding: "utf8",
  });
const identical = expect.stringContaining("Images are identical");

/** Both say that the disk holds what the raw file does. */
async function agreed(disk: string, raw: string) {
  expect(qemuImg("compare", "-f", "vmdk", "-F", "raw", at(disk), at(raw))).toEqual(identical);
  expect(await img("compare", "-F", "raw", at(disk), at(raw))).toMatchObject({ code: 0 });
}

/** Much of it zeros. */
function content(seed: number): Uint8Array {
  const random = randomFrom(seed);
  const bytes = new Uint8Array(SIZE);
  for (const start of [0, 70_000, 4 * MiB - 512, 20 * MiB, 33 * MiB, SIZE - 5000]) {
    const length = Math.min(SIZE - start, 1 + Math.floor(random() * 150_000));
    bytes.set(mixed(length, seed).subarray(0, length), start);
  }
  return bytes;
}

const described = async (disk: string) => {
  const { paravane: _, ...ours } = JSON.parse((await img("info", "--output", "json", at(disk))).stdout);
  expect(ours).toEqual(JSON.parse(qemuImg("info", "--output=json", at(disk))));
};

peerTest(
  "qemu-img",
  "qemu-utils",
  "what is made and written here is the same to QEMU, and described alike",
  async () => {
    fs.writeFileSync(at("a.raw"), content(1));
    const made = await img("convert", "-O", "vmdk", "-o", "subformat=vmfsSparse", at("a.raw"), at("d.vmdk"));
    expect(made).toMatchObject({ code: 0 });
    await agreed("d.vmdk", "a.raw");
    await described("d.vmdk");
    expect(await img("check", at("d.vmdk"))).toMatchObject({ code: 0 });
    expect(await img("resize", at("d.vmdk"), String(40 * MiB))).toMatchObject({ code: 0 });
    fs.truncateSync(at("a.raw"), 40 * MiB);
    await agreed("d.vmdk", "a.raw");
  },
);

peerTest("qemu-img", "qemu-utils", "what QEMU writes into it reads the same here, and can be written on", async () => {
  for (const grain of [1, 8]) {
    const bytes = content(2);
    fs.writeFileSync(at("d-0.vmdk"), cowdExtent(bytes, grain));
    fs.writeFileSync(at("d.vmdk"), descriptorText("vmfsSparse", [`RW ${SIZE / 512} VMFSSPARSE "d-0.vmdk"`]));
    qemuIo(at("d.vmdk"), "write -P 7 1M 64k", "write -P 8 1111040 512", "write -P 9 0 1k");
    bytes
      .fill(7, MiB, MiB + 65536)
      .fill(8, 1_111_040, 1_111_552)
      .fill(9, 0, 1024);
    fs.writeFileSync(at("a.raw"), bytes);
    await agreed("d.vmdk", "a.raw");
    // QEMU does not say in the header what it has taken.
    expect(await img("check", at("d.vmdk"))).toMatchObject({ code: 2, stderr: expect.stringContaining("is free") });
    fs.writeFileSync(at("b.raw"), content(3));
    expect(await img("convert", "-n", "-O", "vmdk", at("b.raw"), at("d.vmdk"))).toMatchObject({ code: 0 });
    await agreed("d.vmdk", "b.raw");
    expect(await img("check", at("d.vmdk"))).toMatchObject({ code: 0 });
    qemuIo(at("d.vmdk"), "write -P 7 1M 64k");
    expect(await img("check", "-r", "all", at("d.vmdk"))).toMatchObject({ code: 0 });
    expect(qemuIo(at("d.vmdk"), "read -P 7 1M 64k")).not.toContain("failed");
    await described("d.vmdk");
  }
});

peerTest("qemu-img", "qemu-utils", "two extents, and a delta over a parent that QEMU made", async () => {
  const bytes = content(4);
  const cut = 5 * MiB;
  fs.writeFileSync(at("d-0.vmdk"), cowdExtent(new Uint8Array(cut), 1));
  fs.writeFileSync(at("d-1.vmdk"), cowdExtent(new Uint8Array(SIZE - cut), 8));
  const lines = [cut, SIZE - cut].map((length, i) => `RW ${length / 512} VMFSSPARSE "d-${i}.vmdk"`);
  fs.writeFileSync(at("d.vmdk"), descriptorText("vmfsSparse", lines));
  fs.writeFileSync(at("a.raw"), bytes);
  expect(await img("convert", "-n", "-O", "vmdk", at("a.raw"), at("d.vmdk"))).toMatchObject({ code: 0 });
  await agreed("d.vmdk", "a.raw");

  qemuImg("convert", "-O", "vmdk", at("a.raw"), at("base.vmdk"));
  const over = ["-b", at("base.vmdk"), "-F", "vmdk", "-o", "subformat=vmfsSparse"];
  expect(await img("create", "-f", "vmdk", ...over, at("delta.vmdk"))).toMatchObject({ code: 0 });
  await agreed("delta.vmdk", "a.raw");
  const disk = await openFile(at("delta.vmdk"));
  const [small, large] = [new Uint8Array(3 * 1024).fill(5), new Uint8Array(MiB).fill(6)];
  await writeBytes(disk, 65_024, small);
  await writeBytes(disk, 20 * MiB, large);
  await disk.close();
  bytes.set(small, 65_024);
  bytes.set(large, 20 * MiB);
  fs.writeFileSync(at("b.raw"), bytes);
  await agreed("delta.vmdk", "b.raw");
  await agreed("base.vmdk", "a.raw");
  expect(fs.statSync(at("delta-delta.vmdk")).size).toBeLessThan(1.2 * MiB);
  expect(await img("map", "--output", "json", at("delta.vmdk"))).toMatchObject({ code: 0 });
  expect(await img("check", at("delta.vmdk"))).toMatchObject({ code: 0 });
});
