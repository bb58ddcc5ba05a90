// The operations on whole disks as a library: over stores in memory, synchronous and not, stopped and reported on.
import { deflateRawSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import {
  applySnapshot,
  benchDisk,
  chainOf,
  checkImage,
  compareDisks,
  createDisk,
  createImage,
  createSnapshot,
  type Disk,
  deleteSnapshot,
  imageInfo,
  listSnapshots,
  mapDisk,
  measureImage,
  openDisk,
  ParavaneError,
  packDisk,
  readBytes,
  repairImage,
  resizeDisk,
  salvage,
  withFaults,
  writeBytes,
} from "../../../src/index.ts";
import { KeptStore } from "../../support/disks.ts";
import { contentOf, LateStore } from "../../support/stores.ts";

const MiB = 2 ** 20;
const text = (length: number, seed: string) => new Uint8Array(Buffer.alloc(length, seed));

async function made(format: string, size = 4 * MiB, options: Record<string, unknown> = {}): Promise<Disk> {
  return createDisk(new KeptStore(), { format, size, ...options });
}

/** A signal that fires at the n-th report of progress, and how far it had got. */
function stopAt(n: number) {
  const stop = new AbortController();
  const seen: [number, number][] = [];
  const onProgress = (done: number, total: number) => {
    seen.push([done, total]);
    if (seen.length === n) stop.abort();
  };
  return { signal: stop.signal, onProgress, seen };
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "none",
    (thrown) => (thrown instanceof ParavaneError ? thrown.code : String(thrown)),
  );
}

describe("compareDisks", () => {
  test.each(["raw", "vhd", "vhdx", "qcow2"])("%s against raw: the sector of the first difference", async (format) => {
    const [one, other] = [await made(format), await made("raw", 5 * MiB)];
    const bytes = text(300_032, "same ");
    for (const disk of [one, other]) await writeBytes(disk, MiB + 512, bytes);
    expect(await compareDisks(one, other)).toEqual({ identical: true, sizesDiffer: true });
    expect(await compareDisks(one, other, { strict: true })).toMatchObject({ identical: false, what: "size" });
    await writeBytes(other, 4 * MiB + 1024, text(512, "more"));
    expect(await compareDisks(one, other)).toMatchObject({ identical: false, what: "content", offset: 4 * MiB + 1024 });
    bytes[100_001] ^= 1;
    await writeBytes(other, MiB + 512, bytes);
    const offset = MiB + 512 + Math.floor(100_001 / 512) * 512;
    expect(await compareDisks(one, other)).toMatchObject({ identical: false, what: "content", offset });
    expect(await compareDisks(other, one)).toMatchObject({ identical: false, what: "content", offset });
  });

  test("sectors of other sizes, and a disk that ends inside a chunk", async () => {
    const one = await made("vhdx", 3 * MiB + 4096, { logicalSectorSize: 4096 });
    const other = await made("raw", 3 * MiB + 3584);
    await writeBytes(one, 3 * MiB, text(4096, "x").fill(0, 3584));
    await writeBytes(other, 3 * MiB, text(3584, "x"));
    expect(await compareDisks(one, other)).toMatchObject({ identical: true });
    await writeBytes(one, 3 * MiB, text(4096, "x"));
    expect(await compareDisks(one, other)).toMatchObject({ identical: false, offset: 3 * MiB + 3584 });
  });

  test("strict sees other places for the same bytes", async () => {
    const [one, other] = [await made("qcow2"), await made("qcow2")];
    await writeBytes(one, MiB, new Uint8Array(65536));
    expect(await compareDisks(one, other)).toMatchObject({ identical: true });
    expect(await compareDisks(one, other, { strict: true })).toMatchObject({ what: "allocation", offset: MiB });
  });
});

test("work stops when its signal fires, and says how far it has got", async () => {
  const late = () => new LateStore(new KeptStore());
  const [one, other] = [await made("raw", 64 * MiB), await createDisk(late(), { format: "raw", size: 64 * MiB })];
  for (const work of [
    (options: object) => compareDisks(one, other, options),
    (options: object) => benchDisk(one, { count: 1e9, ...options }),
    (options: object) => resizeDisk(one, 4096 * MiB, { preallocation: "full", ...options }),
  ]) {
    const { seen, ...options } = stopAt(1);
    expect(await codeOf(work(options))).toBe("ABORTED");
    expect(seen.map(([done]) => done)).toEqual([0]);
  }
  const gone = AbortSignal.abort();
  const store = new KeptStore();
  await createImage(store, { format: "qcow2", size: MiB });
  expect(await codeOf(checkImage(store, { signal: gone }))).toBe("ABORTED");
  expect(await codeOf(repairImage(store, "all", { signal: gone }))).toBe("ABORTED");
  expect(await codeOf(measureImage({ format: "qcow2", source: one, signal: gone }))).toBe("ABORTED");
  expect(await codeOf(createImage(new KeptStore(), { format: "qcow2", size: MiB, signal: gone }))).toBe("ABORTED");
});

describe("checkImage and repairImage", () => {
  test("find the format themselves; a format without a check is refused by code", async () => {
    for (const format of ["vhd", "vhdx", "qcow2"]) {
      const store = new KeptStore();
      await createImage(store, { format, size: 3 * MiB });
      const before = contentOf(store);
      expect(await checkImage(store)).toMatchObject({ format, leaks: 0, corruptions: 0 });
      expect(Buffer.compare(contentOf(store), before)).toBe(0);
      expect(await repairImage(store, "all")).toMatchObject({ leaksFixed: 0, corruptionsFixed: 0, corruptions: 0 });
    }
    expect(await codeOf(checkImage(new KeptStore(new Uint8Array(4096))))).toBe("UNSUPPORTED");
    expect(await codeOf(checkImage(new KeptStore(), { format: "fly" }))).toBe("INVALID");
  });
});

describe("mapDisk", () => {
  test("runs cover the range without a gap; a range past the end is refused", async () => {
    const disk = await made("qcow2", 8 * MiB);
    await writeBytes(disk, 65536, text(65536, "a"));
    await writeBytes(disk, 3 * MiB, text(512, "b"));
    for (const [from, length] of [
      [0, 8 * MiB],
      [512, 65536],
      [3 * MiB, 512],
      [8 * MiB, 0],
    ]) {
      let at = from;
      for await (const run of mapDisk(disk, { from, length })) {
        expect(run.start).toBe(at);
        at += run.length;
      }
      expect(at).toBe(from + length);
    }
    const past = async () => {
      for await (const _ of mapDisk(disk, { from: 8 * MiB, length: 1 }));
    };
    expect(await codeOf(past())).toBe("OUT_OF_RANGE");
  });
});

describe("packDisk", () => {
  const compress = async (bytes: Uint8Array, { windowBits = 12 }) =>
    new Uint8Array(deflateRawSync(bytes, { windowBits }));

  test("what compresses is packed, what does not is plain, zeros are nothing; the disk is the same", async () => {
    const source = await made("raw", 2 * MiB + 512);
    await writeBytes(source, 0, text(70_144, "text "));
    await writeBytes(source, MiB, crypto.getRandomValues(new Uint8Array(65536)));
    await writeBytes(source, 2 * MiB, text(512, "end "));
    for (const fresh of [true, false]) {
      const store = new KeptStore();
      const target = await createDisk(store, { format: "qcow2", size: source.size });
      if (!fresh) await writeBytes(target, 512 * 1024, text(65536, "old "));
      const { seen, onProgress } = stopAt(0);
      await packDisk(source, target, { compress, fresh, onProgress });
      expect(seen.at(-1)).toEqual([source.size, source.size]);
      expect(await compareDisks(source, target)).toMatchObject({ identical: true });
      await target.close();
      const report = await checkImage(store);
      expect(report).toMatchObject({ leaks: 0, corruptions: 0, compressedClusters: 3, allocatedClusters: 4 });
    }
  });

  test("disks one after the other, whose ends are within a unit, with and without their zeros", async () => {
    const sizes = [70_144, 512, 2 * MiB - 1024, 65_536];
    const sources = await Promise.all(sizes.map((size) => made("raw", size)));
    const whole = Buffer.concat(
      sizes.map((size, i) =>
        Buffer.concat([text(Math.min(size, 66_048), `part ${i} `), Buffer.alloc(size)]).subarray(0, size),
      ),
    );
    let at = 0;
    for (const [i, source] of sources.entries()) {
      await writeBytes(source, 0, new Uint8Array(whole.subarray(at, at + Math.min(sizes[i], 66_048))));
      at += sizes[i];
    }
    for (const zeros of [false, true]) {
      const store = new KeptStore();
      const target = await createDisk(store, { format: "qcow2", size: whole.length });
      const { seen, onProgress } = stopAt(0);
      await packDisk(sources, target, { compress, fresh: true, zeros, onProgress });
      expect(seen.at(-1)).toEqual([whole.length, whole.length]);
      expect(Buffer.compare(await readBytes(target, 0, whole.length), whole)).toBe(0);
      await target.close();
      const { leaks, corruptions, allocatedClusters, compressedClusters, totalClusters } = await checkImage(store);
      expect([leaks, corruptions, compressedClusters]).toEqual([0, 0, allocatedClusters]);
      expect(compressedClusters === totalClusters).toBe(zeros);
    }
  });

  test("it does not wait for the disk between pieces; of large clusters only a few are in memory", async () => {
    const size = 48 * MiB;
    for (const clusterSize of [4096, 65536, 2 * MiB]) {
      const source = await made("raw", size);
      await writeBytes(source, 0, text(size, "text "));
      const store = new KeptStore();
      const target = await createDisk(store, { format: "qcow2", size, clusterSize });
      let flushes = 0;
      store.flush = () => void flushes++;
      let [now, most] = [0, 0];
      const half = async (bytes: Uint8Array) => {
        most = Math.max(most, (now += bytes.length));
        await new Promise((resolve) => setImmediate(resolve));
        now -= bytes.length;
        return bytes.slice(0, bytes.length / 2);
      };
      await packDisk(source, target, { compress: half, fresh: true });
      // Only where metadata has piled up.
      expect([clusterSize, flushes > 4, most > 12 * MiB]).toEqual([clusterSize, false, false]);
      await target.close();
      expect(flushes).toBeGreaterThan(0);
      expect((await checkImage(store)).compressedClusters).toBe(size / clusterSize);
    }
  });

  test("what fails stops it with its cause: the compressor, the source, the signal, a format that packs nothing", async () => {
    const source = await made("raw", 8 * MiB);
    await writeBytes(source, 0, text(8 * MiB, "text "));
    const boom = async () => {
      throw new Error("boom");
    };
    await expect(packDisk(source, await made("qcow2", 8 * MiB), { compress: boom })).rejects.toThrow("boom");
    expect(await codeOf(packDisk(source, await made("vhdx", 8 * MiB), { compress }))).toBe("UNSUPPORTED");
    expect(await codeOf(packDisk(source, await made("qcow2", 7 * MiB), { compress }))).toBe("OUT_OF_RANGE");
    const { seen: _, ...options } = stopAt(1);
    const stopped = packDisk(source, await made("qcow2", 8 * MiB), { compress, ...options });
    expect(await codeOf(stopped)).toBe("ABORTED");
  });
});

test("salvage: what cannot be read is zeros, sector by sector, and told", async () => {
  const disk = await made("raw", MiB);
  await writeBytes(disk, 0, text(MiB, "saved "));
  const lost: number[] = [];
  const whole = await readBytes(disk, 0, MiB);
  const faulty = withFaults(disk, { from: 4096, to: 5120, cause: "media" }) as unknown as Disk;
  const saved = salvage(faulty, (offset, length) => lost.push(offset, length));
  const bytes = await readBytes(saved, 0, MiB);
  expect(lost).toEqual([4096, 512, 4608, 512]);
  expect(Buffer.compare(bytes, whole.fill(0, 4096, 5120))).toBe(0);
});

describe("measureImage", () => {
  test("a format that cannot say is refused; sizes and disks are measured", async () => {
    expect(await codeOf(measureImage({ format: "fly", source: 512 }))).toBe("INVALID");
    const source = await made("qcow2", 8 * MiB);
    await writeBytes(source, MiB, text(512, "x"));
    expect(await measureImage({ format: "raw", source })).toEqual({ required: 8 * MiB, fullyAllocated: 8 * MiB });
    const empty = await measureImage({ format: "vhdx", source: 8 * MiB });
    const used = await measureImage({ format: "vhdx", source });
    expect(used.required).toBeGreaterThan(empty.required);
    expect(used.fullyAllocated).toBe(empty.fullyAllocated);
  });
});

describe("snapshots", () => {
  test("qcow2 keeps them; a format that does not says so", async () => {
    const disk = await made("qcow2");
    await writeBytes(disk, 0, text(512, "one"));
    const { id } = await createSnapshot(disk, { name: "first", date: 1e12 });
    await writeBytes(disk, 0, text(512, "two"));
    expect(listSnapshots(disk)).toMatchObject([{ id, name: "first", date: 1e12 }]);
    await applySnapshot(disk, "first");
    expect(await readBytes(disk, 0, 512)).toEqual(text(512, "one"));
    await deleteSnapshot(disk, id);
    expect(listSnapshots(disk)).toEqual([]);
    const other = await made("vhd");
    expect(listSnapshots(other)).toEqual([]);
    expect(await codeOf(createSnapshot(other, { name: "x" }))).toBe("UNSUPPORTED");
  });
});

test("imageInfo and chainOf: the image, and each of its parents", async () => {
  const parent = await made("qcow2", MiB);
  const options = { format: "qcow2", size: MiB, parent: { path: "parent.qcow2", format: "qcow2" } };
  const store = new KeptStore();
  await createImage(store, options);
  const disk = await openDisk(store, { backing: parent });
  expect(chainOf(disk)).toEqual([disk, parent]);
  expect(imageInfo(disk)).toMatchObject({
    format: "qcow2",
    size: MiB,
    clusterSize: 65536,
    dirty: false,
    parentPaths: ["parent.qcow2"],
    parentFormat: "qcow2",
  });
});

test("resizeDisk asks before it shrinks; full preallocation gives all of the new space a place", async () => {
  const disk = await made("qcow2", MiB);
  expect(await codeOf(resizeDisk(disk, 512))).toBe("INVALID");
  expect(disk.size).toBe(MiB);
  await resizeDisk(disk, 2 * MiB, { preallocation: "full" });
  const kinds: [number, string][] = [];
  for await (const { start, kind } of mapDisk(disk)) kinds.push([start, kind]);
  expect(kinds).toEqual([
    [0, "hole"],
    [MiB, "data"],
  ]);
  await resizeDisk(disk, 512, { shrink: true });
  expect(disk.size).toBe(512);
});

test("benchDisk: as many requests as asked for, at the places that they should go to", async () => {
  const disk = await made("raw", MiB);
  const report = await benchDisk(disk, { count: 5, depth: 2, offset: 4096, step: 8192, write: 7, flushInterval: 2 });
  expect(report).toMatchObject({ requests: 5, bytes: 5 * 4096, flushes: 2 });
  const expected = new Uint8Array(MiB);
  for (let i = 0; i < 5; i++) expected.fill(7, 4096 + i * 8192, 8192 + i * 8192);
  expect(Buffer.compare(await readBytes(disk, 0, MiB), expected)).toBe(0);
  for (const wrong of [{ step: 100 }, { offset: 12 }, { size: 2 * MiB }, { count: 0 }, { size: 0 }]) {
    expect(await codeOf(benchDisk(disk, wrong))).toBe("INVALID");
  }
});
