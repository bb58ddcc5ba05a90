import { spawn } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { buildDist, paravane } from "../support/dist.ts";

let folder: string;
const at = (name: string) => join(folder, name);
beforeAll(buildDist);
beforeEach(() => {
  folder = fs.mkdtempSync(join(tmpdir(), "paravane-img-"));
});
afterEach(() => fs.rmSync(folder, { recursive: true }));

test("--help teaches, with and without a command", async () => {
  const all = await paravane(["img", "--help"]);
  expect(all).toMatchObject({ code: 0, stdout: expect.stringMatching(/info[\s\S]*create[\s\S]*convert[\s\S]*map/) });
  for (const verb of ["info", "create", "convert", "map"]) {
    const { code, stdout } = await paravane(["img", verb, "--help"]);
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: expect.stringMatching(/Usage:[\s\S]*Options:[\s\S]*Examples:/),
    });
  }
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
  [["convert", "-O", "raw", "nope", "x"], /nope/],
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

  test("source and target cannot be one file", async () => {
    fs.writeFileSync(at("a.raw"), Buffer.alloc(4096, 1));
    const { code } = await paravane(["img", "convert", "-f", "raw", at("a.raw"), at("a.raw")]);
    expect(code).toBe(1);
    expect(fs.readFileSync(at("a.raw"))).toEqual(Buffer.alloc(4096, 1));
  });
});
