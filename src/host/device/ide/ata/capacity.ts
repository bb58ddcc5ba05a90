// The host protected area (ATA/ATAPI-6 §6.15): READ NATIVE MAX ADDRESS and SET MAX, whose lock and password are §8.47.
import {
  AtaCommand,
  AtaConfigurable,
  AtaDevice,
  AtaError,
  AtaRegister,
  AtaSetMax,
} from "../../../../../assembly/spec/ata.ts";
import { CommandBits, DriveField } from "../../../../../assembly/spec/ide.ts";
import type { DevicePort } from "../port.ts";
import { type AtaDisk, offers, takeBlock, type Verdict } from "./command.ts";

/** The last address that 28 bits name. */
const LAST28 = 2 ** 28 - 1;

/** §6.20: a drive with more says one less, so that its capacity fits words 60 and 61. */
const last28 = (last: number) => (last > LAST28 ? LAST28 - 1 : last);

/** §8.32, §8.33: the last address, in the form the Device register asks for. */
export function readNativeMax(disk: AtaDisk): Verdict {
  const { port, state } = disk;
  const { sectors } = state.configuration;
  const ext = (port.traits & CommandBits.Ext) !== 0;
  if (sectors === 0 || !offers(disk, AtaConfigurable.ProtectedArea)) return false;
  if ((port.register(AtaRegister.Device) & AtaDevice.Lba) === 0) {
    // The last sector of the default translation; 48-bit addresses have no such form.
    if (ext) return false;
    const cylinder = port.get(DriveField.Cylinders) - 1;
    port.setRegister(AtaRegister.LbaLow, port.get(DriveField.SectorsPerTrack));
    port.setRegister(AtaRegister.LbaMid, cylinder);
    port.setRegister(AtaRegister.LbaHigh, cylinder >>> 8);
    putHead(port, port.get(DriveField.Heads) - 1);
  } else putAddress(port, ext ? sectors - 1 : last28(sectors - 1), ext);
  state.nativeMaxRead = true;
  return true;
}

export function setMax(disk: AtaDisk): Verdict {
  const { port, state } = disk;
  const { setMax } = state;
  if (!offers(disk, AtaConfigurable.ProtectedArea)) return false;
  if (port.command === AtaCommand.SetMaxExt) return setMaxAddress(disk, true);
  // §8.47: right after READ NATIVE MAX ADDRESS it is SET MAX ADDRESS, whatever Features says.
  const subcommand = state.nativeMaxRead ? AtaSetMax.Address : port.register(AtaRegister.Features);
  switch (subcommand) {
    case AtaSetMax.Address:
      return setMaxAddress(disk, false);
    case AtaSetMax.SetPassword: {
      const block = takeBlock(disk, !setMax.locked && !setMax.frozen);
      if (!(block instanceof Uint8Array)) return block;
      setMax.password = block.slice(2, 34);
      setMax.tries = 5;
      return true;
    }
    case AtaSetMax.Lock:
      if (setMax.frozen || !setMax.password) return false;
      setMax.locked = true;
      return true;
    case AtaSetMax.Unlock: {
      const block = takeBlock(disk, !setMax.frozen && setMax.password !== null && setMax.tries > 0);
      if (!(block instanceof Uint8Array)) return block;
      if (setMax.password?.every((byte, i) => byte === block[2 + i])) {
        setMax.locked = false;
        setMax.tries = 5;
        return true;
      }
      setMax.tries--;
      return false;
    }
    case AtaSetMax.Freeze:
      if (!setMax.password) return false;
      setMax.frozen = true;
      return true;
    default:
      return false;
  }
}

/** §8.47, §8.48. Bit 0 of Count: the change outlives a power cycle, of which there may be one between two. */
function setMaxAddress(disk: AtaDisk, ext: boolean): Verdict {
  const { port, state } = disk;
  const { setMax } = state;
  if (!state.nativeMaxRead || setMax.locked || setMax.frozen) return false;
  const keeps = (port.count() & 1) !== 0;
  const last = ext ? address48(port) : address28(port);
  if (last === undefined) return false;
  if (last >= state.configuration.sectors || (keeps && setMax.done)) {
    port.fail(AtaError.IdNotFound);
    return "answered";
  }
  state.visible = last + 1;
  if (keeps) {
    state.visibleAtPowerOn = last + 1;
    setMax.done = true;
  }
  disk.publish();
  return true;
}

/** The address in LBA form, or in CHS of the default translation. */
function address28(port: DevicePort): number | undefined {
  const device = port.register(AtaRegister.Device);
  if (device & AtaDevice.Lba) return port.address + (device & AtaDevice.Head) * 2 ** 24;
  const heads = port.get(DriveField.Heads);
  const track = port.get(DriveField.SectorsPerTrack);
  const sector = port.register(AtaRegister.LbaLow);
  if (sector === 0 || sector > track || (device & AtaDevice.Head) >= heads) return undefined;
  const cylinder = port.register(AtaRegister.LbaMid) | (port.register(AtaRegister.LbaHigh) << 8);
  return (cylinder * heads + (device & AtaDevice.Head)) * track + sector - 1;
}

function address48(port: DevicePort): number | undefined {
  if ((port.register(AtaRegister.Device) & AtaDevice.Lba) === 0) return undefined;
  return (
    port.address +
    port.previous(AtaRegister.LbaLow) * 2 ** 24 +
    port.previous(AtaRegister.LbaMid) * 2 ** 32 +
    port.previous(AtaRegister.LbaHigh) * 2 ** 40
  );
}

/** Puts a sector number into the task file, in 28 or 48 bits. */
function putAddress(port: DevicePort, lba: number, ext: boolean): void {
  port.setRegister(AtaRegister.LbaLow, lba);
  port.setRegister(AtaRegister.LbaMid, lba / 2 ** 8);
  port.setRegister(AtaRegister.LbaHigh, lba / 2 ** 16);
  if (ext) {
    port.setPrevious(AtaRegister.LbaLow, lba / 2 ** 24);
    port.setPrevious(AtaRegister.LbaMid, lba / 2 ** 32);
    port.setPrevious(AtaRegister.LbaHigh, lba / 2 ** 40);
  } else putHead(port, (lba / 2 ** 24) & AtaDevice.Head);
}

function putHead(port: DevicePort, head: number): void {
  const device = port.register(AtaRegister.Device);
  port.setRegister(AtaRegister.Device, (device & ~AtaDevice.Head) | head);
}
