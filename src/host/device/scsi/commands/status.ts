// What a disk says of itself: readiness, sense, capacity, logical units.
import { SenseKey } from "../../../../../assembly/spec/mmc.ts";
import { ScsiOp, ServiceAction } from "../../../../../assembly/spec/scsi.ts";
import { args, command, DONE, invalidField, refuse, reply, type ScsiUnit, type Work } from "../command.ts";
import { get32, put32, put64 } from "../fields.ts";
import { senseBytes } from "../sense.ts";

interface Allocation {
  allocation: number;
}

const testUnitReady = command<null>({
  code: ScsiOp.TestUnitReady,
  name: "TEST UNIT READY",
  decode: () => args(null),
  execute: () => DONE,
});

/** Sense data goes with the status of each command; what is left to ask for is a unit attention. */
const requestSense = command<Allocation>({
  code: ScsiOp.RequestSense,
  name: "REQUEST SENSE",
  always: true,
  // DESC: descriptor format is optional.
  decode: (cdb) => ((cdb[1] & 1) !== 0 ? refuse(invalidField(1)) : args({ allocation: cdb[4] })),
  execute: (unit, { allocation }) =>
    reply(senseBytes(unit.takeAttention() ?? { key: SenseKey.None, code: 0 }), allocation),
});

/** SBC-3: with PMI clear the address must be zero. Both are obsolete: they are not looked at. */
const readCapacity10 = command<null>({
  code: ScsiOp.ReadCapacity10,
  name: "READ CAPACITY (10)",
  decode: () => args(null),
  execute({ blocks, blockSize }) {
    const bytes = new Uint8Array(8);
    put32(bytes, 0, Math.min(blocks - 1, 0xffffffff));
    put32(bytes, 4, blockSize);
    return reply(bytes, bytes.length);
  },
});

function capacity16(unit: ScsiUnit, { allocation }: Allocation): Work {
  const bytes = new Uint8Array(32);
  put64(bytes, 0, unit.blocks - 1);
  put32(bytes, 8, unit.blockSize);
  bytes[13] = unit.physicalExponent;
  // LBPME: logical blocks may be unmapped.
  if (!unit.readOnly) bytes[14] = 0x80;
  return reply(bytes, allocation);
}

const readCapacity16 = command<Allocation>({
  code: ScsiOp.ServiceActionIn16,
  action: ServiceAction.ReadCapacity16,
  name: "READ CAPACITY (16)",
  decode: (cdb) => args({ allocation: get32(cdb, 10) }),
  execute: capacity16,
});

/** SELECT REPORT: well-known logical units only, of which there are none. */
const WELL_KNOWN = 1;

interface ReportLuns extends Allocation {
  select: number;
}

/** SPC-4: what a target answers of its logical units, which is the one. Any logical unit may be asked. */
export const reportLuns = command<ReportLuns>({
  code: ScsiOp.ReportLuns,
  name: "REPORT LUNS",
  always: true,
  decode(cdb) {
    const allocation = get32(cdb, 6);
    if (cdb[2] > 2) return refuse(invalidField(2));
    // SPC-3 wants room for one entry at the least.
    return allocation < 16 ? refuse(invalidField(6)) : args({ select: cdb[2], allocation });
  },
  execute(_unit, { select, allocation }) {
    const bytes = new Uint8Array(select === WELL_KNOWN ? 8 : 16);
    put32(bytes, 0, bytes.length - 8);
    return reply(bytes, allocation);
  },
});

/**
 * A virtual disk does not spin: it is always ready, and what stopping it has to see to is that all it was given is durable.
 * LOEJ is for media that come out.
 */
const startStop = command<{ start: boolean }>({
  code: ScsiOp.StartStopUnit,
  name: "START STOP UNIT",
  decode: (cdb) => ((cdb[4] & 2) !== 0 ? refuse(invalidField(4)) : args({ start: (cdb[4] & 1) !== 0 })),
  execute: (unit, { start }) => (start || unit.readOnly ? DONE : { kind: "flush" }),
});

export const STATUS = [testUnitReady, requestSense, readCapacity10, readCapacity16, reportLuns, startStop];
