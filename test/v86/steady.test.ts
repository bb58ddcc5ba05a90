import { expect, test } from "vitest";
import { type Block, BlockRequest, Op, Status } from "../../src/core/block.ts";
import type { GuestMemory } from "../../src/core/machine.ts";
import { SteadyBlock } from "../../src/v86/steady.ts";
import { FakeBlock } from "../support/fake-block.ts";
import { held } from "../support/held-block.ts";

/** Memory as v86's: a view is good until the next growth. */
function growing(): { memory: GuestMemory; grow: () => void } {
  const wasm = new WebAssembly.Memory({ initial: 1 });
  const memory: GuestMemory = {
    ...{ wasm, base: 0, size: 65536, reserve: () => 0, touch() {} },
    get linear() {
      return new Uint8Array(wasm.buffer);
    },
  };
  return { memory, grow: () => wasm.grow(1) };
}

function request(op: Op, memory: Uint8Array): BlockRequest {
  const made = new BlockRequest();
  made.op = op;
  made.length = op === Op.Flush ? 0 : 512;
  made.memory = memory;
  if (op !== Op.Flush) made.segments.push(1024, 512);
  return made;
}

test("a write under way while the memory grows is written, with what stood beside it", async () => {
  const { memory, grow } = growing();
  const disk = new FakeBlock(4096);
  const { block, release } = held(disk);
  memory.linear.fill(7);
  const batch = [request(Op.Write, memory.linear), request(Op.Flush, memory.linear)];
  const pending = new SteadyBlock(block, memory).submit(batch);
  grow();
  await release();
  // The first time there was nothing to write.
  expect(disk.bytes[0]).toBe(0);
  await release();
  await pending;
  expect(disk.bytes.subarray(0, 512)).toEqual(new Uint8Array(512).fill(7));
  expect(batch.map(({ status }) => status)).toEqual([Status.Ok, Status.Ok]);
  expect(disk.batches).toBe(2);
});

test("a read under way is read into the memory as it is then; twice, when it has grown twice", async () => {
  const { memory, grow } = growing();
  const disk = new FakeBlock(4096);
  disk.bytes.fill(9);
  const { block, release } = held(disk);
  const read = request(Op.Read, memory.linear);
  const pending = new SteadyBlock(block, memory).submit([read]);
  for (let i = 0; i < 3; i++) {
    if (i < 2) grow();
    await release();
  }
  await pending;
  expect(read.status).toBe(Status.Ok);
  expect(memory.linear.subarray(1024, 1536)).toEqual(new Uint8Array(512).fill(9));
});

test("without growth nothing is done twice, and a failure stays one", async () => {
  const { memory } = growing();
  const disk = new FakeBlock(4096, { manual: true });
  const steady = new SteadyBlock(disk, memory);
  disk.fault = () => Status.Media;
  const read = request(Op.Read, memory.linear);
  const pending = steady.submit([read]);
  await disk.release();
  await pending;
  expect([read.status, disk.batches, steady.size, steady.sectorSize]).toEqual([Status.Media, 1, 4096, 512]);
  const rejecting = new SteadyBlock(
    { ...disk, submit: () => Promise.reject(new Error("no")) } as unknown as Block,
    memory,
  );
  await expect(rejecting.submit([request(Op.Read, memory.linear)])).rejects.toThrow("no");
  const sync = new FakeBlock(4096);
  expect(new SteadyBlock(sync, memory).submit([request(Op.Write, memory.linear)])).toBeUndefined();
});
