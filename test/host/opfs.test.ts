import { expect, test } from "vitest";
import { SegmentList } from "../../src/core/segments.ts";
import { readBytes, writeBytes } from "../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../src/host/block/open.ts";
import { OpfsStore } from "../../src/host/store/opfs.ts";
import { FakeHandle } from "../support/fake-handle.ts";

test("the quota is NO_SPACE, whichever way it is met, and a guest's full disk goes on reading", async () => {
  const handle = new FakeHandle(undefined, 3 << 20);
  const store = new OpfsStore(handle);
  const full = expect.objectContaining({ code: "NO_SPACE", hint: expect.stringContaining("length") });
  expect(() => store.resize(2 ** 40)).toThrow(full);
  expect(() => store.writev(2 ** 40, new Uint8Array(1), SegmentList.of(0, 1))).toThrow(full);
  expect(store.size).toBe(0);

  const disk = await createDisk(store, { format: "qcow2", size: 64 << 20 });
  await writeBytes(disk, 0, new Uint8Array(1 << 20).fill(1));
  await expect(writeBytes(disk, 8 << 20, new Uint8Array(8 << 20))).rejects.toMatchObject({ code: "NO_SPACE" });
  expect((await readBytes(disk, 0, 1))[0]).toBe(1);
  await disk.close();
  expect(handle.flushes).toBeGreaterThan(0);
  expect((await readBytes(await openDisk(new OpfsStore(handle)), 0, 1))[0]).toBe(1);
});

test("a short write is no space, a short read is an I/O error, and neither passes for the whole", () => {
  const short = new (class extends FakeHandle {
    override write(buffer: Uint8Array, options: { at: number }): number {
      return super.write(buffer.subarray(0, 3), options);
    }
    override read(buffer: Uint8Array, options: { at: number }): number {
      return super.read(buffer.subarray(0, 2), options);
    }
  })(new Uint8Array(8));
  const store = new OpfsStore(short, { name: "x" });
  const thrown = (code: string) => expect.objectContaining({ code, context: { file: "x" } });
  expect(() => store.writev(6, new Uint8Array(6), SegmentList.of(0, 6))).toThrow(thrown("NO_SPACE"));
  expect(store.size).toBe(9);
  expect(() => store.readv(0, new Uint8Array(6), SegmentList.of(0, 6))).toThrow(thrown("IO"));
});

test("where there is no private file system it says so", async () => {
  await expect(OpfsStore.open("a/b.img")).rejects.toMatchObject({ code: "UNSUPPORTED", context: { file: "a/b.img" } });
});
