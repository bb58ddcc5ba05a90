import { AtaError, AtaRegister, AtaStatus } from "../../assembly/spec/ata.ts";
import type { Program, Step } from "./qtest-program.ts";
import type { Trace } from "./qtest-trace.ts";

/** A difference as it was found: the step, and what both sides have left at each. */
export interface Found {
  program: Program;
  step: number;
  what: string;
  ours: readonly Trace[];
  theirs: readonly Trace[];
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
const At = { Status: 0, Error: 1, Count: 2, LbaLow: 3, Device: 6, BmStatus: 8, BmTable: 9, Line: 10 } as const;

/** Was the Command register written at `step`, and heard: neither BSY nor DRQ set? */
function accepted(program: Program, step: number, ours: readonly Trace[]): number | undefined {
  const each = program[step];
  if (each.do !== "out" || each.register !== AtaRegister.Command) return undefined;
  return step > 0 && (ours[step - 1].registers[At.Status] & 0x88) !== 0 ? undefined : each.value;
}

/** The last command up to `step` that was heard. */
function lastCommand(program: Program, step: number, ours: readonly Trace[]): number | undefined {
  for (let i = Math.min(step, program.length - 1); i >= 0; i--) {
    const code = accepted(program, i, ours);
    if (code !== undefined) return code;
  }
  return undefined;
}

const failed = (trace: Trace, error: number) =>
  (trace.registers[At.Status] & AtaStatus.Error) !== 0 && trace.registers[At.Error] === error;

/** Idle, standby and sleep: QEMU ends them with DSC clear. Bit 4 is the command's own since ATA-4; ATA-3 has it set. */
export const POWER: ReadonlySet<number> = new Set([0x94, 0x95, 0x96, 0x97, 0x99, 0xe0, 0xe1, 0xe2, 0xe3, 0xe6]);

const DMA: ReadonlySet<number> = new Set([0x25, 0x35, 0xc8, 0xc9, 0xca, 0xcb, 0x06]);

/** Was an odd number of 16-bit words moved before `step`? */
function oddWords(program: Program, step: number): boolean {
  for (let i = 0; i < step; i++) {
    const each = program[i];
    if ((each.do === "drain" || each.do === "feed") && each.width < 4 && each.times % 2 === 1) return true;
  }
  return false;
}

/** Did a reset come between a DMA command and `step`? */
function dmaBeforeReset(program: Program, step: number): boolean {
  let dma = false;
  for (let i = 0; i < step; i++) {
    const each = program[i];
    if (each.do !== "out") continue;
    if (each.register === AtaRegister.Command && DMA.has(each.value)) dma = true;
    if (each.register === AtaRegister.Control && each.value & 4 && dma) return true;
  }
  return false;
}

/**
 * Since the bus master was started: was its table register written, or has it served another command? BMIDE forbids the
 * first and has the host stop the engine before the second.
 */
function pointerMoved(program: Program, step: number, ours: readonly Trace[]): boolean {
  let commands = 0;
  let moved = false;
  let ever = false;
  for (let i = 0; i <= step && i < program.length; i++) {
    const each = program[i];
    const active = i > 0 && (ours[i - 1].registers[At.BmStatus] & 1) !== 0;
    if (!active) moved = false;
    if (each.do !== "out") continue;
    const code = accepted(program, i, ours);
    if (code !== undefined && DMA.has(code)) commands++;
    if (active && (each.register >= 20 || (code !== undefined && DMA.has(code) && commands > 1))) moved = true;
    ever ||= moved;
  }
  return step < program.length ? moved : ever;
}

/** Did the last DMA begun up to `step` meet addresses that are not memory of both machines? */
function stray(step: number, ours: readonly Trace[]): boolean {
  return ours.slice(0, step + 1).findLast(({ outside }) => outside !== undefined)?.outside === true;
}

/** The value last written to `register` up to `step`. */
function lastWrite(program: Program, step: number, register: number): number | undefined {
  const each = program.slice(0, step + 1).findLast((one) => writes(one, register));
  return each?.do === "out" ? each.value : undefined;
}

/** Was SRST set while device 1 was selected? */
function resetOfSecond(program: Program, step: number): boolean {
  let second = false;
  for (const each of program.slice(0, step + 1)) {
    if (each.do !== "out") continue;
    if (each.register === AtaRegister.Device) second = (each.value & 0x10) !== 0;
    if (each.register === AtaRegister.Control && (each.value & 4) !== 0 && second) return true;
  }
  return false;
}

/** The drive selected when `step` begins. */
function selectedBefore(step: number, ours: readonly Trace[]): 0 | 1 {
  return step > 0 && (ours[step - 1].registers[At.Device] & 0x10) !== 0 ? 1 : 0;
}

/** Where EXECUTE DIAGNOSTIC was last heard up to `step`; -1 when it was not. */
function diagnosed(program: Program, step: number, ours: readonly Trace[]): number {
  for (let i = Math.min(step, program.length - 1); i >= 0; i--) if (accepted(program, i, ours) === 0x90) return i;
  return -1;
}

/** Has the selected drive a setting of SET MULTIPLE, other than the default, that has been through SRST? */
function multipleKept(program: Program, step: number, ours: readonly Trace[]): boolean {
  const set = [false, false];
  const kept = [false, false];
  for (let i = 0; i <= Math.min(step, program.length - 1); i++) {
    const each = program[i];
    if (writes(each, AtaRegister.Control) && each.do === "out" && (each.value & 4) !== 0)
      for (const drive of [0, 1]) kept[drive] = set[drive];
    if (accepted(program, i, ours) !== 0xc6 || (ours[i].registers[At.Status] & AtaStatus.Error) !== 0) continue;
    const drive = selectedBefore(i, ours);
    set[drive] = ours[i].registers[At.Count] !== 16;
    kept[drive] = false;
  }
  return kept[selectedBefore(step, ours)];
}

/** Does the Error register read as the previous Features? */
function highOrder(program: Program, step: number): boolean {
  return ((lastWrite(program, step, AtaRegister.Control) ?? 0) & 0x80) !== 0;
}

/** What QEMU's disks know. */
const THEIRS: ReadonlySet<number> = new Set([
  0x06, 0x10, 0x20, 0x21, 0x24, 0x25, 0x27, 0x29, 0x30, 0x31, 0x34, 0x35, 0x39, 0x3c, 0x40, 0x41, 0x42, 0x70, 0x90,
  0x91, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0xb0, 0xc4, 0xc5, 0xc6, 0xc8, 0xc9, 0xca, 0xcb, 0xe0, 0xe1, 0xe2, 0xe3,
  0xe5, 0xe6, 0xe7, 0xea, 0xec, 0xef, 0xf5, 0xf8,
]);

const SMART: ReadonlySet<number> = new Set([0xd0, 0xd1, 0xd2, 0xd4, 0xd5, 0xd8, 0xd9, 0xda]);

const MULTIPLE: ReadonlySet<number> = new Set([0x29, 0x39, 0xc4, 0xc5]);

/** Registers that a signature fills (§9.12), by the names of SNAPSHOT. */
const SIGNATURE: ReadonlySet<string> = new Set(["AltStatus", "Error", "Count", "LbaLow", "LbaMid", "LbaHigh"]);

const EXT: ReadonlySet<number> = new Set([0x24, 0x25, 0x27, 0x29, 0x34, 0x35, 0x39, 0x42]);

const writes = (step: Step, register: number) => step.do === "out" && step.register === register;

export const KNOWN: readonly Known[] = [
  {
    name: "IDNF",
    verdict: "§7.9.2: an address that is not there is IDNF; QEMU says ABRT whatever the cause",
    apart: true,
    applies: (_found, { ours, theirs }) => failed(ours, AtaError.IdNotFound) && failed(theirs, AtaError.Abort),
  },
  {
    name: "CHS outside the translation",
    verdict: "§6.2.1: sectors are numbered from 1 to the track's last; QEMU computes with whatever it is given",
    apart: true,
    applies: ({ program, step }, { ours, theirs }) =>
      (failed(ours, AtaError.IdNotFound) || (highOrder(program, step) && (ours.registers[At.Status] & 1) !== 0)) &&
      (theirs.registers[At.Status] & 1) === 0 &&
      (ours.registers[At.Device] & 0x40) === 0,
  },
  {
    name: "READ VERIFY beyond the end",
    verdict: "§8.36: verifies sectors, which must be there; QEMU does nothing",
    applies: ({ program, step, ours: traces }, { ours }) =>
      failed(ours, AtaError.IdNotFound) && [0x40, 0x41, 0x42].includes(lastCommand(program, step, traces) as number),
  },
  {
    name: "INTRQ of the drive that is not selected",
    verdict: "§5.2.9: INTRQ is driven by the selected drive alone; QEMU has one level for both",
    applies: ({ what }, { step, theirs }) =>
      what === "interrupt line" &&
      step.do === "out" &&
      step.register === AtaRegister.Device &&
      theirs.registers[At.Line] === 1,
  },
  {
    name: "READ NATIVE MAX of more than 28 bits",
    verdict: "§8.34: 0FFFFFFFh when the address does not fit; QEMU cuts it off",
    applies: ({ what }, { step, ours }) =>
      what.startsWith("Lba") && step.do === "out" && step.value === 0xf8 && ours.registers[At.LbaLow] === 0xff,
  },
  {
    name: "READ NATIVE MAX in CHS form",
    verdict: "§8.34: the last sector of the default translation, as QEMU has it since 8.0; 7.2 converts the last LBA",
    applies: (_found, { step, ours }) =>
      step.do === "out" && step.value === 0xf8 && (ours.registers[At.Device] & 0x40) === 0,
  },
  {
    name: "nIEN set while an interrupt is pending",
    verdict: "§5.2.9: nIEN takes the device off the line; QEMU looks at it only when it raises the line",
    applies: (_found, { step, ours, theirs }) =>
      step.do === "out" &&
      writes(step, AtaRegister.Control) &&
      (step.value & 2) !== 0 &&
      ours.registers[At.Line] === 0 &&
      theirs.registers[At.Line] === 1,
  },
  {
    name: "nIEN cleared while an interrupt is pending",
    verdict: "§5.2.9: what is pending is heard when nIEN is cleared; QEMU has forgotten it",
    applies: (_found, { step, ours, theirs }) =>
      step.do === "out" &&
      writes(step, AtaRegister.Control) &&
      (step.value & 2) === 0 &&
      ours.registers[At.Line] === 1 &&
      theirs.registers[At.Line] === 0,
  },
  {
    name: "BMIDE Interrupt without a rising edge",
    verdict: "BMIDE §2.2: set by the rising edge of the line; QEMU sets it each time a raised line is raised",
    applies: ({ what, ours: traces, step }, { ours, theirs }) =>
      what === "BmStatus" &&
      (ours.registers[At.BmStatus] ^ theirs.registers[At.BmStatus]) === 4 &&
      (theirs.registers[At.BmStatus] & 4) !== 0 &&
      ours.registers[At.Line] === 1 &&
      step > 0 &&
      traces[step - 1].registers[At.Line] === 1,
  },
  {
    name: "PRDs outside memory",
    verdict: "BMIDE §2.2: Error when the bus master's access fails; QEMU reads zeros and goes on",
    apart: true,
    applies: ({ step, ours: traces }, { ours }) =>
      ((ours.registers[At.BmStatus] & 2) !== 0 || (ours.registers[At.Status] & 1) !== 0) && stray(step, traces),
  },
  {
    name: "a DMA command that a reset has ended",
    verdict: "§9.2: a reset ends every command; QEMU's bus master carries it out at the next START",
    apart: true,
    applies: ({ program, step: at }, { step }) => writes(step, AtaRegister.BmCommand) && dmaBeforeReset(program, at),
  },
  {
    name: "the descriptor pointer while Active",
    verdict: "BMIDE §2.3, §3.1: not to be written, nor used for two commands; QEMU latches it at START",
    apart: true,
    applies: ({ program, step, ours }) => pointerMoved(program, step, ours),
  },
  {
    name: "48-bit command with LBA clear",
    verdict: "§6.2.1: 48-bit addresses exist in LBA form only, so ABRT; QEMU reads CHS",
    apart: true,
    applies: ({ program, step, ours: traces }, { ours }) =>
      failed(ours, AtaError.Abort) &&
      EXT.has(lastCommand(program, step, traces) as number) &&
      (ours.registers[At.Device] & 0x40) === 0,
  },
  {
    name: "EXECUTE DIAGNOSTIC leaves the other drive alone",
    verdict: "§8.11: both drives run it and both show their signature; QEMU 7.2 does it to the selected one",
    apart: true,
    applies: ({ program, step, what, ours: traces }) => {
      const at = diagnosed(program, step, traces);
      return (
        at >= 0 && step > at && SIGNATURE.has(what) && selectedBefore(step + 1, traces) !== selectedBefore(at, traces)
      );
    },
  },
  {
    name: "EXECUTE DIAGNOSTIC leaves HOB alone",
    verdict: "§8.11, §9.12: the signature is what the registers hold; QEMU keeps the bytes written before underneath",
    applies: ({ program, step, what, ours: traces }) =>
      SIGNATURE.has(what) && diagnosed(program, step, traces) >= 0 && highOrder(program, step),
  },
  {
    name: "EXECUTE DIAGNOSTIC with device 1 selected",
    verdict: "§8.11, §9.12: device 0 is selected afterwards; QEMU says so in Device, and goes on with device 1",
    apart: true,
    applies({ program, step, ours: traces }) {
      const at = diagnosed(program, step, traces);
      const since = program.slice(at + 1, step + 1);
      return at >= 0 && selectedBefore(at, traces) === 1 && !since.some((each) => writes(each, AtaRegister.Device));
    },
  },
  {
    name: "SET MULTIPLE over SRST",
    verdict:
      "§8.46: SET FEATURES 66h and CCh say whether settings outlive SRST, and ours do as told, 66h at power-on; QEMU's is 16 again",
    apart: true,
    applies: ({ program, step, ours: traces }) =>
      MULTIPLE.has(lastCommand(program, step, traces) as number) && multipleKept(program, step, traces),
  },
  {
    name: "IDLE IMMEDIATE ends a command",
    verdict: "VirtualBox, for Linux, which sends it to a drive that it has lost; QEMU ignores it",
    applies: ({ step: at, ours: traces }, { step }) =>
      step.do === "out" &&
      writes(step, AtaRegister.Command) &&
      step.value === 0xe1 &&
      at > 0 &&
      (traces[at - 1].registers[At.Status] & 0x88) !== 0,
  },
  {
    name: "writing without PCI bus mastering",
    verdict: "PCI 3.0 §6.2.2: no access to memory, so there is nothing to write; QEMU writes what it cannot read",
    apart: true,
    applies: ({ program, step }, { ours }) =>
      program.slice(0, step).some((each) => each.do === "master" && !each.on) &&
      (failed(ours, AtaError.Abort) || (highOrder(program, step) && (ours.registers[At.Status] & 1) !== 0)),
  },
  {
    name: "commands that QEMU lacks",
    verdict: "implemented as the specification has them; QEMU answers ABRT",
    applies: (_found, { step, theirs }) =>
      step.do === "out" &&
      writes(step, AtaRegister.Command) &&
      !THEIRS.has(step.value) &&
      failed(theirs, AtaError.Abort),
  },
  {
    name: "SECURITY FREEZE LOCK leaves Count alone",
    verdict: "§8.41: no outputs; QEMU carries out CFA WEAR LEVEL, which has the same code, and clears Count",
    applies: ({ what }, { step }) => what === "Count" && step.do === "out" && step.value === 0xf5,
  },
  {
    name: "SMART READ LOG",
    verdict:
      "§8.54.7: the length of the log in Count, and a directory at 0; QEMU sends a sector whatever it is asked for",
    applies: ({ program, step: at }, { ours, theirs, step }) =>
      step.do === "out" &&
      step.value === 0xb0 &&
      lastWrite(program, at, AtaRegister.Features) === 0xd5 &&
      (failed(ours, AtaError.Abort) || failed(theirs, AtaError.Abort)),
  },
  {
    name: "SMART ATTRIBUTE AUTOSAVE",
    verdict: "§8.54.2: 00h or F1h in Count; QEMU looks for it in LBA low",
    applies: ({ program, step: at }, { step }) =>
      step.do === "out" && step.value === 0xb0 && lastWrite(program, at, AtaRegister.Features) === 0xd2,
  },
  {
    name: "CHECK POWER MODE after STANDBY",
    verdict: "§8.8: 00h when standing by; QEMU says active whatever it was told",
    applies: ({ program, step: at, what }, { step }) =>
      what === "Count" &&
      step.do === "out" &&
      (step.value === 0xe5 || step.value === 0x98) &&
      program.slice(0, at).some((each) => each.do === "out" && each.register === 7 && POWER.has(each.value)),
  },
  {
    name: "HOB of Count while sectors move",
    verdict: "§8.27: no output there; ours is the high byte of what remains, QEMU's stays as it was written",
    applies: ({ program, step, what }) => what === "Count" && highOrder(program, step),
  },
  {
    name: "SMART subcommands that QEMU lacks",
    verdict: "§8.54.4 and others, implemented; QEMU answers ABRT",
    applies: ({ program, step: at }, { step, theirs }) =>
      step.do === "out" &&
      step.value === 0xb0 &&
      failed(theirs, AtaError.Abort) &&
      !SMART.has(lastWrite(program, at, AtaRegister.Features) ?? 0),
  },
  {
    name: "DATA SET MANAGEMENT, reserved bits and counts",
    verdict:
      "ATA8-ACS §7.10: TRIM is bit 0 of Features, whatever the others are, and Count is not 0; QEMU the other way round",
    apart: true,
    applies: (_found, { step, ours, theirs }) =>
      step.do === "out" && step.value === 0x06 && failed(theirs, AtaError.Abort) !== failed(ours, AtaError.Abort),
  },
  {
    name: "INITIALIZE DEVICE PARAMETERS of 0 sectors a track",
    verdict: "ATA-5 §8.16: a translation that is not supported is ABRT; QEMU takes it",
    apart: true,
    applies: (_found, { step, ours }) => step.do === "out" && step.value === 0x91 && failed(ours, AtaError.Abort),
  },
  {
    name: "SET FEATURES values that are reserved",
    verdict: "§8.46: a mode that IDENTIFY does not offer and a reserved level are ABRT; QEMU takes them",
    applies: ({ program, step: at }, { step, ours }) =>
      step.do === "out" &&
      step.value === 0xef &&
      [0x03, 0x05, 0x42].includes(lastWrite(program, at, AtaRegister.Features) ?? 0) &&
      failed(ours, AtaError.Abort),
  },
  {
    name: "SRST held",
    verdict: "§9.2: BSY until the host clears SRST; QEMU's reset is over while it is still set",
    apart: true,
    applies: ({ program, step }) => ((lastWrite(program, step, AtaRegister.Control) ?? 0) & 4) !== 0,
  },
  {
    name: "32 bits where 16 are left",
    verdict: "the port is 16 bits wide (§5.2.4) and PCI splits wider cycles; QEMU answers 0 and stands still",
    applies: ({ program, step: at }, { step }) =>
      (step.do === "drain" || step.do === "feed") && step.width === 4 && oddWords(program, at),
  },
  {
    name: "SRST with device 1 selected",
    verdict: "§9.2: device 0 is selected afterwards; QEMU says so in Device, and goes on with device 1",
    apart: true,
    applies: ({ program, step }) => resetOfSecond(program, step),
  },
];

export function knownDifference(found: Found): Known | undefined {
  const at = Math.min(found.step, found.program.length - 1);
  const state = { ours: found.ours[at], theirs: found.theirs[at], step: found.program[at] };
  return KNOWN.find((each) => each.applies(found, state));
}
