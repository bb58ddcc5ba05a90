import { AtaConfigurable, AtaIdentify, AtaTransfer } from "../../../../../assembly/spec/ata.ts";
import { DriveField, DriveKind } from "../../../../../assembly/spec/ide.ts";
import type { DevicePort } from "../port.ts";
import { type AtaDisk, offers } from "./command.ts";
import { securityWord } from "./security.ts";
import type { OfferedModes } from "./settings.ts";
import { modesTo } from "./state.ts";
import { TRIM_BLOCKS } from "./trim.ts";

/** ASCII padded with blanks, the first character in the high byte of the first word (ATA/ATAPI-6 §3.2.6). */
export function putText(words: Uint16Array, index: number, length: number, text: string): void {
  const padded = text.padEnd(length);
  for (let i = 0; i < length; i += 2) words[index + i / 2] = (padded.charCodeAt(i) << 8) | padded.charCodeAt(i + 1);
}

function putDouble(words: Uint16Array, index: number, value: number): void {
  words[index] = value % 65536;
  words[index + 1] = Math.floor(value / 65536);
}

/** Words 62, 63, 64 and 88, supported modes low and the selected one high, and what goes with them. */
export function transferWords(words: Uint16Array, port: DevicePort, offered: OfferedModes): void {
  const transfer = port.get(DriveField.TransferMode);
  const modes = (supported: number, kind: number) =>
    (transfer & AtaTransfer.Kind) === kind ? supported | (0x100 << (transfer & AtaTransfer.Mode)) : supported;
  words[AtaIdentify.SingleWordDma] = modes(offered.singleWord, AtaTransfer.SingleWordDma);
  words[AtaIdentify.MultiWordDma] = modes(offered.multiWord, AtaTransfer.MultiWordDma);
  words[AtaIdentify.UltraDma] = modes(offered.ultra, AtaTransfer.UltraDma);
  // PIO 3 and 4; cycle times in nanoseconds.
  words[AtaIdentify.PioModes] = modesTo(offered.pio) >> 3;
  words.fill(120, AtaIdentify.MinimumDmaCycle, AtaIdentify.MinimumPioCycleFlow + 1);
  // Passed its diagnostic; an 80-conductor cable.
  words[AtaIdentify.HardwareReset] = 0x6001;
}

/** Bits that are set where a condition holds. */
function bits(...pairs: [bit: number, condition: boolean][]): number {
  return pairs.reduce((word, [bit, condition]) => word | (condition ? 1 << bit : 0), 0);
}

/** The 256 words of IDENTIFY DEVICE (ATA/ATAPI-6 §8.15). */
export function identifyDisk(disk: AtaDisk): Uint16Array {
  const { port, config, state } = disk;
  const words = new Uint16Array(256);
  const sectors = port.getWide(DriveField.Sectors);
  const cylinders = port.get(DriveField.CurrentCylinders);
  const heads = port.get(DriveField.CurrentHeads);
  const track = port.get(DriveField.CurrentSectorsPerTrack);
  const multiple = port.get(DriveField.Multiple);
  const flash = config.kind === DriveKind.CompactFlash;
  const { multiWord, ultra } = state.configuration;
  const modes = { pio: config.modes.pio, singleWord: modesTo(config.modes.singleWord), multiWord, ultra };
  // A CompactFlash card in True IDE mode; or a removable medium; or a fixed one.
  words[AtaIdentify.Configuration] = flash ? 0x848a : config.removable ? 0x0080 : 0x0040;
  words[AtaIdentify.Cylinders] = config.cylinders;
  words[AtaIdentify.Heads] = config.heads;
  words[AtaIdentify.SectorsPerTrack] = config.sectorsPerTrack;
  if (flash) {
    // Sectors of the card, most significant word first (CF+ 1.4 table 44).
    words[7] = Math.min(sectors, 0xffffffff) / 65536;
    words[8] = Math.min(sectors, 0xffffffff) % 65536;
  }
  putText(words, AtaIdentify.Serial, 20, config.serial);
  putText(words, AtaIdentify.Firmware, 8, config.firmware);
  putText(words, AtaIdentify.Model, 40, config.model);
  words[AtaIdentify.MaximumMultiple] = 0x8000 | config.multiple;
  // IORDY, LBA, DMA.
  words[AtaIdentify.Capabilities] = 0x0a00 | bits([8, (modes.multiWord | modes.ultra | modes.singleWord) !== 0]);
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
  transferWords(words, port, modes);
  // TRIM is deterministic.
  words[AtaIdentify.Additional] = 0x4000;
  // ATA-4 to ATA/ATAPI-7; T13 1153D revision 17.
  words[AtaIdentify.MajorVersion] = 0x00f0;
  words[AtaIdentify.MinorVersion] = 0x0016;
  featureWords(disk, words);
  if (offers(disk, AtaConfigurable.Ext)) {
    putDouble(words, AtaIdentify.Capacity48, sectors % 2 ** 32);
    putDouble(words, AtaIdentify.Capacity48 + 2, Math.floor(sectors / 2 ** 32));
  }
  words[AtaIdentify.TrimBlocks] = TRIM_BLOCKS;
  words[AtaIdentify.SectorSize] =
    0x4000 | bits([13, config.physical > 1], [12, config.sectorBytes > 512]) | Math.log2(config.physical);
  if (config.sectorBytes > 512) putDouble(words, AtaIdentify.LogicalSectorWords, config.sectorBytes / 2);
  for (let i = 0; i < 4; i++)
    words[AtaIdentify.WorldWideName + i] = Number((config.wwn >> BigInt(16 * (3 - i))) & 0xffffn);
  words[AtaIdentify.DataSetManagement] = 1;
  words[AtaIdentify.RotationRate] = config.rotationRate;
  // Word 255: signature A5h and a sum of zero.
  words[AtaIdentify.Integrity] = 0xa5;
  const bytes = new Uint8Array(words.buffer);
  bytes[511] = -bytes.subarray(0, 511).reduce((sum, byte) => sum + byte, 0);
  return words;
}

/** Words 82 to 87, 119 and 120: what there is, and what of it is on; and the levels that go with it. */
function featureWords(disk: AtaDisk, words: Uint16Array): void {
  const { port, config, state } = disk;
  const smart = offers(disk, AtaConfigurable.Smart);
  const security = offers(disk, AtaConfigurable.Security);
  const area = offers(disk, AtaConfigurable.ProtectedArea);
  const ext = offers(disk, AtaConfigurable.Ext);
  const acoustic = offers(disk, AtaConfigurable.Acoustic);
  const apm = config.apm >= 0;
  const flash = config.kind === DriveKind.CompactFlash;
  // NOP, READ and WRITE BUFFER, protected area, look-ahead, write cache, power management, security, SMART.
  const fixed = bits([14, true], [13, true], [12, true], [10, area], [3, true], [2, config.removable]);
  words[AtaIdentify.Supported82] = fixed | bits([6, true], [5, true], [1, security], [0, smart]);
  // FLUSH CACHE (EXT), configuration overlay, 48-bit addresses, acoustic and power management, CFA. Bit 14: valid.
  const more = bits([13, ext], [12, true], [11, true], [10, ext], [8, area], [2, flash]);
  words[AtaIdentify.Supported83] = 0x4000 | more | bits([9, acoustic], [3, apm]);
  // General purpose logging, WRITE … FUA EXT, World Wide Name, self-test, error log.
  const wwn = config.wwn !== 0n;
  const selfTest = smart && offers(disk, AtaConfigurable.SelfTest);
  const errorLog = smart && offers(disk, AtaConfigurable.ErrorLog);
  words[AtaIdentify.Supported84] = 0x4000 | bits([8, wwn], [6, ext], [5, ext], [1, selfTest], [0, errorLog]);
  words[AtaIdentify.Enabled85] =
    fixed |
    bits(
      [6, port.get(DriveField.ReadAhead) !== 0],
      [5, port.get(DriveField.WriteCache) !== 0],
      [1, security && state.security.enabled],
      [0, smart && state.smart.enabled],
    );
  words[AtaIdentify.Enabled86] =
    (more & ~0x0100) |
    bits([15, true], [9, state.aam !== 0], [8, state.setMax.password !== null], [3, state.apm !== 0]);
  words[AtaIdentify.Enabled87] = words[AtaIdentify.Supported84];
  // WRITE UNCORRECTABLE EXT, and the DMA forms of the log commands (ATA8-ACS).
  words[AtaIdentify.Supported119] = 0x4000 | bits([3, ext], [2, ext]);
  words[AtaIdentify.Enabled120] = words[AtaIdentify.Supported119];
  if (security) {
    words[AtaIdentify.SecurityEraseTime] = 1;
    words[AtaIdentify.EnhancedEraseTime] = 1;
    words[AtaIdentify.MasterRevision] = state.security.masterRevision;
    words[AtaIdentify.Security] = securityWord(state.security);
  }
  if (apm) words[AtaIdentify.PowerManagement] = state.apm;
  // Recommended and current level.
  if (acoustic) words[AtaIdentify.Acoustic] = 0x8000 | state.aam;
}
