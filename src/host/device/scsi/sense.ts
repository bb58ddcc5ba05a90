import type { SenseKey } from "../../../../assembly/spec/mmc.ts";
import { put16, put32 } from "./fields.ts";

/** Why a command failed: what REQUEST SENSE will say (SPC-3). */
export interface Sense {
  key: SenseKey;
  /** Asc or BlockAsc: code and qualifier. */
  code: number;
  /** The logical block at fault. */
  lba?: number;
  /** The byte at fault, of the command or, when `inData`, of the parameter list. */
  field?: number;
  inData?: boolean;
}

const VALID = 0x80;
const CURRENT_FIXED = 0x70;
/** Sense-key specific bytes are valid; the pointer is into the command. */
const SKSV = 0x80;
const IN_COMMAND = 0x40;

/** Fixed format, 18 bytes (SPC-3). */
export function senseBytes(sense: Sense): Uint8Array {
  const bytes = new Uint8Array(18);
  // The information field has 32 bits.
  const known = sense.lba !== undefined && sense.lba < 2 ** 32;
  bytes[0] = CURRENT_FIXED | (known ? VALID : 0);
  bytes[2] = sense.key;
  if (known) put32(bytes, 3, sense.lba as number);
  bytes[7] = 10;
  put16(bytes, 12, sense.code);
  if (sense.field !== undefined) {
    bytes[15] = SKSV | (sense.inData ? 0 : IN_COMMAND);
    put16(bytes, 16, sense.field);
  }
  return bytes;
}
