// What the differential run accepts of a CD drive, rule by rule: each is seen to hold where it should, and nothing excuses
// what stands beside it.
import { expect, test } from "vitest";
import { PacketOp } from "../../assembly/spec/mmc.ts";
import { cdb } from "../support/cd.ts";
import { CD_KNOWN } from "../support/qtest-cd-known.ts";
import { looseWords } from "../support/qtest-cd-words.ts";
import { BLOCK, type Cases, out, packet, proveRules, READ, read, table } from "../support/qtest-rule.ts";
import { DataWords } from "../support/qtest-words.ts";

/** The CD drive is device 0, a disk device 1. */
const PLACE = { sizes: [0, 4096], cd: { drive: 0, sectors: 400 } } as const;
const CD = out(6, 0xa0);
const DISK = out(6, 0xb0);
const ABORTED = { AltStatus: 0x41, Error: 0x04 };
const REFUSED = { AltStatus: 0x41, Error: 0x50 };

const start = out(16, 9);
const dma = (bytes: readonly number[], room: number) => [...table(room), ...packet(bytes, 2048, 1), start];
/** A command of which the first bytes, the last and the allocation length matter. */
const sized = (code: number, bytes: number[], size: number, last = 0) => {
  const all = [code, ...bytes, ...new Array(6 - bytes.length).fill(0), size >> 8, size & 0xff, last];
  return all;
};
const toc = (format: number, track: number, old = 0) =>
  packet(sized(PacketOp.ReadToc, [0, format, 0, 0, 0, track], 254, old << 6));
const readCd = (type: number, flags: number, sub = 0) => [PacketOp.ReadCd, type, 0, 0, 0, 1, 0, 0, 1, flags, sub];
const SENSE = packet([PacketOp.RequestSense, 0, 0, 0, 18]);
const EVENT = packet([PacketOp.GetEventStatus, 1, 0, 0, 0x10, 0, 0, 0, 8]);
const EJECT = [...packet([PacketOp.StartStopUnit, 0, 0, 0, 2]), read(7)];
const SRST = [out(8, 4), out(8, 0), CD];
const features = (feature: number, count = 0) => [out(1, feature), out(2, count), out(7, 0xef)];
const inquiry = (size: number) => [PacketOp.Inquiry, 0, 0, 0, size];

const CASES: Cases = {
  "power commands of a CD drive": {
    holds: [
      [[CD, out(7, 0xe0)], "AltStatus", ABORTED],
      [[CD, out(7, 0xe5)], "AltStatus", ABORTED],
      [[CD, out(7, 0xe6)], "AltStatus", ABORTED],
    ],
    beside: [
      [[DISK, out(7, 0xe0)], "AltStatus", ABORTED],
      [[CD, out(7, 0xa1)], "AltStatus", ABORTED],
      [[CD, out(7, 0xe0)], "AltStatus", { AltStatus: 0x41, Error: 0x50 }],
    ],
  },
  "diagnostic code after DEVICE RESET": {
    holds: [[[CD, out(7, 0x08)], "Error", { Error: 0 }]],
    beside: [
      [[CD, out(7, 0x08)], "Error", { Error: 4 }],
      [[CD, out(7, 0x08)], "Count", { Error: 0, Count: 3 }],
      [[CD, out(7, 0x90)], "Error", { Error: 0 }],
    ],
  },
  "the rest of a packet's data, by another PRD table": {
    holds: [
      [[...dma(READ, 1024), out(16, 0), ...table(1024), start], "AltStatus", { AltStatus: 0xd8 }],
      // The bus master was started before the command.
      [
        [...table(1024), start, ...packet(READ, 2048, 1), out(16, 0), ...table(512), start],
        "BmStatus",
        { BmStatus: 1 },
      ],
    ],
    beside: [
      // The table that was too short; one that was not; the bus master stopped; another command.
      [dma(READ, 1024), "AltStatus", { AltStatus: 0x50 }],
      [[...dma(READ, 2048), out(16, 0), ...table(1024), start], "AltStatus", { AltStatus: 0x58 }],
      [[...dma(READ, 1024), out(16, 0)], "AltStatus", { AltStatus: 0x50 }],
      [[...dma(READ, 1024), out(16, 0), out(7, 0x08), out(16, 9)], "AltStatus", { AltStatus: 0x58 }],
    ],
  },
  "packet by DMA without data": {
    holds: [
      [packet(sized(PacketOp.GetConfiguration, [2], 0), 2048, 1), "AltStatus", { AltStatus: 0x58 }],
      [packet(inquiry(0), 2048, 1), "AltStatus", { AltStatus: 0x58 }],
    ],
    beside: [
      // By PIO; with data, and the bus master started; what has no such length.
      [packet(inquiry(0)), "AltStatus", { AltStatus: 0x58 }],
      [dma(inquiry(36), 36), "AltStatus", { AltStatus: 0x58 }],
      [packet([PacketOp.TestUnitReady], 2048, 1), "AltStatus", { AltStatus: 0x58 }],
      [packet(inquiry(0), 2048, 1), "Count", { Count: 2 }],
    ],
  },
  "PRD table longer than a packet's data": {
    holds: [
      [dma(READ, 4096), "BmStatus", { BmStatus: 4 }],
      [dma(inquiry(36), 64), "BmStatus", { BmStatus: 4 }],
    ],
    beside: [
      [dma(READ, 2048), "BmStatus", { BmStatus: 5 }],
      [dma(READ, 4096), "BmStatus", { BmStatus: 0 }],
      [[...table(4096), ...packet(READ), start], "BmStatus", { BmStatus: 4 }],
    ],
  },
  "length of MODE SENSE, GET CONFIGURATION and INQUIRY pages": {
    holds: [
      [packet(sized(PacketOp.ModeSense10, [0, 1], 20)), "LbaMid", { LbaMid: 16 }],
      [packet(sized(PacketOp.GetConfiguration, [0], 36)), "LbaMid", { LbaMid: 20 }],
      [packet([PacketOp.Inquiry, 1, 0, 0, 36]), "LbaMid", { LbaMid: 36 }],
    ],
    beside: [
      [packet(sized(PacketOp.ModeSense10, [0, 1], 16)), "LbaMid", { LbaMid: 12 }],
      [packet(sized(PacketOp.ModeSense10, [0, 0x2a], 254)), "LbaMid", { LbaMid: 16 }],
      [packet(sized(PacketOp.GetConfiguration, [0], 20)), "LbaMid", { LbaMid: 16 }],
      [packet(sized(PacketOp.GetConfiguration, [2], 36)), "LbaMid", { LbaMid: 4 }],
      [packet(inquiry(254)), "LbaMid", { LbaMid: 32 }],
      [packet([PacketOp.Inquiry, 1, 0, 0, 36]), "Device", { Device: 0xa1 }],
    ],
  },
  "MODE SENSE of changeable and default values": {
    holds: [
      [packet(sized(PacketOp.ModeSense10, [0, 0x6a], 254)), "AltStatus", REFUSED],
      [packet(sized(PacketOp.ModeSense10, [0, 0xaa], 254)), "AltStatus", REFUSED],
    ],
    beside: [
      [packet(sized(PacketOp.ModeSense10, [0, 0x2a], 254)), "AltStatus", REFUSED],
      [packet(sized(PacketOp.ModeSense10, [0, 0xea], 254)), "AltStatus", { AltStatus: 0x58 }],
      [packet(sized(PacketOp.ModeSense10, [0, 0x6a], 254)), "LbaMid", { LbaMid: 3 }],
    ],
  },
  "READ TOC of sessions that are not there": {
    holds: [[toc(0, 2, 2), "LbaMid", { LbaMid: 48 }]],
    beside: [
      [toc(0, 1, 2), "LbaMid", { LbaMid: 4 }],
      [toc(0, 2, 1), "LbaMid", { LbaMid: 4 }],
      [packet(READ), "LbaMid", { LbaMid: 4 }],
    ],
  },
  "byte count limit of zero": {
    holds: [
      [packet(READ, 0), "Count", { ...ABORTED, Count: 1 }],
      // Without data it is not looked at.
      [packet([PacketOp.TestUnitReady], 0), "AltStatus", ABORTED],
    ],
    beside: [
      [packet(READ, 2), "AltStatus", ABORTED],
      [packet([PacketOp.TestUnitReady], 256), "AltStatus", ABORTED],
      [packet(READ, 0), "LbaLow", { ...ABORTED, LbaLow: 1 }],
      [packet([PacketOp.TestUnitReady], 0), "AltStatus", REFUSED],
    ],
  },
  "SET FEATURES of a CD drive": {
    holds: [
      [[CD, ...features(0x02)], "AltStatus", { AltStatus: 0x50, Error: 0 }],
      [[CD, ...features(0xaa)], "AltStatus", { AltStatus: 0x50, Error: 0 }],
    ],
    beside: [
      [[DISK, ...features(0x99)], "AltStatus", { AltStatus: 0x50, Error: 0 }],
      [[CD, ...features(0x03, 0x45)], "AltStatus", ABORTED],
      [[CD, out(7, 0x91)], "AltStatus", { AltStatus: 0x50, Error: 0 }],
    ],
  },
  "Device after a command that shows the signature": {
    holds: [[[out(6, 0xa5), out(7, 0xec)], "Device", { Device: 0xa0 }]],
    beside: [
      [[out(6, 0xa5), out(7, 0xec)], "Device", { Device: 0xb0 }],
      [[out(6, 0xa5), out(7, 0xa1)], "Device", { Device: 0xa0 }],
      [[out(6, 0xa5), out(7, 0xec)], "Count", { Device: 0xa0, Count: 2 }],
      [[out(6, 0xb5), out(7, 0xec)], "Device", { Device: 0xb0 }],
    ],
  },
  "EXECUTE DIAGNOSTIC of a CD drive": {
    holds: [
      [[CD, out(7, 0x90)], "interrupt line", { "interrupt line": 0 }],
      [[CD, out(18, 4), out(7, 0x90)], "BmStatus", { BmStatus: 0, "interrupt line": 0 }],
    ],
    beside: [
      [[CD, out(7, 0xa1)], "interrupt line", { "interrupt line": 0 }],
      [[CD, out(7, 0x90)], "BmStatus", { BmStatus: 2 }],
      [[CD, out(7, 0x90)], "Device", { Device: 0xb0, "interrupt line": 0 }],
    ],
  },
  "last byte of an odd count": {
    holds: [
      [[...packet(inquiry(5)), BLOCK], "value 2", { AltStatus: 0x58 }, { 2: 0 }],
      [[...packet(inquiry(7)), BLOCK], "AltStatus", { AltStatus: 0x58 }],
      [[...packet(inquiry(7)), { do: "drain", width: 2, times: 4 }], "AltStatus", { AltStatus: 0x58 }],
    ],
    beside: [
      [[...packet(inquiry(8)), BLOCK], "AltStatus", { AltStatus: 0x58 }],
      // A word with two bytes; what nobody has written; another register; a step that moves nothing.
      [[...packet(inquiry(5)), BLOCK], "value 0", { AltStatus: 0x58 }, { 0: 0 }],
      [[...packet(inquiry(5)), BLOCK], "value 2", { AltStatus: 0x58 }, { 2: 0x2f }],
      [[...packet(inquiry(7)), BLOCK], "LbaMid", { LbaMid: 9 }],
      [[...packet(inquiry(7)), read(7)], "AltStatus", { AltStatus: 0x50 }],
      [[CD, out(4, 1), out(7, 0xa1), BLOCK], "AltStatus", { AltStatus: 0x58 }],
    ],
  },
  "reserved bits of READ CD": {
    holds: [
      [packet(readCd(0x18, 0x10)), "AltStatus", { AltStatus: 0x58, Error: 0 }],
      [packet(readCd(0, 0x16)), "AltStatus", { AltStatus: 0x58, Error: 0 }],
      [packet(readCd(0, 0x10, 7)), "AltStatus", { AltStatus: 0x58, Error: 0 }],
    ],
    beside: [
      [packet(readCd(0, 0x10)), "AltStatus", REFUSED],
      [packet(readCd(0, 0x08)), "AltStatus", { AltStatus: 0x50, Error: 0x50 }],
      [packet(readCd(0, 0x16)), "Count", { Count: 2 }],
    ],
  },
  "events of the tray": {
    holds: [[[...EJECT, ...EVENT, BLOCK], "value 2", {}, { 2: 0x0100 }]],
    beside: [
      [[...EVENT, BLOCK], "value 2", {}, { 2: 0x0202 }],
      // What the drive holds; another packet.
      [[...EJECT, ...EVENT, BLOCK], "value 2", {}, { 2: 0x0203 }],
      [[...EJECT, ...packet(inquiry(36)), BLOCK], "value 2", {}, { 2: 0x0101 }],
    ],
  },
  "READ TOC, format in byte 2": {
    holds: [
      [toc(1, 0), "LbaMid", { LbaMid: 20 }],
      [toc(4, 0), "AltStatus", { AltStatus: 0x58, Error: 0 }],
    ],
    beside: [
      [toc(0, 0), "LbaMid", { LbaMid: 12 }],
      [toc(0, 0, 1), "LbaMid", { LbaMid: 20 }],
      // Both have it.
      [toc(1, 0, 1), "LbaMid", { LbaMid: 20 }],
      [packet([PacketOp.ReadCapacity, 0, 1]), "LbaMid", { LbaMid: 12 }],
    ],
  },
  "sense of a READ CD with reserved bits": {
    holds: [[[...packet(readCd(0x18, 0x10)), ...SENSE, BLOCK], "value 6", {}, { 6: 0x0021 }]],
    beside: [
      [[...packet(readCd(0, 0x08)), ...SENSE, BLOCK], "value 6", {}, { 6: 0x0021 }],
      [[...packet(readCd(0x18, 0x10)), ...packet(inquiry(36)), BLOCK], "value 6", {}, { 6: 0x0021 }],
    ],
  },
  "PACKET to be overlapped": {
    holds: [[[CD, out(1, 2), out(7, 0xa0)], "AltStatus", ABORTED]],
    beside: [
      [[CD, out(1, 1), out(7, 0xa0)], "AltStatus", ABORTED],
      [[CD, out(1, 2), out(7, 0xa0)], "AltStatus", { AltStatus: 0x50 }],
      [[CD, out(1, 2), out(7, 0xa0)], "Count", { ...ABORTED, Count: 0 }],
      [[CD, out(1, 2), out(7, 0xa1)], "AltStatus", ABORTED],
    ],
  },
  "START of a unit whose tray is open": {
    holds: [[[...EJECT, ...packet([PacketOp.StartStopUnit, 0, 0, 0, 1])], "AltStatus", { AltStatus: 0x50, Error: 0 }]],
    beside: [
      [[...EJECT, ...packet([PacketOp.StartStopUnit, 0, 0, 0, 1])], "AltStatus", REFUSED],
      [packet([PacketOp.StartStopUnit, 0, 0, 0, 1]), "AltStatus", { AltStatus: 0x58 }],
      [[...EJECT, ...packet([PacketOp.TestUnitReady])], "AltStatus", { AltStatus: 0x50, Error: 0 }],
    ],
  },
  "a tray that is open when SRST comes": {
    holds: [
      [[...EJECT, ...SRST, ...packet(READ)], "AltStatus", { AltStatus: 0x58, Error: 0 }],
      [[...EJECT, ...SRST, ...packet([PacketOp.TestUnitReady])], "AltStatus", { AltStatus: 0x50, Error: 0 }],
    ],
    beside: [
      // No reset; a reset before; a tray that nobody has opened.
      [[...EJECT, ...packet(READ)], "AltStatus", { AltStatus: 0x58, Error: 0 }],
      [[...SRST, ...EJECT, ...packet(READ)], "AltStatus", { AltStatus: 0x58, Error: 0 }],
      [[...SRST, ...packet(READ)], "AltStatus", { AltStatus: 0x50, Error: 0 }],
      [[...EJECT, ...SRST, ...packet(READ)], "AltStatus", REFUSED],
    ],
  },
};

proveRules(CD_KNOWN, CASES, PLACE);

test("words of packets' data: those listed, and sense data only when nobody has asked", () => {
  const words = (bytes: number[], fresh = false) => {
    const { words, bits } = looseWords([...cdb(...bytes)], fresh);
    return [...words.keys()].sort((a, b) => a - b).map((word) => [word, bits?.get(word) ?? 0xffff]);
  };
  expect(words([PacketOp.Read10])).toEqual([]);
  expect(words([PacketOp.Inquiry])).toEqual([]);
  expect(words([PacketOp.ReadToc])).toEqual([[6, 0x0200]]);
  expect(words([PacketOp.ReadCd, 0, 0, 0, 0, 0, 0, 0, 1, 0x10])).toEqual([]);
  // The sense key and the code.
  expect(words([PacketOp.RequestSense], true)).toContainEqual([1, 0xff00]);
  expect(words([PacketOp.RequestSense], true)).toContainEqual([6, 0xff00]);
  expect(words([PacketOp.RequestSense], false)).toContainEqual([1, 0xffff]);
});

test("a PACKET that is refused takes no packet, and leaves no fresh sense data", () => {
  const sense = (features: number, status: number) => {
    const follow = new DataWords();
    follow.step(out(1, features), 0x50, 0x50);
    follow.step(out(7, 0xa0), 0x50, status);
    follow.step({ do: "packet", bytes: [...cdb(0xad)] }, status, 0x41);
    follow.step(out(7, 0xa0), 0x41, 0x58);
    follow.step({ do: "packet", bytes: [...cdb(PacketOp.RequestSense)] }, 0x58, 0x58);
    return follow.mask({ do: "block" }, 1);
  };
  expect(sense(0, 0x58)).toBe(0xff00);
  expect(sense(2, 0x41)).toBe(0xffff);
});
