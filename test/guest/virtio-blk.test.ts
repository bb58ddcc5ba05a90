import { expect, test } from "vitest";
import { DeviceStatus, Mmio } from "../../assembly/spec/virtio.ts";
import { BlockRequest, Op, Status } from "../../src/core/block.ts";
import { probeVirtioBlk } from "../../src/guest/virtio-blk.ts";
import { attachVirtioBlk } from "../../src/host/device/virtio/attach.ts";
import { LabMachine } from "../../src/hypervisor/machine.ts";
import { FakeBlock } from "../support/fake-block.ts";

const WINDOW = { base: 0xd0000000, interrupt: 5 };

function rig(block: FakeBlock = new FakeBlock(1 << 20)) {
  const machine = new LabMachine({ memory: 8 << 20 });
  const device = attachVirtioBlk(machine, block, WINDOW);
  /** What the driver wrote last to each register, such as where its rings are. */
  const registers = new Map<number, number>();
  machine.trap.trace = (kind, address, _, value) => {
    if (kind === "store") registers.set(address - WINDOW.base, value);
  };
  const driver = probeVirtioBlk(machine.guest, WINDOW);
  const done: BlockRequest[] = [];
  driver.onComplete = (request) => done.push(request);
  return { block, machine, ram: machine.guest.ram, device, driver, done, registers };
}

function request(op: Op, offset: number, length: number, page?: number): BlockRequest {
  const made = new BlockRequest();
  made.op = op;
  made.offset = offset;
  made.length = length;
  if (page !== undefined) made.segments.push(page, length);
  return made;
}

test("the limits come from the device", () => {
  const { driver } = rig(new FakeBlock(1 << 20, { sectorSize: 4096, readOnly: true }));
  expect(driver).toMatchObject({ size: 1 << 20, sectorSize: 4096, depth: 128, maxSegments: 62, readOnly: true });
});

test("nothing there, or something else: NOT_FOUND", () => {
  const machine = new LabMachine({ memory: 8 << 20 });
  const notFound = expect.objectContaining({ code: "NOT_FOUND" });
  expect(() => probeVirtioBlk(machine.guest, WINDOW)).toThrow(notFound);
  machine.mmio.register(WINDOW.base, 512, {
    readMmio: (offset) => [0x74726976, 2, 0][offset / 4] ?? 0,
    writeMmio() {},
  });
  expect(() => probeVirtioBlk(machine.guest, WINDOW)).toThrow(notFound);
});

test("a device that refuses features, or the queue, is told that we have failed: UNSUPPORTED", () => {
  for (const refuse of [DeviceStatus.FeaturesOk, 0]) {
    const machine = new LabMachine({ memory: 8 << 20 });
    let status = 0;
    const registers = new Map<number, number>([
      [Mmio.Magic, 0x74726976],
      [Mmio.Version, 2],
      [Mmio.DeviceId, 2],
      [Mmio.QueueSizeMax, 64],
    ]);
    machine.mmio.register(WINDOW.base, 512, {
      readMmio: (offset) => (offset === Mmio.Status ? status & ~refuse : (registers.get(offset) ?? 0)),
      writeMmio: (offset, _, value) => {
        if (offset === Mmio.Status) status = value;
      },
    });
    expect(() => probeVirtioBlk(machine.guest, WINDOW)).toThrow(expect.objectContaining({ code: "UNSUPPORTED" }));
    expect(status).toBe(DeviceStatus.Failed);
  }
});

test("what the device does not have ends in the driver, in turn and without an exit", () => {
  const block = new FakeBlock(1 << 20, { readOnly: true });
  const { machine, ram, driver, done } = rig(block);
  const before = machine.exits.total;
  const page = ram.allocate(1);
  const requests = [
    request(Op.Discard, 0, 4096),
    request(Op.Read, 0, 4096, page),
    request(Op.WriteZeroes, 0, 4096),
    request(Op.Read, 4096, 4096, page),
  ];
  expect(driver.start(requests)).toBe(4);
  expect(done.length).toBe(4);
  expect(requests.map(({ status }) => status)).toEqual([Status.Unsupported, Status.Ok, Status.Unsupported, Status.Ok]);
  expect(machine.exits.total - before).toBe(1);
  expect(driver.start([request(Op.Discard, 0, 4096)])).toBe(1);
  expect([done.length, machine.exits.total - before]).toEqual([5, 1]);
});

test("a discard of more sectors than the protocol can name is not cut short", () => {
  const { driver, done, block } = rig();
  driver.start([request(Op.Discard, 0, 2 ** 41)]);
  expect([done[0].status, block.asked.length]).toEqual([Status.Unsupported, 0]);
});

test("wire statuses", () => {
  const { block, ram, driver, done } = rig();
  const page = ram.allocate(1);
  for (const status of [Status.Media, Status.NoSpace, Status.Unsupported]) {
    block.fault = () => status;
    driver.start([request(Op.Read, 0, 512, page)]);
  }
  block.fault = () => Status.Ok;
  driver.start([request(Op.Read, 1 << 20, 512, page)]);
  expect(done.map(({ status }) => status)).toEqual([Status.Io, Status.Io, Status.Unsupported, Status.Io]);
});

test("the driver follows a disk that grows", () => {
  const block = new FakeBlock(1 << 20);
  const { device, driver } = rig(block);
  Object.defineProperty(block, "size", { value: 2 << 20 });
  device.resized();
  expect(driver.size).toBe(2 << 20);
});

test("close waits for the device before it gives memory and requests back", async () => {
  const { block, ram, driver, done, machine } = rig(new FakeBlock(1 << 20, { manual: true }));
  const page = ram.allocate(1);
  driver.start([request(Op.Read, 0, 4096, page)]);
  driver.close();
  driver.close();
  expect(done).toEqual([]);
  expect(() => driver.start([])).toThrow(expect.objectContaining({ code: "CLOSED" }));
  expect(() => probeVirtioBlk(machine.guest, WINDOW)).toThrow(expect.objectContaining({ code: "BUSY" }));
  await block.release();
  await expect.poll(() => done.length).toBe(1);
  expect(done[0].status).toBe(Status.Io);
  const again = probeVirtioBlk(machine.guest, WINDOW);
  again.start([request(Op.Read, 0, 4096, page)]);
  await block.release();
  again.close();
});

test("a closed driver's memory is used by the next one", () => {
  const { driver, machine, registers } = rig();
  const first = registers.get(Mmio.QueueDescriptorsLow);
  driver.close();
  probeVirtioBlk(machine.guest, WINDOW);
  expect(registers.get(Mmio.QueueDescriptorsLow)).toBe(first);
});

test("a device that asks for a reset: what is in flight and what follows are I/O errors", async () => {
  const { block, machine, ram, driver, done, registers } = rig(new FakeBlock(1 << 20, { manual: true }));
  const page = ram.allocate(1);
  driver.start([request(Op.Read, 0, 4096, page)]);
  // Somebody scribbles over the available index and rings.
  ram.write16(registers.get(Mmio.QueueDriverLow)! + 2, 0x4000);
  machine.guest.store(WINDOW.base + Mmio.QueueNotify, 4, 0);
  driver.start([request(Op.Read, 0, 4096, page)]);
  expect(done.length).toBe(1);
  await block.release();
  await expect.poll(() => done.length).toBe(2);
  driver.start([request(Op.Flush, 0, 0)]);
  expect(done.map(({ status }) => status)).toEqual([Status.Io, Status.Io, Status.Io]);
});

test.each([
  ["an index ahead of what is in flight", 2, 9],
  ["a head past the queue", 4, 500],
  ["a head that is not in flight", 4, 7],
])("a device that writes nonsense: %s", async (_, offset, value) => {
  const { ram, driver, block, done, registers } = rig(new FakeBlock(1 << 20, { manual: true }));
  const used = registers.get(Mmio.QueueDeviceLow)!;
  driver.start([request(Op.Flush, 0, 0)]);
  ram.write32(used + 4, 0);
  ram.write16(used + 2, 1);
  ram.write16(used + offset, value);
  driver.start([request(Op.Flush, 0, 0)]);
  while (block.waiting > 0) await block.release();
  await expect.poll(() => done.length).toBe(2);
  expect(done.map(({ status }) => status)).toEqual([Status.Io, Status.Io]);
});
