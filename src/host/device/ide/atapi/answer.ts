import { Asc, SenseKey } from "../../../../../assembly/spec/mmc.ts";
import type { SectorType } from "../../../media/sector.ts";

/** Why a command failed: what REQUEST SENSE will say (SPC-3). */
export interface Sense {
  key: SenseKey;
  /** Asc: code and qualifier. */
  code: number;
  /** The logical block at fault. */
  lba?: number;
  /** The byte at fault, of the command or, when `inData`, of the parameter list. */
  field?: number;
  inData?: boolean;
}

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

const VALID = 0x80;
const CURRENT_FIXED = 0x70;
/** Sense-key specific bytes are valid; the pointer is into the command. */
const SKSV = 0x80;
const IN_COMMAND = 0x40;

/** Fixed format, 18 bytes (SPC-3). */
export function senseBytes(sense: Sense): Uint8Array {
  const bytes = new Uint8Array(18);
  bytes[0] = CURRENT_FIXED | (sense.lba === undefined ? 0 : VALID);
  bytes[2] = sense.key;
  if (sense.lba !== undefined) put32(bytes, 3, sense.lba);
  bytes[7] = 10;
  put16(bytes, 12, sense.code);
  if (sense.field !== undefined) {
    bytes[15] = SKSV | (sense.inData ? 0 : IN_COMMAND);
    put16(bytes, 16, sense.field);
  }
  return bytes;
}

/** Big-endian fields, as all of SCSI has them. */
export function get16(bytes: Uint8Array, at: number): number {
  return (bytes[at] << 8) | bytes[at + 1];
}
export function get24(bytes: Uint8Array, at: number): number {
  return (bytes[at] << 16) | get16(bytes, at + 1);
}
export function get32(bytes: Uint8Array, at: number): number {
  return get16(bytes, at) * 65536 + get16(bytes, at + 2);
}
export function put16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}
export function put24(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 16;
  put16(bytes, at + 1, value & 0xffff);
}
export function put32(bytes: Uint8Array, at: number, value: number): void {
  put16(bytes, at, Math.floor(value / 65536));
  put16(bytes, at + 2, value % 65536);
}

/** ASCII, padded with blanks. */
export function putAscii(bytes: Uint8Array, at: number, length: number, text: string): void {
  for (let i = 0; i < length; i++) bytes[at + i] = i < text.length ? text.charCodeAt(i) : 0x20;
}
