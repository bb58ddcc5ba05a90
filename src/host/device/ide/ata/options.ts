import { DriveKind, IdeLimit } from "../../../../../assembly/spec/ide.ts";
import type { Block } from "../../../../core/block.ts";
import { ParavaneError } from "../../../../core/error.ts";

/** The fastest mode of each kind that a drive offers; null for none. */
export interface TransferModes {
  /** 0 to 4; default 4. */
  pio?: number;
  /** 0 to 2; default 2. */
  singleWord?: number | null;
  multiWord?: number | null;
  /** 0 to 6; default 5. */
  ultra?: number | null;
}

/**
 * What a drive does when the disk image fails: `report` it to the guest by its cause (the default); `ignore` it, a read
 * giving what was there before and a write being lost; `retry` a few times, then report; `stop`, holding the command until
 * the host calls `resume` on the controller, which tries again.
 */
export type ErrorPolicy = "report" | "ignore" | "stop" | "retry";

/** A disk on an IDE channel, and how it presents itself. */
export interface IdeDriveOptions {
  /** The controller never closes it. Sectors of 512 to 4096 bytes. */
  block: Block;
  /** `compact-flash`: the CFA command set, and its IDENTIFY. Default `disk`. */
  kind?: "disk" | "compact-flash";
  /** At most 40 ASCII characters. */
  model?: string;
  /** At most 20 ASCII characters. */
  serial?: string;
  /** At most 8 ASCII characters. */
  firmware?: string;
  /** World-wide name, 64 bits (IDENTIFY DEVICE words 108 to 111, ATA/ATAPI-7). */
  wwn?: bigint;
  /** Default translation; 16 heads and 63 sectors when absent. */
  geometry?: { cylinders: number; heads: number; sectorsPerTrack: number };
  /** Bytes: the sector size times a power of two; default the logical size. */
  physicalSectorSize?: number;
  /** Rotations a minute, 1 for a solid-state drive (IDENTIFY DEVICE word 217, ATA8-ACS); default not said. */
  rotationRate?: number;
  modes?: TransferModes;
  /** Sectors that READ and WRITE MULTIPLE move in a block at most: a power of two to 128, 64 KiB in all; default 16. */
  multiple?: number;
  /** 48-bit addresses; default true. */
  lba48?: boolean;
  /** Whether the write cache is on after power-on; default true. */
  writeCache?: boolean;
  /** Advanced power management level after power-on, 1 to 254; false: not supported; default off. */
  apm?: number | false;
  /** Automatic acoustic management level after power-on, 128 to 254; false: not supported; default off. */
  aam?: number | false;
  /** Sectors shown after power-on: the rest is a host protected area. Default all. */
  visibleSectors?: number;
  /** The medium can be taken out and changed (`IdeController.cartridge`); default false. */
  removable?: boolean;
  /** Default `report` for both. */
  onError?: { read?: ErrorPolicy; write?: ErrorPolicy };
}

/** The options, checked and with their defaults. */
export interface DriveConfig {
  kind: DriveKind.Disk | DriveKind.CompactFlash;
  block: Block;
  serial: string;
  firmware: string;
  model: string;
  wwn: bigint;
  /** All there are. */
  sectors: number;
  visibleSectors: number;
  /** Bytes of a logical sector. */
  sectorBytes: number;
  /** Logical sectors of a physical one. */
  physical: number;
  rotationRate: number;
  cylinders: number;
  heads: number;
  sectorsPerTrack: number;
  modes: { pio: number; singleWord: number; multiWord: number; ultra: number };
  multiple: number;
  lba48: boolean;
  removable: boolean;
  writeCache: boolean;
  /** -1: not supported; 0: off. */
  apm: number;
  aam: number;
  onRead: ErrorPolicy;
  onWrite: ErrorPolicy;
}

/** Largest disk that 48-bit addresses and a double can both name, in bytes. */
const MAX_BYTES = 2 ** 53;

/** What a disk with these options is; `index` numbers the drives of a controller. @throws ParavaneError INVALID, UNSUPPORTED */
export function configOf(options: IdeDriveOptions, index: number): DriveConfig {
  const { block, modes = {}, multiple = IdeLimit.Multiple } = options;
  const sectorBytes = block.sectorSize;
  if (sectorBytes < 512 || sectorBytes > 4096 || !isPower(sectorBytes)) {
    throw new ParavaneError("UNSUPPORTED", `an IDE disk has sectors of 512 to 4096 bytes, this one of ${sectorBytes}`, {
      sectorSize: sectorBytes,
    });
  }
  if (block.size > MAX_BYTES) {
    throw new ParavaneError("UNSUPPORTED", `${block.size} bytes are more than a 48-bit drive can address`, {
      length: block.size,
    });
  }
  const sectors = block.size / sectorBytes;
  const physical = (options.physicalSectorSize ?? sectorBytes) / sectorBytes;
  within("physicalSectorSize", isPower(physical) ? physical : 0, 1, 32768);
  const shape = options.geometry ?? {
    // The translation that BIOSes agree on (ATA/ATAPI-5 annex C).
    cylinders: Math.min(16383, Math.max(1, Math.floor(sectors / (16 * 63)))),
    heads: 16,
    sectorsPerTrack: 63,
  };
  const mode = (name: string, value: number | null | undefined, highest: number, otherwise: number) =>
    within(`modes.${name}`, value === null ? -1 : (value ?? otherwise), -1, highest);
  return {
    kind: options.kind === "compact-flash" ? DriveKind.CompactFlash : DriveKind.Disk,
    block,
    serial: text(20, "serial", options.serial ?? `PV${String(index + 1).padStart(6, "0")}`),
    firmware: text(8, "firmware", options.firmware ?? "1.0"),
    model: text(40, "model", options.model ?? "PARAVANE HARDDISK"),
    wwn: options.wwn ?? 0n,
    sectors,
    visibleSectors: within("visibleSectors", options.visibleSectors ?? sectors, Math.min(1, sectors), sectors),
    sectorBytes,
    physical,
    rotationRate: within("rotationRate", options.rotationRate ?? 0, 0, 0xfffe),
    cylinders: within("geometry.cylinders", shape.cylinders, 1, 65535),
    heads: within("geometry.heads", shape.heads, 1, 16),
    sectorsPerTrack: within("geometry.sectorsPerTrack", shape.sectorsPerTrack, 1, 255),
    modes: {
      pio: within("modes.pio", modes.pio ?? 4, 0, 4),
      singleWord: mode("singleWord", modes.singleWord, 2, 2),
      multiWord: mode("multiWord", modes.multiWord, 2, 2),
      ultra: mode("ultra", modes.ultra, 6, IdeLimit.UltraDma),
    },
    multiple: within("multiple", isPower(multiple) ? multiple : 0, 1, Math.min(128, IdeLimit.BlockBytes / sectorBytes)),
    lba48: options.lba48 ?? true,
    removable: options.removable ?? false,
    writeCache: options.writeCache ?? true,
    apm: options.apm === false ? -1 : within("apm", options.apm ?? 0, 0, 254),
    aam: options.aam === false ? -1 : within("aam", options.aam ?? 0, 0, 254),
    onRead: options.onError?.read ?? "report",
    onWrite: options.onError?.write ?? "report",
  };
}

function isPower(value: number): boolean {
  return Number.isInteger(value) && value > 0 && (value & (value - 1)) === 0;
}

function within(name: string, value: number, least: number, most: number): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new ParavaneError("INVALID", `a drive's ${name} is ${value}, which is not from ${least} to ${most}`, {
    [name]: value,
  });
}

/** ASCII (ATA/ATAPI-6 §3.2.6). */
function text(length: number, name: string, value: string): string {
  if (value.length > length || !/^[ -~]*$/.test(value)) {
    throw new ParavaneError("INVALID", `a drive's ${name} is at most ${length} printable ASCII characters`, {
      [name]: value,
    });
  }
  return value;
}
