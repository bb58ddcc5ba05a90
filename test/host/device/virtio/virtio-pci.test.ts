import { describe, expect, test } from "vitest";
import { BlkStatus, BlkType, DeviceStatus, Feature, Mmio, PciCommon } from "../../../../assembly/spec/virtio.ts";
import { attachVirtioBlk } from "../../../../src/host/device/virtio/attach.ts";
import { LabMachine } from "../../../../src/hypervisor/machine.ts";
import { FakeBlock } from "../../../support/fake-block.ts";
import { PLACE, RawDriver } from "../../../support/virtqueue.ts";

const READY = DeviceStatus.Acknowledge | DeviceStatus.Driver | DeviceStatus.FeaturesOk;
const RUNNING = READY | DeviceStatus.DriverOk;
const ISR = 0x40;
const LINE = 5;

function rig(pci: "ports" | "memory", block = new FakeBlock(64 << 10)) {
  return { block, driver: new RawDriver(block, { pci }) };
}

/** The vendor capabilities: type, BAR, offset, length, and what follows. */
function capabilities(driver: RawDriver) {
  const found = [];
  for (let at = driver.getPci(0x34, 1); at !== 0; at = driver.getPci(at + 1, 1)) {
    expect([driver.getPci(at, 1), at % 4]).toEqual([9, 0]);
    found.push({
      at,
      length: driver.getPci(at + 2, 1),
      type: driver.getPci(at + 3, 1),
      bar: driver.getPci(at + 4, 1),
      offset: driver.getPci(at + 8, 4),
      bytes: driver.getPci(at + 12, 4),
    });
  }
  return found;
}

describe.each(["ports", "memory"] as const)("BAR in %s", (pci) => {
  test("the function says who it is and where its structures are", () => {
    const { driver } = rig(pci);
    expect([driver.getPci(0, 4), driver.getPci(8, 4), driver.getPci(0x2c, 4), driver.getPci(0x3c, 2)]).toEqual([
      0x10421af4, 0x01000001, 0x10421af4, 0x0105,
    ]);
    expect(
      capabilities(driver).map(({ type, length, bar, offset, bytes }) => [type, length, bar, offset, bytes]),
    ).toEqual([
      [1, 16, 0, 0, 56],
      [3, 16, 0, 0x40, 1],
      [4, 16, 0, 0x80, 60],
      [2, 20, 0, 0x44, 2],
      [5, 20, 0, 0, 0],
    ]);
    // §4.1.4: structures of one BAR do not meet, and none passes its end.
    driver.setPci(0x10, 4, 0xffffffff);
    expect(driver.getPci(0x10, 4)).toBe(pci === "ports" ? 0xffffff01 : 0xfffff000);
  });

  test("after a reset", () => {
    const { driver } = rig(pci);
    driver.write(Mmio.Status, 0);
    const fields: [number, 1 | 2 | 4, number][] = [
      [PciCommon.DeviceFeatureSelect, 4, 0],
      [PciCommon.DriverFeatureSelect, 4, 0],
      [PciCommon.DriverFeature, 4, 0],
      [PciCommon.ConfigVector, 2, 0xffff],
      [PciCommon.Queues, 2, 1],
      [PciCommon.Status, 1, 0],
      [PciCommon.QueueSelect, 2, 0],
      [PciCommon.QueueSize, 2, 256],
      [PciCommon.QueueVector, 2, 0xffff],
      [PciCommon.QueueEnable, 2, 0],
      [PciCommon.QueueNotifyOffset, 2, 0],
      [PciCommon.QueueDescriptorsLow, 4, 0],
      [PciCommon.QueueDescriptorsHigh, 4, 0],
      [PciCommon.QueueDriverLow, 4, 0],
      [PciCommon.QueueDriverHigh, 4, 0],
      [PciCommon.QueueDeviceLow, 4, 0],
      [PciCommon.QueueDeviceHigh, 4, 0],
    ];
    expect(fields.map(([at, width]) => driver.peek(at, width))).toEqual(fields.map(([, , value]) => value));
    driver.poke(PciCommon.QueueSelect, 2, 1);
    expect([driver.peek(PciCommon.QueueSelect, 2), driver.peek(PciCommon.QueueSize, 2)]).toEqual([1, 0]);
  });

  test("what is written is read back where §4.1.4.3 says read-write, and nowhere else", () => {
    const { driver } = rig(pci);
    driver.write(Mmio.Status, 0);
    const writable: number[] = [];
    const widths = { 1: [20, 21], 2: [16, 18, 22, 24, 26, 28, 30] } as Record<number, number[]>;
    for (let at = 0; at < 56; at++) {
      const width = widths[1].includes(at) ? 1 : widths[2].includes(at) ? 2 : 4;
      if ((width === 4 && at % 4 !== 0) || (width === 2 && at % 2 !== 0) || [19, 23].includes(at)) continue;
      if (width === 4 && at > 15 && at < 32) continue;
      driver.write(Mmio.Status, 0);
      const before = driver.peek(at, width);
      const value = at === PciCommon.Status ? 3 : at === PciCommon.QueueSelect ? 7 : before ^ 0x55;
      driver.poke(at, width, value);
      if (driver.peek(at, width) === value) writable.push(at);
      else expect(driver.peek(at, width)).toBe(before);
    }
    expect(writable).toEqual([
      PciCommon.DeviceFeatureSelect,
      PciCommon.DriverFeatureSelect,
      PciCommon.DriverFeature,
      PciCommon.Status,
      PciCommon.QueueSelect,
      PciCommon.QueueSize,
      PciCommon.QueueDescriptorsLow,
      PciCommon.QueueDescriptorsHigh,
      PciCommon.QueueDriverLow,
      PciCommon.QueueDriverHigh,
      PciCommon.QueueDeviceLow,
      PciCommon.QueueDeviceHigh,
    ]);
  });

  test("narrower and wider accesses are parts of fields and several of them", () => {
    const { driver } = rig(pci);
    driver.write(Mmio.Status, 0);
    driver.poke(PciCommon.QueueDescriptorsLow, 4, 0x11223344);
    driver.poke(PciCommon.QueueDescriptorsLow + 1, 1, 0xaa);
    driver.poke(PciCommon.QueueDescriptorsLow + 2, 2, 0xbbcc);
    expect(driver.peek(PciCommon.QueueDescriptorsLow, 4)).toBe(0xbbccaa44);
    expect(driver.peek(PciCommon.QueueDescriptorsLow + 3, 1)).toBe(0xbb);
    // Queue select and queue size, with one access each of two bytes, then of four.
    driver.poke(PciCommon.QueueSize, 1, 64);
    driver.poke(PciCommon.QueueSize + 1, 1, 0);
    expect(driver.peek(PciCommon.QueueSize, 2)).toBe(64);
    expect(driver.peek(PciCommon.Queues, 4)).toBe(((driver.peek(PciCommon.Generation, 1) << 24) | 1) >>> 0);
    driver.poke(PciCommon.Status, 4, 0x0000_0001);
    expect([driver.status, driver.peek(PciCommon.QueueSelect, 2)]).toEqual([1, 0]);
    expect(driver.peek(PciCommon.Size - 1, 4)).toBe(0);
  });

  test("a request, its interrupt, and the ISR that reading clears", () => {
    const { driver } = rig(pci);
    const { interrupts } = driver.machine.trap;
    expect(driver.request(BlkType.Flush, 0, []).status).toBe(BlkStatus.Ok);
    expect([driver.interrupts, driver.causes]).toEqual([1, 1]);
    driver.boot([Feature.BlkFlush]);
    interrupts.hold();
    driver.request(BlkType.Flush, 0, []);
    driver.device.resized();
    expect(interrupts.level(LINE)).toBe(true);
    expect([driver.peek(ISR, 1), driver.peek(ISR, 1), interrupts.level(LINE)]).toEqual([3, 0, false]);
    interrupts.unhold();
  });

  test("data both ways, direct and indirect", () => {
    const { driver, block } = rig(pci);
    for (const indirect of [false, true]) {
      driver.ram.bytes(PLACE.data, 512).fill(indirect ? 0x31 : 0x32);
      driver.request(BlkType.Out, 5, [{ address: PLACE.data, length: 512 }], { indirect });
      expect(block.bytes[5 * 512]).toBe(indirect ? 0x31 : 0x32);
      driver.ram.bytes(PLACE.data, 512).fill(0);
      const read = driver.request(BlkType.In, 5, [{ address: PLACE.data, length: 512, write: true }], { indirect });
      expect([read.length, driver.ram.read8(PLACE.data)]).toEqual([513, indirect ? 0x31 : 0x32]);
    }
  });

  test("without bus mastering no notification reaches the rings", () => {
    const { driver } = rig(pci);
    driver.setPci(4, 2, 3);
    driver.publish(driver.chain([driver.header(BlkType.Flush, 0), driver.statusByte()]));
    driver.kick();
    expect(driver.ram.read8(PLACE.status)).toBe(0xff);
    driver.setPci(4, 2, 7);
    driver.kick();
    expect(driver.ram.read8(PLACE.status)).toBe(BlkStatus.Ok);
  });

  test("an enabled queue is fixed, and 0 does not take it back", () => {
    const { driver } = rig(pci);
    driver.negotiate();
    driver.setUp();
    driver.poke(PciCommon.QueueSize, 2, 4);
    driver.poke(PciCommon.QueueDriverLow, 4, 4);
    driver.poke(PciCommon.QueueEnable, 2, 0);
    expect([
      driver.read(Mmio.QueueSizeMax),
      driver.peek(PciCommon.QueueDriverLow, 4),
      driver.read(Mmio.QueueReady),
    ]).toEqual([16, driver.available, 1]);
    driver.poke(PciCommon.Status, 1, RUNNING);
    expect(driver.request(BlkType.Flush, 0, []).status).toBe(BlkStatus.Ok);
  });

  test("the generation counts changes, modulo 256", () => {
    const { driver } = rig(pci);
    const before = driver.peek(PciCommon.Generation, 1);
    driver.device.resized();
    expect(driver.peek(PciCommon.Generation, 1)).toBe(before + 1);
    for (let i = 0; i < 256; i++) driver.device.resized();
    expect(driver.peek(PciCommon.Generation, 1)).toBe(before + 1);
  });

  test("device configuration, read in any width", () => {
    const { driver } = rig(pci);
    expect([driver.config(0, 4), driver.config(20, 4), driver.config(21, 1), driver.config(60, 4)]).toEqual([
      128, 512, 2, 0,
    ]);
  });

  test("configuration space reaches the BAR (§4.1.4.9)", () => {
    const { driver } = rig(pci);
    const { at } = capabilities(driver).find(({ type }) => type === 5)!;
    const aim = (offset: number, length: number, bar = 0) => {
      driver.setPci(at + 4, 1, bar);
      driver.setPci(at + 8, 4, offset);
      driver.setPci(at + 12, 4, length);
    };
    aim(PciCommon.Status, 1);
    expect(driver.getPci(at + 16, 1)).toBe(RUNNING);
    driver.setPci(at + 16, 1, 0);
    expect(driver.status).toBe(0);
    aim(PciCommon.QueueSize, 2);
    expect(driver.getPci(at + 16, 2)).toBe(256);
    driver.setPci(at + 16, 2, 32);
    aim(PciCommon.QueueDriverLow, 4);
    driver.setPci(at + 16, 4, 0xfedcba98);
    expect([driver.read(Mmio.QueueSizeMax), driver.peek(PciCommon.QueueDriverLow, 4)]).toEqual([32, 0xfedcba98]);
    expect(driver.getPci(at + 16, 4)).toBe(0xfedcba98);
    // Nowhere: another BAR, past the end, unaligned, no width.
    for (const [offset, length, bar] of [
      [0, 4, 1],
      [0x100, 4, 0],
      [0xfffffffc, 4, 0],
      [2, 4, 0],
      [0, 3, 0],
      [0, 0, 0],
      [0, 0x10000004, 0],
    ]) {
      aim(offset, length, bar);
      driver.setPci(at + 16, 4, 0xffffffff);
      expect(driver.getPci(at + 16, 4)).toBe(0);
    }
    // Decoding of the BAR need not be on.
    driver.setPci(4, 2, 0);
    aim(PciCommon.Queues, 2);
    expect(driver.getPci(at + 16, 2)).toBe(1);
  });

  test("closing waits for what is in flight and frees slot and window", async () => {
    const block = new FakeBlock(64 << 10, { manual: true });
    const { driver } = rig(pci, block);
    driver.request(BlkType.Flush, 0, []);
    const closing = driver.device.close();
    expect([driver.peek(PciCommon.Status, 1), driver.getPci(0, 4)]).toEqual([0xff, 0xffffffff]);
    await block.release();
    await closing;
    expect(driver.ram.read8(PLACE.status)).toBe(0xff);
    const bar = pci === "ports" ? { ports: 0xe800 } : { memory: 0xd0000000 };
    attachVirtioBlk(driver.machine, block, { pci: { slot: 3, interrupt: LINE, ...bar } });
    expect(driver.getPci(0, 4)).toBe(0x10421af4);
  });

  test("a reset with data on its way is complete when it has landed", async () => {
    const block = new FakeBlock(64 << 10, { manual: true });
    const { driver } = rig(pci, block);
    driver.request(BlkType.In, 0, [{ address: PLACE.data, length: 512, write: true }]);
    driver.write(Mmio.Status, 0);
    expect(driver.status).not.toBe(0);
    await block.release();
    expect([driver.status, driver.ram.read8(PLACE.status), driver.interrupts]).toEqual([0, 0xff, 0]);
    driver.boot([Feature.BlkFlush]);
    expect(driver.status).toBe(RUNNING);
  });
});

test("a BAR is in one space", () => {
  const machine = new LabMachine({ memory: 1 << 20 });
  const block = new FakeBlock(4096);
  const invalid = expect.objectContaining({ code: "INVALID" });
  expect(() => attachVirtioBlk(machine, block, { pci: { interrupt: 5 } })).toThrow(invalid);
  const both = { interrupt: 5, ports: 0xe800, memory: 0xd0000000 };
  expect(() => attachVirtioBlk(machine, block, { pci: both })).toThrow(invalid);
});
