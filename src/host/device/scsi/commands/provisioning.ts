// UNMAP and WRITE SAME: space given up, and blocks filled.
import { Asc, SenseKey } from "../../../../../assembly/spec/mmc.ts";
import { BlockAsc, ScsiOp } from "../../../../../assembly/spec/scsi.ts";
import { Op } from "../../../../core/block.ts";
import {
  args,
  type ByteRange,
  check,
  command,
  type Decoded,
  DONE,
  illegal,
  invalidField,
  invalidParameter,
  outside,
  refuse,
  type ScsiUnit,
  type Work,
} from "../command.ts";
import { get16, get32, get64 } from "../fields.ts";
import { type Extent, extentOf, refusal } from "./medium.ts";

/** Ranges of one UNMAP (VPD page B0h). */
export const UNMAP_RANGES = 256;

const ANCHOR = 0x01;
const HEADER = 8;
const DESCRIPTOR = 16;

/** SBC-3, UNMAP parameter list. All of it is looked at before any of it is done. */
function unmapList(unit: ScsiUnit, list: Uint8Array): Work {
  if (list.length < HEADER) return illegal(Asc.ParameterListLength);
  const count = Math.floor(Math.min(get16(list, 2), list.length - HEADER) / DESCRIPTOR);
  if (count > UNMAP_RANGES) return invalidParameter(2);
  const ranges: ByteRange[] = [];
  for (let at = HEADER; at < HEADER + count * DESCRIPTOR; at += DESCRIPTOR) {
    const lba = get64(list, at);
    const blocks = get32(list, at + 8);
    if (outside(unit, lba, blocks)) return illegal(Asc.LbaOutOfRange);
    if (blocks !== 0) ranges.push({ offset: lba * unit.blockSize, length: blocks * unit.blockSize });
  }
  return ranges.length === 0 ? DONE : { kind: "ranges", op: Op.Discard, ranges };
}

const unmap = command<{ length: number }>({
  code: ScsiOp.Unmap,
  name: "UNMAP",
  decode: (cdb) => ((cdb[1] & ANCHOR) !== 0 ? refuse(invalidField(1)) : args({ length: get16(cdb, 7) })),
  execute(unit, { length }) {
    if (unit.readOnly) return check(SenseKey.DataProtect, BlockAsc.WriteProtected);
    return length === 0 ? DONE : { kind: "want", length, accept: (list) => unmapList(unit, list) };
  },
});

interface WriteSame extends Extent {
  unmap: boolean;
  /** NDOB: the block is of zeros, and none is sent. */
  zeros: boolean;
}

const UNMAP = 0x08;
const ANCHORED = 0x10;
const NO_DATA_OUT = 0x01;
const PROTECT = 0xe0;

function decodeSame(cdb: Uint8Array, size: 10 | 16): Decoded<WriteSame> {
  const zeros = size === 16 && (cdb[1] & NO_DATA_OUT) !== 0;
  // Bits 1 and 2, PBDATA and LBDATA, are obsolete.
  if ((cdb[1] & (PROTECT | ANCHORED | 0x06)) !== 0) return refuse(invalidField(1));
  if (size === 10 && (cdb[1] & NO_DATA_OUT) !== 0) return refuse(invalidField(1));
  const extent = extentOf(cdb, size);
  // WSNZ in VPD page B0h: zero does not stand for all the rest of the disk.
  if (extent.blocks === 0) return refuse(invalidField(size === 10 ? 7 : 10));
  return args({ ...extent, unmap: (cdb[1] & UNMAP) !== 0, zeros });
}

/**
 * Zeros are written as such, which lets an image give up their space, whether or not UNMAP asks for it: what is then read is
 * what was sent, as the standard wants.
 */
function same(unit: ScsiUnit, { lba, blocks }: WriteSame, block: Uint8Array | null): Work {
  const range = { offset: lba * unit.blockSize, length: blocks * unit.blockSize };
  if (!block || block.every((byte) => byte === 0)) return { kind: "ranges", op: Op.WriteZeroes, ranges: [range] };
  return { kind: "fill", ...range, block };
}

function writeSame(code: ScsiOp, size: 10 | 16) {
  return command<WriteSame>({
    code,
    name: `WRITE SAME (${size})`,
    decode: (cdb) => decodeSame(cdb, size),
    execute(unit, wanted) {
      if (unit.readOnly) return check(SenseKey.DataProtect, BlockAsc.WriteProtected);
      const refused = refusal(unit, wanted, size === 10 ? 7 : 10);
      if (refused) return refused;
      if (wanted.zeros) return same(unit, wanted, null);
      return { kind: "want", length: unit.blockSize, accept: (block) => same(unit, wanted, block) };
    },
  });
}

export const PROVISIONING = [unmap, writeSame(ScsiOp.WriteSame10, 10), writeSame(ScsiOp.WriteSame16, 16)];
