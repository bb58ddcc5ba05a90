import { expect, test } from "vitest";
import { run } from "../../../src/core/flow.ts";
import type { CheckReport } from "../../../src/core/format.ts";
import { writeBytes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { vhd } from "../../../src/host/format/vhd/index.ts";
import { KeptStore } from "../../support/disks.ts";
import { Content, runProgram, type Subject, sizes } from "../../support/program.ts";
import { Random } from "../../support/random.ts";
import { tier } from "../../support/tier.ts";
import { createChild, GiB, MiB, openChild, SECTOR } from "../../support/vhd.ts";

const PROGRAMS = tier(2_000, 20_000);
const STEPS = 10;
const TIMEOUT = { timeout: tier(600_000, 7_200_000) };

/** The seed is in the message: that program alone can be run again. */
async function each(name: string, one: (random: Random, counts: Record<string, number>) => Promise<void>) {
  const counts: Record<string, number> = {};
  const only = process.env.PARAVANE_SEED;
  for (let seed = Number(only ?? 0); seed < (only ? Number(only) + 1 : PROGRAMS); seed++) {
    try {
      await one(new Random(seed + 1), counts);
    } catch (cause) {
      throw new Error(`program ${seed} of ${name}`, { cause });
    }
  }
  console.log(`${name}: ${PROGRAMS} programs, ${JSON.stringify(counts)}`);
  if (!only)
    for (const kind of ["write", "zero", "discard", "resize", "reopen"])
      expect(counts[kind]).toBeGreaterThan(PROGRAMS / 2);
}

const sound = (store: KeptStore) => {
  const { corruptions, problems } = run(vhd.check!(store)) as CheckReport;
  expect([corruptions, problems.filter(({ kind }) => kind !== "leak")]).toEqual([0, []]);
};

test("raw", TIMEOUT, async () => {
  await each("raw", async (random, counts) => {
    const store = new KeptStore();
    const [unit, maxSize] = [2 * MiB, 3 * 2 ** 40 + SECTOR];
    const open = async () => openDisk(store, { format: "raw" });
    await (await createDisk(store, { format: "raw", size: sizes(random, unit, maxSize) })).close();
    const { size } = await runProgram({ unit, maxSize, open }, new Content(), random, STEPS, counts);
    expect(store.size).toBe(size);
  });
});

test.each(["dynamic", "fixed"])("%s VHD", TIMEOUT, async (subformat) => {
  await each(`${subformat} VHD`, async (random, counts) => {
    const store = new KeptStore();
    const unit = subformat === "fixed" ? 2 * MiB : random.pick([2 * MiB, 2 * MiB, 512 * 1024, 65536]);
    // Small blocks make large tables, which are written out.
    const maxSize = unit < 512 * 1024 ? 8 * GiB + SECTOR : 2040 * GiB;
    const blockSize = unit;
    const open = async () => openDisk(store);
    const size = sizes(random, unit, maxSize);
    await (
      await createDisk(store, { format: "vhd", subformat, size, ...(subformat === "dynamic" && { blockSize }) })
    ).close();
    await runProgram({ unit, maxSize, open }, new Content(), random, STEPS, counts);
    sound(store);
  });
});

test("differencing VHD", TIMEOUT, async () => {
  await each("differencing VHD", async (random, counts) => {
    const [parent, child] = [new KeptStore(), new KeptStore()];
    const unit = random.pick([2 * MiB, 2 * MiB, 65536]);
    const maxSize = unit < 512 * 1024 ? 8 * GiB + SECTOR : 2040 * GiB;
    const size = sizes(random, unit, maxSize);
    const parentSize = random.oneIn(3) ? sizes(random, unit, maxSize) : size;
    const below = new Content();
    const base = await createDisk(parent, { format: "vhd", size: parentSize });
    for (const edge of [0, unit, size / 2, 4 * GiB, size, parentSize]) {
      const first = Math.max(0, Math.min(parentSize / SECTOR - 1, Math.floor(edge / SECTOR) - 20));
      const count = Math.min(40, parentSize / SECTOR - first);
      await writeBytes(base, first * SECTOR, below.write(first, count, random.below(255)));
    }
    await base.close();
    const behind = () => openDisk(parent, { readOnly: true });
    await (await createChild(child, behind, { size, blockSize: unit })).close();
    const subject: Subject = {
      unit,
      maxSize,
      open: () => openChild(child, behind),
      canResize: (from, to) => to <= from || parentSize <= from,
    };
    await runProgram(subject, new Content(below, parentSize), random, STEPS, counts);
    sound(child);
  });
});
