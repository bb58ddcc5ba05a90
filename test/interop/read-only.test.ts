import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { describe, expect } from "vitest";
import { readBytes, writeBytes } from "../../src/host/block/bytes.ts";
import { openDisk } from "../../src/host/block/open.ts";
import { MemoryStore } from "../../src/host/store/memory.ts";
import { openFile } from "../../src/node.ts";
import { done, ours, qemuImg, qemuIo, rawFile, scratch } from "../support/img.ts";
import { peerTest } from "../support/peers.ts";
import {
  bochsImage,
  bundle,
  cloopImage,
  type DmgPart,
  dmgImage,
  dmgParts,
  hdsImage,
  mixed,
  qcow1Image,
  qedImage,
} from "../support/read-only.ts";

const MiB = 2 ** 20;
const at = scratch();
let files = 0;
const path = (ending: string) => at(`${files++}.${ending}`);
const write = (ending: string, bytes: Uint8Array): string => {
  const file = path(ending);
  fs.writeFileSync(file, bytes);
  return file;
};
/** Both convert the image to the same raw file. */
async function agree(format: string, file: string, more: string[] = []): Promise<Buffer> {
  const [mine, theirs] = [path("raw"), path("raw")];
  await done("convert", ...more, file, mine);
  qemuImg("convert", "-f", format, "-O", "raw", file, theirs);
  const bytes = fs.readFileSync(theirs);
  expect(fs.readFileSync(mine).equals(bytes)).toBe(true);
  return bytes;
}

describe("QED and qcow1 that QEMU made", () => {
  const places: [number, number][] = [
    [0, 4096],
    [70_000, 300],
    [3 * MiB + 512, 200_000],
    [30 * MiB, MiB],
    [39 * MiB, 17 * 512],
  ];
  const size = 40 * MiB + 17 * 512;

  for (const [format, options] of [
    ["qed", ""],
    ["qed", "cluster_size=4096,table_size=2"],
    ["qed", "cluster_size=131072,table_size=16"],
    ["qcow", ""],
  ] as const) {
    peerTest("qemu-img", "qemu-utils", `${format} ${options}: written by turns, and zeroed`, async () => {
      const file = path(format);
      qemuImg("create", "-q", "-f", format, ...(options ? ["-o", options] : []), file, String(size));
      for (const [from, length] of places)
        qemuIo(format, file, `write -P ${(from % 251) + 1} ${from - (from % 512)} ${Math.ceil(length / 512) * 512}`);
      if (format === "qed") qemuIo(format, file, `write -z 0 ${MiB}`);
      await agree(format, file);
      expect(JSON.parse(await done("info", "--output=json", file))).toMatchObject({ format, "virtual-size": size });
      expect((await ours("check", file)).code).toBe(0);
      expect((await ours("compare", file, path0(file, size))).code).toBe(1);
    });

    peerTest("qemu-img", "qemu-utils", `${format} ${options}: over a parent, and that over another`, async () => {
      const base = rawFile(path("raw"), 8 * MiB, [[MiB, 65536]]);
      const [low, high] = [path(format), path(format)];
      const o = options ? ["-o", options] : [];
      qemuImg("create", "-q", "-f", format, ...o, "-b", base, "-F", "raw", low, String(10 * MiB));
      qemuIo(format, low, `write -P 7 ${MiB + 4096} 4096`, "write -P 9 9M 512");
      qemuImg("create", "-q", "-f", format, ...o, "-b", low, "-F", format, high);
      qemuIo(format, high, "write -P 8 5M 1024");
      // qcow1 does not note that its parent is raw, which is not guessed.
      if (format === "qcow") {
        const refused = await ours("info", "--backing-chain", high);
        expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining("does not say that it is raw")]);
        const overQcow = path("qcow");
        const grand = path("qcow");
        qemuImg("convert", "-f", "raw", "-O", "qcow", base, grand);
        qemuImg("create", "-q", "-f", "qcow", "-b", grand, "-F", "qcow", overQcow, String(10 * MiB));
        qemuIo("qcow", overQcow, `write -P 7 ${MiB + 4096} 4096`);
        await agree("qcow", overQcow);
      } else await agree(format, high);
    });
  }

  // qemu-img 7.2 convert -c -O qcow fails and says nothing, so single clusters are written.
  peerTest("qemu-io", "qemu-utils", "qcow with clusters that QEMU compressed", async () => {
    const file = path("qcow");
    qemuImg("create", "-q", "-f", "qcow", file, "4M");
    const text = write("txt", new TextEncoder().encode("paravane ".repeat(500)).subarray(0, 4096));
    for (const i of [0, 1, 3, 10, 600]) qemuIo("qcow", file, `write -c -s ${text} ${i * 4096} 4k`);
    qemuIo("qcow", file, "write -P 5 8k 512", "write -c -P 6 40k 4k");
    await agree("qcow", file);
    expect(JSON.parse(await done("check", "--output=json", file))["compressed-clusters"]).toBe(5);
  });

  peerTest("qemu-img", "qemu-utils", "qcow that is encrypted", async () => {
    const raw = write("raw", mixed(MiB));
    const [file, secret] = [path("qcow"), path("txt")];
    fs.writeFileSync(secret, "open sesame");
    const object = ["--object", `secret,id=s,file=${secret}`];
    qemuImg("convert", ...object, "-O", "qcow", "-o", "encrypt.format=aes,encrypt.key-secret=s", raw, file);
    const disk = await openFile(file, { readOnly: true, passphrase: () => new TextEncoder().encode("open sesame") });
    expect(Buffer.from(await readBytes(disk, 0, MiB)).equals(fs.readFileSync(raw))).toBe(true);
    await disk.close();
    await expect(openFile(file, { readOnly: true })).rejects.toMatchObject({ code: "DENIED" });
    const { stdout } = await ours("info", file);
    expect(stdout).toContain("encrypted: yes");
  });

  peerTest("qemu-img", "qemu-utils", "QED: damage that QEMU's check finds is found", async () => {
    const file = path("qed");
    qemuImg("create", "-q", "-f", "qed", "-o", "cluster_size=4096,table_size=2", file, "4M");
    qemuIo("qed", file, "write -P 1 0 64k");
    const bytes = fs.readFileSync(file);
    // The L2 table is behind the L1 table; its second entry becomes its first.
    const l2 = Number(bytes.readBigUInt64LE(Number(bytes.readBigUInt64LE(40))));
    bytes.writeBigUInt64LE(bytes.readBigUInt64LE(l2), l2 + 8);
    fs.writeFileSync(file, bytes);
    const theirs = JSON.parse(qemuImgCheck(file));
    const mine = JSON.parse((await ours("check", "--output=json", file)).stdout);
    expect([theirs.corruptions, theirs.leaks]).toEqual([1, 1]);
    expect([mine.corruptions, mine.leaks]).toEqual([1, 1]);
  });
});

function path0(_: string, size: number): string {
  return rawFile(path("raw"), size, []);
}
function qemuImgCheck(file: string): string {
  try {
    return qemuImg("check", "--output=json", file);
  } catch (thrown) {
    return (thrown as { stdout: string }).stdout;
  }
}

describe("what QEMU reads but does not make", () => {
  const content = mixed(3 * MiB);

  for (const [name, format, make] of [
    ["bochs, version 1", "bochs", () => bochsImage(content, { version: 1 })],
    ["bochs, version 2", "bochs", () => bochsImage(content)],
    ["bochs, large extents", "bochs", () => bochsImage(content, { extentBytes: 2 ** 20 })],
    ["qcow, compressed here and there", "qcow", () => qcow1Image(content)],
    ["qcow, small clusters", "qcow", () => qcow1Image(content, { clusterBits: 9, l2Bits: 6 })],
    ["qcow, large clusters", "qcow", () => qcow1Image(content, { clusterBits: 16, l2Bits: 13 })],
    ["QED, with clusters of zeros", "qed", () => qedImage(content)],
    ["cloop", "cloop", () => cloopImage(content)],
    ["cloop, large blocks", "cloop", () => cloopImage(content, 3 * 2 ** 19)],
    ["dmg", "dmg", () => dmgImage(dmgParts(content))],
    [
      "dmg, four tables and something before the data",
      "dmg",
      () => dmgImage(dmgParts(content), { tables: 4, lead: 777 }),
    ],
    ["dmg, in a resource fork", "dmg", () => dmgImage(dmgParts(content), { tables: 3, fork: true })],
  ] as const) {
    peerTest("qemu-img", "qemu-utils", name, async () => {
      const file = write(format, make());
      expect((await agree(format, file)).equals(Buffer.from(content))).toBe(true);
      const said = JSON.parse(qemuImg("info", "-f", format, "--output=json", file))["virtual-size"];
      expect(JSON.parse(await done("info", "--output=json", file))).toMatchObject({ format, "virtual-size": said });
      expect((await ours("check", file)).code).toBe(0);
    });
  }
});

describe("dmg that QEMU does not read here", () => {
  const content = mixed(2 * MiB, 5);
  // Long runs, which bzip2 counts, and all byte values.
  for (let i = 0; i < 5000; i++) content[100_000 + i] = 0x41;
  for (let i = 0; i < 4 * 256; i++) content[200_000 + i] = i >> 2;

  for (const level of [1, 9]) {
    peerTest("bzip2", "bzip2", `bzip2 -${level}`, async () => {
      const parts: DmgPart[] = [];
      for (let from = 0; from < content.length; from += MiB) {
        const bytes = content.subarray(from, from + MiB);
        const packed = execFileSync("bzip2", ["-c", `-${level}`], { input: bytes, maxBuffer: 2 ** 24 });
        parts.push({ method: 0x80000006, size: bytes.length, packed });
      }
      const image = dmgImage(parts);
      const disk = await openDisk(new MemoryStore(image), { readOnly: true });
      expect(Buffer.compare(await readBytes(disk, 0, content.length), content)).toBe(0);
      expect(disk.describe()).toMatchObject({ compression: ["bzip2"] });
    });
  }
});

describe("Parallels disks of its first versions", () => {
  for (const sectors of [63, 504]) {
    peerTest("qemu-img", "qemu-utils", `clusters of ${sectors} sectors`, async () => {
      const content = mixed(2 * MiB + 512 * 5);
      const file = write("hdd", hdsImage(content, undefined, sectors * 512, true));
      expect((await agree("parallels", file)).equals(Buffer.from(content))).toBe(true);
      expect((await ours("check", file)).code).toBe(0);
      const damaged = fs.readFileSync(file);
      damaged.writeUInt32LE(0x7fffffff, 64);
      const refused = await ours("check", write("hdd", damaged));
      expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining("where no block can be")]);
    });
  }

  peerTest("qemu-img", "qemu-utils", "of them a bundle, with a snapshot", async () => {
    const [now, then] = [mixed(2 * MiB), mixed(2 * MiB, 9)];
    const { descriptor, files } = bundle(now, then, { clusterBytes: 63 * 512 });
    const folder = path("hdd");
    fs.mkdirSync(folder);
    fs.writeFileSync(`${folder}/DiskDescriptor.xml`, descriptor);
    for (const [name, bytes] of Object.entries(files)) fs.writeFileSync(`${folder}/${name}`, bytes);
    const raw = path("raw");
    await done("convert", folder, raw);
    expect(fs.readFileSync(raw).equals(Buffer.from(now))).toBe(true);
  });
});

describe("Parallels bundles", () => {
  peerTest(
    "qemu-img",
    "qemu-utils",
    "a folder whose expanding disks QEMU made, plain parts, and a snapshot",
    async () => {
      const [now, then] = [mixed(2 * MiB), mixed(2 * MiB)];
      now.fill(0x5a, 300_000, 800_000);
      now.fill(0xa5, 1_800_000, 1_800_700);
      const { descriptor, files } = bundle(now, then);
      const folder = path("hdd");
      fs.mkdirSync(folder);
      fs.writeFileSync(at(`${folder.split("/").at(-1)}/DiskDescriptor.xml`), descriptor);
      for (const [name, bytes] of Object.entries(files)) {
        const file = `${folder}/${name}`;
        // What this suite builds is what QEMU takes for such a disk.
        if (name !== "1.0.hds") {
          const built = write("hds", bytes);
          qemuImg("check", "-q", "-f", "parallels", built);
          const raw = path("raw");
          qemuImg("convert", "-f", "parallels", "-O", "raw", built, raw);
          if (name === "0.0.hds") {
            expect(fs.readFileSync(raw).equals(Buffer.from(then.subarray(0, MiB)))).toBe(true);
            qemuImg("convert", "-f", "raw", "-O", "parallels", "-o", "cluster_size=64k", raw, file);
            continue;
          }
        }
        fs.writeFileSync(file, bytes);
      }
      const raw = path("raw");
      await done("convert", folder, raw);
      expect(fs.readFileSync(raw).equals(Buffer.from(now))).toBe(true);
      qemuImg("compare", "-f", "raw", "-F", "raw", raw, write("raw", now));
      const info = JSON.parse(await done("info", "--output=json", folder));
      expect(info).toMatchObject({ format: "parallels-bundle", "virtual-size": 2 * MiB });
      // Nothing is opened from outside the folder.
      fs.writeFileSync(`${folder}/DiskDescriptor.xml`, descriptor.replace("0.1.hds", "../outside.hds"));
      const denied = await ours("info", folder);
      expect([denied.code, denied.stderr]).toEqual([1, expect.stringContaining("is outside")]);
      fs.writeFileSync(`${folder}/DiskDescriptor.xml`, descriptor);
      expect((await ours("resize", folder, "+1M")).stderr).toContain("cannot be changed yet");
      const lone = await ours("info", `${folder}/0.1.hds`);
      expect([lone.code, lone.stderr]).toEqual([
        1,
        expect.stringContaining("only what was written since the snapshot"),
      ]);
      // Written: of each part QEMU reads the newest file, over what the one before holds.
      const disk = await openFile(folder);
      for (const [from, length] of [
        [12_288, 70_000 - (70_000 % 512)],
        [900 * 1024, 300 * 1024],
        [2 * MiB - 512, 512],
      ]) {
        await writeBytes(disk, from, new Uint8Array(length).fill(0x77));
        now.fill(0x77, from, from + length);
      }
      await disk.close();
      expect(await done("check", folder)).toContain("No errors");
      for (const part of [0, 1]) {
        const file = `${folder}/${part}.1.hds`;
        qemuImg("check", "-q", "-f", "parallels", file);
        const newest = path("raw");
        qemuImg("convert", "-f", "parallels", "-O", "raw", file, newest);
        const [top, whole] = [fs.readFileSync(newest), then.slice(part * MiB, (part + 1) * MiB)];
        for (const { start, length, data } of JSON.parse(qemuImg("map", "--output=json", "-f", "parallels", file))) {
          if (data) whole.set(top.subarray(start, start + length), start);
        }
        expect(Buffer.compare(whole, now.subarray(part * MiB, (part + 1) * MiB))).toBe(0);
      }
      fs.writeFileSync(raw, now);
      expect(await ours("compare", "-F", "raw", folder, raw)).toMatchObject({ code: 0 });
    },
  );
});
