import { AtaCommand, AtaRegister, AtaStatus } from "../../assembly/spec/ata.ts";
import type { Program, Step } from "./qtest-program.ts";
import type { Trace } from "./qtest-trace.ts";

/** A difference as it was found: the step, and what both sides have left at each. */
export interface Found {
  program: Program;
  step: number;
  what: string;
  ours: readonly Trace[];
  theirs: readonly Trace[];
  /** The CD drive's place, where there is one. */
  cd?: 0 | 1 | undefined;
}

/** A deliberate difference: where we differ, and what the specification says of it. */
export interface Known {
  name: string;
  /** ATA/ATAPI-6 unless another document is named. */
  verdict: string;
  /** QEMU's disks may be written where ours are not. */
  apart?: true;
  applies(found: Found, state: { ours: Trace; theirs: Trace; step: Step }): boolean;
}

/** Of a trace's registers, by their place in SNAPSHOT. */
export const At = {
  Status: 0,
  Error: 1,
  Count: 2,
  LbaLow: 3,
  LbaMid: 4,
  Device: 6,
  BmStatus: 8,
  BmTable: 9,
  Line: 10,
} as const;

/** Was the Command register written at `step`, and heard: neither BSY nor DRQ set? */
function accepted(program: Program, step: number, ours: readonly Trace[]): number | undefined {
  const each = program[step];
  if (each.do !== "out" || each.register !== AtaRegister.Command) return undefined;
  return step > 0 && (ours[step - 1].registers[At.Status] & 0x88) !== 0 ? undefined : each.value;
}

/** The step up to `step` with the last command that was heard; -1 when there is none. */
export function lastAccepted(program: Program, step: number, ours: readonly Trace[]): number {
  for (let i = Math.min(step, program.length - 1); i >= 0; i--) if (accepted(program, i, ours) !== undefined) return i;
  return -1;
}

/** The last command up to `step` that was heard. */
export function lastCommand(program: Program, step: number, ours: readonly Trace[]): number | undefined {
  const at = lastAccepted(program, step, ours);
  return at < 0 ? undefined : accepted(program, at, ours);
}

export const failed = (trace: Trace, error: number) =>
  (trace.registers[At.Status] & AtaStatus.Error) !== 0 && trace.registers[At.Error] === error;

/** Idle, standby and sleep: QEMU ends them with DSC clear. Bit 4 is the command's own since ATA-4; ATA-3 has it set. */
export const POWER: ReadonlySet<number> = new Set([0x94, 0x95, 0x96, 0x97, 0x99, 0xe0, 0xe1, 0xe2, 0xe3, 0xe6]);

const DMA: ReadonlySet<number> = new Set([0x25, 0x35, 0xc8, 0xc9, 0xca, 0xcb, 0x06]);
const DMA_WRITES: ReadonlySet<number> = new Set([0x35, 0xca, 0xcb]);

/** Was an odd number of 16-bit words moved before `step`? */
export function oddWords(program: Program, step: number): boolean {
  for (let i = 0; i < step; i++) {
    const each = program[i];
    if ((each.do === "drain" || each.do === "feed") && each.width < 4 && each.times % 2 === 1) return true;
  }
  return false;
}

/** Is a packet's DRQ block not a number of 32-bit words? */
export function oddBlock(program: Program, step: number, ours: readonly Trace[], theirs: readonly Trace[]): boolean {
  if (step === 0 || lastCommand(program, step, ours) !== 0xa0) return false;
  // With HOB set, the register shows another byte.
  let at = step - 1;
  while (at > 0 && highOrder(program, at)) at--;
  const left = highOrder(program, step) ? 0 : theirs[step].registers[At.LbaMid];
  return ((ours[at].registers[At.LbaMid] | left) & 3) !== 0;
}

/** Did a reset come between a DMA command and `step`? */
export function dmaBeforeReset(program: Program, step: number): boolean {
  let dma = false;
  for (let i = 0; i < step; i++) {
    const each = program[i];
    if (each.do !== "out") continue;
    if (each.register === AtaRegister.Command && (DMA.has(each.value) || each.value === 0xa0)) dma = true;
    if (each.register === AtaRegister.Control && each.value & 4 && dma) return true;
  }
  return false;
}

/** Does step `i` give a command whose data move by DMA, and is it heard? */
function byDma(program: Program, i: number, ours: readonly Trace[]): boolean {
  const code = accepted(program, i, ours);
  if (code === undefined) return false;
  return (
    DMA.has(code) || (code === AtaCommand.Packet && ((lastWrite(program, i, AtaRegister.Features) ?? 0) & 1) !== 0)
  );
}

/**
 * Up to `step`, was the table register of the bus master written after its start, or has it served another command? BMIDE
 * forbids the first and has the host stop the engine before the second. `now`: since the last start; `wrote`: for a command
 * that writes to the disk.
 */
function misused(
  program: Program,
  step: number,
  ours: readonly Trace[],
): { now: boolean; ever: boolean; wrote: boolean } {
  let commands = 0;
  const found = { now: false, ever: false, wrote: false };
  for (let i = 0; i <= step && i < program.length; i++) {
    const each = program[i];
    const active = i > 0 && (ours[i - 1].registers[At.BmStatus] & 1) !== 0;
    if (!active) found.now = false;
    if (each.do !== "out") continue;
    const dma = byDma(program, i, ours);
    if (dma) commands++;
    if (active && (each.register >= 20 || (dma && commands > 1))) found.now = true;
    found.ever ||= found.now;
    found.wrote ||= found.now && DMA_WRITES.has(lastCommand(program, i, ours) as number);
  }
  return found;
}

export function pointerMoved({ program, step, what, ours }: Found): boolean {
  const { now, wrote } = misused(program, step, ours);
  // What was written by then is found later.
  return now || (wrote && (step >= program.length || /^(value|memory)/.test(what)));
}

/** Has a program that shows no difference left one in memory that nobody has looked at? */
export const leavesMemory = (program: Program, ours: readonly Trace[]) => misused(program, program.length, ours).ever;

/** Did the last DMA begun up to `step` meet addresses that are not memory of both machines? */
export function stray(step: number, ours: readonly Trace[]): boolean {
  return ours.slice(0, step + 1).findLast(({ outside }) => outside !== undefined)?.outside === true;
}

/** The value last written to `register` up to `step`. */
export function lastWrite(program: Program, step: number, register: number): number | undefined {
  const each = program.slice(0, step + 1).findLast((one) => writes(one, register));
  return each?.do === "out" ? each.value : undefined;
}

/**
 * Device 1 was selected before step `at`, which has made QEMU say that device 0 is, and go on with device 1: until Device is
 * written, and for good once a command has gone to the other one.
 */
function secondGoesOn(program: Program, at: number, step: number, ours: readonly Trace[]): boolean {
  if (at < 0 || selectedBefore(program, at, ours) !== 1) return false;
  for (let i = at + 1; i <= Math.min(step, program.length - 1); i++) {
    if (accepted(program, i, ours) !== undefined) return true;
    if (writes(program[i], AtaRegister.Device) && (ours[i - 1].registers[At.Status] & 0x88) === 0) return false;
  }
  return true;
}

/** Was SRST set while device 1 was selected, and does that still tell? */
export function resetOfSecond(program: Program, step: number, ours: readonly Trace[]): boolean {
  return program
    .slice(0, step + 1)
    .some(
      (each, i) =>
        each.do === "out" &&
        each.register === AtaRegister.Control &&
        (each.value & 4) !== 0 &&
        secondGoesOn(program, i, step, ours),
    );
}

/** The same of EXECUTE DIAGNOSTIC. */
export function diagnosedSecond(program: Program, step: number, ours: readonly Trace[]): boolean {
  return program
    .slice(0, step + 1)
    .some((_each, i) => accepted(program, i, ours) === 0x90 && secondGoesOn(program, i, step, ours));
}

/** The drive selected when `step` begins. Beside a CD drive, one that is not there reads as zeros. */
export function selectedBefore(program: Program, step: number, ours: readonly Trace[]): 0 | 1 {
  const told = step > 0 ? ours[step - 1].registers[At.Device] : 0xa0;
  const device = told === 0 ? (lastWrite(program, step - 1, AtaRegister.Device) ?? 0) : told;
  return (device & 0x10) !== 0 ? 1 : 0;
}

/** Is the CD drive selected at `step`? */
export const ofCd = ({ program, step, ours, cd }: Found) =>
  cd !== undefined && selectedBefore(program, step, ours) === cd;

/** Where EXECUTE DIAGNOSTIC was last heard up to `step`; -1 when it was not. */
export function diagnosed(program: Program, step: number, ours: readonly Trace[]): number {
  for (let i = Math.min(step, program.length - 1); i >= 0; i--) if (accepted(program, i, ours) === 0x90) return i;
  return -1;
}

/** Has the selected drive a setting of SET MULTIPLE, other than the default, that has been through SRST? */
export function multipleKept(program: Program, step: number, ours: readonly Trace[]): boolean {
  const set = [false, false];
  const kept = [false, false];
  for (let i = 0; i <= Math.min(step, program.length - 1); i++) {
    const each = program[i];
    if (writes(each, AtaRegister.Control) && each.do === "out" && (each.value & 4) !== 0)
      for (const drive of [0, 1]) kept[drive] = set[drive];
    if (accepted(program, i, ours) !== 0xc6 || (ours[i].registers[At.Status] & AtaStatus.Error) !== 0) continue;
    const drive = selectedBefore(program, i, ours);
    set[drive] = ours[i].registers[At.Count] !== 16;
    kept[drive] = false;
  }
  return kept[selectedBefore(program, step, ours)];
}

/** Does the Error register read as the previous Features? */
export function highOrder(program: Program, step: number): boolean {
  return ((lastWrite(program, step, AtaRegister.Control) ?? 0) & 0x80) !== 0;
}

/** What QEMU's disks know. */
export const THEIRS: ReadonlySet<number> = new Set([
  0x06, 0x10, 0x20, 0x21, 0x24, 0x25, 0x27, 0x29, 0x30, 0x31, 0x34, 0x35, 0x39, 0x3c, 0x40, 0x41, 0x42, 0x70, 0x90,
  0x91, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0xb0, 0xc4, 0xc5, 0xc6, 0xc8, 0xc9, 0xca, 0xcb, 0xe0, 0xe1, 0xe2, 0xe3,
  0xe5, 0xe6, 0xe7, 0xea, 0xec, 0xef, 0xf5, 0xf8,
]);

export const SMART: ReadonlySet<number> = new Set([0xd0, 0xd1, 0xd2, 0xd4, 0xd5, 0xd8, 0xd9, 0xda]);

export const MULTIPLE: ReadonlySet<number> = new Set([0x29, 0x39, 0xc4, 0xc5]);

/** Registers that a signature fills (§9.12), by the names of SNAPSHOT. */
export const SIGNATURE: ReadonlySet<string> = new Set(["AltStatus", "Error", "Count", "LbaLow", "LbaMid", "LbaHigh"]);

export const EXT: ReadonlySet<number> = new Set([0x24, 0x25, 0x27, 0x29, 0x34, 0x35, 0x39, 0x42]);

/** Those of them that show in the task file what has moved. */
export const MOVES_EXT: ReadonlySet<number> = new Set([0x24, 0x25, 0x29, 0x34, 0x35, 0x39]);

/** What a register held before its last write up to `step` that was heard: its other byte, which HOB shows. */
export function writtenBefore(program: Program, step: number, register: number, ours: readonly Trace[]): number {
  const heard = program
    .slice(0, step + 1)
    .filter((each, i) => writes(each, register) && (i === 0 || (ours[i - 1].registers[At.Status] & 0x88) === 0));
  const before = heard.at(-2);
  return before?.do === "out" ? before.value & 0xff : 0;
}

export const writes = (step: Step, register: number) => step.do === "out" && step.register === register;
