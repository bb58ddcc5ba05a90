// The CFA feature set (CF+ and CompactFlash 1.4 §6.2.1), as far as a card whose flash never wears has it.
import { AtaDevice, AtaRegister } from "../../../../../assembly/spec/ata.ts";
import { DriveField } from "../../../../../assembly/spec/ide.ts";
import { type AtaDisk, reply, takeBlock, type Verdict } from "./command.ts";

/** CFA REQUEST EXTENDED ERROR CODE: "miscellaneous error", the code for whatever has no other. */
const MISCELLANEOUS = 0x09;

/** REQUEST SENSE: the extended error code stands in Error, and the command succeeds. */
export function requestError({ port }: AtaDisk): Verdict {
  port.set(DriveField.Error, MISCELLANEOUS);
  return true;
}

/** TRANSLATE SECTOR: the address in both forms; not erased, written never. */
export function translateSector(disk: AtaDisk): Verdict {
  const { port } = disk;
  const bytes = new Uint8Array(512);
  const device = port.register(AtaRegister.Device);
  const cylinder = port.register(AtaRegister.LbaMid) | (port.register(AtaRegister.LbaHigh) << 8);
  const sector = port.register(AtaRegister.LbaLow);
  const heads = port.get(DriveField.CurrentHeads);
  const track = port.get(DriveField.CurrentSectorsPerTrack);
  const lba =
    device & AtaDevice.Lba
      ? port.address + (device & AtaDevice.Head) * 2 ** 24
      : (cylinder * heads + (device & AtaDevice.Head)) * track + sector - 1;
  bytes.set([cylinder >> 8, cylinder, device, sector, lba / 2 ** 16, lba / 2 ** 8, lba]);
  return reply(disk, bytes);
}

/** ERASE SECTOR: only makes later writes faster. */
export function eraseSectors(): Verdict {
  return true;
}

/** IBM's SENSE CONDITION, Features 01h: the temperature, 50h for 20 degrees. */
export function senseCondition({ port }: AtaDisk): Verdict {
  if (port.register(AtaRegister.Features) !== 0x01) return false;
  port.setRegister(AtaRegister.Count, 0x50);
  return true;
}

/** CFA METADATA: inquiry, read and write of one block of 512 bytes that stands beside the data. */
export function metadata(disk: AtaDisk): Verdict {
  const { port, state } = disk;
  const features = port.register(AtaRegister.Features);
  if (features === 0x02) {
    const bytes = new Uint8Array(512);
    // Format revision 1; 512 bytes of storage.
    bytes[0] = 1;
    bytes[7] = 0x02;
    return reply(disk, bytes);
  }
  if (features === 0x03) return reply(disk, state.logs.metadata ?? new Uint8Array(512));
  if (features !== 0x04) return false;
  const block = takeBlock(disk, true);
  if (!(block instanceof Uint8Array)) return block;
  state.logs.metadata = block;
  return true;
}
