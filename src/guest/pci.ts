import { PciBar, PciCommand, PciConfig, PciPort } from "../../assembly/spec/pci.ts";
import type { Width } from "../core/machine.ts";
import type { GuestCpu } from "../hypervisor/machine.ts";

/** A window that a base address register claims. */
export interface BarWindow {
  kind: "io" | "memory";
  base: number;
}

/** A driver's view of one PCI function, by configuration mechanism #1 (PCI 3.0 §3.2.2.3.2). */
export class PciFunctionView {
  readonly slot: number;
  readonly #cpu: GuestCpu;

  constructor(cpu: GuestCpu, slot: number) {
    this.#cpu = cpu;
    this.slot = slot;
  }

  read(register: number, width: Width): number {
    this.#select(register);
    return this.#cpu.in(PciPort.Data + (register & 3), width);
  }
  write(register: number, width: Width, value: number): void {
    this.#select(register);
    this.#cpu.out(PciPort.Data + (register & 3), width, value);
  }

  /** Legacy interrupt line, as the firmware has noted it. */
  get interruptLine(): number {
    return this.read(PciConfig.InterruptLine, 1);
  }

  bar(index: number): BarWindow {
    const value = this.read(PciConfig.Bar0 + 4 * index, 4);
    if ((value & PciBar.Io) !== 0) return { kind: "io", base: (value & ~PciBar.IoFlags) >>> 0 };
    return { kind: "memory", base: (value & ~PciBar.MemoryFlags) >>> 0 };
  }

  /** Decoding of both spaces, and mastering, on. */
  enable(): void {
    const command = this.read(PciConfig.Command, 2);
    this.write(PciConfig.Command, 2, command | PciCommand.IoSpace | PciCommand.MemorySpace | PciCommand.BusMaster);
  }

  /** Offsets in configuration space of the capabilities with that id, in the order of the list. */
  *capabilities(id: number): Generator<number> {
    let at = this.read(PciConfig.CapabilitiesPointer, 1) & 0xfc;
    // A list that leads in a circle ends: there is no room for more.
    for (let left = 48; at !== 0 && left > 0; left--, at = this.read(at + 1, 1) & 0xfc) {
      if (this.read(at, 1) === id) yield at;
    }
  }

  #select(register: number): void {
    this.#cpu.out(PciPort.Address, 4, (0x80000000 | (this.slot << 11) | (register & 0xfc)) >>> 0);
  }
}

/** The first function of that vendor and device on bus 0, or the one in `slot`. */
export function findPci(cpu: GuestCpu, vendor: number, device: number, slot?: number): PciFunctionView | undefined {
  for (let each = slot ?? 0; each <= (slot ?? 31); each++) {
    const view = new PciFunctionView(cpu, each);
    if (view.read(PciConfig.VendorId, 4) === vendor + device * 0x10000) return view;
  }
  return undefined;
}
