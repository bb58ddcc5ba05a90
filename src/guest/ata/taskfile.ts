import { AtaCommand, AtaDevice } from "../../../assembly/spec/ata.ts";
import { type BlockRequest, Op } from "../../core/block.ts";

/** How a command moves its data. */
type Protocol = "none" | "pio" | "dma";

/** One command's registers. */
export interface Taskfile {
  command: number;
  features: number;
  /** Sectors; the registers hold its low 8 or 16 bits. */
  count: number;
  lba: number;
  device: number;
  /** Is the address 48 bits long? */
  ext: boolean;
  /** Does the command name sectors at all? */
  addressed: boolean;
  protocol: Protocol;
  write: boolean;
}

/** What decides the form of a command. */
export interface Abilities {
  /** 0 or 1. */
  drive: number;
  lba48: boolean;
  mode: "pio" | "dma";
  /** Sectors in a DRQ block of READ and WRITE MULTIPLE; 0 when it is off. */
  multiple: number;
}

const MAX_LBA28 = 2 ** 28;

/** [read, read ext, write, write ext]. */
type Codes = readonly [number, number, number, number];
const DMA: Codes = [AtaCommand.ReadDma, AtaCommand.ReadDmaExt, AtaCommand.WriteDma, AtaCommand.WriteDmaExt];
const MULTIPLE: Codes = [
  AtaCommand.ReadMultiple,
  AtaCommand.ReadMultipleExt,
  AtaCommand.WriteMultiple,
  AtaCommand.WriteMultipleExt,
];
const SECTORS: Codes = [
  AtaCommand.ReadSectors,
  AtaCommand.ReadSectorsExt,
  AtaCommand.WriteSectors,
  AtaCommand.WriteSectorsExt,
];

/** The Device register's constant bits for that drive. */
export function deviceBits(drive: number): number {
  return AtaDevice.Obsolete | (drive === 0 ? 0 : AtaDevice.Second);
}

/** A command that names no sectors. */
export function plainTaskfile(drive: number, command: number, features = 0, count = 0): Taskfile {
  return {
    command,
    features,
    count,
    lba: 0,
    device: deviceBits(drive),
    ext: false,
    addressed: features !== 0 || count !== 0,
    protocol: "none",
    write: false,
  };
}

/**
 * The command for a read, write or flush, as libata builds it: 28-bit where address and count fit, else 48-bit. Undefined
 * when the drive has no command for it.
 */
export function buildTaskfile(request: BlockRequest, able: Abilities, dma: boolean): Taskfile | undefined {
  if (request.op === Op.Flush) {
    return plainTaskfile(able.drive, able.lba48 ? AtaCommand.FlushCacheExt : AtaCommand.FlushCache);
  }
  if (request.op !== Op.Read && request.op !== Op.Write) return undefined;
  const lba = request.offset / 512;
  const count = request.length / 512;
  const ext = lba + count > MAX_LBA28 || count > 256;
  if (ext && !able.lba48) return undefined;
  const write = request.op === Op.Write;
  const codes = dma ? DMA : able.multiple > 0 ? MULTIPLE : SECTORS;
  return {
    command: codes[(write ? 2 : 0) + (ext ? 1 : 0)],
    features: 0,
    count,
    lba,
    device: deviceBits(able.drive) | AtaDevice.Lba | (ext ? 0 : Math.floor(lba / 2 ** 24)),
    ext,
    addressed: true,
    protocol: dma ? "dma" : "pio",
    write,
  };
}
