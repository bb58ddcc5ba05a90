// A guest is saved while its disks are at work, and gone on with in another process, again and again: nothing that it has asked
// for is lost, and nothing is done twice.
import { fork } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { afterAll, beforeAll, expect } from "vitest";
import { createFile, type Disk, openFile, readBytes } from "../../src/node.ts";
import { guestKit } from "../guest/kit/kit.ts";
import { guestTest } from "../support/guest.ts";
import { BLOCK, kitWithLoad, LOOP_BLOCKS, type Loop, wrongBlocks } from "../support/hop-load.ts";
import type { HopJob, HopReport } from "../support/hop-process.ts";
import { Random } from "../support/random.ts";
import { tier } from "../support/tier.ts";

const PROCESS = "./build/hop-process.mjs";
const HOPS = tier(5, 100);
/** Milliseconds that one process may take. */
const LIMIT = 300_000;

const folder = mkdtempSync(join(tmpdir(), "paravane-hop-"));
beforeAll(() =>
  build({
    entryPoints: ["test/support/hop-process.ts"],
    outfile: PROCESS,
    ...{ bundle: true, platform: "node", format: "esm", target: "node20", external: ["v86"] },
  }),
);
afterAll(() => rmSync(folder, { recursive: true }));

/** One loop on the IDE disk, which takes one command at a time; two on each of the others. */
const LOOPS: Loop[] = [
  { name: "i0", device: "/dev/ide", first: 0 },
  { name: "v0", device: "/dev/virtio", first: 0 },
  { name: "v1", device: "/dev/virtio", first: LOOP_BLOCKS },
  { name: "p0", device: "/dev/pvscsi", first: 0 },
  { name: "p1", device: "/dev/pvscsi", first: LOOP_BLOCKS },
];
const DISKS = ["/dev/ide", "/dev/virtio", "/dev/pvscsi"];

async function inProcess(job: HopJob): Promise<HopReport> {
  const child = fork(PROCESS, { execArgv: [] });
  const timer = setTimeout(() => child.kill("SIGKILL"), LIMIT);
  try {
    return await new Promise((resolve, reject) => {
      child.once("message", (answer: HopReport | { error: string }) => {
        if ("error" in answer) reject(new Error(answer.error));
        else resolve(answer);
      });
      child.once("error", reject);
      child.once("exit", (code, signal) => reject(new Error(`the process ended with ${signal ?? code}`)));
      child.send(job);
    });
  } finally {
    clearTimeout(timer);
    child.kill("SIGKILL");
  }
}

/** As many processes as there are hops, and one: each goes on where the one before has left the guest. */
async function travel(images: HopJob["images"]): Promise<HopReport[]> {
  const kit = kitWithLoad(guestKit(), folder);
  const random = new Random(Number(process.env.PARAVANE_SEED ?? 1));
  const states = ["a", "b"].map((name) => join(folder, name));
  const reports: HopReport[] = [];
  for (let hop = 0; hop <= HOPS; hop++) {
    const report = await inProcess({
      ...{ kit, images, loops: LOOPS, seed: random.u32() },
      // Some are saved again before what was begun again has ended.
      after: random.oneIn(5) ? 0 : random.below(100),
      leave: random.pick(["finish", "drop"]),
      ...(hop > 0 && { load: states[hop & 1] }),
      ...(hop < HOPS && { save: states[(hop + 1) & 1] }),
    });
    expect(report.output).not.toContain("BAD");
    const before = reports.at(-1)?.underWay ?? DISKS.map(() => []);
    // In any order: it is the guest's queue that says what comes first.
    expect(report.again.map((each) => each.map(String).sort())).toEqual(before.map((each) => each.map(String).sort()));
    reports.push(report);
  }
  return reports;
}

/**
 * Requests and bytes as the guest counts them: reads, read, writes, written, flushes (iostats.rst, fields 1, 3, 5, 7 and 16). The
 * empty write that stands for a flush is among its writes.
 */
function counted(line: string): number[] {
  const fields = line.trim().split(/ +/).map(Number);
  return [fields[0], fields[2] * 512, fields[4] - fields[15], fields[6] * 512, fields[15]];
}

/** Every request is there once in the guest's statistics and once in ours, whichever process it was carried out in. */
function compareCounts(reports: readonly HopReport[]): void {
  const keys = ["reads", "readBytes", "writes", "writtenBytes", "flushes"] as const;
  for (const [i, device] of DISKS.entries()) {
    const [before, after] = [reports[0], reports[HOPS]].map(({ stats }) => counted(stats![i]));
    const ours = keys.map((key) => reports.reduce((sum, { done }) => sum + done[i][key], 0));
    expect([device, ...ours]).toEqual([device, ...after.map((value, at) => value - before[at])]);
  }
}

/** What is on the disk is what the loops say that they have written. */
async function compareContent(disk: Disk, device: string, output: string): Promise<void> {
  for (const loop of LOOPS.filter((each) => each.device === device)) {
    const rounds = Number(new RegExp(`END ${loop.name} (\\d+);`).exec(output)![1]);
    expect(rounds).toBeGreaterThan(0);
    const read = async (block: number) => readBytes(disk, (loop.first + block) * BLOCK, BLOCK);
    expect(await wrongBlocks(loop, rounds, read)).toEqual([]);
  }
}

guestTest(
  `saved in mid-I/O and gone on with in another process, ${HOPS} times: nothing is lost and nothing done twice`,
  async () => {
    const formats = ["qcow2", "vhd", "raw"] as const;
    const images = formats.map((format) => join(folder, `disk.${format}`)) as HopJob["images"];
    for (const [i, format] of formats.entries())
      await (await createFile(images[i], { format, size: 16 << 20 })).close();
    const reports = await travel(images);
    compareCounts(reports);
    const { output, log } = reports[HOPS];
    expect(log).not.toMatch(/ata\d|scsi|sd |virtio|abort|I\/O error|not a head/i);
    for (const [i, format] of formats.entries()) {
      const disk = await openFile(images[i], { format });
      await compareContent(disk, DISKS[i], output);
      await disk.close();
    }
    // What the points are worth: each has caught something, and together they have caught every disk.
    const points = reports.slice(0, HOPS).map(({ underWay }) => underWay.map(({ length }) => length));
    console.info(`requests under way on IDE, virtio, PVSCSI at each point: ${points.join(" | ")}`);
    for (const [i, device] of DISKS.entries())
      expect([device, points.some((each) => each[i] > 0)]).toEqual([device, true]);
  },
  3_600_000,
  [["gcc", "gcc"]],
);
