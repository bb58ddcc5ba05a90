import { readFileSync, statSync } from "node:fs";
import { expect, test } from "vitest";
import { fileHoles } from "../../src/host/store/file-holes.ts";
import { done, ours, qemuImg, qemuIo, rawFile, scratch, theirs } from "../support/img.ts";
import { peerTest } from "../support/peers.ts";

const path = scratch();
const MiB = 2 ** 20;
const peer = (name: string, body: () => Promise<void>) => peerTest("qemu-img", "qemu-utils", name, body);

for (const mode of ["off", "falloc", "full"]) {
  peer(`raw, preallocation=${mode}: the size and the space that qemu-img gives it`, async () => {
    const option = `preallocation=${mode}`;
    const printed = await done("create", "-f", "raw", "-o", option, path("ours"), "3M");
    expect(printed).toBe(qemuImg("create", "-f", "raw", "-o", option, path("theirs"), "3M").replace("theirs", "ours"));
    const [mine, other] = [statSync(path("ours")), statSync(path("theirs"))];
    expect(mine.size).toBe(other.size);
    // QEMU writes the first block of an empty file.
    expect(mine.blocks >= (3 * MiB) / 512).toBe(other.blocks >= (3 * MiB) / 512);
    expect(readFileSync(path("ours")).every((byte) => byte === 0)).toBe(true);
  });
}

test("falloc writes nothing where the host can reserve space", async () => {
  if (fileHoles() === null) return;
  // Zeros would take a while.
  await done("create", "-f", "raw", "-o", "preallocation=falloc", path("large"), "64M");
  const { size, blocks } = statSync(path("large"));
  expect([size, blocks * 512 >= 64 * MiB]).toEqual([64 * MiB, true]);
  await done("create", "-f", "qcow2", "-o", "preallocation=falloc", path("large.qcow2"), "64M");
  expect(statSync(path("large.qcow2")).blocks * 512).toBeGreaterThanOrEqual(64 * MiB);
});

peer("a raw image's size is said once, with -o size= or behind the file", async () => {
  await done("create", "-f", "raw", "-o", "size=5M", path("sized"));
  expect(statSync(path("sized")).size).toBe(5 * MiB);
  for (const run of [ours, theirs]) {
    const { code, stderr } = await run("create", "-f", "raw", "-o", "size=5M", path("twice"), "4M");
    expect([code, stderr]).toEqual([1, expect.stringContaining("The image size must be specified only once")]);
  }
  expect((await ours("create", "-f", "raw", "-o", "preallocation=metadata", path("bad"), "1M")).code).toBe(1);
});

for (const subformat of ["dynamic", "fixed"]) {
  peer(`vpc, ${subformat}: force_size is what it is to qemu-img`, async () => {
    const sizeOf = (name: string) =>
      JSON.parse(qemuImg("info", "-f", "vpc", "--output=json", path(name)))["virtual-size"];
    for (const force of ["on", "off"]) {
      const option = `subformat=${subformat},force_size=${force}`;
      await done("create", "-f", "vpc", "-o", option, path("a.vhd"), "5M");
      qemuImg("create", "-f", "vpc", "-o", option, path("b.vhd"), "5M");
      expect([force, sizeOf("a.vhd")]).toEqual([force, sizeOf("b.vhd")]);
      expect(sizeOf("a.vhd") > 5 * MiB).toBe(force === "off");
    }
  });
}

peer("rebase without -F: nothing is guessed, and nothing is copied before that is said", async () => {
  for (const name of ["old", "new"]) await done("create", "-f", "qcow2", path(`${name}.qcow2`), "1M");
  await done("create", "-f", "raw", path("new.raw"), "1M");
  await done("create", "-f", "qcow2", "-b", "old.qcow2", "-F", "qcow2", path("child.qcow2"));
  const before = readFileSync(path("child.qcow2"));
  for (const parent of ["new.qcow2", "new.raw"]) {
    for (const run of [ours, theirs]) {
      const { code, stderr } = await run("rebase", "-b", parent, path("child.qcow2"));
      expect([code, stderr]).toEqual([1, expect.stringMatching(/backing format/)]);
    }
  }
  expect((await ours("rebase", "-b", "new.raw", path("child.qcow2"))).stderr).toMatch(/say so with -F.*not guessed/);
  expect(Buffer.compare(readFileSync(path("child.qcow2")), before)).toBe(0);
  await done("rebase", "-b", "", path("child.qcow2"));
});

for (const format of ["vpc", "vhdx"]) {
  test(`rebase of a differencing ${format} needs no -F: its parent has its own format`, async () => {
    const ending = format === "vpc" ? "vhd" : format;
    const create = ["create", "-f", format];
    for (const name of ["one", "two"]) await done(...create, path(`${name}.${ending}`), "8M");
    await done(...create, "-b", `one.${ending}`, "-F", format, path(`child.${ending}`));
    await done("rebase", "-b", `two.${ending}`, path(`child.${ending}`));
    expect(await done("info", "--output", "json", path(`child.${ending}`))).toContain(`two.${ending}`);
  });
}

peer("resize --preallocation=metadata: every new cluster has a place, with nothing written there", async () => {
  for (const options of ["cluster_size=512", "cluster_size=64k", "extended_l2=on", `data_file=${path("grow.data")}`]) {
    await done("create", "-f", "qcow2", "-o", options, path("grow"), "2000k");
    const before = statSync(path("grow")).blocks;
    await done("resize", "--preallocation=metadata", path("grow"), "+12M");
    expect([options, theirs("check", path("grow")).code]).toEqual([options, 0]);
    const runs = JSON.parse(await done("map", "--output", "json", path("grow"))) as { start: number; data: boolean }[];
    // Also the rest of the cluster that the old end is in.
    const [hole, ...placed] = runs;
    expect([options, hole.start, hole.data, placed.every(({ data }) => data)]).toEqual([options, 0, false, true]);
    expect(placed[0].start).toBeLessThanOrEqual(2000 * 1024);
    expect(placed[0].start).toBeGreaterThan(2000 * 1024 - 65536);
    expect(qemuImg("compare", "-f", "qcow2", "-F", "raw", path("grow"), "/dev/null")).toMatch(/identical/);
    expect((statSync(path("grow")).blocks - before) * 512).toBeLessThan(4 * MiB);
  }
  // What the guest had in the cluster that the old end is in stays, stored there or seen in the parent.
  rawFile(path("grow.raw"), 128 * 1024, [[0, 128 * 1024]]);
  const parent = readFileSync(path("grow.raw"));
  for (const options of ["cluster_size=64k", "cluster_size=4k", "extended_l2=on"]) {
    for (const written of [0, 4096]) {
      await done("create", "-f", "qcow2", "-o", options, "-b", "grow.raw", "-F", "raw", path("over"), "31k");
      if (written > 0) qemuIo("qcow2", path("over"), `write -P 9 0 ${written}`);
      await done("resize", "--preallocation=metadata", path("over"), "96k");
      expect([options, theirs("check", path("over")).code]).toEqual([options, 0]);
      qemuImg("convert", "-O", "raw", path("over"), path("over.raw"));
      const expected = Buffer.concat([parent.subarray(0, 31 * 1024), Buffer.alloc(65 * 1024)]).fill(9, 0, written);
      expect([options, written, Buffer.compare(readFileSync(path("over.raw")), expected)]).toEqual([
        options,
        written,
        0,
      ]);
      const runs = JSON.parse(qemuImg("map", "--output=json", path("over"))) as {
        start: number;
        length: number;
        depth: number;
      }[];
      const own = runs.filter(({ start, length }) => start + length > 31 * 1024);
      expect(own.every(({ start, depth }) => depth === 0 || start < 31 * 1024)).toBe(true);
    }
  }
  await done("create", "-f", "vhdx", path("grow.vhdx"), "8M");
  const { code, stderr } = await ours("resize", "--preallocation=metadata", path("grow.vhdx"), "+8M");
  expect([code, stderr]).toEqual([1, expect.stringContaining("no metadata to preallocate")]);
});
