import fc from "fast-check";
import { expect, test } from "vitest";
import { Pattern } from "../../../src/guest/workload/pattern.ts";

const place = fc.record({
  sector: fc.maxSafeNat().map((n) => n % 2 ** 44),
  generation: fc.nat({ max: 2 ** 32 - 1 }),
});

test("what fill writes, check accepts, for any seed, sector and generation", () => {
  fc.assert(
    fc.property(fc.integer(), place, (seed, { sector, generation }) => {
      const words = new Uint32Array(130);
      const pattern = new Pattern(seed);
      pattern.fill(words, 1, sector, generation);
      expect(pattern.check(words, 1, sector, generation)).toBe(true);
      expect([words[0], words[129]]).toEqual([0, 0]);
    }),
  );
});

test("any flipped bit shows, and is told from staleness", () => {
  const pattern = new Pattern(1);
  const words = new Uint32Array(128);
  pattern.fill(words, 0, 12345, 6);
  for (let bit = 0; bit < 4096; bit++) {
    words[bit >> 5] ^= 1 << (bit & 31);
    expect(pattern.check(words, 0, 12345, 6)).toBe(false);
    if (bit === 77 * 8 + 1) {
      expect(pattern.explain(words, 0, 12345, 6)).toMatch(/sector 12345: 1 of 512 bytes are wrong, the first at 77 /);
    }
    words[bit >> 5] ^= 1 << (bit & 31);
  }
});

test("another generation, sector or seed shows, in almost every word", () => {
  fc.assert(
    fc.property(fc.integer(), place, place, (seed, a, b) => {
      fc.pre(a.sector !== b.sector || a.generation !== b.generation);
      const pattern = new Pattern(seed);
      const words = new Uint32Array(128);
      pattern.fill(words, 0, b.sector, b.generation);
      expect(pattern.check(words, 0, a.sector, a.generation)).toBe(false);
      expect(new Pattern(seed + 1).check(words, 0, b.sector, b.generation)).toBe(false);
    }),
  );
});

test("consecutive generations of one sector never agree beyond its name", () => {
  const pattern = new Pattern(7);
  const [a, b] = [new Uint32Array(128), new Uint32Array(128)];
  for (let generation = 1; generation < 2000; generation++) {
    pattern.fill(a, 0, 99, generation);
    pattern.fill(b, 0, 99, generation + 1);
    expect(a.subarray(2).some((word, i) => word === b[i + 2])).toBe(false);
  }
});

test("explain tells a stale read from a misplaced one", () => {
  const pattern = new Pattern(3);
  const words = new Uint32Array(128);
  pattern.fill(words, 0, 40, 2);
  expect(pattern.explain(words, 0, 40, 5)).toBe("sector 40 holds generation 2 where 5 was written last");
  expect(pattern.explain(words, 0, 41, 2)).toBe("sector 41 holds what belongs to sector 40");
  expect(pattern.explain(new Uint32Array(128), 0, 40, 5)).toMatch(/^sector 40: 5\d\d of 512 bytes are wrong/);
});
