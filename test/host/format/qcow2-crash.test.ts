import { describe, expect, test } from "vitest";
import type { Flow } from "../../../src/core/flow.ts";
import { discard, flush, readBytes, writeBytes, writeZeroes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { openQcow2 } from "../../../src/host/format/qcow2/open.ts";
import { applySnapshot, createSnapshot, deleteSnapshot } from "../../../src/host/format/qcow2/snapshot.ts";
import { MemoryStore } from "../../../src/host/store/memory.ts";
import { afterCut, RecordingStore } from "../../support/power.ts";
import { check, now } from "../../support/qcow2.ts";
import { randomFrom } from "../../support/stores.ts";

const SECTOR = 512;

/** Like a file: freed space keeps what was in it. */
class FileLike extends RecordingStore {
  override readonly releases = false;
}

/** Whole numbers below what is asked for. */
function dice(seed: number): (below: number) => number {
  const random = randomFrom(seed);
  return (below) => Math.floor(random() * below);
}

/** What a sector may hold, by how many store changes were made: its tag, from that change on, until a flush at `until`. */
interface Fact {
  sector: number;
  tag: number;
  from: number;
}

/** A program that ran: every change of the store, and what the guest may find after each. */
class Story {
  readonly store = new FileLike();
  readonly facts: Fact[] = [];
  /** Store changes after which all that was written before is durable: [changes, facts]. */
  readonly durable: [number, number][] = [[0, 0]];
  /** Whole-disk changes: after `from` store changes the disk may be as `tags` says, after `until` it must be. */
  readonly jumps: { from: number; until: number; tags: Uint32Array }[] = [];
  readonly tags: Uint32Array;
  #next = 1;

  constructor(sectors: number) {
    this.tags = new Uint32Array(sectors);
  }

  write(sector: number, count: number): Uint8Array {
    const words = new Uint32Array((count * SECTOR) / 4);
    for (let i = 0; i < count; i++) {
      this.#set(sector + i, this.#next);
      words.fill(this.#next++, i * 128, i * 128 + 128);
    }
    return new Uint8Array(words.buffer);
  }
  zero(sector: number, count: number): void {
    for (let i = 0; i < count; i++) this.#set(sector + i, 0);
  }
  #set(sector: number, tag: number): void {
    this.facts.push({ sector, tag, from: this.store.steps.length });
    this.tags[sector] = tag;
  }
  flushed(): void {
    this.durable.push([this.store.steps.length, this.facts.length]);
  }

  /** Tags that each sector may have after `count` changes; null for a sector that only one is right for. */
  allowed(count: number): Map<number, Set<number>> {
    let facts = 0;
    for (const [changes, known] of this.durable) if (changes <= count) facts = known;
    const sure = new Uint32Array(this.tags.length);
    for (const { sector, tag } of this.facts.slice(0, facts)) sure[sector] = tag;
    const sets = new Map<number, Set<number>>();
    sure.forEach((tag, sector) => {
      sets.set(sector, new Set([tag]));
    });
    for (const { sector, tag, from } of this.facts.slice(facts)) if (from <= count) sets.get(sector)!.add(tag);
    return sets;
  }
}

const CONFIGS: [string, Record<string, unknown>][] = [
  ["small clusters, wide refcounts", { clusterSize: 512, refcountBits: 64 }],
  ["4 KiB clusters", { clusterSize: 4096 }],
  ["version 2", { clusterSize: 4096, compat: "0.10" }],
  ["subclusters", { clusterSize: 16384, extendedL2: true }],
];

async function tell(options: Record<string, unknown>, seed: number, parent?: Uint8Array): Promise<Story> {
  const sectors = 700;
  const story = new Story(sectors);
  const random = dice(seed);
  const { store } = story;
  const backing = () =>
    parent ? openDisk(new MemoryStore(parent, { readOnly: true }), { format: "raw", readOnly: true }) : undefined;
  const size = sectors * SECTOR;
  const named = parent ? { backingFile: "parent", backing: await backing() } : {};
  await (await createDisk(store, { format: "qcow2", size, ...options, ...named })).close();
  store.steps.push({ kind: "flush" });
  if (parent) {
    const words = new Uint32Array(parent.buffer);
    for (let i = 0; i < sectors; i++) if (words[i * 128]) story.facts.push({ sector: i, tag: words[i * 128], from: 0 });
    for (const { sector, tag } of story.facts) story.tags[sector] = tag;
  }
  story.flushed();
  let disk = await openDisk(store, { backing: await backing() });
  for (let step = 0; step < 40; step++) {
    const sector = random(sectors);
    const count = Math.min(1 + random(step % 5 === 0 ? 150 : 12), sectors - sector);
    const kind = random(10);
    if (kind < 6) await writeBytes(disk, sector * SECTOR, story.write(sector, count));
    else if (kind === 6) {
      story.zero(sector, count);
      await writeZeroes(disk, sector * SECTOR, count * SECTOR);
    } else if (kind === 7) {
      // A discarded sector may be either; what it is not, is anything else.
      story.zero(sector, count);
      await writeZeroes(disk, sector * SECTOR, count * SECTOR);
      await discard(disk, sector * SECTOR, count * SECTOR);
    } else if (kind === 8) {
      await flush(disk);
      story.flushed();
    } else {
      await disk.close();
      story.flushed();
      disk = await openDisk(store, { backing: await backing() });
    }
  }
  await disk.close();
  story.flushed();
  return story;
}

/** Why what is left after a cut is wrong, or null. */
async function judge(story: Story, store: MemoryStore, count: number, parent?: Uint8Array): Promise<string | null> {
  const report = check(store);
  if (report.corruptions > 0) return JSON.stringify(report.problems.filter(({ kind }) => kind !== "leak").slice(0, 3));
  const backing = parent && (await openDisk(new MemoryStore(parent), { format: "raw", readOnly: true }));
  const disk = await openDisk(store, { format: "qcow2", backing });
  const words = new Uint32Array((await readBytes(disk, 0, disk.size)).slice().buffer);
  for (const [sector, tags] of story.allowed(count)) {
    const seen = words[sector * 128];
    if (!tags.has(seen)) return `sector ${sector} holds ${seen}, not ${[...tags].join(" or ")}`;
    if (words.subarray(sector * 128, sector * 128 + 128).some((word) => word !== seen))
      return `sector ${sector} is torn`;
  }
  return null;
}

describe.each(CONFIGS)("a power cut, %s", (_name, options) => {
  test.each([
    ["alone", false],
    ["over a parent", true],
  ])("%s: nothing flushed is lost, at most leaks are left", async (_, over) => {
    let parent: Uint8Array | undefined;
    if (over) {
      const words = new Uint32Array(500 * 128);
      for (let i = 0; i < 500; i += 2) words.fill(1_000_000 + i, i * 128, i * 128 + 128);
      parent = new Uint8Array(words.buffer);
    }
    let cuts = 0;
    for (const seed of over ? [11] : [11, 12]) {
      const story = await tell(options, seed, parent);
      const { steps } = story.store;
      const random = randomFrom(seed + 100);
      const first = steps.findIndex(({ kind }) => kind === "flush") + 1;
      // Before the header is there, it is no image yet.
      const start = Math.max(first, steps.findIndex((step) => step.kind === "write" && step.position === 0) + 2);
      for (let count = start; count <= steps.length; count++) {
        expect(await judge(story, afterCut(steps, count), count, parent), `seed ${seed}, ${count} changes`).toBeNull();
        expect(
          await judge(story, afterCut(steps, count, random), count, parent),
          `seed ${seed}, ${count} shuffled`,
        ).toBeNull();
        cuts += 2;
      }
    }
    expect(cuts).toBeGreaterThan(150);
  });
});

describe.each(CONFIGS)("a power cut in a snapshot operation, %s", (_name, options) => {
  test("leaves the state before or the one after", async () => {
    const store = new RecordingStore();
    const size = 600 * SECTOR;
    await (await createDisk(store, { format: "qcow2", size, ...options })).close();
    const random = dice(5);
    const scribble = async () => {
      const disk = await openDisk(store);
      for (let i = 0; i < 12; i++) {
        const at = random(500);
        await writeBytes(disk, at * SECTOR, new Uint8Array((1 + random(60)) * SECTOR).fill(1 + random(250)));
      }
      await disk.close();
    };
    const content = async (left: MemoryStore) => {
      const disk = await openDisk(left, { readOnly: true });
      const hash = Buffer.from(await readBytes(disk, 0, size)).toString("latin1");
      return `${(disk.describe().snapshots as { name: string }[] | undefined)?.map(({ name }) => name) ?? ""}|${hash}`;
    };
    const operations: ((name: string) => Flow<unknown>)[] = [
      (name: string) => createSnapshot(open(), { name }),
      (name: string) => createSnapshot(open(), { name: `${name}2` }),
      () => applySnapshot(open(), "1"),
      () => deleteSnapshot(open(), "1"),
      () => deleteSnapshot(open(), "2"),
    ];
    const open = () => now(openQcow2(store, {}));
    for (const operation of operations) {
      await scribble();
      store.steps.push({ kind: "flush" });
      const from = store.steps.length;
      const before = await content(afterCut(store.steps, store.steps.length));
      now(operation("kept"));
      const after = await content(afterCut(store.steps, store.steps.length));
      expect(after === before).toBe(false);
      let seenBefore = 0;
      for (let count = from; count <= store.steps.length; count++) {
        for (const shuffle of [undefined, randomFrom(count)]) {
          const bytes = afterCut(store.steps, count, shuffle);
          expect(check(bytes).corruptions).toBe(0);
          const found = await content(bytes);
          expect([before, after].includes(found), `after ${count - from} changes`).toBe(true);
          if (found === before) seenBefore++;
        }
      }
      expect(seenBefore).toBeGreaterThan(0);
    }
  });
});
