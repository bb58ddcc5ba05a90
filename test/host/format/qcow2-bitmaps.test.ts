import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { discard, flush, readBytes, writeBytes, writeZeroes } from "../../../src/host/block/bytes.ts";
import { createDisk, type Disk, openDisk } from "../../../src/host/block/open.ts";
import { clipBits, Marks, runEnd, setBits } from "../../../src/host/format/qcow2/bitmap-marks.ts";
import { repairQcow2 } from "../../../src/host/format/qcow2/check.ts";
import { openQcow2 } from "../../../src/host/format/qcow2/open.ts";
import { backupDisk } from "../../../src/host/image/backup.ts";
import {
  type BitmapAction,
  bitmapExtents,
  changeBitmaps,
  copyBitmaps,
  listBitmaps,
} from "../../../src/host/image/bitmap.ts";
import { copyDisk } from "../../../src/host/image/copy.ts";
import { discardChanges } from "../../../src/host/image/discard.ts";
import { applySnapshot, createSnapshot, deleteSnapshot } from "../../../src/host/image/snapshot.ts";
import { MemoryStore } from "../../../src/host/store/memory.ts";
import { BitmapModel, dirtyOf } from "../../support/bitmap.ts";
import { KeptStore } from "../../support/disks.ts";
import { afterCut, RecordingStore } from "../../support/power.ts";
import { check, now } from "../../support/qcow2.ts";
import { contentOf, randomFrom } from "../../support/stores.ts";
import { tier } from "../../support/tier.ts";

const KiB = 1024;
const MiB = 2 ** 20;
const SECTOR = 512;

const make = async (store: MemoryStore, options: Record<string, unknown> = {}) =>
  createDisk(store, { format: "qcow2", size: 4 * MiB, clusterSize: 4096, ...options });

describe("bits", () => {
  test("are set, cut off and found as one by one", () => {
    fc.assert(
      fc.property(fc.nat(70), fc.nat(70), fc.nat(79), (a, b, cut) => {
        const bytes = new Uint8Array(10);
        const model = new Array(80).fill(0);
        setBits(bytes, Math.min(a, b), Math.max(a, b));
        for (let i = Math.min(a, b); i < Math.max(a, b); i++) model[i] = 1;
        clipBits(bytes, cut);
        model.fill(0, cut);
        expect(model.map((_, i) => (bytes[i >> 3] >> (i & 7)) & 1)).toEqual(model);
        for (let at = 0; at < 80; ) {
          const end = runEnd(bytes, at, 80);
          expect(model.slice(at, end).every((bit) => bit === model[at])).toBe(true);
          expect(end === 80 || model[end] !== model[at]).toBe(true);
          at = end;
        }
      }),
    );
  });
  test("of 64 TiB take a little memory", () => {
    const marks = new Marks(16);
    marks.set(1000, 2 ** 46 - 2000);
    const data = new Uint8Array(64 * KiB);
    marks.overlay(2 ** 26, data);
    expect(data.every((byte) => byte === 0xff)).toBe(true);
  });
});

describe("a bitmap", () => {
  test("notes writes, zeros and discards from when it was added, in units, across closing", async () => {
    const store = new KeptStore();
    let disk = await make(store);
    await writeBytes(disk, 0, new Uint8Array(4096).fill(1));
    await changeBitmaps(disk, [{ do: "add", name: "b", granularity: 8192 }]);
    expect(await dirtyOf(disk, "b")).toEqual([]);
    await writeBytes(disk, 100 * KiB, new Uint8Array(SECTOR).fill(1));
    await writeZeroes(disk, 200 * KiB, 16384);
    await discard(disk, 2 * MiB, MiB);
    const wanted = [
      [96 * KiB, 104 * KiB],
      [200 * KiB, 216 * KiB],
      [2 * MiB, 3 * MiB],
    ];
    expect(await dirtyOf(disk, "b")).toEqual(wanted);
    await disk.close();
    expect(check(store)).toMatchObject({ corruptions: 0, leaks: 0 });
    disk = await openDisk(store);
    expect(listBitmaps(disk)).toEqual([{ name: "b", granularity: 8192, recording: true, inconsistent: false }]);
    expect(await dirtyOf(disk, "b")).toEqual(wanted);
    expect(disk.describe()).toMatchObject({
      formatSpecific: { data: { bitmaps: [{ flags: ["auto"], name: "b", granularity: 8192 }] } },
    });
    await disk.close();
  });

  test("is changed as asked, all of it or nothing", async () => {
    const store = new KeptStore();
    const disk = await make(store);
    await changeBitmaps(disk, [
      { do: "add", name: "a" },
      { do: "add", name: "off", recording: false },
    ]);
    await writeBytes(disk, MiB, new Uint8Array(SECTOR));
    await changeBitmaps(disk, [{ do: "disable", name: "a" }]);
    await writeBytes(disk, 2 * MiB, new Uint8Array(SECTOR));
    expect(await dirtyOf(disk, "a")).toEqual([[MiB, MiB + 4096]]);
    expect(await dirtyOf(disk, "off")).toEqual([]);
    await changeBitmaps(disk, [
      { do: "enable", name: "off" },
      { do: "add", name: "both", granularity: 512 },
    ]);
    await writeBytes(disk, 3 * MiB, new Uint8Array(SECTOR));
    await changeBitmaps(disk, [
      { do: "merge", name: "both", from: "a" },
      { do: "merge", name: "both", from: "off" },
      { do: "clear", name: "off" },
    ]);
    expect(await dirtyOf(disk, "both")).toEqual([
      [MiB, MiB + 4096],
      [3 * MiB, 3 * MiB + 4096],
    ]);
    expect(await dirtyOf(disk, "off")).toEqual([]);
    const refused: [BitmapAction[], string, RegExp][] = [
      [
        [
          { do: "remove", name: "a" },
          { do: "clear", name: "x" },
        ],
        "NOT_FOUND",
        /'x' not found/,
      ],
      [[{ do: "add", name: "a" }], "EXISTS", /already exists: a/],
      [[{ do: "add", name: "" }], "INVALID", /empty/],
      [[{ do: "add", name: "n".repeat(1024) }], "INVALID", /1024 bytes/],
      [[{ do: "add", name: "y", granularity: 256 }], "INVALID", /at least 512/],
      [[{ do: "add", name: "y", granularity: 1000 }], "INVALID", /power of 2/],
      [[{ do: "add", name: "y", granularity: 2 ** 32 }], "INVALID", /at most/],
      [[{ do: "merge", name: "a", from: "x" }], "NOT_FOUND", /'x'/],
    ];
    for (const [actions, code, message] of refused) {
      await expect(changeBitmaps(disk, actions)).rejects.toMatchObject({
        code,
        message: expect.stringMatching(message),
      });
    }
    expect(listBitmaps(disk).map(({ name }) => name)).toEqual(["a", "off", "both"]);
    await changeBitmaps(disk, [
      { do: "remove", name: "a" },
      { do: "remove", name: "off" },
      { do: "remove", name: "both" },
    ]);
    await disk.close();
    expect(check(store)).toMatchObject({ corruptions: 0, leaks: 0 });
    expect(new DataView(contentOf(store).buffer).getBigUint64(88)).toBe(0n);
  });

  test("that was not stored is inconsistent: of no use, but to be removed", async () => {
    const store = new KeptStore();
    const disk = await make(store);
    await changeBitmaps(disk, [
      { do: "add", name: "b" },
      { do: "add", name: "still", recording: false },
    ]);
    await writeBytes(disk, 0, new Uint8Array(4096).fill(1));
    await flush(disk);
    // The lights go out here.
    const left = new KeptStore(contentOf(store));
    const again = await openDisk(left);
    expect(listBitmaps(again)).toMatchObject([
      { name: "b", inconsistent: true },
      { name: "still", inconsistent: false },
    ]);
    await expect(dirtyOf(again, "b")).rejects.toMatchObject({ code: "CORRUPT", message: /inconsistent/ });
    expect(await dirtyOf(again, "still")).toEqual([]);
    for (const action of ["clear", "enable", "disable"] as const) {
      await expect(changeBitmaps(again, [{ do: action, name: "b" }])).rejects.toMatchObject({ code: "CORRUPT" });
    }
    await expect(again.resize(8 * MiB)).rejects.toMatchObject({ code: "CORRUPT" });
    await writeBytes(again, 0, new Uint8Array(4096).fill(2));
    await changeBitmaps(again, [{ do: "remove", name: "b" }]);
    await again.resize(8 * MiB);
    await again.close();
    expect(check(left)).toMatchObject({ corruptions: 0, leaks: 0 });
  });

  test("has the size of the disk", async () => {
    const store = new KeptStore();
    let disk = await make(store, { clusterSize: 512, size: 8 * MiB });
    // 4,096 bits are a cluster of the bitmap: 2 MiB.
    await changeBitmaps(disk, [
      { do: "add", name: "b", granularity: 512 },
      { do: "add", name: "off", granularity: 512 },
    ]);
    await writeZeroes(disk, 0, 8 * MiB);
    await changeBitmaps(disk, [{ do: "disable", name: "off" }]);
    await disk.resize(5 * MiB + 1024);
    expect(await dirtyOf(disk, "b")).toEqual([[0, 5 * MiB + 1024]]);
    await disk.resize(16 * MiB);
    for (const name of ["b", "off"]) expect(await dirtyOf(disk, name)).toEqual([[0, 5 * MiB + 1024]]);
    await writeBytes(disk, 12 * MiB, new Uint8Array(512));
    await disk.close();
    expect(check(store)).toMatchObject({ corruptions: 0, leaks: 0 });
    disk = await openDisk(store);
    expect(await dirtyOf(disk, "b")).toEqual([
      [0, 5 * MiB + 1024],
      [12 * MiB, 12 * MiB + 512],
    ]);
    await expect(disk.resize(0)).rejects.toMatchObject({ code: "UNSUPPORTED" });
    await disk.close();
  });

  test("stays with the disk as it is: snapshots, emptying, another parent", async () => {
    const store = new KeptStore();
    const disk = await make(store);
    await changeBitmaps(disk, [{ do: "add", name: "b" }]);
    await writeBytes(disk, MiB, new Uint8Array(4096).fill(1));
    await createSnapshot(disk, { name: "one" });
    await writeBytes(disk, 2 * MiB, new Uint8Array(4096).fill(1));
    const wanted = [
      [MiB, MiB + 4096],
      [2 * MiB, 2 * MiB + 4096],
    ];
    expect(await dirtyOf(disk, "b")).toEqual(wanted);
    // As QEMU.
    await expect(applySnapshot(disk, "one")).rejects.toMatchObject({ code: "UNSUPPORTED", message: /dirty bitmaps/ });
    await deleteSnapshot(disk, "one");
    expect(await dirtyOf(disk, "b")).toEqual(wanted);
    await discardChanges(disk);
    expect(await dirtyOf(disk, "b")).toEqual([[0, 4 * MiB]]);
    await disk.close();
    expect(check(store)).toMatchObject({ corruptions: 0, leaks: 0 });
  });

  test("is no image's of version 2, nor another format's", async () => {
    const old = await make(new KeptStore(), { compat: "0.10" });
    await expect(changeBitmaps(old, [{ do: "add", name: "b" }])).rejects.toMatchObject({ code: "UNSUPPORTED" });
    const vhd = await createDisk(new KeptStore(), { format: "vhd", size: MiB });
    await expect(changeBitmaps(vhd, [{ do: "add", name: "b" }])).rejects.toMatchObject({ code: "UNSUPPORTED" });
    expect(listBitmaps(vhd)).toEqual([]);
  });

  test("moves to another image, of the same size", async () => {
    const disk = await make(new KeptStore());
    await changeBitmaps(disk, [
      { do: "add", name: "b", granularity: 512 },
      { do: "add", name: "c", recording: false },
    ]);
    await writeBytes(disk, MiB, new Uint8Array(SECTOR));
    const other = await make(new KeptStore(), { clusterSize: 65536 });
    expect(await copyBitmaps(disk, other)).toEqual([]);
    expect(listBitmaps(other)).toEqual(listBitmaps(disk));
    expect(await dirtyOf(other, "b")).toEqual([[MiB, MiB + SECTOR]]);
    const small = await make(new KeptStore(), { size: MiB });
    await expect(copyBitmaps(disk, small)).rejects.toMatchObject({ code: "INVALID", message: /different sizes/ });
  });

  test("reaches over 64 TiB, and its pages are few", async () => {
    const store = new KeptStore();
    const disk = await createDisk(store, { format: "qcow2", size: 2 ** 46 });
    await changeBitmaps(disk, [{ do: "add", name: "b", granularity: 2 ** 20 }]);
    await writeBytes(disk, 2 ** 46 - 512, new Uint8Array(512).fill(1));
    await disk.close();
    const again = await openDisk(store);
    expect(await dirtyOf(again, "b")).toEqual([[2 ** 46 - 2 ** 20, 2 ** 46]]);
    await expect(changeBitmaps(again, [{ do: "add", name: "x", granularity: 512 }])).rejects.toMatchObject({
      message: /Too much space/,
    });
    expect(store.size).toBeLessThan(8 * MiB);
  });
});

describe("an incremental backup", () => {
  test("over the last one reads as the disk, and holds little", async () => {
    const random = randomFrom(3);
    const store = new KeptStore();
    const disk = await make(store);
    const scribble = async () => {
      for (let i = 0; i < 12; i++) {
        const at = Math.floor(random() * 8000) * SECTOR;
        const length = Math.min(4 * MiB - at, (1 + Math.floor(random() * 20)) * SECTOR);
        if (random() < 0.3) await writeZeroes(disk, at, length);
        else await writeBytes(disk, at, new Uint8Array(length).fill(1 + Math.floor(random() * 250)));
      }
    };
    await writeBytes(disk, 0, new Uint8Array(4 * MiB).fill(7));
    const full = await make(new KeptStore());
    await copyDisk(disk, full, { fresh: true });
    await changeBitmaps(disk, [{ do: "add", name: "b", granularity: 4096 }]);
    let last = full;
    for (let day = 0; day < 4; day++) {
      await scribble();
      const next = await createDisk(new KeptStore(), {
        format: "qcow2",
        size: 4 * MiB,
        clusterSize: 4096,
        parent: { path: "last", format: "qcow2" },
        backing: last,
      });
      const { written } = await backupDisk(disk, next, { bitmap: "b" });
      expect(written).toBeLessThan(MiB);
      await changeBitmaps(disk, [{ do: "clear", name: "b" }]);
      const [mine, theirs] = [await readBytes(disk, 0, 4 * MiB), await readBytes(next, 0, 4 * MiB)];
      expect([day, Buffer.compare(mine, theirs)]).toEqual([day, 0]);
      last = next;
    }
    // And into the full one.
    const onto = await make(new KeptStore());
    await copyDisk(disk, onto, { fresh: true });
    await scribble();
    await backupDisk(disk, onto, { bitmap: "b" });
    expect(Buffer.compare(await readBytes(disk, 0, 4 * MiB), await readBytes(onto, 0, 4 * MiB))).toBe(0);
  });
});

interface Step {
  kind:
    | "write"
    | "zero"
    | "discard"
    | "reopen"
    | "crash"
    | "resize"
    | "snapshot"
    | "clear"
    | "toggle"
    | "merge"
    | "add"
    | "remove";
  at: number;
  count: number;
}
// biome-ignore format: how often each comes is seen at a glance
const KINDS: Step["kind"][] = [
  "write", "write", "write", "zero", "discard", "reopen", "crash", "resize", "snapshot", "clear", "toggle", "merge", "add", "remove",
];

/** Runs a program over an image with some bitmaps; what they say is compared with a model after each step. */
async function play(steps: readonly Step[], options: Record<string, unknown>): Promise<void> {
  const store = new KeptStore();
  let size = 2 * MiB + 512 * 3;
  let disk: Disk = await make(store, { size, ...options });
  const models = new Map<string, { model: BitmapModel; on: boolean; lost: boolean }>();
  const add = async (name: string, granularity: number) => {
    await changeBitmaps(disk, [{ do: "add", name, granularity }]);
    models.set(name, { model: new BitmapModel(granularity), on: true, lost: false });
  };
  await add("b0", 512);
  await add("b1", 65536);
  const mark = (offset: number, length: number) => {
    for (const { model, on, lost } of models.values()) if (on && !lost) model.mark(offset, length);
  };
  const usable = () => [...models].filter(([, { lost }]) => !lost);
  let next = 2;
  for (const { kind, at: place, count } of steps) {
    const at = (place % (size / SECTOR)) * SECTOR;
    const length = Math.min(size - at, count * SECTOR);
    const [name, one] = usable()[place % Math.max(1, usable().length)] ?? [];
    if (kind === "write") {
      mark(at, length);
      await writeBytes(disk, at, new Uint8Array(length).fill(1 + (place % 250)));
    } else if (kind === "zero" || kind === "discard") {
      mark(at, length);
      await (kind === "zero" ? writeZeroes : discard)(disk, at, length);
    } else if (kind === "reopen") {
      await disk.close();
      disk = await openDisk(store);
    } else if (kind === "crash") {
      await writeBytes(disk, at, new Uint8Array(SECTOR));
      mark(at, SECTOR);
      await flush(disk);
      const left = new KeptStore(contentOf(store));
      await disk.close();
      const after = await openDisk(left, { readOnly: true });
      const said = new Map(listBitmaps(after).map((info) => [info.name, info.inconsistent]));
      for (const [known, { on, lost }] of models) expect([known, said.get(known)]).toEqual([known, on || lost]);
      await after.close();
      // Lazy refcounts are mended by the next writer.
      if (options.lazyRefcounts) now(now(openQcow2(left, {})).begin());
      expect(check(left)).toMatchObject({ corruptions: 0 });
      disk = await openDisk(store);
    } else if (kind === "resize") {
      const to = (1 + (place % 9000)) * SECTOR;
      await disk.resize(to);
      size = to;
      for (const { model } of models.values()) model.resize(to);
    } else if (kind === "snapshot") await createSnapshot(disk, { name: "s" });
    else if (kind === "add" && models.size < 5) await add(`b${next++}`, 512 << (place % 8));
    else if (name !== undefined && one) {
      if (kind === "clear") {
        await changeBitmaps(disk, [{ do: "clear", name }]);
        one.model.units.clear();
      } else if (kind === "toggle") {
        await changeBitmaps(disk, [{ do: one.on ? "disable" : "enable", name }]);
        one.on = !one.on;
      } else if (kind === "remove" && models.size > 1) {
        await changeBitmaps(disk, [{ do: "remove", name }]);
        models.delete(name);
      } else if (kind === "merge") {
        const [from, other] = usable()[count % usable().length];
        await changeBitmaps(disk, [{ do: "merge", name, from }]);
        for (const [start, end] of other.model.extents(size)) one.model.mark(start, end - start);
      }
    }
    for (const [known, { model }] of usable()) {
      expect([kind, known, await dirtyOf(disk, known)]).toEqual([kind, known, model.extents(size)]);
    }
  }
  await disk.close();
  expect(check(store)).toMatchObject({ corruptions: 0, leaks: 0, problems: [] });
  const again = await openDisk(store, { readOnly: true });
  for (const [known, { model }] of usable()) expect(await dirtyOf(again, known)).toEqual(model.extents(size));
}

describe("random programs", () => {
  for (const options of [
    { clusterSize: 512, refcountBits: 64 },
    { clusterSize: 65536 },
    { clusterSize: 16384, extendedL2: true, lazyRefcounts: true },
  ]) {
    test(`bitmaps say what was changed: ${JSON.stringify(options)}`, async () => {
      const program = fc.array(
        fc.record<Step>({
          kind: fc.constantFrom(...KINDS),
          at: fc.nat(10_000),
          count: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 3000 })),
        }),
        { maxLength: 14 },
      );
      await fc.assert(
        fc.asyncProperty(program, (steps) => play(steps, options)),
        { numRuns: tier(60, 2000), seed: 11 },
      );
    });
  }
});

describe("a power cut", () => {
  test("leaves each bitmap as it was, as it is, or flagged; and never an unnoted change", async () => {
    const store = new RecordingStore();
    const disk = await make(store, { clusterSize: 512, size: 256 * KiB });
    await changeBitmaps(disk, [{ do: "add", name: "b", granularity: 512 }]);
    await disk.close();
    const start = store.steps.length;
    const random = randomFrom(8);
    /** Content and marks as they were each time when the image was closed. */
    const stages: { content: Buffer; dirty: string }[] = [];
    const stage = async () => {
      const view = await openDisk(new MemoryStore(contentOf(store)), { readOnly: true });
      const content = Buffer.from(await readBytes(view, 0, view.size));
      stages.push({ content, dirty: JSON.stringify(await dirtyOf(view, "b")) });
    };
    await stage();
    for (let round = 0; round < 5; round++) {
      const open = await openDisk(store);
      for (let i = 0; i < 4; i++) {
        const at = Math.floor(random() * 500) * SECTOR;
        await writeBytes(open, at, new Uint8Array(3 * SECTOR).fill(1 + Math.floor(random() * 250)));
        if (i === 2) await flush(open);
      }
      if (round === 2) await changeBitmaps(open, [{ do: "add", name: "c" }]);
      if (round === 3) await changeBitmaps(open, [{ do: "remove", name: "c" }]);
      await open.close();
      await stage();
    }
    let flagged = 0;
    let sound = 0;
    for (let count = start; count <= store.steps.length; count++) {
      for (const torn of [undefined, randomFrom(count), randomFrom(count + 7)]) {
        const left = afterCut(store.steps, count, torn);
        const where = `${count} steps${torn ? ", some lost" : ""}`;
        const report = check(left);
        expect([where, report.problems.filter(({ kind }) => kind !== "leak")]).toEqual([where, []]);
        const view = await openDisk(left, { readOnly: true });
        const info = listBitmaps(view).find(({ name }) => name === "b");
        expect([where, info === undefined]).toEqual([where, false]);
        if (info!.inconsistent) flagged++;
        else {
          sound++;
          // Not flagged: then the content is what it was when these marks were right.
          const dirty = JSON.stringify(await dirtyOf(view, "b"));
          const content = Buffer.from(await readBytes(view, 0, view.size));
          const known = stages.some((one) => one.dirty === dirty && one.content.equals(content));
          expect([where, known]).toEqual([where, true]);
        }
      }
    }
    expect(flagged).toBeGreaterThan(20);
    expect(sound).toBeGreaterThan(20);
  });
});

describe("damage", () => {
  const damaged = async (edit: (bytes: Uint8Array, view: DataView, directory: number) => void) => {
    const store = new KeptStore();
    const disk = await make(store);
    await changeBitmaps(disk, [{ do: "add", name: "b" }]);
    await writeBytes(disk, 0, new Uint8Array(4096).fill(5));
    await disk.close();
    const bytes = contentOf(store);
    const view = new DataView(bytes.buffer);
    const extension = Buffer.from(bytes).indexOf(Buffer.from([0x23, 0x85, 0x28, 0x75]));
    edit(bytes, view, Number(view.getBigUint64(extension + 8 + 16)));
    return new KeptStore(bytes);
  };
  test.each<[string, (bytes: Uint8Array, view: DataView, directory: number) => void]>([
    ["an entry past the directory", (_, view, at) => view.setUint16(at + 18, 2000)],
    ["another type", (_, view, at) => view.setUint8(at + 16, 2)],
    ["reserved flags", (_, view, at) => view.setUint32(at + 12, 8)],
    ["an absurd granularity", (_, view, at) => view.setUint8(at + 17, 60)],
    ["a table that is not aligned", (_, view, at) => view.setUint32(at + 4, view.getUint32(at + 4) + 512)],
    ["a table of another size", (_, view, at) => view.setUint32(at + 8, 2)],
    ["an absurd table", (_, view, at) => view.setUint32(at + 8, 2 ** 31)],
  ])("%s: the disk is read, not written, and repaired without its bitmaps", async (_name, edit) => {
    const store = await damaged(edit);
    const warnings: string[] = [];
    const disk = await openDisk(store, { onWarning: (text) => warnings.push(text) });
    expect(warnings).toEqual([expect.stringContaining("bitmaps cannot be used")]);
    expect((await readBytes(disk, 0, 1))[0]).toBe(5);
    await expect(writeBytes(disk, 0, new Uint8Array(512))).rejects.toMatchObject({ code: "CORRUPT" });
    expect(check(store).corruptions).toBeGreaterThan(0);
    expect(now(repairQcow2(store, "all"))).toMatchObject({ leaks: 0, corruptions: 0 });
    const again = await openDisk(store);
    expect(listBitmaps(again)).toEqual([]);
    await writeBytes(again, 0, new Uint8Array(512));
    await again.close();
  });
  test("extra data that nobody knows: the bitmap is left alone, and flagged when the disk changes", async () => {
    const store = new KeptStore();
    const disk = await make(store);
    await changeBitmaps(disk, [{ do: "add", name: "eight123" }]);
    await disk.close();
    const bytes = contentOf(store);
    const view = new DataView(bytes.buffer);
    const extension = Buffer.from(bytes).indexOf(Buffer.from([0x23, 0x85, 0x28, 0x75]));
    const at = Number(view.getBigUint64(extension + 8 + 16));
    // Eight bytes more in front of the name.
    bytes.copyWithin(at + 32, at + 24, at + 32);
    view.setUint32(at + 20, 8);
    view.setBigUint64(extension + 8 + 8, 40n);
    const odd = new KeptStore(bytes);
    const again = await openDisk(odd);
    expect(listBitmaps(again)).toMatchObject([{ name: "eight123", inconsistent: true }]);
    await writeBytes(again, 0, new Uint8Array(512));
    await again.close();
    const after = new DataView(contentOf(odd).buffer);
    expect(after.getUint32(at + 12) & 1).toBe(1);
    expect(check(odd)).toMatchObject({ corruptions: 0, leaks: 0 });
  });
  test("a bitmap's extents end where the range does", async () => {
    const disk = await make(new KeptStore());
    await changeBitmaps(disk, [{ do: "add", name: "b" }]);
    await writeBytes(disk, 0, new Uint8Array(8192));
    const list = [];
    for await (const extent of bitmapExtents(disk, "b", { from: 512, length: 10_000 })) list.push(extent);
    expect(list).toEqual([
      { start: 512, length: 7680, dirty: true },
      { start: 8192, length: 2320, dirty: false },
    ]);
    await expect(bitmapExtents(disk, "b", { from: 4 * MiB, length: 1 }).next()).rejects.toMatchObject({
      code: "OUT_OF_RANGE",
    });
  });
});
