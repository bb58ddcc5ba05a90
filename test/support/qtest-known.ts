import { AtaError, AtaRegister, AtaStatus } from "../../assembly/spec/ata.ts";
import { CD_KNOWN } from "./qtest-cd-known.ts";
import {
  At,
  diagnosed,
  diagnosedSecond,
  dmaBeforeReset,
  EXT,
  type Found,
  failed,
  highOrder,
  type Known,
  lastCommand,
  lastWrite,
  MOVES_EXT,
  MULTIPLE,
  multipleKept,
  oddBlock,
  oddWords,
  ofCd,
  POWER,
  pointerMoved,
  resetOfSecond,
  SIGNATURE,
  SMART,
  selectedBefore,
  stray,
  THEIRS,
  writes,
  writtenBefore,
} from "./qtest-history.ts";

export const KNOWN: readonly Known[] = [
  {
    name: "IDNF",
    verdict:
      "§6.2.2: an address that is not there is IDNF or ABRT; ours tells which, QEMU says ABRT whatever the cause",
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
    verdict: "§6.20: 268,435,454 when the last address is beyond 268,435,455; QEMU cuts it off",
    applies: ({ what }, { step, ours }) =>
      what.startsWith("Lba") &&
      step.do === "out" &&
      writes(step, AtaRegister.Command) &&
      step.value === 0xf8 &&
      ours.registers[At.LbaLow] === 0xfe &&
      ours.registers[At.LbaMid] === 0xff &&
      (ours.registers[At.Device] & 0x4f) === 0x4f,
  },
  {
    name: "READ NATIVE MAX in CHS form",
    verdict: "§8.32: the last sector of the default translation, as QEMU has it since 8.0; 7.2 converts the last LBA",
    applies: ({ what }, { step, ours }) =>
      (what.startsWith("Lba") || what === "Device") &&
      step.do === "out" &&
      writes(step, AtaRegister.Command) &&
      step.value === 0xf8 &&
      (ours.registers[At.Device] & 0x40) === 0,
  },
  {
    name: "nIEN set while an interrupt is pending",
    verdict: "§5.2.9: nIEN takes the device off the line; QEMU looks at it only when it raises the line",
    applies: ({ step: at, ours: traces }, { step, ours, theirs }) =>
      step.do === "out" &&
      writes(step, AtaRegister.Control) &&
      (step.value & 2) !== 0 &&
      traces[at - 1]?.registers[At.Line] === 1 &&
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
    applies: (found) => pointerMoved(found),
  },
  {
    name: "48-bit command with LBA clear",
    verdict: "§6.20: 48-bit addresses exist in LBA form only, so ABRT; QEMU reads CHS",
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
        at >= 0 &&
        step > at &&
        SIGNATURE.has(what) &&
        selectedBefore(program, step + 1, traces) !== selectedBefore(program, at, traces)
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
    applies: ({ program, step, ours }) => diagnosedSecond(program, step, ours),
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
    name: "reading 65,536 sectors without PCI bus mastering",
    verdict:
      "PCI 3.0 §6.2.2: no access to memory, so no table is read, and Active stays; QEMU reads zeros, 512 entries of 64 KiB, which are just as much",
    applies: ({ program, step, what, ours: traces }, { ours, theirs }) =>
      what === "BmStatus" &&
      (ours.registers[At.BmStatus] & 1) === 1 &&
      (ours.registers[At.BmStatus] ^ theirs.registers[At.BmStatus]) === 1 &&
      lastCommand(program, step, traces) === 0x25 &&
      lastWrite(program, step, AtaRegister.Count) === 0 &&
      program.slice(0, step).findLast((each) => each.do === "master")?.on === false,
  },
  {
    name: "commands that QEMU lacks",
    verdict: "implemented as the specification has them; QEMU answers ABRT",
    applies: (found, { step, theirs }) =>
      !ofCd(found) &&
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
      "§8.51, SMART READ LOG: its length in Count, and a directory at 0; QEMU sends a sector whatever it is asked for",
    applies: ({ program, step: at }, { ours, theirs, step }) =>
      step.do === "out" &&
      step.value === 0xb0 &&
      lastWrite(program, at, AtaRegister.Features) === 0xd5 &&
      (failed(ours, AtaError.Abort) || failed(theirs, AtaError.Abort)),
  },
  {
    name: "SMART ATTRIBUTE AUTOSAVE",
    verdict: "§8.51.2: 00h or F1h in Count; QEMU looks for it in LBA low",
    applies: ({ program, step: at }, { step, ours, theirs }) =>
      step.do === "out" &&
      step.value === 0xb0 &&
      lastWrite(program, at, AtaRegister.Features) === 0xd2 &&
      failed(ours, AtaError.Abort) !== failed(theirs, AtaError.Abort),
  },
  {
    name: "CHECK POWER MODE after STANDBY",
    verdict: "§8.7: 00h when standing by; QEMU says active whatever it was told",
    applies: ({ program, step: at, what }, { step }) =>
      what === "Count" &&
      step.do === "out" &&
      (step.value === 0xe5 || step.value === 0x98) &&
      program.slice(0, at).some((each) => each.do === "out" && each.register === 7 && POWER.has(each.value)),
  },
  {
    name: "HOB of Count while sectors move",
    verdict:
      "§8.35, §8.63: Count is reserved as an output; ours has what remains in both bytes, QEMU's high one stays as it was written",
    applies: ({ program, step, what, ours: traces }, { ours, theirs }) =>
      what === "Count" &&
      highOrder(program, step) &&
      MOVES_EXT.has(lastCommand(program, step, traces) as number) &&
      theirs.registers[At.Count] === writtenBefore(program, step, AtaRegister.Count, traces) &&
      (theirs.registers[At.Count] === 0 || ours.registers[At.Count] < theirs.registers[At.Count]),
  },
  {
    name: "SMART subcommands that QEMU lacks",
    verdict: "§8.51, implemented; QEMU answers ABRT",
    applies: ({ program, step: at }, { step, theirs }) =>
      step.do === "out" &&
      step.value === 0xb0 &&
      failed(theirs, AtaError.Abort) &&
      !SMART.has(lastWrite(program, at, AtaRegister.Features) ?? 0),
  },
  {
    name: "DATA SET MANAGEMENT, reserved bits and counts",
    verdict:
      "ACS-2, DATA SET MANAGEMENT: TRIM is bit 0 of Features, whatever the others are, and Count is not 0; QEMU the other way round",
    apart: true,
    applies: ({ what }, { step, ours, theirs }) =>
      what === "AltStatus" &&
      step.do === "out" &&
      writes(step, AtaRegister.Command) &&
      step.value === 0x06 &&
      (failed(theirs, AtaError.Abort) || failed(ours, AtaError.Abort)),
  },
  {
    name: "INITIALIZE DEVICE PARAMETERS of 0 sectors a track",
    verdict: "ATA-5 §8.16: a translation that is not supported is ABRT; QEMU takes it",
    apart: true,
    applies: (found, { step, ours }) =>
      !ofCd(found) &&
      step.do === "out" &&
      writes(step, AtaRegister.Command) &&
      step.value === 0x91 &&
      ours.registers[At.Count] === 0 &&
      failed(ours, AtaError.Abort),
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
    applies: ({ program, step, what }, { ours, theirs, step: each }) =>
      ((lastWrite(program, step, AtaRegister.Control) ?? 0) & 4) !== 0 &&
      (what === "AltStatus" || (what.startsWith("value") && each.do === "in")) &&
      ours.registers[At.Status] === AtaStatus.Busy &&
      (theirs.registers[At.Status] & AtaStatus.Busy) === 0,
  },
  {
    name: "32 bits where 16 are left",
    verdict: "the port is 16 bits wide (§5.2.4) and PCI splits wider cycles; QEMU answers 0 and stands still",
    applies: ({ program, step: at, ours, theirs }, { step }) =>
      (step.do === "drain" || step.do === "feed") &&
      step.width === 4 &&
      (oddWords(program, at) || oddBlock(program, at, ours, theirs)),
  },
  {
    name: "SRST with device 1 selected",
    verdict: "§9.2: device 0 is selected afterwards; QEMU says so in Device, and goes on with device 1",
    apart: true,
    applies: ({ program, step, ours }) => resetOfSecond(program, step, ours),
  },
];

export function knownDifference(found: Found): Known | undefined {
  const at = Math.min(found.step, found.program.length - 1);
  const state = { ours: found.ours[at], theirs: found.theirs[at], step: found.program[at] };
  return [...KNOWN, ...CD_KNOWN].find((each) => each.applies(found, state));
}
