import type { Clock, InterruptLine, Machine, Release, Width } from "../core/machine.ts";
import { MmioBus, PortBus, Trap } from "./bus.ts";
import { InterruptController } from "./interrupts.ts";
import { GuestRam, LinearMemory } from "./memory.ts";
import { LabPciBus } from "./pci.ts";

export interface MachineOptions {
  /** Guest RAM in bytes; default 64 MiB. */
  memory?: number;
  /** Room for device state in bytes; default 4 MiB. */
  hostMemory?: number;
  /** Default 1. Domain 0 is the host. */
  domain?: number;
}

/** What code running "in the guest" can do: its own RAM untouched by anybody, everything else by trapping. */
export class GuestCpu {
  readonly ram: GuestRam;
  readonly clock: Clock;
  readonly #machine: LabMachine;

  constructor(machine: LabMachine) {
    this.#machine = machine;
    this.ram = new GuestRam(machine.memory);
    this.clock = machine.clock;
  }

  in(port: number, width: Width): number {
    return this.#machine.ports.read(port, width);
  }
  out(port: number, width: Width, value: number): void {
    this.#machine.ports.write(port, width, value);
  }
  /** `rep ins`: `count` reads of one port into RAM at `address`, one exit. @throws ParavaneError OUT_OF_RANGE */
  ins(port: number, width: Width, address: number, count: number): void {
    this.#machine.ports.readString(port, width, this.ram.bytes(address, count * width));
  }
  /** `rep outs`. @throws ParavaneError OUT_OF_RANGE */
  outs(port: number, width: Width, address: number, count: number): void {
    this.#machine.ports.writeString(port, width, this.ram.bytes(address, count * width));
  }
  load(address: number, width: Width): number {
    return this.#machine.mmio.read(address, width);
  }
  store(address: number, width: Width, value: number): void {
    this.#machine.mmio.write(address, width, value);
  }
  /** A call into the hypervisor: counted as one exit, interrupts delivered on the way back. */
  hypercall<T>(code: number, call: () => T): T {
    const { trap } = this.#machine;
    trap.exits.hypercalls++;
    trap.trace?.("hypercall", code, 0, 0);
    trap.interrupts.hold();
    try {
      return call();
    } finally {
      trap.interrupts.unhold();
    }
  }
  /** Interrupts wait from `cli` to the matching `sti`; the two nest. */
  cli(): void {
    this.#machine.trap.interrupts.hold();
  }
  sti(): void {
    this.#machine.trap.interrupts.unhold();
  }
  onInterrupt(line: number, handler: () => void): Release {
    return this.#machine.trap.interrupts.handle(line, handler);
  }
}

const clock: Clock = {
  now: () => performance.now(),
  after(ms, call) {
    const timer = setTimeout(call, ms);
    return () => clearTimeout(timer);
  },
};

/** Our own machine: RAM, port and memory buses that count every exit, PCI, interrupt lines; its guest is TypeScript. */
export class LabMachine implements Machine {
  readonly domain: number;
  readonly memory: LinearMemory;
  readonly trap: Trap;
  readonly ports: PortBus;
  readonly mmio: MmioBus;
  readonly pci: LabPciBus;
  readonly clock = clock;
  readonly guest: GuestCpu;
  readonly #resets = new Set<() => void>();

  constructor(options: MachineOptions = {}) {
    this.domain = options.domain ?? 1;
    this.memory = new LinearMemory(options.memory ?? 64 << 20, options.hostMemory);
    this.trap = new Trap(new InterruptController());
    this.ports = new PortBus(this.trap);
    this.mmio = new MmioBus(this.trap, this.memory.size);
    this.pci = new LabPciBus(this);
    this.guest = new GuestCpu(this);
  }

  get exits(): Trap["exits"] {
    return this.trap.exits;
  }
  get interruptsDelivered(): number {
    return this.trap.interrupts.delivered;
  }

  interrupt(line: number): InterruptLine {
    return this.trap.interrupts.source(line);
  }

  onReset(call: () => void): Release {
    this.#resets.add(call);
    return () => this.#resets.delete(call);
  }

  /** The reset button: devices return to power-on state; RAM keeps its contents. */
  reset(): void {
    for (const call of this.#resets) call();
  }
}
