import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect } from "vitest";
import { createOverlay, FileStore, openFile, writeBytes, writeZeroes } from "../../src/node.ts";
import { buildDist, paravane } from "../support/dist.ts";
import { peerTest } from "../support/peers.ts";

const MiB = 2 ** 20;
const folder = fs.mkdtempSync(join(tmpdir(), "paravane-chain-"));
const ours = (name: string) => join(folder, "ours", name);
const theirs = (name: string) => join(folder, "theirs", name);
const qemuImg = (...args: string[]) => execFileSync("qemu-img", args, { encoding: "utf8", stdio: "pipe" });
const qemuIo = (file: string, format: string, ...commands: string[]) =>
  execFileSync("qemu-io", ["-f", format, ...commands.flatMap((command) => ["-c", command]), file], { stdio: "pipe" });
const judged = (name: string, body: () => Promise<void>) => peerTest("qemu-img", "qemu-utils", name, body);

async function img(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await paravane(["img", ...args]);
  expect({ args, code, stderr }).toEqual({ args, code: 0, stderr: "" });
  return stdout;
}

beforeAll(buildDist);
beforeEach(() => {
  for (const name of ["ours", "theirs"]) {
    fs.rmSync(join(folder, name), { recursive: true, force: true });
    fs.mkdirSync(join(folder, name));
  }
});
afterAll(() => fs.rmSync(folder, { recursive: true }));

/** Base, middle and top, made by QEMU, each with data of its own; the same again for both programs. */
function chain(baseFormat: string, baseSize: string, topSize: string, options = "cluster_size=64k"): void {
  const force = baseFormat === "vpc" ? ["-o", "force_size=on"] : [];
  qemuImg("create", "-f", baseFormat, ...force, ours("base"), baseSize);
  qemuIo(ours("base"), baseFormat, "write -P 1 0 1M", "write -P 2 3M 700k", "write -P 9 5M 64k");
  qemuImg("create", "-f", "qcow2", "-b", "base", "-F", baseFormat, ours("middle"));
  qemuIo(ours("middle"), "qcow2", "write -P 3 512k 100k", "write -z 3M 128k", "write -P 4 4M 4k");
  qemuImg("create", "-f", "qcow2", "-o", options, "-b", "middle", "-F", "qcow2", ours("top"), topSize);
  qemuIo(ours("top"), "qcow2", "write -P 5 560k 1000k", "write -z 128k 128k", "write -P 6 5M 512", "discard 4M 64k");
  qemuImg("convert", "-O", "raw", ours("top"), join(folder, "content.raw"));
  for (const name of ["base", "middle", "top"]) fs.copyFileSync(ours(name), theirs(name));
}

/** The images are alike, and QEMU finds nothing wrong with ours. */
function alike(name: string, format: string): void {
  qemuImg("compare", "-f", format, "-F", format, ours(name), theirs(name));
  const info = (path: string) => {
    const facts = JSON.parse(qemuImg("info", "--output=json", "-f", format, path));
    return ["virtual-size", "backing-filename", "backing-filename-format", "format"].map((key) => facts[key]);
  };
  expect(info(ours(name))).toEqual(info(theirs(name)));
  if (format === "qcow2") {
    qemuImg("check", ours(name));
    // In a base QEMU also notes zeros where nothing is.
    if (name !== "base") expect(own(ours(name))).toEqual(own(theirs(name)));
  }
}
/** The runs that the image holds itself, as data or zeros. */
function own(path: string): { start: number; length: number; zero: boolean }[] {
  const runs: { start: number; length: number; zero: boolean }[] = [];
  for (const { depth, present, start, length, data } of JSON.parse(qemuImg("map", "--output=json", path))) {
    if (depth > 0 || !present) continue;
    // A cluster of data may lie in a hole of the file, which QEMU shows as zeros too.
    const zero = !data;
    const last = runs.at(-1);
    if (last && last.zero === zero && last.start + last.length === start) last.length += length;
    else runs.push({ start, length, zero });
  }
  return runs;
}
const unchanged = () => qemuImg("compare", "-F", "raw", ours("top"), join(folder, "content.raw"));

describe.each([
  ["raw", "8M", "8M", []],
  ["qcow2", "8M", "8M", []],
  ["vpc", "8M", "8M", []],
  ["vhdx", "8M", "8M", []],
  ["raw", "6M", "10M", []],
  ["qcow2", "6M", "10M", []],
  ["qcow2", "10M", "8M", []],
  ["qcow2", "8M", "8M", ["-d"]],
] as const)("%s of %s, the image of %s, %j", (format, baseSize, topSize, extra) => {
  judged("commit: both do the same to base and image", async () => {
    chain(format, baseSize, topSize);
    // One step at a time, from the top.
    for (const [name, below, belowFormat] of [
      ["top", "middle", "qcow2"],
      ["middle", "base", format],
    ]) {
      expect(await img("commit", ...extra, ours(name))).toBe("Image committed.\n");
      qemuImg("commit", ...extra, theirs(name));
      alike(name, "qcow2");
      alike(below, belowFormat);
    }
    unchanged();
  });
});

judged("commit -b: all of the chain goes into a base further down, and nothing is emptied", async () => {
  for (const format of ["raw", "qcow2", "vpc"]) {
    for (const name of ["base", "middle", "top"]) fs.rmSync(ours(name), { force: true });
    chain(format, "8M", "8M");
    await img("commit", "-b", ours("base"), ours("top"));
    qemuImg("commit", "-b", theirs("base"), theirs("top"));
    alike("base", format);
    const facts = (path: string) => fs.statSync(path).size;
    expect(facts(ours("top"))).toBe(facts(theirs("top")));
    unchanged();
    const { code, stderr } = await paravane(["img", "commit", "-b", ours("absent"), ours("top")]);
    expect([code, stderr]).toEqual([1, expect.stringContaining("absent")]);
  }
});

describe.each([
  ["raw", "8M"],
  ["qcow2", "8M"],
  ["vpc", "8M"],
  ["vhdx", "8M"],
  ["raw", "5M"],
  ["qcow2", "12M"],
])("rebase to %s of %s", (format, size) => {
  judged("both read the same as before, over the new parent", async () => {
    chain("qcow2", "8M", "8M");
    const force = format === "vpc" ? ["-o", "force_size=on"] : [];
    qemuImg("create", "-f", format, ...force, ours("other"), size);
    qemuIo(ours("other"), format, "write -P 1 0 1M", "write -P 7 2M 300k", "write -P 2 3M 700k");
    fs.copyFileSync(ours("other"), theirs("other"));
    await img("rebase", "-b", "other", "-F", format, ours("top"));
    qemuImg("rebase", "-b", "other", "-F", format, theirs("top"));
    unchanged();
    qemuImg("compare", ours("top"), theirs("top"));
    qemuImg("check", ours("top"));
    const info = JSON.parse(qemuImg("info", "--output=json", ours("top")));
    expect([info["backing-filename"], info["backing-filename-format"]]).toEqual(["other", format]);
    // Not more is copied into it than QEMU does, but for its last cluster.
    expect(fs.statSync(ours("top")).size).toBeLessThanOrEqual(fs.statSync(theirs("top")).size + 65536);
  });
});

judged("rebase: onto its parent's parent, onto none, and the name alone", async () => {
  chain("qcow2", "8M", "8M");
  await img("rebase", "-b", "base", "-F", "qcow2", ours("top"));
  qemuImg("rebase", "-b", "base", "-F", "qcow2", theirs("top"));
  unchanged();
  qemuImg("compare", ours("top"), theirs("top"));
  fs.rmSync(ours("middle"));
  unchanged();
  fs.renameSync(ours("base"), ours("moved"));
  await img("rebase", "-u", "-b", "moved", "-F", "qcow2", ours("top"));
  unchanged();
  expect(JSON.parse(qemuImg("info", "--output=json", ours("top")))["backing-filename"]).toBe("moved");
  await img("rebase", "-b", "", ours("top"));
  fs.rmSync(ours("moved"));
  unchanged();
  const info = JSON.parse(qemuImg("info", "--output=json", ours("top")));
  expect(info["backing-filename"]).toBeUndefined();
  qemuImg("check", ours("top"));
});

judged("rebase: what is refused, and leaves the image as it is", async () => {
  chain("raw", "8M", "8M");
  const before = fs.readFileSync(ours("top"));
  const refused = async (...args: string[]) => {
    const { code, stderr } = await paravane(["img", "rebase", ...args, ours("top")]);
    expect(fs.readFileSync(ours("top")).equals(before)).toBe(true);
    return `${code} ${stderr}`;
  };
  expect(await refused("-b", "base")).toMatch(/^1 .*without backing format.*-F/);
  expect(await refused("-b", "absent", "-F", "qcow2")).toMatch(/^1 .*absent.*No such file/);
  expect(await refused("-b", "top", "-F", "qcow2")).toMatch(/^1 /);
  expect(await refused()).toMatch(/^1 .*-b/);
  fs.renameSync(ours("middle"), ours("gone"));
  expect(await refused("-b", "base", "-F", "raw")).toMatch(/^1 .*middle.*rebase -u/);
});

judged("overlays that are made here over a file are QEMU's too, and grow over what it wrote", async () => {
  for (const format of ["raw", "qcow2", "vpc", "vhdx"]) {
    for (const name of ["base", "middle", "top"]) fs.rmSync(ours(name), { force: true });
    chain(format, "8M", "8M");
    const inOurs = format === "vpc" ? "vhd" : format;
    const base = await openFile(ours("base"), { readOnly: true, format: inOurs });
    const disk = await createOverlay(base, new FileStore(ours(`over-${format}`), { create: true }), {
      format: "qcow2",
      parent: { path: "base" },
    });
    await writeBytes(disk, 2 * MiB, new Uint8Array(70_144).fill(0xab));
    await writeZeroes(disk, 3 * MiB, 65536);
    await disk.close();
    qemuImg("check", ours(`over-${format}`));
    qemuIo(
      ours(`over-${format}`),
      "qcow2",
      "read -P 0xab 2M 70144",
      "read -P 0 3M 64k",
      "read -P 1 0 1M",
      "write -P 8 1M 64k",
    );
    await img("convert", "-O", "raw", ours(`over-${format}`), join(folder, "out.raw"));
    qemuImg("compare", "-f", "raw", "-F", "qcow2", join(folder, "out.raw"), ours(`over-${format}`));
  }
});

peerTest(
  "vhdiinfo",
  "libvhdi-utils",
  "differencing VHD and VHDX: commit and rebase, as libvhdi and QEMU see them",
  async () => {
    for (const [format, qemu] of [
      ["vhd", "vpc"],
      ["vhdx", "vhdx"],
    ]) {
      const base = ours(`base.${format}`);
      const other = ours(`other.${format}`);
      for (const path of [base, other]) await img("create", "-f", qemu, path, "8M");
      for (const [path, value] of [
        [base, 1],
        [other, 2],
      ] as const) {
        const disk = await openFile(path);
        await writeBytes(disk, 0, new Uint8Array(5 * MiB).fill(value));
        await disk.close();
      }
      const top = ours(`top.${format}`);
      const made = await createOverlay(await openFile(base, { readOnly: true }), new FileStore(top, { create: true }), {
        format,
        parent: { path: `base.${format}` },
      });
      await writeBytes(made, MiB, new Uint8Array(MiB).fill(3));
      await made.close();
      const content = join(folder, "content.raw");
      await img("convert", "-O", "raw", top, content);
      await img("rebase", "-b", `other.${format}`, "-F", qemu, top);
      expect(execFileSync("vhdiinfo", [top], { encoding: "utf8" })).toMatch(
        new RegExp(`Parent filename.*other\\.${format}`),
      );
      await img("compare", "-f", "raw", "-F", qemu, content, top);
      await img("commit", top);
      // QEMU reads no differencing ones; the parent holds it all.
      qemuImg("compare", "-f", "raw", "-F", qemu, content, other);
      await img("compare", "-f", "raw", "-F", qemu, content, top);
      if (format === "vhdx") qemuImg("check", other);
      const after = await openFile(top, { readOnly: true });
      const own = (await after.places(0, after.size)).filter(({ depth, kind }) => depth === 0 && kind !== "hole");
      expect(own).toEqual([]);
      await after.close();
    }
  },
);
