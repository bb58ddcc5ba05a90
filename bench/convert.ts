import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mixedFile } from "./fixture/mixed.ts";
import { table } from "./tables.ts";

// `npm run bench -- convert`: whole commands, as a person runs them, qemu-img's and ours in turn.

export interface Conversion {
  name: string;
  /** Seconds, medians. */
  seconds: Record<string, number>;
  /** Ours over qemu-img's of the same round, the median, the least and the most. */
  ratio: [median: number, least: number, most: number];
  /** MiB, the most that ours took in any round. */
  peak: number;
}

const CLI = "dist/src/cli/main.js";
type Job = [from: string, to: string, options?: string[]];
const JOBS: Job[] = [
  ["raw", "raw"],
  ["raw", "qcow2"],
  ["qcow2", "raw"],
  ["vpc", "qcow2"],
  ["qcow2", "vpc"],
  ["vhdx", "qcow2"],
];
/** qemu-img with all it has: 16 at a time, in any order. */
const MANY = ["-m", "16", "-W"];
const STREAM = ["-o", "subformat=streamOptimized"];
const PACKED: Job[] = [
  ["raw", "qcow2", ["-c", ...MANY]],
  ["raw", "qcow2", ["-c", ...MANY, "-o", "compression_type=zstd"]],
  ["zlib.qcow2", "raw", MANY],
  ["zstd.qcow2", "raw", MANY],
  ["raw", "vmdk"],
  ["sparse.vmdk", "raw"],
  ["raw", "vmdk", STREAM],
  ["stream.vmdk", "raw"],
];
/** How the sources are made that these read. */
const SOURCES: Record<string, string[]> = {
  "zlib.qcow2": ["-c", ...MANY, "-O", "qcow2"],
  "zstd.qcow2": ["-c", ...MANY, "-O", "qcow2", "-o", "compression_type=zstd"],
  "sparse.vmdk": ["-O", "vmdk"],
  "stream.vmdk": ["-O", "vmdk", ...STREAM],
};

/** @param place where the files go: 10 GB, or 2 when quick @throws Error when qemu-img is missing, or finds what we made different */
export async function convertBenches(quick: boolean, place = tmpdir()): Promise<Conversion[]> {
  return inFolder(quick, place, async (folder, source) => {
    for (const format of ["qcow2", "vpc", "vhdx"]) {
      const exact = format === "vpc" ? ["-o", "force_size=on"] : [];
      execFileSync("qemu-img", ["convert", "-f", "raw", "-O", format, ...exact, source("raw"), source(format)]);
    }
    const results: Conversion[] = [];
    for (const job of JOBS) results.push(await convert(folder, source, job, quick ? 3 : 9));
    // What is left when there is nothing to copy: how long the programs take to start.
    rmSync(source("raw"));
    mixedFile(source("raw"), 2 ** 12);
    results.push({ ...(await convert(folder, source, ["raw", "raw"], 9)), name: "4 KiB, raw → raw" });
    return results;
  });
}

/** The same for compressed images and VMDKs, written and read: those whose name has all the words. */
export async function packedBenches(quick: boolean, place = tmpdir(), words: string[] = []): Promise<Conversion[]> {
  const jobs = PACKED.filter((job) => words.every((word) => nameOf(job).includes(word)));
  return inFolder(quick, place, async (folder, source) => {
    for (const from of new Set(jobs.map(([from]) => from))) {
      if (SOURCES[from])
        execFileSync("qemu-img", ["convert", "-f", "raw", ...SOURCES[from], source("raw"), source(from)]);
    }
    const results: Conversion[] = [];
    for (const job of jobs) results.push(await convert(folder, source, job, quick ? 2 : 5));
    return results;
  });
}

function nameOf([from, to, options = []]: Job): string {
  const [codec] = ["zstd", "streamOptimized"].filter((word) => options.join().includes(word));
  return `${from} → ${to}${codec ? ` (${codec})` : options.includes("-c") ? " (zlib)" : ""}`;
}

async function inFolder<T>(
  quick: boolean,
  place: string,
  work: (folder: string, source: (format: string) => string) => Promise<T>,
): Promise<T> {
  const folder = mkdtempSync(join(place, "paravane-bench-"));
  try {
    const source = (format: string) => join(folder, `source.${format}`);
    mixedFile(source("raw"), quick ? 2 ** 28 : 2 ** 31);
    return await work(folder, source);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function convert(
  folder: string,
  source: (format: string) => string,
  job: Job,
  rounds: number,
): Promise<Conversion> {
  const [from, to, options = []] = job;
  const target = join(folder, "target");
  const exact = to === "vpc" ? ["-o", "force_size=on"] : [];
  const format = from.split(".").at(-1)!;
  const args = ["convert", "-f", format, "-O", to, ...exact, ...options, source(from), target];
  const commands: Record<string, [string, ...string[]]> = {
    "qemu-img": ["qemu-img", ...args],
    paravane: [process.execPath, CLI, "img", ...args],
    "cp --sparse": ["cp", "--sparse=always", source(from), target],
  };
  const times: Record<string, number[]> = {};
  let peak = 0;
  const names = Object.keys(commands);
  for (let round = -1; round < rounds; round++) {
    // Each is first in its turn: who follows whom decides which memory the system has at hand.
    for (const i of names.keys()) {
      const name = names[(i + round + 1) % names.length];
      const command = commands[name];
      rmSync(target, { force: true });
      // Dirty pages of the run before would slow this one down.
      execFileSync("sync");
      const spent = await timed(command);
      if (round >= 0) {
        times[name] = [...(times[name] ?? []), spent.seconds];
        if (name === "paravane") peak = Math.max(peak, spent.peak);
      } else if (name === "paravane") {
        execFileSync("qemu-img", ["compare", "-f", to, "-F", format, target, source(from)]);
      }
    }
  }
  const ratios = times.paravane.map((time, i) => time / times["qemu-img"][i]).sort((a, b) => a - b);
  const seconds = Object.fromEntries(Object.entries(times).map(([name, list]) => [name, median(list)]));
  return { name: nameOf(job), seconds, ratio: [median(ratios), ratios[0], ratios[rounds - 1]], peak };
}

/** Runs it to its end: seconds, and MiB of memory at the most. @throws Error when it fails */
function timed([command, ...args]: [string, ...string[]]): Promise<{ seconds: number; peak: number }> {
  return new Promise((resolve, reject) => {
    const start = process.hrtime.bigint();
    const child = spawn(command, args, { stdio: ["ignore", "ignore", "inherit"] });
    let peak = 0;
    const watch = setInterval(() => {
      peak = Math.max(peak, highWater(child.pid!));
    }, 20);
    child.once("error", reject);
    child.once("exit", (code) => {
      const seconds = Number(process.hrtime.bigint() - start) / 1e9;
      clearInterval(watch);
      if (code === 0) resolve({ seconds, peak });
      else reject(new Error(`${command} ${args.join(" ")} ended with ${code}`));
    });
  });
}

/** "VmHWM", the most memory it has had resident, in MiB; 0 where the system does not say. */
function highWater(pid: number): number {
  try {
    return Number(/VmHWM:\s*(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024;
  } catch {
    return 0;
  }
}

function median(list: readonly number[]): number {
  return [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
}

export function convertTable(conversions: readonly Conversion[]): string {
  const rows = conversions.map(({ name, seconds, ratio, peak }) => [
    name,
    ...["qemu-img", "paravane", "cp --sparse"].map((who) => seconds[who].toFixed(2)),
    `${ratio[0].toFixed(2)}×`,
    `${ratio[1].toFixed(2)}–${ratio[2].toFixed(2)}`,
    peak.toFixed(0),
  ]);
  const head = ["seconds", "qemu-img", "paravane", "cp", "of qemu-img", "least–most", "peak MiB"];
  return table([head, ...rows]);
}
