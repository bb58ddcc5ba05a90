import { Blkif32, Blkif64, BlkifLimit, Sring, XenPage } from "../../assembly/spec/xen.ts";
import { BlkfrontContext, RingContext } from "../../assembly/spec/xen-context.ts";
import { ParavaneError } from "../core/error.ts";
import type { XenGuest } from "../hypervisor/xen/guest.ts";
import { type Core, coreFor } from "../wasm/core.ts";
import { RequestTable } from "../wasm/requests.ts";

/** How the ring's 64-bit fields are aligned (io/protocols.h). */
export type BlkifProtocol = "x86_64-abi" | "x86_32-abi";

export interface FrontRingOptions {
  /** 2^order ring pages, 32 entries each. */
  order: number;
  /** Pages per request that the back end takes by indirect requests; 0 if it takes none. */
  maxPages: number;
  protocol: BlkifProtocol;
}

/**
 * What a front end owns: the ring pages, granted to the back end, and its private state beside them, all in guest RAM.
 *
 *     private │ BlkfrontContext │ shadow words │ completion words │ request table │
 */
export class FrontRing {
  readonly entries: number;
  /** Limits of one request that every alignment of its segments keeps, in bytes and runs. */
  readonly maxBytes: number;
  readonly maxSegments: number;
  /** Grant references of the ring pages. */
  readonly refs: readonly number[];
  /** Linear addresses. */
  readonly context: number;
  readonly completions: number;
  readonly table: RequestTable;
  readonly #guest: XenGuest;
  readonly #core: Core;
  readonly #pages: { address: number; count: number }[] = [];
  readonly #runs: { first: number; count: number }[] = [];

  /** @throws ParavaneError NO_SPACE */
  constructor(guest: XenGuest, host: number, { order, maxPages, protocol }: FrontRingOptions) {
    this.#guest = guest;
    this.#core = coreFor(guest.cpu.ram.memory.wasm);
    this.entries = 32 << order;
    const { entries } = this;
    // Every id owns its references, so that a request never has to wait for one.
    const affordable = Math.floor((guest.grants.available - (1 << order)) / entries) - 1;
    const pages = Math.min(Math.max(maxPages, BlkifLimit.Segments), affordable, BlkifLimit.SegmentsPerPage);
    if (pages < BlkifLimit.Segments) throw new ParavaneError("NO_SPACE", "too few grant references left for a ring");
    // A run of whole sectors may touch up to 1.75 pages more than it fills: a quarter of the pages for the bytes, the
    // rest for the ends of runs.
    const whole = Math.max(pages >>> 2, 4);
    this.maxBytes = whole * XenPage.Size;
    this.maxSegments = Math.floor((pages - whole) / 1.75);

    const ringPages = Array.from({ length: 1 << order }, () => this.#allocate(1));
    this.refs = this.#grantPages(host, ringPages, false);
    const indirectPages = this.#allocate(entries);
    const indirect = Array.from({ length: entries }, (_, id) => indirectPages + id * XenPage.Size);
    const indirectRefs = this.#grantPages(host, indirect, true);
    const segments = entries * this.maxSegments;
    const bytes = BlkfrontContext.Size + entries * 8 + RequestTable.bytes(entries, segments);
    this.context = this.#linear(this.#allocate(Math.ceil(bytes / XenPage.Size)));
    const shadow = this.context + BlkfrontContext.Size;
    this.completions = shadow + entries * 4;
    this.table = new RequestTable(this.#core, this.completions + entries * 4, entries, segments);

    const wide = protocol === "x86_64-abi";
    const { ram } = guest.cpu;
    const fields: [number, number][] = [
      [RingContext.Stride, wide ? Blkif64.Request : Blkif32.Request],
      [RingContext.Entries, entries],
      [BlkfrontContext.Body, wide ? Blkif64.Body : Blkif32.Body],
      [BlkfrontContext.GrantTable, ram.linear(guest.grants.address, 1)],
      [BlkfrontContext.FirstRef, this.#references(entries * pages)],
      [BlkfrontContext.MaxSegments, pages],
      [BlkfrontContext.Domain, host],
      [BlkfrontContext.RamBase, ram.memory.base],
      [BlkfrontContext.IndirectPages, indirect[0]],
      [BlkfrontContext.IndirectRef, indirectRefs[0]],
      [BlkfrontContext.Shadow, shadow],
      [BlkfrontContext.Completions, this.completions],
      ...ringPages.map((page, i): [number, number] => [RingContext.Pages + i * 4, this.#linear(page)]),
    ];
    for (const [field, value] of fields) this.set(field, value);
    // SHARED_RING_INIT (io/ring.h); the pages are zero already.
    ram.write32(ringPages[0] + Sring.ReqEvent, 1);
    ram.write32(ringPages[0] + Sring.RspEvent, 1);
  }

  /** Sets a u32 of the context. */
  set(field: number, value: number): void {
    this.#core.set(this.context + field, value);
  }

  /** Ends every grant and gives the memory back; what the other end still has mapped stays lost. */
  free(): void {
    const { grants, cpu } = this.#guest;
    let idle = true;
    for (const { first, count } of this.#runs) if (!grants.free(first, count)) idle = false;
    if (idle) for (const { address, count } of this.#pages) cpu.ram.free(address, count);
  }

  #allocate(count: number): number {
    const address = this.#guest.cpu.ram.allocate(count);
    this.#pages.push({ address, count });
    return address;
  }

  #references(count: number): number {
    const first = this.#guest.grants.allocate(count);
    this.#runs.push({ first, count });
    return first;
  }

  #grantPages(host: number, pages: readonly number[], readOnly: boolean): number[] {
    const first = this.#references(pages.length);
    return pages.map((page, i) => {
      this.#guest.grants.grant(first + i, host, page, readOnly);
      return first + i;
    });
  }

  #linear(address: number): number {
    return this.#guest.cpu.ram.linear(address, XenPage.Size);
  }
}
