import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ShareAnswer, type ShareOrder, STOP, seenAs, takeParts } from "../../src/cli/verb/img/share.ts";
import { createDisk, FileStore, writeBytes } from "../../src/node.ts";
import { buildDist } from "../support/dist.ts";
import { Random } from "../support/random.ts";

const MiB = 2 ** 20;
const SIZE = 200 * MiB + 512;
const root = fs.mkdtempSync(join(tmpdir(), "paravane-share-"));
const at = (name: string) => join(root, name);
const digest = (path: string) => createHash("sha256").update(fs.readFileSync(path)).digest("hex");
let expected: string;
/** Bytes that the disk holds. */
let stored = 0;

beforeAll(async () => {
  await buildDist();
  // As much that is stored as makes it worth while, and holes.
  const random = new Random(6);
  const disk = await createDisk(new FileStore(at("disk.qcow2"), { create: true }), { format: "qcow2", size: SIZE });
  const bytes = new Uint8Array(4 * MiB);
  const words = new Uint32Array(bytes.buffer);
  for (let position = 0; position + bytes.length <= SIZE; position += bytes.length) {
    if (random.oneIn(8)) continue;
    for (let i = 0; i < words.length; i++) words[i] = random.u32();
    await writeBytes(disk, position, bytes);
    stored += bytes.length;
  }
  await writeBytes(disk, SIZE - 512, bytes.subarray(0, 512));
  await disk.close();
  expect(fs.statSync(at("disk.qcow2")).size).toBeGreaterThan(2 ** 27);
  // On this thread alone.
  expect(convert(["-m", "1", "disk.qcow2", "alone.raw"]).stderr).toBe("");
  expected = digest(at("alone.raw"));
});
afterAll(() => fs.rmSync(root, { recursive: true }));

/**
 * Says how many bytes the main thread has written; others do not load it. A thread that is ended from outside takes the
 * process with it, as it does when that happens while it loads a native addon.
 */
const COUNT = `
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { Worker } from "node:worker_threads";
Worker.prototype.terminate = () => process.abort();
let written = 0;
for (const name of ["writeSync", "writevSync"]) {
  const real = fs[name];
  fs[name] = (...args) => {
    const moved = real(...args);
    if (args[0] > 2) written += moved;
    return moved;
  };
}
syncBuiltinESMExports();
process.on("exit", () => fs.appendFileSync(process.env.COUNTED, String(written)));
`;

/** Threads that cannot be had, or that end before they have begun. */
const THREADLESS = `
import threads from "node:worker_threads";
import { syncBuiltinESMExports } from "node:module";
const { Worker } = threads;
threads.Worker = class extends Worker {
  constructor(file, options) {
    if (process.env.THREADS === "none") throw new Error("no more threads");
    super(process.env.THREADS === "ended" ? "" : "throw new Error('no memory')", { ...options, eval: true });
  }
};
syncBuiltinESMExports();
`;

function convert(
  args: string[],
  { hook: text = COUNT, env = {} } = {},
): { status: number | null; stderr: string; written: number } {
  fs.writeFileSync(at("count.mjs"), text);
  fs.writeFileSync(at("counted"), "0");
  const hook = pathToFileURL(at("count.mjs")).href;
  const command = ["--import", hook, join(process.cwd(), "dist/src/cli/main.js"), "img", "convert", "-O", "raw"];
  const { status, stderr } = spawnSync(process.execPath, [...command, ...args], {
    cwd: root,
    encoding: "utf8",
    env: { ...process.env, COUNTED: at("counted"), ...env },
  });
  return { status, stderr, written: Number(fs.readFileSync(at("counted"), "utf8")) };
}

test("each part is taken once, by whoever comes first; a part more than is there, by nobody", () => {
  const next = new Int32Array(new SharedArrayBuffer(4));
  const takers = [takeParts(next, SIZE), takeParts(next, SIZE), takeParts(next, SIZE)];
  const parts: [number, number][] = [];
  for (let i = 0; ; i++) {
    const { done, value } = takers[(i * i) % 3].next();
    if (done) break;
    parts.push(value);
  }
  parts.reduce((end, [start, stop]) => {
    expect(start).toBe(end);
    return stop;
  }, 0);
  expect(parts.at(-1)![1]).toBe(SIZE);
  expect(takers.map((taker) => taker.next().done)).toEqual([true, true, true]);
  // Of the largest disks there are not more parts than numbers.
  Atomics.store(next, 0, 0);
  expect([...takeParts(next, 2 ** 52)].length).toBeLessThanOrEqual(4096);
});

test.skipIf(availableParallelism() === 1)(
  "a large image becomes the same raw file, and not all of it is written by one thread",
  () => {
    // On one processor the thread that was there first may have done all of it.
    const shares: number[] = [];
    for (let round = 0; round < 5 && !shares.some((share) => share < 0.95); round++) {
      const { status, stderr, written } = convert(["disk.qcow2", "shared.raw"]);
      expect([status, stderr]).toEqual([0, ""]);
      expect(digest(at("shared.raw"))).toBe(expected);
      shares.push(written / stored);
    }
    expect(Math.min(...shares)).toBeLessThan(0.95);
  },
);

test("a thread that helps copies all that is left; it leaves a file alone that is not the one which was opened", async () => {
  const help = (order: Partial<ShareOrder>, { stopped = false } = {}) => {
    const next = new Int32Array(new SharedArrayBuffer(8));
    fs.writeFileSync(at("target.raw"), "");
    fs.truncateSync(at("target.raw"), SIZE + 7 * MiB);
    const given = { flags: new Set<string>(), values: new Map<string, string[]>(), rest: [], order: [] };
    const file = at("disk.qcow2");
    const whole: ShareOrder = {
      ...{ given, file, seen: seenAs(file), target: at("target.raw"), size: SIZE, fresh: true, sparse: 4096 },
      ...{ next, number: 1 },
      ...order,
    };
    return new Promise<ShareAnswer & { taken: number }>((resolve, reject) => {
      const worker = new Worker("./dist/src/cli/copy-worker.js", { workerData: whole });
      let all: ShareAnswer & { taken: number };
      worker.once("message", (answer) => (all = { ...answer, taken: next[0] }));
      worker.once("error", reject);
      worker.once("exit", () => resolve(all));
      if (stopped) worker.postMessage(STOP);
    });
  };
  expect(await help({ seen: "another file" })).toEqual({ taken: 0 });
  expect(await help({ file: at("none.qcow2") })).toEqual({ taken: 0 });
  expect(await help({ target: at("folder/none.raw") })).toEqual({ taken: 0 });
  expect((await help({}, { stopped: true })).failure).toMatchObject({ code: "ABORTED" });
  expect((await help({})).failure).toBeUndefined();
  fs.truncateSync(at("target.raw"), SIZE);
  expect(digest(at("target.raw"))).toBe(expected);
  // What goes wrong in the middle is reported, in full.
  const cut = at("cut.qcow2");
  fs.copyFileSync(at("disk.qcow2"), cut);
  fs.truncateSync(cut, 100 * MiB);
  const { failure } = await help({ file: cut, seen: seenAs(cut) });
  expect(failure).toMatchObject({ code: "CORRUPT", message: expect.stringContaining("points at byte") });
});

test.each(["none", "ended", "failed"])("without threads (%s) it is copied all the same", (how) => {
  const { status, stderr } = convert(["disk.qcow2", "alone-again.raw"], { hook: THREADLESS, env: { THREADS: how } });
  expect([status, stderr]).toEqual([0, ""]);
  expect(digest(at("alone-again.raw"))).toBe(expected);
  fs.rmSync(at("alone-again.raw"));
});

test("what cannot be read ends all of it: one clear line, and no file", () => {
  for (const length of [130, 150]) {
    const name = `cut-${length}.qcow2`;
    fs.copyFileSync(at("disk.qcow2"), at(name));
    fs.truncateSync(at(name), length * MiB);
    const alone = convert(["-m", "1", name, "failed.raw"]);
    const { status, stderr } = convert([name, "failed.raw"]);
    expect([status, alone.status]).toEqual([1, 1]);
    expect(stderr.trim().split("\n")).toHaveLength(1);
    expect(stderr).toContain(name);
    expect(fs.readdirSync(root).filter((one) => one.startsWith("failed.raw"))).toEqual([]);
  }
});
