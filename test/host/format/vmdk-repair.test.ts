import { expect, test } from "vitest";
import { run } from "../../../src/core/flow.ts";
import type { CheckReport } from "../../../src/core/format.ts";
import { SegmentList } from "../../../src/core/segments.ts";
import { readBytes, writeBytes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { vmdk } from "../../../src/host/format/vmdk/index.ts";
import type { MemoryStore } from "../../../src/host/store/memory.ts";
import { KeptStore } from "../../support/disks.ts";
import { afterCut, RecordingStore } from "../../support/power.ts";
import { Random } from "../../support/random.ts";
import { contentOf, randomFrom } from "../../support/stores.ts";
import { tier } from "../../support/tier.ts";

const GRAIN = 65536;
/** Bytes of a disk that one grain table maps. */
const TABLE = 512 * GRAIN;
const check = (store: MemoryStore) => run(vmdk.check!(store)) as CheckReport;
const repair = (store: MemoryStore, what: "leaks" | "all") => run(vmdk.repair!(store, what)) as CheckReport;

/** A disk that was written, grown and shrunk at random across tables; what the grains hold that were written. */
async function history(store: MemoryStore, random: Random): Promise<{ grains: Map<number, number>; size: number }> {
  const sizeOf = () => random.below(random.oneIn(2) ? 5 : 80) * TABLE + (1 + random.below(40)) * GRAIN;
  await (await createDisk(store, { format: "vmdk", size: sizeOf() })).close();
  if (random.oneIn(2)) withoutTables(store);
  const disk = await openDisk(store, { format: "vmdk" });
  const grains = new Map<number, number>();
  for (let step = 0; step < 14; step++) {
    const most = disk.size / GRAIN;
    if (random.oneIn(3)) {
      const size = sizeOf();
      await disk.resize(size);
      for (const grain of [...grains.keys()]) if (grain >= size / GRAIN) grains.delete(grain);
      continue;
    }
    const grain = Math.floor((most * (1 + random.below(8))) / 9);
    grains.set(grain, 1 + step);
    await writeBytes(disk, grain * GRAIN, new Uint8Array(GRAIN).fill(1 + step));
  }
  const { size } = disk;
  await disk.close();
  return { grains, size };
}

/** Some writers give a directory its tables when grains need them. */
function withoutTables(store: MemoryStore): void {
  const view = new DataView(contentOf(store).buffer);
  const tables = Math.ceil(view.getUint32(12, true) / (TABLE / 512));
  for (const at of [48, 56]) {
    store.writev(view.getUint32(at, true) * 512, new Uint8Array(tables * 4), SegmentList.of(0, tables * 4));
  }
}

async function expectGrains(store: MemoryStore, grains: Map<number, number>, size: number): Promise<void> {
  const disk = await openDisk(store, { format: "vmdk", readOnly: true });
  expect(disk.size).toBe(size);
  for (const [grain, fill] of grains) {
    const bytes = await readBytes(disk, grain * GRAIN, GRAIN);
    expect([grain, bytes[0], bytes[GRAIN - 1]]).toEqual([grain, fill, fill]);
  }
  await disk.close();
}

const HISTORIES = tier(150, 3000);

test(`after ${HISTORIES} histories of growing and shrinking nothing is left that is not used`, async () => {
  let leaks = 0;
  for (let seed = 1; seed <= HISTORIES; seed++) {
    const store = new KeptStore();
    const { grains, size } = await history(store, new Random(seed));
    leaks += check(store).leaks;
    const report = repair(store, seed % 2 === 0 ? "leaks" : "all");
    expect([seed, report.leaks, report.problems]).toEqual([seed, 0, []]);
    await expectGrains(store, grains, size);
  }
  expect(leaks).toBeGreaterThan(HISTORIES);
});

test("power may be lost at any step of a repair that moves tables", { timeout: 120_000 }, async () => {
  let cuts = 0;
  const shuffle = randomFrom(3);
  for (let seed = 1; seed <= tier(6, 400); seed++) {
    const before = new KeptStore();
    const { grains, size } = await history(before, new Random(seed));
    const content = contentOf(before);
    const recording = new RecordingStore(content.slice());
    repair(recording, "leaks");
    const first = { kind: "write", position: 0, bytes: content } as const;
    const steps = [first, { kind: "flush" } as const, ...recording.steps];
    for (let count = 2; count <= steps.length; count++) {
      for (const torn of [undefined, shuffle]) {
        const left = afterCut(steps, count, torn);
        await expectGrains(left, grains, size);
        expect(check(left).problems.filter(({ kind }) => kind === "structure")).toEqual([]);
        expect(repair(left, "all")).toMatchObject({ leaks: 0, corruptions: 0 });
        await expectGrains(left, grains, size);
        cuts++;
      }
    }
  }
  expect(cuts).toBeGreaterThan(100);
});
