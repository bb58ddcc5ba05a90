import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { unzstd, unzstdHere } from "../../src/host/format/zstd.ts";
import { UnpackBuffers } from "../../src/wasm/unpack.ts";
import { libzstd as zstd } from "../support/libzstd.ts";
import { mixed } from "../support/mixed.ts";
import { Random } from "../support/random.ts";

beforeAll(() => zstd.init());

const SIZE = 200_000;
const LEVELS = [-20, -1, 1, 2, 3, 6, 12, 19];
const buffers = new UnpackBuffers({ areas: 2, areaBytes: SIZE + 4096, slots: 3, slotBytes: SIZE });
const random = new Random(12);

/** In the middle slot, from the first area; nothing else may change. @throws RangeError */
function unpacked(packed: Uint8Array, size: number): Uint8Array {
  const [area, other] = buffers.areas;
  const [before, slot, after] = buffers.slots;
  before.fill(0xa5, -64);
  after.fill(0xa5, 0, 64);
  other.fill(0x5a, 0, 64);
  area.set(packed);
  try {
    unzstdHere(buffers, 1, area.subarray(0, packed.length), size);
    return slot.slice(0, size);
  } finally {
    const untouched = [before.subarray(-64), after.subarray(0, 64)].every((bytes) => bytes.every((x) => x === 0xa5));
    expect(untouched && other.subarray(0, 64).every((x) => x === 0x5a)).toBe(true);
  }
}

test("what libzstd packs is unpacked, whatever its level; what follows is left alone", () => {
  for (let round = 0; round < 300; round++) {
    const plain = mixed(random, random.oneIn(3) ? random.below(2000) : random.below(SIZE));
    const packed = zstd.compress(plain, random.pick(LEVELS));
    const stored = new Uint8Array(packed.length + 20).fill(0x28);
    stored.set(packed);
    expect([round, Buffer.compare(unpacked(stored, plain.length), plain)]).toEqual([round, 0]);
    expect(() => unpacked(packed, plain.length + 1)).toThrow(/the data ends after|there is no zstd frame/);
    if (plain.length > 1) expect(() => unpacked(packed, plain.length - 1)).toThrow("more data than there should be");
  }
});

test("a program's code and tables, frames one after the other, and frames to be skipped", () => {
  const program = readFileSync(process.execPath).subarray(2 ** 24);
  for (let at = 0; at < 60 * 65536; at += 65536) {
    const plain = program.subarray(at, at + 65536);
    const half = plain.length >> 1;
    const skipped = Uint8Array.of(0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3);
    const parts = [plain.subarray(0, half), plain.subarray(half)].map((part) => zstd.compress(new Uint8Array(part), 9));
    const stored = Buffer.concat([skipped, parts[0], skipped, parts[1]]);
    expect(Buffer.compare(unpacked(stored, plain.length), plain)).toBe(0);
  }
});

test("damaged data: refused, or what libzstd makes of it, which refuses all that is refused here", () => {
  const counts = { fine: 0, refused: 0 };
  for (let round = 0; round < 2500; round++) {
    const plain = mixed(random, 1 + random.below(random.oneIn(8) ? SIZE : 3000));
    const good = zstd.compress(plain, random.pick(LEVELS));
    const bytes = good.slice(0, random.oneIn(5) ? random.below(good.length + 1) : good.length);
    for (let i = 1 + random.below(3); i > 0 && bytes.length > 0; i--) {
      // Headers matter most.
      const at = random.oneIn(2) ? random.below(Math.min(60, bytes.length)) : random.below(bytes.length);
      bytes[at] = random.oneIn(2) ? random.below(256) : bytes[at] ^ (1 << random.below(8));
    }
    let theirs: Uint8Array | undefined;
    try {
      theirs = zstd.decompress(bytes);
    } catch {}
    let ours: Uint8Array | undefined;
    try {
      ours = unpacked(bytes, plain.length);
    } catch (thrown) {
      expect(thrown).toBeInstanceOf(RangeError);
    }
    counts[ours ? "fine" : "refused"]++;
    if (theirs?.length === plain.length) expect([round, ours && Buffer.compare(ours, theirs)]).toEqual([round, 0]);
  }
  expect(Math.min(counts.fine, counts.refused)).toBeGreaterThan(100);
});

describe("each fault is named", () => {
  const frame = (...block: number[]) => Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0x20, 100, ...block);
  const compressed = (...bytes: number[]) => frame((bytes.length << 3) | 5, 0, 0, ...bytes);
  test.each([
    ["the data ends after 0 bytes of 100", frame()],
    ["there is no zstd frame", new Uint8Array(20)],
    ["a reserved bit of the frame header is set", frame().fill(0x28, 4)],
    ["the frame needs a dictionary", frame().fill(0x21, 4)],
    ["a block of unknown type or size", frame(7, 0, 0)],
    ["the frame holds not as much as it says", frame(0x23, 3, 0, 7).fill(99, 5, 6)],
    ["literals are cut off", compressed(0xf8)],
    ["literals use a Huffman table that was never sent", compressed(0x03 | (4 << 4), 1 << 6, 0, 0)],
    ["a Huffman table is empty", compressed(0x02 | (4 << 4), 2 << 6, 0, 128, 0)],
    ["a Huffman table does not add up", compressed(0x02 | (4 << 4), 2 << 6, 0, 128, 0xf0)],
    ["sequences are cut off", compressed(0)],
    ["reserved bits of the sequence modes are set", compressed(0, 1, 1)],
    ["a bit stream has no end mark", compressed(0, 1, 0, 0)],
    ["a sequence symbol is out of range", compressed(0, 1, 0x40, 36)],
    ["sequences use a table that was never sent", compressed(0, 1, 0xc0, 1)],
    ["an entropy table has too many bits", compressed(0, 1, 0x80, 5)],
  ])("%s", (words, bytes) => {
    expect(() => unzstd(bytes, 100)).toThrow(new RangeError(words));
  });
});
