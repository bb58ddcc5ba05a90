import { copyFileSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { CheckReport } from "../../src/core/format.ts";
import { readBytes, writeBytes, writeZeroes } from "../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../src/host/block/open.ts";
import { checkQcow2 } from "../../src/host/format/qcow2/check.ts";
import { amendDisk } from "../../src/host/image/amend.ts";
import { createSnapshot } from "../../src/host/image/snapshot.ts";
import type { MemoryStore } from "../../src/host/store/memory.ts";
import { done, ours, qemuImg, qemuIo, rawFile, scratch, theirs } from "../support/img.ts";
import { peerTest } from "../support/peers.ts";
import { afterCut, RecordingStore } from "../support/power.ts";
import { now } from "../support/qcow2.ts";
import { randomFrom } from "../support/stores.ts";

const path = scratch();
const peer = (name: string, body: () => Promise<void>) => peerTest("qemu-img", "qemu-utils", name, body, 600_000);
const data = (name: string) =>
  JSON.parse(qemuImg("info", "--output=json", path(name)))["format-specific"].data as Record<string, unknown>;

describe("paravane img amend", () => {
  peer("changes version, refcount width and laziness; QEMU reads the same disk and finds it sound", async () => {
    const raw = rawFile(path("base.raw"), 4 * 2 ** 20, [[0, 3 * 2 ** 20]]);
    for (const parent of [[], ["-b", "base.raw", "-F", "raw"]]) {
      qemuImg("create", "-q", "-f", "qcow2", "-o", "compat=0.10,cluster_size=4k", ...parent, path("a"), "4M");
      qemuIo("qcow2", path("a"), "write -P 3 64k 128k");
      await done("amend", "-o", "compat=1.1", path("a"));
      expect(data("a")).toMatchObject({ compat: "1.1", "refcount-bits": 16, "lazy-refcounts": false });
      for (const bits of [1, 64, 8]) {
        await done("amend", "-o", `refcount_bits=${bits}`, path("a"));
        expect([bits, data("a")["refcount-bits"]]).toEqual([bits, bits]);
        expect([bits, theirs("check", path("a"))]).toEqual([bits, expect.objectContaining({ code: 0 })]);
      }
      await done("amend", "-o", "lazy_refcounts=on,refcount_bits=16", path("a"));
      expect(data("a")).toMatchObject({ "lazy-refcounts": true });
      // Zeros that version 2 cannot note, some with a place of their own.
      qemuIo("qcow2", path("a"), "write -z 1M 64k", "write -P 5 2M 64k", "write -z 2M 32k");
      qemuImg("convert", "-O", "raw", path("a"), path("before.raw"));
      await done("amend", "-o", "compat=0.10,lazy_refcounts=off", path("a"));
      expect(data("a")).toMatchObject({ compat: "0.10" });
      expect(theirs("check", path("a"))).toMatchObject({ code: 0 });
      expect(qemuImg("compare", path("a"), path("before.raw"))).toMatch(/identical/);
    }
    expect(readFileSync(raw).length).toBe(4 * 2 ** 20);
  });

  peer("refuses what cannot be, as QEMU does, and leaves the image alone", async () => {
    qemuImg("create", "-q", "-f", "qcow2", path("r"), "1M");
    qemuImg("bitmap", "--add", path("r"), "b");
    const before = data("r");
    for (const options of ["cluster_size=4k", "compat=0.10", "compat=0.42", "refcount_bits=7", "extended_l2=on"]) {
      copyFileSync(path("r"), path("theirs"));
      // QEMU 7.2 lets a version 2 image lose its bitmaps.
      if (options !== "compat=0.10") {
        expect([options, theirs("amend", "-o", options, path("theirs")).code]).toEqual([options, 1]);
      }
      expect([options, (await ours("amend", "-o", options, path("r"))).code]).toEqual([options, 1]);
      expect([options, data("r")]).toEqual([options, before]);
      expect([options, theirs("check", path("r"))]).toEqual([options, expect.objectContaining({ code: 0 })]);
    }
    for (const same of ["cluster_size=64k", "compat=1.1", "extended_l2=off"])
      await done("amend", "-o", same, path("r"));
    expect((await ours("amend", path("r"))).code).toBe(1);
    expect((await ours("amend", "-f", "raw", "-o", "size=1M", path("r"))).stderr).toMatch(/does not support option/);
    await done("amend", "-o", "size=2M", path("r"));
    expect(JSON.parse(qemuImg("info", "--output=json", path("r")))["virtual-size"]).toBe(2 ** 21);
  });

  test("a power cut leaves the old version or the new one", async () => {
    const store = new RecordingStore();
    const disk = await createDisk(store, { format: "qcow2", size: 2 ** 20, clusterSize: 4096, compat: "0.10" });
    await writeBytes(disk, 0, new Uint8Array(65536).fill(7));
    await createSnapshot(disk, { name: "one" });
    const from = store.steps.length;
    await amendDisk(disk, { compat: "1.1", refcountBits: 32, lazyRefcounts: true });
    await amendDisk(disk, { lazyRefcounts: false, refcountBits: 16 });
    await writeZeroes(disk, 8192, 8192);
    await amendDisk(disk, { compat: "0.10" });
    await disk.close();
    let cuts = 0;
    for (let count = from; count <= store.steps.length; count++) {
      for (const torn of [undefined, randomFrom(count)]) {
        const left: MemoryStore = afterCut(store.steps, count, torn);
        const report = now<CheckReport>(checkQcow2(left));
        expect([count, report.problems.filter(({ kind }) => kind !== "leak")]).toEqual([count, []]);
        const view = await openDisk(left, { readOnly: true });
        const bytes = await readBytes(view, 0, 65536);
        expect([count, bytes[0], bytes[65535], [0, 7].includes(bytes[8192])]).toEqual([count, 7, 7, true]);
        cuts++;
      }
    }
    expect(cuts).toBeGreaterThan(40);
  });
});

describe("--image-opts and json: names", () => {
  peer("are the same as a name and a format", async () => {
    rawFile(path("d.raw"), 2 ** 20, [[0, 4096]]);
    const raw = ["--image-opts", `driver=raw,file.driver=file,file.filename=${path("d.raw")}`];
    const json = `json:{"driver": "raw", "file": {"driver": "file", "filename": "${path("d.raw")}"}}`;
    expect(await done("info", "--output", "json", ...raw)).toBe(
      await done("info", "--output", "json", "-f", "raw", path("d.raw")),
    );
    expect(await done("info", "--output", "json", json)).toBe(
      await done("info", "--output", "json", "-f", "raw", path("d.raw")),
    );
    await done("convert", "--image-opts", "-O", "qcow2", raw[1], path("d.qcow2"));
    expect(qemuImg("compare", "-f", "raw", "-F", "qcow2", path("d.raw"), path("d.qcow2"))).toMatch(/identical/);
    const qcow2 = `driver=qcow2,file.filename=${path("d.qcow2")}`;
    expect(await done("compare", "--image-opts", raw[1], qcow2)).toMatch(/identical/);
    for (const verb of ["check", "map", "measure"]) {
      const more = verb === "measure" ? ["-O", "raw"] : [];
      const one = await done(verb, ...more, "--output", "json", "--image-opts", qcow2);
      expect([verb, one]).toEqual([
        verb,
        await done(verb, ...more, "--output", "json", "-f", "qcow2", path("d.qcow2")),
      ]);
    }
    await done("resize", "--image-opts", qcow2, "2M");
    await done("snapshot", "--image-opts", "-c", "s", qcow2);
    await done("bitmap", "--image-opts", "--add", qcow2, "b");
    expect(qemuImg("info", path("d.qcow2"))).toMatch(/2 MiB[\s\S]*TAG[\s\S]*name: b/);
    for (const [args, message] of [
      [["info", "--image-opts", "-f", "raw", raw[1]], /mutually exclusive/],
      [["info", "--image-opts", path("d.raw")], /Expected option=value/],
      [["info", "--image-opts", "driver=raw"], /names no file/],
      [["info", "--image-opts", `driver=raw,offset=4,file.filename=${path("d.raw")}`], /offset=4.*not supported/],
      [["info", "--image-opts", `driver=raw,file.driver=nbd,file.filename=x`], /nbd.*not supported/],
      [["info", "json:{broken"], /Could not parse the JSON/],
    ] as [string[], RegExp][]) {
      expect(await ours(...args)).toMatchObject({ code: 1, stderr: expect.stringMatching(message) });
    }
  });
});

test("convert -r holds the work back", async () => {
  rawFile(path("slow.raw"), 2 ** 20, [[0, 2 ** 20]]);
  const start = performance.now();
  await done("convert", "-r", "8M", "-O", "raw", path("slow.raw"), path("slow.out"));
  expect(readFileSync(path("slow.out")).equals(readFileSync(path("slow.raw")))).toBe(true);
  expect(performance.now()).toBeGreaterThan(start);
  expect((await ours("convert", "-r", "fast", "-O", "raw", path("slow.raw"), path("slow.out"))).code).toBe(1);
});
