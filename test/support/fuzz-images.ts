import { expect, test } from "vitest";
import { BlockRequest, Op, Status } from "../../src/core/block.ts";
import { ParavaneError } from "../../src/core/error.ts";
import { run } from "../../src/core/flow.ts";
import type { Format, Image } from "../../src/core/format.ts";
import type { Engine } from "../../src/host/block/engine.ts";
import { type Disk, openDisk } from "../../src/host/block/open.ts";
import { KeptStore } from "./disks.ts";
import { type Pick, random } from "./fuzz-disk.ts";

const SEED = Number(process.env.PARAVANE_FUZZ_SEED ?? 1);
const RUNS = process.env.PARAVANE_FUZZ_RUNS;
/** What opening may be refused with. INVALID: an image no longer says that it has a parent, and one was given. */
const REFUSALS = ["CORRUPT", "UNSUPPORTED", "NOT_FOUND", "INVALID"];
const FAILURES = ["CORRUPT", "UNSUPPORTED", "INVALID", "NO_SPACE", "OUT_OF_RANGE"];
/** No case may take longer, in milliseconds. */
const SLOWEST = 5000;

type Work = [name: string, work: () => unknown];

export interface ImageFuzz {
  /** Many of them. */
  title: string;
  format: Format;
  runs: number;
  /** The damaged image of a run, and what it is opened over. */
  make(pick: Pick, run: number): { bytes: Uint8Array; parent?: KeptStore | undefined };
  /** Work on the image as a whole, beside check and repair: one is done in each run. */
  works?(pick: Pick, disk: Disk): Work[];
  /** Outcomes that some run must have, so that the fuzz is known to get everywhere. */
  reached: readonly string[];
}

/**
 * A test that opens damaged images, reads, writes, checks and changes them: each piece of work ends well or in the words of the
 * format, soon, and without holding what the image only claims to have. Formats that are only read are opened for reading.
 */
export function fuzzImages({ title, format, runs, make, works, reached }: ImageFuzz): void {
  const count = Number(RUNS ?? runs);
  test(`${title} that are not what they say: ${count} from seed ${SEED}`, { timeout: 3_600_000 }, async () => {
    const outcomes = new Map<string, number>();
    const note = (what: string) => void outcomes.set(what, (outcomes.get(what) ?? 0) + 1);
    for (let number = 0; number < count; number++) {
      const pick = random(SEED * 1_000_003 + number);
      const { bytes, parent } = make(pick, number);
      const store = new KeptStore(bytes);
      const start = performance.now();
      try {
        await use(format, store, parent, { pick, works, note });
      } catch (thrown) {
        if (!(thrown instanceof ParavaneError)) throw new Error(`run ${number} of seed ${SEED}`, { cause: thrown });
        note(`refused: ${thrown.code} ${thrown.context.structure ?? ""}`);
        expect(REFUSALS).toContain(thrown.code);
      }
      expect([number, performance.now() - start < SLOWEST]).toEqual([number, true]);
      // A disk that claims terabytes must not make us hold them.
      expect(store.allocated).toBeLessThan(bytes.length + (64 << 20));
    }
    console.log(
      [...outcomes]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([what, times]) => `${times} ${what}`)
        .join("\n"),
    );
    for (const what of reached) expect(outcomes.get(what) ?? 0, what).toBeGreaterThan(0);
  });
}

async function use(
  format: Format,
  store: KeptStore,
  parent: KeptStore | undefined,
  { pick, works, note }: { pick: Pick; works: ImageFuzz["works"]; note: (what: string) => void },
): Promise<void> {
  const readOnly = !format.create;
  const backing = parent && (await openDisk(parent, { readOnly: true }));
  let warned = false;
  const disk = await openDisk(store, {
    ...{ format: format.name, readOnly, backing },
    onWarning: () => {
      warned = true;
    },
  });
  note(warned ? "opened with a warning" : "opened");
  JSON.stringify(disk.describe());
  for (const list of [requests(pick, disk.size), requests(pick, disk.size)]) {
    const pending = disk.submit(list);
    if (pending) throw new Error("a promise over a synchronous store");
    for (const request of list) {
      note(`${nameOf(Op, request.op)}: ${nameOf(Status, request.status)}`);
      expect(request.status).not.toBe(Status.Pending);
      expect(request.status === Status.Ok).toBe(request.error === null);
    }
  }
  const all: Work[] = [["check", () => run(format.check!(store))], ...(works?.(pick, disk) ?? [])];
  if (format.repair) all.push(["repair", () => run(format.repair!(store, pick(2) === 0 ? "leaks" : "all"))]);
  const [name, work] = all[pick(all.length)];
  note(`${name}: ${await outcomeOf(work)}`);
  await disk.close();
}

async function outcomeOf(work: () => unknown): Promise<string> {
  try {
    await work();
    return "done";
  } catch (thrown) {
    if (!(thrown instanceof ParavaneError)) throw thrown;
    expect(FAILURES).toContain(thrown.code);
    return thrown.code;
  }
}

const nameOf = (table: Record<string, number>, wanted: number) =>
  Object.keys(table).find((key) => table[key] === wanted);

function requests(pick: Pick, size: number): BlockRequest[] {
  return Array.from({ length: 10 }, () => {
    const request = new BlockRequest();
    request.op = [Op.Read, Op.Read, Op.Write, Op.Write, Op.WriteZeroes, Op.Discard, Op.Flush][pick(7)];
    const near = [0, 65536, 200_704, size - 8192, Math.floor((pick(1000) / 1000) * size)][pick(5)];
    request.offset = Math.floor(Math.max(0, near) / 512) * 512;
    request.length = Math.max(0, Math.min(512 * (1 + pick(300)), size - request.offset));
    if (request.op <= Op.Write) {
      request.memory = new Uint8Array(request.length).fill(0x3c);
      request.segments.push(0, request.length);
    }
    return request;
  });
}

/** Something of the image, while nothing else is under way. */
export function wholeImage(disk: Disk, work: (image: Image) => ReturnType<NonNullable<Image["sync"]>>): unknown {
  return (disk as unknown as Engine).exclusive(work);
}

/** Changes one to three things in a copy, as `change` does one; one copy in ten is cut off. */
export function damaged(
  pick: Pick,
  source: Uint8Array,
  change: (bytes: Uint8Array, view: DataView, pick: Pick) => void,
): Uint8Array {
  const bytes = source.slice();
  const view = new DataView(bytes.buffer);
  for (let changes = 1 + pick(3); changes > 0; changes--) change(bytes, view, pick);
  return pick(10) === 0 ? bytes.slice(0, pick(bytes.length)) : bytes;
}
