import { expect, test } from "vitest";
import { type BlockRequest, Op, Status } from "../../../src/core/block.ts";
import { Requests } from "../../../src/host/image/request.ts";

const KiB = 1024;

/** What a block is asked for by what has been added. */
function asked(...list: [op: Op, offset: number, length: number, at: number][]) {
  const requests = new Requests(new Uint8Array(64 * KiB));
  for (const one of list) requests.add(...one);
  const batch: unknown[] = [];
  const submit = (submitted: readonly BlockRequest[]) => {
    for (const request of submitted) {
      const { op, offset, length, segments } = request;
      const places = Array.from({ length: segments.count }, (_, i) => [segments.start(i), segments.length(i)]);
      batch.push([op, offset, length, ...places]);
      request.status = Status.Ok;
    }
  };
  requests.submit({ submit } as never);
  return batch;
}

test("requests that go on where the one before ends, on the disk and in the buffer, are one", () => {
  expect(asked([Op.Read, 0, KiB, 0], [Op.Read, KiB, KiB, KiB], [Op.Read, 2 * KiB, 512, 2 * KiB])).toEqual([
    [Op.Read, 0, 2 * KiB + 512, [0, 2 * KiB + 512]],
  ]);
  // From elsewhere in the buffer on.
  expect(asked([Op.Write, 9 * KiB, KiB, 3 * KiB], [Op.Write, 10 * KiB, KiB, 4 * KiB])).toEqual([
    [Op.Write, 9 * KiB, 2 * KiB, [3 * KiB, 2 * KiB]],
  ]);
  // Zeros have no place in it.
  expect(asked([Op.WriteZeroes, 0, KiB, 0], [Op.WriteZeroes, KiB, KiB, 0])).toEqual([[Op.WriteZeroes, 0, 2 * KiB]]);
});

test("all others stay apart, in their order", () => {
  const apart: Parameters<typeof asked> = [
    [Op.Read, 0, KiB, 0],
    [Op.Write, KiB, KiB, KiB],
    [Op.Write, 3 * KiB, KiB, 2 * KiB],
    [Op.Write, 4 * KiB, KiB, 2 * KiB],
    [Op.Write, 2 * KiB, KiB, 3 * KiB],
    [Op.WriteZeroes, 3 * KiB, KiB, 4 * KiB],
  ];
  expect(asked(...apart)).toEqual(
    apart.map(([op, offset, length, at]) => [op, offset, length, ...(op === Op.WriteZeroes ? [] : [[at, length]])]),
  );
});
