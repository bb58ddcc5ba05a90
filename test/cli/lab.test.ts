import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createFile, openFile } from "../../src/node.ts";
import { buildDist, paravane } from "../support/dist.ts";

let folder: string;
const at = (name: string) => join(folder, name);
const hash = (path: string) => createHash("sha256").update(readFileSync(path)).digest("hex");
const QUICK = ["lab", "--seconds", "0.02", "--workload", "verify", "--queue-depth", "4"];
const SMALL = ["--size", "8M"];

beforeAll(buildDist);
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "paravane-test-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

async function make(name: string, size = 8 << 20): Promise<string> {
  await (await createFile(at(name), { format: "vhd", size })).close();
  return at(name);
}

describe("the command line", () => {
  test("--help, with and without a command, teaches", async () => {
    const all = await paravane(["--help"]);
    expect(all.code).toBe(0);
    expect(all.stdout).toMatch(/Usage: paravane COMMAND[\s\S]*lab/);
    const lab = await paravane(["lab", "--help"]);
    expect(lab.code).toBe(0);
    expect(lab.stdout).toMatch(/--disk FILE[\s\S]*Examples:\n {2}paravane lab/);
    expect(all.stdout + lab.stdout).not.toContain("\x1b");
  });

  test("--version", async () => {
    const { version } = JSON.parse(readFileSync("package.json", "utf8"));
    expect(await paravane(["--version"])).toEqual({ code: 0, stdout: `${version}\n`, stderr: "" });
  });

  test.each([
    [["fly"], 'paravane: unknown command "fly"; see: paravane --help'],
    [["--fly"], 'paravane: unknown option "--fly"; see: paravane --help'],
    [["lab", "--fly"], "paravane: Unknown option '--fly'; see: paravane lab --help"],
    [["lab", "extra"], /^paravane: Unexpected argument 'extra'.*; see: paravane lab --help$/],
    [["lab", "--size"], /^paravane: Option '--size <value>' argument missing; see: paravane lab --help$/],
    [["lab", "--size", "big"], /^paravane: --size "big" is not a size; write bytes, or .*256M$/],
    [["lab", "--size", "0"], /^paravane: --size "0" is not a size/],
    [["lab", "--queue-depth", "1,,2"], /^paravane: --queue-depth "1,,2" is not a list/],
    [["lab", "--seconds", "soon"], 'paravane: --seconds "soon" is not a number'],
  ])("%j: one clear line, exit code 2", async (args, line) => {
    const { code, stdout, stderr } = await paravane(args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr.trimEnd().split("\n")).toEqual([expect.stringMatching(line)]);
  });

  test.each([
    [["--models", "bare,scsi"], /there is no model "scsi"\. Known: bare, ide-pio, ide-dma, xen, virtio/],
    [["--workload", "reverse"], /there is no workload "reverse"\. Known: sequential,/],
    [["--models", "bare,bare"], /given twice/],
    [["--block-size", "1000"], /a block size of 1000 is not whole sectors/],
    [["--queue-depth", "0"], /a queue depth cannot be 0/],
    [["--seconds", "0"], /cannot last 0 seconds/],
    [["--size", "100K"], /too small/],
    [["--size", "4T"], /\b4398046511104\b|large|most/i],
    [["--format", "floppy"], /there is no disk format "floppy"/],
  ])("lab %j: one clear line, exit code 1, nothing left behind", async (args, line) => {
    const { code, stderr } = await paravane(["lab", "--disk", at("new.vhd"), ...args]);
    expect(code).toBe(1);
    expect(stderr).toMatch(line);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    expect(readdirSync(folder)).toEqual([]);
  });

  test("PARAVANE_DEBUG shows where an error comes from", async () => {
    const { stderr } = await paravane(["lab", "--seconds", "0"], { shell: "export PARAVANE_DEBUG=1" });
    expect(stderr).toMatch(/ParavaneError: [\s\S]*\n\s+at /);
  });
});

describe("lab", () => {
  test("--json prints one object with every figure, and verifies every model", async () => {
    const { code, stdout, stderr } = await paravane([...QUICK, ...SMALL, "--json", "--queue-depth", "1,4"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const result = JSON.parse(stdout);
    expect(result.models).toHaveLength(10);
    for (const row of result.models) {
      expect(row).toMatchObject({
        model: expect.stringMatching(/^(bare|ide-pio|ide-dma|xen|virtio)$/),
        workload: "verify",
        blockSize: 4096,
        queueDepth: expect.any(Number),
        mbPerSecond: expect.any(Number),
        iops: expect.any(Number),
        exitsPerRequest: expect.any(Number),
        interruptsPerRequest: expect.any(Number),
        bytesCopiedPerByte: expect.any(Number),
        verified: true,
      });
      expect(row.iops).toBeGreaterThan(0);
    }
    const { ideLines, backendLines, ratio } = result.code;
    expect(ideLines).toBeGreaterThan(backendLines);
    expect(ratio).toBeCloseTo(ideLines / backendLines);
  });

  test("prints paths, costs, speeds and code; no colours where nobody looks", async () => {
    const { code, stdout } = await paravane([...QUICK, ...SMALL]);
    expect(code).toBe(0);
    expect(stdout).toMatch(
      /One read of 4 KiB, step by step[\s\S]*emulated IDE, DMA \(ide-dma\): 26 exits, 1 interrupt/,
    );
    expect(stdout).toMatch(/2,0\d\d port exits[\s\S]*Data × 2,048 \(4,096 bytes\)/);
    expect(stdout).toMatch(/1 hypercall exit {2,}event-channel send/);
    expect(stdout).toMatch(/1 MMIO exit {2,}QueueNotify/);
    expect(stdout).toMatch(/exits\/request[\s\S]*IDE emulation: [\d,]+ lines[\s\S]*assembly\/ide\//);
    expect(stdout).toMatch(/Every byte read was right, in every model/);
    expect(stdout).not.toContain("\x1b");
  });

  test("--html and --trace write what they say", async () => {
    const args = [...QUICK, ...SMALL, "--html", at("lab.html"), "--trace", at("lab.jsonl")];
    expect((await paravane(args)).code).toBe(0);
    const html = readFileSync(at("lab.html"), "utf8");
    expect(html.match(/<figure>/g)).toHaveLength(3);
    expect(html).not.toMatch(/<script|https?:\/\/|NaN|undefined/);
    const steps = readFileSync(at("lab.jsonl"), "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    const count = (model: string, kinds: string[]) =>
      steps.filter((step) => step.model === model && kinds.includes(step.kind)).length;
    expect(count("ide-dma", ["in", "out"])).toBe(26);
    expect(count("ide-pio", ["in"])).toBeGreaterThan(2048);
    expect(count("bare", ["in", "out", "load", "store", "hypercall"])).toBe(0);
    expect(count("bare", ["register"])).toBe(26);
    expect(count("xen", ["hypercall"])).toBe(1);
    expect(count("virtio", ["store"])).toBe(1);
  });

  test("an existing image stays as it is, to the last byte, without --overwrite", async () => {
    const path = await make("disk.vhd");
    const before = hash(path);
    const { code, stdout } = await paravane([...QUICK, "--disk", path]);
    expect(code).toBe(0);
    expect(stdout).toContain("unchanged below a throw-away overlay");
    expect(hash(path)).toBe(before);
    expect((await paravane([...QUICK, "--disk", path, "--overwrite"])).code).toBe(0);
    expect(hash(path)).not.toBe(before);
    expect(readdirSync(folder)).toEqual(["disk.vhd"]);
  });

  test("a report that cannot be written costs neither the figures nor the disk", async () => {
    const path = at("disk.vhd");
    const { code, stdout, stderr } = await paravane([
      ...[...QUICK, ...SMALL, "--models", "xen", "--disk", path, "--json"],
      ...["--html", at("nowhere/lab.html")],
    ]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^paravane: .*lab\.html could not be written: .*\n$/);
    expect(JSON.parse(stdout).verified).toBe(true);
    const disk = await openFile(path, { readOnly: true });
    expect(disk.size).toBe(8 << 20);
    await disk.close();
  });

  test("a folder that is not there", async () => {
    const { code, stderr } = await paravane([...QUICK, ...SMALL, "--disk", at("nowhere/disk.vhd")]);
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: `paravane: there is no folder ${at("nowhere")} (${at("nowhere/disk.vhd")})\n`,
    });
  });

  test("a fixed VHD that has lost its end is no raw disk", async () => {
    const path = at("disk.vhd");
    await (await createFile(path, { format: "vhd", subformat: "fixed", size: 8 << 20 })).close();
    truncateSync(path, 4 << 20);
    const before = hash(path);
    const { code, stderr } = await paravane([...QUICK, "--disk", path, "--overwrite"]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^paravane: it is named as a vhd image, but .*disk\.vhd.*\n$/);
    expect(hash(path)).toBe(before);
    const asRaw = [...QUICK, "--models", "xen", "--disk", path, "--format", "raw"];
    expect((await paravane(asRaw)).code).toBe(0);
  });

  test("the size of an existing image is not for choosing", async () => {
    const { code, stderr } = await paravane([...QUICK, "--disk", await make("disk.vhd"), "--size", "1G"]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/--size is for a new image, and .*disk\.vhd exists\n$/);
  });

  test.each([
    ["a truncated image", "--overwrite"],
    ["a truncated image", undefined],
  ])("%s (%s): one clear line, and the file as it was", async (_, overwrite) => {
    const path = await make("disk.vhd");
    truncateSync(path, 1000);
    const before = hash(path);
    const args = [...QUICK, "--disk", path, "--format", "vhd", ...(overwrite ? [overwrite] : [])];
    const { code, stdout, stderr } = await paravane(args);
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    expect(stderr).toMatch(/^paravane: .*disk\.vhd/);
    expect(hash(path)).toBe(before);
  });

  test("a file that cannot be read, and a folder", async () => {
    writeFileSync(at("empty.vhd"), "");
    for (const [path, words] of [
      [folder, /folder|not a regular file|directory/i],
      [at("empty.vhd"), /./],
      [at("no/such/folder/disk.vhd"), /there is no folder/],
    ] as const) {
      const { code, stderr } = await paravane([...QUICK, "--disk", path]);
      expect(code).toBe(1);
      expect(stderr).toMatch(words);
      expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    }
  });
});

describe("a full disk", () => {
  // 512-byte or 1024-byte blocks, as the shell has it: 4 MiB at most.
  const shell = "ulimit -f 4096";

  test("while a new image fills: one clear line, and the image is gone", async () => {
    const path = at("disk.vhd");
    const { code, stderr } = await paravane([...QUICK, "--disk", path], { shell });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^paravane: EFBIG: file too large.*was not finished and is removed\n$/);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    expect(readdirSync(folder)).toEqual([]);
  });

  test("while an image is created: nothing is left", async () => {
    const { code, stderr } = await paravane([...QUICK, "--disk", at("disk.img"), "--size", "64M"], { shell });
    expect(code).toBe(1);
    expect(stderr.trimEnd().split("\n")).toEqual([expect.stringMatching(/EFBIG/)]);
    expect(readdirSync(folder)).toEqual([]);
  });

  test("while an image is overwritten: the line says so, and the image can still be opened", async () => {
    const path = await make("disk.vhd", 64 << 20);
    const { code, stderr } = await paravane([...QUICK, "--disk", path, "--overwrite"], { shell });
    expect(code).toBe(1);
    expect(stderr).toMatch(/EFBIG.*disk\.vhd is partly overwritten\n$/);
    const disk = await openFile(path, { readOnly: true });
    expect(disk.size).toBe(64 << 20);
    await disk.close();
  });
});

describe("Ctrl-C", () => {
  async function interrupted(args: string[], times = 1): Promise<{ code: number | null; stderr: string }> {
    const child = spawn(process.execPath, ["dist/src/cli/main.js", "lab", "--seconds", "5", ...args]);
    let stderr = "";
    child.stderr.on("data", (chunk) => (stderr += chunk));
    // The first line comes when the disk is open and the lab begins.
    await new Promise((resolve) => child.stdout.once("data", resolve));
    setTimeout(() => {
      for (let i = 0; i < times; i++) setTimeout(() => child.kill("SIGINT"), i);
    }, 700);
    return new Promise((resolve) => child.once("close", (code) => resolve({ code, stderr })));
  }

  test("leaves a sound image and says what it holds", async () => {
    const path = at("disk.vhd");
    const { code, stderr } = await interrupted(["--disk", path, "--size", "64M"]);
    expect(code).toBe(130);
    expect(stderr).toMatch(/^paravane: stopped; .*disk\.vhd is a sound image, but holds only part/);
    const disk = await openFile(path);
    expect(disk.size).toBe(64 << 20);
    await disk.close();
  });

  test("that npm passes on a second time ends the same way", async () => {
    const path = at("disk.vhd");
    const { code, stderr } = await interrupted(["--disk", path, "--size", "64M"], 2);
    expect(code).toBe(130);
    expect(stderr).toMatch(/^paravane: stopped; /);
  });

  test("leaves an image below an overlay as it was, and no scratch", async () => {
    const path = await make("disk.vhd");
    const before = hash(path);
    const { code, stderr } = await interrupted(["--disk", path]);
    expect({ code, stderr }).toEqual({ code: 130, stderr: `paravane: stopped; ${path} is unchanged\n` });
    expect(hash(path)).toBe(before);
    expect(existsSync(path)).toBe(true);
  });
});
