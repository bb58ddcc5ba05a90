import { createCipheriv, createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SectorCipher, type SectorCipherOptions } from "../../src/wasm/cipher.ts";

const hex = (text: string) => Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ""), "hex"));

/** The same by Node's crypto: OpenSSL. */
function theirs(options: SectorCipherOptions, bytes: Uint8Array, number: number): Uint8Array {
  const { mode, key, second, sectorBytes = 512 } = options;
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += sectorBytes) {
    const iv = Buffer.alloc(16);
    iv.writeBigUInt64LE(BigInt(number + at / 512));
    const bits = key.length * 8;
    let cipher: ReturnType<typeof createCipheriv>;
    if (mode === "xts") cipher = createCipheriv(`aes-${bits}-xts`, Buffer.concat([key, second!]), iv);
    else {
      if (mode === "cbc-essiv") {
        const ecb = createCipheriv(`aes-${second!.length * 8}-ecb`, second!, null).setAutoPadding(false);
        ecb.update(iv).copy(iv);
      }
      cipher = createCipheriv(`aes-${bits}-cbc`, key, iv).setAutoPadding(false);
    }
    parts.push(cipher.update(bytes.subarray(at, at + sectorBytes)), cipher.final());
  }
  return new Uint8Array(Buffer.concat(parts));
}

describe("known answers", () => {
  // FIPS 197, appendix C: a block of CBC from zeros is the block itself, so sector 0 of "cbc-plain" begins with it.
  test.each([
    ["000102030405060708090a0b0c0d0e0f", "69c4e0d86a7b0430d8cdb78070b4c55a"],
    ["000102030405060708090a0b0c0d0e0f1011121314151617", "dda97ca4864cdfe06eaf70a0ec0d7191"],
    ["000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "8ea2b7ca516745bfeafc49904b496089"],
  ])("FIPS 197, key %s", (key, expected) => {
    const cipher = new SectorCipher({ mode: "cbc-plain", key: hex(key) });
    const sector = new Uint8Array(512);
    sector.set(hex("00112233445566778899aabbccddeeff"));
    cipher.encrypt(sector, 0);
    expect(sector.subarray(0, 16)).toEqual(hex(expected));
    cipher.decrypt(sector, 0);
    expect(sector.subarray(0, 16)).toEqual(hex("00112233445566778899aabbccddeeff"));
    expect(sector.subarray(16).every((byte) => byte === 0)).toBe(true);
  });

  // IEEE 1619-2007, annex B, vector 4 (AES-128, sector 0) and vector 10 (AES-256, sector 0xff): their first blocks.
  test.each([
    [
      "27182818284590452353602874713526",
      "31415926535897932384626433832795",
      0,
      "27a7479befa1d476489f308cd4cfa6e2 a96e4bbe3208ff25287dd3819616e89c",
    ],
    [
      "2718281828459045235360287471352662497757247093699959574966967627",
      "3141592653589793238462643383279502884197169399375105820974944592",
      255,
      "1c3b3a102f770386e4836c99e370cf9b ea00803f5e482357a4ae12d414a3e63b",
    ],
  ])("IEEE 1619, key %s", (key, second, number, expected) => {
    const sector = Uint8Array.from({ length: 512 }, (_, i) => i & 0xff);
    new SectorCipher({ mode: "xts", key: hex(key), second: hex(second) }).encrypt(sector, number);
    expect(sector.subarray(0, 32)).toEqual(hex(expected));
  });
});

test("any sectors, keys and numbers: what OpenSSL makes of them, and back", () => {
  const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
  const keys = fc.constantFrom(16, 32).chain((size) => fc.tuple(bytes(size), bytes(size)));
  fc.assert(
    fc.property(
      fc.constantFrom("xts" as const, "cbc-plain" as const, "cbc-essiv" as const),
      keys,
      fc.constantFrom(512, 1024, 4096),
      fc.integer({ min: 1, max: 40 }),
      fc.oneof(
        fc.nat(1000),
        fc.maxSafeNat().map((number) => Math.floor(number / 2)),
      ),
      fc.integer(),
      (mode, [key, other], sectorBytes, count, number, seed) => {
        const second = mode === "cbc-essiv" ? createHash("sha256").update(key).digest() : other;
        if (mode === "xts" && Buffer.compare(key, second) === 0) return; // OpenSSL refuses equal halves
        const options = { mode, key, second: new Uint8Array(second), sectorBytes };
        const cipher = new SectorCipher(options);
        const plain = Uint8Array.from(
          { length: count * sectorBytes },
          (_, i) => Math.imul(i + seed, 0x9e3779b1) >>> 24,
        );
        const encrypted = new Uint8Array(plain.length);
        cipher.encrypt(plain, number, encrypted);
        expect(Buffer.compare(encrypted, theirs(options, plain, number))).toBe(0);
        cipher.decrypt(encrypted, number);
        expect(Buffer.compare(encrypted, plain)).toBe(0);
      },
    ),
    { numRuns: 300 },
  );
});

test("of a narrow number the lower 32 bits count, sector by sector", () => {
  const key = new Uint8Array(32).fill(7);
  const second = new Uint8Array(32).fill(9);
  const wide = new SectorCipher({ mode: "xts", key, second });
  const narrow = new SectorCipher({ mode: "xts", key, second, narrow: true });
  const sectors = twoSectors(narrow, 2 ** 32 - 1);
  expect(sectors.subarray(0, 512)).toEqual(twoSectors(wide, 2 ** 32 - 1).subarray(0, 512));
  expect(sectors.subarray(512)).toEqual(twoSectors(wide, 0).subarray(0, 512));
});

function twoSectors(cipher: SectorCipher, number: number): Uint8Array {
  const bytes = new Uint8Array(1024).fill(3);
  cipher.encrypt(bytes, number);
  return bytes;
}

test("a wiped key is of no use, and parts of sectors are refused", () => {
  const cipher = new SectorCipher({ mode: "cbc-plain", key: new Uint8Array(16) });
  expect(() => cipher.encrypt(new Uint8Array(500), 0)).toThrow(/not whole sectors/);
  cipher.wipe();
  expect(() => cipher.encrypt(new Uint8Array(512), 0)).toThrow(/wiped/);
});
