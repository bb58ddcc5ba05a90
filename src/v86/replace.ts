import { AtaPort } from "../../assembly/spec/ata.ts";
import { ParavaneError } from "../core/error.ts";
import type { V86Cpu } from "./internals.ts";
import type { V86Machine } from "./machine.ts";

/** PCI device number of v86's IDE controller, and where its bus master stands until the guest moves it (its src/ide.js). */
export const IDE_SLOT = 0x1e;
const BUS_MASTER = 0xb400;

/** CMOS, as the emulated firmware reads it (SeaBIOS src/hw/rtc.h): boot order and how disks are translated for INT 13h. */
const CMOS_BOOT_FLAG_1 = 0x38;
const CMOS_DISK_TRANSLATION = 0x39;
const CMOS_BOOT_FLAG_2 = 0x3d;
/** Logical block addressing, two bits a drive. */
const TRANSLATE_LBA = 0x55;

/** What the firmware tries, first to last. */
export type BootDevice = "disk" | "cd" | "floppy";
const BOOT_CODES: Record<BootDevice, number> = { floppy: 1, disk: 2, cd: 3 };

/**
 * Takes v86's IDE controller out of its machine: off its ports and the PCI bus.
 * @throws ParavaneError EXISTS when it holds images, which would be lost without a word
 */
export function removeIde(cpu: V86Cpu, machine: V86Machine): void {
  const { ide } = cpu.devices;
  const images = [ide?.primary?.master, ide?.primary?.slave, ide?.secondary?.master, ide?.secondary?.slave];
  if (images.some((drive) => drive?.buffer)) {
    throw new ParavaneError(
      "EXISTS",
      "v86 has been given disks or a CD of its own, and this controller takes the place of v86's",
      {},
      { hint: "Leave hda, hdb and cdrom out of v86's options" },
    );
  }
  machine.ports.clear(AtaPort.PrimaryCommand, 8);
  machine.ports.clear(AtaPort.PrimaryControl, 1);
  machine.ports.clear(AtaPort.SecondaryCommand, 8);
  machine.ports.clear(AtaPort.SecondaryControl, 1);
  machine.ports.clear(BUS_MASTER, 16);
  machine.pci.remove(IDE_SLOT);
}

/** What the firmware is to know of the disks. */
export function tellFirmware(cpu: V86Cpu, order: readonly BootDevice[]): void {
  const { rtc } = cpu.devices;
  rtc.cmos_write(CMOS_DISK_TRANSLATION, TRANSLATE_LBA);
  const [first = 0, second = 0, third = 0] = order.map((device) => BOOT_CODES[device]);
  // Bit 0 of the first: no look at a floppy's signature.
  rtc.cmos_write(CMOS_BOOT_FLAG_1, (rtc.cmos_read(CMOS_BOOT_FLAG_1) & 0x0f) | (third << 4));
  rtc.cmos_write(CMOS_BOOT_FLAG_2, first | (second << 4));
}
