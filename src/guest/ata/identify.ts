import { AtaIdentify, AtaTransfer } from "../../../assembly/spec/ata.ts";

/** What a driver needs of IDENTIFY DEVICE data (ATA/ATAPI-6 §8.15). */
export interface DriveIdentity {
  model: string;
  serial: string;
  firmware: string;
  /** User-addressable sectors of 512 bytes. */
  sectors: number;
  lba48: boolean;
  dma: boolean;
  /** Sectors of a DRQ block that SET MULTIPLE has set; 0 when off. */
  multiple: number;
  /** The fastest transfer mode, as SET FEATURES 03 takes it. */
  fastestDma: number;
  /** The 256 words. */
  words: Uint16Array;
}

export function parseIdentify(words: Uint16Array): DriveIdentity {
  const double = (index: number) => words[index] + words[index + 1] * 65536;
  const text = (index: number, length: number) => {
    let out = "";
    for (let i = 0; i < length; i++) out += String.fromCharCode(words[index + i] >>> 8, words[index + i] & 0xff);
    return out.trim();
  };
  const lba48 = (words[AtaIdentify.Supported83] & 0xc400) === 0x4400;
  const ultra = words[AtaIdentify.ValidWords] & 4 ? words[AtaIdentify.UltraDma] & 0x7f : 0;
  const multiWord = words[AtaIdentify.MultiWordDma] & 7;
  const fastest = (mask: number, kind: number) => kind | (31 - Math.clz32(mask));
  return {
    model: text(AtaIdentify.Model, 20),
    serial: text(AtaIdentify.Serial, 10),
    firmware: text(AtaIdentify.Firmware, 4),
    sectors: lba48
      ? double(AtaIdentify.Capacity48) + double(AtaIdentify.Capacity48 + 2) * 2 ** 32
      : double(AtaIdentify.Capacity28),
    lba48,
    dma: (words[AtaIdentify.Capabilities] & 0x0100) !== 0,
    multiple: words[AtaIdentify.CurrentMultiple] & 0x0100 ? words[AtaIdentify.CurrentMultiple] & 0xff : 0,
    fastestDma: ultra !== 0 ? fastest(ultra, AtaTransfer.UltraDma) : fastest(multiWord | 1, AtaTransfer.MultiWordDma),
    words,
  };
}
