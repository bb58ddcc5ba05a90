// What changes a whole image, judged by QEMU.
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { deflateRawSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { readBytes, writeBytes } from "../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../src/host/block/open.ts";
import { qcow2 } from "../../src/host/format/qcow2/index.ts";
import { FileStore } from "../../src/host/store/file.ts";
import { MemoryStore } from "../../src/host/store/memory.ts";
import { KeptStore } from "../support/disks.ts";
import { packFills } from "../support/pack.ts";
import { peerTest } from "../support/peers.ts";
import { check } from "../support/qcow2.ts";
import { type Played, play, programs, runsOf, SECTOR, type State, whole } from "../support/qcow2-program.ts";
import { contentOf } from "../support/stores.ts";
import { tier } from "../support/tier.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;
const TiB = 2 ** 40;
let folder = "";
const path = (name: string) => join(folder, name);
const qemuImg = (...args: string[]) => execFileSync("qemu-img", args, { encoding: "utf8" });
const qemuIo = (file: string, commands: string[]) =>
  execFileSync("qemu-io", ["-f", "qcow2", ...commands.flatMap((command) => ["-c", command]), file], {
    encoding: "utf8",
    maxBuffer: 2 ** 26,
  });
const peer = (name: string, body: () => Promise<void>) => peerTest("qemu-img", "qemu-utils", name, body, 600_000);

beforeAll(() => {
  const memory = "/dev/shm";
  folder = mkdtempSync(join(existsSync(memory) ? memory : tmpdir(), "paravane-whole-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

// --- random programs -------------------------------------------------------------------------------------------------------

/** QEMU reads every run of the model; a pattern that does not match fails. */
function readByQemu(file: string, state: State): void {
  const { sectors } = state;
  const size = Number(JSON.parse(qemuImg("info", "--output=json", file))["virtual-size"]);
  expect(size).toBe(sectors * SECTOR);
  const commands = runsOf(state).map(({ sector, count, tag }) => `read -P ${tag} ${sector * SECTOR} ${count * SECTOR}`);
  // So many in one call that starting it costs nothing.
  for (let i = 0; i < commands.length; i += 2000) {
    const said = qemuIo(file, commands.slice(i, i + 2000));
    expect(said).not.toMatch(/fail|error/i);
    expect(said.match(/^read /gm)).toHaveLength(Math.min(2000, commands.length - i));
  }
}

function judge({ store, last, kept }: Played): void {
  const file = path("program");
  writeFileSync(file, contentOf(store));
  qemuImg("check", "-q", file);
  readByQemu(file, last);
  for (const snapshot of kept.slice(0, 2)) {
    qemuImg("snapshot", "-a", snapshot.id, file);
    readByQemu(file, snapshot);
  }
}

const CONFIGS: [string, Record<string, unknown>, number, number][] = [
  ["small clusters", { clusterSize: 512, refcountBits: 64 }, 1000, 12],
  ["version 2, 64 KiB clusters", { compat: "0.10" }, (6 * GiB) / SECTOR + 5, 12],
  ["more than 2 TiB, zstd", { compressionType: "zstd" }, (3 * TiB) / SECTOR + 3, 12],
  ["subclusters", { extendedL2: true, clusterSize: 16384 }, (5 * GiB) / SECTOR + 77, 12],
  ["4 KiB clusters, lazy 32-bit refcounts", { clusterSize: 4096, refcountBits: 32, lazyRefcounts: true }, 20011, 12],
];

describe("random programs: QEMU finds nothing wrong and reads the same", () => {
  for (const [name, options, sectors, count] of CONFIGS) {
    peer(name, async () => {
      await fc.assert(
        fc.asyncProperty(programs(sectors), async (steps) => judge(await play(steps, options, sectors))),
        { numRuns: tier(count, count * 30), seed: 14 },
      );
    });
    peer(`${name}, over a parent`, async () => {
      const parent = new Uint8Array(1500 * SECTOR);
      for (let i = 0; i < 1500; i++) parent.fill(i % 3 === 0 ? 0 : 251 + (i % 5), i * SECTOR, (i + 1) * SECTOR);
      writeFileSync(path("parent.raw"), parent);
      const backing = () => openDisk(new MemoryStore(parent), { format: "raw", readOnly: true });
      await fc.assert(
        fc.asyncProperty(programs(sectors), async (steps) => {
          const played = await play(steps, options, sectors, backing);
          const disk = await openDisk(played.store, { backing: await backing() });
          await whole(disk, (image) => image.setParent!({ path: path("parent.raw"), format: "raw" }));
          await disk.close();
          judge(played);
        }),
        { numRuns: tier(Math.ceil(count / 3), count * 10), seed: 15 },
      );
    });
  }
});

// --- one by one ------------------------------------------------------------------------------------------------------------

/** Sectors that each have one byte, some alike. */
function fills(size: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(size);
  let state = seed;
  for (let at = 0; at < size; at += SECTOR) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    if ((state >>> 16) % 3 > 0) bytes.fill(state >>> 24, at, at + SECTOR);
  }
  return bytes;
}
const same = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;
function byQemu(name: string): Uint8Array {
  qemuImg("convert", "-f", "qcow2", "-O", "raw", path(name), path(`${name}.out`));
  return readFileSync(path(`${name}.out`));
}
const fresh = (name: string) => {
  rmSync(path(name), { force: true });
  return new FileStore(path(name), { create: true });
};

describe("compressed clusters that we write", () => {
  const made: Record<string, unknown>[] = [
    {},
    { clusterSize: 512 },
    { clusterSize: 2 * MiB },
    { compat: "0.10" },
    { extendedL2: true },
    { refcountBits: 1 },
    { refcountBits: 4 },
    { compressionType: "zstd" },
    { compressionType: "zstd", clusterSize: 4096 },
  ];
  for (const options of made) {
    peer(`${JSON.stringify(options)}: accepted, as small as QEMU's`, async () => {
      const size = 5 * MiB + 512 * 7;
      const model = fills(size, 5);
      const disk = await createDisk(fresh("z"), { format: "qcow2", size, ...options });
      const unit = (options.clusterSize as number) ?? 65536;
      let packedClusters = 0;
      for (let at = 0; at < size; at += unit) {
        const bytes = new Uint8Array(unit);
        bytes.set(model.subarray(at, Math.min(size, at + unit)));
        if (bytes.every((byte) => byte === 0)) continue;
        let packs = false;
        await whole(disk, function* (image) {
          const packed = packFills(bytes, image.packing!);
          if (packed.length >= unit) return;
          packs = true;
          packedClusters++;
          yield* image.writePacked!(at, packed);
        });
        if (!packs) await writeBytes(disk, at, bytes.slice(0, Math.min(unit, size - at)));
      }
      expect(same(await readBytes(disk, 0, size), model)).toBe(true);
      await disk.close();
      const report = JSON.parse(qemuImg("check", "--output=json", path("z")));
      expect(report).toMatchObject({ "check-errors": 0, "compressed-clusters": packedClusters });
      expect(check(new FileStore(path("z")))).toMatchObject({ leaks: 0, corruptions: 0 });
      expect(same(byQemu("z"), model)).toBe(true);
      if (options.refcountBits || options.compressionType) return;
      writeFileSync(path("in.raw"), model);
      const theirs = [options.compat ? "compat=0.10" : "compat=1.1", `cluster_size=${unit}`];
      if (options.extendedL2) theirs.push("extended_l2=on");
      qemuImg("convert", "-c", "-o", theirs.join(), "-f", "raw", "-O", "qcow2", path("in.raw"), path("q"));
      expect(statSync(path("z")).size).toBeLessThan(statSync(path("q")).size * 1.1 + 4 * unit);
    });
  }

  peer("a window of 4 KiB is all that QEMU's reader has", async () => {
    const size = 65536;
    const model = new Uint8Array(size);
    for (let i = 0; i < size; i++) model[i] = (Math.imul(i % 5000, 2654435761) >>> 13) & 0x3f;
    const disk = await createDisk(fresh("w"), { format: "qcow2", size });
    await whole(disk, function* (image) {
      const { windowBits } = image.packing!;
      yield* image.writePacked!(0, new Uint8Array(deflateRawSync(model, { level: 9, windowBits })));
    });
    await disk.close();
    expect(same(byQemu("w"), model)).toBe(true);
  });
});

describe("preallocation", () => {
  for (const preallocation of ["metadata", "falloc", "full"]) {
    for (const options of [{}, { clusterSize: 512, refcountBits: 64 }, { extendedL2: true }, { compat: "0.10" }]) {
      peer(`${preallocation} ${JSON.stringify(options)}: every cluster has its place, also to QEMU`, async () => {
        const size = 3 * MiB + 512;
        const disk = await createDisk(fresh("p"), { format: "qcow2", size, preallocation, ...options });
        const model = new Uint8Array(size);
        expect(same(await readBytes(disk, 0, size), model)).toBe(true);
        const before = statSync(path("p")).size;
        model.fill(7, 1000 * SECTOR, 1100 * SECTOR);
        await writeBytes(disk, 1000 * SECTOR, model.slice(1000 * SECTOR, 1100 * SECTOR));
        await disk.close();
        expect(statSync(path("p")).size).toBe(before);
        const report = JSON.parse(qemuImg("check", "--output=json", path("p")));
        expect(report["allocated-clusters"]).toBe(report["total-clusters"]);
        expect(report["check-errors"]).toBe(0);
        expect(same(byQemu("p"), model)).toBe(true);
        if (preallocation !== "metadata") expect(statSync(path("p")).blocks * 512).toBeGreaterThanOrEqual(size);
      });
    }
  }

  peer("of a raw data file: it is the disk, to QEMU too, resized as well", async () => {
    for (const extendedL2 of [false, true]) {
      const size = 3 * MiB + 512;
      fresh("d.raw").close();
      const openFile = (name: string, readOnly: boolean) => new FileStore(name, { readOnly });
      const options = { dataFile: path("d.raw"), dataFileRaw: true, extendedL2, openFile };
      const disk = await createDisk(fresh("d"), { format: "qcow2", size, ...options });
      expect(statSync(path("d.raw")).size).toBe(size);
      let model = fills(size, 9);
      await writeBytes(disk, 0, model);
      await disk.resize(2 * MiB + 512);
      model = model.slice(0, 2 * MiB + 512);
      expect(statSync(path("d.raw")).size).toBe(model.length);
      await disk.resize(4 * MiB);
      const grown = new Uint8Array(4 * MiB);
      grown.set(model);
      await disk.close();
      qemuImg("check", "-q", path("d"));
      expect(same(byQemu("d"), grown)).toBe(true);
      expect(same(readFileSync(path("d.raw")), grown)).toBe(true);
      qemuIo(path("d"), ["write -P 3 1M 64k"]);
      const again = await openDisk(new FileStore(path("d")), { openFile });
      expect((await readBytes(again, MiB, 1))[0]).toBe(3);
      await again.close();
    }
  });
});

describe("the size", () => {
  for (const options of ["compat=1.1", "compat=0.10", "cluster_size=512", "extended_l2=on", "lazy_refcounts=on"]) {
    peer(`${options}: changed here and by QEMU in turns`, async () => {
      let model = fills(5 * MiB + 512, 3);
      writeFileSync(path("in.raw"), model);
      qemuImg("convert", "-o", options, "-f", "raw", "-O", "qcow2", path("in.raw"), path("r"));
      for (const [turn, size] of [2 * MiB + 1536, 9 * MiB, 700 * SECTOR, 70 * MiB, 4 * MiB + 512].entries()) {
        const next = new Uint8Array(size);
        next.set(model.subarray(0, size));
        if (turn % 2 === 0 || size < model.length) {
          const disk = await openDisk(new FileStore(path("r")));
          await disk.resize(size);
          expect(same(await readBytes(disk, 0, size), next)).toBe(true);
          await disk.close();
        } else qemuImg("resize", "-q", path("r"), `${size}`);
        qemuImg("check", "-q", path("r"));
        expect(same(byQemu("r"), next)).toBe(true);
        model = next;
      }
      expect(statSync(path("r")).size).toBeLessThan(8 * MiB);
    });
  }

  peer("what QEMU refuses is refused here", async () => {
    const disk = await createDisk(fresh("v2"), { format: "qcow2", size: MiB, compat: "0.10" });
    await whole(disk, (image) => image.snapshots!.create({ name: "one" }));
    await expect(disk.resize(2 * MiB)).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: expect.stringContaining("snapshots"),
    });
    await disk.close();
    expect(() => qemuImg("resize", path("v2"), "2M")).toThrow(/snapshots/);
  });
});

describe("the parent", () => {
  peer("named anew and removed, as QEMU then sees it", async () => {
    for (const clusterSize of [512, 1024, 4096, 65536]) {
      qemuImg("create", "-q", "-f", "qcow2", path("base"), "1M");
      qemuIo(path("base"), ["write -P 5 0 1M"]);
      const options = ["-b", path("base"), "-F", "qcow2", "-o", `cluster_size=${clusterSize}`];
      qemuImg("create", "-q", "-f", "qcow2", ...options, path("o"));
      const names = ["x", "a name that is longer than the one before it", "y".repeat(200), "../z"];
      for (const [i, name] of [...names, undefined, path("base")].entries()) {
        const format = i % 3 === 1 ? "raw" : i % 3 === 2 ? "vhd" : "qcow2";
        const disk = await openDisk(
          new FileStore(path("o")),
          i === 5 ? {} : { backing: await openDisk(new KeptStore(contentOf(new FileStore(path("base"))))) },
        );
        await whole(disk, (image) => image.setParent!(name === undefined ? undefined : { path: name, format }));
        await disk.close();
        const info = JSON.parse(qemuImg("info", "-U", "--output=json", path("o")));
        expect(info["backing-filename"]).toBe(name);
        expect(info["backing-filename-format"]).toBe(name && (format === "vhd" ? "vpc" : format));
        if (name === undefined) expect(same(byQemu("o"), new Uint8Array(MiB))).toBe(true);
      }
      qemuImg("rebase", "-u", "-b", path("base"), "-F", "qcow2", path("o"));
      expect(same(byQemu("o"), new Uint8Array(MiB).fill(5))).toBe(true);
      qemuImg("check", "-q", path("o"));
    }
  });

  peer("emptied: QEMU sees the parent, in a small file", async () => {
    for (const options of [{}, { extendedL2: true }, { compat: "0.10" }]) {
      const base = fills(3 * MiB, 4);
      writeFileSync(path("b.raw"), base);
      const backing = await openDisk(new FileStore(path("b.raw"), { readOnly: true }), { format: "raw" });
      const parent = { path: path("b.raw"), format: "raw" };
      const disk = await createDisk(fresh("e"), { format: "qcow2", size: 3 * MiB, parent, backing, ...options });
      await writeBytes(disk, 0, fills(2 * MiB, 8));
      await whole(disk, (image) => image.empty!());
      expect(same(await readBytes(disk, 0, base.length), base)).toBe(true);
      await writeBytes(disk, MiB, new Uint8Array(512).fill(1));
      await disk.close();
      base.fill(1, MiB, MiB + 512);
      qemuImg("check", "-q", path("e"));
      expect(same(byQemu("e"), base)).toBe(true);
      expect(statSync(path("e")).size).toBeLessThan(10 * 65536);
    }
  });
});

describe("lazy refcounts", () => {
  peer("a disk that was not closed is dirty, and QEMU repairs it; one that was is clean", async () => {
    const store = new KeptStore();
    const disk = await createDisk(store, { format: "qcow2", size: 4 * MiB, lazyRefcounts: true });
    const dirty = () => {
      writeFileSync(path("l"), contentOf(store));
      return JSON.parse(qemuImg("info", "-U", "--output=json", path("l")))["dirty-flag"];
    };
    expect(dirty()).toBe(false);
    const model = fills(2 * MiB, 6);
    await writeBytes(disk, 0, model);
    await whole(disk, (image) => image.sync());
    expect(dirty()).toBe(true);
    expect(check(store).corruptions).toBeGreaterThan(0);
    qemuImg("check", "-q", "-r", "all", path("l"));
    qemuImg("check", "-q", path("l"));
    expect(same(byQemu("l").subarray(0, 2 * MiB), model)).toBe(true);
    await disk.close();
    expect(dirty()).toBe(false);
    qemuImg("check", "-q", path("l"));
    expect(check(store)).toMatchObject({ leaks: 0, corruptions: 0 });
  });
});

peer("what a file will take is what QEMU says", async () => {
  const list: [Record<string, unknown>, string][] = [
    [{}, ""],
    [{ clusterSize: 512 }, "cluster_size=512"],
    [{ clusterSize: 2 * MiB }, "cluster_size=2M"],
    [{ refcountBits: 64, clusterSize: 4096 }, "refcount_bits=64,cluster_size=4k"],
    [{ refcountBits: 1 }, "refcount_bits=1"],
    [{ extendedL2: true }, "extended_l2=on"],
    [{ compat: "0.10" }, "compat=0.10"],
  ];
  for (const [options, theirs] of list) {
    for (const size of [0, 512, MiB + 512, 10 * GiB, ...(options.clusterSize === 512 ? [] : [TiB + 4096])]) {
      const more = theirs ? ["-o", theirs] : [];
      const said = JSON.parse(qemuImg("measure", "--output=json", "-O", "qcow2", ...more, "--size", `${size}`));
      const { unit, bytes } = qcow2.measure!({ size, ...options });
      expect([options, size, bytes(0)]).toEqual([options, size, said.required]);
      expect([options, size, bytes(Math.ceil(size / unit))]).toEqual([options, size, said["fully-allocated"]]);
    }
  }
});
