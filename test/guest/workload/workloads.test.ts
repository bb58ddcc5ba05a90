import { describe, expect, test } from "vitest";
import { Op, Status } from "../../../src/core/block.ts";
import { type Flow, run } from "../../../src/core/flow.ts";
import { BlockLayer } from "../../../src/guest/block-layer.ts";
import { Burst } from "../../../src/guest/workload/burst.ts";
import { Ledger } from "../../../src/guest/workload/ledger.ts";
import { Random } from "../../../src/guest/workload/random.ts";
import { sweep } from "../../../src/guest/workload/sweep.ts";
import { WORKLOADS, type WorkloadName } from "../../../src/guest/workload/workloads.ts";
import { GuestRam, LinearMemory } from "../../../src/hypervisor/memory.ts";
import { FakeDriver } from "../../support/fake-driver.ts";

const REGION = { offset: 1 << 20, length: 1 << 20 };
const clock = { now: () => performance.now(), after: () => () => {} };

function lab(blockSize = 4096, queueDepth = 8) {
  const memory = new LinearMemory(4 << 20, 65536);
  const ram = new GuestRam(memory);
  const driver = new FakeDriver(4 << 20, memory.linear.subarray(memory.base));
  const layer = new BlockLayer(driver);
  const ledger = new Ledger(REGION, 42);
  expect(run(sweep(layer, ram, ledger, "write"))).toBeNull();
  return { driver, layer, ram, ledger, burst: new Burst({ layer, ram, clock, ledger, blockSize, queueDepth }) };
}

function drive(name: WorkloadName, burst: Burst, bursts: number): string | null {
  const plan = WORKLOADS[name](new Random(7));
  for (let i = 0; i < bursts && !burst.fault; i++) {
    plan(burst);
    burst.run();
  }
  return burst.fault;
}

const now = <T>(flow: Flow<T>) => run(flow) as T;

describe.each(Object.keys(WORKLOADS) as WorkloadName[])("%s", (name) => {
  test("finds nothing wrong with a good disk, and keeps within its region", () => {
    for (const [blockSize, queueDepth] of [
      [512, 1],
      [4096, 1],
      [4096, 32],
      [65536, 4],
    ]) {
      const { driver, burst, layer, ram, ledger } = lab(blockSize, queueDepth);
      expect(drive(name, burst, 50)).toBeNull();
      expect(burst.requests).toBe(50 * queueDepth);
      expect(burst.bytes).toBe(50 * queueDepth * blockSize);
      for (const { offset, length } of driver.started) {
        expect(offset).toBeGreaterThanOrEqual(REGION.offset);
        expect(offset + length).toBeLessThanOrEqual(REGION.offset + REGION.length);
      }
      expect(now(sweep(layer, ram, ledger, "read"))).toBeNull();
    }
  });

  test("sees one flipped bit of the disk", () => {
    const { driver, burst, layer, ram, ledger } = lab();
    driver.disk[REGION.offset + 123456] ^= 8;
    const fault = drive(name, burst, 50) ?? now(sweep(layer, ram, ledger, "read"));
    // A write may have covered it; then nothing is wrong any more.
    if (name === "sequential" || name === "random") {
      expect(fault).toMatch(/^sector 2289: 1 of 512 bytes are wrong, the first at 64 /);
    } else if (fault) expect(fault).toMatch(/^sector 2289: 1 of 512/);
  });

  test("sees a read that moves nothing", () => {
    const { driver, burst } = lab();
    driver.sabotage = ({ op }) => (op === Op.Read ? Status.Ok : undefined);
    expect(drive(name, burst, 50)).toMatch(/^sector \d+: \d+ of 512 bytes are wrong, the first at 0 \(0xa5/);
  });

  test("sees a failed request", () => {
    const { driver, burst } = lab();
    let left = 20;
    driver.sabotage = () => (left-- === 0 ? Status.Media : undefined);
    expect(drive(name, burst, 50)).toMatch(/^(read|write) at byte \d+ ended Media/);
  });
});

test("verify sees a lost write at once", () => {
  const { driver, burst } = lab();
  let left = 100;
  driver.sabotage = ({ op }) => (op === Op.Write && left-- === 0 ? Status.Ok : undefined);
  expect(drive("verify", burst, 100)).toMatch(/^sector \d+ holds generation \d+ where \d+ was written last$/);
});

test("mixed sees a lost write, at the latest in the sweep after it", () => {
  const { driver, burst, layer, ram, ledger } = lab();
  let left = 10;
  driver.sabotage = ({ op }) => (op === Op.Write && left-- === 0 ? Status.Ok : undefined);
  const fault = drive("mixed", burst, 20) ?? now(sweep(layer, ram, ledger, "read"));
  expect(fault).toMatch(/holds generation 1 where 2 was written last$/);
});

test("verify sees two writes that changed places", () => {
  const { driver, burst } = lab(4096, 4);
  drive("verify", burst, 2);
  const [a, b] = [REGION.offset, REGION.offset + 8192];
  const first = driver.disk.slice(a, a + 4096);
  driver.disk.copyWithin(a, b, b + 4096);
  driver.disk.set(first, b);
  expect(drive("sequential", burst, 1)).toBe("sector 2048 holds what belongs to sector 2064");
});

test("no block is planned twice in one burst", () => {
  const { burst } = lab(65536, 16);
  const plan = WORKLOADS.random(new Random(1));
  const blocks = new Set<number>();
  const spy = Object.assign(Object.create(burst), {
    depth: 16,
    blocks: 16,
    plan: (i: number, write: boolean, block: number) => {
      const got = burst.plan(i, write, block);
      blocks.add(got);
      return got;
    },
  });
  plan(spy);
  expect(blocks.size).toBe(16);
});

test("the same seed plans the same requests", () => {
  const draw = (seed: number) => {
    const dice = new Random(seed);
    return Array.from({ length: 8 }, () => dice.below(1000));
  };
  expect(draw(1)).toEqual(draw(1));
  expect(draw(1)).not.toEqual(draw(2));
});
