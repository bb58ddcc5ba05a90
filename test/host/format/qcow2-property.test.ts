import fc from "fast-check";
import { describe, test } from "vitest";
import { openDisk } from "../../../src/host/block/open.ts";
import { MemoryStore } from "../../../src/host/store/memory.ts";
import { play, programs, SECTOR } from "../../support/qcow2-program.ts";
import { tier } from "../../support/tier.ts";

const GiB = 2 ** 30;
const TiB = 2 ** 40;

/** Options, sectors, programs in CI; the nightly tier runs ten times as many. */
const CONFIGS: [string, Record<string, unknown>, number, number][] = [
  ["small clusters", { clusterSize: 512, refcountBits: 64 }, 1000, 600],
  ["the largest clusters, 8-bit refcounts", { clusterSize: 2 ** 21, refcountBits: 8 }, 9000, 20],
  ["version 2, 64 KiB clusters", { compat: "0.10" }, (6 * GiB) / SECTOR + 5, 350],
  ["more than 2 TiB, zstd", { compressionType: "zstd" }, (3 * TiB) / SECTOR + 3, 350],
  ["subclusters", { extendedL2: true, clusterSize: 16384 }, (5 * GiB) / SECTOR + 77, 450],
  ["4 KiB clusters, lazy 32-bit refcounts", { clusterSize: 4096, refcountBits: 32, lazyRefcounts: true }, 20011, 300],
];

const parent = new Uint8Array(1500 * SECTOR);
for (let i = 0; i < 1500; i++) parent.fill(i % 3 === 0 ? 0 : 251 + (i % 5), i * SECTOR, (i + 1) * SECTOR);

describe.each(CONFIGS)("%s", (_name, options, sectors, count) => {
  test("random programs read what they wrote, through reopening, resizing and snapshots", async () => {
    await fc.assert(
      fc.asyncProperty(programs(sectors), async (steps) => void (await play(steps, options, sectors))),
      { numRuns: tier(count, count * 10), seed: 4 },
    );
  });
  test("and over a parent, which may be longer", async () => {
    const backing = () => openDisk(new MemoryStore(parent), { format: "raw", readOnly: true });
    await fc.assert(
      fc.asyncProperty(programs(sectors), async (steps) => void (await play(steps, options, sectors, backing))),
      { numRuns: Math.ceil(tier(count, count * 10) / 6), seed: 5 },
    );
  });
});
