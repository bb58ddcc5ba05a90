import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BlockRequest, Op, Status } from "../../src/core/block.ts";
import { BlockLayer } from "../../src/guest/block-layer.ts";
import { FakeDriver, type FakeOptions } from "../support/fake-driver.ts";

const DISK = 1 << 18;
const RAM = Uint8Array.from({ length: DISK }, (_, i) => (i * 7 + (i >> 9)) & 0xff);

function make(options: FakeOptions = {}) {
  const ram = RAM.slice();
  const driver = new FakeDriver(DISK, ram, options);
  return { ram, driver, layer: new BlockLayer(driver) };
}

function request(op: Op, offset = 0, length = 0, address = offset): BlockRequest {
  const made = new BlockRequest();
  made.op = op;
  made.offset = offset;
  made.length = length;
  made.segments.push(address, length);
  return made;
}

const read = (offset: number, length: number, address?: number) => request(Op.Read, offset, length, address);
const write = (offset: number, length: number, address?: number) => request(Op.Write, offset, length, address);
const flush = () => request(Op.Flush);

describe("merging", () => {
  test("a batch of neighbours becomes one request and one doorbell", () => {
    const { layer, driver } = make();
    const batch = Array.from({ length: 32 }, (_, i) => read(i * 4096, 4096));
    expect(layer.submit(batch)).toBeUndefined();
    expect(driver.started).toEqual([{ op: Op.Read, offset: 0, length: 131072, segments: 1 }]);
    expect(driver.doorbells).toBe(1);
    expect(batch.every(({ status }) => status === Status.Ok)).toBe(true);
  });

  test("it stops at the driver's bytes", () => {
    const { layer, driver } = make({ maxBytes: 12288 });
    layer.submit(Array.from({ length: 8 }, (_, i) => write(i * 4096, 4096)));
    expect(driver.started.map(({ length }) => length)).toEqual([12288, 12288, 8192]);
  });

  test("it stops at the driver's segments", () => {
    const { layer, driver } = make({ maxSegments: 3 });
    layer.submit(Array.from({ length: 8 }, (_, i) => read(i * 512, 512, i * 8192)));
    expect(driver.started.map(({ segments }) => segments)).toEqual([3, 3, 2]);
  });

  test("reads and writes, and blocks apart, stay apart", () => {
    const { layer, driver } = make();
    layer.submit([read(0, 512), write(512, 512), write(2048, 512), read(2560, 512)]);
    expect(driver.started).toHaveLength(4);
  });

  test("what waits for the driver is merged too", async () => {
    const { layer, driver } = make({ depth: 1, later: true });
    const first = layer.submit([read(65536, 512)]);
    const more = [0, 1, 2].map((i) => layer.submit([read(i * 512, 512)]));
    while (driver.held > 0) driver.run();
    await Promise.all([first, ...more]);
    expect(driver.started.map(({ length }) => length)).toEqual([512, 1536]);
  });
});

describe("flush", () => {
  test("waits for what stands before it, and holds what comes after", async () => {
    const { layer, driver } = make({ later: true });
    const batch = [write(0, 512), write(4096, 512), flush(), write(8192, 512)];
    const pending = layer.submit(batch);
    expect(driver.started).toHaveLength(2);
    driver.run(1);
    expect(driver.started).toHaveLength(2);
    driver.run(1);
    expect(driver.started.map(({ op }) => op)).toEqual([Op.Write, Op.Write, Op.Flush]);
    driver.run();
    expect(driver.started).toHaveLength(4);
    driver.run();
    await pending;
    expect(batch.every(({ status }) => status === Status.Ok)).toBe(true);
  });

  test("does not merge the writes it parts", () => {
    const { layer, driver } = make();
    layer.submit([write(0, 512), flush(), write(512, 512), flush(), flush()]);
    expect(driver.started.map(({ op }) => op)).toEqual([Op.Write, Op.Flush, Op.Write, Op.Flush, Op.Flush]);
  });
});

describe("failure", () => {
  test("of a merged request is the failure of each", () => {
    const { layer, driver } = make();
    driver.sabotage = ({ length }) => (length === 1024 ? Status.Media : undefined);
    const batch = [read(0, 512), read(512, 512), read(8192, 512)];
    layer.submit(batch);
    expect(batch.map(({ status }) => status)).toEqual([Status.Media, Status.Media, Status.Ok]);
  });

  test("of one part is the failure of a split request, whichever part", () => {
    for (const bad of [0, 4096, 8192]) {
      const { layer, driver } = make({ maxBytes: 4096 });
      driver.sabotage = ({ offset }) => (offset === bad ? Status.NoSpace : undefined);
      const whole = write(0, 12288);
      layer.submit([whole]);
      expect(whole.status).toBe(Status.NoSpace);
    }
  });

  test("a driver that takes nothing ever again fails what waits, and does not hang it", () => {
    const { layer, driver } = make();
    driver.start = () => 0;
    const batch = [read(0, 512), flush(), write(4096, 512)];
    expect(layer.submit(batch)).toBeUndefined();
    expect(batch.map(({ status }) => status)).toEqual([Status.Io, Status.Io, Status.Io]);
  });
});

test("any batches, any limits: the disk and the memory are as if carried out one by one", () => {
  const sectors = fc.integer({ min: 0, max: 63 });
  const op = fc.record({
    kind: fc.constantFrom(Op.Read, Op.Write, Op.Write, Op.Flush),
    at: sectors,
    count: fc.integer({ min: 1, max: 24 }),
    memory: fc.integer({ min: 0, max: 200 }),
  });
  const limits = fc.record({
    depth: fc.integer({ min: 1, max: 8 }),
    maxBytes: fc.integer({ min: 1, max: 16 }).map((n) => n * 512),
    maxSegments: fc.integer({ min: 2, max: 5 }),
    later: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(op, { minLength: 1, maxLength: 40 }), limits, (ops, options) => {
      const { ram, layer, driver } = make(options);
      const disk = new Uint8Array(DISK);
      const model = ram.slice();
      const batch: BlockRequest[] = [];
      for (const { kind, at, count, memory } of ops) {
        if (kind === Op.Flush) {
          batch.push(flush());
          continue;
        }
        const [offset, address, length] = [at * 512, memory * 512, count * 512];
        batch.push(request(kind, offset, length, address));
        if (kind === Op.Read) model.set(disk.subarray(offset, offset + length), address);
        else disk.set(model.subarray(address, address + length), offset);
      }
      const pending = layer.submit(batch);
      for (let rounds = 0; driver.held > 0 && rounds < 10_000; rounds++) driver.run(1);
      expect(pending instanceof Promise).toBe(options.later);
      expect(batch.every(({ status }) => status === Status.Ok)).toBe(true);
      expect(Buffer.compare(driver.disk, disk)).toBe(0);
      expect(Buffer.compare(ram, model)).toBe(0);
    }),
    { numRuns: 300 },
  );
});
