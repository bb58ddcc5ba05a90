import { describe, expect, test } from "vitest";
import { BlkStatus, BlkType, DescriptorFlag, Feature, Mmio } from "../../assembly/spec/virtio.ts";
import { VqFault } from "../../assembly/spec/virtqueue.ts";
import { FakeBlock } from "../support/fake-block.ts";
import { type Element, PLACE, RawDriver } from "../support/virtqueue.ts";

// Split virtqueues as the specification's rules and rust-vmm's virtio-queue tests have them, in our own words.

const NEXT = DescriptorFlag.Next;
const WRITE = DescriptorFlag.Write;
const INDIRECT = DescriptorFlag.Indirect;
const { data, table, status } = PLACE;
const SIZE = 64 << 10;
const rig = (options: ConstructorParameters<typeof RawDriver>[1] = {}, manual = false) => {
  const block = new FakeBlock(SIZE, { manual });
  return { block, driver: new RawDriver(block, options) };
};
const target: Element = { address: data, length: 512, write: true };

describe("a request that breaks a rule fails alone, when its status byte can be found", () => {
  const outside = 4 << 20;
  test.each<[string, (driver: RawDriver) => Element[]]>([
    ["data outside RAM", (d) => [d.header(0, 0), { ...target, address: outside - 511 }, d.statusByte()]],
    ["data above 4 GiB", (d) => [d.header(0, 0), { ...target, high: 1 }, d.statusByte()]],
    ["data that wraps", (d) => [d.header(0, 0), { ...target, address: 0xffffff00 }, d.statusByte()]],
    ["header outside RAM", (d) => [{ address: outside, length: 16 }, target, d.statusByte()]],
    ["an empty element", (d) => [d.header(0, 0), { ...target, length: 0 }, d.statusByte()]],
    ["readable after writable", (d) => [d.header(0, 0), d.statusByte(), { address: data, length: 512 }]],
    ["no header", (d) => [d.statusByte()]],
    ["a short header", (d) => [{ ...d.header(0, 0), length: 15 }, target, d.statusByte()]],
  ])("%s", (_, make) => {
    const { block, driver } = rig();
    for (const indirect of [false, true]) {
      const elements = make(driver);
      const head = indirect ? driver.indirect(elements) : driver.chain(elements);
      driver.usedEvent = driver.usedIndex;
      driver.publish(head);
      driver.kick();
      expect(driver.ram.read8(status)).toBe(BlkStatus.IoError);
      expect(driver.collect()).toEqual([{ id: head, length: 1 }]);
    }
    expect([block.asked.length, driver.needsReset, driver.interrupts]).toEqual([0, false, 2]);
    expect(driver.request(BlkType.In, 0, [target]).status).toBe(BlkStatus.Ok);
  });

  test("an indirect table inside an indirect table", () => {
    const { driver } = rig();
    const nested = { address: table + 2048, length: 16, flags: INDIRECT | NEXT };
    driver.publish(driver.indirect([driver.header(0, 0), nested, driver.statusByte()]));
    driver.kick();
    expect([driver.ram.read8(status), driver.needsReset]).toEqual([BlkStatus.IoError, false]);
  });

  test("the write flag of a descriptor that refers to a table means nothing", () => {
    const { driver } = rig();
    driver.indirect([driver.header(0, 0), target, driver.statusByte()]);
    driver.publish(driver.chain([{ address: table, length: 48, flags: INDIRECT | WRITE }]));
    driver.kick();
    expect(driver.ram.read8(status)).toBe(BlkStatus.Ok);
  });
});

describe("what cannot be followed, or has nowhere to put its status, ends in DEVICE_NEEDS_RESET", () => {
  /** Publishes; returns nothing. */
  const cases: [string, number, (driver: RawDriver) => void, (readonly number[])?][] = [
    [
      "a loop",
      VqFault.Loop,
      (d) =>
        d.publish(
          d.chain([
            { ...target, flags: NEXT, next: 1 },
            { ...target, next: 0, flags: NEXT },
          ]),
        ),
    ],
    [
      "a descriptor that follows itself",
      VqFault.Loop,
      (d) => d.publish(d.chain([{ ...target, flags: NEXT, next: 0 }])),
    ],
    [
      "a loop in a table",
      VqFault.Loop,
      (d) => d.publish(d.indirect([target, { ...target, flags: NEXT | WRITE, next: 0 }])),
    ],
    ["next past the queue", VqFault.Next, (d) => d.publish(d.chain([{ ...target, flags: NEXT, next: 16 }]))],
    [
      "next past the table",
      VqFault.Next,
      (d) => d.publish(d.indirect([d.header(0, 0), { ...target, flags: NEXT, next: 2 }])),
    ],
    ["a head past the queue", VqFault.Head, (d) => d.publish(16)],
    [
      "a descriptor in two chains",
      VqFault.Loop,
      (d) => {
        const head = d.chain([d.header(4, 0), d.statusByte()]);
        d.publish(head, d.chain([{ ...d.header(4, 0), flags: NEXT, next: head + 1 }]));
      },
    ],
    [
      "one head twice",
      VqFault.HeadBusy,
      (d) => {
        const head = d.chain([d.header(4, 0), d.statusByte()]);
        d.publish(head, head);
      },
    ],
    ["no writable element", VqFault.NoStatus, (d) => d.publish(d.chain([d.header(4, 0)]))],
    [
      "a status byte outside RAM",
      VqFault.NoStatus,
      (d) => d.publish(d.chain([d.header(4, 0), { ...target, address: 4 << 20 }])),
    ],
    [
      "an empty last element",
      VqFault.NoStatus,
      (d) => d.publish(d.chain([d.header(4, 0), target, { ...target, length: 0 }])),
    ],
    [
      "an empty table",
      VqFault.IndirectLength,
      (d) => d.publish(d.chain([{ address: table, length: 0, flags: INDIRECT }])),
    ],
    [
      "a table of 8 bytes",
      VqFault.IndirectLength,
      (d) => d.publish(d.chain([{ address: table, length: 8, flags: INDIRECT }])),
    ],
    [
      "a table of 2 and a half entries",
      VqFault.IndirectLength,
      (d) => d.publish(d.chain([{ address: table, length: 40, flags: INDIRECT }])),
    ],
    [
      "a table too long",
      VqFault.IndirectLength,
      (d) => d.publish(d.chain([{ address: table, length: 257 * 16, flags: INDIRECT }])),
    ],
    [
      "a table of 4 GiB less 16",
      VqFault.IndirectLength,
      (d) => d.publish(d.chain([{ address: table, length: 0xfffffff0, flags: INDIRECT }])),
    ],
    [
      "a table outside RAM",
      VqFault.IndirectRange,
      (d) => d.publish(d.chain([{ address: (4 << 20) - 16, length: 32, flags: INDIRECT }])),
    ],
    [
      "a table with a successor",
      VqFault.Indirect,
      (d) => d.publish(d.chain([{ address: table, length: 48, flags: INDIRECT | NEXT }, target])),
    ],
    [
      "a table nobody agreed on",
      VqFault.Indirect,
      (d) => d.publish(d.indirect([d.header(4, 0), d.statusByte()])),
      [Feature.EventIndex],
    ],
    [
      "a chain longer than any queue",
      VqFault.TooLong,
      (d) => {
        const entries = Array.from({ length: 256 }, () => target);
        d.indirect(entries);
        d.publish(d.chain([d.header(0, 0), { address: table, length: 4096, flags: INDIRECT }]));
      },
    ],
    [
      "an index further ahead than the queue is long",
      VqFault.AvailableIndex,
      (d) => d.ram.write16(d.available + 2, 17),
    ],
  ];
  test.each(cases)("%s", (_, fault, publish, features) => {
    const { block, driver } = rig(features ? { features } : {});
    publish(driver);
    driver.kick();
    const firstOfTwo = driver.collect().length;
    expect([driver.fault, driver.needsReset, driver.causes & 2]).toEqual([fault, true, 2]);
    // Broken is broken, until the reset.
    const { interrupts } = driver;
    driver.kick();
    expect([driver.collect().length, driver.interrupts]).toEqual([0, interrupts]);
    expect(block.asked.length).toBe(firstOfTwo);
    driver.boot(features);
    expect(driver.request(BlkType.In, 0, [target]).status).toBe(BlkStatus.Ok);
  });
});

test("normal descriptors may come before the one that refers to a table", () => {
  const { driver } = rig();
  driver.indirect([target, driver.statusByte()]);
  driver.publish(driver.chain([driver.header(0, 0), { address: table, length: 32, flags: INDIRECT }]));
  driver.kick();
  expect(driver.ram.read8(status)).toBe(BlkStatus.Ok);
});

test("a table is followed by its links, not in its order", () => {
  const { driver } = rig();
  driver.publish(
    driver.indirect([
      { ...driver.header(0, 0), flags: NEXT, next: 3 },
      { ...driver.statusByte(), flags: WRITE },
      { ...target, length: 100, address: data + 412, flags: NEXT | WRITE, next: 1 },
      { ...target, length: 412, flags: NEXT | WRITE, next: 2 },
    ]),
  );
  driver.kick();
  expect([driver.ram.read8(status), driver.collect()[0].length]).toEqual([BlkStatus.Ok, 513]);
});

test("the longest chain there may be", () => {
  const { driver } = rig({ queueSize: 256 });
  const elements = (): Element[] => [
    driver.header(0, 0),
    ...Array.from({ length: 254 }, (_, i) => ({ address: data + i * 2, length: i === 0 ? 6 : 2, write: true })),
    driver.statusByte(),
  ];
  driver.publish(driver.indirect(elements()));
  driver.kick();
  expect(driver.ram.read8(status)).toBe(BlkStatus.Ok);
  driver.publish(driver.chain(elements().slice(1)));
  driver.kick();
  expect(driver.ram.read8(status)).toBe(BlkStatus.IoError);
});

test.each([true, false])("indexes wrap at 65,536 (event index %s)", (eventIndex) => {
  const { driver } = rig({ queueSize: 8, features: eventIndex ? [Feature.EventIndex] : [] });
  driver.header(BlkType.GetId, 0);
  const head = driver.chain([{ address: PLACE.header, length: 16 }, driver.statusByte()]);
  for (let i = 0; i < 70_000; i++) {
    driver.usedEvent = i;
    driver.publish(head);
    driver.kick();
    if (driver.collect().length !== 1) throw new Error(`request ${i} is lost`);
  }
  expect(driver.interrupts).toBe(70_000);
  expect(driver.needsReset).toBe(false);
});

test("a full queue, twice over, in any order of completion", async () => {
  const { block, driver } = rig({ queueSize: 8 }, true);
  const heads = Array.from({ length: 4 }, (_, i) =>
    driver.chain([driver.header(BlkType.Flush, 0, PLACE.header + i * 16), driver.statusByte(status + i)]),
  );
  for (let round = 0; round < 3; round++) {
    for (const head of heads) {
      driver.publish(head);
      driver.kick();
    }
    expect(block.waiting).toBe(4);
    await block.release(2);
    await block.release(2);
    await block.release(0);
    await block.release(0);
    expect(driver.collect().map(({ id }) => id)).toEqual([heads[2], heads[3], heads[0], heads[1]]);
    expect(driver.ram.bytes(status, 4)).toEqual(new Uint8Array(4));
  }
});

test("a head in flight cannot be made available again", async () => {
  const { block, driver } = rig({}, true);
  const head = driver.chain([driver.header(BlkType.Flush, 0), driver.statusByte()]);
  driver.publish(head);
  driver.kick();
  driver.publish(head);
  driver.kick();
  expect([driver.needsReset, block.waiting]).toEqual([true, 1]);
  // What was taken before is still finished.
  await block.release();
  expect(driver.collect()).toEqual([{ id: head, length: 1 }]);
});

test("requests made available without a notification are found when the next batch ends", async () => {
  const { block, driver } = rig({}, true);
  const flush = (i: number) =>
    driver.chain([driver.header(BlkType.Flush, 0, PLACE.header + i * 16), driver.statusByte(status + i)]);
  driver.publish(flush(0));
  driver.kick();
  driver.publish(flush(1), flush(2));
  expect(block.waiting).toBe(1);
  await block.release();
  expect([block.waiting, driver.collect().length]).toEqual([1, 1]);
  await block.release();
  expect(driver.collect().length).toBe(2);
});

test("QEMU's idx: with event indexes an interrupt comes when, and only when, used_event is passed", () => {
  const { driver } = rig({ features: [Feature.EventIndex] });
  const read = () => driver.request(BlkType.In, 0, [target]).status;
  expect([read(), driver.interrupts]).toEqual([BlkStatus.Ok, 1]);
  driver.usedEvent = 2;
  expect([read(), driver.interrupts]).toEqual([BlkStatus.Ok, 1]);
  expect([read(), driver.interrupts]).toEqual([BlkStatus.Ok, 2]);
  expect([read(), driver.interrupts]).toEqual([BlkStatus.Ok, 2]);
  // The flag means nothing then.
  driver.ram.write16(driver.available, 1);
  driver.usedEvent = 4;
  expect([read(), driver.interrupts]).toEqual([BlkStatus.Ok, 3]);
  // The device says from where on it wants to be notified: from the next one.
  expect(driver.availableEvent).toBe(driver.availableIndex);
});

test("without event indexes the available ring's flag decides", () => {
  const { driver } = rig({ features: [] });
  driver.ram.write16(driver.available, 1);
  expect([driver.request(BlkType.In, 0, [target]).status, driver.interrupts]).toEqual([BlkStatus.Ok, 0]);
  driver.ram.write16(driver.available, 0);
  expect([driver.request(BlkType.In, 0, [target]).status, driver.interrupts]).toEqual([BlkStatus.Ok, 1]);
  expect(driver.ram.read16(driver.used)).toBe(0);
  expect(driver.availableEvent).toBe(0);
});

test("a request that uses the whole of RAM's end", () => {
  const { driver } = rig();
  const end = driver.ram.size;
  driver.header(0, 0, end - 16 - 512 - 1);
  driver.publish(
    driver.chain([
      { address: end - 529, length: 16 },
      { address: end - 513, length: 513, write: true },
    ]),
  );
  driver.kick();
  expect(driver.ram.read8(end - 1)).toBe(BlkStatus.Ok);
  expect(driver.read(Mmio.InterruptStatus)).toBe(0);
});
