import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { readBytes, writeBytes } from "../src/host/block/bytes.ts";
import { engineOf } from "../src/host/image/whole.ts";
import { createFile, type Disk, openFile } from "../src/node.ts";
import type { CoreMapper } from "../src/wasm/map.ts";
import { randomFrom } from "./fixture/random.ts";
import { table } from "./tables.ts";

// `npm run bench -- large`: the largest disks of each format, written to all over. How soon they open, what they hold in
// memory, and how often 4 KiB at random find their metadata in the cache.

export interface LargeDisk {
  name: string;
  /** Milliseconds, the median. */
  open: number;
  /** MiB: metadata caches and all other memory after opening; and the most after the reads and writes. */
  opened: number;
  most: number;
  /** Hits of the metadata cache over all lookups, 0 to 1: over all of the disk, and over 8 GiB of it. */
  hits: { all: number; near: number };
  /** Microseconds for each 4 KiB, with what it reads of the metadata. */
  micros: { all: number; near: number };
}

const GiB = 2 ** 30;
const MiB = 2 ** 20;
const DISKS: [name: string, size: number, options: Record<string, unknown>][] = [
  ["qcow2, 64 TiB", 2 ** 46, { format: "qcow2" }],
  ["qcow2, 64 TiB, clusters of 2 MiB", 2 ** 46, { format: "qcow2", clusterSize: 2 * MiB }],
  ["VHD, 2040 GiB", 2040 * GiB, { format: "vhd" }],
  ["VHDX, 64 TiB", 2 ** 46, { format: "vhdx" }],
];

/** @param place where the files go: 3 GB of real space, and more that is holes */
export async function largeBenches(quick: boolean, place = tmpdir()): Promise<LargeDisk[]> {
  const folder = mkdtempSync(join(place, "paravane-bench-"));
  try {
    const results: LargeDisk[] = [];
    for (const [name, size, options] of DISKS)
      results.push(await large(folder, name, size, options, quick ? 500 : 5000));
    return results;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function large(
  folder: string,
  name: string,
  size: number,
  options: Record<string, unknown>,
  count: number,
): Promise<LargeDisk> {
  const path = join(folder, "disk");
  const made = await createFile(path, { size, ...options, overwrite: true } as never);
  const random = randomFrom(1);
  const places = Array.from({ length: count }, () => Math.floor((random(2 ** 32) / 2 ** 32) * (size / 4096)) * 4096);
  const bytes = new Uint8Array(4096).fill(1);
  for (const at of places) await writeBytes(made, at, bytes);
  await made.close();

  const times: number[] = [];
  for (let i = 0; i < 21; i++) {
    const start = performance.now();
    const disk = await openFile(path, { format: options.format as string });
    times.push(performance.now() - start);
    await disk.close();
  }
  const before = inUse();
  const disk = await openFile(path, { format: options.format as string });
  const caches = (engineOf(disk).image.mapper as CoreMapper).cacheStatistics.bytes;
  const opened = inUse() - before + caches;
  const all = await lookups(disk, places, bytes);
  const start = places[0];
  const near = Array.from({ length: count }, () => Math.min(start + random((8 * GiB) / 4096) * 4096, size - 4096));
  // Once to bring it in.
  await lookups(
    disk,
    near.filter((_, i) => i % 8 === 0),
    undefined,
  );
  const close = await lookups(disk, near, undefined);
  const most = inUse() - before + caches;
  await disk.close();
  rmSync(path);
  return {
    name,
    open: times.sort((a, b) => a - b)[10],
    opened: opened / MiB,
    most: most / MiB,
    hits: { all: all.rate, near: close.rate },
    micros: { all: all.micros, near: close.micros },
  };
}

/** Reads 4 KiB at each place, and writes every eighth if there is something to write. */
async function lookups(disk: Disk, places: readonly number[], bytes: Uint8Array | undefined) {
  const mapper = engineOf(disk).image.mapper as CoreMapper;
  const before = mapper.cacheStatistics;
  const start = performance.now();
  for (const [i, at] of places.entries()) {
    if (bytes && i % 8 === 0) await writeBytes(disk, at, bytes);
    else await readBytes(disk, at, 4096);
  }
  const spent = performance.now() - start;
  const { hits, misses } = mapper.cacheStatistics;
  const [hit, missed] = [hits - before.hits, misses - before.misses];
  return { rate: hit / (hit + missed), micros: (spent / places.length) * 1000 };
}

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

/** Bytes of heap and buffers that something still holds; without WebAssembly memories, which are given back late. */
function inUse(): number {
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

export function largeTable(disks: readonly LargeDisk[]): string {
  const rows = disks.map(({ name, open, opened, most, hits, micros }) => [
    name,
    `${open.toFixed(1)} ms`,
    opened.toFixed(1),
    most.toFixed(1),
    ...[hits.all, hits.near].map((rate) => `${(rate * 100).toFixed(0)} %`),
    ...[micros.all, micros.near].map((time) => time.toFixed(1)),
  ]);
  return table([
    ["large disks", "open", "MiB open", "MiB most", "hits, all", "hits, 8 GiB", "µs, all", "µs, 8 GiB"],
    ...rows,
  ]);
}
