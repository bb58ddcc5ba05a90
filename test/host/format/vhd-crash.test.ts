import { expect, test } from "vitest";
import { run } from "../../../src/core/flow.ts";
import type { CheckReport, Image } from "../../../src/core/format.ts";
import { readBytes, writeBytes } from "../../../src/host/block/bytes.ts";
import { createDisk, type Disk, openDisk } from "../../../src/host/block/open.ts";
import { vhd } from "../../../src/host/format/vhd/index.ts";
import type { MemoryStore } from "../../../src/host/store/memory.ts";
import { KeptStore } from "../../support/disks.ts";
import { BLOCK, BLOCKS, cutEverywhere, type Life, PARENT, SIZE, whole } from "../../support/life.ts";
import { afterCut, RecordingStore } from "../../support/power.ts";
import { Random } from "../../support/random.ts";
import { randomFrom } from "../../support/stores.ts";
import { tier } from "../../support/tier.ts";
import { createChild, openChild, SECTOR } from "../../support/vhd.ts";

const PROGRAMS = tier(6, 100);
const TIMEOUT = { timeout: tier(300_000, 7_200_000) };

async function parentStore(): Promise<KeptStore> {
  const parent = new KeptStore();
  const base = await createDisk(parent, { format: "vhd", size: SIZE });
  await writeBytes(base, 0, new Uint8Array(SIZE).fill(PARENT));
  await base.close();
  return parent;
}

async function lives(): Promise<Record<string, Life>> {
  const parent = await parentStore();
  const behind = () => openDisk(parent, { readOnly: true });
  return {
    dynamic: {
      format: vhd,
      hasParent: false,
      create: (store) => createDisk(store, { format: "vhd", size: SIZE, blockSize: BLOCK }),
      open: (store) => openDisk(store),
    },
    differencing: {
      format: vhd,
      hasParent: true,
      create: (store) => createChild(store, behind, { size: SIZE, blockSize: BLOCK }),
      open: (store) => openChild(store, behind),
      async renamed(times) {
        const path = `.\\${"renamed".repeat(times)}.vhd`;
        const backing = await behind();
        return { path, identity: String(backing.describe().uuid), absolutePath: `C:\\d\\${path}` };
      },
    },
  };
}

/** What is left reads as, over the parent if it says that it has one. */
async function contentOf(left: MemoryStore, behind: () => Promise<Disk>): Promise<string> {
  const look = await openDisk(left, { format: "vhd", readOnly: true, alone: true });
  const disk = look.parent ? await openChild(left, behind, true) : look;
  const parts: string[] = [];
  // The blocks that programs play with, and one that they do not.
  for (const block of [...BLOCKS, 80]) {
    const at = block * BLOCK;
    parts.push(Buffer.from(await readBytes(disk, at, Math.min(BLOCK, disk.size - at))).toString("latin1"));
  }
  return `${look.parent !== undefined}|${parts.join()}`;
}

test("power may be lost while a parent is taken away, while one is given again, and another", TIMEOUT, async () => {
  const parent = await parentStore();
  const behind = () => openDisk(parent, { readOnly: true });
  const identity = String((await behind()).describe().uuid);
  let cuts = 0;
  for (let seed = 0; seed < tier(1, 60); seed++) {
    const random = new Random(seed + 40);
    const store = new RecordingStore();
    let disk: Disk = await createChild(store, behind, { size: SIZE, blockSize: BLOCK });
    let over = true;
    const changes: [string, Parameters<NonNullable<Image["setParent"]>>[0]][] = [
      ["none", undefined],
      ["some", { path: ".\\parent.vhd", identity, absolutePath: "C:\\disks\\parent.vhd" }],
      ["another name", { path: `.\\${"renamed".repeat(random.below(60))}.vhd`, identity }],
      ["none again", undefined],
    ];
    for (const [name, next] of changes) {
      // Blocks that are there in part, and whole.
      for (let i = 0; i < 5; i++) {
        const first = random.pick(BLOCKS) * 128 + random.below(100);
        const count = random.oneIn(4) ? 28 : 1 + random.below(20);
        await writeBytes(disk, first * SECTOR, new Uint8Array(count * SECTOR).fill(1 + random.below(200)));
      }
      await disk.close();
      disk = over ? await openChild(store, behind) : await openDisk(store, { format: "vhd" });
      store.steps.push({ kind: "flush" });
      const from = store.steps.length;
      const before = await contentOf(afterCut(store.steps, from), behind);
      await whole(disk, (image) => image.setParent!(next));
      await disk.close();
      over = next !== undefined;
      const after = await contentOf(afterCut(store.steps, store.steps.length), behind);
      if (over !== before.startsWith("true")) expect(after === before, name).toBe(false);
      const uniform = randomFrom(seed);
      for (let count = from; count <= store.steps.length; count++) {
        for (const torn of [undefined, uniform]) {
          const left = afterCut(store.steps, count, torn);
          const where = `${name}, program ${seed}, ${count - from} of ${store.steps.length - from} steps${torn ? ", torn" : ""}`;
          const found = await contentOf(left, behind);
          expect([before, after].includes(found), where).toBe(true);
          const report = run(vhd.check!(left)) as CheckReport;
          expect([where, report.problems.filter(({ kind }) => kind !== "leak" && kind !== "copy")]).toEqual([
            where,
            [],
          ]);
          const repaired = run(vhd.repair!(left, "all")) as CheckReport;
          expect([where, repaired.problems, repaired.leaks]).toEqual([where, [], 0]);
          expect((await contentOf(left, behind)) === found, where).toBe(true);
          cuts++;
        }
      }
      disk = over ? await openChild(store, behind) : await openDisk(store, { format: "vhd" });
    }
  }
  console.log(`parents: ${cuts} cuts`);
  expect(cuts).toBeGreaterThan(50);
});

test.each(["dynamic", "differencing"])("power may be lost at any step of a %s disk's life", TIMEOUT, async (kind) => {
  const cuts = await cutEverywhere((await lives())[kind], PROGRAMS);
  console.log(`${kind}: ${cuts} cuts of ${PROGRAMS} programs`);
});
