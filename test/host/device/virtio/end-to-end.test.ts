import { expect, test } from "vitest";
import { type BlockRequest, Op } from "../../../../src/core/block.ts";
import { probeVirtioBlk, type VirtioBlkTuning } from "../../../../src/guest/virtio-blk.ts";
import { createDisk } from "../../../../src/host/block/open.ts";
import { attachVirtioBlk } from "../../../../src/host/device/virtio/attach.ts";
import { MemoryStore } from "../../../../src/host/store/memory.ts";
import { LabMachine } from "../../../../src/hypervisor/machine.ts";
import { everyByteComesBack, pageRequest as request } from "../../../support/end-to-end.ts";
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
  const { machine, driver, done, held } = await rig({ ...options, queueSize: 32 }, slow, place);
  await everyByteComesBack({ machine, driver, held, size: SIZE, pollFirst: options.pollFirst });
  expect(done).toEqual([]);
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
