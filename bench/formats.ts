import { closeSync, mkdtempSync, openSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BlockRequest, Op, Status } from "../src/core/block.ts";
import { writeBytes } from "../src/host/block/bytes.ts";
import type { Disk } from "../src/host/block/open.ts";
import { createFile, openFile } from "../src/node.ts";
import { randomFrom } from "./fixture/random.ts";
import { table } from "./tables.ts";

/** What reading through a format costs, in one process, everything in the host's page cache. Medians of the rounds. */
export interface FormatCost {
  name: string;
  /** For 4 KiB at random, one and 32 a batch, and for 1 MiB in order. */
  works: {
    nanoseconds: number;
    /** Over the same bytes from a raw image. */
    ofRaw: number;
    /** Over the same places of the image's own file, taken for a raw image: what the mapping alone costs. */
    ofOwnFile: number;
  }[];
}

const SIZE = 256 * 2 ** 20;
const MiB = 2 ** 20;
const KINDS: [name: string, options: Record<string, unknown>][] = [
  ["raw", { format: "raw" }],
  ["vhd, fixed", { format: "vhd", subformat: "fixed" }],
  ["vhd, dynamic", { format: "vhd" }],
  ["vhdx, dynamic", { format: "vhdx" }],
  ["qcow2", { format: "qcow2" }],
  ["qcow2, subclusters", { format: "qcow2", extendedL2: true }],
];

/** @param place where the files go: 2 GB */
export async function formatBenches(quick: boolean, place = tmpdir()): Promise<FormatCost[]> {
  const folder = mkdtempSync(join(place, "paravane-bench-"));
  const subjects: Subject[] = [];
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
      const image = await openFile(path, { format: options.format as string, readOnly: true });
      const file = await openFile(path, { format: "raw", readOnly: true });
      subjects.push({ image, file, positions: await positionsOf(image) });
    }
    const plain = openSync(join(folder, "0"), "r");
    try {
      return measure(subjects, plain, quick ? 5 : 21);
    } finally {
      closeSync(plain);
    }
  } finally {
    for (const { image, file } of subjects) await Promise.all([image.close(), file.close()]);
    rmSync(folder, { recursive: true });
  }
}

interface Subject {
  image: Disk;
  /** The same file as a raw image. */
  file: Disk;
  /** Where in it each 4 KiB of the image is. */
  positions: Float64Array;
}

async function positionsOf(image: Disk): Promise<Float64Array> {
  const positions = new Float64Array(SIZE / 4096);
  for (let at = 0; at < SIZE; ) {
    const [{ position, length }] = await image.places(at, SIZE - at);
    for (let done = 0; done < length; done += 4096) positions[(at + done) / 4096] = position! + done;
    at += length;
  }
  return positions;
}

/** Nanoseconds per request; with positions, of those. */
type Work = (disk: Disk, positions?: Float64Array) => number;

function measure(subjects: readonly Subject[], plain: number, rounds: number): FormatCost[] {
  const works: Work[] = [batches(1, 4096, 8192), batches(32, 4096, 8192), batches(1, MiB, SIZE / MiB)];
  // [work][subject] → times of the rounds; one more subject is the host's file without us.
  const none = () => works.map(() => [...subjects, null].map((): number[] => []));
  const [through, own] = [none(), none()];
  for (let round = -2; round < rounds; round++) {
    for (const [w, work] of works.entries()) {
      for (const [s, { image, file, positions }] of subjects.entries()) {
        const [mapped, unmapped] = [work(image), work(file, positions)];
        if (round < 0) continue;
        through[w][s].push(mapped);
        own[w][s].push(unmapped);
      }
      const spent = w === 2 ? readPlain(plain, MiB, SIZE / MiB) : readPlain(plain, 4096, 8192);
      if (round < 0) continue;
      through[w][subjects.length].push(spent);
      own[w][subjects.length].push(spent);
    }
  }
  return [...KINDS.map(([name]) => name), "(readSync, no disk)"].map((name, s) => ({
    name,
    works: works.map((_, w) => ({
      nanoseconds: median(through[w][s]),
      ofRaw: median(through[w][s].map((time, i) => time / through[w][0][i])),
      ofOwnFile: median(through[w][s].map((time, i) => time / own[w][s][i])),
    })),
  }));
}

/** `count` reads, `depth` a batch; random when smaller than a MiB. */
function batches(depth: number, length: number, count: number): Work {
  const memory = new Uint8Array(depth * length);
  const batch = Array.from({ length: depth }, (_, i) => {
    const request = Object.assign(new BlockRequest(), { op: Op.Read, length, memory });
    request.segments.push(i * length, length);
    return request;
  });
  const identity = Float64Array.from({ length: SIZE / 4096 }, (_, i) => i * 4096);
  return (disk, positions = identity) => {
    const random = randomFrom(7);
    const start = process.hrtime.bigint();
    for (let done = 0; done < count; done += depth) {
      for (let i = 0; i < depth; i++) {
        const index = length < MiB ? random(SIZE / length) : ((done + i) * length) / 4096;
        batch[i].offset = positions[index];
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
  const rows = costs.map(({ name, works }) => [
    name,
    ...works.flatMap(({ nanoseconds, ofRaw, ofOwnFile }) => [
      per(nanoseconds),
      `${ofRaw.toFixed(2)}×`,
      `${ofOwnFile.toFixed(2)}×`,
    ]),
  ]);
  const ratios = ["of raw", "of own file"];
  const head = [
    "reads through a format",
    "4 KiB, one",
    ...ratios,
    "32 a batch",
    ...ratios,
    "1 MiB in order",
    ...ratios,
  ];
  return table([head, ...rows]);
}
