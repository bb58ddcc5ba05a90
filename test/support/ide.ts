import { AtaControl, AtaRegister, AtaStatus, Prd } from "../../assembly/spec/ata.ts";
import { PciCommand, PciConfig } from "../../assembly/spec/pci.ts";
import type { Clock } from "../../src/core/machine.ts";
import { enableBusMaster, TrappedAtaRegisters } from "../../src/guest/ata/registers.ts";
import { attachIde, type IdeController, type IdeOptions } from "../../src/host/device/ide/controller.ts";
import { type GuestCpu, LabMachine } from "../../src/hypervisor/machine.ts";

/** A guest at the registers of one IDE channel, without a driver: what a conformance test programs. */
export class IdeBench {
  readonly machine: LabMachine;
  readonly cpu: GuestCpu;
  readonly controller: IdeController;
  readonly registers: TrappedAtaRegisters;
  readonly channel: 0 | 1;

  constructor(
    drives: IdeOptions["drives"],
    options: { memory?: number; channel?: 0 | 1; clock?: Clock; emptyChannel?: 0 | 0x7f | 0xff } = {},
  ) {
    this.machine = new LabMachine({ memory: options.memory ?? 4 << 20 });
    if (options.clock) Object.assign(this.machine, { clock: options.clock });
    this.cpu = this.machine.guest;
    const { emptyChannel = 0 } = options;
    this.controller = attachIde(this.machine, { drives, slot: 1, emptyChannel });
    this.channel = options.channel ?? 0;
    this.registers = new TrappedAtaRegisters(this.cpu, this.channel, enableBusMaster(this.cpu)!);
  }

  read(register: AtaRegister, width: 1 | 2 | 4 = 1): number {
    return this.registers.read(register, width);
  }
  write(register: AtaRegister, value: number, width: 1 | 2 | 4 = 1): void {
    this.registers.write(register, width, value);
  }

  get status(): number {
    return this.read(AtaRegister.Status);
  }
  get altStatus(): number {
    return this.read(AtaRegister.AltStatus);
  }
  get error(): number {
    return this.read(AtaRegister.Error);
  }
  /** Level of the channel's interrupt line. */
  get irq(): boolean {
    return this.machine.trap.interrupts.level(this.channel === 0 ? 14 : 15);
  }

  /** Switches bus mastering of the PCI function on or off. */
  setBusMaster(on: boolean): void {
    this.cpu.out(0xcf8, 4, (0x80000000 | (1 << 11) | PciConfig.Command) >>> 0);
    this.cpu.out(0xcfc, 2, PciCommand.IoSpace | PciCommand.MemorySpace | (on ? PciCommand.BusMaster : 0));
  }

  /** Writes a PRD table at `address`: `[address, count register]` a descriptor, no EOT but what the count says. */
  prds(address: number, entries: readonly (readonly [address: number, count: number])[]): void {
    entries.forEach(([start, count], i) => {
      this.cpu.ram.write32(address + i * Prd.Size, start);
      this.cpu.ram.write32(address + i * Prd.Size + 4, count >>> 0);
    });
  }

  /** Task file of a 28-bit LBA command; the command itself starts it. */
  command28(command: number, lba: number, count: number, drive = 0): void {
    this.write(AtaRegister.Device, 0xe0 | (drive << 4) | ((lba >>> 24) & 0x0f));
    this.write(AtaRegister.Features, 0);
    this.write(AtaRegister.Count, count & 0xff);
    this.write(AtaRegister.LbaLow, lba & 0xff);
    this.write(AtaRegister.LbaMid, (lba >>> 8) & 0xff);
    this.write(AtaRegister.LbaHigh, (lba >>> 16) & 0xff);
    this.write(AtaRegister.Command, command);
  }

  command48(command: number, lba: number, count: number, drive = 0): void {
    const byte = (n: number) => Math.floor(lba / 2 ** (8 * n)) & 0xff;
    this.write(AtaRegister.Device, 0xe0 | (drive << 4));
    for (const high of [1, 0]) {
      this.write(AtaRegister.Count, (count >>> (8 * high)) & 0xff);
      this.write(AtaRegister.LbaLow, byte(high * 3));
      this.write(AtaRegister.LbaMid, byte(high * 3 + 1));
      this.write(AtaRegister.LbaHigh, byte(high * 3 + 2));
    }
    this.write(AtaRegister.Command, command);
  }

  /** The 28-bit address in the task file. */
  get lba28(): number {
    return (
      this.read(AtaRegister.LbaLow) |
      (this.read(AtaRegister.LbaMid) << 8) |
      (this.read(AtaRegister.LbaHigh) << 16) |
      ((this.read(AtaRegister.Device) & 0x0f) << 24)
    );
  }

  /** The 48-bit address in the task file, read back through HOB. */
  get lba48(): number {
    const three = () =>
      this.read(AtaRegister.LbaLow) | (this.read(AtaRegister.LbaMid) << 8) | (this.read(AtaRegister.LbaHigh) << 16);
    const low = three();
    this.write(AtaRegister.Control, AtaControl.HighOrder);
    const high = three();
    this.write(AtaRegister.Control, 0);
    return high * 2 ** 24 + low;
  }

  /** Reads DRQ blocks until the command ends: the bytes. */
  drain(): Uint8Array {
    const bytes: number[] = [];
    while (this.altStatus & AtaStatus.DataRequest) {
      if (bytes.length > 1 << 24) throw new Error("the drive wants something else than being read");
      const word = this.read(AtaRegister.Data, 2);
      bytes.push(word & 0xff, word >>> 8);
    }
    return Uint8Array.from(bytes);
  }

  /** Feeds words while the drive asks for them. */
  feed(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length && this.altStatus & AtaStatus.DataRequest; at += 2) {
      this.write(AtaRegister.Data, bytes[at] | (bytes[at + 1] << 8), 2);
    }
  }
}

/** Bytes that differ from sector to sector. */
export function pattern(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + (i >>> 9) * 7 + seed) & 0xff;
  return bytes;
}
