import { Blkif32, Blkif64, BlkifLimit } from "../../../assembly/spec/xen.ts";
import { BlkbackContext, RingContext, RingResult } from "../../../assembly/spec/xen-context.ts";
import { type Block, type BlockRequest, Op, Status } from "../../core/block.ts";
import { asParavaneError, ParavaneError } from "../../core/error.ts";
import type { Later } from "../../core/flow.ts";
import type { GuestMemory } from "../../core/machine.ts";
import { HOST_DOMAIN } from "../../hypervisor/hypervisor.ts";
import type { GrantTable } from "../../hypervisor/xen/grant-table.ts";
import { type Core, coreFor } from "../../wasm/core.ts";
import { RequestTable } from "../../wasm/requests.ts";

/** Batches in flight at once, when the block is asynchronous. */
const BATCHES = 4;

/** Segments that a batch has room for beyond one request of the largest kind. */
const BATCH_SEGMENTS = 1024;

export interface RingOptions {
  /** Grant references of the ring pages, in order. */
  refs: readonly number[];
  abi: "x86_64-abi" | "x86_32-abi";
  /** BlkbackFeature bits. */
  features: number;
  maxIndirectSegments: number;
}

/** One batch: its request table and the requests now at the block. */
interface Batch {
  table: RequestTable;
  requests: BlockRequest[];
}

/** Ring context and tables; kept for the next connection, for device state cannot be given back. */
interface Workspace {
  context: number;
  batches: Batch[];
}

const spare = new WeakMap<GuestMemory, Map<string, Workspace[]>>();

/** A connected ring: an event becomes one consume call, one batch to the block, one complete call, one notification. */
export class BlkbackRing {
  readonly #memory: GuestMemory;
  readonly #grants: GrantTable;
  readonly #block: Block;
  readonly #options: RingOptions;
  readonly #core: Core;
  readonly #workspace: Workspace;
  readonly #context: number;
  readonly #idle: Batch[];
  /** Batches that the block has not finished. */
  #inFlight = 0;
  /** A barrier: taken off the ring, waits for what is in flight; or in flight itself. Nothing overtakes it. */
  #waiting: Batch | null = null;
  #exclusive = false;
  #pumping = false;
  #notify = false;
  /** Nothing more is taken off the ring. */
  #stopped = false;
  #closing: Promise<void> | null = null;
  #released = false;
  #drained: (() => void) | null = null;

  /** Tells the guest that there are responses. */
  onNotify: () => void = () => {};
  /** The guest broke the ring; nothing more is taken from it. */
  onFatal: (error: ParavaneError) => void = () => {};

  /** @throws ParavaneError DENIED when a ring page is not granted, NO_SPACE */
  constructor(memory: GuestMemory, grants: GrantTable, block: Block, options: RingOptions) {
    this.#memory = memory;
    this.#grants = grants;
    this.#block = block;
    this.#options = options;
    this.#core = coreFor(memory.wasm);
    const wide = options.abi === "x86_64-abi";
    const entries = 32 * options.refs.length;
    this.#workspace = this.#claim(entries);
    this.#context = this.#workspace.context;
    this.#idle = [...this.#workspace.batches];
    const fields: [number, number][] = [
      [RingContext.Stride, wide ? Blkif64.Request : Blkif32.Request],
      [RingContext.Entries, entries],
      [RingContext.Produced, 0],
      [RingContext.Consumed, 0],
      [BlkbackContext.Body, wide ? Blkif64.Body : Blkif32.Body],
      [BlkbackContext.Grants, grants.context],
      [BlkbackContext.Domain, HOST_DOMAIN],
      [BlkbackContext.SectorShift, Math.log2(block.sectorSize)],
      [BlkbackContext.Sectors, (block.size / block.sectorSize) >>> 0],
      [BlkbackContext.Sectors + 4, Math.floor(block.size / block.sectorSize / 2 ** 32)],
      [BlkbackContext.Features, options.features],
      [BlkbackContext.MaxIndirect, options.maxIndirectSegments],
      [BlkbackContext.Broken, 0],
    ];
    for (const [field, value] of fields) this.#core.set(this.#context + field, value);
    this.#mapPages();
  }

  /** The guest's event. Never throws on what the guest wrote. */
  pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    while (!this.#stopped && !this.#waiting && !this.#exclusive && this.#consume());
    this.#pumping = false;
    if (this.#notify) {
      this.#notify = false;
      this.onNotify();
    }
  }

  /** Takes nothing more; done when what is in flight is answered and the ring is unmapped. Idempotent. */
  close(): Later<void> {
    this.#stopped = true;
    if (this.#inFlight === 0) return this.#release();
    this.#closing ??= new Promise((resolve) => {
      this.#drained = resolve;
    });
    return this.#closing;
  }

  /** The guest started over: what is in flight is finished, but nothing of it is written to the ring. */
  abandon(): Later<void> {
    this.#core.set(this.#context + BlkbackContext.Broken, 1);
    return this.close();
  }

  /** One batch off the ring; true when there may be another. */
  #consume(): boolean {
    const batch = this.#idle.pop();
    if (!batch) return false;
    const result = this.#core.call.xenBackConsume(this.#context, batch.table.address);
    if (result & RingResult.Fatal) {
      this.#idle.push(batch);
      this.#stopped = true;
      this.onFatal(new ParavaneError("PROTOCOL", "the guest's request index promises more than the ring can hold"));
      return false;
    }
    if (batch.table.count === 0) {
      this.#idle.push(batch);
      return false;
    }
    if (!(result & RingResult.Barrier)) return this.#submit(batch);
    if (this.#inFlight > 0) {
      this.#waiting = batch;
      return false;
    }
    return this.#submitBarrier(batch);
  }

  #submitBarrier(batch: Batch): boolean {
    const more = this.#submit(batch);
    this.#exclusive = this.#inFlight > 0;
    return more;
  }

  #submit(batch: Batch): boolean {
    const { table, requests } = batch;
    requests.length = 0;
    for (let i = 0; i < table.count; i++) {
      const request = table.request(i);
      if (request.status !== Status.Pending) continue;
      if (request.op === Op.Read) {
        const { segments } = request;
        for (let s = 0; s < segments.count; s++) this.#memory.touch(segments.start(s), segments.length(s));
      }
      requests.push(request);
    }
    const pending = this.#start(requests);
    if (!pending) return this.#complete(batch);
    this.#inFlight++;
    pending.then(() => this.#later(batch));
    // Ask for the next event now: later requests need not wait for these.
    return (this.#core.call.xenBackComplete(this.#context, table.address, 0) & RingResult.More) !== 0;
  }

  /** Hands the batch to the block; what it throws, now or later, becomes the status of what it left undone. */
  #start(requests: readonly BlockRequest[]): Later<void> {
    if (requests.length === 0) return;
    const fail = (thrown: unknown) => {
      const error = asParavaneError(thrown);
      for (const request of requests) {
        if (request.status !== Status.Pending) continue;
        request.status = Status.Io;
        request.error = error;
      }
    };
    try {
      return this.#block.submit(requests)?.catch(fail);
    } catch (thrown) {
      fail(thrown);
    }
  }

  /** Answers a finished batch; true when more requests have come. */
  #complete(batch: Batch): boolean {
    const { table, requests } = batch;
    for (const request of requests) table.setStatus(request.tag, request.status);
    const result = this.#core.call.xenBackComplete(this.#context, table.address, table.count);
    if (result & RingResult.Notify) this.#notify = true;
    this.#idle.push(batch);
    return (result & RingResult.More) !== 0;
  }

  #later(batch: Batch): void {
    this.#inFlight--;
    this.#complete(batch);
    if (this.#inFlight === 0) this.#exclusive = false;
    const waiting = this.#waiting;
    if (waiting && this.#inFlight === 0) {
      this.#waiting = null;
      this.#submitBarrier(waiting);
    }
    this.pump();
    if (this.#drained && this.#inFlight === 0) {
      this.#release();
      this.#drained();
    }
  }

  #claim(entries: number): Workspace {
    const largest = Math.max(BlkifLimit.Segments, this.#options.maxIndirectSegments + BlkifLimit.IndirectPages);
    const key = `${entries} ${largest}`;
    const found = spare.get(this.#memory)?.get(key)?.pop();
    if (found) return found;
    const requests = entries + 2; // the core asks for room for three records before it takes an entry
    const segments = BATCH_SEGMENTS + largest;
    const batches = Array.from({ length: BATCHES }, () => {
      // After the table: the grant reference behind each segment.
      const address = this.#memory.reserve(RequestTable.bytes(requests, segments) + segments * 4);
      return { table: new RequestTable(this.#core, address, requests, segments), requests: [] };
    });
    return { context: this.#memory.reserve(BlkbackContext.Size), batches };
  }

  #mapPages(): void {
    const { refs } = this.#options;
    for (let i = 0; i < refs.length; i++) {
      try {
        this.#core.set(this.#context + RingContext.Pages + i * 4, this.#grants.map(HOST_DOMAIN, refs[i], true));
      } catch (thrown) {
        for (const ref of refs.slice(0, i)) this.#grants.unmap(ref);
        this.#keepWorkspace();
        throw thrown;
      }
    }
  }

  #release(): void {
    if (this.#released) return;
    this.#released = true;
    for (const ref of this.#options.refs) {
      this.#core.call.grantUnmap(this.#core.get(this.#context + BlkbackContext.Grants), ref);
    }
    this.#keepWorkspace();
  }

  #keepWorkspace(): void {
    const { batches } = this.#workspace;
    const largest = Math.max(BlkifLimit.Segments, this.#options.maxIndirectSegments + BlkifLimit.IndirectPages);
    const key = `${this.#options.refs.length * 32} ${largest}`;
    let pools = spare.get(this.#memory);
    if (!pools) spare.set(this.#memory, (pools = new Map()));
    const pool = pools.get(key);
    if (pool) pool.push(this.#workspace);
    else pools.set(key, [this.#workspace]);
    for (const batch of batches) batch.requests.length = 0;
  }
}
