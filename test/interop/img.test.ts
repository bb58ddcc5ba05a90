import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { ours } from "../support/img.ts";
import { peerTest } from "../support/peers.ts";

const MiB = 2 ** 20;
const folder = fs.mkdtempSync(join(tmpdir(), "paravane-img-"));
const at = (name: string) => join(folder, name);
const qemuImg = (...args: string[]) => execFileSync("qemu-img", args, { encoding: "utf8" });
const img = async (...args: string[]) => {
  const ended = await ours(...args);
  expect({ args, code: ended.code, stderr: ended.stderr }).toEqual({ args, code: 0, stderr: "" });
  return ended.stdout;
};
const SIZE = 24 * MiB + 3 * 512;

beforeAll(() => {
  // Data, zeros that are stored, and holes; the end is no whole cluster.
  const fd = fs.openSync(at("source.raw"), "w");
  fs.ftruncateSync(fd, SIZE);
  for (const [position, length] of [
    [0, 100_000],
    [3 * MiB + 512, 5 * MiB],
    [12 * MiB, 4096],
    [SIZE - 700, 700],
  ]) {
    const bytes = Buffer.alloc(length, `${position} paravane `);
    if (length > MiB) bytes.fill(0, MiB, 2 * MiB + 77);
    fs.writeSync(fd, bytes, 0, length, position);
  }
  fs.closeSync(fd);
});
afterAll(() => fs.rmSync(folder, { recursive: true }));

const TARGETS: [format: string, options: string[]][] = [
  ["raw", []],
  ["vpc", ["-o", "subformat=dynamic,force_size=on"]],
  ["vpc", ["-o", "subformat=fixed,force_size=on"]],
  ["vhdx", []],
  ["vhdx", ["-o", "subformat=fixed"]],
  ["qcow2", []],
  ["qcow2", ["-o", "cluster_size=4k,compat=0.10"]],
  ["qcow2", ["-o", "extended_l2=on,cluster_size=128k"]],
];

describe.each(TARGETS)("%s %j", (format, options) => {
  peerTest("qemu-img", "qemu-utils", "convert: what we write is the same to QEMU", async () => {
    for (const extra of [[], ["-S", "0"], ["-S", "64k"]]) {
      await img("convert", "-f", "raw", "-O", format, ...options, ...extra, at("source.raw"), at("ours"));
      qemuImg("compare", "-f", "raw", "-F", format, at("source.raw"), at("ours"));
      if (format === "qcow2" || format === "vhdx") qemuImg("check", "-f", format, at("ours"));
    }
    const words = ["virtual-size", "format", "cluster-size", "format-specific", "actual-size", "dirty-flag"];
    const pick = (text: string) => words.map((word) => [word, JSON.parse(text)[word]]);
    const theirs = pick(qemuImg("info", "-f", format, "--output=json", at("ours")));
    const own = pick(await img("info", "-f", format, "--output=json", at("ours")));
    // A fixed VHD has no blocks, and a VHDX none of QEMU's format-specific facts.
    const fixed = options.join().includes("subformat=fixed");
    expect(own.filter(([word]) => !(fixed && word === "cluster-size"))).toEqual(
      theirs.filter(([word]) => !(fixed && word === "cluster-size")),
    );
  });

  peerTest("qemu-img", "qemu-utils", "convert: what QEMU writes is the same to us", async () => {
    qemuImg("convert", "-f", "raw", "-O", format, ...options, at("source.raw"), at("theirs"));
    await img("convert", "-f", format, "-O", "raw", at("theirs"), at("back.raw"));
    expect(fs.readFileSync(at("back.raw")).equals(fs.readFileSync(at("source.raw")))).toBe(true);
  });
});

peerTest(
  "qemu-img",
  "qemu-utils",
  "map: qcow2's runs, what is in them, their offsets and depths are QEMU's",
  async () => {
    qemuImg("create", "-f", "qcow2", at("base.qcow2"), "10M");
    execFileSync("qemu-io", [
      "-c",
      "write -P 1 0 1M",
      "-c",
      "write -z 2M 1M",
      "-c",
      "write -P 2 5M 100k",
      at("base.qcow2"),
    ]);
    qemuImg("create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", at("child.qcow2"));
    execFileSync("qemu-io", ["-c", "write -P 3 512k 64k", at("child.qcow2")]);
    for (const name of ["base.qcow2", "child.qcow2"]) {
      const ours = JSON.parse(await img("map", "--output=json", at(name)));
      // Newer qemu-img has the field "compressed" too.
      const theirs = JSON.parse(qemuImg("map", "--output=json", at(name)));
      expect(ours).toEqual(theirs.map((run: object) => ({ compressed: false, ...run })));
      expect(await img("map", at(name))).toBe(qemuImg("map", at(name)));
    }
    await img("convert", "-O", "raw", at("child.qcow2"), at("child.raw"));
    qemuImg("compare", "-f", "qcow2", "-F", "raw", at("child.qcow2"), at("child.raw"));
  },
);
