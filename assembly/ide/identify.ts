// IDENTIFY DEVICE (ATA/ATAPI-6 §8.15): the 256 words, from a drive's settings.
import { AtaIdentify, AtaTransfer } from "../spec/ata";
import { DriveField, IdeField, IdeLimit } from "../spec/ide";
import { get, selected } from "./context";

/** Masks of supported modes: DMA 0–2, Ultra DMA 0 to IdeLimit.UltraDma. */
const enum Modes {
  ThreeDma = 0x07,
  UltraDma = 0x3f,
  /** PIO 3 and 4. */
  AdvancedPio = 0x03,
}

function word(buffer: usize, index: u32, value: u32): void {
  store<u16>(buffer + index * 2, value as u16);
}

function double(buffer: usize, index: u32, value: u32): void {
  word(buffer, index, value);
  word(buffer, index + 1, value >> 16);
}

/** ASCII with the first character in the high byte of the first word (§3.2.6). */
function text(buffer: usize, index: u32, source: usize, length: u32): void {
  for (let i: u32 = 0; i < length; i++) store<u8>(buffer + index * 2 + (i ^ 1), load<u8>(source + i));
}

/** Modes supported in the low byte, the selected one in the high byte (words 62, 63 and 88). */
function modes(supported: u32, mode: u32, kind: u32): u32 {
  return (mode & AtaTransfer.Kind) === kind ? supported | (0x100 << (mode & AtaTransfer.Mode)) : supported;
}

/** Fills the buffer with the selected drive's IDENTIFY data. */
export function ideIdentify(ctx: usize): void {
  const drive = selected(ctx);
  const b = ctx + IdeField.Buffer;
  const sectors = load<u64>(drive + DriveField.Sectors);
  const transfer = get(drive + DriveField.TransferMode);
  const cylinders = get(drive + DriveField.CurrentCylinders);
  const heads = get(drive + DriveField.CurrentHeads);
  const track = get(drive + DriveField.CurrentSectorsPerTrack);
  const multiple = get(drive + DriveField.Multiple);
  memory.fill(b, 0, IdeLimit.SectorBytes);
  // Fixed, not removable.
  word(b, AtaIdentify.Configuration, 0x0040);
  word(b, AtaIdentify.Cylinders, get(drive + DriveField.Cylinders));
  word(b, AtaIdentify.Heads, get(drive + DriveField.Heads));
  word(b, AtaIdentify.SectorsPerTrack, get(drive + DriveField.SectorsPerTrack));
  text(b, AtaIdentify.Serial, drive + DriveField.Serial, 20);
  text(b, AtaIdentify.Firmware, drive + DriveField.Firmware, 8);
  text(b, AtaIdentify.Model, drive + DriveField.Model, 40);
  word(b, AtaIdentify.MaximumMultiple, 0x8000 | IdeLimit.Multiple);
  // IORDY, LBA, DMA.
  word(b, AtaIdentify.Capabilities, 0x0b00);
  word(b, AtaIdentify.PioTiming, 0x0200);
  word(b, AtaIdentify.DmaTiming, 0x0200);
  // Words 54–58, 64–70 and 88 are valid.
  word(b, AtaIdentify.ValidWords, 7);
  word(b, AtaIdentify.CurrentCylinders, cylinders);
  word(b, AtaIdentify.CurrentHeads, heads);
  word(b, AtaIdentify.CurrentSectorsPerTrack, track);
  double(b, AtaIdentify.CurrentCapacity, cylinders * heads * track);
  word(b, AtaIdentify.CurrentMultiple, multiple === 0 ? 0 : 0x0100 | multiple);
  double(b, AtaIdentify.Capacity28, min<u64>(sectors, 0x0fffffff) as u32);
  word(b, AtaIdentify.SingleWordDma, modes(Modes.ThreeDma, transfer, AtaTransfer.SingleWordDma));
  word(b, AtaIdentify.MultiWordDma, modes(Modes.ThreeDma, transfer, AtaTransfer.MultiWordDma));
  word(b, AtaIdentify.PioModes, Modes.AdvancedPio);
  // Cycle times in nanoseconds.
  word(b, AtaIdentify.MinimumDmaCycle, 120);
  word(b, AtaIdentify.RecommendedDmaCycle, 120);
  word(b, AtaIdentify.MinimumPioCycle, 120);
  word(b, AtaIdentify.MinimumPioCycleFlow, 120);
  // ATA-4 to ATA/ATAPI-7; T13 1153D revision 17.
  word(b, AtaIdentify.MajorVersion, 0x00f0);
  word(b, AtaIdentify.MinorVersion, 0x0016);
  // Look-ahead and write cache; FLUSH CACHE (EXT) and 48-bit addresses. Bit 14 says that the word is valid.
  word(b, AtaIdentify.Supported82, 0x0060);
  word(b, AtaIdentify.Supported83, 0x7400);
  word(b, AtaIdentify.Supported84, 0x4000);
  word(b, AtaIdentify.Enabled85, (get(drive + DriveField.ReadAhead) << 6) | (get(drive + DriveField.WriteCache) << 5));
  word(b, AtaIdentify.Enabled86, 0x3400);
  word(b, AtaIdentify.Enabled87, 0x4000);
  word(b, AtaIdentify.UltraDma, modes(Modes.UltraDma, transfer, AtaTransfer.UltraDma));
  // Passed its diagnostic; an 80-conductor cable.
  word(b, AtaIdentify.HardwareReset, 0x6001);
  double(b, AtaIdentify.Capacity48, sectors as u32);
  double(b, AtaIdentify.Capacity48 + 2, (sectors >> 32) as u32);
  word(b, AtaIdentify.SectorSize, 0x4000);
}
