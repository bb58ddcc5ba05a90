import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
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

describe("paravane img amend, of what else the image has", () => {
  peer(
    "size before the version: an old image with a snapshot of that size, which could not be resized later",
    async () => {
      await done("create", "-f", "qcow2", path("z"), "2M");
      qemuIo("qcow2", path("z"), "write -P 7 64k 64k");
      await done("snapshot", "-c", "s", path("z"));
      await done("resize", path("z"), "4M");
      const refused = await ours("amend", "-o", "compat=0.10", path("z"));
      expect(refused).toMatchObject({ code: 1, stderr: expect.stringMatching(/snapshots prevent downgrade/) });
      const twice = await ours("amend", "-o", "compat=0.10,lazy_refcounts=on,size=2M", path("z"));
      expect([twice.code, data("z").compat]).toEqual([1, "1.1"]);
      await done("amend", "-o", "compat=0.10,size=2M", path("z"));
      expect(data("z").compat).toBe("0.10");
      expect(JSON.parse(qemuImg("info", "--output=json", path("z")))["virtual-size"]).toBe(2 * 2 ** 20);
      expect(theirs("check", path("z")).code).toBe(0);
      qemuIo("qcow2", path("z"), "read -P 7 64k 64k");
    },
  );

  test("the options of new images are called as on the command line", async () => {
    await done("create", "-f", "qcow2", path("n"), "1M");
    for (const name of ["cluster_size=4k", "preallocation=full", "extended_l2=on"]) {
      const { code, stderr } = await ours("amend", "-o", name, path("n"));
      expect([code, stderr]).toEqual([1, expect.stringContaining(`"${name.split("=")[0]}" is only for new images`)]);
    }
  });
});

describe("--image-opts and json: names", () => {
  peer("how much is cached changes nothing; info needs no secret at hand", async () => {
    await done("create", "-f", "qcow2", path("c"), "1M");
    const tuned = `driver=qcow2,l2-cache-size=64k,cache-clean-interval=9,detect-zeroes=on,file.filename=${path("c")}`;
    for (const run of [ours, theirs]) expect((await run("map", "--image-opts", tuned)).code).toBe(0);
    const named = `driver=qcow2,encrypt.key-secret=elsewhere,file.filename=${path("c")}`;
    expect(await done("info", "--image-opts", named)).toContain("file format: qcow2");
    expect((await ours("convert", "--image-opts", named, path("never"))).stderr).toContain(
      "No secret with id 'elsewhere'",
    );
  });

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

describe("convert", () => {
  peer("-c of sources whose sizes are no whole clusters, and -c -S 0", async () => {
    const parts = [
      rawFile(path("p1.raw"), 70_144, [[0, 70_000]]),
      rawFile(path("p2.raw"), 2 ** 20 + 512, [[512, 300_000]]),
    ];
    const whole = Buffer.concat(parts.map((part) => readFileSync(part)));
    writeFileSync(path("whole.raw"), whole);
    for (const zeros of [[], ["-S", "0"]]) {
      await done("convert", "-c", ...zeros, "-f", "raw", "-O", "qcow2", ...parts, path("p.qcow2"));
      expect(theirs("check", path("p.qcow2")).code).toBe(0);
      expect(theirs("compare", "-f", "raw", path("whole.raw"), path("p.qcow2")).code).toBe(0);
      const runs = JSON.parse(await done("map", "--output", "json", path("p.qcow2")));
      expect(runs.every((run: { compressed: boolean }) => run.compressed)).toBe(zeros.length > 0);
    }
    await done("convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", ...parts, path("p.vmdk"));
    expect(theirs("compare", "-f", "raw", path("whole.raw"), path("p.vmdk")).code).toBe(0);
  });

  peer(
    "-n -B: what the target's own parent has is left out; what the target has of its own does not stay",
    async () => {
      qemuImg("create", "-q", "-f", "qcow2", path("b"), "1M");
      qemuIo("qcow2", path("b"), "write -P 1 0 1M");
      qemuImg("create", "-q", "-f", "qcow2", "-b", path("b"), "-F", "qcow2", path("over"));
      qemuIo("qcow2", path("over"), "write -P 2 64k 64k");
      for (const own of [[], ["write -P 3 512k 64k"]]) {
        qemuImg("create", "-q", "-f", "qcow2", "-b", path("b"), "-F", "qcow2", path("to"));
        if (own.length > 0) qemuIo("qcow2", path("to"), ...own);
        await done("convert", "-n", "-O", "qcow2", "-B", path("b"), "-F", "qcow2", path("over"), path("to"));
        expect(theirs("compare", path("over"), path("to")).code).toBe(0);
        const stored = JSON.parse(qemuImg("map", "--output=json", path("to"))) as { depth: number }[];
        expect(stored.every(({ depth }) => depth === 0)).toBe(own.length > 0);
      }
      qemuImg("create", "-q", "-f", "qcow2", path("alone"), "1M");
      await done("convert", "-n", "-O", "qcow2", "-B", path("b"), "-F", "qcow2", path("over"), path("alone"));
      expect(theirs("compare", path("over"), path("alone")).code).toBe(0);
    },
  );
});

peer("check -r of an image that needs more references than it can count: exit code 2, and what to do", async () => {
  const store = path("full");
  await done("create", "-f", "qcow2", "-o", "refcount_bits=1", store, "1M");
  qemuIo("qcow2", store, "write 0 128k");
  const map = JSON.parse(qemuImg("map", "--output=json", store));
  // Both entries of the L2 table point to the first cluster.
  const bytes = readFileSync(store);
  const l2 = Number(bytes.readBigUInt64BE(Number(bytes.readBigUInt64BE(40))) & 0xfffffffffe00n);
  expect(Number(bytes.readBigUInt64BE(l2) & 0xfffffffffe00n)).toBe(map[0].offset);
  bytes.copy(bytes, l2 + 8, l2, l2 + 8);
  writeFileSync(store, bytes);
  for (const run of [ours, theirs]) expect((await run("check", "-r", "all", store)).code).toBe(2);
  expect((await ours("check", "-r", "all", store)).stderr).toMatch(/refcount_bits=64/);
  await done("amend", "-o", "refcount_bits=64", store);
  expect((await ours("check", "-r", "all", store)).code).toBe(0);
  expect(theirs("check", store).code).toBe(0);
});

test("a size past what can be counted is called too large", async () => {
  for (const size of ["8P", "7E", "1048576T"]) {
    expect((await ours("create", "-f", "qcow2", path("huge"), size)).stderr).toContain(`"${size}" is too large`);
  }
});

test("a format that is only read is refused before anything is said or made", async () => {
  rawFile(path("some.raw"), 4096, []);
  for (const args of [
    ["create", "-f", "qed", path("no.qed"), "1M"],
    ["create", "-f", "qed", "-o", "cluster_size=64k", path("no.qed"), "1M"],
    ["convert", "-f", "raw", "-O", "bochs", path("some.raw"), path("no.bochs")],
  ]) {
    const { code, stdout, stderr } = await ours(...args);
    expect([args, code, stdout, stderr]).toEqual([
      args,
      1,
      "",
      expect.stringMatching(/^(qed|bochs) images are only read/),
    ]);
  }
  expect((await ours("create", "-f", "none", path("no"), "1M")).stderr).toMatch(/^Unknown file format 'none'/);
});

peer("compare of an image that opens and cannot be read ends with 4, as QEMU's", async () => {
  rawFile(path("good.raw"), 65536, [[0, 65536]]);
  await done("convert", "-c", "-f", "raw", "-O", "qcow2", path("good.raw"), path("torn.qcow2"));
  const bytes = readFileSync(path("torn.qcow2"));
  const l2 = Number(bytes.readBigUInt64BE(Number(bytes.readBigUInt64BE(40))) & 0xfffffffffe00n);
  // The only cluster is compressed.
  const cluster = Number(bytes.readBigUInt64BE(l2) & 0xffffffffffn);
  writeFileSync(path("torn.qcow2"), bytes.fill(0xff, cluster, cluster + 64));
  for (const run of [ours, theirs]) {
    expect((await run("compare", "-f", "raw", "-F", "qcow2", path("good.raw"), path("torn.qcow2"))).code).toBe(4);
    expect((await run("compare", path("good.raw"), path("nothing.there"))).code).toBe(2);
  }
});
