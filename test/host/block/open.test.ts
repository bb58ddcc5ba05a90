import { expect, test } from "vitest";
import { flush, readBytes, writeBytes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { MemoryStore } from "../../../src/host/store/memory.ts";

test("a created disk holds what is written to it", async () => {
  const disk = await createDisk(new MemoryStore(), { format: "raw", size: 1 << 20 });
  const bytes = new Uint8Array(4096).fill(7);
  await writeBytes(disk, 8192, bytes);
  expect(await readBytes(disk, 8192, 4096)).toEqual(bytes);
  await flush(disk);
  expect(disk.copied).toBe(8192);
  await disk.close();
  expect(() => disk.submit([])).toThrow(expect.objectContaining({ code: "CLOSED" }));
  await disk.close();
});

test("a disk without a known header is raw, and that is said", async () => {
  const warnings: string[] = [];
  const disk = await openDisk(new MemoryStore(4096), { onWarning: (message) => warnings.push(message) });
  expect(disk.format).toBe("raw");
  expect(warnings).toEqual([expect.stringContaining("raw")]);
});

test("a raw file that ends inside a sector reads zeros there, and grows when that is written", async () => {
  const store = new MemoryStore(new Uint8Array(1000).fill(3));
  const disk = await openDisk(store);
  expect(disk.size).toBe(1024);
  const tail = await readBytes(disk, 990, 30);
  expect(tail.subarray(0, 10)).toEqual(new Uint8Array(10).fill(3));
  expect(tail.subarray(10)).toEqual(new Uint8Array(20));
  await writeBytes(disk, 512, new Uint8Array(512).fill(9));
  expect(store.size).toBe(1024);
  expect(await readBytes(disk, 1000, 24)).toEqual(new Uint8Array(24).fill(9));
});

test("creating refuses what holds data, an unknown format and an unknown option", async () => {
  const codes = (promise: Promise<unknown>) => promise.catch((error) => error.code);
  expect(await codes(createDisk(new MemoryStore(512), { format: "raw", size: 512 }))).toBe("EXISTS");
  expect(await codes(createDisk(new MemoryStore(), { format: "floppy", size: 512 }))).toBe("INVALID");
  expect(await codes(createDisk(new MemoryStore(), { format: "raw", size: 512, subformat: "x" }))).toBe("INVALID");
  expect(await codes(createDisk(new MemoryStore(), { format: "raw", size: -1 }))).toBe("INVALID");
});

test("an aborted signal stops opening", async () => {
  const signal = AbortSignal.abort();
  await expect(openDisk(new MemoryStore(512), { signal })).rejects.toMatchObject({ code: "ABORTED" });
});
