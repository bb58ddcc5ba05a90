// The commands that look at images and change nothing, ours against qemu-img's on the same files.
import * as fs from "node:fs";
import { beforeAll, describe, expect } from "vitest";
import { done, ours, qemuImg, qemuIo, rawFile, scratch, theirs } from "../support/img.ts";
import { found, peerTest } from "../support/peers.ts";

const MiB = 2 ** 20;
const at = scratch();
const qemuTest = (name: string, body: () => void | Promise<void>) => peerTest("qemu-img", "qemu-utils", name, body);

/** Both end alike, and print the same on standard output. */
async function same(...args: string[]): Promise<string> {
  const { code, stdout } = theirs(...args);
  const own = await ours(...args);
  expect({ args, code: own.code, stdout: own.stdout }).toEqual({ args, code, stdout });
  return stdout;
}

beforeAll(() => {
  if (!found("qemu-img")) return;
  rawFile(at("a.raw"), 8 * MiB, [[0, 8 * MiB]]);
  qemuImg("create", "-q", "-f", "qcow2", at("base.qcow2"), "8M");
  qemuIo("qcow2", at("base.qcow2"), "write -P 1 0 1M", "write -z 2M 1M", "write -P 2 5M 100k");
  qemuImg("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", at("child.qcow2"), "10M");
  qemuIo("qcow2", at("child.qcow2"), "write -P 3 512k 64k", "write -P 4 9M 4k");
  qemuImg("create", "-q", "-f", "qcow2", "-o", "compat=0.10,cluster_size=4k", at("old.qcow2"), "4M");
  qemuIo("qcow2", at("old.qcow2"), "write -P 1 1M 300k");
  qemuImg(
    "create",
    "-q",
    "-f",
    "qcow2",
    "-o",
    "extended_l2=on,cluster_size=128k,lazy_refcounts=on",
    at("sub.qcow2"),
    "8M",
  );
  qemuIo("qcow2", at("sub.qcow2"), "write -P 1 1M 4k", "write -P 2 3M 1M");
  qemuImg("convert", "-c", "-O", "qcow2", at("child.qcow2"), at("packed.qcow2"));
  qemuImg("create", "-q", "-f", "qcow2", "-o", `data_file=${at("data.raw")},data_file_raw=on`, at("data.qcow2"), "2M");
  qemuImg("create", "-q", "-f", "qcow2", at("snap.qcow2"), "3M");
  qemuIo("qcow2", at("snap.qcow2"), "write -P 5 0 1M");
  qemuImg("snapshot", "-c", "first", at("snap.qcow2"));
  qemuIo("qcow2", at("snap.qcow2"), "write -P 6 0 128k");
  qemuImg("snapshot", "-c", "a name that is longer than its column", at("snap.qcow2"));
  for (const [format, options] of [
    ["vpc", "subformat=dynamic,force_size=on"],
    ["vhdx", "subformat=dynamic"],
    ["vdi", "static=off"],
  ]) {
    qemuImg("convert", "-O", format, "-o", options, at("base.qcow2"), at(`base.${format}`));
  }
  for (const [format, name, subformat] of OTHERS) {
    const options = subformat ? ["-o", `subformat=${subformat}`] : [];
    qemuImg("convert", "-O", format, ...options, at("base.qcow2"), at(name));
  }
});

const IMAGES = [
  ["qcow2", "base.qcow2"],
  ["qcow2", "child.qcow2"],
  ["qcow2", "old.qcow2"],
  ["qcow2", "sub.qcow2"],
  ["qcow2", "packed.qcow2"],
  ["qcow2", "data.qcow2"],
  ["qcow2", "snap.qcow2"],
  ["vpc", "base.vpc"],
  ["vhdx", "base.vhdx"],
  ["vdi", "base.vdi"],
  ["raw", "a.raw"],
] as const;

/** Formats of which less is known to qemu-img, and VMDK's subformats. */
const OTHERS = [
  ["parallels", "base.parallels"],
  ["qed", "base.qed"],
  ["qcow", "base.qcow"],
  ["vmdk", "base.vmdk"],
  ["vmdk", "stream.vmdk", "streamOptimized"],
  ["vmdk", "parts.vmdk", "twoGbMaxExtentSparse"],
  ["vmdk", "flat.vmdk", "monolithicFlat"],
] as const;

describe("info", () => {
  qemuTest("JSON: every field of qemu-img's has the same value, and there is one more", async () => {
    for (const [format, name] of IMAGES) {
      for (const extra of [["-f", format], [], ["--backing-chain", "-U"]]) {
        const args = ["info", "--output=json", ...(name === "a.raw" ? ["-f", "raw"] : extra), at(name)];
        const theirFacts = [JSON.parse(qemuImg(...args))].flat();
        // To the millisecond.
        for (const { snapshots = [] } of theirFacts) {
          for (const one of snapshots) one["date-nsec"] = Math.floor(one["date-nsec"] / 1e6) * 1e6;
        }
        const ourFacts = [JSON.parse(await done(...args))].flat().map(({ paravane, ...facts }) => facts);
        expect(ourFacts).toEqual(theirFacts);
      }
    }
  });

  qemuTest("JSON of other formats: every field of qemu-img's has the same value", async () => {
    for (const [format, name] of OTHERS) {
      const args = ["info", "--output=json", "-f", format, at(name)];
      expect(JSON.parse(await done(...args))).toMatchObject(JSON.parse(qemuImg(...args)));
    }
  });

  qemuTest("a VMDK's geometry and versions: what qemu-img does not tell", async () => {
    for (const name of ["base.vmdk", "stream.vmdk", "parts.vmdk", "flat.vmdk"]) {
      const { paravane } = JSON.parse(await done("info", "--output=json", at(name)));
      const geometry = { cylinders: 16, heads: 16, sectors: 63 };
      expect(paravane).toMatchObject({ geometry, adapterType: "ide", hwVersion: "4" });
    }
  });

  qemuTest("for people: qemu-img's lines", async () => {
    for (const name of ["base.qcow2", "child.qcow2", "sub.qcow2", "snap.qcow2", "old.qcow2"]) {
      await same("info", at(name));
    }
    const chain = (text: string) => text.replaceAll(/^disk size.*$/gm, "");
    const args = ["info", "--backing-chain", at("child.qcow2")];
    expect(chain(await done(...args))).toBe(chain(qemuImg(...args)));
  });

  qemuTest("what an image says of itself moves no cursor and breaks no line", async () => {
    fs.copyFileSync(at("child.qcow2"), at("bad\u001b.qcow2"));
    qemuImg("rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "x\u001b[2J\ny", at("bad\u001b.qcow2"));
    const text = await done("info", at("bad\u001b.qcow2"));
    expect(text).toContain("backing file: x\ufffd[2J\ufffdy");
    expect((text + (await ours("map", at("bad\u001b.qcow2"))).stderr).replaceAll("\n", "")).not.toMatch(/\p{Cc}/u);
  });

  qemuTest("a VHD's creator and geometry, a VHDX's log: what qemu-img does not tell", async () => {
    const facts = async (name: string) => JSON.parse(await done("info", "--output=json", at(name))).paravane;
    expect(await facts("base.vpc")).toMatchObject({
      ...{ creator: "qem2", creatorVersion: "5.3", creatorSystem: "Wi2k" },
      created: expect.stringMatching(/^20\d\d-/),
      geometry: { cylinders: expect.any(Number) },
    });
    expect(await facts("base.vhdx")).toMatchObject({ creator: expect.stringContaining("QEMU"), log: { size: MiB } });
  });
});

describe("check", () => {
  qemuTest("qcow2: JSON and text are the same, sound, leaked or corrupt; so are exit codes", async () => {
    for (const name of ["base.qcow2", "child.qcow2", "old.qcow2", "sub.qcow2", "packed.qcow2", "snap.qcow2"]) {
      const args = ["check", "--output=json", at(name)];
      expect(JSON.parse(await done(...args))).toEqual(JSON.parse(qemuImg(...args)));
      await same("check", at(name));
      await same("check", "-q", at(name));
    }
  });

  qemuTest("a leak: exit code 3, counted as qemu-img counts; -r leaks mends it, says so, and ends with 0", async () => {
    for (const repair of ["leaks", "all"]) {
      fs.copyFileSync(at("base.qcow2"), at("leak.qcow2"));
      // A cluster's refcount where nothing refers to it: the last of the refcount block, which is cluster 2.
      const fd = fs.openSync(at("leak.qcow2"), "r+");
      fs.ftruncateSync(fd, 64 * 65536);
      fs.writeSync(fd, Buffer.from([0, 1]), 0, 2, 2 * 65536 + 2 * 60);
      fs.closeSync(fd);
      fs.copyFileSync(at("leak.qcow2"), at("leak2.qcow2"));
      const json = ["check", "--output=json", at("leak.qcow2")];
      const their = theirs(...json);
      const own = await ours(...json);
      expect(their.code).toBe(3);
      expect({ code: own.code, facts: JSON.parse(own.stdout) }).toEqual({ code: 3, facts: JSON.parse(their.stdout) });
      expect(own.stderr).toMatch(/^Leaked: the refcount block at byte \d+ counts 1 /);
      const mended = theirs("check", "-r", repair, at("leak2.qcow2"));
      const ourMended = await ours("check", "-r", repair, at("leak.qcow2"));
      expect(ourMended.code).toBe(mended.code);
      const text = (stdout: string) => stdout.slice(stdout.indexOf("The following")).replace(/^Image end.*/m, "");
      expect(text(ourMended.stdout)).toBe(text(mended.stdout));
      expect(theirs("check", at("leak.qcow2")).code).toBe(0);
    }
  });

  qemuTest("a count that is too low: exit code 2; -r leaks leaves it; -r all mends it", async () => {
    fs.copyFileSync(at("base.qcow2"), at("bad.qcow2"));
    const fd = fs.openSync(at("bad.qcow2"), "r+");
    const entry = Buffer.alloc(2);
    fs.writeSync(fd, entry, 0, 2, 2 * 65536 + 2 * 6);
    fs.closeSync(fd);
    const their = theirs("check", "--output=json", at("bad.qcow2"));
    const own = await ours("check", "--output=json", at("bad.qcow2"));
    expect([their.code, own.code]).toEqual([2, 2]);
    expect(JSON.parse(own.stdout).corruptions).toBeGreaterThan(0);
    expect((await ours("check", "-r", "leaks", at("bad.qcow2"))).code).toBe(2);
    const mended = JSON.parse(await done("check", "-r", "all", "--output=json", at("bad.qcow2")));
    expect(mended).toMatchObject({ "check-errors": 0, "corruptions-fixed": expect.any(Number) });
    expect(theirs("check", at("bad.qcow2")).code).toBe(0);
  });

  qemuTest("raw has nothing to check: 63. What cannot be opened: 1. A VHDX is sound to both", async () => {
    await same("check", "-f", "raw", at("a.raw"));
    expect((await ours("check", "-f", "raw", at("a.raw"))).code).toBe(63);
    await same("check", at("nope"));
    await same("check", "-f", "qcow2", at("a.raw"));
    const facts = JSON.parse(await done("check", "--output=json", at("base.vhdx")));
    expect(facts).toMatchObject(JSON.parse(qemuImg("check", "--output=json", at("base.vhdx"))));
  });
});

describe("map", () => {
  /** Newer qemu-img has the field "compressed". It splits holes where a cluster has some of its subclusters. */
  const runs = (text: string) => {
    const list: { start: number; length: number; depth: number; present: boolean; offset?: number }[] = [];
    for (const { offset, ...run } of JSON.parse(text)) {
      const last = list.at(-1);
      if (last && !last.present && !run.present && last.depth === run.depth) last.length += run.length;
      else list.push({ compressed: expect.anything(), ...run, ...(run.present && offset !== undefined && { offset }) });
    }
    return list;
  };

  qemuTest("the same runs, from any start and of any length", async () => {
    for (const name of ["base.qcow2", "child.qcow2", "old.qcow2", "sub.qcow2", "packed.qcow2", "snap.qcow2"]) {
      for (const part of [[], ["-s", "512k", "-l", "1M"], ["--start-offset=1030k", "--max-length", "65536"]]) {
        const args = ["map", "--output=json", ...part, at(name)];
        expect(JSON.parse(await done(...args))).toEqual(runs(qemuImg(...args)));
        if (name !== "packed.qcow2") await same("map", ...part, at(name));
      }
    }
  });

  qemuTest("of other formats too", async () => {
    for (const [, name] of OTHERS) {
      // Holes of flat files are no data: newer qemu-img says so, too.
      if (name === "flat.vmdk") continue;
      for (const part of [[], ["-s", "512k", "-l", "2M"]]) {
        const args = ["map", "--output=json", ...part, at(name)];
        expect({ name, runs: JSON.parse(await done(...args)) }).toEqual({ name, runs: runs(qemuImg(...args)) });
      }
    }
  });

  qemuTest("for people it fails where something is compressed, as qemu-img does", async () => {
    expect(theirs("map", at("packed.qcow2")).code).toBe(1);
    expect(await ours("map", at("packed.qcow2"))).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/compressed/),
    });
  });
});

describe("compare", () => {
  qemuTest("messages and exit codes: same, other sizes, other content, other places, missing", async () => {
    qemuImg("create", "-q", "-f", "qcow2", at("empty.qcow2"), "8M");
    qemuImg("create", "-q", "-f", "qcow2", at("larger.qcow2"), "9M");
    qemuImg("convert", "-O", "raw", at("base.qcow2"), at("base.raw"));
    fs.copyFileSync(at("base.raw"), at("longer.raw"));
    fs.truncateSync(at("longer.raw"), 9 * MiB);
    fs.copyFileSync(at("longer.raw"), at("tail.raw"));
    const fd = fs.openSync(at("tail.raw"), "r+");
    fs.writeSync(fd, "x", 8 * MiB + 70_001);
    fs.closeSync(fd);
    fs.copyFileSync(at("base.raw"), at("other.raw"));
    const other = fs.openSync(at("other.raw"), "r+");
    fs.writeSync(other, "x", 3 * MiB + 4097);
    fs.closeSync(other);
    for (const args of [
      ["base.qcow2", "base.vhdx"],
      ["base.qcow2", "base.vpc"],
      ["-F", "raw", "base.qcow2", "base.raw"],
      ["-F", "raw", "base.qcow2", "longer.raw"],
      ["-F", "raw", "-s", "base.qcow2", "longer.raw"],
      ["-F", "raw", "base.qcow2", "tail.raw"],
      ["-F", "raw", "-q", "base.qcow2", "tail.raw"],
      ["-f", "raw", "other.raw", "base.vpc"],
      ["base.qcow2", "child.qcow2"],
      ["empty.qcow2", "larger.qcow2"],
      ["-s", "empty.qcow2", "larger.qcow2"],
      ["-s", "base.qcow2", "base.qcow2"],
      ["-U", "base.qcow2", "nope"],
      ["-f", "vpc", "base.qcow2", "base.vpc"],
    ]) {
      await same("compare", ...args.map((arg) => (/\./.test(arg) || arg === "nope" ? at(arg) : arg)));
    }
  });
});

describe("measure", () => {
  qemuTest("raw and qcow2: the same numbers, of a size and of an image", async () => {
    const options = [
      "raw",
      "qcow2",
      "qcow2 cluster_size=4k",
      "qcow2 cluster_size=2M,refcount_bits=64",
      "qcow2 compat=0.10",
      "qcow2 extended_l2=on,cluster_size=32k",
      "qcow2 refcount_bits=1,lazy_refcounts=on",
      "qcow2 preallocation=full",
    ].map((text) => text.split(" "));
    for (const [format, list] of options) {
      const made = ["-O", format, ...(list ? ["-o", list] : [])];
      for (const size of ["0", "1", "512k", "8M", "1G", "3000001k", "2T"]) {
        if (list?.includes("=4k") && size === "2T") continue;
        const args = ["measure", ...made, "--size", size, "--output=json"];
        expect([args, JSON.parse(await done(...args))]).toEqual([args, JSON.parse(qemuImg(...args))]);
      }
      for (const source of ["base.qcow2", "child.qcow2", "packed.qcow2", "base.vpc", "base.vhdx", "sub.qcow2"]) {
        await same("measure", ...made, at(source));
      }
    }
    await same("measure", "-f", "raw", "-O", "qcow2", at("a.raw"));
    await same("measure", "-l", "first", "-O", "qcow2", at("snap.qcow2"));
    for (const wrong of [[], ["--size", "1G", at("base.qcow2")]]) {
      expect((await ours("measure", ...wrong)).code).toBe(theirs("measure", ...wrong).code);
    }
  });

  qemuTest("VHD and VHDX, which qemu-img cannot measure: the size that such an image has then", async () => {
    for (const [format, options] of [
      ["vpc", "subformat=dynamic"],
      ["vpc", "subformat=fixed"],
      ["vhdx", "subformat=dynamic"],
      ["vhdx", "subformat=fixed"],
      ["vhdx", "block_size=1M"],
      ["vdi", "static=off"],
      ["vdi", "static=on"],
      ["qcow2", "cluster_size=64k"],
    ]) {
      for (const source of ["base.qcow2", "a.raw"]) {
        const from = source === "a.raw" ? ["-f", "raw", at(source)] : [at(source)];
        const args = ["-O", format, "-o", options];
        const measured = JSON.parse(await done("measure", ...args, "--output=json", ...from));
        await done("convert", "-S", "0", ...args, ...from, at("full.img"));
        expect([format, options, fs.statSync(at("full.img")).size]).toEqual([
          format,
          options,
          measured["fully-allocated"],
        ]);
        await done("convert", ...args, ...from, at("made.img"));
        expect(fs.statSync(at("made.img")).size).toBeLessThanOrEqual(measured.required);
      }
    }
  });
});
