import { ParavaneError } from "../../core/error.ts";

/** EVTCHN_2L_NR_CHANNELS of a 32-bit guest (event_channel.h). */
export const PORTS = 1024;

/** One domain's end of a channel. Port 0 is never valid. */
interface Port {
  /** Who may bind to it, or is bound to it. */
  remoteDomain: number;
  /** The other end's port; 0 while unbound. */
  remotePort: number;
}

/**
 * Event channels: one-bit notifications between domains (event_channel.h). The operations are those of
 * EVTCHNOP_alloc_unbound, _bind_interdomain, _send and _close, called for a domain.
 */
export class EventChannels {
  readonly #ports = new Map<number, (Port | undefined)[]>();
  readonly #deliver = new Map<number, (port: number) => void>();

  /** How `domain` takes events: a host at once, a guest by an upcall. Replaces what was there. */
  connect(domain: number, deliver: (port: number) => void): void {
    this.#deliver.set(domain, deliver);
  }

  /** A port to which `remoteDomain` may bind. @throws ParavaneError NO_SPACE */
  allocUnbound(domain: number, remoteDomain: number): number {
    return this.#allocate(domain, { remoteDomain, remotePort: 0 });
  }

  /** Binds to a port that its domain has offered to us. @throws ParavaneError INVALID, NO_SPACE */
  bindInterdomain(domain: number, remoteDomain: number, remotePort: number): number {
    const remote = this.#port(remoteDomain, remotePort);
    if (!remote || remote.remoteDomain !== domain || remote.remotePort !== 0) {
      throw new ParavaneError(
        "INVALID",
        `port ${remotePort} of domain ${remoteDomain} is not offered to domain ${domain}`,
      );
    }
    const port = this.#allocate(domain, { remoteDomain, remotePort });
    remote.remotePort = port;
    return port;
  }

  /** Notifies the other end; false when there is none. */
  send(domain: number, port: number): boolean {
    const local = this.#port(domain, port);
    if (!local || local.remotePort === 0) return false;
    this.#deliver.get(local.remoteDomain)?.(local.remotePort);
    return true;
  }

  /** The other end, if bound, may be bound again. */
  close(domain: number, port: number): void {
    const local = this.#port(domain, port);
    if (!local) return;
    const remote = this.#port(local.remoteDomain, local.remotePort);
    if (remote) remote.remotePort = 0;
    this.#ports.get(domain)![port] = undefined;
  }

  /** A domain is gone or starts over: closes its ports. */
  reset(domain: number): void {
    for (let port = 1; port < (this.#ports.get(domain)?.length ?? 0); port++) this.close(domain, port);
  }

  #port(domain: number, port: number): Port | undefined {
    return this.#ports.get(domain)?.[port];
  }

  #allocate(domain: number, port: Port): number {
    let ports = this.#ports.get(domain);
    if (!ports) this.#ports.set(domain, (ports = [undefined]));
    const free = ports.indexOf(undefined, 1);
    const number = free < 0 ? ports.length : free;
    if (number >= PORTS) throw new ParavaneError("NO_SPACE", `domain ${domain} has all its event channels in use`);
    ports[number] = port;
    return number;
  }
}
