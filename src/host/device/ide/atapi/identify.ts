import { AtaIdentify } from "../../../../../assembly/spec/ata.ts";
import { putText } from "../ata/identify.ts";
import type { CdIdentity } from "./unit.ts";

/** IDENTIFY PACKET DEVICE (ATA/ATAPI-6 §8.16), but for what the channel fills in. */
export function fillIdentity(words: Uint16Array, identity: CdIdentity): void {
  // ATAPI, CD or DVD drive, removable, DRQ within 50 µs, packets of 12 bytes.
  words[AtaIdentify.Configuration] = 0x85c0;
  putText(words, AtaIdentify.Serial, 20, identity.serial);
  putText(words, AtaIdentify.Firmware, 8, identity.revision);
  putText(words, AtaIdentify.Model, 40, identity.model);
  // IORDY, LBA, DMA.
  words[AtaIdentify.Capabilities] = 0x0b00;
  words[AtaIdentify.PioTiming] = 0x0200;
  // Words 64–70 and 88 are valid.
  words[AtaIdentify.ValidWords] = 6;
  // PIO 3 and 4; cycle times, and times to release the bus and to service (words 71, 72), in nanoseconds.
  words[AtaIdentify.PioModes] = 0x03;
  words.fill(120, AtaIdentify.MinimumDmaCycle, AtaIdentify.MinimumPioCycleFlow + 1);
  // ATA/ATAPI-4 to -6; ANSI NCITS 340-2000, which is -5.
  words[AtaIdentify.MajorVersion] = 0x0070;
  words[AtaIdentify.MinorVersion] = 0x0016;
  // NOP, DEVICE RESET, PACKET, and Power Management, which is mandatory.
  words[AtaIdentify.Supported82] = 0x4218;
  words[AtaIdentify.Supported83] = 0x4000;
  words[AtaIdentify.Supported84] = 0x4000;
  words[AtaIdentify.Enabled85] = 0x4218;
  words[AtaIdentify.Enabled87] = 0x4000;
}
