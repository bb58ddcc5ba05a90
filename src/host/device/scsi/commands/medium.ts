// READ, WRITE, VERIFY and SYNCHRONIZE CACHE in all their lengths.
import { Asc, SenseKey } from "../../../../../assembly/spec/mmc.ts";
import { BlockAsc, ScsiOp } from "../../../../../assembly/spec/scsi.ts";
import { Op } from "../../../../core/block.ts";
import {
  args,
  check,
  command,
  type Decoded,
  DONE,
  illegal,
  invalidField,
  MAX_TRANSFER,
  outside,
  refuse,
  type ScsiUnit,
  type Work,
} from "../command.ts";
import { get16, get24, get32, get64 } from "../fields.ts";

export interface Extent {
  lba: number;
  blocks: number;
}

/** Where a CDB of that many bytes has its logical block address and length. */
export function extentOf(cdb: Uint8Array, size: 6 | 10 | 12 | 16): Extent {
  switch (size) {
    case 6:
      // 21 bits of address; a length of zero stands for 256.
      return { lba: get24(cdb, 1) & 0x1fffff, blocks: cdb[4] || 256 };
    case 10:
      return { lba: get32(cdb, 2), blocks: get16(cdb, 7) };
    case 12:
      return { lba: get32(cdb, 2), blocks: get32(cdb, 6) };
    case 16:
      return { lba: get64(cdb, 2), blocks: get32(cdb, 10) };
  }
}

interface Transfer extends Extent {
  durable: boolean;
}

const FUA = 0x08;
/** RDPROTECT, WRPROTECT, VRPROTECT. */
const PROTECT = 0xe0;

function decodeTransfer(cdb: Uint8Array, size: 6 | 10 | 12 | 16): Decoded<Transfer> {
  const { lba, blocks } = extentOf(cdb, size);
  if (size === 6) return args({ lba, blocks, durable: false });
  // Protection information, which these blocks do not have.
  if ((cdb[1] & PROTECT) !== 0) return refuse(invalidField(1));
  return args({ lba, blocks, durable: (cdb[1] & FUA) !== 0 });
}

/** SBC-3, Block Limits VPD page: more than MAXIMUM TRANSFER LENGTH is refused. */
export function refusal(unit: ScsiUnit, { lba, blocks }: Extent, field: number): Work | null {
  if (outside(unit, lba, blocks)) return illegal(Asc.LbaOutOfRange);
  return blocks * unit.blockSize > MAX_TRANSFER ? invalidField(field) : null;
}

const LENGTH_FIELD = { 6: 4, 10: 7, 12: 6, 16: 10 } as const;

function transfer(code: ScsiOp, name: string, op: typeof Op.Read | typeof Op.Write, size: 6 | 10 | 12 | 16) {
  return command<Transfer>({
    code,
    name: `${name} (${size})`,
    decode: (cdb) => decodeTransfer(cdb, size),
    execute(unit, extent) {
      if (op === Op.Write && unit.readOnly) return check(SenseKey.DataProtect, BlockAsc.WriteProtected);
      const refused = refusal(unit, extent, LENGTH_FIELD[size]);
      if (refused) return refused;
      const { lba, blocks, durable } = extent;
      if (blocks === 0) return DONE;
      const { blockSize } = unit;
      // A read with FUA is of what is on the medium: there is no cache that could hold anything else.
      return {
        kind: "transfer",
        op,
        offset: lba * blockSize,
        length: blocks * blockSize,
        durable: durable && op === Op.Write,
      };
    },
  });
}

/** BYTCHK: the data is to be compared with what the initiator sends. */
const BYTE_CHECK = 0x06;

function verify(code: ScsiOp, size: 10 | 12 | 16) {
  return command<Extent>({
    code,
    name: `VERIFY (${size})`,
    decode(cdb) {
      // Comparing is optional; so is protection.
      if ((cdb[1] & (PROTECT | BYTE_CHECK)) !== 0) return refuse(invalidField(1));
      return args(extentOf(cdb, size));
    },
    execute(unit, extent) {
      const refused = refusal(unit, extent, LENGTH_FIELD[size]);
      if (refused) return refused;
      if (extent.blocks === 0) return DONE;
      return { kind: "verify", offset: extent.lba * unit.blockSize, length: extent.blocks * unit.blockSize };
    },
  });
}

/** Of a part of the disk, too, all of it is made durable; and IMMED gets its answer no sooner. */
function synchronize(code: ScsiOp, size: 10 | 16) {
  return command<Extent>({
    code,
    name: `SYNCHRONIZE CACHE (${size})`,
    decode: (cdb) => args(extentOf(cdb, size)),
    execute: (unit, { lba, blocks }) => (outside(unit, lba, blocks) ? illegal(Asc.LbaOutOfRange) : { kind: "flush" }),
  });
}

export const MEDIUM = [
  transfer(ScsiOp.Read6, "READ", Op.Read, 6),
  transfer(ScsiOp.Read10, "READ", Op.Read, 10),
  transfer(ScsiOp.Read12, "READ", Op.Read, 12),
  transfer(ScsiOp.Read16, "READ", Op.Read, 16),
  transfer(ScsiOp.Write6, "WRITE", Op.Write, 6),
  transfer(ScsiOp.Write10, "WRITE", Op.Write, 10),
  transfer(ScsiOp.Write12, "WRITE", Op.Write, 12),
  transfer(ScsiOp.Write16, "WRITE", Op.Write, 16),
  verify(ScsiOp.Verify10, 10),
  verify(ScsiOp.Verify12, 12),
  verify(ScsiOp.Verify16, 16),
  synchronize(ScsiOp.SynchronizeCache10, 10),
  synchronize(ScsiOp.SynchronizeCache16, 16),
];
