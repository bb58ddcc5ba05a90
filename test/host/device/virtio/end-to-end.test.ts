import { expect, test } from "vitest";
import { BlockRequest, Op, Status } from "../../../../src/core/block.ts";
import { probeVirtioBlk, type VirtioBlkTuning } from "../../../../src/guest/virtio-blk.ts";
import { createDisk } from "../../../../src/host/block/open.ts";
import { attachVirtioBlk } from "../../../../src/host/device/virtio/attach.ts";
import { MemoryStore } from "../../../../src/host/store/memory.ts";
import { LabMachine } from "../../../../src/hypervisor/machine.ts";
import { FakeBlock } from "../../../support/fake-block.ts";

/** Every way for a guest to reach the device: what it is attached with, and what the driver is told. */
const PLACES = {
  mmio: [
    { base: 0xd0000000, interrupt: 5 },
    { base: 0xd0000000, interrupt: 5 },
  ],
  "PCI, ports": [{ pci: { interrupt: 11, ports: 0xe800 } }, { pci: {} }],
  "PCI, memory": [{ pci: { interrupt: 11, memory: 0xd0000000, slot: 7 } }, { pci: { slot: 7 } }],
} as const;
type Place = keyof typeof PLACES;
const SIZE = 4 << 20;
const PAGE = 4096;

async function rig(options: VirtioBlkTuning = {}, asynchronous = false, place: Place = "mmio") {
  const [attached, probed] = PLACES[place];
  const machine = new LabMachine({ memory: 16 << 20 });
  const held = asynchronous ? new FakeBlock(SIZE, { manual: true }) : undefined;
  const device = attachVirtioBlk(
    machine,
    held ?? (await createDisk(new MemoryStore(), { format: "raw", size: SIZE })),
    attached,
  );
  const driver = probeVirtioBlk(machine.guest, { ...probed, ...options });
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

/** A generator of the same numbers each time (mulberry32). */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

const onOff = [true, false];
const combinations = onOff.flatMap((indirect) =>
  onOff.flatMap((eventIndex) =>
    onOff.flatMap((pollFirst) =>
      onOff.map((slow) => ({ indirect, eventIndex, pollFirst, slow, place: "mmio" as Place })),
    ),
  ),
);
for (const place of ["PCI, ports", "PCI, memory"] as const) {
  for (const slow of onOff) combinations.push({ indirect: true, eventIndex: true, pollFirst: !slow, slow, place });
}

test.each(combinations)("every byte comes back: %o", async ({ slow, place, ...options }) => {
  const { machine, ram, driver, done, held } = await rig({ ...options, queueSize: 32 }, slow, place);
  const random = numbers(1);
  const shadow = new Uint8Array(SIZE);
  const noise = Uint8Array.from({ length: 1 << 16 }, () => random(256));
  // Each of 16 lanes has its own stretch of the disk and one request at a time, so that order between lanes is free.
  const stretch = SIZE / 16;
  const pages = Array.from({ length: 16 }, () => [0, 1, 2, 3].map(() => ram.allocate(1)));
  const free = Array.from({ length: 16 }, (_, lane) => lane);
  let toDo = 2000;
  const counts = { read: 0, write: 0, flush: 0, discard: 0, zero: 0 };

  const next = (lane: number): BlockRequest => {
    toDo--;
    const length = 512 * (1 + random(32));
    const offset = lane * stretch + 512 * random((stretch - length) / 512 + 1);
    const kind = random(20);
    const used = pages[lane].slice(0, Math.ceil(length / PAGE));
    let made: BlockRequest;
    if (kind < 9) {
      made = request(Op.Write, offset, length, ...used);
      for (const [i, page] of used.entries()) {
        ram.bytes(page, PAGE).set(noise.subarray(random(noise.length - PAGE)).subarray(0, PAGE));
        shadow.set(ram.bytes(page, Math.min(PAGE, length - i * PAGE)), offset + i * PAGE);
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
    if (random(3) === 0) feed();
  };
  for (let guard = 0; completed < 2000; guard++) {
    expect(guard).toBeLessThan(10_000);
    feed();
    if (held) {
      if (held.waiting > 0) await held.release(random(held.waiting));
    }
  }
  expect(Math.min(...Object.values(counts))).toBeGreaterThan(50);
  expect(done).toEqual([]);
  if (!options.pollFirst || slow) expect(machine.interruptsDelivered).toBeGreaterThan(10);
  else expect(machine.interruptsDelivered).toBe(0);
});

test("a synchronous disk: one exit and no interrupt a batch, at depth 1 and at 32", async () => {
  const { machine, ram, driver, done } = await rig();
  const page = ram.allocate(1);
  const before = machine.exits.total;
  for (let i = 0; i < 100; i++) driver.start([request(Op.Read, i * PAGE, PAGE, page)]);
  expect([done.length, machine.exits.total - before, machine.interruptsDelivered]).toEqual([100, 100, 0]);
  driver.start(Array.from({ length: 32 }, (_, i) => request(Op.Read, i * PAGE, PAGE, page)));
  expect([done.length, machine.exits.total - before, machine.interruptsDelivered]).toEqual([132, 101, 0]);
});

test("completions that start more requests share a doorbell", async () => {
  const { machine, ram, driver } = await rig();
  const page = ram.allocate(1);
  let left = 32 * 9;
  driver.onComplete = () => {
    if (left-- > 0) driver.start([request(Op.Read, 0, PAGE, page)]);
  };
  const before = machine.exits.total;
  driver.start(Array.from({ length: 32 }, () => request(Op.Read, 0, PAGE, page)));
  expect(left).toBe(-32);
  expect(machine.exits.total - before).toBe(10);
});

test.each([true, false])(
  "an asynchronous disk: doorbell, InterruptStatus, InterruptACK (event index %s)",
  async (eventIndex) => {
    const { machine, ram, driver, done, held } = await rig({ eventIndex }, true);
    const page = ram.allocate(1);
    const before = { ...machine.exits };
    driver.start([request(Op.Read, 0, PAGE, page)]);
    expect(done.length).toBe(0);
    await held!.release();
    expect(done.length).toBe(1);
    expect(machine.exits.mmioWrites - before.mmioWrites).toBe(2);
    expect(machine.exits.mmioReads - before.mmioReads).toBe(1);
    expect(machine.interruptsDelivered).toBe(1);
  },
);

test.each(["PCI, ports", "PCI, memory"] as const)(
  "%s: a notification, and one read of the ISR when the disk is slow",
  async (place) => {
    const at = (exits: { portReads: number; portWrites: number; mmioReads: number; mmioWrites: number }) =>
      place === "PCI, ports" ? [exits.portReads, exits.portWrites] : [exits.mmioReads, exits.mmioWrites];
    for (const slow of onOff) {
      const { machine, ram, driver, done, held } = await rig({}, slow, place);
      const page = ram.allocate(1);
      const [total, [reads, writes]] = [machine.exits.total, at(machine.exits)];
      driver.start(Array.from({ length: 32 }, () => request(Op.Read, 0, PAGE, page)));
      await held?.release();
      const [readsNow, writesNow] = at(machine.exits);
      expect([done.length, readsNow - reads, writesNow - writes]).toEqual([32, slow ? 1 : 0, 1]);
      expect([machine.exits.total - total, machine.interruptsDelivered]).toEqual(slow ? [2, 1] : [1, 0]);
    }
  },
);

test("an asynchronous disk at depth 32: three exits and an interrupt for all of them", async () => {
  const { machine, ram, driver, done, held } = await rig({}, true);
  const page = ram.allocate(1);
  const before = machine.exits.total;
  driver.start(Array.from({ length: 32 }, () => request(Op.Read, 0, PAGE, page)));
  await held!.release();
  expect([done.length, machine.exits.total - before, machine.interruptsDelivered]).toEqual([32, 3, 1]);
});

test("the queue takes what it has descriptors for", async () => {
  for (const [indirect, fits] of [
    [true, 8],
    [false, 2],
  ] as const) {
    const { ram, driver, done, held } = await rig({ indirect, queueSize: 8 }, true);
    const page = ram.allocate(1);
    const requests = Array.from({ length: 10 }, () => request(Op.Read, 0, PAGE, page));
    expect(driver.start(requests)).toBe(fits);
    await held!.release();
    expect(done.length).toBe(fits);
    expect(driver.start(requests.slice(fits))).toBe(Math.min(fits, 10 - fits));
    await held!.release();
  }
});
