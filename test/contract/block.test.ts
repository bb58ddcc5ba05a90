import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Block, BlockRequest, Op, Status } from "../../src/core/block.ts";
import { flush, readBytes, writeBytes, writeZeroes } from "../../src/host/block/bytes.ts";
import { DISKS, stores } from "../support/disks.ts";
import { batchOf, compare, Model, SECTOR, type Step } from "../support/model.ts";
import { LateStore } from "../support/stores.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;

/** Sizes of every kind: odd, smaller than a block, past 32 bits of bytes. */
const SIZES = [SECTOR, 3 * SECTOR, 2 * MiB + SECTOR, 9 * MiB, 6 * GiB + 5 * SECTOR];

const step = (sectors: number): fc.Arbitrary<Step> =>
  fc
    .record({
      kind: fc.constantFrom<Step["kind"]>(
        "read",
        "read",
        "read",
        "write",
        "write",
        "write",
        "zero",
        "discard",
        "flush",
      ),
      // Near the start, block boundaries, 4 GiB and the end, so that requests meet.
      at: fc.constantFrom(0, 4096 - 20, 2 ** 23 - 20, sectors - 40, Math.floor(sectors / 2)),
      offset: fc.nat(60),
      count: fc.oneof(fc.integer({ min: 1, max: 24 }), fc.integer({ min: 1, max: 5000 })),
    })
    .map(({ kind, at, offset, count }) => {
      const sector = Math.min(Math.max(0, at + offset), sectors - 1);
      return { kind, sector, count: Math.min(count, sectors - sector) };
    });

const program = (sectors: number) =>
  fc.array(fc.array(step(sectors), { minLength: 1, maxLength: 6 }), { maxLength: 8 });

describe.each(DISKS)("$name", ({ open, keeps }) => {
  test.each([
    ["at once", false],
    ["late", true],
  ])("behaves as a plain array of sectors, store answering %s", async (_name, late) => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...SIZES).chain((size) => fc.tuple(fc.constant(size), program(size / SECTOR), fc.nat())),
        async ([size, batches, seed]) => {
          const over = stores(late ? (store) => new LateStore(store, seed) : undefined);
          const model = new Model();
          let block = await open(over, size);
          expect(block.size).toBe(size);
          for (const [index, steps] of batches.entries()) {
            const { batch, check } = batchOf(model, steps);
            const pending = block.submit(batch);
            if (!late) expect(pending).toBeUndefined();
            await pending;
            expect(check()).toBeNull();
            if (keeps && index % 3 === 2) {
              await block.close();
              block = await open(over, size);
            }
          }
          expect(await compare(block, model)).toBeNull();
          await block.close();
        },
      ),
      { numRuns: late ? 20 : 40, seed: 3 },
    );
  });

  test("batches in flight together share new blocks and lose nothing", async () => {
    const size = 64 * MiB;
    const over = stores((store) => new LateStore(store, 5));
    const block = await open(over, size);
    const models = Array.from({ length: 8 }, () => new Model());
    for (let round = 0; round < 6; round++) {
      await Promise.all(
        models.map(async (model, lane) => {
          // Lane n owns every eighth group of eight sectors: never the same sector, always the same blocks.
          const own = (group: number): Step => ({ kind: "write", sector: (group * 8 + lane) * 8, count: 8 });
          const groups = Array.from({ length: 5 }, (_, i) => own((round * 37 + i * 11 + ((lane * round) % 3)) % 2000));
          const { batch, check } = batchOf(model, [
            ...groups,
            { kind: "flush", sector: 0, count: 0 },
            ...groups.map((step): Step => ({ ...step, kind: "read" })),
          ]);
          await block.submit(batch);
          expect(check()).toBeNull();
        }),
      );
    }
    let again = block;
    if (keeps) {
      await block.close();
      again = await open(over, size);
    }
    for (const model of models) {
      for (const sector of model.sectors) {
        const { batch, check } = batchOf(model, [{ kind: "read", sector, count: 1 }]);
        await again.submit(batch);
        expect(check()).toBeNull();
      }
    }
    await again.close();
  });

  test("a batch keeps many transfers in flight over a late store", async () => {
    const late: LateStore[] = [];
    const block = await open(
      stores((store) => {
        late.push(new LateStore(store, 9));
        return late[late.length - 1];
      }),
      8 * MiB,
    );
    const model = new Model();
    const steps = Array.from({ length: 32 }, (_, i): Step => ({ kind: "write", sector: i * 100, count: 8 }));
    await block.submit(batchOf(model, steps).batch);
    for (const store of late) store.mostInFlight = 0;
    const { batch, check } = batchOf(
      model,
      steps.map((one) => ({ ...one, kind: "read" })),
    );
    await block.submit(batch);
    expect(check()).toBeNull();
    expect(Math.max(...late.map((store) => store.mostInFlight))).toBeGreaterThanOrEqual(16);
    await block.close();
  });

  test("refuses by cause, and the rest of the batch is carried out", async () => {
    const block = await open(stores(), MiB);
    const request = (op: number, offset: number, length: number, bytes = length) => {
      const made = new BlockRequest();
      Object.assign(made, { op, offset, length, memory: new Uint8Array(bytes) });
      if (op <= Op.Write) made.segments.push(0, bytes);
      return made;
    };
    const good = request(Op.Write, 0, 512);
    const outside = new BlockRequest();
    Object.assign(outside, { op: Op.Read, offset: 0, length: 512, memory: new Uint8Array(100) });
    outside.segments.push(0, 512);
    const batch = [
      good,
      request(Op.Read, MiB, 512),
      request(Op.Write, MiB - 512, 1024),
      request(Op.WriteZeroes, -512, 512),
      request(Op.Read, 100, 512),
      request(Op.Read, 0, 512, 1024),
      outside,
      request(9, 0, 512),
      request(Op.Read, Number.NaN, 512),
    ];
    await block.submit(batch);
    const { Ok, OutOfRange, Unsupported } = Status;
    expect(batch.map((each) => each.status)).toEqual([
      Ok,
      OutOfRange,
      OutOfRange,
      OutOfRange,
      Unsupported,
      Unsupported,
      Unsupported,
      Unsupported,
      OutOfRange,
    ]);
    for (const each of batch.slice(1)) expect(each.error?.message).toBeTruthy();
    await block.close();
  });

  test("counts what it copies, closes once and is closed then", async () => {
    const block = await open(stores(), MiB);
    await writeBytes(block, 0, new Uint8Array(8192).fill(1));
    await readBytes(block, 0, 8192);
    expect(block.copied).toBe(16384);
    await writeZeroes(block, 0, 4096);
    expect((await readBytes(block, 0, 8192)).indexOf(1)).toBe(4096);
    await flush(block);
    await block.close();
    await block.close();
    expect(() => block.submit([])).toThrow(expect.objectContaining({ code: "CLOSED" }));
    expect(Symbol.asyncDispose in block).toBe(true);
  });

  test("close waits for what is in flight", async () => {
    const over = stores((store) => new LateStore(store, 2));
    const block: Block = await open(over, MiB);
    const model = new Model();
    const { batch, check } = batchOf(model, [{ kind: "write", sector: 3, count: 40 }]);
    const pending = block.submit(batch);
    const closed = block.close();
    await pending;
    expect(check()).toBeNull();
    await closed;
    if (keeps) expect(await compare(await open(over, MiB), model)).toBeNull();
  });
});
