import { describe, expect, test } from "vitest";
import { type Block, type BlockRequest, Op, Status } from "../../src/core/block.ts";
import type { ErrorCode } from "../../src/core/error.ts";
import type { Unlocking } from "../../src/core/secret.ts";
import { flush, readBytes } from "../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../src/host/block/open.ts";
import { FORMATS } from "../../src/host/format/index.ts";
import { KeptStore, LUKS, QCOW2_LUKS, VOLUME_KEY } from "../support/disks.ts";
import { batchOf, compare, Model, type Step } from "../support/model.ts";
import { CrashStore, contentOf, FaultStore, ForkStore, LateStore, randomFrom } from "../support/stores.ts";
import { createTwo, openTwo } from "../support/two-files.ts";

const MiB = 2 ** 20;

interface FormatCase {
  name: string;
  format: string;
  options: Record<string, unknown>;
  /** What opens it again. */
  unlocking?: Unlocking;
  /** Where both files of an image are in one store. */
  create?: typeof createDisk;
  open?: typeof openDisk;
}

const SPLIT = ["monolithicFlat", "twoGbMaxExtentFlat", "twoGbMaxExtentSparse", "vmfs", "vmfsSparse"];
const two = { create: createTwo as typeof createDisk, open: openTwo as typeof openDisk };

/** Every way to make an image. A new format joins the suite by being listed here; those that are only read, in read-only.test.ts. */
const CASES: FormatCase[] = [
  { name: "raw", format: "raw", options: {} },
  { name: "vhd, dynamic", format: "vhd", options: {} },
  { name: "vhd, dynamic, small blocks", format: "vhd", options: { blockSize: 65536 } },
  { name: "vhd, fixed", format: "vhd", options: { subformat: "fixed" } },
  { name: "qcow2", format: "qcow2", options: {} },
  { name: "qcow2, version 2, small clusters", format: "qcow2", options: { compat: "0.10", clusterSize: 4096 } },
  { name: "qcow2, subclusters", format: "qcow2", options: { extendedL2: true } },
  { name: "parallels", format: "parallels", options: {} },
  { name: "parallels, small clusters", format: "parallels", options: { clusterSize: 65536 } },
  { name: "vdi, dynamic", format: "vdi", options: {} },
  { name: "vdi, dynamic, small blocks", format: "vdi", options: { blockSize: 65536 } },
  { name: "vdi, fixed", format: "vdi", options: { subformat: "fixed" } },
  { name: "vmdk", format: "vmdk", options: {} },
  { name: "vmdk, zeroed grains", format: "vmdk", options: { zeroedGrain: true } },
  ...SPLIT.map((subformat) => ({ name: `vmdk, ${subformat}`, format: "vmdk", options: { subformat }, ...two })),
  { name: "vhdx, dynamic", format: "vhdx", options: {} },
  { name: "vhdx, fixed", format: "vhdx", options: { subformat: "fixed" } },
  { name: "qcow2 with LUKS", format: "qcow2", options: QCOW2_LUKS, unlocking: VOLUME_KEY },
  { name: "luks", format: "luks", options: LUKS, unlocking: VOLUME_KEY },
];

test("every format is in this suite", () => {
  const made = FORMATS.filter(({ create }) => create).map(({ name }) => name);
  expect(made.filter((name) => !CASES.some(({ format }) => format === name))).toEqual([]);
});

const code = (promise: Promise<unknown>) =>
  promise.then(
    () => "none",
    (error) => error.code,
  );

/** Random steps that meet each other, over `sectors`. */
function steps(random: () => number, sectors: number, count: number, longest = 3000): Step[] {
  return Array.from({ length: count }, () => {
    const kinds: Step["kind"][] = ["write", "write", "write", "read", "zero", "discard"];
    const sector = Math.floor(random() * sectors);
    const length = 1 + Math.floor(random() * (random() < 0.2 ? longest : 20));
    return { kind: kinds[Math.floor(random() * kinds.length)], sector, count: Math.min(length, sectors - sector) };
  });
}

describe.each(CASES)("$name", ({ format, options: own, unlocking = {}, create = createDisk, open = openDisk }) => {
  const options = { ...own, ...unlocking };
  const size = 6 * MiB + 512;
  let fresh: Uint8Array | undefined;
  const made = async () => {
    if (!fresh) {
      const store = new KeptStore();
      await (await create(store, { format, size, ...options })).close();
      fresh = contentOf(store);
    }
    return new ForkStore(fresh);
  };

  test("is known again by its content, and opens with the size it was given", async () => {
    const store = await made();
    const disk = await open(store, unlocking);
    expect(disk.format).toBe(format);
    expect(disk.size).toBe(size);
    expect(JSON.parse(JSON.stringify(disk.describe()))).toMatchObject({ format, size });
    expect((await readBytes(disk, 0, size)).every((byte) => byte === 0)).toBe(true);
    if (format === "raw") return;
    const content = contentOf(store);
    const length = Math.min(512, content.length);
    const claims = FORMATS.map((each) => [
      each.name,
      each.probe(content.subarray(0, length), content.subarray(-length)),
    ]);
    expect(claims.filter(([, sure]) => (sure as number) > 1).map(([name]) => name)).toEqual([format]);
  });

  test("refuses options and sizes that it has no use for", async () => {
    expect(await code(create(new KeptStore(), { format, size, ...options, colour: "blue" }))).toBe("INVALID");
    for (const wrong of [-512, Number.NaN, 1.5, 2 ** 60]) {
      expect(await code(create(new KeptStore(), { format, size: wrong, ...options }))).toBe("INVALID");
    }
  });

  test("opened read-only, it changes no byte and refuses writes", async () => {
    const store = await made();
    const before = contentOf(store);
    const disk = await open(store, { readOnly: true, ...unlocking });
    expect(disk.readOnly).toBe(true);
    const { batch } = batchOf(new Model(), [
      { kind: "write", sector: 0, count: 1 },
      { kind: "zero", sector: 0, count: 1 },
      { kind: "discard", sector: 0, count: 1 },
      { kind: "flush", sector: 0, count: 0 },
    ]);
    await disk.submit(batch);
    expect(batch.map(({ status }) => status)).toEqual([Status.ReadOnly, Status.ReadOnly, Status.ReadOnly, Status.Ok]);
    await disk.close();
    expect(Buffer.compare(contentOf(store), before)).toBe(0);
  });

  test("cut off at any length, it opens or is refused in its own words", async () => {
    const store = await made();
    const disk = await open(store, { format, ...unlocking });
    const { batch, check } = batchOf(new Model(), steps(randomFrom(1), size / 512, 30));
    await disk.submit(batch);
    expect(check()).toBeNull();
    await disk.close();
    const content = contentOf(store);
    const random = randomFrom(7);
    const outcomes = new Map<string, number>();
    for (let i = 0; i < 60; i++) {
      const cut = Math.floor(random() ** 3 * content.length);
      const kept = new KeptStore(content.subarray(0, cut));
      let outcome = await code(open(kept, { format, readOnly: true, ...unlocking }));
      if (outcome === "none") outcome = "opened";
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    }
    expect([...outcomes.keys()].filter((each) => !["opened", "CORRUPT"].includes(each))).toEqual([]);
  });

  // Every store call in turn fails, with each cause that a host has.
  test.each<[ErrorCode, Status]>([
    ["NO_SPACE", Status.NoSpace],
    ["MEDIA", Status.Media],
    ["IO", Status.Io],
  ])("survives any store call failing with %s", async (cause, status) => {
    for (const late of [false, true]) {
      for (let failing = 0; failing < 40; failing++) {
        const store = await made();
        const faulty = new FaultStore(late ? new LateStore(store, failing) : store);
        const disk = await open(faulty, { format, ...unlocking });
        const model = new Model();
        const first = batchOf(model, [
          { kind: "write", sector: 10, count: 8 },
          { kind: "write", sector: 5000, count: 8 },
          { kind: "flush", sector: 0, count: 0 },
        ]);
        await disk.submit(first.batch);
        expect(first.check()).toBeNull();

        let calls = 0;
        faulty.fault = (call) => {
          if (cause === "NO_SPACE" && (call === "readv" || call === "flush")) return;
          return calls++ === failing ? cause : undefined;
        };
        const { batch } = batchOf(new Model(), [
          { kind: "write", sector: 100, count: 3 },
          { kind: "read", sector: 10, count: 8 },
          { kind: "write", sector: 9000, count: 8 },
          { kind: "zero", sector: 110, count: 5 },
          { kind: "write", sector: 12000, count: 1 },
          { kind: "flush", sector: 0, count: 0 },
          { kind: "read", sector: 12000, count: 1 },
        ]);
        await disk.submit(batch);
        const failed = batch.filter((request) => request.status !== Status.Ok);
        expect(batch.some((request) => request.status === Status.Pending)).toBe(false);
        expect(failed.length).toBeLessThanOrEqual(1);
        for (const request of failed) {
          expect(request.status).toBe(status);
          expect(request.error?.message).toContain("injected");
        }
        const reached = calls > failing;
        // The disk goes on: the same again succeeds.
        faulty.fault = () => undefined;
        const again = batchOf(model, [
          { kind: "write", sector: 9000, count: 8 },
          { kind: "write", sector: 12000, count: 1 },
          { kind: "flush", sector: 0, count: 0 },
        ]);
        await disk.submit(again.batch);
        expect(again.check()).toBeNull();
        await disk.close();
        const reopened = await open(store, { format, ...unlocking });
        expect(await compare(reopened, model)).toBeNull();
        await reopened.close();
        if (!reached) break;
      }
    }
  });

  test("loses power at any moment and keeps what was flushed", async () => {
    const half = Math.floor(size / 1024);
    for (let seed = 1; seed < 3; seed++) {
      const random = randomFrom(seed);
      const store = await made();
      const disk = await open(store, { format, ...unlocking });
      const flushed = new Model();
      const first = batchOf(flushed, steps(random, half, seed * 3, 100)); // the lower half
      await disk.submit(first.batch);
      expect(first.check()).toBeNull();
      await disk.close();
      const content = contentOf(store);

      // Then the upper half: each sector there may be old or new, whichever of the store's calls is the last.
      const loose = steps(random, half, 6, 100).map((step) => ({ ...step, sector: step.sector + half + 1 }));
      for (let calls = 0, on = false; !on; calls++) {
        const crash = new CrashStore(content);
        const failing = await open(crash, { format, ...unlocking });
        crash.callsLeft = calls;
        const { batch } = batchOf(new Model(), [...loose, { kind: "flush", sector: 0, count: 0 }]);
        await failing.submit(batch);
        on = crash.callsLeft > 0;

        const after = await open(crash.afterCrash(random), { format, ...unlocking });
        expect(await compare(after, flushed)).toBeNull();
        for (const [sector, allowed] of possible(batch)) {
          const words = new Uint32Array((await readBytes(after, sector * 512, 512)).slice().buffer);
          expect(words.every((word) => word === words[0])).toBe(true);
          expect(allowed.has(words[0])).toBe(true);
        }
        await writable(after);
      }
    }
  });
});

/** What each sector that the batch touches may hold if the batch did not end: nothing, or anything written there. */
function possible(batch: readonly BlockRequest[]): Map<number, Set<number>> {
  const sectors = new Map<number, Set<number>>();
  for (const request of batch) {
    const split = Math.floor(request.length / 1024) * 512; // see batchOf for where the halves are
    const view = new DataView(request.memory.buffer);
    for (let at = 0; at < request.length; at += 512) {
      const sector = (request.offset + at) / 512;
      const tags = sectors.get(sector) ?? new Set([0]);
      if (request.op === Op.Write)
        tags.add(view.getUint32(at < split ? request.length - split + 64 + at : at - split, true));
      sectors.set(sector, tags);
    }
  }
  return sectors;
}

/** The image can be written on. */
async function writable(disk: Block): Promise<void> {
  const model = new Model();
  const ranges = [
    { sector: 20, count: 40 },
    { sector: disk.size / 512 - 3, count: 3 },
  ];
  for (const kind of ["write", "read"] as const) {
    const steps = ranges.map((range) => ({ ...range, kind }));
    const { batch, check } = batchOf(model, steps);
    await disk.submit(batch);
    expect(check()).toBeNull();
    await flush(disk);
  }
  await disk.close();
}
