import { AtaError, AtaRegister } from "../../assembly/spec/ata.ts";
import { PacketOp } from "../../assembly/spec/mmc.ts";
import {
  At,
  type Found,
  failed,
  type Known,
  lastAccepted,
  lastCommand,
  lastWrite,
  ofCd,
  POWER,
  writes,
} from "./qtest-history.ts";
import type { Program } from "./qtest-program.ts";
import type { Trace } from "./qtest-trace.ts";

/** The packet of the command under way at `step`, or of the last one; undefined when it was of another kind. */
function packetOf(program: Program, step: number, ours: readonly Trace[]): readonly number[] | undefined {
  const at = lastAccepted(program, step, ours);
  if (at < 0 || lastCommand(program, step, ours) !== 0xa0) return undefined;
  const bytes = program.slice(at, step + 1).flatMap((one) => (one.do === "packet" ? [...one.bytes] : []));
  return bytes.length < 12 ? undefined : bytes.slice(0, 12);
}

/** Features, or another register, as it was when the packet command under way was given. */
function given(program: Program, step: number, ours: readonly Trace[], register: number): number {
  const at = lastAccepted(program, step, ours);
  return lastWrite(program, Math.max(0, at), register) ?? 0;
}

/** The allocation length of commands that have one. */
function allocationOf(packet: readonly number[]): number | undefined {
  switch (packet[0]) {
    case PacketOp.RequestSense:
    case PacketOp.Inquiry:
      return packet[4];
    case PacketOp.ReadToc:
    case PacketOp.GetConfiguration:
    case PacketOp.GetEventStatus:
    case PacketOp.ReadDiscInformation:
    case PacketOp.ModeSense10:
      return (packet[7] << 8) | packet[8];
    case PacketOp.MechanismStatus:
    case PacketOp.ReadDiscStructure:
      return (packet[8] << 8) | packet[9];
    default:
      return undefined;
  }
}

const byDma = ({ program, step, ours }: Found) =>
  packetOf(program, step, ours) !== undefined && (given(program, step, ours, AtaRegister.Features) & 1) !== 0;

/**
 * Has a PRD table of the packet command under way ended before the data, so that the bus master has stopped, and the drive
 * waits?
 */
function starved({ program, step, ours }: Found): boolean {
  if (ours[step - 1]?.registers[At.Status] !== 0x58) return false;
  for (let i = lastAccepted(program, step, ours); i < step; i++) {
    const [status, bmStatus] = [ours[i].registers[At.Status], ours[i].registers[At.BmStatus]];
    const each = program[i];
    const was = i > 0 && (ours[i - 1].registers[At.BmStatus] & 1) !== 0;
    const writesCommand = each.do === "out" && writes(each, AtaRegister.BmCommand);
    const started = writesCommand ? (each.value & 1) !== 0 : was;
    if (started && status === 0x58 && (bmStatus & 1) === 0) return true;
  }
  return false;
}

/** Which of the step's values differs; below zero: none does. */
const valueIn = (what: string) => (what.startsWith("value ") ? Number(what.slice(6)) : -1);

/** Does a READ CD name a sector type, error fields, sub-channels, or what is reserved? */
const isUnusual = (packet: readonly number[]) => (packet[1] & 0x1f) !== 0 || (packet[9] & 7) !== 0 || packet[10] !== 0;

const CHECK_POWER: ReadonlySet<number> = new Set([0x98, 0xe5]);

/** Sense key NOT READY, as the Error register has it. */
const NOT_READY = 0x20;

const ejects = (step: Program[number]) =>
  step.do === "packet" && step.bytes[0] === PacketOp.StartStopUnit && (step.bytes[4] & 3) === 2;

/** What a channel with a CD drive shows besides. */
export const CD_KNOWN: readonly Known[] = [
  {
    name: "power commands of a CD drive",
    verdict:
      "§8.16, word 82 bit 3: the Power Management feature set is mandatory, for packet devices too; QEMU's CD drives abort them",
    applies: (found, { step, ours, theirs }) =>
      ofCd(found) &&
      step.do === "out" &&
      writes(step, AtaRegister.Command) &&
      (POWER.has(step.value) || CHECK_POWER.has(step.value)) &&
      failed(theirs, AtaError.Abort) &&
      (ours.registers[At.Status] & 1) === 0,
  },
  {
    name: "diagnostic code after DEVICE RESET",
    verdict: "§8.9, §9.12: the Error register holds the diagnostic code, 01h; QEMU's is 0",
    applies: ({ what }, { step, ours, theirs }) =>
      what === "Error" &&
      step.do === "out" &&
      step.value === 0x08 &&
      ours.registers[At.Error] === 1 &&
      theirs.registers[At.Error] === 0,
  },
  {
    name: "the rest of a packet's data, by another PRD table",
    verdict:
      "§9.8: DRQ is set until all data have moved, so they go on when the bus master is started anew; QEMU has forgotten them",
    applies: (found, { step }) =>
      byDma(found) &&
      step.do === "out" &&
      writes(step, AtaRegister.BmCommand) &&
      (step.value & 1) !== 0 &&
      starved(found),
  },
  {
    name: "packet by DMA without data",
    verdict: "§9.8: a command without data ends with its packet; QEMU waits for the bus master to move nothing",
    apart: true,
    applies: (found, { ours, theirs }) =>
      byDma(found) &&
      found.what === "AltStatus" &&
      allocationOf(packetOf(found.program, found.step, found.ours) ?? []) === 0 &&
      ours.registers[At.Status] === 0x50 &&
      theirs.registers[At.Status] === 0x58,
  },
  {
    name: "PRD table longer than a packet's data",
    verdict: "BMIDE §3.1: Active stays set with the interrupt; QEMU's packets clear it, its disks do not",
    applies: (found, { ours, theirs }) =>
      found.what === "BmStatus" &&
      byDma(found) &&
      (ours.registers[At.BmStatus] & 1) === 1 &&
      (ours.registers[At.BmStatus] ^ theirs.registers[At.BmStatus]) === 1,
  },
  {
    name: "length of MODE SENSE, GET CONFIGURATION and INQUIRY pages",
    verdict:
      "page 01h has 12 bytes since MMC-2; more features than QEMU's one (MMC-6 §5), and more VPD pages (SPC-3 §7.6)",
    apart: true,
    applies({ program, step, ours: traces, what }) {
      const packet = packetOf(program, step, traces);
      if (packet === undefined || !["LbaMid", "BmStatus", "AltStatus", "interrupt line"].includes(what)) return false;
      const [code, option, page] = packet;
      if (code === PacketOp.Inquiry) return (option & 1) !== 0 && packet[4] > 6;
      return (
        (code === PacketOp.ModeSense10 && page === 1 && packet[8] > 16) ||
        (code === PacketOp.GetConfiguration && (option & 3) !== 2 && packet[8] > 20)
      );
    },
  },
  {
    name: "MODE SENSE of changeable and default values",
    verdict:
      "SPC-3 §6.9.3, §6.9.4: default values are never refused, changeable ones only by who has none; QEMU refuses both",
    applies({ program, step, ours: traces, what }, { theirs }) {
      const packet = packetOf(program, step, traces);
      if (packet?.[0] !== PacketOp.ModeSense10 || what !== "AltStatus") return false;
      return [1, 2].includes(packet[2] >> 6) && failed(theirs, 0x50);
    },
  },
  {
    name: "READ TOC of sessions that are not there",
    verdict: "MMC-6, READ TOC/PMA/ATIP: sessions from that number on, of which there are none; QEMU heeds no number",
    apart: true,
    applies({ program, step, ours: traces }) {
      const packet = packetOf(program, step, traces);
      return packet?.[0] === PacketOp.ReadToc && packet[9] >> 6 === 2 && packet[6] > 1;
    },
  },
  {
    name: "byte count limit of zero",
    verdict:
      "§8.23, and §8.16, word 125: ABRT of a command with data, whose end has the interrupt reason of any; QEMU leaves it as it was, looks at the limit first, and without data, too",
    applies: ({ program, step, ours: traces, what }, { ours, theirs }) =>
      (what === "Count" || what === "Error" || (what === "AltStatus" && (ours.registers[At.Status] & 9) === 0)) &&
      packetOf(program, step, traces) !== undefined &&
      given(program, step, traces, AtaRegister.LbaMid) === 0 &&
      given(program, step, traces, AtaRegister.LbaHigh) === 0 &&
      failed(theirs, AtaError.Abort),
  },
  {
    name: "SET FEATURES of a CD drive",
    verdict: "§8.46: ABRT of what IDENTIFY PACKET DEVICE does not offer; QEMU's CD drives take what its disks have",
    applies: (found, { step, ours, theirs }) =>
      ofCd(found) &&
      step.do === "out" &&
      writes(step, AtaRegister.Command) &&
      step.value === 0xef &&
      failed(ours, AtaError.Abort) &&
      (theirs.registers[At.Status] & 1) === 0,
  },
  {
    name: "Device after a command that shows the signature",
    verdict: "§9.12: the signature stands in Count and LBA; Device keeps its low bits, which QEMU clears",
    applies: (found, { step, ours, theirs }) =>
      ofCd(found) &&
      found.what === "Device" &&
      step.do === "out" &&
      [0x20, 0x21, 0xec].includes(step.value) &&
      ((ours.registers[At.Device] ^ theirs.registers[At.Device]) & 0xf0) === 0,
  },
  {
    name: "EXECUTE DIAGNOSTIC of a CD drive",
    verdict: "§8.11, §9.10: INTRQ at its end, whatever the drive; QEMU's CD drives do not interrupt",
    applies: (found, { step, ours, theirs }) =>
      ofCd(found) &&
      ["interrupt line", "BmStatus"].includes(found.what) &&
      step.do === "out" &&
      step.value === 0x90 &&
      ours.registers[At.Line] === 1 &&
      theirs.registers[At.Line] === 0,
  },
  {
    name: "last byte of an odd count",
    verdict:
      "§8.23: a count may be odd at the end of the data, and the port moves words; QEMU's never gives the last byte, and goes on asking",
    apart: true,
    applies({ program, step: at, what, ours: traces }, { step, ours, theirs }) {
      if (at === 0 || packetOf(program, at, traces) === undefined) return false;
      const before = traces[at - 1].registers;
      const odd = (before[At.Status] & 0x08) !== 0 && (before[At.LbaMid] & 1) === 1;
      if (!odd || (step.do !== "block" && step.do !== "drain")) return false;
      // All that the port has left is that byte, and it is the first that QEMU's has not.
      const value = valueIn(what);
      if (value >= 0) return theirs.values[value] === 0 && ours.values[value] <= 0xff;
      return what === "AltStatus" && ours.registers[At.Status] === 0x50 && theirs.registers[At.Status] === 0x58;
    },
  },
  {
    name: "reserved bits of READ CD",
    verdict:
      "MMC-6, READ CD: INVALID FIELD for values that are reserved or not supported; QEMU looks at five bits only",
    applies({ program, step, ours: traces, what }, { ours, theirs }) {
      const packet = packetOf(program, step, traces);
      if (packet?.[0] !== PacketOp.ReadCd || what !== "AltStatus") return false;
      return isUnusual(packet) && failed(ours, 0x50) && (theirs.registers[At.Status] & 1) === 0;
    },
  },
  {
    name: "events of the tray",
    verdict:
      "MMC-6, GET EVENT STATUS NOTIFICATION: media removal and new media when the tray moves; QEMU tells of a user's exchange only",
    applies({ program, step, ours: traces, what }, { ours, theirs }) {
      const value = valueIn(what);
      if (value < 0 || packetOf(program, step, traces)?.[0] !== PacketOp.GetEventStatus) return false;
      // The code alone: the byte behind it, what the drive holds, is the same.
      if ((ours.values[value] ^ theirs.values[value]) > 0x0f) return false;
      return program.slice(0, step).some((one) => one.do === "packet" && one.bytes[0] === PacketOp.StartStopUnit);
    },
  },
  {
    name: "READ TOC, format in byte 2",
    verdict: "MMC-6, READ TOC/PMA/ATIP: bits 0 to 3 of byte 2; QEMU reads the two bits of byte 9 that SFF-8020i has",
    apart: true,
    applies({ program, step, ours: traces }) {
      const packet = packetOf(program, step, traces);
      return packet?.[0] === PacketOp.ReadToc && (packet[2] & 0x0f) !== 0 && (packet[2] & 0x0f) !== packet[9] >> 6;
    },
  },
  {
    name: "sense of a READ CD with reserved bits",
    verdict:
      "MMC-6, READ CD: INVALID FIELD IN CDB, which ours finds before what is wrong with the address; QEMU looks at the address only",
    applies({ program, step, ours: traces, what }) {
      if (!what.startsWith("value") || packetOf(program, step, traces)?.[0] !== PacketOp.RequestSense) return false;
      const packet = packetOf(program, lastAccepted(program, step, traces) - 1, traces);
      return packet?.[0] === PacketOp.ReadCd && isUnusual(packet);
    },
  },
  {
    name: "PACKET to be overlapped",
    verdict: "§8.23: no error before the last byte of the packet, and ABRT then; QEMU refuses the command at once",
    apart: true,
    applies: (found, { step, ours, theirs }) =>
      ofCd(found) &&
      found.what === "AltStatus" &&
      step.do === "out" &&
      writes(step, AtaRegister.Command) &&
      step.value === 0xa0 &&
      (given(found.program, found.step, found.ours, AtaRegister.Features) & 2) !== 0 &&
      ours.registers[At.Status] === 0x58 &&
      failed(theirs, AtaError.Abort),
  },
  {
    name: "START of a unit whose tray is open",
    verdict:
      "MMC-6, START STOP UNIT: to start is to make a medium ready, and there is none; QEMU does nothing, and well",
    applies({ program, step, ours: traces, what }, { ours, theirs }) {
      const packet = packetOf(program, step, traces);
      if (packet?.[0] !== PacketOp.StartStopUnit || what !== "AltStatus") return false;
      return (packet[4] & 3) === 1 && failed(ours, NOT_READY) && (theirs.registers[At.Status] & 1) === 0;
    },
  },
  {
    name: "a tray that is open when SRST comes",
    verdict: "ATA/ATAPI-6 §9.2: a reset moves no medium; QEMU's drives have closed their tray then",
    applies({ program, step, ours: traces, what }, { ours, theirs }) {
      if (what !== "AltStatus" || !failed(ours, NOT_READY) || (theirs.registers[At.Status] & 1) !== 0) return false;
      const open = program.slice(0, step).findIndex(ejects);
      return (
        open >= 0 &&
        packetOf(program, step, traces) !== undefined &&
        program
          .slice(open, step)
          .some((one) => one.do === "out" && one.register === AtaRegister.Control && (one.value & 4) !== 0)
      );
    },
  },
];
