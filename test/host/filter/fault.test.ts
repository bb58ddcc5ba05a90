import { expect, test } from "vitest";
import { BlockRequest, Op, Status } from "../../../src/core/block.ts";
import { type FaultCause, withFaults } from "../../../src/host/filter/fault.ts";
import { FakeBlock } from "../../support/fake-block.ts";

function request(op: Op, sector = 0, sectors = 1): BlockRequest {
  const made = new BlockRequest();
  made.op = op;
  if (op === Op.Flush) return made;
  made.offset = sector * 512;
  made.length = sectors * 512;
  made.memory = new Uint8Array(made.length);
  made.segments.push(0, made.length);
  return made;
}

function statuses(block: ReturnType<typeof withFaults>, ...batch: BlockRequest[]): Status[] {
  expect(block.submit(batch)).toBeUndefined();
  return batch.map(({ status }) => status);
}

test.each<[FaultCause, Status, string]>([
  ["media", Status.Media, "MEDIA"],
  ["no-space", Status.NoSpace, "NO_SPACE"],
  ["read-only", Status.ReadOnly, "READ_ONLY"],
  ["unsupported", Status.Unsupported, "UNSUPPORTED"],
  ["out-of-range", Status.OutOfRange, "OUT_OF_RANGE"],
  ["io", Status.Io, "IO"],
  ["crc", Status.Crc, "CRC"],
])("cause %s, with its code and the first byte at fault", (cause, status, code) => {
  const block = withFaults(new FakeBlock(1 << 20), { cause, from: 10 * 512, to: 12 * 512 });
  const one = request(Op.Read, 8, 8);
  expect(statuses(block, one)).toEqual([status]);
  expect(one.error).toMatchObject({ code, context: { offset: 10 * 512 } });
  expect(statuses(block, request(Op.Read, 12))).toEqual([Status.Ok]);
});

test("by operation, range, turn and count; the rest of the batch is carried out", () => {
  const inner = new FakeBlock(1 << 20);
  const block = withFaults(inner);
  const remove = block.fail({ cause: "io", ops: [Op.Write, Op.Flush], after: 1, times: 2 });
  const write = request(Op.Write, 5);
  write.memory.fill(7);
  expect(statuses(block, request(Op.Read), write, request(Op.Write), request(Op.Flush), request(Op.Write))).toEqual([
    Status.Ok,
    Status.Ok,
    Status.Io,
    Status.Io,
    Status.Ok,
  ]);
  expect(inner.bytes[5 * 512]).toBe(7);
  expect([inner.batches, inner.asked.length, block.failed]).toEqual([1, 3, 2]);
  remove();
  block.fail({ cause: "media", to: 512 })();
  expect(statuses(block, request(Op.Read))).toEqual([Status.Ok]);
  block.fail({ cause: "media" });
  expect(statuses(block, request(Op.Read))).toEqual([Status.Media]);
  expect(inner.asked.length).toBe(4);
});

test("crc: what moves data with a CRC on the way, and nothing else", () => {
  const block = withFaults(new FakeBlock(1 << 20), { cause: "crc" });
  const { Ok, Crc } = Status;
  const unchecked = request(Op.Write);
  unchecked.unchecked = true;
  const batch = [request(Op.Read), request(Op.Write), unchecked, request(Op.Flush), request(Op.Discard)];
  expect(statuses(block, ...batch)).toEqual([Crc, Crc, Ok, Ok, Ok]);
});

test("every: the first after those that pass, and each nth from there, as often as it may", () => {
  const block = withFaults(new FakeBlock(1 << 20), { cause: "io", after: 2, every: 3, times: 2 });
  const { Ok, Io } = Status;
  expect(statuses(block, ...Array.from({ length: 12 }, () => request(Op.Read)))).toEqual([
    Ok,
    Ok,
    Io,
    Ok,
    Ok,
    Io,
    Ok,
    Ok,
    Ok,
    Ok,
    Ok,
    Ok,
  ]);
});
