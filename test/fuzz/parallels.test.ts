import { expect, test } from "vitest";
import { ParavaneError } from "../../src/core/error.ts";
import { run } from "../../src/core/flow.ts";
import { discard, flush, readBytes, writeBytes, writeZeroes } from "../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../src/host/block/open.ts";
import { parallels } from "../../src/host/format/parallels/index.ts";
import { dataFile } from "../support/data.ts";
import { KeptStore } from "../support/disks.ts";
import { type Pick, random } from "../support/fuzz-disk.ts";
import { contentOf } from "../support/stores.ts";

const SEED = Number(process.env.PARAVANE_FUZZ_SEED ?? 1);
const RUNS = Number(process.env.PARAVANE_FUZZ_RUNS ?? 1000);

/** 32-bit fields that are interpreted. */
const FIELDS = [0, 12, 16, 28, 32, 36, 40, 44, 48, 52, 56, 60];
const VALUES = [0, 1, 2, 3, 8, 128, 511, 512, 2048, 65536, 2 ** 28, 0x746f6e59, 0x7fffffff, 0x80000000, 0xffffffff];

async function sources(): Promise<Uint8Array[]> {
  const images = [dataFile("qemu-parallels-v1.hdd")];
  for (const clusterSize of [4096, 65536]) {
    const store = new KeptStore();
    const disk = await createDisk(store, { format: "parallels", size: 1 << 20, clusterSize });
    for (const at of [0, 200_704, 500_224]) await writeBytes(disk, at, new Uint8Array(40_960).fill(at & 0xff || 1));
    await disk.close();
    images.push(contentOf(store));
  }
  return images;
}

function mutate(pick: Pick, source: Uint8Array): Uint8Array {
  const bytes = source.slice();
  const view = new DataView(bytes.buffer);
  const value = () => (pick(4) === 0 ? pick(2 ** 32) : pick(2) === 0 ? pick(300) : VALUES[pick(VALUES.length)]);
  for (let changes = 1 + pick(3); changes > 0; changes--) {
    const what = pick(10);
    if (what < 4) view.setUint32(FIELDS[pick(FIELDS.length)], value(), true);
    else if (what < 9) view.setUint32(64 + pick(32) * 4, pick(3) === 0 ? value() : pick(20), true);
    else bytes[pick(bytes.length)] ^= 1 << pick(8);
  }
  return pick(10) === 0 ? bytes.slice(0, pick(bytes.length)) : bytes;
}

test(`Parallels disks that are not what they say: ${RUNS} from seed ${SEED}`, { timeout: 300_000 }, async () => {
  const images = await sources();
  const outcomes: Record<string, number> = {};
  for (let number = 0; number < RUNS; number++) {
    const pick = random(SEED * 1_000_003 + number);
    const bytes = mutate(pick, images[pick(images.length)]);
    const store = new KeptStore(bytes);
    const attempt = async (name: string, work: () => unknown) => {
      let outcome = "done";
      try {
        await work();
      } catch (thrown) {
        if (!(thrown instanceof ParavaneError)) throw new Error(`run ${number} of seed ${SEED}`, { cause: thrown });
        outcome = thrown.code;
      }
      expect(["done", "CORRUPT", "UNSUPPORTED", "INVALID", "NO_SPACE", "OUT_OF_RANGE"]).toContain(outcome);
      outcomes[`${name}: ${outcome}`] = (outcomes[`${name}: ${outcome}`] ?? 0) + 1;
      return outcome === "done";
    };
    if (await attempt("open", async () => (await openDisk(store, { format: "parallels", readOnly: true })).close())) {
      const disk = await openDisk(store, { format: "parallels" });
      for (let i = 0; i < 6; i++) {
        const offset = Math.min(pick(3) === 0 ? 0 : pick(2048) * 512, Math.max(0, disk.size - 512));
        const length = Math.min(512 * (1 + pick(200)), disk.size - offset);
        const works: [string, () => unknown][] = [
          ["read", () => readBytes(disk, offset, length)],
          ["write", () => writeBytes(disk, offset, new Uint8Array(length).fill(0x3c))],
          ["zero", () => writeZeroes(disk, offset, length)],
          ["discard", () => discard(disk, offset, length)],
          ["flush", () => flush(disk)],
        ];
        const [name, work] = works[pick(works.length)];
        await attempt(name, work);
      }
      if (pick(3) === 0) await attempt("resize", () => disk.resize((1 + pick(6000)) * 512));
      await attempt("close", () => disk.close());
    }
    if (pick(2) === 0) await attempt("check", () => run(parallels.check!(store)));
    else await attempt("repair", () => run(parallels.repair!(store, pick(2) === 0 ? "leaks" : "all")));
    // A disk that claims terabytes must not make us hold them.
    expect(store.allocated).toBeLessThan(bytes.length + (64 << 20));
  }
  console.log(JSON.stringify(outcomes));
  for (const reached of [
    "open: done",
    "open: CORRUPT",
    "open: UNSUPPORTED",
    "read: done",
    "read: CORRUPT",
    "write: done",
  ])
    expect(outcomes[reached] ?? 0, reached).toBeGreaterThan(0);
  for (const reached of [
    "write: CORRUPT",
    "zero: done",
    "resize: done",
    "check: done",
    "repair: done",
    "repair: CORRUPT",
  ])
    expect(outcomes[reached] ?? 0, reached).toBeGreaterThan(0);
});
