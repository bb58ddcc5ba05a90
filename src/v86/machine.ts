import type { Clock, InterruptLine, Machine, Release } from "../core/machine.ts";
import { checkInternals, type V86Cpu } from "./internals.ts";
import { V86Interrupts } from "./interrupts.ts";
import { V86Memory } from "./memory.ts";
import { V86Mmio } from "./mmio.ts";
import { V86PciBus } from "./pci.ts";
import { V86Ports } from "./ports.ts";

const clock: Clock = {
  now: () => performance.now(),
  after(ms, call) {
    const timer = setTimeout(call, ms);
    return () => clearTimeout(timer);
  },
};

/** v86 as a Machine: device models that are plugged in here do not know it from any other. */
export class V86Machine implements Machine {
  readonly memory: V86Memory;
  readonly ports: V86Ports;
  readonly mmio: V86Mmio;
  readonly pci: V86PciBus;
  readonly interrupts: V86Interrupts;
  readonly clock = clock;
  readonly #cpu: V86Cpu;
  readonly #reboot: () => void;
  readonly #resets = new Set<() => void>();

  /** @throws ParavaneError UNSUPPORTED (another version of v86) */
  constructor(cpu: V86Cpu | undefined) {
    checkInternals(cpu);
    this.#cpu = cpu;
    this.memory = new V86Memory(cpu);
    this.ports = new V86Ports(cpu.io);
    this.interrupts = new V86Interrupts(cpu);
    this.mmio = new V86Mmio(cpu, this.interrupts, this.memory.size);
    const spaces = { ports: this.ports.forBars, mmio: this.mmio };
    const repair = () => this.ports.repair();
    this.pci = new V86PciBus(cpu.devices.pci, cpu.io.ports, spaces, this.interrupts, repair);
    this.#reboot = cpu.reboot_internal;
    cpu.reboot_internal = () => {
      for (const call of this.#resets) call();
      this.pci.reset();
      this.#reboot.call(cpu);
    };
  }

  interrupt(line: number): InterruptLine {
    return this.interrupts.source(() => line);
  }

  onReset(call: () => void): Release {
    this.#resets.add(call);
    return () => this.#resets.delete(call);
  }

  /** v86 is as it was, once every device has been closed. */
  detach(): void {
    this.#cpu.reboot_internal = this.#reboot;
    this.pci.detach();
    this.mmio.detach();
    this.interrupts.detach();
  }
}
