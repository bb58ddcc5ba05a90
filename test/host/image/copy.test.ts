import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readBytes, writeBytes } from "../../../src/host/block/bytes.ts";
import { createDisk, type Disk } from "../../../src/host/block/open.ts";
import { copyDisk } from "../../../src/host/image/copy.ts";
import { KeptStore } from "../../support/disks.ts";
import { FaultStore, LateStore } from "../../support/stores.ts";

const MiB = 2 ** 20;
const SIZE = 40 * MiB;

async function disk(format: string, options: { late?: number; size?: number; more?: object } = {}): Promise<Disk> {
  const store = new KeptStore();
  const { late, size = SIZE, more } = options;
  return createDisk(late === undefined ? store : new LateStore(store, late), { format, size, ...more });
}

/** Data, zeros that are stored, and holes. */
async function filled(to: Disk): Promise<Disk> {
  await writeBytes(to, 0, new Uint8Array(4096).fill(1));
  await writeBytes(to, 3 * MiB, new Uint8Array(2 * MiB));
  await writeBytes(
    to,
    5 * MiB - 512,
    new Uint8Array(9 * MiB).map((_, i) => (i >> 9) & 255),
  );
  await writeBytes(to, to.size - 512, new Uint8Array(512).fill(9));
  return to;
}

async function same(one: Disk, other: Disk): Promise<void> {
  for (let at = 0; at < one.size; at += MiB) {
    const length = Math.min(MiB, one.size - at);
    const [a, b] = [await readBytes(one, at, length), await readBytes(other, at, length)];
    expect(Buffer.compare(a, b), `at ${at}`).toBe(0);
  }
}

describe.each([
  ["both stores answer at once", undefined, undefined],
  ["the source is late", 1, undefined],
  ["the target is late", undefined, 2],
  ["both are late", 3, 4],
] as const)("%s", (_name, sourceLate, targetLate) => {
  test.each(["raw", "vhd", "vhdx", "qcow2"])("a copy into %s is equal", async (format) => {
    const source = await filled(await disk("qcow2", { late: sourceLate }));
    const target = await disk(format, { late: targetLate });
    const report = await copyDisk(source, target, { fresh: true });
    await same(source, target);
    expect(report.length).toBe(SIZE);
    // The hole is not read, and zeros are not written.
    expect(report.read).toBeLessThan(14 * MiB);
    expect(report.written).toBeLessThan(10 * MiB);
  });

  test("over a target with other content", async () => {
    const source = await filled(await disk("vhd", { late: sourceLate }));
    const target = await disk("qcow2", { late: targetLate });
    await writeBytes(target, 0, new Uint8Array(30 * MiB).fill(0xee));
    await copyDisk(source, target);
    await same(source, target);
  });

  test("into larger sectors", async () => {
    const source = await filled(await disk("raw", { late: sourceLate, size: 5 * MiB + 512 + 9 * MiB }));
    const more = { logicalSectorSize: 4096 };
    const target = await disk("vhdx", { late: targetLate, size: 16 * MiB, more });
    await copyDisk(source, target, { fresh: true });
    await same(source, target);
  });
});

test("any part to any place", async () => {
  const source = await filled(await disk("vhdx"));
  await fc.assert(
    fc.asyncProperty(fc.nat(SIZE / 512 - 1), fc.nat(8000), fc.nat(9000), async (from, to, count) => {
      const length = Math.min(count, SIZE / 512 - from, SIZE / 512 - to) * 512;
      const target = await disk("vhd");
      await copyDisk(source, target, { from: from * 512, to: to * 512, length, fresh: true });
      const got = await readBytes(target, to * 512, length);
      expect(Buffer.compare(got, await readBytes(source, from * 512, length))).toBe(0);
    }),
    { numRuns: 30 },
  );
});

test.each([
  ["source", "MEDIA"],
  ["target", "NO_SPACE"],
] as const)("a %s that fails ends it with the cause, and nothing goes on behind", async (which, code) => {
  const stores = { source: new FaultStore(new KeptStore()), target: new FaultStore(new KeptStore()) };
  const late = { source: new LateStore(stores.source, 5), target: new LateStore(stores.target, 6) };
  const source = await filled(await createDisk(late.source, { format: "raw", size: SIZE }));
  const target = await createDisk(late.target, { format: "raw", size: SIZE });
  stores[which].fault = (_call, position) => (position > 8 * MiB ? code : undefined);
  await expect(copyDisk(source, target, { fresh: true })).rejects.toMatchObject({ code });
  expect(late.source.inFlight + late.target.inFlight).toBe(0);
});

test("the signal stops it between two moves", async () => {
  const source = await filled(await disk("raw", { late: 7 }));
  const target = await disk("raw", { late: 8 });
  const stop = new AbortController();
  const copying = copyDisk(source, target, { signal: stop.signal });
  setTimeout(() => stop.abort());
  await expect(copying).rejects.toMatchObject({ code: "ABORTED" });
});
