import { readFileSync } from "node:fs";
import { constants, deflateRawSync, deflateSync } from "node:zlib";
import { expect, test } from "vitest";
import { adler32, inflate, unzlib } from "../../src/host/format/inflate.ts";
import { UnpackBuffers } from "../../src/wasm/unpack.ts";
import { mixed } from "../support/mixed.ts";
import { Random } from "../support/random.ts";

const SIZE = 65536;
const buffers = new UnpackBuffers({ areas: 2, areaBytes: 2 * SIZE, slots: 3, slotBytes: SIZE });
const random = new Random(11);

function options() {
  const strategy = random.pick([
    constants.Z_DEFAULT_STRATEGY,
    constants.Z_FIXED,
    constants.Z_RLE,
    constants.Z_HUFFMAN_ONLY,
  ]);
  return { level: random.below(10), windowBits: 9 + random.below(7), memLevel: 1 + random.below(9), strategy };
}

const MARK = new Uint8Array(SIZE).fill(0xa5);

/** In the middle slot, from the first area; nothing else may change. */
function unpacked(packed: Uint8Array, size: number, toEnd = false): { used: number; bytes: Uint8Array } {
  const [area, other] = buffers.areas;
  for (const slot of buffers.slots) slot.fill(0xa5);
  other[0] = 0x5a;
  area.set(packed);
  const used = buffers.inflate(area.subarray(0, packed.length), 1, size, toEnd);
  const untouched = [buffers.slots[0], buffers.slots[2]].every((slot) => Buffer.compare(slot, MARK) === 0);
  expect(untouched && other[0] === 0x5a).toBe(true);
  return { used, bytes: buffers.slots[1].slice(0, size) };
}

test("what zlib packs is unpacked, with any of its settings, and as much is read as was written", () => {
  for (let round = 0; round < 400; round++) {
    const plain = mixed(random, random.oneIn(4) ? 1 + random.below(SIZE) : SIZE);
    const packed = deflateRawSync(plain, options());
    const { used, bytes } = unpacked(packed, plain.length, true);
    expect([round, used]).toEqual([round, packed.length]);
    expect([round, Buffer.compare(bytes, plain)]).toEqual([round, 0]);
    // A first part, of which the rest need not be there in one piece.
    const size = 1 + random.below(plain.length);
    expect([round, Buffer.compare(unpacked(packed, size).bytes, plain.subarray(0, size))]).toEqual([round, 0]);
  }
});

test("damaged data: the core refuses what the decoder in TypeScript refuses, and else makes the same of it", () => {
  const counts = { fine: 0, refused: 0 };
  for (let round = 0; round < 3000; round++) {
    const good = deflateRawSync(mixed(random, 1 + random.below(3000)), options());
    const bytes = good.subarray(0, random.oneIn(3) ? random.below(good.length + 1) : good.length);
    for (let i = random.below(3); i > 0 && bytes.length > 0; i--) {
      const at = random.oneIn(2) ? random.below(Math.min(40, bytes.length)) : random.below(bytes.length);
      bytes[at] = random.oneIn(2) ? random.below(256) : bytes[at] ^ (1 << random.below(8));
    }
    const size = random.pick([1, 100, 3000, SIZE]);
    let expected: Uint8Array | undefined;
    try {
      expected = inflate(bytes, size);
    } catch {}
    const { used, bytes: made } = unpacked(bytes, size);
    expect([round, used > 0]).toEqual([round, expected !== undefined]);
    if (expected) expect([round, Buffer.compare(made, expected)]).toEqual([round, 0]);
    counts[expected ? "fine" : "refused"]++;
  }
  expect(Math.min(counts.fine, counts.refused)).toBeGreaterThan(300);
});

test("to its end: one byte too many or too few is refused", () => {
  const plain = mixed(random, 5000);
  const packed = deflateRawSync(plain);
  expect(unpacked(packed, 5000, true).used).toBe(packed.length);
  for (const size of [4999, 5001]) expect(unpacked(packed, size, true).used).toBe(0);
  for (const length of [0, 1, packed.length - 1]) expect(unpacked(packed.subarray(0, length), 5000, true).used).toBe(0);
  expect(Buffer.compare(unzlib(deflateSync(plain), 5000), plain)).toBe(0);
});

test("a program's code, at every length of code", () => {
  const program = readFileSync(process.execPath).subarray(2 ** 24);
  for (let at = 0; at < 60 * SIZE; at += SIZE) {
    const plain = program.subarray(at, at + SIZE);
    expect(Buffer.compare(unpacked(deflateRawSync(plain, { level: 9 }), SIZE, true).bytes, plain)).toBe(0);
  }
});

test("Adler-32 of any length is that of the plain sum, of the largest bytes too", () => {
  for (let round = 0; round < 300; round++) {
    const slot = round % 3;
    const length = random.oneIn(3) ? random.below(40) : random.below(SIZE + 1);
    const bytes = round % 5 === 0 ? new Uint8Array(length).fill(255) : mixed(random, length);
    buffers.slots[slot].set(bytes);
    expect([length, buffers.adler32(slot, length)]).toEqual([length, adler32(bytes)]);
  }
});
