import { readFileSync } from "node:fs";
import { deflateRawSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ScanBuffers } from "../../src/wasm/scan.ts";
import { Random } from "../support/random.ts";

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

describe("incompressible", () => {
  const UNIT = 65536;
  const buffers = new ScanBuffers(1, UNIT);
  const judged = (bytes: Uint8Array) => {
    buffers.memory.fill(0);
    buffers.memory.set(bytes);
    return buffers.incompressible(0, UNIT);
  };
  const saved = (bytes: Uint8Array) => 1 - deflateRawSync(bytes, { level: 6 }).length / bytes.length;
  const random = new Random(5);
  const noise = (length = UNIT) => Uint8Array.from({ length }, () => random.below(256));

  test("noise is; what has uneven bytes or repeats is not", () => {
    for (let round = 0; round < 50; round++) expect(judged(noise())).toBe(true);
    expect(judged(new Uint8Array(UNIT))).toBe(false);
    expect(judged(Buffer.from(Buffer.from(noise()).toString("base64")).subarray(0, UNIT))).toBe(false);
    const program = readFileSync(process.execPath).subarray(2 ** 24);
    const packed = deflateRawSync(program.subarray(0, 2 ** 22));
    for (let at = UNIT; at < 2 ** 20; at += UNIT)
      expect([at, judged(packed.subarray(at, at + UNIT))]).toEqual([at, true]);
    for (let at = 0; at < 100 * UNIT; at += UNIT) {
      const bytes = program.subarray(at, at + UNIT);
      if (judged(bytes)) expect([at, saved(bytes) < 0.03]).toEqual([at, true]);
    }
  });

  test("a repeat of 4 KiB is found wherever it is, at any distance", () => {
    for (let round = 0; round < 300; round++) {
      const bytes = noise();
      const to = random.below(UNIT - 4096);
      const from = random.below(UNIT - 4096);
      if (Math.abs(to - from) < 4096) continue;
      bytes.copyWithin(to, from, from + 4096);
      expect([to, from, judged(bytes)]).toEqual([to, from, false]);
    }
  });

  test("where it says yes, deflate saves under 3 %", () => {
    let yes = 0;
    for (let round = 0; round < 600; round++) {
      const bytes = noise();
      // Text, zeros, few values or copies, in runs of any length, from hardly any to all of it.
      for (let i = random.below(12); i > 0; i--) {
        const at = random.below(UNIT);
        const length = Math.min(UNIT - at, 1 + random.below(2 ** random.below(16)));
        const kind = random.below(3);
        if (kind === 0) bytes.fill(random.below(256), at, at + length);
        else if (kind === 1) bytes.copyWithin(at, random.below(UNIT), UNIT);
        else for (let p = at; p < at + length; p++) bytes[p] &= 0x7f;
      }
      if (!judged(bytes)) continue;
      yes++;
      expect([round, saved(bytes) < 0.03]).toEqual([round, true]);
    }
    expect(yes).toBeGreaterThan(50);
  });

  test("lengths that it cannot judge are tried", () => {
    buffers.memory.set(noise());
    for (const length of [512, 4096, 8192 + 512]) expect(buffers.incompressible(0, length)).toBe(false);
    for (const length of [8192, 12288, 65536]) expect(buffers.incompressible(0, length)).toBe(true);
  });
});
