// Sector addresses in a task file: CHS under the current translation, LBA28, LBA48 (ATA/ATAPI-6 §6.2).
import { AtaDevice, AtaRegister } from "../spec/ata";
import { CommandBits, DriveField } from "../spec/ide";
import { get, previous, register, setPrevious, setRegister, usesLba } from "./context";

/** No sector has this address. */
export function nowhere(): u64 {
  return u64.MAX_VALUE;
}

/** Sector that the task file of `drive` names, or `nowhere()` when a CHS address is outside the translation. */
export function readAddress(drive: usize, traits: u32): u64 {
  const low = register(drive, AtaRegister.LbaLow);
  const mid = register(drive, AtaRegister.LbaMid);
  const high = register(drive, AtaRegister.LbaHigh);
  const head = register(drive, AtaRegister.Device) & AtaDevice.Head;
  if (usesLba(drive)) {
    const below = (low | (mid << 8) | (high << 16)) as u64;
    if ((traits & CommandBits.Ext) === 0) return below | ((head as u64) << 24);
    return (
      below |
      ((previous(drive, AtaRegister.LbaLow) as u64) << 24) |
      ((previous(drive, AtaRegister.LbaMid) as u64) << 32) |
      ((previous(drive, AtaRegister.LbaHigh) as u64) << 40)
    );
  }
  const heads = get(drive + DriveField.CurrentHeads);
  const track = get(drive + DriveField.CurrentSectorsPerTrack);
  if (low === 0 || low > track || head >= heads) return nowhere();
  return (((mid | (high << 8)) * heads + head) * track + low - 1) as u64;
}

/** Puts sector address `lba` into the task file, in the form the command was given in. */
export function writeAddress(drive: usize, traits: u32, lba: u64): void {
  if (usesLba(drive)) {
    setRegister(drive, AtaRegister.LbaLow, lba as u32);
    setRegister(drive, AtaRegister.LbaMid, (lba >> 8) as u32);
    setRegister(drive, AtaRegister.LbaHigh, (lba >> 16) as u32);
    if ((traits & CommandBits.Ext) !== 0) {
      setPrevious(drive, AtaRegister.LbaLow, (lba >> 24) as u32);
      setPrevious(drive, AtaRegister.LbaMid, (lba >> 32) as u32);
      setPrevious(drive, AtaRegister.LbaHigh, (lba >> 40) as u32);
    } else setHead(drive, (lba >> 24) as u32);
    return;
  }
  const heads = get(drive + DriveField.CurrentHeads);
  const track = get(drive + DriveField.CurrentSectorsPerTrack);
  if (heads === 0 || track === 0) return;
  const cylinder = (lba / (heads * track)) as u32;
  const within = (lba % (heads * track)) as u32;
  setRegister(drive, AtaRegister.LbaMid, cylinder);
  setRegister(drive, AtaRegister.LbaHigh, cylinder >> 8);
  setHead(drive, within / track);
  setRegister(drive, AtaRegister.LbaLow, (within % track) + 1);
}

function setHead(drive: usize, head: u32): void {
  const device = register(drive, AtaRegister.Device);
  setRegister(drive, AtaRegister.Device, (device & ~AtaDevice.Head) | (head & AtaDevice.Head));
}

/** Puts the count of sectors still to move into the task file. */
export function writeCount(drive: usize, traits: u32, count: u32): void {
  setRegister(drive, AtaRegister.Count, count);
  if ((traits & CommandBits.Ext) !== 0) setPrevious(drive, AtaRegister.Count, count >> 8);
}
