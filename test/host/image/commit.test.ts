import { describe, expect, test } from "vitest";
import { readBytes, writeBytes } from "../../../src/host/block/bytes.ts";
import { createDisk, type Disk, openDisk } from "../../../src/host/block/open.ts";
import { createOverlay } from "../../../src/host/block/overlay.ts";
import { commitDisk } from "../../../src/host/image/commit.ts";
import { discardChanges } from "../../../src/host/image/discard.ts";
import { engineOf } from "../../../src/host/image/whole.ts";
import { MemoryStore } from "../../../src/host/store/memory.ts";
import { KeptStore } from "../../support/disks.ts";
import { family, ownPlaces, PAIRS } from "../../support/family.ts";

const MiB = 2 ** 20;

describe.each(PAIRS)("$name", (pair) => {
  test.each([
    ["of one size", 6 * MiB, 6 * MiB],
    ["the image larger", 4 * MiB, 7 * MiB + 8192],
    ["the base larger", 7 * MiB, 4 * MiB + 4096],
  ])("commit, %s: the base holds what the image showed, and the image is empty", async (_, baseSize, topSize) => {
    const { open, below, content, stores } = await family(pair, baseSize, topSize, baseSize + topSize);
    const { disk, base } = await open({ writable: true });
    await content.check(disk);
    const progress: number[] = [];
    const report = await commitDisk(disk, { onProgress: (done) => progress.push(done) });
    expect(report).toMatchObject({ emptied: true, baseSize: { before: baseSize } });
    expect(report.baseSize.after).toBe(Math.max(baseSize, topSize));
    expect(progress.at(-1)).toBe(disk.size);
    await content.check(disk);
    expect(await ownPlaces(disk)).toEqual([]);
    below.bytes.set(content.bytes);
    await below.check(base);
    await disk.close();
    const again = await openDisk(stores.base, { format: pair.base.format, readOnly: true });
    await below.check(again);
    await again.close();
    const over = await open();
    await content.check(over.disk);
    await over.disk.close();
  });

  test("commit with keep leaves the image as it is", async () => {
    const { open, content, below } = await family(pair, 4 * MiB, 4 * MiB, 5);
    const { disk, base } = await open({ writable: true });
    const before = await ownPlaces(disk);
    expect(await commitDisk(disk, { keep: true })).toMatchObject({ emptied: false });
    expect(await ownPlaces(disk)).toEqual(before);
    await content.check(disk);
    below.bytes.set(content.bytes);
    await below.check(base);
    await disk.close();
  });

  test("discard: the base shows again", async () => {
    const { open, below, stores } = await family(pair, 4 * MiB, 4 * MiB, 9);
    const { disk } = await open();
    await discardChanges(disk);
    await below.check(disk);
    await writeBytes(disk, 4096, new Uint8Array(4096).fill(0xaa));
    below.bytes.fill(0xaa, 4096, 8192);
    await below.check(disk);
    await disk.close();
    const again = await openDisk(stores.top, {
      format: pair.top.format,
      backing: await openDisk(stores.base, { format: pair.base.format, readOnly: true }),
    });
    await below.check(again);
    await again.close();
  });

  test("commit stopped on the way: both are usable, and it can be made again", async () => {
    const { open, content, below, stores } = await family(pair, 6 * MiB, 6 * MiB, 21);
    for (const after of [1, 4]) {
      const { disk } = await open({ writable: true });
      const stop = new AbortController();
      let writes = 0;
      stores.base.onWrite = () => {
        if (++writes === after) stop.abort();
      };
      await expect(commitDisk(disk, { signal: stop.signal })).rejects.toMatchObject({ code: "ABORTED" });
      await content.check(disk);
      await disk.close();
      const again = await open();
      await content.check(again.disk);
      await again.disk.close();
    }
    stores.base.onWrite = () => {};
    const { disk, base } = await open({ writable: true });
    await content.check(disk);
    await commitDisk(disk);
    below.bytes.set(content.bytes);
    await below.check(base);
    await content.check(disk);
    await disk.close();
  });
});

async function chainOfThree(): Promise<{ root: Disk; middle: Disk; top: Disk }> {
  const root = await createDisk(new KeptStore(), { format: "qcow2", size: MiB });
  await writeBytes(root, 0, new Uint8Array(MiB).fill(1));
  const middle = await createOverlay(root, new KeptStore(), { format: "qcow2", parent: { path: "root" } });
  await writeBytes(middle, 65536, new Uint8Array(65536 * 2).fill(2));
  const top = await createOverlay(middle, new KeptStore(), { format: "qcow2", parent: { path: "middle" } });
  await writeBytes(top, 65536 * 2, new Uint8Array(65536 * 2).fill(3));
  return { root, middle, top };
}
const each64K = async (disk: Disk) =>
  (await readBytes(disk, 0, disk.size))
    .filter((_, i) => i % 65536 === 0)
    .subarray(0, 5)
    .join("");

test("to a base further down: what lies between goes with it, and nothing is emptied", async () => {
  const { root, middle, top } = await chainOfThree();
  const { emptied } = await commitDisk(top, { base: root });
  expect(emptied).toBe(false);
  expect(await each64K(root)).toBe("12331");
  expect(await each64K(top)).toBe("12331");
  expect(await each64K(middle)).toBe("12231");
  await top.close();
});

test("a write while it is committed is not lost", async () => {
  const { middle, top } = await chainOfThree();
  const onProgress = (done: number) => {
    if (done === 0) void top.submit([]);
    else void writeBytes(top, 0, new Uint8Array(512).fill(9));
  };
  await expect(commitDisk(top, { onProgress })).rejects.toMatchObject({ code: "BUSY" });
  expect((await readBytes(top, 0, 1))[0]).toBe(9);
  await commitDisk(top);
  expect((await readBytes(middle, 0, 1))[0]).toBe(9);
  await top.close();
});

test("what cannot be committed is refused before anything is written", async () => {
  const { root, middle, top } = await chainOfThree();
  const refusal = (work: Promise<unknown>) => work.then(String, ({ code, message }) => `${code} ${message}`);
  expect(await refusal(commitDisk(root))).toMatch(/^INVALID .*no parent/);
  const other = await createDisk(new MemoryStore(), { format: "qcow2", size: MiB });
  expect(await refusal(commitDisk(top, { base: other }))).toMatch(/^INVALID .*none of the parents/);
  await top.close();
  const readOnly = await openDisk(engineOf(root).store, { readOnly: true });
  const again = await openDisk(engineOf(middle).store, { backing: readOnly });
  expect(await refusal(commitDisk(again))).toMatch(/^READ_ONLY .*the parent/);
  await again.close();
});
