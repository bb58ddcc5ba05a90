import { AtaIdentify, AtaTransfer } from "../../../../assembly/spec/ata.ts";
import { DriveField, IdeLimit } from "../../../../assembly/spec/ide.ts";
import type { DevicePort } from "./port.ts";

/** What IDENTIFY DEVICE says besides what stands in the drive's fields. */
export interface Identity {
  serial: string;
  firmware: string;
  model: string;
}

/** Masks of supported modes: DMA 0–2, Ultra DMA 0 to IdeLimit.UltraDma. */
const THREE_DMA = 0x07;
const ULTRA_DMA = (2 << IdeLimit.UltraDma) - 1;

/** ASCII padded with blanks, the first character in the high byte of the first word (ATA/ATAPI-6 §3.2.6). */
export function putText(words: Uint16Array, index: number, length: number, text: string): void {
  const padded = text.padEnd(length);
  for (let i = 0; i < length; i += 2) words[index + i / 2] = (padded.charCodeAt(i) << 8) | padded.charCodeAt(i + 1);
}

export function putDouble(words: Uint16Array, index: number, value: number): void {
  words[index] = value;
  words[index + 1] = value / 65536;
}

/** Words 62, 63 and 88, supported modes low and the selected one high, and what goes with them. */
export function transferWords(words: Uint16Array, port: DevicePort): void {
  const transfer = port.get(DriveField.TransferMode);
  const modes = (supported: number, kind: number) =>
    (transfer & AtaTransfer.Kind) === kind ? supported | (0x100 << (transfer & AtaTransfer.Mode)) : supported;
  words[AtaIdentify.SingleWordDma] = modes(THREE_DMA, AtaTransfer.SingleWordDma);
  words[AtaIdentify.MultiWordDma] = modes(THREE_DMA, AtaTransfer.MultiWordDma);
  words[AtaIdentify.UltraDma] = modes(ULTRA_DMA, AtaTransfer.UltraDma);
  // Passed its diagnostic; an 80-conductor cable.
  words[AtaIdentify.HardwareReset] = 0x6001;
}

/** The 256 words of IDENTIFY DEVICE (ATA/ATAPI-6 §8.15). */
export function identifyDisk(port: DevicePort, identity: Identity): Uint16Array {
  const words = new Uint16Array(256);
  const sectors = port.getWide(DriveField.Sectors);
  const cylinders = port.get(DriveField.CurrentCylinders);
  const heads = port.get(DriveField.CurrentHeads);
  const track = port.get(DriveField.CurrentSectorsPerTrack);
  const multiple = port.get(DriveField.Multiple);
  // Fixed, not removable.
  words[AtaIdentify.Configuration] = 0x0040;
  words[AtaIdentify.Cylinders] = port.get(DriveField.Cylinders);
  words[AtaIdentify.Heads] = port.get(DriveField.Heads);
  words[AtaIdentify.SectorsPerTrack] = port.get(DriveField.SectorsPerTrack);
  putText(words, AtaIdentify.Serial, 20, identity.serial);
  putText(words, AtaIdentify.Firmware, 8, identity.firmware);
  putText(words, AtaIdentify.Model, 40, identity.model);
  words[AtaIdentify.MaximumMultiple] = 0x8000 | IdeLimit.Multiple;
  // IORDY, LBA, DMA.
  words[AtaIdentify.Capabilities] = 0x0b00;
  words[AtaIdentify.PioTiming] = 0x0200;
  words[AtaIdentify.DmaTiming] = 0x0200;
  // Words 54–58, 64–70 and 88 are valid.
  words[AtaIdentify.ValidWords] = 7;
  words[AtaIdentify.CurrentCylinders] = cylinders;
  words[AtaIdentify.CurrentHeads] = heads;
  words[AtaIdentify.CurrentSectorsPerTrack] = track;
  putDouble(words, AtaIdentify.CurrentCapacity, cylinders * heads * track);
  words[AtaIdentify.CurrentMultiple] = multiple === 0 ? 0 : 0x0100 | multiple;
  putDouble(words, AtaIdentify.Capacity28, Math.min(sectors, 0x0fffffff));
  transferWords(words, port);
  // PIO 3 and 4; cycle times in nanoseconds.
  words[AtaIdentify.PioModes] = 0x03;
  words.fill(120, AtaIdentify.MinimumDmaCycle, AtaIdentify.MinimumPioCycleFlow + 1);
  // ATA-4 to ATA/ATAPI-7; T13 1153D revision 17.
  words[AtaIdentify.MajorVersion] = 0x00f0;
  words[AtaIdentify.MinorVersion] = 0x0016;
  // Look-ahead and write cache; FLUSH CACHE (EXT) and 48-bit addresses. Bit 14 says that the word is valid.
  words[AtaIdentify.Supported82] = 0x0060;
  words[AtaIdentify.Supported83] = 0x7400;
  words[AtaIdentify.Supported84] = 0x4000;
  words[AtaIdentify.Enabled85] = (port.get(DriveField.ReadAhead) << 6) | (port.get(DriveField.WriteCache) << 5);
  words[AtaIdentify.Enabled86] = 0x3400;
  words[AtaIdentify.Enabled87] = 0x4000;
  putDouble(words, AtaIdentify.Capacity48, sectors % 2 ** 32);
  putDouble(words, AtaIdentify.Capacity48 + 2, Math.floor(sectors / 2 ** 32));
  words[AtaIdentify.SectorSize] = 0x4000;
  return words;
}
