import { RequestField } from "../../assembly/spec/request.ts";
import { BlkifOp, Vdisk, XenbusState } from "../../assembly/spec/xen.ts";
import { BlkfrontContext, RingResult } from "../../assembly/spec/xen-context.ts";
import { type BlockRequest, Op, Status } from "../core/block.ts";
import { ParavaneError } from "../core/error.ts";
import type { Release } from "../core/machine.ts";
import type { GuestXenstore, XenGuest } from "../hypervisor/xen/guest.ts";
import { XenbusEnd } from "../hypervisor/xen/xenbus.ts";
import { type Core, coreFor } from "../wasm/core.ts";
import { type BlkifProtocol, FrontRing } from "./blkfront-ring.ts";
import type { BlockDriver } from "./driver.ts";

export interface BlkfrontOptions {
  /** Virtual device number; default 51712, xvda. */
  device?: number;
  /** Ring of 2^order pages, 32 requests each; default 0, at most what the back end offers. */
  ringPageOrder?: number;
  /** Pages per request, by indirect requests; default 128, at most what the back end offers. */
  maxPages?: number;
  /** Default "x86_64-abi". */
  protocol?: BlkifProtocol;
}

/**
 * Connects to one of the guest's Xen virtual disks. Not to be called from an interrupt handler: the handshake needs them.
 * @throws ParavaneError NOT_FOUND when there is no such device, PROTOCOL when the back end does not connect, NO_SPACE
 */
export function connectBlkfront(guest: XenGuest, options: BlkfrontOptions = {}): Blkfront {
  const path = `/local/domain/${guest.domain}/device/vbd/${options.device ?? 202 << 8}`;
  const backPath = guest.store.get(`${path}/backend`);
  if (!backPath) throw new ParavaneError("NOT_FOUND", `the guest has no Xen virtual disk at ${path}`);
  const bus = new XenbusEnd(guest.store, path, backPath);
  bus.switchTo(XenbusState.Initialising); // a back end that has closed starts over
  if (bus.otherState !== XenbusState.InitWait) {
    throw new ParavaneError("PROTOCOL", `the back end of ${path} is not waiting for a front end`, {
      state: bus.otherState,
    });
  }
  return new Blkfront(guest, bus, options);
}

/** The guest's driver for a Xen virtual disk, as Linux's xen-blkfront. */
export class Blkfront implements BlockDriver {
  readonly name = "xen";
  readonly size: number;
  readonly sectorSize: number;
  readonly readOnly: boolean;
  readonly depth: number;
  readonly maxBytes: number;
  readonly maxSegments: number;
  onComplete: (request: BlockRequest) => void = () => {};

  readonly #guest: XenGuest;
  readonly #core: Core;
  readonly #bus: XenbusEnd<GuestXenstore>;
  readonly #ring: FrontRing;
  readonly #port: number;
  readonly #flush: boolean;
  readonly #discard: boolean;
  readonly #unwatch: Release;
  /** By request id; and the ids not in use. */
  readonly #requests: (BlockRequest | null)[];
  readonly #free: number[];
  /** Takes no more requests. */
  #dead = false;
  #finished = false;

  constructor(guest: XenGuest, bus: XenbusEnd<GuestXenstore>, options: BlkfrontOptions) {
    const protocol = options.protocol ?? "x86_64-abi";
    const order = Math.min(options.ringPageOrder ?? 0, bus.other("max-ring-page-order", 0));
    const maxPages = Math.min(options.maxPages ?? 128, bus.other("feature-max-indirect-segments", 0));
    const host = bus.store.number(`${bus.path}/backend-id`, 0);
    this.#guest = guest;
    this.#core = coreFor(guest.cpu.ram.memory.wasm);
    this.#bus = bus;
    this.#ring = new FrontRing(guest, host, { order, maxPages, protocol });
    this.depth = this.#ring.entries;
    this.maxBytes = this.#ring.maxBytes;
    this.maxSegments = this.#ring.maxSegments;
    this.#requests = new Array(this.depth).fill(null);
    this.#free = Array.from({ length: this.depth }, (_, id) => this.depth - 1 - id);
    this.#port = guest.events.allocUnbound(host, () => this.#interrupt());
    this.#publish(protocol);
    this.#unwatch = bus.watchOther((state) => this.#backChanged(state));
    if (bus.otherState !== XenbusState.Connected) throw this.#notConnected();

    this.sectorSize = bus.required("sector-size");
    this.size = bus.required("sectors") * this.sectorSize;
    this.readOnly = (bus.other("info", 0) & Vdisk.ReadOnly) !== 0;
    const flush = bus.other("feature-flush-cache", 0) === 1;
    this.#flush = flush || bus.other("feature-barrier", 0) === 1;
    this.#discard = bus.other("feature-discard", 0) === 1;
    this.#ring.set(BlkfrontContext.FlushOp, flush ? BlkifOp.FlushDiskcache : BlkifOp.WriteBarrier);
    this.#ring.set(BlkfrontContext.SectorShift, Math.log2(this.sectorSize));
    bus.switchTo(XenbusState.Connected);
  }

  start(requests: readonly BlockRequest[]): number {
    const { table } = this.#ring;
    const refused: BlockRequest[] = [];
    let taken = 0;
    table.count = 0;
    for (const request of requests) {
      if (this.#free.length === 0) break;
      taken++;
      const status = this.#judge(request);
      if (status !== Status.Pending) {
        request.status = status;
        refused.push(request);
        continue;
      }
      const id = this.#free.pop()!;
      this.#requests[id] = request;
      table.push(request, id);
    }
    const { count } = table;
    const result = count === 0 ? 0 : this.#core.call.xenFrontSubmit(this.#ring.context, table.address, count);
    if (result & RingResult.Refused) this.#collectRefused(count, refused);
    // Completions may run during the hypercall and start more: the table is not ours any longer.
    if (result & RingResult.Notify) this.#guest.events.send(this.#port);
    for (const request of refused) this.onComplete(request);
    return taken;
  }

  close(): void {
    if (this.#finished) return;
    this.#dead = true;
    // The back end answers what is in flight, lets go of the ring and says so; the watch does the rest.
    this.#bus.switchTo(XenbusState.Closing);
  }

  /** Pending if the request can go on the ring, else how it ends without. */
  #judge(request: BlockRequest): Status {
    if (this.#dead) return Status.Io;
    switch (request.op) {
      case Op.Read:
      case Op.Write:
        return request.segments.count <= this.maxSegments ? Status.Pending : Status.Unsupported;
      case Op.Flush:
        return this.#flush ? Status.Pending : Status.Ok; // no cache to flush, or none that we could (blkif.h)
      case Op.Discard:
        return this.#discard ? Status.Pending : Status.Unsupported;
      default:
        return Status.Unsupported;
    }
  }

  #collectRefused(count: number, refused: BlockRequest[]): void {
    const { table } = this.#ring;
    for (let i = 0; i < count; i++) {
      const status = table.status(i);
      if (status !== Status.Pending) refused.push(this.#take(table.field(i, RequestField.Tag), status));
    }
  }

  /** The request behind `id`, which is free from now on. */
  #take(id: number, status: Status): BlockRequest {
    const request = this.#requests[id]!;
    this.#requests[id] = null;
    this.#free.push(id);
    request.status = status;
    return request;
  }

  #interrupt(): void {
    const { context, completions } = this.#ring;
    for (;;) {
      const count = this.#core.call.xenFrontPoll(context);
      if (count === 0) return;
      if (count >>> 16) {
        this.#fail();
        return;
      }
      for (let i = 0; i < count; i++) {
        const word = this.#core.u32[(completions >>> 2) + i];
        this.onComplete(this.#take(word & 0xffff, (word >>> 16) as Status));
      }
    }
  }

  /** The back end broke the protocol: nothing it says is believed any longer. */
  #fail(): void {
    this.#abort(new ParavaneError("PROTOCOL", "the Xen back end answered what was not asked"));
    this.close();
  }

  #abort(error: ParavaneError): void {
    this.#dead = true;
    for (let id = 0; id < this.depth; id++) {
      if (!this.#requests[id]) continue;
      const request = this.#take(id, Status.Io);
      request.error = error;
      this.onComplete(request);
    }
  }

  #publish(protocol: BlkifProtocol): void {
    const { refs } = this.#ring;
    this.#bus.store.transaction(() => {
      if (refs.length === 1) this.#bus.write("ring-ref", refs[0]);
      else {
        this.#bus.write("ring-page-order", Math.log2(refs.length));
        this.#bus.write("num-ring-pages", refs.length);
        for (let page = 0; page < refs.length; page++) this.#bus.write(`ring-ref${page}`, refs[page]);
      }
      this.#bus.write("event-channel", this.#port);
      this.#bus.write("protocol", protocol);
      this.#bus.write("feature-large-sector-size", 1);
      this.#bus.switchTo(XenbusState.Initialised);
    });
  }

  #backChanged(state: XenbusState): void {
    if (state === XenbusState.Closing) this.#dead = true;
    if (state === XenbusState.Closed || state === XenbusState.Unknown) this.#finish(state);
  }

  /** The back end has let go. What it answered last is still on the ring; what it did not answer is lost. */
  #finish(state: XenbusState): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#interrupt();
    this.#abort(new ParavaneError("CLOSED", "the Xen back end closed the disk"));
    this.#unwatch();
    this.#guest.events.close(this.#port);
    this.#ring.free();
    if (state !== XenbusState.Unknown) this.#bus.switchTo(XenbusState.Closed);
  }

  #notConnected(): ParavaneError {
    const { path, otherPath } = this.#bus;
    const reason = this.#bus.store.get(`/local/domain/0/error${otherPath.replace("/local/domain/0", "")}/error`);
    this.close();
    return new ParavaneError("PROTOCOL", `the back end of ${path} did not connect${reason ? `: ${reason}` : ""}`);
  }
}
