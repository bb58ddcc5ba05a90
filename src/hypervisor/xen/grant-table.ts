import { GrantEntry, XenPage } from "../../../assembly/spec/xen.ts";
import { ActiveGrant, GrantContext } from "../../../assembly/spec/xen-context.ts";
import { ParavaneError } from "../../core/error.ts";
import type { GuestMemory } from "../../core/machine.ts";
import { type Core, coreFor } from "../../wasm/core.ts";

/** Xen's default limit of a guest's grant table (gnttab_max_frames). */
const MAX_FRAMES = 64;

/**
 * The hypervisor's side of one guest's grant table (grant_table.h, version 1): which pages of its own memory the guest
 * lets other domains map. The table stands in guest RAM; what is mapped now is kept beside it, out of the guest's reach.
 */
export class GrantTable {
  /** GrantContext, for the core. Changes when the table is taken away under mappings. */
  context: number;
  readonly #core: Core;
  readonly #memory: GuestMemory;
  #capacity = 0;

  constructor(memory: GuestMemory) {
    this.#memory = memory;
    this.#core = coreFor(memory.wasm);
    this.context = memory.reserve(GrantContext.Size);
  }

  get entries(): number {
    return this.#core.get(this.context + GrantContext.Entries);
  }

  /**
   * GNTTABOP_setup_table, in the form of a guest that places the table in its own RAM: guest-physical `address`, 4 KiB
   * pages. @throws ParavaneError INVALID, BUSY
   */
  setup(address: number, pages: number): void {
    const { base, size } = this.#memory;
    const inside = address >= 0 && address + pages * XenPage.Size <= size;
    if (!inside || address % XenPage.Size !== 0 || pages < 1 || pages > MAX_FRAMES) {
      throw new ParavaneError("INVALID", `a grant table is 1–${MAX_FRAMES} whole pages inside guest RAM`, {
        offset: address,
        pages,
      });
    }
    if (this.mapped > 0) throw new ParavaneError("BUSY", "the grant table cannot move while grants are mapped");
    const entries = (pages * XenPage.Size) / GrantEntry.Size;
    const { context } = this;
    if (entries > this.#capacity) {
      this.#core.set(context + GrantContext.Active, this.#memory.reserve(entries * ActiveGrant.Size));
      this.#capacity = entries;
    }
    this.#core.set(context + GrantContext.Shared, base + address);
    this.#core.set(context + GrantContext.RamBase, base);
    this.#core.set(context + GrantContext.RamSize, size);
    this.#core.set(context + GrantContext.Entries, entries);
  }

  /** The guest starts over: no grant is valid, and unmapping an old one touches nothing. */
  reset(): void {
    const pinned = this.mapped > 0;
    this.#core.set(this.context + GrantContext.Entries, 0);
    if (!pinned) return;
    // What is in flight still counts on the old context; the next table gets one of its own.
    this.context = this.#memory.reserve(GrantContext.Size);
    this.#capacity = 0;
  }

  /** Linear address of the page granted to `domain`. @throws ParavaneError DENIED */
  map(domain: number, ref: number, write: boolean): number {
    const page = this.#core.call.grantMap(this.context, domain, ref, write) >>> 0;
    if (page === 0)
      throw new ParavaneError("DENIED", `grant reference ${ref} gives domain ${domain} no access`, { ref });
    return page;
  }

  unmap(ref: number): void {
    this.#core.call.grantUnmap(this.context, ref);
  }

  /** Mappings of `ref` now. */
  pins(ref: number): number {
    return ref < this.entries ? this.#core.get(this.#active(ref) + ActiveGrant.Pins) : 0;
  }

  /** Mappings now, of all grants. */
  get mapped(): number {
    let sum = 0;
    for (let ref = 0; ref < this.entries; ref++) sum += this.pins(ref);
    return sum;
  }

  #active(ref: number): number {
    return this.#core.get(this.context + GrantContext.Active) + ref * ActiveGrant.Size;
  }
}
