import { expect, test } from "vitest";
import { type BlockRequest, Op, Status } from "../../../../src/core/block.ts";
import { type PvscsiProbe, probePvscsi } from "../../../../src/guest/pvscsi.ts";
import { createDisk } from "../../../../src/host/block/open.ts";
import { attachPvscsi } from "../../../../src/host/device/pvscsi/attach.ts";
import { MemoryStore } from "../../../../src/host/store/memory.ts";
import { LabMachine } from "../../../../src/hypervisor/machine.ts";
import { everyByteComesBack, pageRequest as request } from "../../../support/end-to-end.ts";
import { FakeBlock } from "../../../support/fake-block.ts";

const SIZE = 4 << 20;
const PAGE = 4096;
const PLACE = { interrupt: 11, memory: 0xf2000000 };

async function rig(options: PvscsiProbe = {}, asynchronous = false) {
  const machine = new LabMachine({ memory: 16 << 20 });
  const held = asynchronous ? new FakeBlock(SIZE, { manual: true }) : undefined;
  const disk = held ?? (await createDisk(new MemoryStore(), { format: "raw", size: SIZE }));
  const device = attachPvscsi(machine, { ...PLACE, disks: [disk] });
  const [driver] = probePvscsi(machine.guest, options);
  const done: BlockRequest[] = [];
  driver.onComplete = (request) => done.push(request);
  return { machine, ram: machine.guest.ram, device, driver, done, held };
}

const onOff = [true, false];
const combinations = onOff.flatMap((pollFirst) =>
  onOff.flatMap((slow) => [1, 4].map((ringPages) => ({ pollFirst, slow, ringPages }))),
);

test.each(combinations)("every byte comes back: %o", async ({ slow, ...options }) => {
  const { machine, driver, done, held } = await rig(options, slow);
  await everyByteComesBack({ machine, driver, held, size: SIZE, pollFirst: options.pollFirst });
  expect(done).toEqual([]);
});

test("a synchronous disk: a kick and an acknowledgement a batch, no interrupt, at depth 1 and at 32", async () => {
  const { machine, ram, driver, done } = await rig();
  const page = ram.allocate(1);
  const before = machine.exits.total;
  for (let i = 0; i < 100; i++) driver.start([request(Op.Read, i * PAGE, PAGE, page)]);
  expect([done.length, machine.exits.total - before, machine.interruptsDelivered]).toEqual([100, 200, 0]);
  driver.start(Array.from({ length: 32 }, (_, i) => request(Op.Read, i * PAGE, PAGE, page)));
  expect([done.length, machine.exits.total - before, machine.interruptsDelivered]).toEqual([132, 202, 0]);
});

test("an asynchronous disk: kick, interrupt status read and acknowledged, one interrupt for a batch", async () => {
  const { machine, ram, driver, done, held } = await rig({}, true);
  const page = ram.allocate(1);
  const before = { ...machine.exits };
  driver.start(Array.from({ length: 32 }, () => request(Op.Read, 0, PAGE, page)));
  expect(done.length).toBe(0);
  await held!.release();
  expect(done.length).toBe(32);
  expect(machine.exits.mmioWrites - before.mmioWrites).toBe(2);
  expect(machine.exits.mmioReads - before.mmioReads).toBe(1);
  expect(machine.interruptsDelivered).toBe(1);
});

test("a ring takes what it has entries for, and more as they come free", async () => {
  const { ram, driver, done, held } = await rig({ ringPages: 1 }, true);
  const page = ram.allocate(1);
  const requests = Array.from({ length: 40 }, () => request(Op.Read, 0, PAGE, page));
  expect(driver.start(requests)).toBe(32);
  await held!.release();
  expect(done.length).toBe(32);
  expect(driver.start(requests.slice(32))).toBe(8);
  await held!.release();
  expect(done.length).toBe(40);
});

test.each([
  [Status.Media, Status.Media],
  [Status.Crc, Status.Crc],
  [Status.Io, Status.Io],
  [Status.NoSpace, Status.NoSpace],
  [Status.ReadOnly, Status.ReadOnly],
  [Status.OutOfRange, Status.OutOfRange],
  [Status.Unsupported, Status.Unsupported],
])("status %i of the block reaches the guest by its sense data", async (status, expected) => {
  const machine = new LabMachine({ memory: 16 << 20 });
  const disk = new FakeBlock(SIZE);
  attachPvscsi(machine, { ...PLACE, disks: [null, null, disk] });
  const [driver] = probePvscsi(machine.guest);
  expect(driver.target).toBe(2);
  disk.fault = () => status;
  const page = machine.guest.ram.allocate(1);
  const made = [request(Op.Read, 0, PAGE, page), request(Op.Write, 0, PAGE, page), request(Op.Flush, 0, 0)];
  driver.start(made);
  expect(made.map((each) => each.status)).toEqual([expected, expected, expected]);
});

test("a disk that cannot be written to says so, and has nothing to give up", async () => {
  const machine = new LabMachine({ memory: 16 << 20 });
  attachPvscsi(machine, { ...PLACE, disks: [new FakeBlock(SIZE, { readOnly: true })] });
  const [driver] = probePvscsi(machine.guest);
  expect(driver.readOnly).toBe(true);
  const page = machine.guest.ram.allocate(1);
  const made = [Op.Write, Op.Discard, Op.WriteZeroes].map((op) =>
    request(op, 0, PAGE, ...(op === Op.Write ? [page] : [])),
  );
  driver.start(made);
  expect(made.map((each) => each.status)).toEqual([Status.ReadOnly, Status.Unsupported, Status.Unsupported]);
});

test("many disks, of sectors of 512 and 4,096 bytes, behind one adapter", async () => {
  const machine = new LabMachine({ memory: 16 << 20 });
  const disks = Array.from({ length: 16 }, (_, i) => new FakeBlock(SIZE, { sectorSize: i & 1 ? 4096 : 512 }));
  attachPvscsi(machine, { ...PLACE, disks });
  const drivers = probePvscsi(machine.guest);
  expect(drivers.map(({ target, sectorSize }) => [target, sectorSize])).toEqual(
    disks.map(({ sectorSize }, i) => [i, sectorSize]),
  );
  const page = machine.guest.ram.allocate(1);
  for (const [i, driver] of drivers.entries()) {
    machine.guest.ram.bytes(page, PAGE).fill(i + 1);
    driver.start([request(Op.Write, i * PAGE, PAGE, page)]);
  }
  expect(disks.map((disk, i) => disk.bytes[i * PAGE])).toEqual(disks.map((_, i) => i + 1));
});

test("a disk that has grown is read to its new end", async () => {
  const machine = new LabMachine({ memory: 16 << 20 });
  const disk = new FakeBlock(SIZE);
  const device = attachPvscsi(machine, { ...PLACE, disks: [disk] });
  const [driver] = probePvscsi(machine.guest);
  Object.defineProperty(disk, "bytes", { value: new Uint8Array(2 * SIZE).fill(9) });
  device.resized(0);
  driver.refresh();
  expect(driver.size).toBe(2 * SIZE);
  const page = machine.guest.ram.allocate(1);
  driver.start([request(Op.Read, 2 * SIZE - PAGE, PAGE, page)]);
  expect(machine.guest.ram.bytes(page, PAGE).every((byte) => byte === 9)).toBe(true);
});
