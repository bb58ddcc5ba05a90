import { expect, test } from "vitest";
import { BlkStatus, BlkType, DeviceStatus, Feature, Mmio } from "../../../../assembly/spec/virtio.ts";
import { FakeBlock } from "../../../support/fake-block.ts";
import { PLACE, RawDriver } from "../../../support/virtqueue.ts";

const READY = DeviceStatus.Acknowledge | DeviceStatus.Driver | DeviceStatus.FeaturesOk;

function rig(options: ConstructorParameters<typeof RawDriver>[1] = {}, block = new FakeBlock(64 << 10)) {
  return { block, driver: new RawDriver(block, options) };
}

test("registers say who is there; the rest reads zero, no shared memory reads ones", () => {
  const { driver } = rig();
  expect([Mmio.Magic, Mmio.Version, Mmio.DeviceId].map((register) => driver.read(register))).toEqual([
    0x74726976, 2, 2,
  ]);
  expect(driver.read(Mmio.QueueSizeMax)).toBe(256);
  driver.write(Mmio.QueueSelect, 1);
  expect([driver.read(Mmio.QueueSizeMax), driver.read(Mmio.QueueReady)]).toEqual([0, 0]);
  expect([driver.read(0x0c), driver.read(0x18), driver.read(0xb0), driver.read(0xbc)]).toEqual([
    0x41524150, 0, 0xffffffff, 0xffffffff,
  ]);
  const { guest } = driver.machine;
  expect([guest.load(0xd0000000, 1), guest.load(0xd0000070, 2), guest.load(0xd0000001, 4)]).toEqual([0, 0, 0]);
  guest.store(0xd0000070, 1, 0);
  expect(driver.status).toBe(READY | DeviceStatus.DriverOk);
});

test("feature words: 0–31, 32–63, and none beyond", () => {
  const { driver } = rig();
  const words = [0, 1, 2, 0xffffffff].map((select) => {
    driver.write(Mmio.DeviceFeaturesSelect, select);
    return driver.read(Mmio.DeviceFeatures);
  });
  const wanted = [
    Feature.BlkSegMax,
    Feature.BlkBlockSize,
    Feature.BlkFlush,
    Feature.BlkConfigWce,
    Feature.BlkDiscard,
    Feature.BlkWriteZeroes,
    Feature.IndirectDescriptors,
    Feature.EventIndex,
  ];
  expect(words).toEqual([wanted.reduce((word, bit) => word | (1 << bit), 0) >>> 0, 1, 0, 0]);
});

test("FEATURES_OK is refused for what was not offered, and without VERSION_1; then no queue and no DRIVER_OK", () => {
  const { driver } = rig();
  for (const [low, high] of [
    [1 << 1, 1],
    [0, 0],
    [0, 1 | 2],
  ]) {
    driver.write(Mmio.Status, 0);
    driver.write(Mmio.Status, 3);
    for (const [select, word] of [low, high].entries()) {
      driver.write(Mmio.DriverFeaturesSelect, select);
      driver.write(Mmio.DriverFeatures, word);
    }
    driver.write(Mmio.Status, READY);
    expect(driver.status).toBe(3);
    driver.setUp();
    expect(driver.read(Mmio.QueueReady)).toBe(0);
    driver.write(Mmio.Status, 3 | DeviceStatus.DriverOk);
    expect(driver.status).toBe(3);
  }
});

test("features are fixed once FEATURES_OK stands, and no status bit can be taken back", () => {
  const { driver } = rig();
  driver.negotiate([Feature.BlkSegMax]);
  driver.write(Mmio.DriverFeaturesSelect, 0);
  driver.write(Mmio.DriverFeatures, 1 << Feature.BlkFlush);
  driver.setUp();
  driver.write(Mmio.Status, READY | DeviceStatus.DriverOk);
  driver.write(Mmio.Status, DeviceStatus.Driver);
  expect(driver.status).toBe(READY | DeviceStatus.DriverOk);
  driver.write(Mmio.Status, READY | DeviceStatus.NeedsReset);
  expect(driver.needsReset).toBe(false);
  expect(driver.request(BlkType.Flush, 0, []).status).toBe(BlkStatus.Unsupported);
});

test("a queue that cannot be used stays unready", () => {
  const { driver } = rig();
  const { descriptors, available, used } = driver;
  const end = driver.ram.size;
  const cases: [string, Parameters<RawDriver["setUp"]>[0]][] = [
    ["size zero", { size: 0 }],
    ["size not a power of two", { size: 24 }],
    ["size past the maximum", { size: 512 }],
    ["descriptors unaligned", { descriptors: descriptors + 8 }],
    ["available ring unaligned", { available: available + 1 }],
    ["used ring unaligned", { used: used + 2 }],
    ["above 4 GiB", { high: 1 }],
    ["descriptors past the end", { descriptors: end - 128 }],
    ["available ring past the end", { available: end - 16 }],
    ["used ring past the end", { used: end - 128 }],
    ["far outside", { used: 0xfffffff0 }],
    ["used ring over the descriptors", { used: descriptors + 32 }],
    ["available ring over the used ring", { available: used + 8 }],
  ];
  for (const [name, at] of cases) {
    driver.negotiate();
    driver.setUp(at);
    expect([name, driver.read(Mmio.QueueReady), driver.needsReset]).toEqual([name, 0, true]);
  }
  const before = driver.interrupts;
  driver.write(Mmio.Status, READY | DeviceStatus.DriverOk);
  driver.kick();
  expect(driver.interrupts).toBe(before);
  driver.negotiate();
  driver.setUp({ descriptors: end - 256 });
  expect([driver.read(Mmio.QueueReady), driver.needsReset]).toEqual([1, false]);
});

test("a ready queue's registers are fixed; unready, it can be set up again", () => {
  const { driver } = rig();
  driver.negotiate();
  driver.setUp();
  driver.write(Mmio.QueueSize, 3);
  driver.write(Mmio.QueueDescriptorsLow, 1);
  driver.write(Mmio.QueueReady, 0);
  expect(driver.read(Mmio.QueueReady)).toBe(0);
  driver.write(Mmio.QueueReady, 1);
  expect(driver.read(Mmio.QueueReady)).toBe(1);
});

test("a notification of no queue, of an unready one, or too early is nothing", () => {
  const { block, driver } = rig();
  driver.kick(1);
  driver.kick(0xffffffff);
  driver.negotiate();
  driver.kick();
  driver.setUp();
  driver.publish(driver.chain([driver.header(BlkType.Flush, 0), driver.statusByte()]));
  driver.kick();
  expect([block.asked.length, driver.ram.read8(PLACE.status), driver.needsReset]).toEqual([0, 0xff, false]);
  driver.write(Mmio.Status, READY | DeviceStatus.DriverOk);
  driver.kick();
  expect(driver.ram.read8(PLACE.status)).toBe(BlkStatus.Ok);
});

test("the line follows InterruptStatus", () => {
  const block = new FakeBlock(64 << 10);
  const driver = new RawDriver(block);
  const { interrupts } = driver.machine.trap;
  interrupts.hold();
  driver.request(BlkType.Flush, 0, []);
  driver.device.resized();
  expect([driver.read(Mmio.InterruptStatus), interrupts.level(5)]).toEqual([3, true]);
  driver.write(Mmio.InterruptAcknowledge, 1);
  expect([driver.read(Mmio.InterruptStatus), interrupts.level(5)]).toEqual([2, true]);
  driver.write(Mmio.InterruptAcknowledge, 2);
  expect([driver.read(Mmio.InterruptStatus), interrupts.level(5)]).toEqual([0, false]);
  driver.request(BlkType.Flush, 0, []);
  driver.write(Mmio.Status, 0);
  expect([driver.read(Mmio.InterruptStatus), interrupts.level(5)]).toEqual([0, false]);
  interrupts.unhold();
});

test("reset forgets everything; so does the machine's", () => {
  for (const reset of [
    (driver: RawDriver) => driver.write(Mmio.Status, 0),
    (driver: RawDriver) => driver.machine.reset(),
  ]) {
    const { driver } = rig();
    reset(driver);
    expect([driver.status, driver.read(Mmio.QueueReady), driver.read(Mmio.InterruptStatus)]).toEqual([0, 0, 0]);
    driver.boot();
    expect(driver.request(BlkType.Flush, 0, []).status).toBe(BlkStatus.Ok);
  }
});

test("a reset with data on its way: silent at once, complete when the data has landed, then never again", async () => {
  const block = new FakeBlock(64 << 10, { manual: true });
  const { driver } = rig({}, block);
  const { ram } = driver;
  block.bytes.fill(0x77);
  const publish = (status: number) =>
    driver.publish(
      driver.chain([
        driver.header(BlkType.In, 0),
        { address: PLACE.data, length: 512, write: true },
        driver.statusByte(status),
      ]),
    );
  publish(PLACE.status);
  driver.kick();
  publish(PLACE.status + 1);
  driver.kick();
  expect(block.waiting).toBe(2);
  await block.release();
  expect([ram.read8(PLACE.status), driver.collect().length, driver.interrupts]).toEqual([0, 1, 1]);

  driver.write(Mmio.Status, 0);
  expect(driver.status).not.toBe(0);
  // Nothing takes while the reset lasts.
  driver.write(Mmio.Status, DeviceStatus.Acknowledge);
  driver.write(Mmio.QueueSize, 8);
  driver.kick();
  const rings = ram.bytes(PLACE.rings, 4096).slice();
  await block.release();
  expect(driver.status).toBe(0);
  expect(ram.bytes(PLACE.rings, 4096)).toEqual(rings);
  expect([ram.read8(PLACE.status + 1), driver.interrupts]).toEqual([0xff, 1]);
  const all = ram.bytes(0, ram.size).slice();
  for (let i = 0; i < 20; i++) await null;
  expect(Buffer.compare(ram.bytes(0, ram.size), all)).toBe(0);

  driver.boot();
  publish(PLACE.status);
  driver.kick();
  await block.release();
  expect([ram.read8(PLACE.status), driver.collect().length, driver.interrupts]).toEqual([0, 1, 2]);
});

test("closing waits for what is in flight, frees the window, and can be done twice", async () => {
  const block = new FakeBlock(64 << 10, { manual: true });
  const { driver } = rig({}, block);
  driver.request(BlkType.Flush, 0, []);
  let closed = false;
  const closing = Promise.resolve(driver.device.close()).then(() => {
    closed = true;
  });
  expect(driver.read(Mmio.Magic)).toBe(0xffffffff);
  await null;
  expect(closed).toBe(false);
  await block.release();
  await closing;
  expect(driver.device.close()).toBeUndefined();
  expect([driver.ram.read8(PLACE.status), block.closed]).toEqual([0xff, false]);
});
