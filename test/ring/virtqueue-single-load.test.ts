import { afterEach, describe, expect, test } from "vitest";
import { AvailableRing, BlkType, DescriptorFlag, Feature } from "../../assembly/spec/virtio.ts";
import { VqDevice } from "../../assembly/spec/virtqueue.ts";
import { BlockRequest, Op, Status } from "../../src/core/block.ts";
import { probeVirtioBlk } from "../../src/guest/virtio-blk.ts";
import { attachVirtioBlk } from "../../src/host/device/virtio/attach.ts";
import { LabMachine } from "../../src/hypervisor/machine.ts";
import { type Core, coreFor } from "../../src/wasm/core.ts";
import { RequestTable } from "../../src/wasm/requests.ts";
import { FakeBlock } from "../support/fake-block.ts";
import { TracedCore } from "../support/traced-core.ts";
import { type Element, PLACE, RawDriver } from "../support/virtqueue.ts";

const SIZE = 64 << 10;
const NEXT = DescriptorFlag.Next;
const WRITE = DescriptorFlag.Write;
const INDIRECT = DescriptorFlag.Indirect;
const { data, header, status, table } = PLACE;

let traced: TracedCore | undefined;
afterEach(() => {
  traced?.uninstall();
  traced = undefined;
});

/** One request of every type, framing and way to be refused, each with a header, ranges and table of its own. */
function fill(driver: RawDriver): void {
  let count = 0;
  const slot = (type: number, sector: number) => driver.header(type, sector, header + 64 * count);
  const end = () => driver.statusByte(status + count);
  const into: Element = { address: data, length: 512, write: true };
  const add = (indirect: boolean, ...elements: Element[]) => {
    driver.publish(indirect ? driver.indirect(elements, table + 256 * count) : driver.chain(elements));
    count++;
  };
  for (const indirect of driver.features.includes(Feature.IndirectDescriptors) ? [false, true] : [false]) {
    const range = () => driver.range(data + 4096 + 64 * count, 8, 4);
    add(indirect, slot(BlkType.In, 1), into, { ...into, length: 1024 }, end());
    add(indirect, slot(BlkType.Out, 1), { address: data, length: 512 }, end());
    add(indirect, { ...slot(BlkType.In, 2), length: 3 }, { address: header + 64 * count + 3, length: 13 }, into, end());
    add(indirect, slot(BlkType.Flush, 0), end());
    add(indirect, slot(BlkType.GetId, 0), { ...into, length: 9 }, { ...into, length: 11 }, end());
    add(
      indirect,
      slot(BlkType.Discard, 0),
      { ...range(), length: 7 },
      { address: range().address + 7, length: 9 },
      end(),
    );
    add(indirect, slot(BlkType.WriteZeroes, 0), range(), end());
    add(indirect, slot(BlkType.Discard, 0), { ...range(), length: 15 }, end());
    add(indirect, slot(BlkType.In, 1e6), into, end());
    add(indirect, slot(99, 0), end());
    add(indirect, slot(BlkType.In, 0), { ...into, address: 0xfffffff0 }, end());
    add(indirect, slot(BlkType.In, 0), { ...into, length: 0 }, end());
    add(indirect, { ...slot(BlkType.In, 0), length: 8 }, end());
    add(indirect, slot(BlkType.In, 0), end(), { address: data, length: 512 });
  }
}

const features = [
  [Feature.IndirectDescriptors, Feature.EventIndex],
  [Feature.IndirectDescriptors],
  [Feature.EventIndex],
  [],
];
const rig = (accept: readonly number[]) =>
  new RawDriver(new FakeBlock(SIZE), {
    queueSize: 128,
    features: [...accept, Feature.BlkFlush, Feature.BlkDiscard, Feature.BlkWriteZeroes],
  });

/** Calls `after` with what each call of the core returned, its context, and the loads that it made. */
function watch(core: Core, tracer: TracedCore, after: (name: string, context: number) => void): void {
  const calls = Object.entries(core.call).map(([name, call]) => [
    name,
    (context: number, ...rest: number[]) => {
      tracer.clear();
      const result = call(context, ...rest);
      after(name, context);
      return result;
    },
  ]);
  Object.defineProperty(core, "call", { value: Object.fromEntries(calls) });
}

describe.each(features.map((accept) => [accept]))("features %o", (accept) => {
  test("no shared byte is loaded twice in a call, and in a doorbell only the index, by the final check", () => {
    const tracer = (traced = TracedCore.install());
    const driver = rig(accept);
    const { base, size, wasm } = driver.machine.memory;
    const calls: string[] = [];
    const doorbell: { address: number; bytes: number }[] = [];
    watch(coreFor(wasm), tracer, (name) => {
      calls.push(name);
      expect(tracer.twice(base, base + size)).toEqual([]);
      doorbell.push(...tracer.within(base, base + size));
    });
    fill(driver);
    driver.kick();
    expect(calls).toEqual(["virtioBlkConsume", "virtioBlkComplete"]);
    expect(doorbell.length).toBeGreaterThan(150);
    tracer.clear();
    tracer.loads.push(...doorbell);
    const index = base + driver.available + AvailableRing.Index;
    expect(tracer.twice(base, base + size)).toEqual([index, index + 1]);
    expect(driver.collect().length).toBe(accept.includes(Feature.IndirectDescriptors) ? 28 : 14);
    expect(driver.needsReset).toBe(false);
  });

  test("a guest that changes every field right after it was read changes nothing", () => {
    /** What the first consume made of the queue. */
    const records = (attack: boolean): unknown[] => {
      let armed = false;
      let driver: RawDriver | undefined;
      const tracer = TracedCore.install(({ address, bytes }) => {
        if (!armed || !driver || address < driver.machine.memory.base) return;
        for (let i = 0; i < bytes; i++) driver.machine.memory.linear[address + i] ^= 0xff;
      });
      traced = tracer;
      driver = rig(accept);
      const core = coreFor(driver.machine.memory.wasm);
      const found: unknown[] = [];
      watch(core, tracer, (name, context) => {
        if (name !== "virtioBlkConsume" || found.length > 0) return;
        armed = false;
        const at = core.get(context + VqDevice.Table);
        const count = core.get(at + 8);
        // Words from the records on; the first request, segments included, is all there in words.
        found.push(count, [...core.u32.subarray(at >>> 2, (at + RequestTable.bytes(288, 128)) >>> 2)]);
        found.push([...core.u32.subarray((context + VqDevice.Slots) >>> 2, (context + VqDevice.DirectStamps) >>> 2)]);
      });
      fill(driver);
      armed = attack;
      driver.kick();
      tracer.uninstall();
      return found;
    };
    const honest = records(false);
    expect(honest[0]).toBeGreaterThanOrEqual(14);
    expect(records(true)).toEqual(honest);
  });
});

test("a hostile chain is not read twice either", () => {
  const tracer = (traced = TracedCore.install());
  const into: Element = { address: data, length: 512, write: true };
  const chains: ((driver: RawDriver) => number[])[] = [
    (d) => [
      d.chain([
        { ...into, flags: NEXT | WRITE, next: 1 },
        { ...into, flags: NEXT | WRITE, next: 0 },
      ]),
    ],
    (d) => [
      d.indirect([
        { ...into, flags: NEXT | WRITE, next: 1 },
        { ...into, flags: NEXT | WRITE, next: 0 },
      ]),
    ],
    (d) => {
      const head = d.chain([d.header(BlkType.Flush, 0), d.statusByte()]);
      return [head, head, d.chain([{ ...d.header(4, 0, header + 64), flags: NEXT, next: head + 1 }])];
    },
    (d) => [d.chain([{ address: table, length: 0xfffffff0, flags: INDIRECT }])],
  ];
  for (const make of chains) {
    const driver = rig([Feature.IndirectDescriptors]);
    const { base, size, wasm } = driver.machine.memory;
    const calls: number[][] = [];
    watch(coreFor(wasm), tracer, () => calls.push(tracer.twice(base, base + size)));
    driver.publish(...make(driver));
    driver.kick();
    expect(calls).toEqual([[], []]);
    expect(driver.needsReset).toBe(true);
  }
});

test.each([true, false])("the driver's half loads no byte of the rings twice (event index %s)", (eventIndex) => {
  const tracer = (traced = TracedCore.install());
  const machine = new LabMachine({ memory: 4 << 20 });
  const window = { base: 0xd0000000, interrupt: 5 };
  attachVirtioBlk(machine, new FakeBlock(SIZE), window);
  const driver = probeVirtioBlk(machine.guest, { ...window, eventIndex });
  const { base, size, wasm } = machine.memory;
  const calls: string[] = [];
  watch(coreFor(wasm), tracer, (name) => {
    calls.push(name);
    expect(tracer.twice(base, base + size)).toEqual([]);
  });
  const page = machine.guest.ram.allocate(1);
  const requests = Array.from({ length: 5 }, (_, i) => {
    const request = new BlockRequest();
    request.op = [Op.Read, Op.Write, Op.Flush, Op.Discard, Op.WriteZeroes][i];
    request.length = request.op === Op.Flush ? 0 : 4096;
    if (request.op <= Op.Write) request.segments.push(page, 4096);
    return request;
  });
  driver.start(requests);
  expect(requests.map((request) => request.status)).toEqual(requests.map(() => Status.Ok));
  expect(calls).toEqual(["virtioBlkSubmit", "virtioBlkConsume", "virtioBlkComplete", "virtioBlkPoll"]);
});
