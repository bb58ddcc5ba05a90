import { expect, test } from "vitest";
import { BlkConfig, BlkRangeFlag, BlkStatus, BlkType, Feature, Mmio } from "../../../../assembly/spec/virtio.ts";
import { Op, Status } from "../../../../src/core/block.ts";
import { FakeBlock } from "../../../support/fake-block.ts";
import { type Element, PLACE, RawDriver } from "../../../support/virtqueue.ts";

// Cases of QEMU's virtio-blk-test and of rust-vmm's virtio-blk request tests, in our own words, and our own.

const SIZE = 64 << 10;
const { data } = PLACE;

function rig(options: ConstructorParameters<typeof RawDriver>[1] = {}, block = new FakeBlock(SIZE)) {
  return { block, driver: new RawDriver(block, options) };
}

test.each([false, true])("a write comes back by a read, indirect %s", (indirect) => {
  const { block, driver } = rig();
  const { ram } = driver;
  ram.bytes(data, 512).fill(0x5a);
  const written = driver.request(BlkType.Out, 1, [{ address: data, length: 512 }], { indirect });
  expect(written).toEqual({ status: BlkStatus.Ok, length: 1 });
  expect(block.bytes.subarray(512, 1024).every((byte) => byte === 0x5a)).toBe(true);
  const read = driver.request(BlkType.In, 1, [{ address: data + 4096, length: 512, write: true }], { indirect });
  expect(read).toEqual({ status: BlkStatus.Ok, length: 513 });
  expect(ram.bytes(data + 4096, 512)).toEqual(ram.bytes(data, 512));
});

test("the framing is the driver's own affair", () => {
  const { block, driver } = rig();
  const { ram } = driver;
  for (let i = 0; i < 1024; i++) ram.write8(data + i, i * 7);
  // Header in pieces of 1, 6 and 9 bytes, the last of which runs on into the data.
  driver.header(BlkType.Out, 2, PLACE.header);
  ram.bytes(data - 9, 9).set(ram.bytes(PLACE.header + 7, 9));
  driver.publish(
    driver.chain([
      { address: PLACE.header, length: 1 },
      { address: PLACE.header + 1, length: 6 },
      { address: data - 9, length: 9 + 100 },
      { address: data + 100, length: 924 },
      driver.statusByte(),
    ]),
  );
  driver.kick();
  expect(ram.read8(PLACE.status)).toBe(BlkStatus.Ok);
  expect(block.bytes.subarray(1024, 2048)).toEqual(ram.bytes(data, 1024));
  // Status at the end of a data buffer, and odd pieces before it.
  const target = data + 8192;
  const pieces: Element[] = [
    { address: target, length: 1, write: true },
    { address: target + 1, length: 1000, write: true },
    { address: target + 1001, length: 24, write: true },
  ];
  driver.publish(driver.chain([driver.header(BlkType.In, 2), ...pieces]));
  driver.kick();
  expect(ram.bytes(target, 1024)).toEqual(ram.bytes(data, 1024));
  expect(ram.read8(target + 1024)).toBe(BlkStatus.Ok);
  expect(driver.collect().map((used) => used.length)).toEqual([1, 1025]);
});

test("configuration space", () => {
  const { driver } = rig({}, new FakeBlock(1 << 20, { sectorSize: 4096 }));
  expect(driver.config(BlkConfig.Capacity, 4)).toBe(2048);
  expect(driver.config(BlkConfig.Capacity + 4, 4)).toBe(0);
  expect(driver.config(BlkConfig.SegMax, 4)).toBe(254);
  expect(driver.config(BlkConfig.BlockSize, 4)).toBe(4096);
  expect(driver.config(BlkConfig.BlockSize + 1, 1)).toBe(16);
  expect(driver.config(BlkConfig.BlockSize, 2)).toBe(4096);
  expect(driver.config(BlkConfig.DiscardSectorAlignment, 4)).toBe(8);
  expect(driver.config(BlkConfig.MaxDiscardSectors, 4)).toBe(0xfffffff8);
  expect([driver.config(BlkConfig.Size, 4), driver.config(0xfc, 4), driver.config(0xff, 1)]).toEqual([0, 0, 0]);
  driver.writeConfig(BlkConfig.Capacity, 4, 1);
  expect(driver.config(BlkConfig.Capacity, 4)).toBe(2048);
});

test("a disk that grows tells its driver, and the new end can be reached", () => {
  class Growing extends FakeBlock {
    sectors = 8;
    override get size() {
      return this.sectors * 512;
    }
  }
  const block = new Growing(SIZE);
  const { driver } = rig({}, block);
  const read = () => driver.request(BlkType.In, 8, [{ address: data, length: 512, write: true }]).status;
  expect(read()).toBe(BlkStatus.IoError);
  const generation = driver.read(Mmio.ConfigGeneration);
  block.sectors = 16;
  driver.device.resized();
  expect([driver.interrupts > 0, driver.causes]).toEqual([true, 2]);
  expect(driver.read(Mmio.ConfigGeneration)).not.toBe(generation);
  expect(driver.config(BlkConfig.Capacity, 4)).toBe(16);
  expect(read()).toBe(BlkStatus.Ok);
});

test("GET_ID fills what it is given, up to 20 bytes", () => {
  const { driver } = rig();
  const text = (bytes: Uint8Array) => String.fromCharCode(...bytes);
  driver.ram.bytes(data, 32).fill(0x2e);
  const pieces: Element[] = [
    { address: data, length: 7, write: true },
    { address: data + 7, length: 13, write: true },
  ];
  expect(driver.request(BlkType.GetId, 0, pieces)).toEqual({ status: BlkStatus.Ok, length: 21 });
  expect(text(driver.ram.bytes(data, 24))).toBe("disk of the test\0\0\0\0....");
  driver.ram.bytes(data, 32).fill(0x2e);
  expect(driver.request(BlkType.GetId, 0, [{ address: data, length: 4, write: true }]).status).toBe(BlkStatus.Ok);
  expect(text(driver.ram.bytes(data, 5))).toBe("disk.");
});

test("discard and write zeroes, several ranges in one request and across elements", () => {
  const { block, driver } = rig();
  block.bytes.fill(0xff);
  driver.range(data, 4, 2);
  driver.range(data + 16, 20, 1);
  const split: Element[] = [
    { address: data, length: 5 },
    { address: data + 5, length: 27 },
  ];
  expect(driver.request(BlkType.Discard, 0, split)).toEqual({ status: BlkStatus.Ok, length: 1 });
  const unmap = driver.range(data, 30, 3, BlkRangeFlag.Unmap);
  expect(driver.request(BlkType.WriteZeroes, 0, [unmap]).status).toBe(BlkStatus.Ok);
  expect(block.asked).toEqual([
    { op: Op.Discard, offset: 4 * 512, length: 1024 },
    { op: Op.Discard, offset: 20 * 512, length: 512 },
    { op: Op.WriteZeroes, offset: 30 * 512, length: 3 * 512 },
  ]);
});

test("a payload that breaks a rule has no effect at all", () => {
  const { block, driver } = rig({}, new FakeBlock(SIZE, { sectorSize: 1024 }));
  const good = () => driver.range(data, 4, 2);
  const two = (sector: number, sectors: number) => {
    driver.range(data + 16, sector, sectors);
    return [{ ...good(), length: 32 }];
  };
  const cases: [string, number, () => Element[], number][] = [
    ["no range", BlkType.Discard, () => [], BlkStatus.Unsupported],
    ["half a range", BlkType.Discard, () => [{ ...good(), length: 24 }], BlkStatus.Unsupported],
    ["too many", BlkType.Discard, () => [{ ...good(), length: 33 * 16 }], BlkStatus.Unsupported],
    ["unmap of a discard", BlkType.Discard, () => [driver.range(data, 4, 2, 1)], BlkStatus.Unsupported],
    ["unknown flag", BlkType.WriteZeroes, () => [driver.range(data, 4, 2, 2)], BlkStatus.Unsupported],
    ["second past the end", BlkType.Discard, () => two(126, 4), BlkStatus.IoError],
    ["second inside a block", BlkType.Discard, () => two(5, 2), BlkStatus.IoError],
    ["half a block", BlkType.WriteZeroes, () => [driver.range(data, 4, 1)], BlkStatus.IoError],
  ];
  for (const [name, type, make, status] of cases) {
    expect([name, driver.request(type, 0, make()).status]).toEqual([name, status]);
  }
  expect(block.asked).toEqual([]);
});

test("what a disk refuses and what it cannot do", () => {
  const { block, driver } = rig();
  const read = (sector: number, length = 512) =>
    driver.request(BlkType.In, sector, [{ address: data, length, write: true }]).status;
  expect(read(SIZE / 512 - 1)).toBe(BlkStatus.Ok);
  expect(read(SIZE / 512)).toBe(BlkStatus.IoError);
  expect(read(SIZE / 512 - 1, 1024)).toBe(BlkStatus.IoError);
  expect(read(2 ** 52)).toBe(BlkStatus.IoError);
  expect(read(0, 513)).toBe(BlkStatus.IoError);
  expect(driver.request(99, 0, []).status).toBe(BlkStatus.Unsupported);
  expect(driver.request(BlkType.Flush, 0, []).status).toBe(BlkStatus.Ok);
  // A sector number of which 512 times is 0 modulo 2^64.
  driver.header(BlkType.In, 0);
  driver.ram.write32(PLACE.header + 12, 0x00800000);
  driver.publish(
    driver.chain([
      { address: PLACE.header, length: 16 },
      { address: data, length: 512, write: true },
      driver.statusByte(),
    ]),
  );
  driver.kick();
  expect(driver.ram.read8(PLACE.status)).toBe(BlkStatus.IoError);
  driver.collect();
  for (const [status, wire] of [
    [Status.Media, BlkStatus.IoError],
    [Status.Crc, BlkStatus.IoError],
    [Status.NoSpace, BlkStatus.IoError],
    [Status.Unsupported, BlkStatus.Unsupported],
  ] as const) {
    block.fault = () => status;
    expect(driver.request(BlkType.Flush, 0, []).status).toBe(wire);
  }
});

test("a closed disk fails its requests", () => {
  const { block, driver } = rig();
  block.close();
  expect(driver.request(BlkType.Flush, 0, []).status).toBe(BlkStatus.IoError);
});

test("a read-only disk says so and takes no write", () => {
  const { block, driver } = rig({}, new FakeBlock(SIZE, { readOnly: true }));
  driver.write(Mmio.DeviceFeaturesSelect, 0);
  const offered = driver.read(Mmio.DeviceFeatures);
  expect(offered & (1 << Feature.BlkReadOnly)).not.toBe(0);
  expect(offered & ((1 << Feature.BlkDiscard) | (1 << Feature.BlkWriteZeroes))).toBe(0);
  expect(driver.request(BlkType.Out, 0, [{ address: data, length: 512 }]).status).toBe(BlkStatus.IoError);
  expect(driver.request(BlkType.Discard, 0, [driver.range(data, 0, 1)]).status).toBe(BlkStatus.Unsupported);
  expect(block.asked).toEqual([]);
});

test("a driver that cannot flush, or has switched the cache off, has its writes made durable", () => {
  const write = (driver: RawDriver) => driver.request(BlkType.Out, 0, [{ address: data, length: 512 }]).status;
  const without = rig({ features: [Feature.BlkSegMax] });
  expect(write(without.driver)).toBe(BlkStatus.Ok);
  expect(without.block.asked.map(({ op }) => op)).toEqual([Op.Write, Op.Flush]);
  expect(without.driver.request(BlkType.Flush, 0, []).status).toBe(BlkStatus.Unsupported);
  without.block.fault = ({ op }) => (op === Op.Flush ? Status.Media : Status.Ok);
  expect(write(without.driver)).toBe(BlkStatus.IoError);

  const { block, driver } = rig();
  write(driver);
  driver.writeConfig(BlkConfig.Writeback, 1, 0);
  write(driver);
  driver.writeConfig(BlkConfig.Writeback, 1, 1);
  write(driver);
  expect(block.asked.map(({ op }) => op)).toEqual([Op.Write, Op.Write, Op.Flush, Op.Write]);
});

test("one batch, one submit, one interrupt", () => {
  const { block, driver } = rig({ queueSize: 32 });
  const heads = [1, 2, 3, 4, 5, 6].map((i) =>
    driver.chain([
      driver.header(BlkType.In, i, PLACE.header + 16 * i),
      { address: data + 512 * i, length: 512, write: true },
      driver.statusByte(PLACE.status + i),
    ]),
  );
  driver.publish(...heads);
  driver.kick();
  expect(block.batches).toBe(1);
  expect(driver.interrupts).toBe(1);
  expect(driver.collect().map(({ id }) => id)).toEqual(heads);
});

test("more segments than one table holds go in several rounds of one notification", () => {
  const { block, driver } = rig({ queueSize: 128 });
  const elements = (i: number): Element[] => [
    driver.header(BlkType.In, 0, PLACE.header + 16 * i),
    ...Array.from({ length: 128 }, (_, k) => ({ address: data + 1024 * k, length: 512, write: true })),
    driver.statusByte(PLACE.status + i),
  ];
  const heads = Array.from({ length: 40 }, (_, i) => driver.indirect(elements(i), 0x200000 + i * 4096));
  driver.publish(...heads);
  driver.kick();
  expect(driver.collect().map(({ id }) => id)).toEqual(heads);
  expect([block.batches, driver.interrupts]).toEqual([3, 1]);
});
