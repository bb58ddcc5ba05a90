import { describe, expect, test } from "vitest";
import { Op, Status } from "../../../src/core/block.ts";
import { connect, pattern, request, roundTrip, same } from "../../support/xen.ts";

describe.each(["x86_64-abi", "x86_32-abi"] as const)("%s", (protocol) => {
  test.each([0, 1, 4])("ring order %i: data written is data read, many times round the ring", (ringPageOrder) => {
    const { machine, driver, block, done } = connect({ front: { protocol, ringPageOrder } });
    expect(driver.depth).toBe(32 << ringPageOrder);
    for (let i = 0; i < 3 * driver.depth; i++) roundTrip(machine, driver, ((i * 37) % 1000) * 4096, i);
    expect(block.bytes.some((byte) => byte !== 0)).toBe(true);
    expect(done.length).toBe(6 * driver.depth);
  });

  test("direct and indirect requests, segments of single sectors anywhere in a page", () => {
    const { machine, driver, block } = connect({ front: { protocol } });
    const { ram } = machine.guest;
    const buffer = ram.allocate(128);
    pattern(ram.bytes(buffer, 128 * 4096), 5);
    // A run that starts and ends inside pages, then single sectors out of order.
    const runs: [number, number][] = [[buffer + 3584, 70 * 1024]];
    for (let i = 0; i < 40; i++) runs.push([buffer + (120 - i * 2) * 4096 + (i % 8) * 512, 512]);
    const write = request(Op.Write, 1536, runs);
    driver.start([write]);
    expect(write.status).toBe(Status.Ok);
    const expected = runs.flatMap(([start, bytes]) => [...ram.bytes(start, bytes)]);
    expect([...block.bytes.subarray(1536, 1536 + write.length)]).toEqual(expected);

    const target = ram.allocate(128);
    const read = request(
      Op.Read,
      1536,
      runs.map(([start, bytes]) => [start - buffer + target, bytes]),
    );
    driver.start([read]);
    expect(read.status).toBe(Status.Ok);
    for (const [start, bytes] of runs) {
      expect(same(ram.bytes(start - buffer + target, bytes), ram.bytes(start, bytes))).toBe(true);
    }
  });
});

test("what each request costs: one event at depth 1, well under one at depth 32", () => {
  const { machine, driver } = connect();
  const buffer = machine.guest.ram.allocate(32);
  const cost = (depth: number) => {
    const [exits, interrupts] = [machine.exits.total, machine.interruptsDelivered];
    for (let round = 0; round < 10; round++) {
      const batch = Array.from({ length: depth }, (_, i) => request(Op.Read, i * 4096, [[buffer + i * 4096, 4096]]));
      expect(driver.start(batch)).toBe(depth);
      expect(batch.every(({ status }) => status === Status.Ok)).toBe(true);
    }
    const requests = 10 * depth;
    return [(machine.exits.total - exits) / requests, (machine.interruptsDelivered - interrupts) / requests];
  };
  expect(cost(1)).toEqual([1, 1]);
  expect(cost(32)).toEqual([1 / 32, 1 / 32]);
});

test("the driver takes what its ring holds and the rest later", () => {
  const { machine, driver, done } = connect();
  const buffer = machine.guest.ram.allocate(1);
  const many = Array.from({ length: 100 }, (_, i) => request(Op.Read, i * 4096, [[buffer, 4096]]));
  expect(driver.start(many)).toBe(32);
  expect(done.length).toBe(32);
  expect(driver.start(many.slice(32))).toBe(32);
});

test("completions may start the next requests, from inside the interrupt", () => {
  const { machine, driver } = connect();
  const buffer = machine.guest.ram.allocate(1);
  let left = 500;
  driver.onComplete = (request) => {
    expect(request.status).toBe(Status.Ok);
    if (left-- > 0) driver.start([request]);
  };
  for (let i = 0; i < 8; i++) driver.start([request(Op.Read, i * 4096, [[buffer, 4096]])]);
  expect(left).toBe(-8);
});
