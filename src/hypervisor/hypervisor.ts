import { LabMachine, type MachineOptions } from "./machine.ts";
import { XenDomain, type XenMachine } from "./xen/domain.ts";
import { EventChannels } from "./xen/event-channel.ts";
import { XenGuest } from "./xen/guest.ts";
import { Xenstore } from "./xen/xenstore.ts";

/** The host's own domain, in which back ends run. */
export const HOST_DOMAIN = 0;

/**
 * Several guests on one host, each in its own domain and its own linear memory; the xenstore and the event channels in
 * which they meet the host are common to all. Domain 0 is the host itself.
 */
export class Hypervisor {
  readonly xenstore = new Xenstore();
  readonly eventChannels = new EventChannels();
  readonly #machines = new Map<number, LabMachine>();
  readonly #domains = new Map<number, XenDomain>();
  readonly #guests = new Map<number, XenGuest>();
  readonly #hostHandlers = new Map<number, () => void>();
  #nextDomain = 1;

  constructor() {
    this.eventChannels.connect(HOST_DOMAIN, (port) => this.#hostHandlers.get(port)?.());
  }

  /** @throws ParavaneError INVALID when the memory does not fit */
  createMachine(options: Omit<MachineOptions, "domain"> = {}): LabMachine {
    const machine = new LabMachine({ ...options, domain: this.#nextDomain++ });
    this.#machines.set(machine.domain, machine);
    return machine;
  }

  machine(domain: number): LabMachine | undefined {
    return this.#machines.get(domain);
  }

  /** The Xen side of a machine: its home in the store (XS_INTRODUCE), its events and its grant table. */
  domain(machine: XenMachine): XenDomain {
    let domain = this.#domains.get(machine.domain);
    if (!domain) {
      const { id } = (domain = new XenDomain(machine));
      this.#domains.set(id, domain);
      this.eventChannels.connect(id, (port) => domain!.raise(port));
      const home = `/local/domain/${id}`;
      this.xenstore.write(HOST_DOMAIN, home, "");
      this.xenstore.setPermissions(HOST_DOMAIN, home, { owner: id, others: "none" });
      this.xenstore.write(HOST_DOMAIN, `${home}/domid`, String(id));
      machine.onReset(() => this.#reset(domain!));
    }
    return domain;
  }

  /** Xen as the machine's guest sees it; from its boot to its reset. */
  xenGuest(machine: LabMachine): XenGuest {
    const domain = this.domain(machine);
    let guest = this.#guests.get(domain.id);
    if (!guest) {
      guest = new XenGuest(domain, machine.guest, this.eventChannels, this.xenstore);
      this.#guests.set(domain.id, guest);
    }
    return guest;
  }

  /** Binds a host port to one that a guest offers; its events call `handler` at once. @throws ParavaneError INVALID */
  bindHostPort(remoteDomain: number, remotePort: number, handler: () => void): number {
    const port = this.eventChannels.bindInterdomain(HOST_DOMAIN, remoteDomain, remotePort);
    this.#hostHandlers.set(port, handler);
    return port;
  }

  closeHostPort(port: number): void {
    this.#hostHandlers.delete(port);
    this.eventChannels.close(HOST_DOMAIN, port);
  }

  destroy(machine: LabMachine): void {
    const domain = this.#domains.get(machine.domain);
    this.#machines.delete(machine.domain);
    if (!domain) return;
    this.#reset(domain);
    this.#domains.delete(machine.domain);
    this.xenstore.remove(HOST_DOMAIN, `/local/domain/${machine.domain}`);
  }

  #reset(domain: XenDomain): void {
    this.#guests.delete(domain.id);
    this.xenstore.unwatch(domain.id);
    this.eventChannels.reset(domain.id);
    domain.reset();
  }
}
