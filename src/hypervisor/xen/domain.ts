import type { InterruptLine, Machine, Release } from "../../core/machine.ts";
import { PORTS } from "./event-channel.ts";
import { GrantTable } from "./grant-table.ts";

/** Interrupt line of the event-channel upcall (HVM_PARAM_CALLBACK_IRQ). */
export const UPCALL_LINE = 16;

/** A machine that is a Xen domain. */
export interface XenMachine extends Machine {
  readonly domain: number;
}

/** What the hypervisor keeps for one guest: its grant table and its pending events. */
export class XenDomain {
  readonly id: number;
  readonly machine: XenMachine;
  readonly grants: GrantTable;
  readonly #pending = new Uint32Array(PORTS / 32);
  readonly #upcall: InterruptLine;
  readonly #resets = new Set<() => void>();

  constructor(machine: XenMachine) {
    this.id = machine.domain;
    this.machine = machine;
    this.grants = new GrantTable(machine.memory);
    this.#upcall = machine.interrupt(UPCALL_LINE);
  }

  /** Marks the port pending and asks for the upcall (shared_info.evtchn_pending, xen.h). */
  raise(port: number): void {
    this.#pending[port >>> 5] |= 1 << (port & 31);
    this.#upcall.set(true);
  }

  /**
   * The guest's end of the upcall: takes the pending ports, lowest first, and calls `handle` for each. Reads what stands
   * in the guest's shared-info page, hence is no exit.
   */
  take(handle: (port: number) => void): void {
    this.#upcall.set(false);
    for (let word = 0; word < this.#pending.length; word++) {
      let bits = this.#pending[word];
      if (bits === 0) continue;
      this.#pending[word] = 0;
      for (; bits !== 0; bits &= bits - 1) handle(word * 32 + 31 - Math.clz32(bits & -bits));
    }
  }

  /** Called when the guest starts over or ends, its grants still valid: back ends let go of them. */
  onReset(call: () => void): Release {
    this.#resets.add(call);
    return () => this.#resets.delete(call);
  }

  reset(): void {
    for (const call of [...this.#resets]) call();
    this.#pending.fill(0);
    this.#upcall.set(false);
    this.grants.reset();
  }
}
