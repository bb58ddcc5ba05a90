import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createDisk, createOverlay, type Disk, FileStore, openFile, readBytes, writeBytes } from "../../src/node.ts";
import { buildDist, paravane } from "../support/dist.ts";
import { randomFrom } from "../support/stores.ts";
import { tier } from "../support/tier.ts";

const MiB = 2 ** 20;
const SIZE = 40 * MiB;
/** How often each command is killed by each signal. */
const TIMES = tier(2, 40);
const TIMEOUT = tier(60_000, 900_000);
const root = fs.mkdtempSync(join(tmpdir(), "paravane-kill-"));
const random = randomFrom(Number(process.env.PARAVANE_SEED ?? 20));
let work: string;
const at = (name: string) => join(work, name);

beforeAll(buildDist);
let folders = 0;
beforeEach(() => {
  work = join(root, `${folders++}`);
  fs.mkdirSync(work);
});
afterAll(() => fs.rmSync(root, { recursive: true }));

async function digest(disk: Disk, size = disk.size): Promise<string> {
  const hash = createHash("sha256");
  for (let done = 0; done < size; done += 4 * MiB) hash.update(await readBytes(disk, done, 4 * MiB));
  return hash.digest("hex");
}
async function digestOf(name: string): Promise<string> {
  const disk = await openFile(at(name), { readOnly: true });
  try {
    return await digest(disk);
  } finally {
    await disk.close();
  }
}

/** Data here and there, in pieces of `length`, so that much of it is elsewhere in each image. */
async function fill(disk: Disk, seed: number, length: number, pieces: number): Promise<void> {
  const any = randomFrom(seed);
  const bytes = new Uint8Array(length);
  for (let i = 0; i < pieces; i++) {
    for (let j = 0; j < length; j += 4096) bytes.fill(1 + any() * 255, j, j + 4096);
    await writeBytes(disk, Math.floor((any() * (SIZE - length)) / 4096) * 4096, bytes);
  }
}

/** base, other and top (over base), with data in each; copies of all in "kept-…". */
async function family(format: string): Promise<void> {
  for (const [name, seed] of [
    ["base", 1],
    ["other", 2],
  ] as const) {
    const disk = await createDisk(new FileStore(at(name), { create: true }), { format, size: SIZE });
    await fill(disk, seed, MiB, 20);
    await disk.close();
  }
  const base = await openFile(at("base"), { readOnly: true });
  const top = await createOverlay(base, new FileStore(at("top"), { create: true }), {
    format,
    parent: { path: "base" },
  });
  await fill(top, 3, 128 * 1024, 160);
  await top.close();
  for (const name of ["base", "other", "top"]) fs.copyFileSync(at(name), at(`kept-${name}`));
}
function restore(): void {
  for (const name of ["base", "other", "top"]) fs.copyFileSync(at(`kept-${name}`), at(name));
}

/** Runs that ended by a signal, of all. */
let stopped = 0;

/** Runs the command line and kills it some milliseconds after it has begun to change a file. */
async function killed(args: string[], signal: NodeJS.Signals): Promise<void> {
  const state = () =>
    fs
      .readdirSync(work)
      .map((name) => [name, fs.statSync(at(name), { throwIfNoEntry: false })] as const)
      .map(([name, stat]) => `${name} ${stat?.mtimeMs} ${stat?.size}`)
      .join();
  const before = state();
  const child = spawn(process.execPath, ["dist/src/cli/main.js", "img", ...args], { stdio: "ignore" });
  let running = true;
  const ended = new Promise<void>((resolve) => {
    child.once("close", (code, by) => {
      running = false;
      if (by === signal || code === 130) stopped++;
      resolve();
    });
  });
  while (running && state() === before) await new Promise((go) => setTimeout(go, 2));
  await new Promise((go) => setTimeout(go, random() ** 2 * 120));
  child.kill(signal);
  await ended;
}

async function run(args: string[]): Promise<void> {
  const { code, stderr } = await paravane(["img", ...args]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
}

describe.each(["qcow2", "vhd", "vhdx"])("%s", (format) => {
  test(
    "commit, killed at any moment: the image reads as before, and the commit can be made again",
    async () => {
      await family(format);
      const content = await digestOf("top");
      const args = ["commit", "-q", at("top")];
      for (const signal of ["SIGINT", "SIGKILL"] as const) {
        for (let i = 0; i < TIMES; i++) {
          restore();
          await killed(args, signal);
          expect(await digestOf("top"), `${signal} ${i}`).toBe(content);
          await run(args);
          expect(await digestOf("base")).toBe(content);
          expect(await digestOf("top")).toBe(content);
        }
      }
    },
    TIMEOUT,
  );

  test(
    "rebase, killed at any moment: the image reads as before, over one parent or the other",
    async () => {
      await family(format);
      const content = await digestOf("top");
      const others = [await digestOf("base"), await digestOf("other")];
      const args = ["rebase", "-b", "other", "-F", format === "vhd" ? "vpc" : format, at("top")];
      for (const signal of ["SIGINT", "SIGKILL"] as const) {
        for (let i = 0; i < TIMES; i++) {
          restore();
          await killed(args, signal);
          expect(await digestOf("top"), `${signal} ${i}`).toBe(content);
          await run(args);
          expect(await digestOf("top")).toBe(content);
          expect([await digestOf("base"), await digestOf("other")]).toEqual(others);
        }
      }
    },
    TIMEOUT,
  );

  test(
    "resize, killed at any moment: the disk is as it was, of the old size or the new one",
    async () => {
      await family(format);
      const head = async () => {
        const disk = await openFile(at("base"), { readOnly: true });
        try {
          const { size } = disk;
          return { size, content: await digest(disk, SIZE) };
        } finally {
          await disk.close();
        }
      };
      const { content } = await head();
      const larger = SIZE + 100 * 2 ** 30;
      for (const signal of ["SIGINT", "SIGKILL"] as const) {
        for (let i = 0; i < TIMES; i++) {
          restore();
          await killed(["resize", "-q", at("base"), String(larger)], signal);
          const after = await head();
          expect(after.content, `${signal} ${i}`).toBe(content);
          expect([SIZE, larger]).toContain(after.size);
          await run(["resize", "-q", at("base"), String(larger)]);
          expect(await head()).toEqual({ size: larger, content });
        }
      }
    },
    TIMEOUT,
  );

  test(
    "convert, killed at any moment: the source is as it was, and the target whole or not there",
    async () => {
      await family(format);
      const content = await digestOf("top");
      const sources = () => ["base", "top"].map((name) => fs.readFileSync(at(name)));
      const before = sources();
      const args = ["convert", "-q", "-O", "qcow2", at("top"), at("target")];
      for (const signal of ["SIGINT", "SIGKILL"] as const) {
        for (let i = 0; i < TIMES; i++) {
          fs.rmSync(at("target"), { force: true });
          await killed(args, signal);
          if (fs.existsSync(at("target"))) expect(await digestOf("target")).toBe(content);
          expect(sources().every((bytes, j) => bytes.equals(before[j]))).toBe(true);
          if (signal === "SIGINT") expect(fs.readdirSync(work).filter((name) => /partial/.test(name))).toEqual([]);
        }
      }
    },
    TIMEOUT,
  );
});

test("some of them were killed before they had done", () => {
  console.log(`${stopped} of ${12 * 2 * TIMES} runs ended by the signal`);
  expect(stopped).toBeGreaterThan(0);
});
