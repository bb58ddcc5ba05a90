import { expect, test } from "vitest";
import { ParavaneError } from "../../src/core/error.ts";
import { run } from "../../src/core/flow.ts";
import type { CheckReport } from "../../src/core/format.ts";
import { readBytes } from "../../src/host/block/bytes.ts";
import { type Disk, openDisk } from "../../src/host/block/open.ts";
import { KeptStore } from "./disks.ts";
import { random } from "./fuzz-disk.ts";
import type { ImageFuzz } from "./fuzz-images.ts";
import { contentOf } from "./stores.ts";

const SEED = Number(process.env.PARAVANE_FUZZ_SEED ?? 1);
const UNIT = 4096;
/** Bytes of a disk that are compared: images claim any size. */
const MOST = 1 << 20;
const LARGE = 1 << 26;

type RepairFuzz = Pick<ImageFuzz, "title" | "format" | "runs" | "make" | "open"> & {
  /** What no repair changes: the header's, say. */
  stays?(problem: CheckReport["problems"][number]): boolean;
  /** Space that nothing uses is not given back. */
  keepsLeaks?(bytes: Uint8Array): boolean;
};

/**
 * A test that mends damaged images: where one can be opened, it has no errors afterwards, all that could be read before reads the
 * same, and what could not be can be; mended again, it does not change.
 */
export function fuzzRepair({ title, format, runs, make, open = openDisk, stays, keepsLeaks }: RepairFuzz): void {
  const count = Number(process.env.PARAVANE_FUZZ_RUNS ?? runs);
  test(`${title} that are mended: ${count} from seed ${SEED}`, { timeout: 3_600_000 }, async () => {
    const outcomes: Record<string, number> = { mended: 0, sound: 0, "units kept": 0, "units lost": 0 };
    const note = (what: string, times = 1) => void (outcomes[what] = (outcomes[what] ?? 0) + times);
    for (let number = 0; number < count; number++) {
      const { bytes, parent } = make(random(SEED * 1_000_003 + number), number);
      const opened = async (store: KeptStore) => {
        const backing = parent && (await openDisk(parent, { readOnly: true }));
        return open(store, { format: format.name, readOnly: true, backing });
      };
      const check = (store: KeptStore) => run(format.check!(store)) as CheckReport;
      const where = `run ${number} of seed ${SEED}`;
      const store = new KeptStore(bytes);
      let before: (Buffer | undefined)[] | undefined;
      let sound: boolean;
      try {
        before = await unitsOf(await opened(store));
        sound = check(store).corruptions === 0;
        run(format.repair!(store, "all"));
      } catch (thrown) {
        if (!(thrown instanceof ParavaneError)) throw new Error(where, { cause: thrown });
        // What can be opened can be mended, whatever its table says, unless the format's kind is only read or has no room.
        if (before && !["UNSUPPORTED", "NO_SPACE"].includes(thrown.code)) throw new Error(where, { cause: thrown });
        note(`${before ? "refused" : "not opened"}: ${thrown.code}`);
        continue;
      }
      note(sound ? "sound" : "mended");
      const after = await unitsOf(await opened(store));
      expect([where, after.length]).toEqual([where, before.length]);
      for (const [i, unit] of after.entries()) {
        const was = before[i];
        if (!unit || (was && !was.equals(unit))) throw new Error(`${where}: byte ${i * UNIT} is not what it was`);
        note(was ? "units kept" : "units lost");
      }
      const { problems, leaks } = check(store);
      expect([where, problems.filter((one) => one.kind !== "leak" && !stays?.(one))]).toEqual([where, []]);
      if (!keepsLeaks?.(bytes)) expect([where, leaks]).toEqual([where, 0]);
      // A disk that claims terabytes may have them as holes.
      if (store.size > LARGE) continue;
      const mended = contentOf(store);
      run(format.repair!(store, "all"));
      if (Buffer.compare(mended, contentOf(store)) !== 0) throw new Error(`${where}: a sound image was changed`);
    }
    console.log(`${title}: ${JSON.stringify(outcomes)}`);
    for (const what of ["mended", "sound", "units kept", "units lost"])
      expect([what, outcomes[what]]).not.toEqual([what, 0]);
  });
}

/** The first of the disk's units, where they can be read. */
async function unitsOf(disk: Disk): Promise<(Buffer | undefined)[]> {
  const units: (Buffer | undefined)[] = [];
  for (let at = 0; at < Math.min(disk.size, MOST); at += UNIT) {
    const length = Math.min(UNIT, disk.size - at);
    try {
      units.push(Buffer.from(await readBytes(disk, at, length)));
    } catch (thrown) {
      if (!(thrown instanceof ParavaneError)) throw thrown;
      units.push(undefined);
    }
  }
  await disk.close();
  return units;
}
