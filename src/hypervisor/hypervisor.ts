import { LabMachine, type MachineOptions } from "./machine.ts";

/** Several guests on one host, each in its own domain and its own linear memory. Domain 0 is the host itself. */
export class Hypervisor {
  readonly #machines = new Map<number, LabMachine>();
  #nextDomain = 1;

  /** @throws ParavaneError INVALID when the memory does not fit */
  createMachine(options: Omit<MachineOptions, "domain"> = {}): LabMachine {
    const machine = new LabMachine({ ...options, domain: this.#nextDomain++ });
    this.#machines.set(machine.domain, machine);
    return machine;
  }

  machine(domain: number): LabMachine | undefined {
    return this.#machines.get(domain);
  }

  destroy(machine: LabMachine): void {
    this.#machines.delete(machine.domain);
  }
}
