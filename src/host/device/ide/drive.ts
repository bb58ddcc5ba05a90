import { IdeLimit } from "../../../../assembly/spec/ide.ts";
import type { Block } from "../../../core/block.ts";
import { ParavaneError } from "../../../core/error.ts";
import type { Identity } from "./identify.ts";

/** A disk on an IDE channel, and how it presents itself. */
export interface IdeDriveOptions {
  /** Sectors of 512 bytes. The controller never closes it. */
  block: Block;
  /** At most 40 ASCII characters. */
  model?: string;
  /** At most 20 ASCII characters. */
  serial?: string;
  /** At most 8 ASCII characters. */
  firmware?: string;
}

/** A disk's size and default translation. */
export interface Shape {
  sectors: number;
  /** Bytes of a logical sector. */
  sectorBytes: number;
  cylinders: number;
  heads: number;
  sectorsPerTrack: number;
}

/** Largest disk that 48-bit addresses and a double can both name, in bytes. */
const MAX_BYTES = 2 ** 53;

/** The translation that BIOSes agree on: 16 heads, 63 sectors, at most 16,383 cylinders. */
function geometry(sectors: number): { cylinders: number; heads: number; sectorsPerTrack: number } {
  const cylinders = Math.min(16383, Math.max(1, Math.floor(sectors / (16 * 63))));
  return { cylinders, heads: 16, sectorsPerTrack: 63 };
}

/** What a disk with these options is. @throws ParavaneError INVALID, UNSUPPORTED */
export function shapeOf(options: IdeDriveOptions, index: number): { shape: Shape; identity: Identity } {
  const { block } = options;
  if (block.sectorSize !== IdeLimit.SectorBytes) {
    throw new ParavaneError("UNSUPPORTED", `an IDE disk has sectors of 512 bytes, this one of ${block.sectorSize}`, {
      sectorSize: block.sectorSize,
    });
  }
  if (block.size > MAX_BYTES) {
    throw new ParavaneError("UNSUPPORTED", `${block.size} bytes are more than a 48-bit drive can address`, {
      length: block.size,
    });
  }
  const sectors = block.size / block.sectorSize;
  return {
    shape: { sectors, sectorBytes: block.sectorSize, ...geometry(sectors) },
    identity: {
      serial: text(20, "serial", options.serial ?? `PV${String(index + 1).padStart(6, "0")}`),
      firmware: text(8, "firmware", options.firmware ?? "1.0"),
      model: text(40, "model", options.model ?? "PARAVANE HARDDISK"),
    },
  };
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
