import { closeSync, mkdtempSync, openSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BlockRequest, Op, Status } from "../src/core/block.ts";
import { writeBytes } from "../src/host/block/bytes.ts";
import type { Disk } from "../src/host/block/open.ts";
import { createFile, openFile } from "../src/node.ts";
import { randomFrom } from "./fixture/random.ts";
import { table } from "./tables.ts";

/** What reading through a format costs, against the same bytes through a raw image, in one process. */
export interface FormatCost {
  name: string;
  /** Nanoseconds per 4 KiB, random, one and 32 a batch; per MiB, in order. Medians of the rounds. */
  single: number;
  batch: number;
  sequential: number;
  /** Each of those over raw's of the same round, the median. */
  ratios: [single: number, batch: number, sequential: number];
}

const SIZE = 256 * 2 ** 20;
const MiB = 2 ** 20;
const KINDS: [name: string, options: Record<string, unknown>][] = [
  ["raw", { format: "raw" }],
  ["vhd, dynamic", { format: "vhd" }],
  ["vhdx, dynamic", { format: "vhdx" }],
  ["qcow2", { format: "qcow2" }],
  ["qcow2, subclusters", { format: "qcow2", extendedL2: true }],
];

/** Whole images in the host's page cache, so that nothing but copying hides the mapping. */
export async function formatBenches(quick: boolean): Promise<FormatCost[]> {
  const folder = mkdtempSync(join(tmpdir(), "paravane-bench-"));
  const disks: Disk[] = [];
  try {
    for (const [i, [, options]] of KINDS.entries()) {
      const path = join(folder, String(i));
      const disk = await createFile(path, { size: SIZE, ...options } as never);
      const bytes = new Uint8Array(MiB);
      const random = randomFrom(1);
      for (let at = 0; at < SIZE; at += MiB) {
        for (let byte = 0; byte < MiB; byte += 512) bytes[byte] = 1 + random(255);
        await writeBytes(disk, at, bytes);
      }
      await disk.close();
      disks.push(await openFile(path, { format: options.format as string, readOnly: true }));
    }
    const plain = openSync(join(folder, "0"), "r");
    try {
      return measure(disks, plain, quick ? 5 : 21);
    } finally {
      closeSync(plain);
    }
  } finally {
    for (const disk of disks) await disk.close();
    rmSync(folder, { recursive: true });
  }
}

type Work = (disk: Disk) => number;

function measure(disks: readonly Disk[], plain: number, rounds: number): FormatCost[] {
  const works: Work[] = [batches(1, 4096, 8192), batches(32, 4096, 8192), batches(1, MiB, SIZE / MiB)];
  // [work][disk] → times of the rounds; the last "disk" is the host's file without us.
  const times = works.map(() => [...disks, null].map(() => [] as number[]));
  for (let round = -2; round < rounds; round++) {
    for (const [w, work] of works.entries()) {
      for (const [d, disk] of disks.entries()) {
        const spent = work(disk);
        if (round >= 0) times[w][d].push(spent);
      }
      const spent = w === 2 ? readPlain(plain, MiB, SIZE / MiB) : readPlain(plain, 4096, 8192);
      if (round >= 0) times[w][disks.length].push(spent);
    }
  }
  const names = [...KINDS.map(([name]) => name), "(readSync, no disk)"];
  return names.map((name, d) => {
    const [single, batch, sequential] = works.map((_, w) => median(times[w][d]));
    const ratios = works.map((_, w) => median(times[w][d].map((time, i) => time / times[w][0][i])));
    return { name, single, batch, sequential, ratios: ratios as [number, number, number] };
  });
}

/** Nanoseconds per request of `count` reads, `depth` a batch; random when smaller than a MiB. */
function batches(depth: number, length: number, count: number): Work {
  const memory = new Uint8Array(depth * length);
  const batch = Array.from({ length: depth }, (_, i) => {
    const request = Object.assign(new BlockRequest(), { op: Op.Read, length, memory });
    request.segments.push(i * length, length);
    return request;
  });
  return (disk) => {
    const random = randomFrom(7);
    const start = process.hrtime.bigint();
    for (let done = 0; done < count; done += depth) {
      for (let i = 0; i < depth; i++) {
        batch[i].offset = length < MiB ? random(SIZE / length) * length : (done + i) * length;
      }
      if (disk.submit(batch)) throw new Error("a file that is synchronous was waited for");
      if (batch[0].status !== Status.Ok) throw batch[0].error;
    }
    return Number(process.hrtime.bigint() - start) / count;
  };
}

function readPlain(file: number, length: number, count: number): number {
  const memory = new Uint8Array(length);
  const random = randomFrom(7);
  const start = process.hrtime.bigint();
  for (let done = 0; done < count; done++) {
    const position = length < MiB ? random(SIZE / length) * length : done * length;
    readSync(file, memory, 0, length, position);
  }
  return Number(process.hrtime.bigint() - start) / count;
}

function median(list: readonly number[]): number {
  return [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
}

export function formatTable(costs: readonly FormatCost[]): string {
  const per = (ns: number) => (ns >= 1e5 ? `${(ns / 1e3).toFixed(0)} µs` : `${ns.toFixed(0)} ns`);
  const rows = costs.map(({ name, single, batch, sequential, ratios }) => [
    name,
    ...[single, batch, sequential].flatMap((ns, i) => [per(ns), `${ratios[i].toFixed(2)}×`]),
  ]);
  const head = ["reads through a format", "4 KiB, depth 1", "of raw", "depth 32", "of raw", "1 MiB in order", "of raw"];
  return table([head, ...rows]);
}
