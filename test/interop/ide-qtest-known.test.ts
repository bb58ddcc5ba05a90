// The list of differences from QEMU that the differential run accepts: each rule is seen to hold where it should, and not a
// step beside it. Ours runs the program; the other side is ours with one register changed.
import { expect, test } from "vitest";
import { PacketOp } from "../../assembly/spec/mmc.ts";
import { cdb } from "../support/cd.ts";
import { looseWords } from "../support/qtest-cd-words.ts";
import { knownDifference } from "../support/qtest-known.ts";
import type { Program, Step } from "../support/qtest-program.ts";
import { Layout } from "../support/qtest-program.ts";
import { Ours } from "../support/qtest-sides.ts";
import { SNAPSHOT } from "../support/qtest-trace.ts";
import { DataWords } from "../support/qtest-words.ts";

const out = (register: number, value: number, width: 1 | 4 = 1): Step => ({ do: "out", register, width, value });
const read = (register: number): Step => ({ do: "in", register, width: 1 });
const SRST = [out(8, 4), out(8, 0), read(7)];
/** READ MULTIPLE, READ SECTORS or another, of 8 sectors at 0. */
const sectors = (code: number) => [out(2, 8), out(3, 0), out(4, 0), out(5, 0), out(7, code)];

const CD = { drive: 0, sectors: 40 } as const;

/** A packet command with that byte count limit. */
const packet = (bytes: number[], limit = 2048, features = 0): Step[] => [
  out(1, features),
  out(4, limit & 0xff),
  out(5, limit >> 8),
  out(7, 0xa0),
  { do: "packet", bytes: [...cdb(...bytes)] },
];

/** The rule that excuses a difference in `what` after the last step. */
function ruleFor(program: Program, what: string, change?: Record<number, number>): string | undefined {
  const ours = change ? new Ours(0, [0, 4096], CD) : new Ours(0, [4096, 4096]);
  ours.reset();
  const { traces } = ours.run(program);
  const theirs = traces.map((trace) => ({ ...trace, registers: [...trace.registers] }));
  const register = SNAPSHOT.findIndex(([, , name]) => name === what);
  const last = theirs[theirs.length - 1].registers;
  if (change) Object.assign(last, change);
  else if (register >= 0) last[register] ^= 0x08;
  const cd = change ? CD.drive : undefined;
  return knownDifference({ program, step: program.length - 1, what, ours: traces, theirs, cd })?.name;
}

test("SET MULTIPLE over SRST: of the drive that was set, by the commands that it is for", () => {
  const set = (count: number) => [out(6, 0xe0), out(2, count), out(7, 0xc6)];
  const name = "SET MULTIPLE over SRST";
  expect(ruleFor([...set(4), ...SRST, ...sectors(0xc4)], "Count")).toBe(name);
  // No reset; set again after it; the default; another command; the other drive.
  expect(ruleFor([...set(4), ...sectors(0xc4)], "Count")).toBeUndefined();
  expect(ruleFor([...set(4), ...SRST, ...set(8), ...sectors(0xc4)], "Count")).toBeUndefined();
  expect(ruleFor([...set(16), ...SRST, ...sectors(0xc4)], "Count")).toBeUndefined();
  expect(ruleFor([...set(4), ...SRST, ...sectors(0x20)], "Count")).toBeUndefined();
  expect(ruleFor([...set(4), ...SRST, out(6, 0xf0), ...sectors(0xc4)], "Count")).toBeUndefined();
});

test("EXECUTE DIAGNOSTIC with device 1 selected: until a device is selected", () => {
  const name = "EXECUTE DIAGNOSTIC with device 1 selected";
  const identify = [out(7, 0xec), { do: "drain", width: 2, times: 1 } as Step];
  expect(ruleFor([out(6, 0xf0), out(7, 0x90), ...identify], "value 0")).toBe(name);
  expect(ruleFor([out(6, 0xe0), out(7, 0x90), ...identify], "value 0")).toBeUndefined();
  expect(ruleFor([out(6, 0xf0), out(7, 0x90), out(6, 0xf0), ...identify], "value 0")).toBeUndefined();
  expect(ruleFor([out(6, 0xf0), ...identify], "value 0")).toBeUndefined();
});

test("EXECUTE DIAGNOSTIC: signature of the drive that was not selected, and HOB", () => {
  const diagnose = [out(6, 0xe0), out(7, 0x90)];
  expect(ruleFor([...diagnose, out(6, 0xf0)], "Count")).toBe("EXECUTE DIAGNOSTIC leaves the other drive alone");
  expect(ruleFor([...diagnose, out(8, 0x80)], "Count")).toBe("EXECUTE DIAGNOSTIC leaves HOB alone");
  expect(ruleFor(diagnose, "Count")).toBeUndefined();
  expect(ruleFor([...diagnose, out(6, 0xe0)], "Count")).toBeUndefined();
  expect(ruleFor([...diagnose, out(6, 0xf0)], "BmStatus")).toBeUndefined();
});

test("PRDs outside memory: where the table, or what it names, is none", () => {
  const dma = (address: number, at: number = Layout.Table) => [
    out(6, 0xe0),
    { do: "prds", at: Layout.Table, entries: [[address, 0x80000200]] } as Step,
    out(20, at, 4),
    out(2, 1),
    out(7, 0xc8),
    out(16, 9),
  ];
  const name = "PRDs outside memory";
  expect(ruleFor(dma(0x4000_0000), "BmStatus")).toBe(name);
  expect(ruleFor(dma(Layout.Window, 0x4000_0000), "BmStatus")).toBe(name);
  // Inside; and where the table is elsewhere, but memory.
  expect(ruleFor(dma(Layout.Window), "BmStatus")).toBeUndefined();
  expect(ruleFor(dma(Layout.Window, 0x10000), "BmStatus")).toBeUndefined();
});

test("words of SMART data: those listed, of the command that they are of", () => {
  const words = (features: number, log: number) => {
    const follow = new DataWords();
    for (const step of [out(1, features), out(3, log), out(7, 0xb0)]) follow.step(step, 0x50);
    const drain: Step = { do: "drain", width: 2, times: 256 };
    return Array.from({ length: 256 }, (_, i) => i).filter((i) => follow.mask(drain, i) !== 0);
  };
  expect(words(0xd1, 0)).toEqual([43, 49, 255]);
  expect(words(0xd5, 1)).toEqual([]);
  expect(words(0xd5, 6)).not.toContain(0);
  expect(words(0xd0, 0)).not.toContain(184);
});

test("PRD tables of packets: shorter and longer than the data, by DMA alone", () => {
  const read = [PacketOp.Read10, 0, 0, 0, 0, 1, 0, 0, 1];
  const table = (bytes: number): Step[] => [
    { do: "prds", at: Layout.Table, entries: [[Layout.Window, (0x80000000 | bytes) >>> 0]] },
    out(20, Layout.Table, 4),
  ];
  const dma = (bytes: number) => [...table(bytes), ...packet(read, 2048, 1), out(16, 9)];
  const goesOn = { 0: 0x58 };
  expect(ruleFor(dma(1024), "AltStatus", goesOn)).toBe("PRD table shorter than a packet's data");
  expect(ruleFor(dma(2048), "Count", goesOn)).toBeUndefined();
  expect(ruleFor(dma(4096), "BmStatus", { 8: 4 })).toBe("PRD table longer than a packet's data");
  expect(ruleFor(dma(2048), "BmStatus", { 8: 5 })).toBeUndefined();
  expect(ruleFor([...table(4096), ...packet(read), out(16, 9)], "BmStatus", { 8: 4 })).toBeUndefined();
});

test("a byte count limit of zero, and no other", () => {
  const aborted = { 0: 0x41, 1: 0x04 };
  expect(ruleFor(packet([PacketOp.Read10, 0, 0, 0, 0, 1, 0, 0, 1], 0), "Count", aborted)).toBe(
    "byte count limit of zero",
  );
  expect(ruleFor(packet([PacketOp.Read10, 0, 0, 0, 0, 1, 0, 0, 1], 2), "Count", aborted)).toBeUndefined();
});

test("commands of a CD drive that QEMU's has not: of the CD, where QEMU aborts", () => {
  const aborted = { 0: 0x41, 1: 0x04 };
  expect(ruleFor([out(6, 0xa0), out(7, 0xe0)], "AltStatus", aborted)).toBe("power commands of a CD drive");
  expect(ruleFor([out(6, 0xb0), out(7, 0xe0)], "AltStatus", aborted)).toBeUndefined();
  expect(ruleFor([out(6, 0xa0), out(7, 0xa1)], "AltStatus", aborted)).toBeUndefined();
  expect(ruleFor([out(6, 0xa0), out(7, 0x08)], "Error", { 1: 0 })).toBe("diagnostic code after DEVICE RESET");
  expect(ruleFor([out(6, 0xa0), out(7, 0x08)], "Error", { 1: 4 })).toBeUndefined();
});

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
