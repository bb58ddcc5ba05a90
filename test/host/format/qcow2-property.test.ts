import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { discard, flush, readBytes, writeBytes, writeZeroes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { openQcow2 } from "../../../src/host/format/qcow2/open.ts";
import { applySnapshot, createSnapshot, deleteSnapshot } from "../../../src/host/format/qcow2/snapshot.ts";
import { MemoryStore } from "../../../src/host/store/memory.ts";
import { KeptStore } from "../../support/disks.ts";
import { check, now } from "../../support/qcow2.ts";

const SECTOR = 512;
const GiB = 2 ** 30;
const TiB = 2 ** 40;

const KINDS = [
  "write",
  "write",
  "write",
  "read",
  "zero",
  "discard",
  "flush",
  "reopen",
  "keep",
  "back",
  "drop",
] as const;
interface Step {
  kind: (typeof KINDS)[number];
  at: number;
  offset: number;
  count: number;
}

/** Options, sectors, programs; the full tier runs ten times as many. */
const CONFIGS: [string, Record<string, unknown>, number, number][] = [
  ["small clusters", { clusterSize: 512, refcountBits: 64 }, 1000, 700],
  ["the largest clusters, 8-bit refcounts", { clusterSize: 2 ** 21, refcountBits: 8 }, 9000, 20],
  ["version 2, 64 KiB clusters", { compat: "0.10" }, (6 * GiB) / SECTOR + 5, 400],
  ["more than 2 TiB", { clusterSize: 65536 }, (3 * TiB) / SECTOR + 3, 400],
  ["subclusters", { extendedL2: true, clusterSize: 16384 }, (5 * GiB) / SECTOR + 77, 500],
];
const TIER = process.env.PARAVANE_TIER === "full" ? 10 : 1;

const program = (sectors: number) =>
  fc.array(
    fc.record<Step>({
      kind: fc.constantFrom(...KINDS),
      at: fc.constantFrom(0, 120, 1020, Math.floor(sectors / 2), sectors - 60, 2 ** 23 - 20, 2 ** 32 - 20),
      offset: fc.nat(50),
      count: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 600 })),
    }),
    { maxLength: 14 },
  );

/** Tags by sector; what is not there is zeros (or, with a parent, was zeroed). */
type Tags = Map<number, number>;

async function play(
  steps: readonly Step[],
  options: Record<string, unknown>,
  sectors: number,
  parent?: Uint8Array,
): Promise<void> {
  const store = new KeptStore();
  const backing = async () =>
    parent ? openDisk(new MemoryStore(parent), { format: "raw", readOnly: true }) : undefined;
  const named = parent ? { backingFile: "parent", backing: await backing() } : {};
  await (await createDisk(store, { format: "qcow2", size: sectors * SECTOR, ...options, ...named })).close();
  let tags: Tags = new Map();
  if (parent) for (let i = 0; i < parent.length / SECTOR; i++) tags.set(i, parent[i * SECTOR]);
  const kept: { id: string; tags: Tags }[] = [];
  let disk = await openDisk(store, { backing: await backing() });
  let next = 1;
  const verify = async (sector: number, count: number) => {
    const bytes = await readBytes(disk, sector * SECTOR, count * SECTOR);
    for (let i = 0; i < count; i++) {
      const tag = tags.get(sector + i) ?? 0;
      const part = bytes.subarray(i * SECTOR, i * SECTOR + SECTOR);
      if (part.some((byte) => byte !== tag)) throw new Error(`sector ${sector + i} holds ${part[0]}, not ${tag}`);
    }
  };
  for (const { kind, at, offset, count: wanted } of steps) {
    const sector = Math.min(Math.max(0, at + offset), sectors - 1);
    const count = Math.min(wanted, sectors - sector);
    if (kind === "write") {
      const bytes = new Uint8Array(count * SECTOR);
      for (let i = 0; i < count; i++) {
        next = (next % 250) + 1;
        bytes.fill(next, i * SECTOR, i * SECTOR + SECTOR);
        tags.set(sector + i, next);
      }
      await writeBytes(disk, sector * SECTOR, bytes);
    } else if (kind === "read") await verify(sector, count);
    else if (kind === "zero") {
      for (let i = 0; i < count; i++) tags.set(sector + i, 0);
      await writeZeroes(disk, sector * SECTOR, count * SECTOR);
    } else if (kind === "discard") {
      await discard(disk, sector * SECTOR, count * SECTOR);
      const bytes = await readBytes(disk, sector * SECTOR, count * SECTOR);
      for (let i = 0; i < count; i++) {
        if (bytes[i * SECTOR] === 0) tags.set(sector + i, 0);
      }
      await verify(sector, count);
    } else if (kind === "flush") await flush(disk);
    else {
      await disk.close();
      const image = kind === "reopen" ? undefined : now(openQcow2(store, {}));
      const chosen = kept[offset % Math.max(1, kept.length)];
      if (image && kind === "keep") {
        kept.push({ id: now(createSnapshot(image, { name: `s${kept.length}` })).id, tags: new Map(tags) });
      } else if (image && kind === "back" && chosen) {
        now(applySnapshot(image, chosen.id));
        tags = new Map(chosen.tags);
      } else if (image && kind === "drop" && chosen) {
        now(deleteSnapshot(image, chosen.id));
        kept.splice(kept.indexOf(chosen), 1);
      }
      disk = await openDisk(store, { backing: await backing() });
    }
  }
  const finish = async () => {
    for (const sector of tags.keys())
      if (sector % 16 === 0 || !tags.has(sector + 1))
        await verify(Math.max(0, sector - 1), Math.min(18, sectors - Math.max(0, sector - 1)));
    await disk.close();
  };
  await finish();
  const { corruptions, leaks, problems } = check(store);
  expect({ corruptions, leaks, problems }).toEqual({ corruptions: 0, leaks: 0, problems: [] });
  for (const snapshot of kept) {
    tags = snapshot.tags;
    disk = await openDisk(store, { readOnly: true, backing: await backing(), snapshot: snapshot.id } as object);
    await finish();
  }
}

describe.each(CONFIGS)("%s", (_name, options, sectors, programs) => {
  test("random programs read what they wrote, through reopening and snapshots", async () => {
    await fc.assert(
      fc.asyncProperty(program(sectors), (steps) => play(steps, options, sectors)),
      { numRuns: programs * TIER, seed: 4 },
    );
  });
  test("and over a parent", async () => {
    const parent = new Uint8Array(1500 * SECTOR);
    for (let i = 0; i < 1500; i++) parent.fill(i % 3 === 0 ? 0 : 251 + (i % 5), i * SECTOR, (i + 1) * SECTOR);
    await fc.assert(
      fc.asyncProperty(program(sectors), (steps) =>
        play(steps, options, sectors, parent.subarray(0, Math.min(1500, sectors) * SECTOR)),
      ),
      { numRuns: Math.ceil((programs * TIER) / 8), seed: 5 },
    );
  });
});
