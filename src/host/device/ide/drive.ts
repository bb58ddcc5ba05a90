import { AtaTransfer } from "../../../../assembly/spec/ata.ts";
import { DriveField, DriveKind, IdeLimit } from "../../../../assembly/spec/ide.ts";
import type { Block } from "../../../core/block.ts";
import { ParavaneError } from "../../../core/error.ts";
import type { Core } from "../../../wasm/core.ts";

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

/** Largest disk that 48-bit addresses and a double can both name, in bytes. */
const MAX_BYTES = 2 ** 53;

/** The translation that BIOSes agree on: 16 heads, 63 sectors, at most 16,383 cylinders. */
function geometry(sectors: number): { cylinders: number; heads: number; sectorsPerTrack: number } {
  const cylinders = Math.min(16383, Math.max(1, Math.floor(sectors / (16 * 63))));
  return { cylinders, heads: 16, sectorsPerTrack: 63 };
}

/** Writes a drive's configuration into its context. @throws ParavaneError INVALID, UNSUPPORTED */
export function configureDrive(core: Core, at: number, options: IdeDriveOptions, index: number): void {
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
  const sectors = block.size / IdeLimit.SectorBytes;
  const shape = geometry(sectors);
  core.set(at + DriveField.Kind, DriveKind.Disk);
  core.set(at + DriveField.Sectors, sectors >>> 0);
  core.set(at + DriveField.Sectors + 4, Math.floor(sectors / 2 ** 32));
  core.set(at + DriveField.Cylinders, shape.cylinders);
  core.set(at + DriveField.Heads, shape.heads);
  core.set(at + DriveField.SectorsPerTrack, shape.sectorsPerTrack);
  powerOn(core, at);
  text(core, at + DriveField.Serial, 20, "serial", options.serial ?? `PV${String(index + 1).padStart(6, "0")}`);
  text(core, at + DriveField.Firmware, 8, "firmware", options.firmware ?? "1.0");
  text(core, at + DriveField.Model, 40, "model", options.model ?? "PARAVANE HARDDISK");
}

/** The settings that power-on and hardware reset restore. */
export function powerOn(core: Core, at: number): void {
  core.set(at + DriveField.Multiple, IdeLimit.Multiple);
  core.set(at + DriveField.TransferMode, AtaTransfer.UltraDma | IdeLimit.UltraDma);
  core.set(at + DriveField.WriteCache, 1);
  core.set(at + DriveField.ReadAhead, 1);
}

/** ASCII padded with blanks (ATA/ATAPI-6 §3.2.6). */
function text(core: Core, at: number, length: number, name: string, value: string): void {
  if (value.length > length || !/^[ -~]*$/.test(value)) {
    throw new ParavaneError("INVALID", `a drive's ${name} is at most ${length} printable ASCII characters`, {
      [name]: value,
    });
  }
  for (let i = 0; i < length; i++) core.u8[at + i] = i < value.length ? value.charCodeAt(i) : 0x20;
}
