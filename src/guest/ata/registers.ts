import { AtaPort, AtaRegister } from "../../../assembly/spec/ata.ts";
import { PciCommand, PciConfig, PciPort } from "../../../assembly/spec/pci.ts";
import type { Width } from "../../core/machine.ts";
import type { AtaRegisters } from "../../hypervisor/ata-registers.ts";
import type { GuestCpu } from "../../hypervisor/machine.ts";

/** Class 01 (mass storage), sub-class 01 (IDE). */
const IDE_CLASS = 0x0101;
/** Bytes of bus-master registers for each channel (BMIDE §2). */
const CHANNEL_BYTES = 8;

/**
 * Finds the first IDE function on the PCI bus, switches I/O decoding and bus mastering on, and returns the base of its
 * bus-master registers; undefined when there is none.
 */
export function enableBusMaster(cpu: GuestCpu): number | undefined {
  for (let slot = 0; slot < 32; slot++) {
    const select = (register: number) =>
      cpu.out(PciPort.Address, 4, (0x80000000 | (slot << 11) | (register & 0xfc)) >>> 0);
    select(PciConfig.RevisionId);
    if (cpu.in(PciPort.Data, 4) >>> 16 !== IDE_CLASS) continue;
    select(PciConfig.Command);
    const command = cpu.in(PciPort.Data, 2);
    cpu.out(PciPort.Data, 2, command | PciCommand.IoSpace | PciCommand.BusMaster);
    select(PciConfig.Bar0 + 4 * 4);
    return cpu.in(PciPort.Data, 4) & 0xfff0;
  }
  return undefined;
}

/** A channel at its legacy ports, every access a trap. */
export class TrappedAtaRegisters implements AtaRegisters {
  readonly interruptLine: number;
  readonly #cpu: GuestCpu;
  readonly #command: number;
  readonly #control: number;
  readonly #busMaster: number;

  /** @param busMaster what `enableBusMaster` returned */
  constructor(cpu: GuestCpu, channel: 0 | 1, busMaster: number) {
    this.#cpu = cpu;
    this.#command = channel === 0 ? AtaPort.PrimaryCommand : AtaPort.SecondaryCommand;
    this.#control = channel === 0 ? AtaPort.PrimaryControl : AtaPort.SecondaryControl;
    this.#busMaster = busMaster + channel * CHANNEL_BYTES;
    this.interruptLine = channel === 0 ? AtaPort.PrimaryInterrupt : AtaPort.SecondaryInterrupt;
  }

  read(register: AtaRegister, width: Width): number {
    return this.#cpu.in(this.#port(register), width);
  }

  write(register: AtaRegister, width: Width, value: number): void {
    this.#cpu.out(this.#port(register), width, value);
  }

  #port(register: AtaRegister): number {
    if (register <= AtaRegister.Command) return this.#command + register;
    if (register === AtaRegister.Control) return this.#control;
    return this.#busMaster + register - AtaRegister.BmCommand;
  }
}
