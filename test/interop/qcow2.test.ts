import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { constants, deflateRawSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect } from "vitest";
import type { Block } from "../../src/core/block.ts";
import type { Flow } from "../../src/core/flow.ts";
import { flush, readBytes, writeBytes, writeZeroes } from "../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../src/host/block/open.ts";
import { inflate } from "../../src/host/format/inflate.ts";
import { repairQcow2 } from "../../src/host/format/qcow2/check.ts";
import type { Qcow2Image } from "../../src/host/format/qcow2/image.ts";
import { openQcow2 } from "../../src/host/format/qcow2/open.ts";
import { applySnapshot, createSnapshot, deleteSnapshot, listSnapshots } from "../../src/host/format/qcow2/snapshot.ts";
import { unzstd } from "../../src/host/format/zstd.ts";
import { FileStore } from "../../src/host/store/file.ts";
import { peerTest } from "../support/peers.ts";
import { afterCut, RecordingStore } from "../support/power.ts";
import { check, now } from "../support/qcow2.ts";
import { whole } from "../support/qcow2-program.ts";
import { contentOf, randomFrom } from "../support/stores.ts";
import { tier } from "../support/tier.ts";

const MiB = 2 ** 20;
const SIZE = 9 * MiB + 512 * 7;
let folder = "";
const path = (name: string) => join(folder, name);
const qemuImg = (...args: string[]) => execFileSync("qemu-img", args, { encoding: "utf8" });
const qemuIo = (file: string, ...commands: string[]) =>
  execFileSync("qemu-io", ["-f", "qcow2", ...commands.flatMap((command) => ["-c", command]), file], {
    encoding: "utf8",
  });
const peer = (name: string, body: () => Promise<void>) => peerTest("qemu-img", "qemu-utils", name, body, 3_600_000);

beforeAll(() => {
  folder = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "paravane-qcow2-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Bytes of which some compress, some do not and some are zeros. */
function mixed(size: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(size);
  let state = seed;
  for (let at = 0; at < size; at += 4096) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    const kind = (state >>> 16) % 3;
    const end = Math.min(size, at + 4096);
    if (kind === 1) bytes.fill(state >>> 24, at, end);
    if (kind === 2)
      for (let i = at; i < end; i++) bytes[i] = (state = (Math.imul(state, 1103515245) + 12345) >>> 0) >>> 24;
  }
  return bytes;
}

const all = (block: Block) => readBytes(block, 0, block.size);
const same = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;
/** What QEMU reads of the image. */
function byQemu(name: string): Uint8Array {
  qemuImg("convert", "-f", "qcow2", "-O", "raw", path(name), path(`${name}.out`));
  return readFileSync(path(`${name}.out`));
}
const open = (name: string, options = {}) =>
  openDisk(new FileStore(path(name)), {
    openFile: (file, readOnly) => new FileStore(file, { readOnly }),
    ...options,
  });

/** Random writes and zeroing over `model`, some flushed. */
async function scribble(disk: Block, model: Uint8Array, seed: number): Promise<void> {
  let state = seed;
  const next = (n: number) => (state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff) % n;
  for (let i = 0; i < 60; i++) {
    const sectors = model.length / 512;
    const at = next(sectors) * 512;
    const length = Math.min(model.length - at, (1 + next(i % 7 === 0 ? 4000 : 60)) * 512);
    if (next(4) === 0) {
      model.fill(0, at, at + length);
      await writeZeroes(disk, at, length);
    } else {
      const bytes = mixed(length, i + seed);
      model.set(bytes, at);
      await writeBytes(disk, at, bytes);
    }
    if (next(10) === 0) await flush(disk);
  }
}

const SUBFORMATS: string[][] = [
  [],
  ["compat=0.10"],
  ["compat=0.10,cluster_size=512"],
  ["cluster_size=512"],
  ["cluster_size=512,refcount_bits=64"],
  ["cluster_size=4k,refcount_bits=1"],
  ["cluster_size=2M"],
  ["refcount_bits=2"],
  ["refcount_bits=4,lazy_refcounts=on"],
  ["refcount_bits=8"],
  ["refcount_bits=32"],
  ["extended_l2=on"],
  ["extended_l2=on,cluster_size=16k"],
  ["extended_l2=on,cluster_size=2M"],
  ["preallocation=metadata"],
  ["preallocation=falloc,extended_l2=on"],
  ["preallocation=full,cluster_size=4k"],
  ["preallocation=metadata,extended_l2=on"],
  ["preallocation=metadata,data_file=data.raw"],
  ["refcount_bits=64,lazy_refcounts=on,cluster_size=128k"],
  ["compression_type=zstd,extended_l2=on,lazy_refcounts=on"],
  ["data_file=data.raw"],
  ["data_file=data.raw,data_file_raw=on"],
  ["data_file=data.raw,extended_l2=on"],
];

describe("images that QEMU made", () => {
  for (const options of SUBFORMATS) {
    peer(`${options.join() || "plain"}: read, written, and accepted again`, async () => {
      const model = mixed(SIZE, 7);
      writeFileSync(path("in.raw"), model);
      qemuImg(
        "create",
        "-q",
        "-f",
        "qcow2",
        ...options.flatMap((o) => ["-o", o.replace("data.raw", path("data.raw"))]),
        path("a"),
        `${SIZE}`,
      );
      qemuImg("convert", "-n", "-f", "raw", "-O", "qcow2", path("in.raw"), path("a"));
      const file = { openFile: (name: string, readOnly: boolean) => new FileStore(name, { readOnly }) };
      let disk = await open("a", file);
      expect(disk.size).toBe(SIZE);
      expect(same(await all(disk), model)).toBe(true);
      await scribble(disk, model, 3);
      expect(same(await all(disk), model)).toBe(true);
      await disk.close();
      qemuImg("check", "-q", "-f", "qcow2", path("a"));
      expect(check(new FileStore(path("a")))).toMatchObject({ leaks: 0, corruptions: 0 });
      expect(same(byQemu("a"), model)).toBe(true);
      if (options.join().includes("data_file_raw")) {
        expect(same(readFileSync(path("data.raw")).subarray(0, SIZE), model)).toBe(true);
      }
      // And once more after QEMU has written in between.
      qemuIo(path("a"), "write -P 17 1M 3M", "write -z 2M 1M", "discard 5M 64k");
      model.fill(17, MiB, 4 * MiB).fill(0, 2 * MiB, 3 * MiB);
      disk = await open("a", file);
      model.set(await readBytes(disk, 5 * MiB, 65536), 5 * MiB);
      await scribble(disk, model, 4);
      await disk.close();
      qemuImg("check", "-q", "-f", "qcow2", path("a"));
      expect(same(byQemu("a"), model)).toBe(true);
      rmSync(path("a"));
    });
  }

  for (const options of [
    [],
    ["-o", "cluster_size=512"],
    ["-o", "cluster_size=2M"],
    ["-o", "compat=0.10"],
    ["-o", "extended_l2=on"],
    ["-o", "compression_type=zstd"],
    ["-o", "compression_type=zstd,cluster_size=4k"],
    ["-o", "compression_type=zstd,cluster_size=2M"],
  ]) {
    peer(`compressed ${options.join(" ")}: read and written over`, async () => {
      const model = mixed(SIZE, 11);
      writeFileSync(path("in.raw"), model);
      qemuImg("convert", "-c", ...options, "-f", "raw", "-O", "qcow2", path("in.raw"), path("c"));
      const disk = await open("c");
      expect(same(await all(disk), model)).toBe(true);
      await scribble(disk, model, 5);
      expect(same(await all(disk), model)).toBe(true);
      await disk.close();
      qemuImg("check", "-q", path("c"));
      expect(same(byQemu("c"), model)).toBe(true);
    });
  }

  peer("the describing fields agree with qemu-img info", async () => {
    for (const options of SUBFORMATS.slice(0, 14)) {
      qemuImg("create", "-q", "-f", "qcow2", ...options.flatMap((o) => ["-o", o]), path("i"), "1G");
      const info = JSON.parse(qemuImg("info", "--output=json", path("i")));
      const disk = await open("i");
      expect(disk.describe()).toMatchObject({
        format: info.format,
        size: info["virtual-size"],
        clusterSize: info["cluster-size"],
        dirty: info["dirty-flag"],
        formatSpecific: info["format-specific"],
      });
      await disk.close();
    }
  });

  peer("a chain: read through, copied from on write", async () => {
    const base = mixed(5 * MiB + 1024, 13);
    writeFileSync(path("base.raw"), base);
    qemuImg("create", "-q", "-f", "qcow2", "-F", "raw", "-b", path("base.raw"), path("o"), `${SIZE}`);
    const model = new Uint8Array(SIZE);
    model.set(base);
    const backing = await openDisk(new FileStore(path("base.raw"), { readOnly: true }), { format: "raw" });
    await expect(open("o")).rejects.toMatchObject({ code: "NOT_FOUND" });
    const disk = await open("o", { backing });
    expect(disk.describe()).toMatchObject({ backingFile: path("base.raw"), backingFormat: "raw" });
    expect(same(await all(disk), model)).toBe(true);
    await scribble(disk, model, 6);
    expect(same(await all(disk), model)).toBe(true);
    await disk.close();
    qemuImg("check", "-q", path("o"));
    expect(same(byQemu("o"), model)).toBe(true);
  });

  peer("a dirty image is repaired before it is written", async () => {
    qemuImg("create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", path("d"), "8M");
    // Killed: the refcounts were never written.
    try {
      qemuIo(path("d"), "write -P 9 0 1M", "flush", "sigraise 9");
    } catch {}
    expect(JSON.parse(qemuImg("info", "--output=json", path("d")))["dirty-flag"]).toBe(true);
    const warnings: string[] = [];
    const disk = await open("d", { onWarning: (text: string) => warnings.push(text) });
    expect(warnings).toEqual([expect.stringContaining("not closed")]);
    await writeBytes(disk, 4 * MiB, new Uint8Array(512).fill(1));
    await disk.close();
    qemuImg("check", "-q", path("d"));
    const bytes = byQemu("d");
    expect([bytes[MiB - 1], bytes[MiB], bytes[4 * MiB]]).toEqual([9, 0, 1]);
  });
});

describe("images that we make", () => {
  const made: Record<string, unknown>[] = [
    {},
    { compat: "0.10" },
    { clusterSize: 512 },
    { clusterSize: 512, refcountBits: 64 },
    { clusterSize: 2 * MiB },
    { refcountBits: 1 },
    { refcountBits: 2, lazyRefcounts: true },
    { refcountBits: 32 },
    { extendedL2: true },
    { extendedL2: true, clusterSize: 16384 },
    { compressionType: "zstd" },
    { refcountBits: 4 },
    { refcountBits: 8, clusterSize: 1024 },
    { refcountBits: 64, lazyRefcounts: true, extendedL2: true },
    { preallocation: "metadata", extendedL2: true },
    { preallocation: "full", clusterSize: 4096 },
    { dataFile: "m.data" },
    { dataFile: "m.data", dataFileRaw: true, extendedL2: true },
  ];
  for (const options of made) {
    peer(`${JSON.stringify(options)}: accepted, read and written by QEMU`, async () => {
      rmSync(path("m"), { force: true });
      rmSync(path("m.data"), { force: true });
      const model = new Uint8Array(SIZE);
      // QEMU takes such a name as it is, not from the image's folder.
      const named = options.dataFile ? { dataFile: path("m.data") } : {};
      if (options.dataFile) writeFileSync(path("m.data"), "");
      const disk = await createDisk(new FileStore(path("m"), { create: true }), {
        format: "qcow2",
        size: SIZE,
        openFile: (file, readOnly) => new FileStore(file, { readOnly }),
        ...options,
        ...named,
      });
      await disk.close();
      qemuImg("check", "-q", path("m"));
      const again = await open("m");
      await scribble(again, model, 8);
      await again.close();
      qemuImg("check", "-q", path("m"));
      expect(same(byQemu("m"), model)).toBe(true);
      qemuIo(path("m"), "write -P 5 3M 100k");
      model.fill(5, 3 * MiB, 3 * MiB + 102400);
      const last = await open("m");
      expect(same(await all(last), model)).toBe(true);
      await last.close();
    });
  }

  peer("over a parent, in both formats", async () => {
    for (const format of ["raw", "qcow2"]) {
      const base = mixed(SIZE, 21);
      writeFileSync(path("p.raw"), base);
      qemuImg("convert", "-f", "raw", "-O", format, path("p.raw"), path("p"));
      rmSync(path("m"), { force: true });
      const backing = await openDisk(new FileStore(path("p"), { readOnly: true }), { format });
      const store = new FileStore(path("m"), { create: true });
      const disk = await createDisk(store, {
        format: "qcow2",
        size: SIZE,
        backingFile: path("p"),
        backingFormat: format,
        backing,
      });
      await scribble(disk, base, 2);
      await disk.close();
      qemuImg("check", "-q", path("m"));
      expect(same(byQemu("m"), base)).toBe(true);
    }
  });

  peer("64 TiB, written at its end", async () => {
    rmSync(path("m"), { force: true });
    const size = 64 * 2 ** 40;
    const store = new FileStore(path("m"), { create: true });
    const disk = await createDisk(store, { format: "qcow2", size });
    await writeBytes(disk, size - 4096, new Uint8Array(4096).fill(3));
    await disk.close();
    qemuImg("check", "-q", path("m"));
    expect(qemuIo(path("m"), `read -P 3 ${size - 4096} 4096`)).not.toMatch(/fail/i);
  });
});

describe("internal snapshots", () => {
  const image = (name: string) => now(openQcow2(new FileStore(path(name)), {}));

  for (const options of ["compat=1.1", "compat=0.10", "cluster_size=4k,refcount_bits=4", "extended_l2=on"]) {
    peer(`${options}: ours and QEMU's, in turns`, async () => {
      const model = mixed(SIZE, 31);
      writeFileSync(path("in.raw"), model);
      qemuImg("convert", "-o", options, "-f", "raw", "-O", "qcow2", path("in.raw"), path("s"));
      const kept = new Map<string, Uint8Array>();
      const turn = async (seed: number) => {
        const disk = await open("s");
        await scribble(disk, model, seed);
        await disk.close();
        qemuImg("check", "-q", path("s"));
      };
      const ours = (work: (of: Qcow2Image) => Flow<unknown>) => {
        const of = image("s");
        now(work(of));
        of.volume.store.close();
        qemuImg("check", "-q", path("s"));
      };
      await turn(1);
      qemuImg("snapshot", "-c", "theirs", path("s"));
      kept.set("theirs", model.slice());
      await turn(2);
      ours((of) => createSnapshot(of, { name: "ours" }));
      kept.set("ours", model.slice());
      await turn(3);
      expect(listSnapshots(image("s")).map(({ name }) => name)).toEqual(["theirs", "ours"]);
      expect(qemuImg("snapshot", "-l", path("s"))).toMatch(/theirs(.|\n)*ours/);
      for (const [name, bytes] of kept) {
        const disk = await open("s", { snapshot: name });
        expect(same(await all(disk), bytes)).toBe(true);
        await disk.close();
        qemuImg("convert", "-l", `snapshot.name=${name}`, "-O", "raw", path("s"), path("s.out"));
        expect(same(readFileSync(path("s.out")), bytes)).toBe(true);
      }
      ours((of) => applySnapshot(of, "theirs"));
      model.set(kept.get("theirs")!);
      expect(same(byQemu("s"), model)).toBe(true);
      await turn(4);
      qemuImg("snapshot", "-a", "ours", path("s"));
      model.set(kept.get("ours")!);
      await turn(5);
      ours((of) => deleteSnapshot(of, "theirs"));
      await turn(6);
      qemuImg("snapshot", "-d", "ours", path("s"));
      await turn(7);
      expect(same(byQemu("s"), model)).toBe(true);
    });
  }
});

describe("after a power cut", () => {
  for (const options of [
    {},
    { clusterSize: 512, refcountBits: 64 },
    { compat: "0.10" },
    { extendedL2: true, clusterSize: 16384 },
    { lazyRefcounts: true },
  ]) {
    peer(`${JSON.stringify(options)}: QEMU's check finds at most leaks, and QEMU reads what was flushed`, async () => {
      const size = 2 * MiB;
      const store = new RecordingStore();
      const disk = await createDisk(store, { format: "qcow2", size, ...options });
      await flush(disk);
      const model = new Uint8Array(size);
      const start = store.steps.length;
      // The upper half is written and flushed first; then only the lower half changes, and what is behind the end.
      await writeBytes(disk, MiB, mixed(MiB, 3));
      model.set(mixed(MiB, 3), MiB);
      await flush(disk);
      const flushed = store.steps.length;
      await scribble(disk, model.subarray(0, MiB), 12);
      await whole(disk, (image) => image.snapshots!.create({ name: "kept" }));
      await scribble(disk, model.subarray(0, MiB), 13);
      await whole(disk, function* (image) {
        for (let at = 0; at < MiB; at += image.packing!.unit * 3) {
          const packed = deflateRawSync(model.subarray(at, at + image.packing!.unit), { windowBits: 12 });
          if (packed.length < image.packing!.unit) yield* image.writePacked!(at, new Uint8Array(packed));
        }
      });
      await whole(disk, (image) => image.snapshots!.delete("kept"));
      await disk.resize(5 * MiB + 512);
      await writeBytes(disk, 4 * MiB, mixed(MiB, 5));
      await disk.resize(size);
      const { steps } = store;
      const emptied = steps.length;
      writeFileSync(path("below.raw"), new Uint8Array(512));
      await whole(disk, (image) => image.setParent!({ path: path("below.raw"), format: "raw" }));
      await whole(disk, (image) => image.setParent!(undefined));
      await whole(disk, (image) => image.empty!());
      await disk.close();

      const random = randomFrom(9);
      const every = tier(Math.ceil((steps.length - start) / 16), 1);
      for (let count = start; count <= steps.length; count += every) {
        for (const shuffle of [undefined, random]) {
          writeFileSync(path("cut"), contentOf(afterCut(steps, count, shuffle)));
          const which = `${count} of ${steps.length}`;
          const dirty = (readFileSync(path("cut"))[79] & 1) === 1;
          try {
            // One that was not closed is to be repaired first, as QEMU does when it opens it for writing.
            qemuImg("check", "-q", ...(dirty ? ["-r", "all"] : []), path("cut"));
          } catch (failed) {
            // 3: leaks, and nothing else.
            expect((failed as { status: number }).status, which).toBe(3);
          }
          if (count < flushed || count >= emptied) continue;
          expect(same(byQemu("cut").subarray(MiB, size), model.subarray(MiB)), which).toBe(true);
        }
      }
    });
  }
});

describe("check", () => {
  peer("finds and frees what QEMU's check finds leaked", async () => {
    const model = mixed(SIZE, 41);
    writeFileSync(path("in.raw"), model);
    qemuImg("convert", "-f", "raw", "-O", "qcow2", path("in.raw"), path("k"));
    const store = new FileStore(path("k"));
    // Drop one L2 entry: its cluster is leaked.
    const bytes = readFileSync(path("k"));
    const l1 = Number(bytes.readBigUInt64BE(40));
    const l2 = Number(bytes.readBigUInt64BE(l1) & 0x00fffffffffffe00n);
    const slot = [0, 1, 2, 3].find((i) => bytes.readBigUInt64BE(l2 + i * 8) !== 0n)!;
    bytes.writeBigUInt64BE(0n, l2 + slot * 8);
    writeFileSync(path("k"), bytes);
    expect(check(store)).toMatchObject({ leaks: 1, corruptions: 0 });
    expect(() => qemuImg("check", path("k"))).toThrow(expect.objectContaining({ status: 3 }));
    expect(now(repairQcow2(store, "leaks"))).toMatchObject({ leaks: 0, corruptions: 0 });
    qemuImg("check", "-q", path("k"));
  });

  peer("counts clusters as QEMU does", async () => {
    writeFileSync(path("in.raw"), mixed(SIZE, 43));
    for (const compress of [[], ["-c"]]) {
      qemuImg("convert", ...compress, "-f", "raw", "-O", "qcow2", path("in.raw"), path("k"));
      const theirs = JSON.parse(qemuImg("check", "--output=json", path("k")));
      expect(check(new FileStore(path("k")))).toMatchObject({
        totalClusters: theirs["total-clusters"],
        allocatedClusters: theirs["allocated-clusters"],
        compressedClusters: theirs["compressed-clusters"] ?? 0,
        imageEndOffset: theirs["image-end-offset"],
      });
    }
  });
});

describe("unzstd", () => {
  peerTest("zstd", "zstd", "undoes every level, with and without checksum, with bytes after the end", () => {
    for (const level of ["--fast=5", "-1", "-3", "-9", "-19"]) {
      for (const [i, size] of [0, 1, 100, 5000, 65536, 400_000].entries()) {
        const bytes =
          i % 2
            ? mixed(size, size + level.length)
            : Buffer.from("the quick brown fox jumps ".repeat(size)).subarray(0, size);
        const options = [level, i % 3 ? "--no-check" : "--check", "-c", "-q"];
        const packed = Buffer.concat([execFileSync("zstd", options, { input: bytes }), Buffer.from("left over")]);
        expect(same(unzstd(packed, size), bytes)).toBe(true);
        expect(() => unzstd(packed, size + 1)).toThrow(RangeError);
        if (size > 0) expect(() => unzstd(packed.subarray(0, packed.length >> 1), size)).toThrow(RangeError);
      }
    }
  });
});

describe("inflate", () => {
  peer("undoes zlib at every level and strategy, with bytes after the end", async () => {
    for (const level of [0, 1, 6, 9]) {
      for (const strategy of [
        constants.Z_DEFAULT_STRATEGY,
        constants.Z_HUFFMAN_ONLY,
        constants.Z_RLE,
        constants.Z_FIXED,
      ]) {
        const bytes = mixed(100_000 + level * 777, level + strategy + 1);
        const packed = Buffer.concat([deflateRawSync(bytes, { level, strategy }), Buffer.from("left over")]);
        expect(same(inflate(packed, bytes.length), bytes)).toBe(true);
        expect(() => inflate(packed, bytes.length + 1)).toThrow(RangeError);
      }
    }
  });
});
