import { AtaPort, AtaRegister } from "../../assembly/spec/ata.ts";
import { Mmio } from "../../assembly/spec/virtio.ts";
import { Hypercall } from "../../assembly/spec/xen.ts";

/** ATA/ATAPI-6 §7: a register's name when read, and when written where that differs. */
const ATA: Record<number, [read: string, write: string]> = {
  [AtaRegister.Data]: ["Data", "Data"],
  [AtaRegister.Error]: ["Error", "Features"],
  [AtaRegister.Count]: ["Sector Count", "Sector Count"],
  [AtaRegister.LbaLow]: ["LBA Low", "LBA Low"],
  [AtaRegister.LbaMid]: ["LBA Mid", "LBA Mid"],
  [AtaRegister.LbaHigh]: ["LBA High", "LBA High"],
  [AtaRegister.Device]: ["Device", "Device"],
  [AtaRegister.Status]: ["Status", "Command"],
  [AtaRegister.Control]: ["Alternate Status", "Device Control"],
  [AtaRegister.BmCommand]: ["bus-master Command", "bus-master Command"],
  [AtaRegister.BmStatus]: ["bus-master Status", "bus-master Status"],
  [AtaRegister.BmTable]: ["PRD Table Address", "PRD Table Address"],
};

export function registerName(register: AtaRegister, write: boolean): string {
  return ATA[register]?.[write ? 1 : 0] ?? `register ${register}`;
}

/** The primary channel's ports; the bus master wherever the guest found its BAR, on sixteen bytes. */
export function portName(port: number, write: boolean): string {
  if (port === AtaPort.PrimaryControl) return registerName(AtaRegister.Control, write);
  const command = port - AtaPort.PrimaryCommand;
  if (command >= 0 && command < 8) return registerName(command, write);
  return registerName(AtaRegister.BmCommand + (port & 7), write);
}

const HYPERCALLS: Record<number, string> = {
  [Hypercall.GrantTableOp]: "grant-table operation",
  [Hypercall.EventChannelOp]: "event-channel send",
};

export function hypercallName(code: number): string {
  return HYPERCALLS[code] ?? `hypercall ${code}`;
}

const MMIO: Record<number, string> = {
  [Mmio.QueueNotify]: "QueueNotify",
  [Mmio.InterruptStatus]: "InterruptStatus",
  [Mmio.InterruptAcknowledge]: "InterruptACK",
};

/** A virtio-mmio register, by its place in the device's window. */
export function mmioName(address: number): string {
  const offset = address & (Mmio.WindowSize - 1);
  return MMIO[offset] ?? `register 0x${offset.toString(16)}`;
}
