import { expect, test } from "vitest";
import { BlockRequest, Op, Status } from "../../../../src/core/block.ts";
import { type PvscsiProbe, probePvscsi } from "../../../../src/guest/pvscsi.ts";
import { createDisk } from "../../../../src/host/block/open.ts";
import { attachPvscsi } from "../../../../src/host/device/pvscsi/attach.ts";
import { MemoryStore } from "../../../../src/host/store/memory.ts";
import { LabMachine } from "../../../../src/hypervisor/machine.ts";
import { FakeBlock } from "../../../support/fake-block.ts";
import { random } from "../../../support/fuzz-disk.ts";

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

function request(op: Op, offset: number, length: number, ...pages: number[]): BlockRequest {
  const made = new BlockRequest();
  made.op = op;
  made.offset = offset;
  made.length = length;
  for (const [i, page] of pages.entries()) made.segments.push(page, Math.min(PAGE, length - i * PAGE));
  return made;
}

const onOff = [true, false];
const combinations = onOff.flatMap((pollFirst) =>
  onOff.flatMap((slow) => [1, 4].map((ringPages) => ({ pollFirst, slow, ringPages }))),
);

test.each(combinations)("every byte comes back: %o", async ({ slow, ...options }) => {
  const { machine, ram, driver, held } = await rig(options, slow);
  const pick = random(1);
  const shadow = new Uint8Array(SIZE);
  // Each of 16 lanes has its own stretch of the disk and one request at a time, so that order between lanes is free.
  const stretch = SIZE / 16;
  // Every other page, so that lists have elements.
  const pages = Array.from({ length: 16 }, () => [0, 1, 2, 3].map(() => [ram.allocate(1), ram.allocate(1)][0]));
  const free = Array.from({ length: 16 }, (_, lane) => lane);
  let toDo = 2000;
  const counts = { read: 0, write: 0, flush: 0, discard: 0, zero: 0 };

  const next = (lane: number): BlockRequest => {
    toDo--;
    const length = 512 * (1 + pick(32));
    const offset = lane * stretch + 512 * pick((stretch - length) / 512 + 1);
    const kind = pick(20);
    const used = pages[lane].slice(0, Math.ceil(length / PAGE));
    let made: BlockRequest;
    if (kind < 9) {
      made = request(Op.Write, offset, length, ...used);
      for (const [i, page] of used.entries()) {
        const bytes = ram.bytes(page, Math.min(PAGE, length - i * PAGE));
        bytes.fill(pick(256));
        bytes[pick(bytes.length)] = pick(256);
        shadow.set(bytes, offset + i * PAGE);
      }
      counts.write++;
    } else if (kind < 17) {
      made = request(Op.Read, offset, length, ...used);
      for (const page of used) ram.bytes(page, PAGE).fill(0xee);
      counts.read++;
    } else if (kind === 17) {
      made = request(Op.Flush, 0, 0);
      counts.flush++;
    } else {
      made = request(kind === 18 ? Op.Discard : Op.WriteZeroes, offset, length);
      shadow.fill(0, offset, offset + length);
      counts[kind === 18 ? "discard" : "zero"]++;
    }
    made.tag = lane;
    return made;
  };

  let completed = 0;
  const waiting: BlockRequest[] = [];
  const feed = () => {
    while (free.length > 0 && toDo > 0) waiting.push(next(free.pop()!));
    if (waiting.length === 0) return;
    const batch = waiting.splice(0);
    waiting.unshift(...batch.slice(driver.start(batch)));
  };
  driver.onComplete = (finished) => {
    completed++;
    expect(finished.status).toBe(Status.Ok);
    if (finished.op === Op.Read) {
      for (let i = 0; i * PAGE < finished.length; i++) {
        const got = ram.bytes(pages[finished.tag][i], Math.min(PAGE, finished.length - i * PAGE));
        const wanted = shadow.subarray(finished.offset + i * PAGE);
        if (Buffer.compare(got, wanted.subarray(0, got.length)) !== 0) throw new Error("wrong bytes");
      }
    }
    free.push(finished.tag);
    if (pick(3) === 0) feed();
  };
  for (let guard = 0; completed < 2000; guard++) {
    expect(guard).toBeLessThan(10_000);
    feed();
    if (held && held.waiting > 0) await held.release(pick(held.waiting));
  }
  expect(Math.min(...Object.values(counts))).toBeGreaterThan(50);
  if (!options.pollFirst || slow) expect(machine.interruptsDelivered).toBeGreaterThan(10);
  else expect(machine.interruptsDelivered).toBe(0);
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
