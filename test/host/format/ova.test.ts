import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { readBytes } from "../../../src/host/block/bytes.ts";
import { openDisk } from "../../../src/host/block/open.ts";
import { checkImage } from "../../../src/host/image/check.ts";
import { KeptStore } from "../../support/disks.ts";
import { ours as img } from "../../support/img.ts";
import { peerTest } from "../../support/peers.ts";
import { mixed, ovaImage, ovf } from "../../support/read-only.ts";
import { LateStore, randomFrom } from "../../support/stores.ts";
import { cowdExtent, descriptorText, streamImage } from "../../support/vmdk.ts";

const SIZE = 1 << 20;
const [FIRST, SECOND] = [mixed(SIZE), mixed(SIZE, 5)];
const folder = mkdtempSync(join(tmpdir(), "paravane-ova-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string) => join(folder, name);

type Files = Record<string, Uint8Array | string>;
const open = (files: Files, more = {}) => openDisk(new KeptStore(ovaImage(files)), { readOnly: true, ...more });
const two = { "vm.ovf": ovf(["a.vmdk", "b.vmdk"]), "a.vmdk": streamImage(FIRST), "b.vmdk": streamImage(SECOND) };

async function holds(files: Files, content: Uint8Array, more = {}) {
  const disk = await open(files, more);
  expect(disk.format).toBe("ova");
  expect(Buffer.compare(await readBytes(disk, 0, disk.size), content)).toBe(0);
  await disk.close();
}

test("the only disk is opened; of several, the one that is asked for, or all are named", async () => {
  await holds({ "vm.ovf": ovf(["a.vmdk"]), "vm.mf": "", "a.vmdk": streamImage(FIRST) }, FIRST);
  await holds(two, FIRST, { member: "a.vmdk" });
  await holds(two, SECOND, { member: "b.vmdk" });
  await expect(open(two)).rejects.toMatchObject({
    code: "INVALID",
    message: expect.stringContaining("2 disks: a.vmdk, b.vmdk"),
    hint: expect.stringContaining("member=a.vmdk"),
  });
  await expect(open(two, { member: "c.vmdk" })).rejects.toMatchObject({ code: "NOT_FOUND" });
  expect(await checkImage(new KeptStore(ovaImage(two)))).toMatchObject({ corruptions: 0, totalClusters: 256 });
});

test("disks that the descriptor does not name are none; without one that is understood, they are known by their names", async () => {
  await holds({ ...two, "vm.ovf": ovf(["b.vmdk"]) }, SECOND);
  const warnings: string[] = [];
  const onWarning = (message: string) => void warnings.push(message);
  await holds({ "vm.ovf": "<Envelope><![CDATA[]]>", "a.vmdk": streamImage(FIRST) }, FIRST, { onWarning });
  expect(warnings.join()).toContain("vm.ovf is not understood");
  await holds({ "a.vmdk": streamImage(FIRST) }, FIRST, { format: "ova" });
});

test("a disk in several members, over a store that answers late", async () => {
  const text = descriptorText("vmfsSparse", [`RW ${SIZE / 512} VMFSSPARSE "e.vmdk"`]);
  const files = { "vm.ovf": ovf(["d.vmdk"]), "d.vmdk": text, "e.vmdk": cowdExtent(FIRST) };
  await holds(files, FIRST);
  const disk = await openDisk(new LateStore(new KeptStore(ovaImage(files))), { readOnly: true });
  expect(Buffer.compare(await readBytes(disk, 0, SIZE), FIRST)).toBe(0);
  await disk.close();
});

describe("refused", () => {
  test.each<[string, Files, string, string]>([
    ["a disk that is not there", { "vm.ovf": ovf(["a.vmdk"]) }, "CORRUPT", "names a.vmdk, which is not in the archive"],
    ["no disk", { "vm.ovf": ovf([]) }, "CORRUPT", "holds no disk"],
    [
      "a packed disk",
      { "vm.ovf": ovf(["a.vmdk"], 'ovf:compression="gzip"'), "a.vmdk": "" },
      "UNSUPPORTED",
      "packed with gzip",
    ],
    ["one in pieces", { "vm.ovf": ovf(["a.vmdk"], 'ovf:chunkSize="9"'), "a.vmdk": "" }, "UNSUPPORTED", "in pieces"],
    ["a disk that is no VMDK", { "vm.ovf": ovf(["a"]), a: "x".repeat(999) }, "CORRUPT", "has no magic"],
  ])("%s", async (_, files, code, said) => {
    await expect(open(files)).rejects.toMatchObject({ code, message: expect.stringContaining(said) });
  });

  test("damage anywhere in its headers, and a raw disk with another archive is still raw", async () => {
    const image = ovaImage(two);
    const random = randomFrom(4);
    const outcomes = new Set<string>();
    for (let i = 0; i < 300; i++) {
      const bytes = image.slice();
      const header = [0, 512 + Math.ceil(two["vm.ovf"].length / 512) * 512][i % 2];
      bytes[header + Math.floor(random() * 512)] ^= 1 << Math.floor(random() * 8);
      const opened = openDisk(new KeptStore(bytes), { format: "ova", readOnly: true, member: "b.vmdk" });
      outcomes.add(
        await opened.then(
          () => "opened",
          (error) => error.code,
        ),
      );
    }
    expect([...outcomes]).toEqual(["CORRUPT"]);
    const other = await openDisk(new KeptStore(ovaImage({ "letter.txt": "dear" })), { readOnly: true });
    expect(other.format).toBe("raw");
  });
});

peerTest(
  "qemu-img",
  "qemu-utils",
  "archives of every kind that tar makes, judged by qemu-img on the member",
  async () => {
    writeFileSync(at("src.raw"), FIRST);
    const long = `${"long".repeat(30)}.vmdk`;
    const run = (command: string, ...args: string[]) =>
      expect(spawnSync(command, args, { cwd: folder }).status).toBe(0);
    run("qemu-img", "convert", "-O", "vmdk", "-o", "subformat=streamOptimized", "src.raw", long);
    run("qemu-img", "convert", "-O", "vmdk", "src.raw", "second.vmdk");
    writeFileSync(at("vm.ovf"), ovf([long, "second.vmdk"]));
    for (const format of ["ustar", "pax", "gnu"]) {
      // ustar has no room for the long name.
      const first = format === "ustar" ? "first.vmdk" : long;
      if (format === "ustar") {
        writeFileSync(at(first), readFileSync(at(long)));
        writeFileSync(at("vm.ovf"), ovf([first, "second.vmdk"]));
      } else writeFileSync(at("vm.ovf"), ovf([long, "second.vmdk"]));
      run("tar", `--format=${format}`, "-cf", "x.ova", "vm.ovf", first, "second.vmdk");
      for (const member of [first, "second.vmdk"]) {
        run("qemu-img", "convert", "-f", "vmdk", "-O", "raw", member, "back.raw");
        expect(Buffer.compare(readFileSync(at("back.raw")), FIRST)).toBe(0);
        const opts = `driver=ova,member=${member},file.filename=${at("x.ova")}`;
        expect(await img("convert", "--image-opts", "-O", "raw", opts, at("ours.raw"))).toMatchObject({ code: 0 });
        expect(Buffer.compare(readFileSync(at("ours.raw")), FIRST)).toBe(0);
      }
      const info = await img("info", at("x.ova"));
      expect(info).toMatchObject({ code: 1 });
      expect(info.stderr).toContain("2 disks");
      run("tar", `--format=${format}`, "-cf", "y.ova", "second.vmdk");
      expect((await img("info", at("y.ova"))).stdout).toContain("virtual size: 1 MiB");
      expect(await img("compare", "-f", "ova", "-F", "raw", at("y.ova"), at("src.raw"))).toMatchObject({ code: 0 });
    }
    writeFileSync(at("vm.ovf"), ovf(["second.vmdk"]));
    run("tar", "--format=gnu", "-cf", "z.ova", "vm.ovf", "second.vmdk");
    expect(await img("info", at("z.ova"))).toMatchObject({ code: 0 });
    expect(await img("convert", "-O", "qcow2", at("z.ova"), at("z.qcow2"))).toMatchObject({ code: 0 });
    run("qemu-img", "compare", "-F", "raw", "z.qcow2", "src.raw");
  },
);
