import fc from "fast-check";
import { expect, test } from "vitest";
import { ScanBuffers } from "../../src/wasm/scan.ts";

const SIZE = 16384;

/** The same, byte by byte. */
function plain(bytes: Uint8Array, from: number, length: number, unit: number): number {
  const isZero = (at: number) => bytes.subarray(at, Math.min(at + unit, from + length)).every((byte) => byte === 0);
  const zero = isZero(from);
  let run = Math.min(unit, length);
  while (run < length && isZero(from + run) === zero) run += Math.min(unit, length - run);
  return run | Number(zero);
}

test("runs of zeros are those that a plain search finds", () => {
  const buffers = new ScanBuffers(2, SIZE);
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(2 * SIZE - 1), fc.integer({ min: 1, max: 255 })), { maxLength: 6 }),
      fc.nat((2 * SIZE) / 64 - 1),
      fc.integer({ min: 1, max: SIZE / 64 }),
      fc.constantFrom(64, 128, 512, 4096, 65536),
      (writes, from, most, unit) => {
        buffers.memory.fill(0);
        for (const [at, value] of writes) buffers.memory[at] = value;
        const length = Math.min(most * 64, 2 * SIZE - from * 64);
        expect(buffers.zeroRun(from * 64, length, unit)).toBe(plain(buffers.memory, from * 64, length, unit));
      },
    ),
    { numRuns: 2000 },
  );
});

test("every bit of every byte is looked at", () => {
  const buffers = new ScanBuffers(1, 512);
  for (let bit = 0; bit < 512 * 8; bit++) {
    buffers.memory[bit >> 3] = 1 << (bit & 7);
    expect(buffers.zeroRun(0, 512, 512)).toBe(512);
    buffers.memory[bit >> 3] = 0;
  }
  expect(buffers.zeroRun(0, 512, 512)).toBe(513);
});
