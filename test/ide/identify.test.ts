import { expect, test } from "vitest";
import { AtaTransfer } from "../../assembly/spec/ata.ts";
import { DriveField, IdeField } from "../../assembly/spec/ide.ts";
import { parseIdentify } from "../../src/guest/ata/identify.ts";
import { IdeContext } from "../support/ide-context.ts";

function words(ide: IdeContext): Uint16Array {
  ide.core.u8.fill(0xa5, ide.at + IdeField.Buffer, ide.at + IdeField.Buffer + 512);
  ide.core.call.ideIdentify(ide.at);
  return new Uint16Array(ide.core.memory.buffer.slice(ide.at + IdeField.Buffer, ide.at + IdeField.Buffer + 512));
}

function put(ide: IdeContext, field: DriveField, value: number | string): void {
  const at = ide.drive(0) + field;
  if (typeof value === "number") ide.core.set(at, value);
  else for (let i = 0; i < value.length; i++) ide.core.u8[at + i] = value.charCodeAt(i);
}

test("strings are byte-swapped, as the standard has them", () => {
  const ide = new IdeContext();
  put(ide, DriveField.Serial, "SERIAL0123456789ABCD");
  put(ide, DriveField.Firmware, "FW 1.0  ");
  put(ide, DriveField.Model, "A MODEL NAME".padEnd(40));
  const w = words(ide);
  expect(w[10]).toBe(0x5345);
  expect(w[27]).toBe(0x4120);
  const identity = parseIdentify(w);
  expect(identity).toMatchObject({ serial: "SERIAL0123456789ABCD", firmware: "FW 1.0", model: "A MODEL NAME" });
});

test("what libata reads: word by word", () => {
  const w = words(new IdeContext([131072]));
  const expected: Record<number, number> = {
    0: 0x0040,
    1: 130,
    3: 16,
    6: 63,
    47: 0x8010,
    49: 0x0b00,
    53: 7,
    54: 130,
    55: 16,
    56: 63,
    57: (130 * 16 * 63) & 0xffff,
    58: (130 * 16 * 63) >>> 16,
    59: 0x0110,
    60: 0,
    61: 2,
    62: 7,
    63: 7,
    64: 3,
    65: 120,
    68: 120,
    80: 0x00f0,
    83: 0x7400,
    84: 0x4000,
    88: 0x203f,
    93: 0x6001,
    100: 0,
    101: 2,
    102: 0,
    103: 0,
  };
  for (const [word, value] of Object.entries(expected)) expect([word, w[Number(word)]]).toEqual([word, value]);
});

test("capacity: 28 bits are clipped, 48 are whole", () => {
  const sectors = 0x0002_3456_789a;
  const w = words(new IdeContext([sectors]));
  expect(w[60] + w[61] * 65536).toBe(0x0fffffff);
  expect(parseIdentify(w).sectors).toBe(sectors);
  expect(parseIdentify(words(new IdeContext([1000]))).sectors).toBe(1000);
});

test.each([
  [AtaTransfer.UltraDma | 2, 62, 0x0007, 63, 0x0007, 0x043f],
  [AtaTransfer.MultiWordDma | 2, 62, 0x0007, 63, 0x0407, 0x003f],
  [AtaTransfer.SingleWordDma | 1, 62, 0x0207, 63, 0x0007, 0x003f],
  [AtaTransfer.PioFlow | 4, 62, 0x0007, 63, 0x0007, 0x003f],
])("transfer mode %i shows in the words of its kind alone", (mode, a, single, b, multi, ultra) => {
  const ide = new IdeContext();
  put(ide, DriveField.TransferMode, mode);
  const w = words(ide);
  expect([w[a], w[b], w[88]]).toEqual([single, multi, ultra]);
});

test("write cache, look-ahead and MULTIPLE follow their settings", () => {
  const ide = new IdeContext();
  put(ide, DriveField.WriteCache, 0);
  put(ide, DriveField.ReadAhead, 1);
  put(ide, DriveField.Multiple, 0);
  const off = words(ide);
  expect([off[85] & 0x60, off[59]]).toEqual([0x40, 0]);
  put(ide, DriveField.WriteCache, 1);
  put(ide, DriveField.ReadAhead, 0);
  put(ide, DriveField.Multiple, 8);
  const on = words(ide);
  expect([on[85] & 0x60, on[59]]).toEqual([0x20, 0x0108]);
});
