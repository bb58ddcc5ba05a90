import { spawn } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { buildDist, paravane } from "../support/dist.ts";
import { ours } from "../support/img.ts";

let folder: string;
const at = (name: string) => join(folder, name);
beforeAll(buildDist);
beforeEach(() => {
  folder = fs.mkdtempSync(join(tmpdir(), "paravane-img-"));
});
afterEach(() => fs.rmSync(folder, { recursive: true }));

test("--help teaches, with and without a command", async () => {
  const all = await paravane(["img", "--help"]);
  expect(all.code).toBe(0);
  const verbs = [...all.stdout.matchAll(/^ {2}(\w+) {2,}/gm)].map(([, verb]) => verb);
  expect(verbs).toEqual(
    expect.arrayContaining("info create check convert compare map measure resize snapshot dd bench".split(" ")),
  );
  for (const verb of verbs) {
    const { code, stdout } = await ours(verb, "--help");
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: expect.stringMatching(/Usage:[\s\S]*Options:[\s\S]*Examples:/),
    });
    expect(stdout).toContain(`paravane img ${verb} `);
    for (const line of stdout.split("\n")) expect(line.length).toBeLessThanOrEqual(124);
  }
});

test("-o help lists a format's options", async () => {
  for (const [format, option] of [
    ["raw", "preallocation"],
    ["vpc", "force_size"],
    ["vhdx", "log_size"],
    ["qcow2", "extended_l2"],
  ]) {
    for (const verb of ["create", "convert"]) {
      const args = [verb, verb === "create" ? "-f" : "-O", format, "-o", "help"];
      expect(await ours(...args)).toMatchObject({
        code: 0,
        stdout: expect.stringMatching(new RegExp(`^  ${option} `, "m")),
      });
    }
  }
});

test("amend -o help lists what amend changes, and no more", async () => {
  const qcow2 = await ours("amend", "-o", "help");
  for (const name of ["compat", "size", "backing_fmt", "encrypt.state", "encrypt.new-secret"])
    expect(qcow2.stdout).toMatch(new RegExp(`^  ${name.replace(".", "\\.")} `, "m"));
  expect(qcow2.stdout).not.toMatch(/cluster_size|cipher|preallocation/);
  expect((await ours("amend", "-f", "luks", "-o", "help")).stdout).toMatch(/^ {2}keyslot /m);
  expect(await ours("amend", "-f", "vpc", "-o", "help")).toMatchObject({ code: 1, stdout: "" });
});

describe("a new image", () => {
  test("in a folder that is not there is refused by the name that was given", async () => {
    const path = at("none/new.qcow2");
    for (const args of [
      ["create", "-f", "qcow2", path, "1M"],
      ["convert", at("source.raw"), path],
    ]) {
      fs.writeFileSync(at("source.raw"), new Uint8Array(512));
      const { code, stderr } = await ours(...args);
      expect(code).toBe(1);
      expect(stderr).toContain(`'${path}'`);
      expect(stderr).toContain(`There is no folder ${at("none")}`);
      expect(stderr).not.toContain("partial");
    }
  });

  test("of LUKS is made and written by dd", async () => {
    fs.writeFileSync(at("key"), "secret");
    fs.writeFileSync(at("source.raw"), new Uint8Array(65536).fill(7));
    const words = [`if=${at("source.raw")}`, `of=${at("new.luks")}`];
    expect((await ours("dd", "-O", "luks", ...words)).stderr).toContain("--passphrase-file");
    const key = ["--passphrase-file", at("key")];
    expect(await ours("dd", "-O", "luks", ...key, ...words)).toMatchObject({ code: 0, stderr: "" });
    expect((await ours("compare", ...key, at("source.raw"), at("new.luks"))).code).toBe(0);
    fs.writeFileSync(at("source.raw"), new Uint8Array(65536).fill(9));
    expect(await ours("dd", "-n", "-O", "luks", ...key, ...words)).toMatchObject({ code: 0, stderr: "" });
    expect((await ours("compare", ...key, at("source.raw"), at("new.luks"))).code).toBe(0);
  });

  test("goes where a link points, keeps the old file's mode, and brings its data file", async () => {
    fs.writeFileSync(at("real.qcow2"), "old", { mode: 0o640 });
    fs.symlinkSync("real.qcow2", at("link.qcow2"));
    const args = ["create", "-q", "-f", "qcow2", "-o", "data_file=data.raw", at("link.qcow2"), "1M"];
    expect((await ours(...args)).code).toBe(0);
    expect(fs.lstatSync(at("link.qcow2")).isSymbolicLink()).toBe(true);
    expect(fs.statSync(at("real.qcow2")).mode & 0o777).toBe(0o640);
    expect(fs.readdirSync(folder).sort()).toEqual(["data.raw", "link.qcow2", "real.qcow2"]);
    expect((await ours("info", at("link.qcow2"))).stdout).toMatch(/data file: data.raw/);
    fs.writeFileSync(at("source.raw"), Buffer.alloc(1 << 20, "data"));
    expect((await ours("convert", "-f", "raw", ...args.slice(2, 6), at("source.raw"), at("link.qcow2"))).code).toBe(1);
    const convert = ["convert", "-f", "raw", "-O", "qcow2", ...args.slice(4, 6), at("source.raw"), at("link.qcow2")];
    expect((await ours(...convert)).code).toBe(0);
    expect((await ours("compare", "-f", "raw", at("source.raw"), at("link.qcow2"))).code).toBe(0);
    expect(fs.readFileSync(at("data.raw"), "utf8")).toMatch(/^(data)+$/);
  });

  test("that cannot be made leaves the old one, data file and all", async () => {
    fs.writeFileSync(at("a.qcow2"), "old");
    fs.writeFileSync(at("data.raw"), "old data");
    const options = ["-o", "data_file=data.raw,cluster_size=3"];
    expect((await ours("create", "-f", "qcow2", ...options, at("a.qcow2"), "1M")).code).toBe(1);
    expect(fs.readFileSync(at("a.qcow2"), "utf8")).toBe("old");
    expect(fs.readFileSync(at("data.raw"), "utf8")).toBe("old data");
    expect(fs.readdirSync(folder).sort()).toEqual(["a.qcow2", "data.raw"]);
  });
});

test.each([
  [["fly"], /unknown command "img fly"/],
  [["info"], /give one image/],
  [["info", "--fly", "a"], /unknown option "--fly"/],
  [["info", "--output=xml", "a"], /./],
  [["create", "-f", "qcow2", "x"], /needs a size parameter/],
  [["create", "-f", "qcow2", "x", "12x"], /is not a size/],
  [["create", "-f", "qcow2", "-o", "fly=1", "x", "1M"], /have no option "fly"/],
  [["create", "-f", "floppy", "x", "1M"], /Unknown file format 'floppy'/],
  [["convert", "-O", "raw", "nope", "x"], /Could not open 'nope': .*No such file/],
])("img %j: one clear line, exit code 1", async (args, line) => {
  const { code, stdout, stderr } = await paravane(["img", ...args], { cwd: folder });
  expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
  expect(stderr).toMatch(line);
  expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  expect(fs.readdirSync(folder)).toEqual([]);
});

describe("convert", () => {
  test("a failure leaves the old target as it was, and nothing else", async () => {
    fs.writeFileSync(at("source.raw"), Buffer.alloc(8 << 20, "data"));
    fs.writeFileSync(at("target.qcow2"), "precious");
    const args = ["img", "convert", "-f", "raw", "-O", "qcow2", at("source.raw"), at("target.qcow2")];
    const { code, stderr } = await paravane(args, { shell: "ulimit -f 2048" });
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(/^paravane: EFBIG.*\n$/) });
    expect(fs.readFileSync(at("target.qcow2"), "utf8")).toBe("precious");
    expect(fs.readdirSync(folder).sort()).toEqual(["source.raw", "target.qcow2"]);
  });

  test("Ctrl-C leaves the source and no target", async () => {
    fs.closeSync(fs.openSync(at("source.raw"), "w"));
    fs.truncateSync(at("source.raw"), 2 ** 36);
    const child = spawn(process.execPath, [
      "dist/src/cli/main.js",
      "img",
      "convert",
      "-f",
      "raw",
      // Holes are written too: far more than can be done before the signal comes.
      "-S",
      "0",
      at("source.raw"),
      at("x"),
    ]);
    let stderr = "";
    child.stderr.on("data", (chunk) => (stderr += chunk));
    const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
    while (!fs.readdirSync(folder).some((name) => name.endsWith(".partial")))
      await new Promise((go) => setTimeout(go, 20));
    await new Promise((go) => setTimeout(go, 20));
    child.kill("SIGINT");
    expect(await ended).toBe(130);
    expect(stderr).toMatch(/^paravane: stopped; .*source\.raw is unchanged/);
    expect(fs.readdirSync(folder)).toEqual(["source.raw"]);
  });

  test.each(["zlib", "zstd"])("a signal stops compression with %s too: no target, its exit code", async (codec) => {
    const fd = fs.openSync(at("source.raw"), "w");
    const noise = Buffer.from(Array.from({ length: 1 << 16 }, (_, i) => (Math.imul(i, 2654435761) >>> 13) & 0x1f));
    for (let i = 0; i < 1024; i++) fs.writeSync(fd, noise);
    fs.closeSync(fd);
    const options = ["-O", "qcow2", "-o", `compression_type=${codec}`];
    const args = ["img", "convert", "-c", "-f", "raw", ...options, at("source.raw"), at("x")];
    const child = spawn(process.execPath, ["dist/src/cli/main.js", ...args], { stdio: "ignore" });
    const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
    while (!fs.readdirSync(folder).some((name) => name.endsWith(".partial")))
      await new Promise((go) => setTimeout(go, 20));
    child.kill("SIGTERM");
    expect(await ended).toBe(143);
    expect(fs.readdirSync(folder)).toEqual(["source.raw"]);
  });

  test("source and target cannot be one file", async () => {
    fs.writeFileSync(at("a.raw"), Buffer.alloc(4096, 1));
    const { code } = await paravane(["img", "convert", "-f", "raw", at("a.raw"), at("a.raw")]);
    expect(code).toBe(1);
    expect(fs.readFileSync(at("a.raw"))).toEqual(Buffer.alloc(4096, 1));
  });
});

test("-p tells a program how far it is, in qemu-img's form; without it nothing is printed", async () => {
  fs.writeFileSync(at("a.raw"), Buffer.alloc(4 << 20, "paravane"));
  const { stdout } = await paravane(["img", "convert", "-p", "-O", "qcow2", at("a.raw"), at("a.qcow2")]);
  const shown = stdout.split("\r").filter((text) => text !== "");
  expect(shown.at(-1)).toBe("    (100.00/100%)");
  for (const text of shown) expect(text).toMatch(/^ {4}\(\d+\.\d\d\/100%\)$/);
  expect((await paravane(["img", "convert", "-O", "qcow2", at("a.raw"), at("a.qcow2")])).stdout).toBe("");
});
