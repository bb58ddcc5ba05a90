import { describe, expect, test } from "vitest";
import { type Block, type BlockRequest, Op, Status } from "../../src/core/block.ts";
import { ParavaneError } from "../../src/core/error.ts";
import type { SegmentList } from "../../src/core/segments.ts";
import { readBytes } from "../../src/host/block/bytes.ts";
import { createDisk } from "../../src/host/block/open.ts";
import { FileStore } from "../../src/host/store/file.ts";
import { MemoryStore } from "../../src/host/store/memory.ts";
import { expectedBytes, ObservedStore, runLab } from "../../src/lab/index.ts";
import { MODELS, type ModelName } from "../../src/lab/models.ts";

const ALL = Object.keys(MODELS) as ModelName[];
const SIZE = 5 << 20;
const QUICK = { seconds: 0.02, workloads: ["random", "verify"], queueDepths: [1, 32] } as const;

const vhd = (store = new MemoryStore()) => createDisk(store, { format: "vhd", size: SIZE });

/** A disk that does to each batch what `change` says, after carrying it out. */
function meddled(disk: Block, change: (request: BlockRequest) => void): Block {
  return {
    size: disk.size,
    sectorSize: disk.sectorSize,
    readOnly: false,
    get copied() {
      return disk.copied;
    },
    submit(batch) {
      const pending = disk.submit(batch);
      if (pending) return pending.then(() => batch.forEach(change));
      return batch.forEach(change);
    },
    close: () => disk.close(),
  };
}

describe("a run", () => {
  test("costs each model what the reference says, one by one and 32 together", async () => {
    const disk = await vhd();
    const { models, verified, paths } = await runLab(disk, QUICK);
    expect(verified).toBe(true);
    const row = (model: ModelName, depth: number) =>
      models.find((one) => one.model === model && one.workload === "random" && one.queueDepth === depth)!;
    for (const depth of [1, 32]) {
      expect(row("bare", depth).exitsPerRequest).toBe(0);
      // Neighbours picked by chance are merged, so a little less than one command a request.
      expect(row("ide-dma", depth).exitsPerRequest).toBeGreaterThan(25);
      expect(row("ide-dma", depth).exitsPerRequest).toBeLessThanOrEqual(31);
      expect(row("ide-dma", depth).interruptsPerRequest).toBeCloseTo(1, 1);
      expect(row("ide-pio", depth).exitsPerRequest).toBeGreaterThan(1024);
      expect(row("ide-pio", depth).exitsPerRequest).toBeLessThan(2048 + 64);
      expect(row("ide-pio", depth).bytesCopiedPerByte).toBeCloseTo(2);
    }
    for (const model of ["xen", "virtio"] as const) {
      expect(row(model, 1).exitsPerRequest).toBeLessThanOrEqual(2);
      expect(row(model, 32).exitsPerRequest).toBeLessThan(0.1);
      expect(row(model, 32).interruptsPerRequest).toBeLessThan(0.1);
      expect(row(model, 32).bytesCopiedPerByte).toBeCloseTo(1);
    }
    expect(paths.map(({ exits }) => exits)).toEqual([0, expect.any(Number), 26, 1, 1]);
  });

  test("leaves the bytes that its seed says, however long it measured", async () => {
    for (const seconds of [0.005, 0.03]) {
      const disk = await vhd();
      await runLab(disk, { ...QUICK, seconds, seed: 99 });
      const { size } = disk;
      const found = await readBytes(disk, 0, size);
      expect(Buffer.compare(found, expectedBytes({ seed: 99, size, models: ALL }, 0, size))).toBe(0);
      expect(Buffer.compare(found, expectedBytes({ seed: 98, size, models: ALL }, 0, size))).not.toBe(0);
    }
  });

  test("works over a store that answers later", async () => {
    const path = `build/lab-async-${process.pid}.vhd`;
    const store = new FileStore(path, { create: true, overwrite: true, async: true });
    const disk = await createDisk(store, { format: "vhd", size: SIZE });
    const { verified, faults } = await runLab(disk, QUICK);
    expect({ verified, faults }).toEqual({ verified: true, faults: [] });
    await disk.close();
    const { rmSync } = await import("node:fs");
    rmSync(path);
  });

  test("one model alone is read back through a machine started afresh", async () => {
    const { verified, models } = await runLab(await vhd(), { ...QUICK, models: ["virtio"] });
    expect(verified).toBe(true);
    expect(models.map(({ model }) => model)).toEqual(["virtio", "virtio", "virtio", "virtio"]);
  });
});

describe("a disk that is wrong", () => {
  test("one bit, once, in any model, is found", async () => {
    for (const model of ALL) {
      let left = 150;
      const disk = meddled(await vhd(), ({ op, status, segments, memory }) => {
        if (op === Op.Read && status === Status.Ok && left-- === 0) memory[segments.start(0) + 99] ^= 4;
      });
      const { verified, faults, models } = await runLab(disk, { ...QUICK, models: [model], workloads: ["random"] });
      expect(verified).toBe(false);
      expect(faults[0]).toMatchObject({
        model,
        what: expect.stringMatching(/1 of 512 bytes are wrong, the first at 99/),
      });
      expect(models.some((one) => !one.verified)).toBe(true);
    }
  });

  test("what only another model sees wrong is found by the cross-reading", async () => {
    let crossing = false;
    const disk = meddled(await vhd(), ({ op, memory, segments }) => {
      if (op === Op.Read && crossing) memory.fill(0, segments.start(0), segments.start(0) + 512);
    });
    const onProgress = ({ doing }: { doing: string }) => {
      crossing = doing === "its region as virtio reads it";
    };
    const { faults, models } = await runLab(disk, { ...QUICK, models: ["xen", "virtio"], onProgress });
    expect(faults.map(({ model, doing }) => `${model}: ${doing}`)).toEqual(["xen: its region as virtio reads it"]);
    expect(models.map(({ model, verified }) => verified === (model === "virtio"))).not.toContain(false);
  });
});

describe("an end that is no result", () => {
  test("the host's own failure ends the run, with its cause", async () => {
    class Full extends MemoryStore {
      left = 600;
      override writev(position: number, memory: Uint8Array, segments: SegmentList): void {
        if (this.left-- <= 0) throw new ParavaneError("NO_SPACE", "the host's disk is full");
        super.writev(position, memory, segments);
      }
    }
    const store = new ObservedStore(new Full());
    const disk = await createDisk(store, { format: "vhd", size: SIZE });
    await expect(runLab(disk, { ...QUICK, store })).rejects.toMatchObject({ code: "NO_SPACE" });
  });

  test("a disk that never answers is given up", async () => {
    const disk = await vhd();
    const stuck = { ...meddled(disk, () => {}), submit: () => new Promise<void>(() => {}) };
    await expect(runLab(stuck, { ...QUICK, models: ["virtio"], patience: 50 })).rejects.toMatchObject({
      code: "IO",
      message: expect.stringMatching(/did not complete in 0\.05 seconds/),
    });
  });

  test("the caller's signal stops it, and the disk can be used", async () => {
    const disk = await vhd();
    const stop = new AbortController();
    const running = runLab(disk, { ...QUICK, seconds: 5, signal: stop.signal });
    setTimeout(() => stop.abort(), 100);
    await expect(running).rejects.toMatchObject({ code: "ABORTED" });
    expect((await readBytes(disk, 0, 512)).length).toBe(512);
    await disk.close();
  });

  test("a disk open read-only is refused", async () => {
    const disk = { ...meddled(await vhd(), () => {}), readOnly: true };
    await expect(runLab(disk, QUICK)).rejects.toMatchObject({ code: "READ_ONLY" });
  });
});
