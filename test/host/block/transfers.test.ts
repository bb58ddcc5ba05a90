import fc from "fast-check";
import { expect, test } from "vitest";
import { BlockRequest, Op } from "../../../src/core/block.ts";
import { ParavaneError } from "../../../src/core/error.ts";
import { SegmentList } from "../../../src/core/segments.ts";
import { Transfers } from "../../../src/host/block/transfers.ts";
import { MemoryStore } from "../../../src/host/store/memory.ts";

const UNIT = 512;
const COUNT = 32;

class Seen extends MemoryStore {
  readonly moves: string[] = [];
  /** A unit that cannot be read. */
  broken = -1;
  override readv(position: number, memory: Uint8Array, segments: SegmentList): void {
    this.moves.push(`read ${position / UNIT}+${segments.total / UNIT}`);
    if (this.broken * UNIT >= position && this.broken * UNIT < position + segments.total) {
      throw new ParavaneError("MEDIA", "worn out");
    }
    super.readv(position, memory, segments);
  }
}

function opened() {
  const store = new Seen();
  const content = new Uint8Array(COUNT * UNIT).map((_, i) => 1 + Math.floor(i / UNIT));
  store.writev(0, content, SegmentList.of(0, content.length));
  return { store, transfers: new Transfers(store) };
}

function request(op: Op, memory: Uint8Array): BlockRequest {
  const made = Object.assign(new BlockRequest(), { op, offset: 0, length: memory.length, memory });
  made.segments.push(0, memory.length);
  return made;
}

/** What a request reads whose units are at these places of the store, in this order. */
function read(transfers: Transfers, units: readonly number[]): Uint8Array {
  const memory = new Uint8Array(units.length * UNIT);
  const reading = request(Op.Read, memory);
  for (const [i, unit] of units.entries()) transfers.add(reading, i * UNIT, UNIT, unit * UNIT, false);
  transfers.issue();
  if (reading.error) throw reading.error;
  return memory;
}

test("parts of a request that are neighbours in the store are one read, whatever their order", () => {
  const { store, transfers } = opened();
  read(transfers, [3, 1, 2, 0]);
  read(transfers, [7, 6, 20, 5]);
  expect(store.moves).toEqual(["read 0+4", "read 5+3", "read 20+1"]);
});

test("each part gets its own bytes, in any order, any number of times, with other requests between", () => {
  const { transfers } = opened();
  const units = fc.array(fc.nat(COUNT - 1), { minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(fc.array(units, { minLength: 1, maxLength: 4 }), (requests) => {
      const all = requests.map((list) => ({ list, memory: new Uint8Array(list.length * UNIT) }));
      for (const { list, memory } of all) {
        const reading = request(Op.Read, memory);
        for (const [i, unit] of list.entries()) transfers.add(reading, i * UNIT, UNIT, unit * UNIT, false);
      }
      transfers.issue();
      for (const { list, memory } of all) {
        expect(list.map((_, i) => memory[i * UNIT])).toEqual(list.map((unit) => unit + 1));
        expect(memory.every((byte, at) => byte === list[Math.floor(at / UNIT)] + 1)).toBe(true);
      }
    }),
  );
});

test("one part that cannot be read fails its request, and no other", () => {
  const { store, transfers } = opened();
  store.broken = 2;
  expect(() => read(transfers, [3, 1, 2])).toThrow("worn out");
  expect(read(transfers, [4, 3])[0]).toBe(5);
});

test("a write in flight is waited for, and what was to be read before is read", async () => {
  const { store } = opened();
  let finish = () => {};
  const writing = new Promise<void>((resolve) => {
    finish = resolve;
  });
  store.writev = ((position: number, memory: Uint8Array, segments: SegmentList) =>
    writing.then(() => MemoryStore.prototype.writev.call(store, position, memory, segments))) as never;
  const transfers = new Transfers(store);
  transfers.add(request(Op.Write, new Uint8Array(UNIT).fill(99)), 0, UNIT, 9 * UNIT, true);
  const memory = new Uint8Array(3 * UNIT);
  const reading = request(Op.Read, memory);
  expect(transfers.add(reading, 0, UNIT, 6 * UNIT, false)).toBeNull();
  const busy = transfers.add(reading, UNIT, UNIT, 9 * UNIT, false);
  expect(store.moves).toEqual(["read 6+1"]);
  finish();
  await busy;
  expect(transfers.add(reading, UNIT, UNIT, 9 * UNIT, false)).toBeNull();
  transfers.add(reading, 2 * UNIT, UNIT, 5 * UNIT, false);
  transfers.issue();
  expect([memory[0], memory[UNIT], memory[2 * UNIT]]).toEqual([7, 99, 6]);
});
