import { AtaFeature, AtaRegister, AtaTransfer } from "../../../../assembly/spec/ata.ts";
import { CommandBits, DriveField, IdeLimit } from "../../../../assembly/spec/ide.ts";
import type { DevicePort } from "./port.ts";

/** Does it, or, answering false, aborts; `flush` first makes everything written durable. */
export type Verdict = boolean | "flush";

/** ATA/ATAPI-6 §8.46. */
export function setFeatures(port: DevicePort): Verdict {
  switch (port.register(AtaRegister.Features)) {
    case AtaFeature.EnableWriteCache:
      port.set(DriveField.WriteCache, 1);
      return true;
    case AtaFeature.DisableWriteCache:
      port.set(DriveField.WriteCache, 0);
      return "flush";
    case AtaFeature.EnableReadAhead:
      port.set(DriveField.ReadAhead, 1);
      return true;
    case AtaFeature.DisableReadAhead:
      port.set(DriveField.ReadAhead, 0);
      return true;
    case AtaFeature.SetTransferMode:
      return setTransferMode(port);
    case AtaFeature.KeepOnReset:
    case AtaFeature.RevertOnReset:
      return true;
    default:
      return false;
  }
}

/** What a packet device has of it. */
export function setPacketFeatures(port: DevicePort): boolean {
  switch (port.register(AtaRegister.Features)) {
    case AtaFeature.SetTransferMode:
      return setTransferMode(port);
    case AtaFeature.KeepOnReset:
    case AtaFeature.RevertOnReset:
      return true;
    default:
      return false;
  }
}

/** §8.46.11. The two PIO forms name no DMA mode, so none stays selected. */
function setTransferMode(port: DevicePort): boolean {
  const mode = port.count();
  const number = mode & AtaTransfer.Mode;
  const highest: Record<number, number> = {
    [AtaTransfer.PioDefault]: 1,
    [AtaTransfer.PioFlow]: 4,
    [AtaTransfer.SingleWordDma]: 2,
    [AtaTransfer.MultiWordDma]: 2,
    [AtaTransfer.UltraDma]: IdeLimit.UltraDma,
  };
  const limit = highest[mode & AtaTransfer.Kind];
  if (limit === undefined || number > limit) return false;
  port.set(DriveField.TransferMode, mode);
  return true;
}

/** §8.48: a power of two up to what word 47 says; 0 switches READ and WRITE MULTIPLE off. */
export function setMultiple(port: DevicePort): boolean {
  const sectors = port.count();
  if (sectors > IdeLimit.Multiple || (sectors & (sectors - 1)) !== 0) return false;
  port.set(DriveField.Multiple, sectors);
  return true;
}

/** §8.16 of ATA-5 (obsolete since): the translation that CHS addresses are in. */
export function initializeParameters(port: DevicePort): boolean {
  const track = port.count();
  const heads = (port.register(AtaRegister.Device) & 0x0f) + 1;
  if (track === 0) return false;
  port.set(DriveField.CurrentHeads, heads);
  port.set(DriveField.CurrentSectorsPerTrack, track);
  const cylinders = Math.floor(port.getWide(DriveField.Sectors) / (heads * track));
  port.set(DriveField.CurrentCylinders, Math.min(65535, cylinders));
  return true;
}

/** §8.32, §8.33: the last address, in the form the Device register asks for. */
export function readNativeMax(port: DevicePort): boolean {
  const sectors = port.getWide(DriveField.Sectors);
  if (sectors === 0) return false;
  const device = port.register(AtaRegister.Device);
  const ext = (port.traits & CommandBits.Ext) !== 0;
  if ((device & 0x40) === 0) {
    // The last sector of the default translation.
    if (ext) return false;
    const cylinder = port.get(DriveField.Cylinders) - 1;
    port.setRegister(AtaRegister.LbaLow, port.get(DriveField.SectorsPerTrack));
    port.setRegister(AtaRegister.LbaMid, cylinder);
    port.setRegister(AtaRegister.LbaHigh, cylinder >>> 8);
    port.setRegister(AtaRegister.Device, (device & 0xf0) | (port.get(DriveField.Heads) - 1));
    return true;
  }
  putAddress(port, ext ? sectors - 1 : Math.min(sectors - 1, 0x0fffffff), ext);
  return true;
}

/** Puts a sector number into the task file, in 28 or 48 bits. */
export function putAddress(port: DevicePort, lba: number, ext: boolean): void {
  port.setRegister(AtaRegister.LbaLow, lba);
  port.setRegister(AtaRegister.LbaMid, lba / 2 ** 8);
  port.setRegister(AtaRegister.LbaHigh, lba / 2 ** 16);
  if (ext) {
    port.setPrevious(AtaRegister.LbaLow, lba / 2 ** 24);
    port.setPrevious(AtaRegister.LbaMid, lba / 2 ** 32);
    port.setPrevious(AtaRegister.LbaHigh, lba / 2 ** 40);
  } else {
    const device = port.register(AtaRegister.Device);
    port.setRegister(AtaRegister.Device, (device & 0xf0) | ((lba / 2 ** 24) & 0x0f));
  }
}

/** §8.8: active or idle. */
export function checkPower(port: DevicePort): void {
  port.setRegister(AtaRegister.Count, 0xff);
}
