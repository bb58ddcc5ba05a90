import { GrantEntry, GrantLimit, Gtf, Hypercall, XenPage } from "../../../assembly/spec/xen.ts";
import { ParavaneError } from "../../core/error.ts";
import type { Release } from "../../core/machine.ts";
import type { GuestCpu } from "../machine.ts";
import { UPCALL_LINE, type XenDomain } from "./domain.ts";
import type { EventChannels } from "./event-channel.ts";
import { type Xenstore, XenstoreClient } from "./xenstore.ts";

/** Grant-table pages a guest starts with: 16,384 references. */
const FRAMES = 32;

/** Xen as a guest's kernel meets it: hypercalls that each cost one exit, its own grant table, the event upcall. */
export class XenGuest {
  readonly domain: number;
  readonly cpu: GuestCpu;
  readonly events: GuestEvents;
  readonly store: GuestXenstore;
  readonly grants: GuestGrants;

  constructor(domain: XenDomain, cpu: GuestCpu, channels: EventChannels, store: Xenstore) {
    this.domain = domain.id;
    this.cpu = cpu;
    this.events = new GuestEvents(domain, cpu, channels);
    this.store = new GuestXenstore(store, domain, cpu, this.events);
    this.grants = new GuestGrants(domain, cpu);
  }
}

/** The guest's event channels. Handlers run in the upcall, an interrupt. */
export class GuestEvents {
  readonly #domain: XenDomain;
  readonly #cpu: GuestCpu;
  readonly #channels: EventChannels;
  readonly #handlers = new Map<number, () => void>();

  constructor(domain: XenDomain, cpu: GuestCpu, channels: EventChannels) {
    this.#domain = domain;
    this.#cpu = cpu;
    this.#channels = channels;
    const handle = (port: number) => this.#handlers.get(port)?.();
    cpu.onInterrupt(UPCALL_LINE, () => domain.take(handle));
  }

  /** A port that `remoteDomain` may bind to; its events call `handler`. */
  allocUnbound(remoteDomain: number, handler: () => void): number {
    const port = this.#cpu.hypercall(Hypercall.EventChannelOp, () =>
      this.#channels.allocUnbound(this.#domain.id, remoteDomain),
    );
    this.#handlers.set(port, handler);
    return port;
  }
  send(port: number): void {
    this.#cpu.hypercall(Hypercall.EventChannelOp, () => this.#channels.send(this.#domain.id, port));
  }
  close(port: number): void {
    this.#handlers.delete(port);
    this.#cpu.hypercall(Hypercall.EventChannelOp, () => this.#channels.close(this.#domain.id, port));
  }
}

/** The store, each operation one exit: the kick of the store's own ring. Watches are delivered by the upcall. */
export class GuestXenstore extends XenstoreClient {
  readonly #cpu: GuestCpu;
  readonly #domain: XenDomain;
  readonly #events: (() => void)[] = [];
  readonly #port: number;

  constructor(store: Xenstore, domain: XenDomain, cpu: GuestCpu, events: GuestEvents) {
    super(store, domain.id);
    this.#cpu = cpu;
    this.#domain = domain;
    this.#port = events.allocUnbound(0, () => {
      for (let event = this.#events.shift(); event; event = this.#events.shift()) event();
    });
  }

  override read(path: string): string {
    return this.#trap(() => super.read(path));
  }
  override write(path: string, value: string | number): void {
    this.#trap(() => super.write(path, value));
  }
  override remove(path: string): void {
    this.#trap(() => super.remove(path));
  }
  override directory(path: string): string[] {
    return this.#trap(() => super.directory(path));
  }
  override transaction<T>(body: () => T): T {
    return this.#trap(() => super.transaction(body));
  }
  override watch(path: string, call: (path: string) => void): Release {
    let live = true;
    const release = this.#trap(() =>
      super.watch(path, (changed) => {
        this.#events.push(() => live && call(changed));
        this.#domain.raise(this.#port);
      }),
    );
    return () => {
      live = false;
      release();
    };
  }

  #trap<T>(call: () => T): T {
    return this.#cpu.hypercall(Hypercall.EventChannelOp, call);
  }
}

/** The guest's end of its grant table. Entries are plain stores to its own RAM: no exit. */
export class GuestGrants {
  /** Guest-physical address of entry 0. */
  readonly address: number;
  readonly #cpu: GuestCpu;
  readonly #end: number;
  readonly #free = new Map<number, number[]>();
  #next: number = GrantLimit.Reserved;

  constructor(domain: XenDomain, cpu: GuestCpu) {
    this.#cpu = cpu;
    this.address = cpu.ram.allocate(FRAMES);
    this.#end = (FRAMES * XenPage.Size) / GrantEntry.Size;
    cpu.hypercall(Hypercall.GrantTableOp, () => domain.grants.setup(this.address, FRAMES));
  }

  /** References that `allocate` can still give in one run. */
  get available(): number {
    return this.#end - this.#next;
  }

  /** The first of `count` references in a row. @throws ParavaneError NO_SPACE */
  allocate(count: number): number {
    const recycled = this.#free.get(count)?.pop();
    if (recycled !== undefined) return recycled;
    if (this.available < count) throw new ParavaneError("NO_SPACE", "the guest is out of grant references", { count });
    this.#next += count;
    return this.#next - count;
  }

  /** Ends the access of `count` references and gives back those that nobody has mapped; false when some are. */
  free(first: number, count: number): boolean {
    let idle = true;
    for (let ref = first; ref < first + count; ref++) if (!this.end(ref)) idle = false;
    // A page still mapped stays granted, and its reference taken, until the domain ends.
    if (!idle) return false;
    const list = this.#free.get(count);
    if (list) list.push(first);
    else this.#free.set(count, [first]);
    return true;
  }

  /** Grants `domain` access to the page at guest-physical `address` (grant_table.h: frame, domain, then flags). */
  grant(ref: number, domain: number, address: number, readOnly: boolean): void {
    const { ram } = this.#cpu;
    const entry = this.address + ref * GrantEntry.Size;
    ram.write32(entry + GrantEntry.Frame, address >>> XenPage.Shift);
    ram.write16(entry + GrantEntry.Domain, domain);
    ram.write16(entry + GrantEntry.Flags, Gtf.PermitAccess | (readOnly ? Gtf.ReadOnly : 0));
  }

  /** False while the other domain has the page mapped. */
  end(ref: number): boolean {
    const { ram } = this.#cpu;
    const entry = this.address + ref * GrantEntry.Size + GrantEntry.Flags;
    if ((ram.read16(entry) & (Gtf.Reading | Gtf.Writing)) !== 0) return false;
    ram.write16(entry, Gtf.Invalid);
    return true;
  }
}
