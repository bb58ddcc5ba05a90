import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, describe, expect, test } from "vitest";
import { readBytes, writeBytes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { checkImage } from "../../../src/host/image/check.ts";
import { mapDisk } from "../../../src/host/image/map.ts";
import { createSnapshot, listSnapshots } from "../../../src/host/image/snapshot.ts";
import { KeptStore } from "../../support/disks.ts";
import { ours as img } from "../../support/img.ts";
import { bytesOf } from "../../support/luks.ts";
import { peerTest } from "../../support/peers.ts";
import { mixed, ovaImage, ovf, paxRecords, type TarMember, tarOf } from "../../support/read-only.ts";
import { contentOf, LateStore, randomFrom } from "../../support/stores.ts";
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
  const check = (options = {}) => checkImage(new KeptStore(ovaImage(two)), options);
  expect(await check()).toMatchObject({ corruptions: 0, totalClusters: 256 });
  expect(await check({ member: "b.vmdk" })).toMatchObject({ corruptions: 0, totalClusters: 128 });
  await expect(check({ member: "c.vmdk" })).rejects.toMatchObject({ code: "NOT_FOUND" });
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

test("every verb takes the member in the same way", async () => {
  writeFileSync(at("two.ova"), ovaImage(two));
  writeFileSync(at("second.raw"), SECOND);
  const opts = `driver=ova,member=b.vmdk,file.filename=${at("two.ova")}`;
  for (const verb of ["info", "check", "map", "measure", "bench"]) {
    const more = { measure: ["-O", "qcow2"], map: ["--output=json"], bench: ["-c", "10"] }[verb] ?? [];
    expect([verb, (await img(verb, "--image-opts", ...more, opts)).code]).toEqual([verb, 0]);
    const none = await img(verb, ...more, at("two.ova"));
    // What is checked is the whole archive.
    expect([verb, none.code]).toEqual([verb, verb === "check" ? 0 : 1]);
    if (verb !== "check") expect(none.stderr).toContain("2 disks: a.vmdk, b.vmdk");
  }
  expect((await img("check", "--image-opts", opts)).stdout).toContain("84/128 =");
  const json = `json:${JSON.stringify({ driver: "ova", member: "b.vmdk", "file.filename": at("two.ova") })}`;
  expect(await img("compare", json, at("second.raw"))).toMatchObject({ code: 0 });
  expect(await img("dd", "bs=64k", `if=${json}`, `of=${at("dd.raw")}`)).toMatchObject({ code: 0 });
  expect(Buffer.compare(readFileSync(at("dd.raw")), SECOND)).toBe(0);
});

describe("a disk that is no VMDK", () => {
  test.each(["qcow2", "vhd", "vhdx", "vdi", "vmdk", "parallels", "raw"])("%s", async (format) => {
    const store = new KeptStore();
    const made = await createDisk(store, { format, size: SIZE });
    await writeBytes(made, 0, FIRST);
    await made.close();
    const files = { "vm.ovf": ovf(["disk"]), disk: contentOf(store) };
    await holds(files, FIRST);
    const disk = await open(files);
    expect(disk.describe()).toMatchObject({ formatSpecific: { data: { member: "disk", "member-format": format } } });
    // It can be copied out of the archive from where the map says that it is.
    const archive = ovaImage(files);
    for await (const { start, length, position, store: name } of mapDisk(disk)) {
      if (position === undefined) continue;
      expect(name).toBe("memory");
      const there = archive.subarray(position, position + length);
      expect(Buffer.compare(there, FIRST.subarray(start, start + length))).toBe(0);
    }
    expect(await checkImage(new KeptStore(archive))).toMatchObject({ corruptions: 0, leaks: 0 });
  });

  test("an encrypted disk, a snapshot in it, and a bare container", async () => {
    const passphrase = bytesOf("open");
    const kinds = [
      { format: "qcow2", encryption: { iterations: 1000 } },
      { format: "luks", iterations: 1000 },
    ];
    for (const options of kinds) {
      const store = new KeptStore();
      const made = await createDisk(store, { size: SIZE, passphrase, ...options });
      await writeBytes(made, 0, FIRST);
      if (options.format === "qcow2") await createSnapshot(made, { name: "before" });
      await made.close();
      const files = { "vm.ovf": ovf(["disk"]), disk: contentOf(store) };
      await holds(files, FIRST, { passphrase });
      const disk = await open(files, { passphrase });
      expect(listSnapshots(disk).map(({ name }) => name)).toEqual(options.format === "qcow2" ? ["before"] : []);
      await expect(open(files)).rejects.toMatchObject({ code: "DENIED" });
    }
  });
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
    [
      "a disk that is not what its name says",
      { "vm.ovf": ovf(["a.vmdk"]), "a.vmdk": "x".repeat(999) },
      "CORRUPT",
      "the disk a.vmdk: it is named as a vmdk image, but nothing in it says so",
    ],
    [
      "a disk that is packed, which its descriptor does not say",
      { "vm.ovf": ovf(["a.img.gz"]), "a.img.gz": gzipSync(FIRST) },
      "UNSUPPORTED",
      "the disk a.img.gz: it is packed with gzip",
    ],
    [
      "an archive in an archive",
      { "vm.ovf": ovf(["a"]), a: ovaImage(two) },
      "UNSUPPORTED",
      "the disk a is an archive itself",
    ],
  ])("%s", async (_, files, code, said) => {
    await expect(open(files)).rejects.toMatchObject({ code, message: expect.stringContaining(said) });
  });

  test("what tar can say of a disk that is not simply its bytes", async () => {
    const disk = { name: "a.vmdk", body: streamImage(FIRST) };
    const of = (...members: TarMember[]) => openDisk(new KeptStore(tarOf(members)), { format: "ova", readOnly: true });
    const pax = (...records: string[]) => ({ type: "x", name: "pax", body: paxRecords(records) });
    const sparse = pax("GNU.sparse.major=1", "GNU.sparse.name=a.vmdk", "path=./GNUSparseFile.0/a.vmdk");
    const holes = { code: "UNSUPPORTED", message: expect.stringContaining("a.vmdk is stored with holes") };
    await expect(of(sparse, { ...disk, name: "GNUSparseFile.0/a.vmdk" })).rejects.toMatchObject(holes);
    await expect(of({ ...disk, type: "S" })).rejects.toMatchObject(holes);
    await expect(of({ ...disk, type: "S", extended: true })).rejects.toMatchObject(holes);
    // A file with holes that is not asked for is in nobody's way.
    const other = { ...disk, name: "nvram", type: "S" };
    await (await of(other, disk)).close();
    await expect(of(disk, disk)).rejects.toMatchObject({
      code: "CORRUPT",
      message: expect.stringContaining("already"),
    });
    await expect(of(pax("size=99999999999"), disk)).rejects.toMatchObject({
      message: expect.stringContaining("cut off"),
    });
    await expect(of(pax("size=1e9"), disk)).rejects.toMatchObject({ code: "CORRUPT" });
    await expect(
      of(disk, ...Array.from({ length: 1000 }, (_, i) => ({ name: `${i}`, body: "" }))),
    ).rejects.toMatchObject({
      message: "it has more than 1000 files",
    });
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
    // A disk with holes, as tar keeps it in two formats when asked to.
    writeFileSync(at("holes.img"), "");
    truncateSync(at("holes.img"), 1 << 20);
    writeFileSync(at("vm.ovf"), ovf(["holes.img"]));
    for (const format of ["pax", "gnu"]) {
      run("tar", "--sparse", `--format=${format}`, "-cf", "holes.ova", "vm.ovf", "holes.img");
      const refused = await img("info", at("holes.ova"));
      expect(refused).toMatchObject({ code: 1 });
      expect(refused.stderr).toContain("holes.img is stored with holes");
    }
    writeFileSync(at("vm.ovf"), ovf(["second.vmdk"]));
    run("tar", "--format=gnu", "-cf", "z.ova", "vm.ovf", "second.vmdk");
    expect(await img("info", at("z.ova"))).toMatchObject({ code: 0 });
    expect(await img("convert", "-O", "qcow2", at("z.ova"), at("z.qcow2"))).toMatchObject({ code: 0 });
    run("qemu-img", "compare", "-F", "raw", "z.qcow2", "src.raw");
  },
);
