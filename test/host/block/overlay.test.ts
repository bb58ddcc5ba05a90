import { expect, test } from "vitest";
import { discard, flush, readBytes, writeBytes, writeZeroes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { overlay } from "../../../src/host/block/overlay.ts";
import { MemoryStore } from "../../../src/host/store/memory.ts";
import { KeptStore } from "../../support/disks.ts";
import { contentOf } from "../../support/stores.ts";

const MiB = 2 ** 20;

async function base() {
  const store = new KeptStore();
  const disk = await createDisk(store, { format: "vhd", size: 4 * MiB });
  await writeBytes(disk, 0, new Uint8Array(MiB).fill(0xba));
  await disk.close();
  return { store, before: contentOf(store), disk: await openDisk(store, { readOnly: true }) };
}

test("reads the base, keeps what is written, and never writes the base", async () => {
  const { store, before, disk } = await base();
  const over = overlay(disk, new MemoryStore());
  expect(over.readOnly).toBe(false);
  expect((await readBytes(over, 512, 1))[0]).toBe(0xba);
  await writeBytes(over, 1024, new Uint8Array(512).fill(1));
  await writeBytes(over, 3 * MiB, new Uint8Array(512).fill(2));
  await writeZeroes(over, 65536, 65536 * 2);
  await discard(over, 0, 512);
  await flush(over);
  const read = await readBytes(over, 0, MiB);
  expect([read[1023], read[1024], read[1535], read[1536]]).toEqual([0xba, 1, 1, 0xba]);
  expect([read[65535], read[65536], read[65536 * 3 - 1], read[65536 * 3]]).toEqual([0xba, 0, 0, 0xba]);
  expect((await readBytes(over, 3 * MiB, 1))[0]).toBe(2);
  await over.close();
  expect(Buffer.compare(contentOf(store), before)).toBe(0);
});

test("a small write reads nothing from the base, and zeros take no scratch space", async () => {
  const { disk } = await base();
  const scratch = new MemoryStore();
  const over = overlay(disk, scratch);
  await writeBytes(over, 4096, new Uint8Array(512).fill(1));
  expect(disk.copied).toBe(0);
  const taken = scratch.allocated;
  await writeZeroes(over, MiB, MiB);
  expect(scratch.allocated).toBe(taken);
  // Written again after that, the rest of the cluster is zeros and not the base's.
  await writeZeroes(over, 0, 65536 * 2);
  await writeBytes(over, 65536 + 512, new Uint8Array(512).fill(3));
  const read = await readBytes(over, 65536, 2048);
  expect([read[0], read[512], read[1024]]).toEqual([0, 3, 0]);
});

test("refuses a scratch store that holds something, and clusters of no use", async () => {
  const { disk } = await base();
  expect(() => overlay(disk, new MemoryStore(512))).toThrow(expect.objectContaining({ code: "EXISTS" }));
  expect(() => overlay(disk, new MemoryStore(), { clusterBytes: 5000 })).toThrow(
    expect.objectContaining({ code: "INVALID" }),
  );
});
