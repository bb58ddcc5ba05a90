// What our PVSCSI adapter and QEMU's (7.2) do differently, each with a verdict. SPC-4 and SBC-3 are cited by clause titles.
import { HostStatus } from "../../assembly/spec/pvscsi.ts";
import { ScsiOp } from "../../assembly/spec/scsi.ts";
import type { PvscsiStep } from "./pvscsi-program.ts";
import { DISKS, READ_ONLY } from "./pvscsi-sides.ts";

/** One side's completion, with what arrived in the request's window. */
export interface Completed {
  host: number;
  status: number;
  bytes: number;
  /** Hexadecimal. */
  sense: string;
  data: Uint8Array;
}

interface Known {
  name: string;
  verdict: string;
  /** The disks may hold different data from here on: the program ends. */
  diverges?: boolean;
  applies(step: PvscsiStep, ours: Completed, theirs: Completed): boolean;
}

/** Additional sense code of a CHECK CONDITION; -1 for none. */
function code({ status, sense }: Completed): number {
  return status === 2 ? Number.parseInt(sense.slice(24, 28) || "-1", 16) : -1;
}

const INVALID_FIELD = 0x2400;
const OUT_OF_RANGE = 0x2100;
const blocksOf = ({ cdb }: PvscsiStep): [lba: number, blocks: number] => {
  const view = new DataView(Uint8Array.from({ length: 16 }, (_, i) => cdb[i] ?? 0).buffer);
  if (cdb.length === 6) return [view.getUint32(0) & 0x1fffff, cdb[4]];
  if (cdb.length === 10) return [view.getUint32(2), view.getUint16(7)];
  if (cdb.length === 12) return [view.getUint32(2), view.getUint32(6)];
  return [view.getUint32(2) * 2 ** 32 + view.getUint32(6), view.getUint32(10)];
};
const isMedia = ({ cdb }: PvscsiStep) => [0x08, 0x0a, 0x28, 0x2a, 0xa8, 0xaa, 0x88, 0x8a].includes(cdb[0]);
const op = (step: PvscsiStep, ...codes: number[]) => codes.includes(step.cdb[0]);

/**
 * Not looked at, for it differs always: QEMU's completions say that no bytes were moved, where the header has their number; its
 * unit attention after a reset is POWER ON, RESET (29h/00h), where ours says which reset; ours points at the field in error.
 * Two kinds of requests are not made at all, for QEMU never completes them: those whose direction contradicts the command,
 * after which it also aborts itself on an assertion at the next adapter reset; and reads into a buffer of no bytes.
 */
const KNOWN: readonly Known[] = [
  {
    name: "room left over",
    verdict: "ours: Linux takes BTSTAT_SUCCESS with fewer bytes for a short answer, and BTSTAT_DATARUN for an error",
    applies: (_, ours, theirs) =>
      theirs.host === HostStatus.DataRun && ours.host === HostStatus.Success && ours.status === theirs.status,
  },
  {
    name: "too little room",
    verdict: "either: the header does not say how much is moved; ours moves no part of a sector and says DATARUN",
    diverges: true,
    applies: (step, ours) => ours.host === HostStatus.DataRun && step.length < 0x10000,
  },
  {
    name: "last sense kept",
    verdict: "ours: sense that went with the status is gone (SAM-5, Sense data)",
    applies: (step, ours, theirs) => op(step, ScsiOp.RequestSense) && ours.status === 0 && theirs.status === 0,
  },
  {
    name: "REQUEST SENSE and a unit attention",
    verdict: "ours: it is the command's own answer, with status GOOD (SPC-4, REQUEST SENSE)",
    applies: (step, ours, theirs) => op(step, ScsiOp.RequestSense) && ours.status === 0 && code(theirs) >>> 8 === 0x29,
  },
  {
    name: "no control mode page",
    verdict: "ours: SPC-4 has it for all devices, Linux asks for it",
    applies: (step, ours, theirs) =>
      op(step, ScsiOp.ModeSense6, ScsiOp.ModeSense10) &&
      (step.cdb[2] & 0x3f) === 0x0a &&
      ours.status === 0 &&
      code(theirs) === INVALID_FIELD,
  },
  {
    name: "mode pages",
    verdict: "either: which pages there are, whether saved values and sub-pages are refused",
    applies: (step, ours, theirs) =>
      op(step, ScsiOp.ModeSense6, ScsiOp.ModeSense10) &&
      (step.cdb[2] >> 6 !== 0 || step.cdb[3] !== 0 || ![1, 8, 0x0a, 0x3f].includes(step.cdb[2] & 0x3f)) &&
      (ours.status === 2 || theirs.status === 2),
  },
  {
    name: "obsolete address of READ CAPACITY",
    verdict: "ours: SBC-3 has made LOGICAL BLOCK ADDRESS and PMI obsolete",
    applies: (step, ours, theirs) =>
      op(step, ScsiOp.ReadCapacity10, ScsiOp.ServiceActionIn16) && ours.status === 0 && code(theirs) === INVALID_FIELD,
  },
  {
    name: "LBPME of a disk that cannot be written to",
    verdict: "ours: nothing of it can be unmapped",
    applies: (step, ours, theirs) =>
      op(step, ScsiOp.ServiceActionIn16) && step.target === READ_ONLY && ours.status === 0 && theirs.status === 0,
  },
  {
    name: "commands of other kinds of devices",
    verdict: "ours: INVALID COMMAND OPERATION CODE, where QEMU decodes for CD drives, or does nothing (FORMAT UNIT)",
    applies: (_, ours) => code(ours) === 0x2000,
  },
  {
    name: "a unit attention and a command that cannot be",
    verdict: "either: which of the two is told",
    applies: (_, ours, theirs) => code(ours) >>> 8 === 0x29 && [0x2000, INVALID_FIELD].includes(code(theirs)),
  },
  {
    name: "which command is told of a unit attention",
    verdict: "ours: the next of this logical unit (SAM-5); QEMU tells one for another logical unit, too",
    diverges: true,
    applies: (_, ours, theirs) => (code(ours) >>> 8 === 0x29) !== (code(theirs) >>> 8 === 0x29),
  },
  {
    name: "INQUIRY: CMDDT, and pages",
    verdict: "either: an obsolete bit; pages that one has and the other has not",
    applies: (step, ours, theirs) =>
      op(step, ScsiOp.Inquiry) && (code(ours) === INVALID_FIELD || code(theirs) === INVALID_FIELD || step.lun !== 0),
  },
  {
    name: "another logical unit",
    verdict:
      "ours: REPORT LUNS is answered there, too (SAM-5, Incorrect logical unit numbers); or two things are wrong",
    applies: (step, ours, theirs) =>
      step.lun !== 0 && theirs.status === 2 && (ours.status === 2 || op(step, ScsiOp.ReportLuns)),
  },
  {
    name: "LOEJ of a disk",
    verdict: "ours: a medium that does not come out cannot be ejected",
    applies: (step, ours) => op(step, ScsiOp.StartStopUnit) && (step.cdb[4] & 2) !== 0 && code(ours) === INVALID_FIELD,
  },
  {
    name: "SYNCHRONIZE CACHE and VERIFY past the end",
    verdict: "ours: LBA OUT OF RANGE (SBC-3, clauses of that name)",
    applies: (step, ours, theirs) =>
      op(step, ScsiOp.SynchronizeCache10, ScsiOp.Verify10) && code(ours) === OUT_OF_RANGE && theirs.status === 0,
  },
  {
    name: "well-known logical units",
    verdict: "ours: SELECT REPORT 1 is of those alone, and there are none (SPC-4, REPORT LUNS)",
    applies: (step) => op(step, ScsiOp.ReportLuns) && step.cdb[2] === 1,
  },
  {
    name: "UNMAP cut short",
    verdict:
      "ours: descriptors that are not all there are ignored (SBC-3, UNMAP parameter list); QEMU refuses the list",
    diverges: true,
    applies: (step, ours, theirs) =>
      op(step, ScsiOp.Unmap) && (code(theirs) === 0x1a00 || code(ours) === 0x1a00 || step.target === READ_ONLY),
  },
  {
    name: "UNMAP past the end",
    verdict: "either: ours does none of it, QEMU what comes before; SBC-3 leaves it open",
    diverges: true,
    applies: (step, ours, theirs) => unmapsPastTheEnd(step, ours) && theirs.status === 2,
  },
  {
    name: "too many blocks",
    verdict: "either: more than the disk has, or than one command takes: one is told, or the other",
    applies: (step, ours, theirs) => {
      const [lba, blocks] = blocksOf(step);
      const both = ours.status === 2 && theirs.status === 2;
      return both && lba + blocks > DISKS[0] / 512 && [code(ours), code(theirs)].includes(OUT_OF_RANGE);
    },
  },
  {
    name: "protected and out of range",
    verdict: "either: which of two things that are wrong is told",
    applies: (step, ours, theirs) => isMedia(step) && ours.status === 2 && theirs.status === 2,
  },
];

/** The first of those that explains the difference. */
export function explained(step: PvscsiStep, ours: Completed, theirs: Completed): Known | undefined {
  return KNOWN.find(({ applies }) => applies(step, ours, theirs));
}

export function unmapsPastTheEnd(step: PvscsiStep, ours: Completed): boolean {
  return op(step, ScsiOp.Unmap) && code(ours) === OUT_OF_RANGE;
}
