// Codes and layout of data sectors against ECMA-130 itself: parity by its equations, not by a second encoder.
import { expect, test } from "vitest";
import { lbaToMsf, msfToLba } from "../../../src/host/media/address.ts";
import { edc } from "../../../src/host/media/ecc.ts";
import { complete, emptySector, RAW, type SectorForm, STORED, typeOf } from "../../../src/host/media/sector.ts";
import { crcQ } from "../../../src/host/media/subchannel.ts";
import { sectors } from "../../support/disc.ts";

/** A product in GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1, bit by bit. */
function times(a: number, b: number): number {
  let product = 0;
  for (let bit = 7; bit >= 0; bit--) {
    product = (product << 1) ^ (product & 0x80 ? 0x11d : 0);
    if ((b >> bit) & 1) product ^= a;
  }
  return product;
}

/** Annex B: a code word v is right when both Σ v_i and Σ α^(n-1-i) v_i are 0. */
function syndromes(word: number[]): [number, number] {
  let sum = 0;
  let weighted = 0;
  for (const value of word) {
    sum ^= value;
    weighted = times(weighted, 2) ^ value;
  }
  return [sum, weighted];
}

/** Annex B: the sector without its sync is two planes, of even and odd bytes, of 26 rows by 43 columns (P: 24 + 2). */
function parityHolds(sector: Uint8Array, headerless: boolean): boolean {
  const byte = (plane: number, position: number) => {
    const at = 2 * position + plane;
    return headerless && at < 4 ? 0 : sector[12 + at];
  };
  for (let plane = 0; plane < 2; plane++) {
    for (let column = 0; column < 43; column++) {
      const word = Array.from({ length: 26 }, (_, row) => byte(plane, 43 * row + column));
      if (syndromes(word).some((value) => value !== 0)) return false;
    }
    for (let diagonal = 0; diagonal < 26; diagonal++) {
      const data = Array.from({ length: 43 }, (_, m) => byte(plane, (44 * m + 43 * diagonal) % 1118));
      const word = [...data, byte(plane, 1118 + diagonal), byte(plane, 1144 + diagonal)];
      if (syndromes(word).some((value) => value !== 0)) return false;
    }
  }
  return true;
}

function made(form: SectorForm, lba: number): Uint8Array {
  const sector = new Uint8Array(RAW);
  sector.set(sectors(1, STORED[form].bytes, 3), STORED[form].at);
  complete(form, lba, sector);
  return sector;
}

test("mode 1: sync, header, EDC, and every P and Q code word", () => {
  const sector = made("mode1/2048", 16);
  expect([...sector.subarray(0, 16)]).toEqual([0, ...new Array(10).fill(255), 0, 0x00, 0x02, 0x16, 1]);
  const stored = new DataView(sector.buffer).getUint32(2064, true);
  expect(stored).toBe(edc(sector, 0, 2064));
  expect(parityHolds(sector, false)).toBe(true);
  sector[1000] ^= 1;
  expect(parityHolds(sector, false)).toBe(false);
});

test("mode 2 form 1 leaves the header out of its parity", () => {
  const sector = made("mode2/2048", 75 * 60 * 9);
  expect([...sector.subarray(12, 24)]).toEqual([0x09, 0x02, 0x00, 2, 0, 0, 8, 0, 0, 0, 8, 0]);
  expect(typeOf("mode2/2048", sector)).toBe("form1");
  expect(parityHolds(sector, true)).toBe(true);
  expect(parityHolds(sector, false)).toBe(false);
});

test("mode 2 form 2: the EDC that every empty PlayStation sector bears", () => {
  const sector = new Uint8Array(RAW);
  sector[18] = sector[22] = 0x20;
  // 3F 13 B0 BE on the disc.
  expect(edc(sector, 16, 2348)).toBe(0xbeb0133f);
  const filled = made("mode2/2324", 0);
  expect(typeOf("mode2/2324", filled)).toBe("form2");
  expect(new DataView(filled.buffer).getUint32(2348, true)).toBe(edc(filled, 16, 2348));
});

test("a gap has the mode of its track", () => {
  const sector = new Uint8Array(RAW).fill(9);
  emptySector("audio", 5, sector);
  expect(sector.every((byte) => byte === 0)).toBe(true);
  emptySector("mode1/2352", 5, sector);
  expect(sector[15]).toBe(1);
  expect(parityHolds(sector, false)).toBe(true);
  emptySector("mode2/2352", 5, sector);
  expect(sector[15]).toBe(2);
  expect(parityHolds(sector, true)).toBe(true);
});

test("addresses", () => {
  expect(lbaToMsf(0)).toEqual({ minute: 0, second: 2, frame: 0 });
  expect(lbaToMsf(-150)).toEqual({ minute: 0, second: 0, frame: 0 });
  expect(msfToLba(0, 2, 0)).toBe(0);
  expect(msfToLba(99, 59, 74)).toBe(-151);
  expect(lbaToMsf(2 ** 31)).toEqual({ minute: 255, second: 59, frame: 74 });
  for (const lba of [0, 1, 74, 75, 4499, 4500, 333000]) {
    const { minute, second, frame } = lbaToMsf(lba);
    expect(msfToLba(minute, second, frame)).toBe(lba);
  }
});

test("the CRC of sub-channel Q is CRC-16/GENIBUS", () => {
  // The check value of that CRC is D64E over "123456789" with a start value of all ones; ours starts at 0.
  const bytes = new TextEncoder().encode("1234567890");
  let crc = 0;
  for (const byte of bytes) {
    for (let bit = 7; bit >= 0; bit--) {
      const top = ((crc >> 15) & 1) ^ ((byte >> bit) & 1);
      crc = ((crc << 1) & 0xffff) ^ (top ? 0x1021 : 0);
    }
  }
  expect(crcQ(bytes)).toBe(crc ^ 0xffff);
  // Appended, it leaves a remainder of 1D0F (its complement's) whatever the bytes.
  let remainder = 0;
  const q = crcQ(bytes);
  for (const byte of [...bytes, q >> 8, q & 0xff]) {
    for (let bit = 7; bit >= 0; bit--) {
      const top = ((remainder >> 15) & 1) ^ ((byte >> bit) & 1);
      remainder = ((remainder << 1) & 0xffff) ^ (top ? 0x1021 : 0);
    }
  }
  expect(remainder.toString(16)).toBe("1d0f");
});
