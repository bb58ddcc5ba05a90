import { Asc, SenseKey } from "../../../../../assembly/spec/mmc.ts";
import type { SectorType } from "../../../media/sector.ts";
import type { Sense } from "../../scsi/sense.ts";

export { get16, get24, get32, put16, put24, put32, putAscii } from "../../scsi/fields.ts";
export { type Sense, senseBytes } from "../../scsi/sense.ts";

/** Sectors for the host. Plain data, so that it can be saved in the middle. */
export interface ReadPlan {
  lba: number;
  count: number;
  /** Bytes that each sector gives. */
  bytes: number;
  /** Absent: user data of mode 1 or mode 2 form 1, as READ has it. */
  raw?: {
    /** Parts of the whole sector: [from, to), one after the other. */
    parts: [from: number, to: number][];
    /** Every sector must be of this type. */
    type: SectorType;
    /** Bytes of C2 error data: 0, 294 or 296. */
    c2: number;
    /** Bytes of sub-channel data: 0, 16 (Q) or 96. */
    sub: number;
  };
}

/** How a packet command comes out. */
export type Answer =
  | { kind: "done" }
  | { kind: "sense"; sense: Sense }
  /** No more than the allocation length. */
  | { kind: "data"; bytes: Uint8Array }
  | { kind: "read"; plan: ReadPlan }
  /** A parameter list of that many bytes is wanted. */
  | { kind: "want"; length: number };

export const DONE: Answer = { kind: "done" };

export function check(key: SenseKey, code: number, lba?: number): Answer {
  return { kind: "sense", sense: lba === undefined ? { key, code } : { key, code, lba } };
}

export function illegal(code: number): Answer {
  return check(SenseKey.IllegalRequest, code);
}

/** INVALID FIELD IN CDB, pointing at the byte. */
export function invalidField(field: number): Answer {
  return { kind: "sense", sense: { key: SenseKey.IllegalRequest, code: Asc.InvalidFieldInCdb, field } };
}

export function invalidParameter(field: number): Answer {
  return {
    kind: "sense",
    sense: { key: SenseKey.IllegalRequest, code: Asc.InvalidFieldInParameters, field, inData: true },
  };
}

/** Data, cut to what the host has room for (SPC-3: that is no error). */
export function reply(bytes: Uint8Array, allocation: number): Answer {
  return { kind: "data", bytes: bytes.subarray(0, allocation) };
}
