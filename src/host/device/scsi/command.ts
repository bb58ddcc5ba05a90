import { Asc, SenseKey } from "../../../../assembly/spec/mmc.ts";
import type { ScsiOp } from "../../../../assembly/spec/scsi.ts";
import type { Op } from "../../../core/block.ts";
import type { Sense } from "./sense.ts";

/** What a command comes to, for the transport to carry out (execute.ts). Offsets and lengths are bytes. */
export type Work =
  | { kind: "done" }
  | { kind: "sense"; sense: Sense }
  /** For the initiator, no more than it has allocated. */
  | { kind: "data"; bytes: Uint8Array }
  /** Between the medium and the initiator; `durable`: a write that is on stable storage before it is reported. */
  | { kind: "transfer"; op: typeof Op.Read | typeof Op.Write; offset: number; length: number; durable: boolean }
  | { kind: "flush" }
  /** The medium is read, nobody gets it. */
  | { kind: "verify"; offset: number; length: number }
  /** So many bytes of parameters are wanted; what is then to be done. */
  | { kind: "want"; length: number; accept: (list: Uint8Array) => Work }
  | { kind: "ranges"; op: typeof Op.Discard | typeof Op.WriteZeroes; ranges: readonly ByteRange[] }
  /** One block, over and over. */
  | { kind: "fill"; offset: number; length: number; block: Uint8Array };

export interface ByteRange {
  offset: number;
  length: number;
}

/** What commands may know of the disk. */
export interface ScsiUnit {
  readonly identity: ScsiIdentity;
  /** Bytes of a logical block, and how many there are. */
  readonly blockSize: number;
  readonly blocks: number;
  /** log2 of the logical blocks of a physical one. */
  readonly physicalExponent: number;
  readonly readOnly: boolean;
  /** The pending unit attention, which it takes away; or none. */
  takeAttention(): Sense | null;
}

export interface ScsiIdentity {
  /** ASCII: at most 8, 16, 4 and 20 characters. */
  vendor: string;
  product: string;
  revision: string;
  serial: string;
  /** NAA designator, eight bytes. */
  naa: readonly number[];
}

/** Most bytes that one command reads, writes or fills (VPD page B0h). */
export const MAX_TRANSFER = 32 << 20;

/**
 * A command: what its CDB says is decoded apart from what is done about it. `decode` is pure, and answers with the command's
 * arguments or, when the bytes can mean nothing, with why. A CDB is 16 bytes, zero past its length.
 */
export interface ScsiCommand<A = unknown> {
  readonly code: ScsiOp;
  /** Of an operation code that several commands share. */
  readonly action?: number;
  /** In the standard's words. */
  readonly name: string;
  /** Carried out although a unit attention is pending (SAM-5, Unit attention conditions). */
  readonly always?: boolean;
  decode(cdb: Uint8Array): Decoded<A>;
  execute(unit: ScsiUnit, args: A): Work;
}

export type Decoded<A> = { args: A } | { refusal: Work };

/** Forgets the argument type, for the table. */
export function command<A>(definition: ScsiCommand<A>): ScsiCommand {
  return definition as ScsiCommand;
}

export function args<A>(value: A): Decoded<A> {
  return { args: value };
}

export function refuse(refusal: Work): { refusal: Work } {
  return { refusal };
}

export const DONE: Work = { kind: "done" };

export function check(key: SenseKey, code: number): Work {
  return { kind: "sense", sense: { key, code } };
}

export function illegal(code: number): Work {
  return check(SenseKey.IllegalRequest, code);
}

/** INVALID FIELD IN CDB, pointing at the byte. */
export function invalidField(field: number): Work {
  return { kind: "sense", sense: { key: SenseKey.IllegalRequest, code: Asc.InvalidFieldInCdb, field } };
}

export function invalidParameter(field: number): Work {
  const sense = { key: SenseKey.IllegalRequest, code: Asc.InvalidFieldInParameters, field, inData: true };
  return { kind: "sense", sense };
}

/** Data, cut to what the initiator has allocated (SPC-4: that is no error). */
export function reply(bytes: Uint8Array, allocation: number): Work {
  return { kind: "data", bytes: bytes.subarray(0, allocation) };
}

/** SBC-3: does [lba, + blocks) reach past the last block? `lba` may be the block after it only for nothing. */
export function outside(unit: ScsiUnit, lba: number, blocks: number): boolean {
  return lba + blocks > unit.blocks;
}
