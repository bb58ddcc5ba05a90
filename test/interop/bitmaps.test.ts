import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { closeSync, copyFileSync, existsSync, openSync, rmSync, writeSync } from "node:fs";
import { afterAll, describe, expect } from "vitest";
import { readBytes, writeBytes, writeZeroes } from "../../src/host/block/bytes.ts";
import { type Disk, openDisk } from "../../src/host/block/open.ts";
import { changeBitmaps } from "../../src/host/image/bitmap.ts";
import { FileStore } from "../../src/host/store/file.ts";
import { dirtyOf } from "../support/bitmap.ts";
import { done, ours, qemuImg, qemuIo, scratch, theirs } from "../support/img.ts";
import { peerTest } from "../support/peers.ts";
import { Random } from "../support/random.ts";
import { tier } from "../support/tier.ts";

const path = scratch();
const MiB = 2 ** 20;
const peer = (name: string, body: () => Promise<void>) => peerTest("qemu-img", "qemu-utils", name, body, 600_000);
const nbdPeer = (name: string, body: () => Promise<void>) => peerTest("nbdinfo", "libnbd-bin", name, body, 600_000);
const open = (file: string, options = {}): Promise<Disk> =>
  openDisk(new FileStore(file), { format: "qcow2", ...options });

const servers = new Set<ChildProcess>();
afterAll(() => {
  for (const server of servers) server.kill();
});

/** What qemu-nbd says of a bitmap: dirty bytes as [start, end) pairs. */
async function dirtyByQemu(file: string, name: string): Promise<[number, number][]> {
  const socket = path("nbd.sock");
  rmSync(socket, { force: true });
  const server = spawn("qemu-nbd", ["-r", "-f", "qcow2", "-k", socket, "-B", name, file], { stdio: "ignore" });
  servers.add(server);
  const ended = new Promise((resolve) => server.on("exit", resolve));
  try {
    for (let i = 0; i < 200 && !existsSync(socket); i++) await new Promise((resolve) => setTimeout(resolve, 20));
    const uri = `nbd+unix:///?socket=${socket}`;
    const json = execFileSync("nbdinfo", ["--json", `--map=qemu:dirty-bitmap:${name}`, uri], { encoding: "utf8" });
    const list: [number, number][] = [];
    for (const { offset, length, type } of JSON.parse(json) as { offset: number; length: number; type: number }[]) {
      if ((type & 1) === 0) continue;
      const last = list[list.length - 1];
      if (last && last[1] === offset) last[1] = offset + length;
      else list.push([offset, offset + length]);
    }
    return list;
  } finally {
    server.kill();
    await ended;
    servers.delete(server);
  }
}

describe("random writes by either side", () => {
  for (const options of ["cluster_size=64k", "cluster_size=512,refcount_bits=8", "extended_l2=on,lazy_refcounts=on"]) {
    nbdPeer(`${options}: bitmaps say the same to both`, async () => {
      const random = new Random(7);
      const file = path("both.qcow2");
      const size = 6 * MiB + 512 * 5;
      qemuImg("create", "-q", "-f", "qcow2", "-o", options, file, String(size));
      qemuImg("bitmap", "--add", "-g", "512", file, "theirs");
      await done("bitmap", "--add", "-g", "64k", file, "ours");
      for (let round = 0; round < tier(4, 40); round++) {
        const pieces = Array.from({ length: 1 + random.below(6) }, () => {
          const at = random.below(size / 512) * 512;
          const length = Math.min(size - at, (1 + random.below(random.oneIn(4) ? 4000 : 30)) * 512);
          return { at, length, kind: random.below(3) };
        });
        if (round % 2 === 0) {
          const words = ["write -P 7", "write -z", "discard"];
          qemuIo("qcow2", file, ...pieces.map(({ at, length, kind }) => `${words[kind]} ${at} ${length}`));
        } else {
          const disk = await open(file);
          for (const { at, length, kind } of pieces) {
            if (kind === 0) await writeBytes(disk, at, new Uint8Array(length).fill(9));
            else await writeZeroes(disk, at, length);
          }
          if (random.oneIn(3)) await changeBitmaps(disk, [{ do: "clear", name: "ours" }]);
          await disk.close();
        }
        const disk = await open(file, { readOnly: true });
        for (const name of ["theirs", "ours"]) {
          const wanted = await dirtyByQemu(file, name);
          expect([round, name, await dirtyOf(disk, name)]).toEqual([round, name, wanted]);
        }
        await disk.close();
        expect(theirs("check", file)).toMatchObject({ code: 0 });
      }
    });
  }
});

describe("paravane img bitmap", () => {
  peer("does what qemu-img bitmap does, and says so in its words", async () => {
    const steps: string[][] = [
      ["--add", "A", "b0"],
      ["--add", "-g", "4k", "A", "b1"],
      ["--add", "--disable", "A", "b2"],
      ["--add", "A", "b1"],
      ["--disable", "A", "b0"],
      ["--merge", "b1", "A", "b2"],
      ["--clear", "A", "b1"],
      ["--remove", "A", "none"],
      ["--remove", "A", "b1"],
      ["--enable", "A", "b2"],
      ["--add", "-g", "100", "A", "x"],
      ["--add", "A"],
      ["A", "b0"],
      ["-g", "4k", "--clear", "A", "b0"],
      ["-b", "A", "--clear", "A", "b0"],
      ["--merge", "none", "A", "b0"],
    ];
    qemuImg("create", "-q", "-f", "qcow2", path("a"), "10M");
    qemuIo("qcow2", path("a"), "write 1M 64k");
    copyFileSync(path("a"), path("b"));
    for (const step of steps) {
      const at = (name: string) => step.map((word) => (word === "A" ? path(name) : word));
      const [mine, other] = [await ours("bitmap", ...at("a")), theirs("bitmap", ...at("b"))];
      expect([step, mine.code === 0]).toEqual([step, other.code === 0]);
      const gist = /not found|already exists|power of 2|at least 512|Expecting|Need at least|only supported/;
      const said = gist.exec(other.stderr)?.[0];
      if (other.code !== 0) expect([step, mine.stderr]).toEqual([step, expect.stringContaining(said ?? "?")]);
      const facts = (name: string) => JSON.parse(qemuImg("info", "--output=json", path(name)))["format-specific"];
      expect([step, facts("a").data.bitmaps]).toEqual([step, facts("b").data.bitmaps]);
      const told = JSON.parse(await done("info", "--output", "json", path("a")))["format-specific"];
      expect([step, told.data.bitmaps]).toEqual([step, facts("a").data.bitmaps]);
    }
    expect(theirs("check", path("a"))).toMatchObject({ code: 0 });
    const lines = (text: string) => text.split("\n").filter((line) => !/disk size|^image/.test(line));
    expect(lines(await done("info", path("b")))).toEqual(lines(`${qemuImg("info", path("b")).trimEnd()}\n`));
    await done("bitmap", "--remove-all", path("a"));
    expect(JSON.parse(qemuImg("info", "--output=json", path("a")))["format-specific"].data.bitmaps).toBeUndefined();
  });

  peer("merges from another image, and copies with convert; measure knows their size", async () => {
    for (const name of ["one", "two"]) qemuImg("create", "-q", "-f", "qcow2", path(name), "10M");
    qemuImg("bitmap", "--add", path("one"), "b");
    qemuIo("qcow2", path("one"), "write 3M 1M");
    await done("bitmap", "--add", path("two"), "c");
    await done("bitmap", "--merge", "b", "-b", path("one"), "-F", "qcow2", path("two"), "c");
    const map = await done("map", "--bitmap", "c", "--output", "json", path("two"));
    expect(JSON.parse(map)).toEqual([
      { start: 0, length: 3 * MiB, dirty: false },
      { start: 3 * MiB, length: MiB, dirty: true },
      { start: 4 * MiB, length: 6 * MiB, dirty: false },
    ]);
    expect((await done("map", "--bitmap", "c", path("two"))).split("\n")[1]).toMatch(/^0x300000 +0x100000$/);
    await done("convert", "--bitmaps", "-O", "qcow2", path("one"), path("copy"));
    qemuImg("convert", "--bitmaps", "-O", "qcow2", path("one"), path("copy2"));
    const bitmaps = (name: string) =>
      JSON.parse(qemuImg("info", "--output=json", path(name)))["format-specific"].data.bitmaps;
    expect(bitmaps("copy")).toEqual(bitmaps("copy2"));
    const disk = await open(path("copy"), { readOnly: true });
    expect(await dirtyOf(disk, "b")).toEqual([[3 * MiB, 4 * MiB]]);
    await disk.close();
    for (const o of ["cluster_size=64k", "cluster_size=4k", "compat=0.10"]) {
      const args = ["measure", "-O", "qcow2", "-o", o, "--output", "json", path("one")];
      expect([o, JSON.parse(await done(...args)).bitmaps]).toEqual([o, JSON.parse(qemuImg(...args)).bitmaps]);
    }
    expect((await ours("convert", "--bitmaps", path("one"), path("raw"))).stderr).toMatch(/does not support bitmaps/);
  });

  peer("inconsistent bitmaps: to both sides the same", async () => {
    qemuImg("create", "-q", "-f", "qcow2", path("in"), "10M");
    await done("bitmap", "--add", path("in"), "b");
    // A writer of ours that never comes back.
    const disk = await open(path("in"));
    await writeBytes(disk, 0, new Uint8Array(65536).fill(3));
    copyFileSync(path("in"), path("lost"));
    await disk.close();
    expect(qemuImg("info", path("lost"))).toMatch(/in-use/);
    for (const run of [ours, theirs]) {
      for (const action of ["--clear", "--enable", "--disable"]) {
        const { code, stderr } = await run("bitmap", action, path("lost"), "b");
        expect([code, stderr]).toEqual([1, expect.stringMatching(/'b' is inconsistent and cannot be used/)]);
      }
      const copied = await run("convert", "--bitmaps", "-O", "qcow2", path("lost"), path("x"));
      expect([copied.code, copied.stderr]).toEqual([1, expect.stringMatching(/Cannot copy inconsistent bitmap 'b'/)]);
      const skipped = await run(
        "convert",
        "--bitmaps",
        "--skip-broken-bitmaps",
        "-O",
        "qcow2",
        path("lost"),
        path("x"),
      );
      expect([skipped.code, skipped.stderr]).toEqual([0, expect.stringMatching(/Skipping inconsistent bitmap 'b'/)]);
      expect((await run("resize", path("lost"), "20M")).code).toBe(1);
    }
    await done("bitmap", "--remove", path("lost"), "b");
    expect(theirs("check", path("lost"))).toMatchObject({ code: 0 });
  });
});

describe("paravane img backup", () => {
  peer("full, then incremental over it and onto it; QEMU reads the same of all of them", async () => {
    const random = new Random(5);
    const disk = path("disk.qcow2");
    qemuImg("create", "-q", "-f", "qcow2", disk, "16M");
    const write = (by: string) => {
      const commands = Array.from({ length: 6 }, () => {
        const at = random.below(250) * 65536;
        const length = 4096 * (1 + random.below(40));
        return `write ${random.oneIn(4) ? "-z" : `-P ${1 + random.below(200)}`} ${at} ${Math.min(length, 16 * MiB - at)}`;
      });
      expect([by, qemuIo("qcow2", disk, ...commands)]).toEqual([by, expect.anything()]);
    };
    const same = (backup: string) =>
      expect([backup, qemuImg("compare", disk, path(backup))]).toEqual([backup, "Images are identical.\n"]);
    write("first");
    await done("backup", "--bitmap", "daily", disk, path("sun.qcow2"));
    same("sun.qcow2");
    copyFileSync(path("sun.qcow2"), path("onto.qcow2"));
    let last = "sun.qcow2";
    for (const day of ["mon.qcow2", "tue.qcow2", "wed.qcow2"]) {
      write(day);
      await done("backup", "--bitmap", "daily", "--keep", "-n", disk, path("onto.qcow2"));
      same("onto.qcow2");
      await done("backup", "--bitmap", "daily", "-b", last, "-F", "qcow2", disk, path(day));
      same(day);
      const { "actual-size": bytes } = JSON.parse(qemuImg("info", "--output=json", path(day)));
      expect(bytes).toBeLessThan(4 * MiB);
      last = day;
    }
    expect(theirs("check", disk)).toMatchObject({ code: 0 });
    // What stands in the way.
    expect((await ours("backup", "--bitmap", "daily", disk, path("mon.qcow2"))).stderr).toMatch(/exists/);
    expect((await ours("backup", "--bitmap", "x", "-n", disk, path("onto.qcow2"))).stderr).toMatch(/full backup/);
    expect((await ours("backup", "--bitmap", "daily", "-b", "no", "-F", "qcow2", disk, path("y"))).code).toBe(1);
    expect(existsSync(path("y"))).toBe(false);
    write("and again");
    await expect(done("backup", "--bitmap", "daily", "-b", last, "-F", "qcow2", disk, path("y"))).resolves.toBeTruthy();
    same("y");
    const view = await open(disk, { readOnly: true });
    expect(await dirtyOf(view, "daily")).toEqual([]);
    expect((await readBytes(view, 0, 1)).length).toBe(1);
    await view.close();
  });

  peer("after a commit, compressed writes and a growth, all of them ours, the next one is right too", async () => {
    const disk = path("paths.qcow2");
    qemuImg("create", "-q", "-f", "qcow2", disk, "8M");
    qemuIo("qcow2", disk, "write -P 1 0 4M");
    await done("backup", "--bitmap", "b", disk, path("p0.qcow2"));
    const changes: [string, () => Promise<unknown>][] = [
      [
        "commit",
        async () => {
          qemuImg("create", "-q", "-f", "qcow2", "-b", disk, "-F", "qcow2", path("over.qcow2"));
          qemuIo("qcow2", path("over.qcow2"), "write -P 2 1M 100k", "write -z 0 64k");
          await done("commit", path("over.qcow2"));
        },
      ],
      [
        "compressed",
        async () => {
          qemuImg("convert", "-O", "raw", disk, path("whole.raw"));
          const fd = openSync(path("whole.raw"), "r+");
          writeSync(fd, Buffer.alloc(700, 3), 0, 700, 3_000_000);
          closeSync(fd);
          await done("convert", "-n", "-c", "-O", "qcow2", path("whole.raw"), disk);
        },
      ],
      [
        "grown",
        async () => {
          await done("resize", disk, "10M");
          qemuIo("qcow2", disk, "write -P 4 9M 64k");
        },
      ],
    ];
    for (const [i, [name, change]] of changes.entries()) {
      await change();
      await done("backup", "--bitmap", "b", "-b", path(`p${i}.qcow2`), "-F", "qcow2", disk, path(`p${i + 1}.qcow2`));
      const said = qemuImg("compare", disk, path(`p${i + 1}.qcow2`));
      expect([name, said]).toEqual([name, "Images are identical.\n"]);
    }
  });
});
