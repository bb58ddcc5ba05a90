import { expect, test } from "vitest";
import type { Block } from "../../../src/core/block.ts";
import { run } from "../../../src/core/flow.ts";
import type { CheckReport } from "../../../src/core/format.ts";
import { discard, flush, readBytes, writeBytes, writeZeroes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { checkVhdx, repairVhdx } from "../../../src/host/format/vhdx/check.ts";
import type { MemoryStore } from "../../../src/host/store/memory.ts";
import { afterCut, RecordingStore } from "../../support/power.ts";
import { Random } from "../../support/random.ts";
import { contentOf, randomFrom } from "../../support/stores.ts";
import { tier } from "../../support/tier.ts";

const MiB = 2 ** 20;
const SECTOR = 512;
/** 5 GiB of 1 MiB blocks: more than a chunk of 4,096, so that bitmap entries stand between payload entries. */
const SIZE = 5 * 2 ** 30 + 3 * SECTOR;
const BLOCK = MiB;
/** Blocks that the programs play with: in several pages of the table, around the first chunk's end, and the last. */
const BLOCKS = [0, 1, 2, 510, 511, 512, 4094, 4095, 4096, 4097, 5120];
/** What the parent of a differencing disk is filled with. */
const PARENT = 0xee;

/**
 * What a block may hold if power is lost now, a byte for each sector (they are filled with it): the first is what was
 * flushed, the others what came after. Each sector may be as in any of them.
 */
type Possible = Map<number, Uint8Array[]>;

interface Moment {
  /** Steps made when it began. */
  steps: number;
  possible: Possible;
}

async function parentStore(): Promise<MemoryStore> {
  const store = new RecordingStore();
  const disk = await createDisk(store, { format: "vhdx", size: SIZE, blockSize: 2 * MiB });
  for (const block of BLOCKS) {
    const length = Math.min(BLOCK, SIZE - block * BLOCK);
    await writeBytes(disk, block * BLOCK, new Uint8Array(length).fill(PARENT));
  }
  await disk.close();
  return store;
}

/** Carries out a random program; records what may be found at each of its moments. */
async function program(seed: number, parent: MemoryStore | null) {
  const random = new Random(seed);
  const store = new RecordingStore();
  const backing = async () => (parent ? openDisk(parent, { readOnly: true }) : undefined);
  const open = async (): Promise<Block> => openDisk(store, { backing: await backing() });
  let disk: Block = await createDisk(store, {
    format: "vhdx",
    size: SIZE,
    blockSize: BLOCK,
    ...(parent && {
      parent: { identity: String((await openDisk(parent, { readOnly: true })).describe().dataWriteGuid), path: "x" },
      backing: await backing(),
    }),
  });
  const start = store.steps.length;
  const moments: Moment[] = [];
  const possible: Possible = new Map();
  const record = () => {
    moments.push({
      steps: store.steps.length,
      possible: new Map([...possible].map(([block, list]) => [block, [...list]])),
    });
  };
  const change = (block: number, from: number, count: number, value: number) => {
    const states = possible.get(block) ?? [new Uint8Array(BLOCK / SECTOR).fill(parent ? PARENT : 0)];
    const next = states[states.length - 1].slice();
    next.fill(value, from, from + count);
    possible.set(block, [...states, next]);
  };
  const settle = () => {
    for (const [block, states] of possible) possible.set(block, states.slice(-1));
  };
  for (let i = 0; i < 14; i++) {
    const block = random.pick(BLOCKS);
    const room = Math.min(BLOCK, SIZE - block * BLOCK) / SECTOR;
    const within = random.below(4) === 0 ? 0 : random.below(Math.min(64, room));
    const whole = random.below(4) === 0 ? room - within : 1 + random.below(Math.min(24, room - within));
    const offset = block * BLOCK + within * SECTOR;
    const length = whole * SECTOR;
    const kind = random.below(10);
    const value = kind < 6 ? 1 + random.below(200) : 0;
    if (kind < 8) change(block, within, whole, value);
    // From here on the steps may carry what the operation is about to write.
    record();
    if (kind < 6) await writeBytes(disk, offset, new Uint8Array(length).fill(value));
    else if (kind === 6 || (kind === 7 && parent)) await writeZeroes(disk, offset, length);
    else if (kind === 7) await discard(disk, offset, length);
    else if (kind === 8) await flush(disk);
    else {
      await disk.close();
      settle();
      record();
      disk = await open();
    }
    if (kind === 8) settle();
    record();
  }
  await disk.close();
  settle();
  record();
  return { store, start, moments, backing };
}

/** Opens what is left and compares each sector that was touched. */
async function judge(
  left: MemoryStore,
  possible: Possible,
  backing: Block | undefined,
  readOnly: boolean,
  what: string,
) {
  const disk = await openDisk(left, { format: "vhdx", readOnly, backing });
  for (const [block, states] of possible) {
    const bytes = await readBytes(disk, block * BLOCK, Math.min(BLOCK, SIZE - block * BLOCK));
    for (let sector = 0; sector < bytes.length / SECTOR; sector++) {
      const [first, middle, last] = [0, 200, SECTOR - 1].map((at) => bytes[sector * SECTOR + at]);
      if (first === middle && first === last && states.some((state) => state[sector] === first)) continue;
      const allowed = states.map((state) => state[sector]);
      throw new Error(`${what}: sector ${sector} of block ${block} is ${first} … ${last}, not one of ${allowed}`);
    }
  }
  // The rest of the disk still works: one more block, and what was there stays.
  if (!readOnly) {
    await writeBytes(disk, 2000 * BLOCK, new Uint8Array(SECTOR).fill(0x77));
    await disk.close();
    const again = await openDisk(left, { format: "vhdx", backing });
    expect((await readBytes(again, 2000 * BLOCK, 1))[0]).toBe(0x77);
    // At most space was lost.
    expect([what, (run(checkVhdx(left)) as CheckReport).corruptions]).toEqual([what, 0]);
  }
}

/** Damage that a repair mends: copies of the header and the region table; space at the end that nothing uses. */
const DAMAGE: [string, (bytes: Uint8Array) => Uint8Array][] = [
  ["the first header", (bytes) => flipped(bytes, 65536 + 200)],
  ["the second header", (bytes) => flipped(bytes, 131072 + 200)],
  ["the first region table", (bytes) => flipped(bytes, 196608 + 200)],
  ["the second region table", (bytes) => flipped(bytes, 262144 + 200)],
  ["a header and the other region table", (bytes) => flipped(flipped(bytes, 65536 + 200), 262144 + 200)],
  ["space at the end", (bytes) => new Uint8Array(Buffer.concat([bytes, new Uint8Array(2 * MiB)]))],
];

function flipped(bytes: Uint8Array, at: number): Uint8Array {
  const copy = bytes.slice();
  copy[at] ^= 1;
  return copy;
}

test("a repair may be interrupted at any write, and made again", async () => {
  const made = new RecordingStore();
  const size = 8 * MiB;
  const disk = await createDisk(made, { format: "vhdx", size, blockSize: MiB });
  for (const block of [0, 3, 7]) await writeBytes(disk, block * MiB, new Uint8Array(4096).fill(block + 1));
  await disk.close();
  // Once closed, and once with a log that is to be replayed.
  const writing = await openDisk(made);
  await writeBytes(writing, 5 * MiB, new Uint8Array(4096).fill(6));
  await flush(writing);
  const dirty = contentOf(afterCut(made.steps, made.steps.length));
  await writing.close();
  const clean = contentOf(made);
  let cuts = 0;
  for (const [state, start] of [
    ["closed", clean],
    ["with a log", dirty],
  ] as const) {
    for (const [name, damage] of tier(state === "closed" ? DAMAGE : DAMAGE.slice(4), DAMAGE)) {
      const store = RecordingStore.holding(damage(start));
      const from = store.steps.length;
      run(repairVhdx(store, "all"));
      for (let count = from; count <= store.steps.length; count++) {
        for (const torn of tier(
          [undefined, randomFrom(count)],
          [undefined, randomFrom(count), randomFrom(count + 50)],
        )) {
          const left = afterCut(store.steps, count, torn);
          const where = `${state}, ${name}, ${count - from} of ${store.steps.length - from} steps${torn ? ", torn" : ""}`;
          const view = await openDisk(left, { format: "vhdx", readOnly: true });
          for (const block of [0, 3, 5, 7]) {
            expect([
              where,
              block,
              (await readBytes(view, block * MiB, 4096)).every((byte) => byte === block + 1),
            ]).toEqual([where, block, true]);
          }
          const report = run(repairVhdx(left, "all")) as CheckReport;
          expect([where, report.problems, report.leaks]).toEqual([where, [], 0]);
          cuts++;
        }
      }
    }
  }
  console.log(`repairs: ${cuts} cuts`);
  expect(cuts).toBeGreaterThan(100);
});

/** The nightly run takes its time. */
const PROGRAMS = process.env.PARAVANE_NIGHTLY ? 100 : 4;

for (const kind of ["dynamic", "differencing"]) {
  test(`power may be lost between any two writes of a ${kind} disk, and in the middle of any`, async () => {
    const parent = kind === "differencing" ? await parentStore() : null;
    let cuts = 0;
    let replayed = 0;
    for (let seed = 0; seed < PROGRAMS; seed++) {
      const { store, start, moments, backing } = await program(seed, parent);
      const uniform = randomFrom(seed);
      for (let count = start; count <= store.steps.length; count++) {
        // What holds: the last moment that began before this step did.
        const moment = moments.findLast(({ steps }) => steps <= Math.max(start, count - 1)) ?? moments[0];
        const possible = count === store.steps.length ? moments[moments.length - 1].possible : moment.possible;
        const what = `program ${seed}, ${count - start} of ${store.steps.length - start} steps`;
        const left = afterCut(store.steps, count);
        const look = await openDisk(left, { readOnly: true, format: "vhdx", backing: await backing() });
        if ((look.describe().log as { replayedEntries: number }).replayedEntries > 0) replayed++;
        await judge(left, possible, await backing(), true, `${what}, in memory`);
        await judge(left, possible, await backing(), false, what);
        await judge(afterCut(store.steps, count, uniform), possible, await backing(), false, `${what}, torn`);
        cuts++;
      }
    }
    console.log(`${kind}: ${cuts} cuts of ${PROGRAMS} programs, ${replayed} with a log to replay`);
    expect(replayed).toBeGreaterThan(PROGRAMS);
  });
}
