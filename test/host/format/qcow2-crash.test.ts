import { deflateRawSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import type { Flow } from "../../../src/core/flow.ts";
import type { Image } from "../../../src/core/format.ts";
import { discard, flush, readBytes, writeBytes, writeZeroes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { openQcow2 } from "../../../src/host/format/qcow2/open.ts";
import { MemoryStore } from "../../../src/host/store/memory.ts";
import { afterCut, RecordingStore } from "../../support/power.ts";
import { check, now } from "../../support/qcow2.ts";
import { whole } from "../../support/qcow2-program.ts";
import { contentOf, randomFrom } from "../../support/stores.ts";
import { tier } from "../../support/tier.ts";

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
  ["lazy refcounts", { clusterSize: 4096, lazyRefcounts: true }],
];

/** What the format defines for an image that was not closed: the writer that opens it next repairs it. */
function repaired(store: MemoryStore): void {
  const dirty = (contentOf(store)[79] & 1) === 1;
  if (dirty) now(now(openQcow2(store, { openFile: () => store })).begin());
}

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
  const unit = (options.clusterSize as number) / SECTOR;
  for (let step = 0; step < 50; step++) {
    const sector = random(sectors);
    const count = Math.min(1 + random(step % 5 === 0 ? 150 : 12), sectors - sector);
    const kind = random(13);
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
    } else if (kind <= 10) {
      // A few compressed clusters: they share host clusters with what is durable already.
      const first = Math.floor(Math.min(sector, sectors - unit) / unit);
      for (let cluster = first; cluster <= first + random(3) && (cluster + 1) * unit <= sectors; cluster++) {
        const bytes = story.write(cluster * unit, unit);
        const packed = new Uint8Array(deflateRawSync(bytes, { windowBits: 12 }));
        const at = cluster * unit * SECTOR;
        if (packed.length >= bytes.length) await writeBytes(disk, at, bytes);
        else await whole(disk, (image) => image.writePacked!(at, packed));
      }
    } else if (kind === 11) {
      const snapshots = () =>
        whole(disk, function* (image) {
          const list = image.snapshots!.list();
          if (list.length < 2) yield* image.snapshots!.create({ name: "kept" });
          else yield* image.snapshots!.delete(list[0].id);
        });
      await snapshots();
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
  repaired(store);
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
    for (const seed of tier([over ? 12 : 11], [11, 12, 13, 14, 15, 16, 17, 18])) {
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

/** Changes of the whole image, one after another; `parent` is what it has then. */
const OPERATIONS: { name: string; work: (image: Image) => Flow<unknown>; v3?: boolean }[] = [
  { name: "grow", work: (image) => image.resize!(1000 * SECTOR), v3: true },
  { name: "keep", work: (image) => image.snapshots!.create({ name: "one" }) },
  { name: "keep another", work: (image) => image.snapshots!.create({ name: "two" }) },
  { name: "shrink", work: (image) => image.resize!(321 * SECTOR), v3: true },
  { name: "go back", work: (image) => image.snapshots!.apply("1") },
  { name: "drop", work: (image) => image.snapshots!.delete("1") },
  { name: "name the parent anew", work: (image) => image.setParent!({ path: "z".repeat(90), format: "raw" }) },
  { name: "empty", work: (image) => image.empty!() },
  { name: "grow far", work: (image) => image.resize!(40_000 * SECTOR), v3: true },
  { name: "drop the last", work: (image) => image.snapshots!.delete("2") },
  { name: "shrink to nearly nothing", work: (image) => image.resize!(3 * SECTOR) },
  { name: "have no parent", work: (image) => image.setParent!(undefined) },
];

describe.each(CONFIGS)("a power cut in a change of the whole image, %s", (_name, options) => {
  test("leaves the state before or the one after", async () => {
    const words = new Uint32Array(700 * 128);
    for (let i = 0; i < 700; i += 3) words.fill(1_000_000 + i, i * 128, i * 128 + 128);
    const backing = () => openDisk(new MemoryStore(new Uint8Array(words.buffer)), { format: "raw", readOnly: true });
    const store = new RecordingStore();
    const v2 = options.compat === "0.10";
    const named = { parent: { path: "parent", format: "raw" }, backing: await backing() };
    await (await createDisk(store, { format: "qcow2", size: (v2 ? 900 : 600) * SECTOR, ...options, ...named })).close();
    const random = dice(5);
    let parent = true;
    const open = async (from: MemoryStore, more = {}) =>
      openDisk(from, { ...more, ...(parent ? { backing: await backing() } : {}) });
    const content = async (left: MemoryStore) => {
      const { header } = now(openQcow2(left, { readOnly: true })).volume;
      const over = header.backingFile === undefined ? {} : { backing: await backing() };
      const disk = await openDisk(left, { readOnly: true, ...over });
      const hash = Buffer.from(await readBytes(disk, 0, Math.min(disk.size, 1200 * SECTOR))).toString("latin1");
      const kept = (disk.describe().snapshots as { name: string }[] | undefined)?.map(({ name }) => name) ?? "";
      return `${disk.size}|${header.backingFile}|${header.backingFormat}|${kept}|${hash}`;
    };
    let cuts = 0;
    for (const { name, work, v3 } of OPERATIONS) {
      if (v3 && v2) continue;
      let disk = await open(store);
      for (let i = 0; i < 8; i++) {
        const at = random(disk.size / SECTOR);
        const count = Math.min(1 + random(60), disk.size / SECTOR - at);
        await writeBytes(disk, at * SECTOR, new Uint8Array(count * SECTOR).fill(1 + random(250)));
      }
      await disk.close();
      disk = await open(store);
      store.steps.push({ kind: "flush" });
      const from = store.steps.length;
      const before = await content(afterCut(store.steps, from));
      await whole(disk, work);
      await disk.close();
      if (name === "have no parent") parent = false;
      const after = await content(afterCut(store.steps, store.steps.length));
      expect(after === before, name).toBe(false);
      const { steps } = store;
      const left: [string, MemoryStore][] = [];
      for (let count = from; count <= steps.length; count++) {
        left.push([`${count - from} changes`, afterCut(steps, count)]);
        for (const seed of tier([], [count, count + 1, count + 2])) {
          left.push([`${count - from} changes, some lost`, afterCut(steps, count, randomFrom(seed))]);
        }
        // Each change alone is lost, out of those that nothing had made durable yet.
        if (steps[count]?.kind === "flush" || count === steps.length) continue;
        let end = count + 1;
        while (end < steps.length && steps[end].kind !== "flush") end++;
        const others = [...steps.slice(0, count), ...steps.slice(count + 1, end)];
        left.push([`${end - from} changes without number ${count - from}`, afterCut(others, others.length)]);
      }
      let seenBefore = 0;
      for (const [which, bytes] of left) {
        const found = await content(bytes);
        expect([before, after].includes(found), `${name}, after ${which}`).toBe(true);
        if (found === before) seenBefore++;
        repaired(bytes);
        expect(check(bytes), `${name}, after ${which}`).toMatchObject({ corruptions: 0 });
        if (options.lazyRefcounts) expect((await content(bytes)) === found).toBe(true);
      }
      cuts += left.length;
      expect(seenBefore, name).toBeGreaterThan(0);
    }
    expect(cuts).toBeGreaterThan(150);
  });
});
