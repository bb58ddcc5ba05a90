import { expect, test } from "vitest";
import { BlkStatus, BlkType, Mmio } from "../../../../assembly/spec/virtio.ts";
import type { VirtioState } from "../../../../src/host/device/virtio/attach.ts";
import { FakeBlock } from "../../../support/fake-block.ts";
import { Random } from "../../../support/random.ts";
import { PLACE, RawDriver } from "../../../support/virtqueue.ts";

const SIZE = 64 << 10;
const through = (state: VirtioState) => JSON.parse(JSON.stringify(state)) as VirtioState;

/** A device of its own with the disk and the memory of `from`, as a restored machine has them, before its state is there. */
function twin(from: RawDriver, disk: FakeBlock, pci: "ports" | undefined): { driver: RawDriver; disk: FakeBlock } {
  const copy = new FakeBlock(SIZE);
  copy.bytes.set(disk.bytes);
  const driver = new RawDriver(copy, pci ? { pci } : {});
  if (pci) driver.setPci(0x04, 2, 7);
  const { memory } = from.machine;
  driver.machine.memory.linear
    .subarray(driver.machine.memory.base)
    .set(memory.linear.subarray(memory.base, memory.base + memory.size));
  driver.availableIndex = from.availableIndex;
  driver.usedIndex = from.usedIndex;
  return { driver, disk: copy };
}

test.each([undefined, "ports"] as const)("saved at any moment, no request is lost; bus %s", async (pci) => {
  const random = new Random(3);
  let flying = 0;
  for (let round = 0; round < 60; round++) {
    const disk = new FakeBlock(SIZE, { manual: true });
    const driver = new RawDriver(disk, pci ? { pci } : {});
    const asked = new Map<number, { slot: number; sector: number; write: boolean; value: number }>();
    const answered = new Map<number, number>();
    const expected = new Uint8Array(SIZE / 512);
    const take = (from: RawDriver) => {
      for (const { id } of from.collect()) answered.set(id, from.ram.read8(PLACE.status + asked.get(id)!.slot));
    };
    // Rings that have wrapped by the time of the save.
    driver.write(Mmio.QueueNotify, 0);
    for (let slot = 0; slot < 5; slot++) {
      const write = random.oneIn(2);
      const sector = slot * 7;
      const value = 1 + random.below(255);
      const at = PLACE.data + slot * 512;
      driver.ram.bytes(at, 512).fill(write ? value : 0);
      if (write) expected[sector] = value;
      else disk.bytes.fill((expected[sector] = value), sector * 512, sector * 512 + 512);
      const head = driver.chain([
        driver.header(write ? BlkType.Out : BlkType.In, sector, PLACE.header + slot * 16),
        { address: at, length: 512, write: !write },
        driver.statusByte(PLACE.status + slot),
      ]);
      asked.set(head, { slot, sector, write, value });
      driver.publish(head);
      if (random.oneIn(2)) driver.kick();
      if (random.oneIn(3) && disk.waiting > 0) await disk.release(random.below(disk.waiting));
      take(driver);
    }
    if (random.oneIn(2)) driver.kick();
    flying += disk.waiting;
    const state = through(driver.device.save());
    const { driver: other, disk: copy } = twin(driver, disk, pci);
    await other.device.restore(state);
    take(other);
    expect([round, [...answered.values()]]).toEqual([round, [0, 0, 0, 0, 0]]);
    for (const { slot, sector, write, value } of asked.values()) {
      const bytes = write ? copy.bytes.subarray(sector * 512) : other.ram.bytes(PLACE.data + slot * 512, 512);
      expect([round, bytes[0], bytes[511]]).toEqual([round, value, value]);
    }
    // And it goes on.
    const later = other.request(BlkType.In, 0, [{ address: PLACE.data, length: 512, write: true }]);
    expect(later.status).toBe(BlkStatus.Ok);
  }
  expect(flying).toBeGreaterThan(50);
});

test("what was saved during a reset, or before the driver came, is a device that waits for it", async () => {
  const disk = new FakeBlock(SIZE, { manual: true });
  const driver = new RawDriver(disk);
  driver.publish(
    driver.chain([
      driver.header(BlkType.In, 0),
      { address: PLACE.data, length: 512, write: true },
      driver.statusByte(),
    ]),
  );
  driver.kick();
  driver.write(Mmio.Status, 0);
  expect(driver.status).not.toBe(0);
  const { driver: other } = twin(driver, disk, undefined);
  await other.device.restore(through(driver.device.save()));
  expect(other.status).toBe(0);
  other.boot();
  expect(other.request(BlkType.In, 0, [{ address: PLACE.data, length: 512, write: true }]).status).toBe(BlkStatus.Ok);
});

test("a state that cannot be is refused: the typed error, and a device that works after a reset", () => {
  const random = new Random(9);
  const base = new RawDriver(new FakeBlock(SIZE));
  base.request(BlkType.In, 0, [{ address: PLACE.data, length: 512, write: true }]);
  const good = base.device.save();
  let refused = 0;
  for (let round = 0; round < 600; round++) {
    const state = through(good) as unknown as Record<string, unknown>;
    // One value anywhere in it becomes another.
    const paths: [Record<string, unknown>, string][] = [];
    const walk = (node: Record<string, unknown>) => {
      for (const [key, value] of Object.entries(node)) {
        paths.push([node, key]);
        if (value !== null && typeof value === "object") walk(value as Record<string, unknown>);
      }
    };
    walk(state);
    const [node, key] = random.pick(paths);
    node[key] = random.pick<unknown>([-1, 0.5, 1e9, 2 ** 40, null, [], {}, "x", 70000, [1e6], true]);
    const driver = new RawDriver(new FakeBlock(SIZE));
    try {
      driver.device.restore(state as unknown as VirtioState);
    } catch (thrown) {
      expect(thrown).toMatchObject({ code: "INVALID" });
      refused++;
    }
    driver.boot();
    expect(driver.request(BlkType.In, 0, [{ address: PLACE.data, length: 512, write: true }]).status).toBe(0);
  }
  expect(refused).toBeGreaterThan(100);
});
