// What the differential run accepts of disks, rule by rule: each is seen to hold where it should, and nothing excuses what
// stands beside it. Ours runs the program; the other side is ours with what the case says changed.
import { expect, test } from "vitest";
import { KNOWN } from "../support/qtest-known.ts";
import { Layout, type Step } from "../support/qtest-program.ts";
import { type Cases, out, proveRules, read, table } from "../support/qtest-rule.ts";
import { DataWords } from "../support/qtest-words.ts";

/** Device 0 has 4,096 sectors, device 1 more than 28 bits name. */
const PLACE = { sizes: [4096, 300 * 2 ** 21] } as const;
const FIRST = out(6, 0xe0);
const SECOND = out(6, 0xf0);
const CHS = out(6, 0xa0);
const ABORTED = { AltStatus: 0x41, Error: 0x04 };
const WELL = { AltStatus: 0x50, Error: 0 };
const OFFERS = { AltStatus: 0x58, Error: 0 };

const SRST = [out(8, 4), out(8, 0), read(7)];
const start = out(16, 9);
/** READ MULTIPLE, READ SECTORS or another, of `count` sectors. */
const sectors = (code: number, lba = 0, count = 8) => [
  ...[out(2, count), out(3, lba & 0xff), out(4, (lba >> 8) & 0xff), out(5, 0)],
  out(7, code),
];
/** The same of a command with 16 bits of Count. */
const sectors48 = (code: number, count: number) => [
  ...[out(2, count >> 8), out(3, 0), out(4, 0), out(5, 0)],
  ...sectors(code, 0, count & 0xff),
];
const dma = (address: number = Layout.Window, at: number = Layout.Table) => [
  FIRST,
  ...table(512, address),
  out(20, at, 4),
  ...sectors(0xc8, 0, 1),
  start,
];
const smart = (subcommand: number, count = 1, log = 0) => [
  ...[FIRST, out(1, subcommand), out(2, count), out(3, log), out(4, 0x4f), out(5, 0xc2)],
  out(7, 0xb0),
];
const features = (feature: number, count: number) => [FIRST, out(1, feature), out(2, count), out(7, 0xef)];
const multiple = (count: number) => [FIRST, out(2, count), out(7, 0xc6)];
const drain = (times: number, width: 2 | 4 = 2): Step => ({ do: "drain", width, times });
const noMaster: Step = { do: "master", on: false };
const trim = (feature: number, count: number) => [FIRST, out(1, feature), out(2, 0), out(2, count), out(7, 0x06)];
const diagnose = [FIRST, out(7, 0x90)];

/** One start of the bus master for two commands. */
const twice = (code: number) => [...table(2048), start, FIRST, ...sectors(code, 0, 1), ...sectors(code, 1, 1)];

const CASES: Cases = {
  IDNF: {
    holds: [[[FIRST, ...sectors(0x20, 5000)], "Error", { Error: 4 }]],
    beside: [
      [[FIRST, ...sectors(0x20, 5000)], "Error", { Error: 0x40 }],
      [[FIRST, ...sectors(0x20)], "AltStatus", ABORTED],
    ],
  },
  "CHS outside the translation": {
    holds: [[[CHS, ...sectors(0x20, 0)], "AltStatus", OFFERS]],
    beside: [
      [[CHS, ...sectors(0x20, 1)], "AltStatus", ABORTED],
      [[FIRST, ...sectors(0x20, 5000)], "AltStatus", OFFERS],
    ],
  },
  "READ VERIFY beyond the end": {
    holds: [[[FIRST, ...sectors(0x40, 5000)], "AltStatus", WELL]],
    beside: [
      [[FIRST, ...sectors(0x40, 5)], "AltStatus", ABORTED],
      [[FIRST, ...sectors(0xc8, 5000), start], "AltStatus", WELL],
    ],
  },
  "INTRQ of the drive that is not selected": {
    holds: [[[FIRST, out(7, 0xec), SECOND], "interrupt line", { "interrupt line": 1 }]],
    beside: [
      [[FIRST, out(7, 0xec)], "interrupt line", { "interrupt line": 0 }],
      [[FIRST, out(7, 0xec), SECOND], "BmStatus", { BmStatus: 0, "interrupt line": 1 }],
    ],
  },
  "READ NATIVE MAX of more than 28 bits": {
    holds: [[[SECOND, out(7, 0xf8)], "LbaMid", { LbaMid: 0x80 }]],
    beside: [
      [[FIRST, out(7, 0xf8)], "LbaMid", { LbaMid: 0 }],
      [[SECOND, out(7, 0xf8)], "Count", { Count: 9 }],
      [[SECOND, out(7, 0x27)], "LbaLow", { LbaLow: 9 }],
    ],
  },
  "READ NATIVE MAX in CHS form": {
    holds: [[[CHS, out(7, 0xf8)], "LbaLow", { LbaLow: 1 }]],
    beside: [
      [[FIRST, out(7, 0xf8)], "LbaLow", { LbaLow: 1 }],
      [[CHS, out(7, 0xf8)], "AltStatus", ABORTED],
      [[CHS, out(2, 0xf8)], "LbaLow", { LbaLow: 1 }],
    ],
  },
  "nIEN set while an interrupt is pending": {
    holds: [[[FIRST, out(7, 0xec), out(8, 2)], "interrupt line", { "interrupt line": 1 }]],
    beside: [
      [[FIRST, out(7, 0xec), read(7), out(8, 2)], "interrupt line", { "interrupt line": 1 }],
      [[FIRST, out(8, 2), out(7, 0xec)], "interrupt line", { "interrupt line": 1 }],
    ],
  },
  "nIEN cleared while an interrupt is pending": {
    holds: [[[FIRST, out(8, 2), out(7, 0xec), out(8, 0)], "interrupt line", { "interrupt line": 0 }]],
    beside: [
      [[FIRST, out(8, 2), out(8, 0)], "interrupt line", { "interrupt line": 1 }],
      [[FIRST, out(8, 2), out(8, 0), out(7, 0xec)], "interrupt line", { "interrupt line": 0 }],
    ],
  },
  "BMIDE Interrupt without a rising edge": {
    holds: [[[FIRST, ...sectors(0x20), out(18, 4), drain(256)], "BmStatus", { BmStatus: 4 }]],
    beside: [
      [[FIRST, ...sectors(0x20), out(18, 4), read(7), drain(256)], "BmStatus", { BmStatus: 0 }],
      [[FIRST, ...sectors(0x20), out(18, 4), drain(256)], "BmStatus", { BmStatus: 2 }],
    ],
  },
  "PRDs outside memory": {
    holds: [
      [dma(0x4000_0000), "BmStatus", { BmStatus: 4 }],
      [dma(Layout.Window, 0x4000_0000), "BmStatus", { BmStatus: 4 }],
    ],
    // Inside; and where the table is elsewhere, but memory.
    beside: [
      [dma(), "BmStatus", { BmStatus: 2 }],
      [dma(Layout.Window, 0x10000), "BmStatus", { BmStatus: 2 }],
    ],
  },
  "a DMA command that a reset has ended": {
    holds: [[[FIRST, ...table(512), ...sectors(0xc8, 0, 1), ...SRST, start], "BmStatus", { BmStatus: 4 }]],
    beside: [
      [[FIRST, ...table(512), ...sectors(0xc8, 0, 1), start], "BmStatus", { BmStatus: 6 }],
      [[FIRST, ...table(512), ...sectors(0x20, 0, 1), ...SRST, start], "BmStatus", { BmStatus: 6 }],
      [[FIRST, ...table(512), ...sectors(0xc8, 0, 1), ...SRST], "BmStatus", { BmStatus: 2 }],
    ],
  },
  "the descriptor pointer while Active": {
    holds: [
      // What the second has written is found later.
      [[...twice(0xca), out(16, 0), ...sectors(0x20, 1, 1), drain(256)], "value 0", {}, { 0: 9 }],
      [[...table(512), start, out(20, 0x10000, 4)], "BmTable", { BmTable: 0 }],
      [[...table(1024), start, FIRST, ...sectors(0xc8, 0, 1), ...sectors(0xc8, 0, 1)], "BmStatus", { BmStatus: 4 }],
    ],
    beside: [
      [[...table(512), start], "BmTable", { BmTable: 0 }],
      [[...table(512), start, out(16, 0), out(20, 0x10000, 4)], "BmTable", { BmTable: 0 }],
      [[...twice(0xc8), out(16, 0), ...sectors(0x20, 1, 1), drain(256)], "value 0", {}, { 0: 9 }],
      // Of two commands the second alone is by DMA.
      [
        [...table(1024), start, FIRST, ...sectors(0x20, 0, 1), drain(256), ...sectors(0xc8, 0, 1)],
        "Count",
        { Count: 9 },
      ],
    ],
  },
  "48-bit command with LBA clear": {
    holds: [[[CHS, ...sectors48(0x24, 1)], "AltStatus", OFFERS]],
    beside: [
      [[FIRST, ...sectors48(0x24, 1)], "AltStatus", ABORTED],
      [[CHS, out(7, 0xa1)], "AltStatus", OFFERS],
    ],
  },
  "EXECUTE DIAGNOSTIC leaves the other drive alone": {
    holds: [[[...diagnose, SECOND], "Count", { Count: 9 }]],
    beside: [
      [diagnose, "Count", { Count: 9 }],
      [[...diagnose, FIRST], "Count", { Count: 9 }],
      [[...diagnose, SECOND], "BmStatus", { BmStatus: 2 }],
    ],
  },
  "EXECUTE DIAGNOSTIC leaves HOB alone": {
    holds: [[[...diagnose, out(8, 0x80)], "Count", { Count: 9 }]],
    beside: [
      [[...diagnose, out(8, 0)], "Count", { Count: 9 }],
      [[FIRST, out(8, 0x80)], "Count", { Count: 9 }],
    ],
  },
  "EXECUTE DIAGNOSTIC with device 1 selected": {
    holds: [[[SECOND, out(7, 0x90), out(7, 0xec), drain(1)], "value 0", {}, { 0: 9 }]],
    beside: [
      [[FIRST, out(7, 0x90), out(7, 0xec), drain(1)], "value 0", {}, { 0: 9 }],
      [[SECOND, out(7, 0x90), SECOND, out(7, 0xec), drain(1)], "value 0", {}, { 0: 9 }],
      [[SECOND, out(7, 0xec), drain(1)], "value 0", {}, { 0: 9 }],
    ],
  },
  "SET MULTIPLE over SRST": {
    holds: [[[...multiple(4), ...SRST, ...sectors(0xc4)], "Count", { Count: 9 }]],
    // No reset; set again after it; the default; another command; the other drive.
    beside: [
      [[...multiple(4), ...sectors(0xc4)], "Count", { Count: 9 }],
      [[...multiple(4), ...SRST, ...multiple(8), ...sectors(0xc4)], "Count", { Count: 9 }],
      [[...multiple(16), ...SRST, ...sectors(0xc4)], "Count", { Count: 9 }],
      [[...multiple(4), ...SRST, ...sectors(0x20)], "Count", { Count: 9 }],
      [[...multiple(4), ...SRST, SECOND, ...sectors(0xc4)], "Count", { Count: 9 }],
    ],
  },
  "IDLE IMMEDIATE ends a command": {
    holds: [[[FIRST, ...sectors(0x20), out(7, 0xe1)], "AltStatus", OFFERS]],
    beside: [
      [[FIRST, out(7, 0xe1)], "AltStatus", ABORTED],
      [[FIRST, ...sectors(0x20), out(7, 0xe0)], "AltStatus", WELL],
    ],
  },
  "writing without PCI bus mastering": {
    holds: [[[noMaster, FIRST, ...table(512), ...sectors(0xca, 0, 1), out(16, 1)], "AltStatus", WELL]],
    beside: [
      [[FIRST, ...table(512), ...sectors(0xca, 0, 1), out(16, 1)], "AltStatus", ABORTED],
      [[noMaster, FIRST, ...table(512), ...sectors(0xc8, 0, 1), start], "AltStatus", ABORTED],
    ],
  },
  "reading 65,536 sectors without PCI bus mastering": {
    holds: [[[noMaster, SECOND, ...table(512), start, ...sectors48(0x25, 0)], "BmStatus", { BmStatus: 4 }]],
    beside: [
      [[SECOND, ...table(512), start, ...sectors48(0x25, 0)], "BmStatus", { BmStatus: 4 }],
      [[noMaster, SECOND, ...table(512), start, ...sectors48(0x25, 1)], "BmStatus", { BmStatus: 4 }],
      [[noMaster, SECOND, ...table(512), start, ...sectors48(0x25, 0)], "BmStatus", { BmStatus: 1 }],
    ],
  },
  "commands that QEMU lacks": {
    holds: [[[FIRST, out(7, 0xe4)], "AltStatus", ABORTED]],
    beside: [
      [[FIRST, out(7, 0xec)], "AltStatus", ABORTED],
      [[FIRST, out(7, 0xe4)], "AltStatus", WELL],
    ],
  },
  "SECURITY FREEZE LOCK leaves Count alone": {
    holds: [[[FIRST, out(2, 5), out(7, 0xf5)], "Count", { Count: 0 }]],
    beside: [
      [[FIRST, out(2, 5), out(7, 0xf5)], "LbaLow", { LbaLow: 9 }],
      [[FIRST, out(2, 5), out(7, 0xe1)], "Count", { Count: 0 }],
    ],
  },
  "SMART READ LOG": {
    holds: [[smart(0xd5), "AltStatus", ABORTED]],
    beside: [
      [smart(0xd5), "Count", { Count: 9 }],
      [smart(0xd0), "AltStatus", ABORTED],
    ],
  },
  "SMART ATTRIBUTE AUTOSAVE": {
    holds: [[smart(0xd2, 0xf1), "AltStatus", ABORTED]],
    beside: [
      [smart(0xd2, 0xf1), "Count", { Count: 9 }],
      [smart(0xda), "AltStatus", ABORTED],
    ],
  },
  "CHECK POWER MODE after STANDBY": {
    holds: [[[FIRST, out(7, 0xe0), out(7, 0xe5)], "Count", { Count: 0xff }]],
    beside: [
      [[FIRST, out(7, 0xe5)], "Count", { Count: 0 }],
      [[FIRST, out(7, 0xe0), out(7, 0xe5)], "LbaLow", { LbaLow: 9 }],
    ],
  },
  "HOB of Count while sectors move": {
    holds: [
      [[FIRST, ...sectors48(0x24, 0x100), drain(256), out(8, 0x80)], "Count", { Count: 1 }],
      [[FIRST, ...sectors48(0x24, 0), drain(256), out(8, 0x80)], "Count", { Count: 0 }],
    ],
    beside: [
      // Not what was written; the low byte; a command of 28 bits; one that moves nothing.
      [[FIRST, ...sectors48(0x24, 0x100), drain(256), out(8, 0x80)], "Count", { Count: 2 }],
      [[FIRST, ...sectors48(0x24, 0x100), drain(256), out(8, 0)], "Count", { Count: 1 }],
      [[FIRST, ...sectors48(0x20, 0x100), drain(256), out(8, 0x80)], "Count", { Count: 0 }],
      [[FIRST, out(2, 1), out(2, 0), out(7, 0x27), out(8, 0x80)], "Count", { Count: 0 }],
    ],
  },
  "SMART subcommands that QEMU lacks": {
    holds: [[smart(0xd3), "AltStatus", ABORTED]],
    beside: [
      [smart(0xd8), "AltStatus", ABORTED],
      [smart(0xd3), "Count", { Count: 9 }],
    ],
  },
  "DATA SET MANAGEMENT, reserved bits and counts": {
    holds: [
      [trim(1, 0), "AltStatus", OFFERS],
      [trim(3, 1), "AltStatus", ABORTED],
    ],
    beside: [
      [trim(1, 1), "Count", { Count: 9 }],
      [trim(0, 1), "Error", { Error: 0x10 }],
    ],
  },
  "INITIALIZE DEVICE PARAMETERS of 0 sectors a track": {
    holds: [[[FIRST, out(2, 0), out(7, 0x91)], "AltStatus", WELL]],
    beside: [
      [[FIRST, out(2, 63), out(7, 0x91)], "AltStatus", ABORTED],
      [[FIRST, out(2, 0), out(7, 0x92)], "AltStatus", WELL],
    ],
  },
  "SET FEATURES values that are reserved": {
    holds: [
      [features(0x03, 0x47), "AltStatus", WELL],
      [features(0x05, 0), "AltStatus", WELL],
    ],
    beside: [
      [features(0x03, 0x45), "AltStatus", ABORTED],
      [features(0x99, 0x47), "AltStatus", WELL],
    ],
  },
  "SRST held": {
    holds: [
      [[FIRST, out(8, 4), out(2, 1)], "AltStatus", { AltStatus: 0x50 }],
      [[FIRST, out(8, 4), read(7)], "value 0", { AltStatus: 0x50 }, { 0: 0x50 }],
    ],
    beside: [
      // Both are busy; no status; it is over.
      [[FIRST, out(8, 4), read(1)], "value 0", {}, { 0: 9 }],
      [[FIRST, out(8, 4), out(2, 1)], "BmTable", { AltStatus: 0x50, BmTable: 4 }],
      [[FIRST, ...SRST], "AltStatus", { AltStatus: 0 }],
    ],
  },
  "32 bits where 16 are left": {
    holds: [[[FIRST, ...sectors(0x20), drain(255), drain(1, 4)], "value 0", {}, { 0: 0 }]],
    beside: [
      [[FIRST, ...sectors(0x20), drain(254), drain(1, 4)], "value 0", {}, { 0: 0 }],
      [[FIRST, ...sectors(0x20), drain(255), drain(1)], "value 0", {}, { 0: 0 }],
    ],
  },
  "SRST with device 1 selected": {
    holds: [[[SECOND, ...SRST, out(7, 0xec), drain(1)], "value 0", {}, { 0: 9 }]],
    beside: [
      [[FIRST, ...SRST, out(7, 0xec), drain(1)], "value 0", {}, { 0: 9 }],
      [[SECOND, ...SRST, SECOND, out(7, 0xec), drain(1)], "value 0", {}, { 0: 9 }],
    ],
  },
};

proveRules(KNOWN, CASES, PLACE);

test("words of SMART data: those listed, of the command that they are of", () => {
  const words = (features: number, log: number) => {
    const follow = new DataWords();
    for (const step of [out(1, features), out(3, log), out(7, 0xb0)]) follow.step(step, 0x50);
    return Array.from({ length: 256 }, (_, i) => i).filter((i) => follow.mask(drain(256), i) !== 0);
  };
  expect(words(0xd1, 0)).toEqual([43, 49, 255]);
  expect(words(0xd5, 1)).toEqual([]);
  expect(words(0xd5, 6)).not.toContain(0);
  expect(words(0xd0, 0)).not.toContain(184);
});

test("DEVICE RESET ends the data of what hears it", () => {
  const words = (after: number) => {
    const follow = new DataWords();
    follow.step(out(7, 0xec), 0x50, 0x58);
    follow.step(out(7, 0x08), 0x58, after);
    return follow.mask(drain(256), 4);
  };
  // A disk with data to give, and a drive that has reset itself.
  expect(words(0x58)).toBe(0xffff);
  expect(words(0x00)).toBe(0);
});
