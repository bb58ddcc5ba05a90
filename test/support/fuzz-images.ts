import { expect, test } from "vitest";
import { BlockRequest, Op, Status } from "../../src/core/block.ts";
import { ParavaneError } from "../../src/core/error.ts";
import { run } from "../../src/core/flow.ts";
import type { Format, Image } from "../../src/core/format.ts";
import { writeBytes } from "../../src/host/block/bytes.ts";
import type { Engine } from "../../src/host/block/engine.ts";
import { createDisk, type Disk, type OpenDiskOptions, openDisk } from "../../src/host/block/open.ts";
import { createOverlay } from "../../src/host/block/overlay.ts";
import { KeptStore } from "./disks.ts";
import { type Pick, random } from "./fuzz-disk.ts";
import { contentOf } from "./stores.ts";

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
  /** As `openDisk`, for images that are more than a file. */
  open?(store: KeptStore, options: OpenDiskOptions): Promise<Disk>;
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
export function fuzzImages({ title, format, runs, make, open = openDisk, works, reached }: ImageFuzz): void {
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
        await use(format, store, parent, { pick, open, works, note });
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

interface Use {
  pick: Pick;
  open: NonNullable<ImageFuzz["open"]>;
  works: ImageFuzz["works"];
  note(what: string): void;
}

async function use(
  format: Format,
  store: KeptStore,
  parent: KeptStore | undefined,
  { pick, open, works, note }: Use,
): Promise<void> {
  const readOnly = !(format.create || format.written);
  const backing = parent && (await openDisk(parent, { readOnly: true }));
  let warned = false;
  const disk = await open(store, {
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

/** Writes here and there on a disk of 1 MiB, and closes it. */
export async function filled(disk: Disk): Promise<void> {
  for (const at of [0, 200_704, 500_224]) await writeBytes(disk, at, new Uint8Array(40_960).fill(at & 0xff || 1));
  await disk.close();
}

type Create = (store: KeptStore, options: { format: string; size: number; [option: string]: unknown }) => Promise<Disk>;

/** An image of each of these kinds, filled. */
export async function imagesOf(
  format: string,
  kinds: readonly Record<string, unknown>[],
  create: Create = createDisk,
): Promise<Uint8Array[]> {
  const images: Uint8Array[] = [];
  for (const options of kinds) {
    const store = new KeptStore();
    await filled(await create(store, { format, size: 1 << 20, ...options }));
    images.push(contentOf(store));
  }
  return images;
}

type Change = (bytes: Uint8Array, view: DataView, pick: Pick) => void;

/** Images of a format: others' own, too, and one over a parent. */
export interface Family {
  images: readonly Uint8Array[];
  samples: readonly Uint8Array[];
  child: Uint8Array;
  parent: KeptStore;
}

/** @param over options of the child, whose parent is of the first kind */
export async function familyOf(
  format: string,
  kinds: readonly Record<string, unknown>[],
  samples: readonly Uint8Array[],
  over: Record<string, unknown> = {},
): Promise<Family> {
  const images = await imagesOf(format, kinds);
  const [parent, store] = [new KeptStore(images[0]), new KeptStore()];
  const backing = await openDisk(parent, { readOnly: true });
  await filled(await createOverlay(backing, store, { format, ...over, parent: { path: "p" } }));
  return { images, samples, child: contentOf(store), parent };
}

/** The child in one run of four, others' images now and then. */
export function membersOf({ images, samples, child, parent }: Family, change: Change): ImageFuzz["make"] {
  return (pick, run) => {
    if (run % 4 === 1) return { bytes: damaged(pick, child, change), parent };
    const all = run % 20 === 0 ? [...images, ...samples] : images;
    return { bytes: damaged(pick, all[pick(all.length)], change) };
  };
}

/** Of formats that can do all of it. */
export const WHOLE_WORKS: NonNullable<ImageFuzz["works"]> = (pick, disk) => [
  ["resize", () => disk.resize(pick(6000) * 512)],
  ["empty", () => wholeImage(disk, (image) => image.empty!())],
  ["orphan", () => wholeImage(disk, (image) => image.setParent!(undefined))],
];
export const READ = ["opened", "Read: Ok", "Read: Media"];
export const WRITTEN = [
  ...[...READ, "Write: Ok", "Write: Media", "WriteZeroes: Ok", "Discard: Ok", "Flush: Ok"],
  ...["check: done", "repair: done", "repair: CORRUPT", "resize: done"],
];
export const WHOLE = [...WRITTEN, "empty: done", "orphan: done"];

/** A number that parsers get wrong, or any. */
export function oddNumber(pick: Pick): number {
  if (pick(3) === 0) return pick(2 ** 32);
  return pick(2) === 0 ? pick(300) : VALUES[pick(VALUES.length)];
}
const VALUES = [0, 1, 2, 3, 4, 5, 511, 512, 513, 4096, 65536, 2 ** 20, 2 ** 28, 0x7fffffff, 0x80000000, 0xfffffffe];

/** Something of the image, while nothing else is under way. */
export function wholeImage(disk: Disk, work: (image: Image) => ReturnType<NonNullable<Image["sync"]>>): unknown {
  return (disk as unknown as Engine).exclusive(work);
}

/** Changes one to three things in a copy, as `change` does one; one copy in ten is cut off. */
export function damaged(pick: Pick, source: Uint8Array, change: Change): Uint8Array {
  const bytes = source.slice();
  const view = new DataView(bytes.buffer);
  for (let changes = 1 + pick(3); changes > 0; changes--) change(bytes, view, pick);
  return pick(10) === 0 ? bytes.slice(0, pick(bytes.length)) : bytes;
}
