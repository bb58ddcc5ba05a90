// The commands that make and change images, ours against qemu-img's: what they print, how they end, and what is in the files.
import * as fs from "node:fs";
import { deflateRawSync } from "node:zlib";
import { beforeAll, describe, expect } from "vitest";
import { done, ours, qemuImg, qemuIo, rawFile, scratch, theirs } from "../support/img.ts";
import { found, peerTest } from "../support/peers.ts";

const MiB = 2 ** 20;
const at = scratch();
const qemuTest = (name: string, body: () => void | Promise<void>) => peerTest("qemu-img", "qemu-utils", name, body);
const identical = (...args: string[]) => expect([args, theirs("compare", ...args).code]).toEqual([args, 0]);

beforeAll(() => {
  rawFile(at("a.raw"), 6 * MiB + 512, [
    [0, 300_000],
    [2 * MiB + 512, 2 * MiB],
    [6 * MiB, 512],
  ]);
  if (!found("qemu-img")) return;
  qemuImg("convert", "-f", "raw", "-O", "qcow2", at("a.raw"), at("a.qcow2"));
});

describe("create", () => {
  qemuTest("the line it prints, and what qemu-img then says of the image, are as for its own", async () => {
    for (const [format, options, size] of [
      ["raw", "", "10M"],
      ["raw", "preallocation=full", "1M"],
      ["raw", "size=3k", ""],
      ["qcow2", "", "10M"],
      ["qcow2", "cluster_size=4k,compat=0.10", "1.5G"],
      ["qcow2", "extended_l2=on,lazy_refcounts=on,refcount_bits=1,cluster_size=32k", "512"],
      ["qcow2", "compression_type=zstd", "10T"],
      ["qcow2", "preallocation=metadata", "3M"],
      ["qcow2", "data_file=data.raw,data_file_raw=on", "3M"],
      ["qcow2", "data_file=data.raw,preallocation=metadata", "3M"],
      ["qcow2", "data_file=data.raw", "3M"],
      ["vpc", "subformat=fixed,force_size=on", "3M"],
      ["vpc", "force_size=on", "3M"],
      ["parallels", "", "3M"],
      ["parallels", "cluster_size=64k", "3M"],
      ["vmdk", "adapter_type=lsilogic,hwversion=7,zeroed_grain=on", "3M"],
      ["vmdk", "subformat=monolithicSparse,compat6=on", "3T"],
      ["vdi", "", "3M"],
      ["vdi", "static=on", "3M"],
      ["vhdx", "", "3M"],
      ["vhdx", "block_size=1M,log_size=2M,subformat=fixed", "3M"],
    ]) {
      const option = options ? ["-o", options.replace("data.raw", at("data.raw"))] : [];
      const args = ["create", "-f", format, ...option, at("new.img"), ...(size ? [size] : [])];
      const words = (text: string) =>
        text
          .trim()
          .replace(/ force_size=on/, "")
          .split(" ")
          .sort();
      const theirLine = qemuImg(...args);
      const theirData = options.includes("data_file") ? fs.statSync(at("data.raw")).size : 0;
      const theirInfo = JSON.parse(qemuImg("info", "-f", format, "--output=json", at("new.img")));
      expect(words(await done(...args))).toEqual(words(theirLine));
      const ourInfo = JSON.parse(qemuImg("info", "-f", format, "--output=json", at("new.img")));
      for (const info of [theirInfo, ourInfo]) {
        // How much of it the file system stores; a default that is another in each; a fixed VHD has no blocks.
        delete info["actual-size"];
        // A random number.
        if (format === "vmdk") delete info["format-specific"].data.cid;
        if (format === "vhdx" && !options.includes("block_size")) delete info["cluster-size"];
      }
      expect([args, ourInfo]).toEqual([args, theirInfo]);
      if (theirData) expect([args, fs.statSync(at("data.raw")).size]).toEqual([args, theirData]);
      if (["qcow2", "vhdx", "vdi", "vmdk", "parallels"].includes(format)) qemuImg("check", "-f", format, at("new.img"));
      expect(await done(...args.slice(0, 1), "-q", ...args.slice(1))).toBe("");
    }
  });

  qemuTest("over a parent: its size, its name; missing ones and guesses are refused, unless -u", async () => {
    for (const name of [at("child.qcow2"), at("child2.qcow2")]) fs.rmSync(name, { force: true });
    const args = (file: string) => ["create", "-f", "qcow2", "-b", "a.qcow2", "-F", "qcow2", at(file)];
    const line = (await done(...args("child.qcow2"))).replace("child", "X");
    expect(line).toBe(qemuImg(...args("child2.qcow2")).replace("child2", "X"));
    identical(at("child.qcow2"), at("a.qcow2"));
    const info = (name: string) => {
      const { filename: _, "actual-size": __, ...facts } = JSON.parse(qemuImg("info", "--output=json", at(name)));
      return facts;
    };
    expect(info("child.qcow2")).toEqual(info("child2.qcow2"));
    for (const wrong of [
      ["-b", "a.qcow2"],
      ["-b", "nope.qcow2", "-F", "qcow2"],
      ["-b", "a.qcow2", "-F", "raw", "-f", "raw"],
      ["-u", "-b", "nope.qcow2", "-F", "qcow2"],
      ["-b", "x.qcow2", "-F", "qcow2"],
    ]) {
      const all = ["create", "-f", "qcow2", ...wrong, at("x.qcow2")];
      expect([wrong, (await ours(...all)).code]).toEqual([wrong, theirs(...all).code]);
      expect(fs.existsSync(at("x.qcow2"))).toBe(false);
    }
    await done("create", "-f", "qcow2", "-u", "-b", "nope.qcow2", "-F", "qcow2", at("x.qcow2"), "5M");
    expect(JSON.parse(qemuImg("info", "--output=json", at("x.qcow2")))).toMatchObject({
      "backing-filename": "nope.qcow2",
      "virtual-size": 5 * MiB,
    });
    await done("create", "-q", "-f", "vhdx", at("p.vhdx"), "4M");
    await done("create", "-q", "-f", "vhdx", "-b", "p.vhdx", "-F", "vhdx", at("c.vhdx"));
    expect(JSON.parse(await done("info", "--output=json", "--backing-chain", at("c.vhdx")))).toMatchObject([
      { "virtual-size": 4 * MiB, "full-backing-filename": at("p.vhdx"), "backing-filename-format": "vhdx" },
      { filename: at("p.vhdx") },
    ]);
  });
});

describe("convert", () => {
  qemuTest("compressed, by zlib: qemu-img reads it and finds it sound; plain clusters stay plain", async () => {
    const noise = fs.openSync(at("noise.raw"), "w");
    const bytes = Buffer.alloc(2 * MiB, "compressible ");
    let state = 1;
    for (let i = MiB; i < (3 * MiB) / 2; i++) bytes[i] = (state = (Math.imul(state, 1103515245) + 12345) >>> 0) >>> 24;
    fs.writeSync(noise, bytes, 0, bytes.length, 0);
    fs.ftruncateSync(noise, 3 * MiB + 512);
    fs.closeSync(noise);
    for (const [source, options] of [
      ["noise.raw", "cluster_size=64k"],
      ["noise.raw", "cluster_size=4k"],
      ["a.raw", "compat=0.10"],
      ["a.raw", "extended_l2=on"],
    ]) {
      await done("convert", "-c", "-p", "-f", "raw", "-O", "qcow2", "-o", options, at(source), at("packed.qcow2"));
      identical("-f", "raw", "-F", "qcow2", at(source), at("packed.qcow2"));
      const { "compressed-clusters": packed, "allocated-clusters": stored } = JSON.parse(
        qemuImg("check", "--output=json", at("packed.qcow2")),
      );
      expect(packed).toBeGreaterThan(0);
      expect(stored > packed).toBe(source === "noise.raw");
      identical("-f", "raw", "-F", "raw", at(source), at(source));
      await done("convert", "-O", "raw", at("packed.qcow2"), at("back.raw"));
      expect(fs.readFileSync(at("back.raw")).equals(fs.readFileSync(at(source)))).toBe(true);
    }
    expect((await ours("convert", "-c", "-f", "raw", "-O", "vhdx", at("a.raw"), at("x"))).code).toBe(1);
  });

  qemuTest("compressed, by zstd", async () => {
    await done("convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "compression_type=zstd", at("a.raw"), at("z.qcow2"));
    identical("-f", "raw", "-F", "qcow2", at("a.raw"), at("z.qcow2"));
    expect(JSON.parse(qemuImg("check", "--output=json", at("z.qcow2")))["compressed-clusters"]).toBeGreaterThan(0);
  });

  qemuTest("several sources, one after the other", async () => {
    for (const [format, packed] of [
      ["raw", []],
      ["qcow2", []],
      ["vhdx", []],
    ] as const) {
      await done("convert", ...packed, "-O", format, at("a.qcow2"), at("a.qcow2"), at("a.qcow2"), at("long"));
      qemuImg("convert", "-O", "raw", at("a.qcow2"), at("a.qcow2"), at("a.qcow2"), at("long.raw"));
      identical("-f", format, "-F", "raw", at("long"), at("long.raw"));
    }
  });

  qemuTest("a snapshot, by id, name or both; one that is not there", async () => {
    qemuImg("convert", "-O", "qcow2", at("a.qcow2"), at("s.qcow2"));
    qemuImg("snapshot", "-c", "one", at("s.qcow2"));
    qemuIo("qcow2", at("s.qcow2"), "write -P 7 1M 2M");
    qemuImg("snapshot", "-c", "two", at("s.qcow2"));
    qemuIo("qcow2", at("s.qcow2"), "write -P 8 0 4M");
    for (const wanted of ["one", "2", "snapshot.id=1", "snapshot.name=two", "snapshot.id=2,snapshot.name=two"]) {
      await done("convert", "-l", wanted, at("s.qcow2"), at("ours.raw"));
      qemuImg("convert", "-l", wanted, at("s.qcow2"), at("theirs.raw"));
      expect([wanted, fs.readFileSync(at("ours.raw")).equals(fs.readFileSync(at("theirs.raw")))]).toEqual([
        wanted,
        true,
      ]);
    }
    for (const wanted of ["three", "snapshot.id=9", "snapshot.id=1,snapshot.name=two"]) {
      const args = ["convert", "-l", wanted, at("s.qcow2"), at("none.raw")];
      expect([(await ours(...args)).code, theirs(...args).code]).toEqual([1, 1]);
      expect(fs.existsSync(at("none.raw"))).toBe(false);
    }
  });

  qemuTest("over a parent: only what the source has and it has not; the disk is the same", async () => {
    await done("create", "-q", "-f", "qcow2", "-b", "a.qcow2", "-F", "qcow2", at("mid.qcow2"));
    qemuIo("qcow2", at("mid.qcow2"), "write -P 5 1M 64k", "write -z 2M 128k");
    await done("create", "-q", "-f", "qcow2", "-b", "mid.qcow2", "-F", "qcow2", at("top.qcow2"), "7M");
    qemuIo("qcow2", at("top.qcow2"), "write -P 6 5M 64k", "write -P 9 6815744 64k");
    for (const more of [[], ["-c"]]) {
      // Two deep in the source's chain; and no part of it, so that all is copied.
      for (const [parent, largest] of [
        ["a.qcow2", 8],
        ["mid.qcow2", 4],
        ["s.qcow2", 120],
      ] as const) {
        await done("convert", ...more, "-O", "qcow2", "-B", parent, "-F", "qcow2", at("top.qcow2"), at("flat.qcow2"));
        identical(at("top.qcow2"), at("flat.qcow2"));
        const { "allocated-clusters": stored } = JSON.parse(qemuImg("check", "--output=json", at("flat.qcow2")));
        expect(stored).toBeLessThanOrEqual(largest);
      }
    }
    expect((await ours("convert", "-O", "qcow2", "-B", "a.qcow2", at("top.qcow2"), at("x"))).code).toBe(1);
  });

  qemuTest("into an image that exists: all of the old content goes, and it must be large enough", async () => {
    for (const format of ["raw", "qcow2", "vhdx", "vpc"]) {
      const force = format === "vpc" ? ["-o", "force_size=on"] : [];
      qemuImg("create", "-q", "-f", format, ...force, at("there"), "7M");
      qemuIo(format, at("there"), "write -P 3 0 7M");
      await done("convert", "-n", "-O", format, at("a.qcow2"), at("there"));
      const expected = Buffer.concat([fs.readFileSync(at("a.raw")), Buffer.alloc(MiB - 512, 3)]);
      qemuImg("convert", "-f", format, "-O", "raw", at("there"), at("there.raw"));
      expect(fs.readFileSync(at("there.raw")).equals(expected)).toBe(true);
      qemuImg("create", "-q", "-f", format, ...force, at("small"), "5M");
      expect(await ours("convert", "-n", "-O", format, at("a.qcow2"), at("small"))).toMatchObject({
        code: 1,
        stderr: "output file is smaller than input file\n",
      });
    }
  });

  qemuTest("wrong command lines end like qemu-img's, and leave nothing", async () => {
    for (const args of [
      ["-O", "fly", "a.qcow2", "x"],
      ["a.qcow2"],
      ["-c", "-O", "raw", "a.qcow2", "x"],
      ["-S", "1", "a.qcow2", "x"],
      ["-m", "20", "a.qcow2", "x"],
      ["-m", "0", "a.qcow2", "x"],
      ["--target-is-zero", "a.qcow2", "x"],
      ["-n", "-o", "size=3", "a.qcow2", "x"],
      ["-t", "fly", "a.qcow2", "x"],
      ["-T", "fly", "a.qcow2", "x"],
      ["-n", "a.qcow2", "x"],
      ["nope", "x"],
      ["-O", "qcow2", "a.qcow2", "a.qcow2"],
    ]) {
      const all = ["convert", ...args.map((arg) => (/^(x|nope|.*\.qcow2)$/.test(arg) ? at(arg) : arg))];
      expect([args, (await ours(...all)).code, fs.existsSync(at("x"))]).toEqual([args, 1, false]);
      expect([args, theirs(...all).code]).toEqual([args, 1]);
      fs.rmSync(at("x"), { force: true });
    }
    expect(theirs("check", at("a.qcow2")).code).toBe(0);
  });

  qemuTest(
    "what cannot be read is zeros with --salvage, said in a line each, and else ends the conversion",
    async () => {
      // A compressed cluster that does not unpack.
      await done("convert", "-c", "-f", "raw", "-O", "qcow2", at("a.raw"), at("hurt.qcow2"));
      const bytes = fs.readFileSync(at("hurt.qcow2"));
      const cluster = fs.readFileSync(at("a.raw")).subarray(0, 65536);
      const first = bytes.indexOf(deflateRawSync(cluster, { windowBits: 12, level: 6 }).subarray(0, 64));
      expect(first).toBeGreaterThan(0);
      bytes.fill(0xff, first, first + 8);
      fs.writeFileSync(at("hurt.qcow2"), bytes);
      const args = ["convert", "-O", "raw", at("hurt.qcow2"), at("saved.raw")];
      expect((await ours(...args)).code).toBe(1);
      expect(fs.existsSync(at("saved.raw"))).toBe(false);
      const saved = await ours("convert", "--salvage", ...args.slice(1));
      expect(saved.code).toBe(0);
      expect(saved.stderr).toMatch(/^warning: error while reading offset 0: .*\n/);
      const expected = fs.readFileSync(at("a.raw")).fill(0, 0, 65536);
      expect(fs.readFileSync(at("saved.raw")).equals(expected)).toBe(true);
    },
  );
});

describe("resize", () => {
  qemuTest("qcow2 and raw: messages, exit codes, sizes and bytes, step by step", async () => {
    for (const format of ["qcow2", "raw"]) {
      for (const who of ["ours", "theirs"]) qemuImg("convert", "-O", format, at("a.qcow2"), at(`${who}.img`));
      for (const args of [
        ["+1M"],
        ["7M"],
        ["5M"],
        ["--shrink", "5M"],
        ["--shrink", "--", "-1M"],
        ["-20M"],
        ["+-1M"],
        ["10x"],
        ["--preallocation=fly", "+1M"],
        ["--preallocation=full", "+1M"],
        ["--preallocation=full", "--shrink", "1M"],
        ["-q", "9M"],
      ]) {
        const all = (who: string) => {
          const size = args[args.length - 1];
          return ["resize", "-f", format, ...args.slice(0, -1), at(`${who}.img`), size];
        };
        const [own, their] = [await ours(...all("ours")), theirs(...all("theirs"))];
        expect([args, own.code, own.stdout]).toEqual([args, their.code, their.stdout]);
        expect(fs.statSync(at("ours.img")).size > 0).toBe(true);
        identical("-f", format, "-F", format, at("ours.img"), at("theirs.img"));
      }
      if (format === "qcow2") qemuImg("check", at("ours.img"));
    }
  });

  qemuTest("an image over a larger parent: what is new is zeros, not the parent's bytes", async () => {
    qemuImg("create", "-q", "-f", "qcow2", at("big.qcow2"), "2M");
    qemuIo("qcow2", at("big.qcow2"), "write -P 7 0 2M");
    for (const [format, parent] of [
      ["qcow2", "big.qcow2"],
      ["vhdx", "big.vhdx"],
    ]) {
      if (format !== "qcow2") await done("convert", "-O", format, at("big.qcow2"), at(parent));
      await done("create", "-q", "-f", format, "-b", parent, "-F", format, at("over.img"), "1000k");
      await done("resize", "-f", format, at("over.img"), "2M");
      await done("convert", "-f", format, "-O", "raw", at("over.img"), at("over.raw"));
      const expected = Buffer.alloc(2 * MiB).fill(7, 0, 1000 * 1024);
      expect([format, fs.readFileSync(at("over.raw")).equals(expected)]).toEqual([format, true]);
      if (format === "qcow2") identical("-F", "raw", at("over.img"), at("over.raw"));
    }
  });

  qemuTest("VHD and VHDX, which qemu-img cannot resize: it reads them as they were, and zeros", async () => {
    for (const [format, options] of [
      ["vpc", "subformat=dynamic"],
      ["vpc", "subformat=fixed"],
      ["vhdx", "subformat=dynamic"],
      ["vhdx", "subformat=fixed"],
    ]) {
      await done("convert", "-O", format, "-o", options, at("a.qcow2"), at("big"));
      expect(await done("resize", "-f", format, at("big"), "+64M")).toBe("Image resized.\n");
      expect(JSON.parse(qemuImg("info", "-f", format, "--output=json", at("big")))["virtual-size"]).toBe(
        70 * MiB + 512,
      );
      identical("-F", format, at("a.qcow2"), at("big"));
      await done("resize", "-f", format, "--shrink", at("big"), String(6 * MiB + 512));
      identical("-s", "-f", "raw", "-F", "raw", at("a.raw"), at("a.raw"));
      identical("-F", format, at("a.qcow2"), at("big"));
      if (format === "vhdx") qemuImg("check", "-f", "vhdx", at("big"));
    }
  });
});

describe("snapshot", () => {
  qemuTest("the same steps by both: the same tables, disks, messages and exit codes", async () => {
    for (const who of ["ours", "theirs"]) qemuImg("convert", "-O", "qcow2", at("a.qcow2"), at(`${who}.qcow2`));
    const table = (text: string) =>
      text.replaceAll(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/g, "DATE").replaceAll(/ +0?$/gm, "");
    const step = async (...args: string[]) => {
      const [own, their] = [
        await ours("snapshot", ...args, at("ours.qcow2")),
        theirs("snapshot", ...args, at("theirs.qcow2")),
      ];
      expect([args, own.code, table(own.stdout)]).toEqual([args, their.code, table(their.stdout)]);
      identical(at("ours.qcow2"), at("theirs.qcow2"));
    };
    const write = (command: string) => {
      for (const who of ["ours", "theirs"]) qemuIo("qcow2", at(`${who}.qcow2`), command);
    };
    await step("-l");
    await step("-c", "one");
    write("write -P 1 0 2M");
    await step("-q", "-c", "two words");
    write("write -P 2 1M 4M");
    await step("-l");
    await step("-a", "one");
    await step("-a", "nope");
    await step("-a", "2");
    write("write -P 3 3M 64k");
    await step("-d", "one");
    await step("-d", "one");
    await step("-l");
    await step("-l", "-c", "x");
    await step("-d", "two words");
    await step("-l");
    for (const who of ["ours", "theirs"]) qemuImg("check", at(`${who}.qcow2`));
    for (const args of [["-c", "x"], ["-l"]]) {
      const all = ["snapshot", "-f", "raw", ...args, at("a.raw")];
      if (args[0] === "-l") expect((await ours(...all)).code).toBe(0);
      else expect((await ours(...all)).code).toBe(1);
    }
  });
});

describe("dd", () => {
  qemuTest("the same bytes and sizes for every operand", async () => {
    for (const [format, operands] of [
      ["raw", ["bs=1M", "count=2"]],
      ["raw", ["bs=1M", "skip=1"]],
      ["raw", ["bs=1M", "count=3", "skip=2"]],
      ["raw", ["count=7"]],
      ["raw", ["bs=1000", "count=3", "skip=1"]],
      ["raw", ["bs=7", "skip=300", "count=2000"]],
      ["raw", ["bs=1M", "skip=1000"]],
      ["raw", ["bs=2M", "count=1k"]],
      ["qcow2", ["bs=64k", "skip=1"]],
      ["vhdx", ["bs=1M", "count=2"]],
    ] as const) {
      for (const source of [[`if=${at("a.qcow2")}`], ["-f", "raw", `if=${at("a.raw")}`]]) {
        const args = (to: string) => ["dd", "-O", format, ...operands, ...source, `of=${at(to)}`];
        const [own, their] = [await ours(...args("o.dd")), theirs(...args("t.dd"))];
        expect([operands, own.code]).toEqual([operands, their.code]);
        if (format === "raw") {
          const same = fs.readFileSync(at("o.dd")).equals(fs.readFileSync(at("t.dd")));
          expect([operands, fs.statSync(at("o.dd")).size, same]).toEqual([
            operands,
            fs.statSync(at("t.dd")).size,
            true,
          ]);
        } else identical("-s", "-f", "raw", "-F", "raw", at("a.raw"), at("a.raw"));
        if (format !== "raw") identical("-f", format, "-F", format, at("o.dd"), at("t.dd"));
      }
    }
    for (const name of [`driver=qcow2,file.filename=${at("a.qcow2")}`, `driver=raw,file.filename=${at("a.raw")}`]) {
      const args = (to: string) => ["dd", "--image-opts", "bs=1M", "count=2", `if=${name}`, `of=${at(to)}`];
      expect([(await ours(...args("o.dd"))).code, theirs(...args("t.dd")).code]).toEqual([0, 0]);
      expect(fs.readFileSync(at("o.dd")).equals(fs.readFileSync(at("t.dd")))).toBe(true);
    }
    for (const wrong of [
      ["if=x"],
      ["--image-opts", "-f", "raw", `if=driver=raw,file.filename=${at("a.raw")}`, "of=y"],
      ["bs=0", "if=x", "of=y"],
      ["fly=1"],
      ["word"],
      ["if=nope", "of=y"],
    ]) {
      expect([wrong, (await ours("dd", ...wrong)).code]).toEqual([wrong, theirs("dd", ...wrong).code]);
    }
  });
});

describe("bench", () => {
  qemuTest("says what it sends in qemu-img's words; writes change what they should and no more", async () => {
    fs.copyFileSync(at("a.raw"), at("b.raw"));
    for (const args of [
      ["-c", "100"],
      ["-c", "10", "-w", "--pattern=7", "-s", "8192", "-S", "64k", "-o", "1M", "-d", "3", "--flush-interval", "5"],
    ]) {
      const all = ["bench", "-f", "raw", ...args, at("b.raw")];
      const head = (text: string) => text.split("\n").filter((line) => line.startsWith("Sending"));
      const own = await done(...all);
      expect(head(own)).toEqual(head(qemuImg(...all.map((arg) => arg.replace("b.raw", "a.raw")))));
      expect(own).toMatch(/^Run completed in [\d.]+ seconds\.\n[\d]+ requests\/s, [\d.]+ MiB\/s$/m);
      identical("-f", "raw", "-F", "raw", at("a.raw"), at("b.raw"));
    }
    for (const wrong of [["--flush-interval=10"], ["-w", "-c", "10", "--flush-interval=2"], ["--pattern=300", "-w"]]) {
      const all = ["bench", "-f", "raw", ...wrong, at("b.raw")];
      expect([wrong, (await ours(...all)).code]).toEqual([wrong, theirs(...all).code]);
    }
  });
});
