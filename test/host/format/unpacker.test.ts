import { deflateRawSync } from "node:zlib";
import { expect, test } from "vitest";
import { ParavaneError } from "../../../src/core/error.ts";
import { run } from "../../../src/core/flow.ts";
import { SegmentList } from "../../../src/core/segments.ts";
import type { Store } from "../../../src/core/store.ts";
import { inflateCodec } from "../../../src/host/format/inflate-codec.ts";
import { type Codec, type PackedUnit, Unpacker } from "../../../src/host/format/unpacker.ts";
import { MemoryStore } from "../../../src/host/store/memory.ts";

const SIZE = 65536;

/** Units 0, 1, 2, … hold their number, one after the other. */
function packed(count: number, between = 0): { bytes: Uint8Array; units: PackedUnit[] } {
  const units: PackedUnit[] = [];
  const parts: Uint8Array[] = [];
  let position = 0;
  for (let i = 0; i < count; i++) {
    const part = deflateRawSync(content(i));
    units.push({ position, packed: part.length, size: SIZE });
    parts.push(part, new Uint8Array(between));
    position += part.length + between;
  }
  return { bytes: Buffer.concat(parts), units };
}

const content = (i: number) => new Uint8Array(SIZE).fill(i).fill(i + 1, 100, 200);

class CountingStore extends MemoryStore {
  readonly reads: [position: number, length: number][] = [];
  override readv(position: number, memory: Uint8Array, segments: SegmentList): void {
    this.reads.push([position, segments.total]);
    super.readv(position, memory, segments);
  }
}

/** The same, but it takes its time to read. */
function slow(store: CountingStore): Store {
  const readv: Store["readv"] = async (position, memory, segments) => {
    await new Promise((resolve) => setTimeout(resolve, 5));
    store.readv(position, memory, segments);
  };
  return new Proxy<Store>(store, { get: (_, key) => (key === "readv" ? readv : Reflect.get(store, key, store)) });
}

function opened(bytes: Uint8Array, codec: Partial<Codec<PackedUnit>> = {}, late = false) {
  const store = new CountingStore();
  store.writev(0, bytes, SegmentList.of(0, bytes.length));
  const damaged = ({ position }: PackedUnit, what: string) => new ParavaneError("CORRUPT", `${position} ${what}`);
  const all = { ...inflateCodec(undefined), damaged, ...codec };
  return { store, unpacker: new Unpacker(late ? slow(store) : store, SIZE, all) };
}

/** Checks that the units hold what they should. */
function reading(unpacker: Unpacker<PackedUnit>, units: readonly PackedUnit[], numbers: readonly number[]) {
  const seen: number[] = [];
  const flow = unpacker.each(units, (bytes, i) => {
    expect([i, Buffer.compare(bytes, content(numbers[i]))]).toEqual([i, 0]);
    seen.push(i);
  });
  const done = () => expect(seen.sort((a, b) => a - b)).toEqual(units.map((_, i) => i));
  const pending = run(flow);
  return pending ? pending.then(done) : done();
}

test("units side by side are one read; the next time none, until they are forgotten", () => {
  const { bytes, units } = packed(20);
  const { store, unpacker } = opened(bytes);
  reading(unpacker, units, [...units.keys()]);
  expect(store.reads).toEqual([[0, bytes.length]]);
  reading(unpacker, units, [...units.keys()]);
  expect(store.reads.length).toBe(1);
  unpacker.forget();
  reading(unpacker, [units[7]], [7]);
  expect(store.reads.at(-1)).toEqual([units[7].position, units[7].packed]);
});

test("what lies far apart is read apart; the order does not matter", () => {
  const { bytes, units } = packed(4, 2 ** 15);
  const { store, unpacker } = opened(bytes);
  reading(unpacker, units, [0, 1, 2, 3]);
  expect(store.reads.length).toBe(4);
  unpacker.forget();
  const near = packed(3);
  const other = opened(near.bytes);
  reading(other.unpacker, [near.units[2], near.units[1], near.units[0]], [2, 1, 0]);
  expect(other.store.reads).toEqual([[0, near.bytes.length]]);
});

test("a unit that is longer than it was thought to be is read in full, first or not", () => {
  const { bytes, units } = packed(3);
  const lengths = new Map(units.map(({ position, packed: length }) => [position, length]));
  const measure = (_: Uint8Array, unit: PackedUnit) => {
    unit.packed = lengths.get(unit.position)!;
  };
  for (const wrong of [0, 1, 2]) {
    const { unpacker } = opened(bytes, { measure });
    const guesses = units.map((unit, i) => ({ ...unit, packed: i === wrong ? 20 : unit.packed }));
    reading(unpacker, guesses.slice(0, wrong + 1), [0, 1, 2]);
    unpacker.forget();
    reading(unpacker, guesses, [0, 1, 2]);
  }
});

test("the cache is bounded, and holds what was used last", () => {
  const { bytes, units } = packed(100);
  const { store, unpacker } = opened(bytes);
  const numbers = [...units.keys()];
  reading(unpacker, units, numbers);
  const before = store.reads.length;
  reading(unpacker, units.slice(36), numbers.slice(36));
  expect(store.reads.length).toBe(before);
  reading(unpacker, [units[0]], [0]);
  expect(store.reads.length).toBe(before + 1);
});

test("more readers than there are areas wait for each other, over a store that takes its time", async () => {
  const { bytes, units } = packed(40);
  const { store, unpacker } = opened(bytes, {}, true);
  await Promise.all(units.map((unit, i) => reading(unpacker, [unit], [i])));
  expect(store.reads.length).toBe(40);
});

test("a damaged one is an error, after those before it; the others are read, and areas come back", () => {
  const { bytes, units } = packed(8);
  bytes[units[3].position] = 7; // a block of type 3
  const { unpacker } = opened(bytes);
  for (let i = 0; i < 20; i++) {
    const seen: number[] = [];
    const all = () => run(unpacker.each(units, (_, index) => seen.push(index)));
    expect(all).toThrow(`${units[3].position} does not unpack: a block has type 3`);
    expect(seen).toEqual([0, 1, 2]);
  }
  reading(unpacker, units.slice(4), [4, 5, 6, 7]);
});

test("the caller's decoder is used where there is much to do; what it says is named, or judged", async () => {
  const { bytes, units } = packed(2);
  const worn = async () => {
    throw new Error("worn out");
  };
  const { unpacker } = opened(bytes, { elsewhere: worn });
  const failing = run(unpacker.each(units, () => {})) as Promise<void>;
  await expect(failing).rejects.toThrow("0 does not unpack: worn out");
  const short = opened(bytes, { elsewhere: () => new Uint8Array(7) });
  expect(() => run(short.unpacker.each(units, () => {}))).toThrow(`0 holds 7 bytes, not ${SIZE}`);
  const judged = opened(bytes, { elsewhere: worn, proves: () => true });
  await reading(judged.unpacker, units, [0, 1]);
  const wrong = opened(bytes, { elsewhere: () => new Uint8Array(SIZE), proves: () => false });
  await reading(wrong.unpacker, units, [0, 1]);
});
