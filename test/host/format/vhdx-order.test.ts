import { expect, test } from "vitest";
import { type Later, run } from "../../../src/core/flow.ts";
import type { CheckReport } from "../../../src/core/format.ts";
import { flush, readBytes, writeBytes, writeZeroes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { checkVhdx } from "../../../src/host/format/vhdx/check.ts";
import { signed } from "../../../src/host/format/vhdx/crc32c.ts";
import { KeptStore } from "../../support/disks.ts";
import { afterCut, RecordingStore } from "../../support/power.ts";
import { type Call, StoreFilter } from "../../support/stores.ts";
import { tier } from "../../support/tier.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;
const PARENT = 0xaa;

/** Holds back writes of one length until told to let them go; the rest happens at once. */
class SlowStore extends StoreFilter {
  slow = -1;
  readonly held: (() => void)[] = [];

  protected override around(call: Call, _position: number, length: number, work: () => Later<void>): Later<void> {
    if (call !== "writev" || length !== this.slow) return work();
    return new Promise<void>((resolve) => this.held.push(resolve)).then(work);
  }
}

async function child(size: number) {
  const parent = new KeptStore();
  const base = await createDisk(parent, { format: "vhdx", size });
  await writeBytes(base, 0, new Uint8Array(MiB).fill(PARENT));
  const identity = String(base.describe().dataWriteGuid);
  await base.close();
  const store = new RecordingStore();
  const slow = new SlowStore(store);
  const backing = () => openDisk(parent, { readOnly: true });
  const options = { format: "vhdx", size, blockSize: MiB, parent: { identity, path: "x" } };
  const disk = await createDisk(slow, { ...options, backing: await backing() });
  return { store, slow, disk, backing };
}

test("what one batch has been given is not shown on disk before its data is there, however much others change", async () => {
  const size = 64 * GiB;
  const { store, slow, disk, backing } = await child(size);
  const start = store.steps.length;
  slow.slow = 3 * 512;
  const first = writeBytes(disk, 512, new Uint8Array(slow.slow).fill(0x11));
  // Each is in another page of the table and of the bitmaps: together more than one entry of the log takes.
  const others = Array.from({ length: 100 }, (_, i) =>
    writeBytes(disk, (1 + i) * 512 * MiB, new Uint8Array(512).fill(0x22)),
  );
  for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
  expect(slow.held.length).toBe(1);
  const held = store.steps.length;
  for (let count = start; count <= held; count++) {
    const left = await openDisk(afterCut(store.steps, count), { readOnly: true, backing: await backing() });
    const seen = await readBytes(left, 0, 5 * 512);
    expect([count, ...seen.filter((_, i) => i % 512 === 0)]).toEqual([count, ...Array(5).fill(PARENT)]);
  }
  for (const go of slow.held) go();
  await first;
  await Promise.all(others);
  await disk.close();
  const again = await openDisk(store, { readOnly: true, backing: await backing() });
  expect((await readBytes(again, 512, 1))[0]).toBe(0x11);
  for (let i = 0; i < 100; i++) expect((await readBytes(again, (1 + i) * 512 * MiB, 1))[0]).toBe(0x22);
});

test("zeroing a whole disk writes its table on the way: what waits in memory stays small", async () => {
  const size = 2 ** 40;
  const { store, disk, backing } = await child(size);
  await flush(disk);
  const start = store.steps.length;
  await writeZeroes(disk, 0, size);
  const before = store.steps.length;
  // The table has 2,049 sectors; an entry of the log is some 60.
  const entries = store.steps.slice(start).filter((step) => step.kind === "write" && signed(step.bytes, "loge"));
  expect(entries.length).toBeGreaterThan(30);
  await flush(disk);
  expect(store.steps.length - before).toBeLessThan(100);
  await disk.close();
  const again = await openDisk(store, { readOnly: true, backing: await backing() });
  for (const at of [0, size / 2, size - 512]) expect((await readBytes(again, at, 1))[0]).toBe(0);
});

test("a commit of several log entries may be cut off between any two of them", async () => {
  const size = 64 * GiB;
  const { store, disk, backing } = await child(size);
  await writeBytes(disk, 0, new Uint8Array(512).fill(1));
  await flush(disk);
  const start = store.steps.length;
  const requests = Array.from({ length: 100 }, (_, i) =>
    writeBytes(disk, (1 + i) * 512 * MiB, new Uint8Array(512).fill(0x22)),
  );
  await Promise.all(requests);
  await disk.close();
  for (let count = start; count <= store.steps.length; count += tier(11, 1)) {
    const left = afterCut(store.steps, count);
    for (const readOnly of [true, false]) {
      const found = await openDisk(left, { readOnly, backing: await backing() });
      for (let i = 0; i < 100; i++) expect([0, 0x22]).toContain((await readBytes(found, (1 + i) * 512 * MiB, 1))[0]);
      await found.close();
    }
    expect((run(checkVhdx(left)) as CheckReport).corruptions).toBe(0);
  }
});
