// The list of differences from QEMU that the differential run accepts: each rule is seen to hold where it should, and not a
// step beside it. Ours runs the program; the other side is ours with one register changed.
import { expect, test } from "vitest";
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

/** The rule that excuses a difference in `what` after the last step. */
function ruleFor(program: Program, what: string): string | undefined {
  const ours = new Ours(0, [4096, 4096]);
  ours.reset();
  const { traces } = ours.run(program);
  const theirs = traces.map((trace) => ({ ...trace, registers: [...trace.registers] }));
  const register = SNAPSHOT.findIndex(([, , name]) => name === what);
  if (register >= 0) theirs[theirs.length - 1].registers[register] ^= 0x08;
  return knownDifference({ program, step: program.length - 1, what, ours: traces, theirs })?.name;
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
    return Array.from({ length: 256 }, (_, i) => i).filter((i) => follow.differs(drain, i));
  };
  expect(words(0xd1, 0)).toEqual([43, 49, 255]);
  expect(words(0xd5, 1)).toEqual([]);
  expect(words(0xd5, 6)).not.toContain(0);
  expect(words(0xd0, 0)).not.toContain(184);
});
