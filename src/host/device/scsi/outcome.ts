import { Asc, SenseKey } from "../../../../assembly/spec/mmc.ts";
import { BlockAsc } from "../../../../assembly/spec/scsi.ts";
import { type BlockRequest, Op, Status } from "../../../core/block.ts";
import type { Sense } from "./sense.ts";

/** How a command went. */
export interface Outcome {
  /** CHECK CONDITION; null: GOOD. */
  sense: Sense | null;
  /** Bytes moved between the initiator and the disk. */
  bytes: number;
  /** There was not room for all, or not all that was wanted was sent. */
  overrun: boolean;
}

/** What a failed request of the block layer is to an initiator, by its cause (SPC-4, sense keys). */
export function senseOf({ op, status, error, offset, length }: BlockRequest, blockSize: number): Sense {
  switch (status) {
    case Status.OutOfRange:
      return { key: SenseKey.IllegalRequest, code: Asc.LbaOutOfRange };
    case Status.Media: {
      const code = op === Op.Read ? Asc.UnrecoveredRead : BlockAsc.WriteError;
      const at = error?.context.file === undefined ? error?.context.offset : undefined;
      const named = at !== undefined && at >= offset && at < offset + length;
      return { key: SenseKey.MediumError, code, ...(named ? { lba: Math.floor(at / blockSize) } : {}) };
    }
    case Status.NoSpace:
      return { key: SenseKey.DataProtect, code: BlockAsc.SpaceAllocationFailed };
    case Status.ReadOnly:
      return { key: SenseKey.DataProtect, code: BlockAsc.WriteProtected };
    case Status.Unsupported:
      return { key: SenseKey.IllegalRequest, code: Asc.InvalidOperation };
    case Status.Crc:
      return { key: SenseKey.AbortedCommand, code: BlockAsc.LinkCrc };
    default:
      return { key: SenseKey.HardwareError, code: Asc.InternalTargetFailure };
  }
}
