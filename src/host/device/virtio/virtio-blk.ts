import { BlockOp, RequestField } from "../../../../assembly/spec/request.ts";
import { AvailableRing, BlkConfig, BlkLimit, DeviceType, Feature } from "../../../../assembly/spec/virtio.ts";
import {
  BlkAbility,
  VqAnswer,
  VqCompletion,
  VqDevice,
  VqFault,
  VqFeature,
  VqLimit,
  VqSlot,
} from "../../../../assembly/spec/virtqueue.ts";
import { type Block, BlockRequest, Op, Status } from "../../../core/block.ts";
import { ParavaneError } from "../../../core/error.ts";
import type { Later } from "../../../core/flow.ts";
import type { GuestMemory, Width } from "../../../core/machine.ts";
import { type Core, coreFor } from "../../../wasm/core.ts";
import { RequestTable } from "../../../wasm/requests.ts";
import { BlkConfigSpace, offeredFeatures } from "./blk-config.ts";
import { type BlkState, checkBlk } from "./save.ts";
import type { QueueLayout, VirtioDevice, VirtioSignals } from "./transport.ts";

/** The mark of a flush the device itself adds; no head is that large. */
const OWN = 0xffff;

/**
 * The virtio block device (VIRTIO 1.2 §5.2), on any transport. A notification is one `virtioBlkConsume`, one
 * `Block.submit` and one `virtioBlkComplete`; a batch that the block finishes later has a `virtioBlkComplete` of its own.
 * The request table only carries a batch across, so that any number of batches can be in flight; what is in flight is
 * kept by head, in the core's context.
 */
export class VirtioBlk implements VirtioDevice {
  readonly type = DeviceType.Block;
  readonly features: readonly [number, number];
  readonly queueSizes: readonly number[] = [VqLimit.Queue];
  readonly configSize = BlkConfig.Size;
  readonly #block: Block;
  readonly #memory: GuestMemory;
  readonly #core: Core;
  readonly #ctx: number;
  readonly #table: RequestTable;
  readonly #config: BlkConfigSpace;
  #signals!: VirtioSignals;
  readonly #identity = new Uint8Array(BlkLimit.Identity);
  #layout: QueueLayout | undefined;
  #negotiated = 0;
  /** Batches of an earlier life of the queue are told by this. */
  #life = 0;
  readonly #inFlight = new Set<Promise<void>>();
  readonly #spare: BlockRequest[] = [];

  /**
   * `identity` is what GET_ID answers, its first 20 bytes.
   * @throws ParavaneError INVALID when the block's sectors are no multiple of 512 bytes, NO_SPACE
   */
  constructor(memory: GuestMemory, block: Block, identity: string) {
    if (block.sectorSize % BlkLimit.Sector !== 0) {
      throw new ParavaneError("INVALID", `virtio-blk cannot carry sectors of ${block.sectorSize} bytes`);
    }
    this.#block = block;
    this.#memory = memory;
    this.#core = coreFor(memory.wasm);
    this.#ctx = memory.reserve(VqDevice.Size);
    const table = memory.reserve(RequestTable.bytes(VqLimit.TableRequests, VqLimit.TableSegments));
    this.#table = new RequestTable(this.#core, table, VqLimit.TableRequests, VqLimit.TableSegments);
    this.#config = new BlkConfigSpace(block);
    this.#identity.set(new TextEncoder().encode(identity).subarray(0, BlkLimit.Identity));
    this.features = offeredFeatures(block);
  }

  connect(signals: VirtioSignals): void {
    this.#signals = signals;
  }

  readConfig(offset: number, width: Width): number {
    return this.#config.read(offset, width);
  }
  writeConfig(offset: number, width: Width, value: number): void {
    const writable = this.#has(Feature.BlkConfigWce) && this.#layout !== undefined;
    if (offset === BlkConfig.Writeback && width === 1 && writable) this.#config.writeback = value === 1;
  }

  /** To be called when the block's size has changed. */
  resized(): void {
    this.#config.setCapacity(this.#block.size);
    if (this.#layout) this.#core.f64[(this.#ctx + VqDevice.Capacity) >>> 3] = this.#block.size;
    this.#signals.configChanged();
  }

  start(features: readonly [number, number], queues: readonly (QueueLayout | undefined)[]): void {
    const layout = queues[0];
    this.#negotiated = features[0];
    if (!layout) return;
    this.#layout = layout;
    const ctx = this.#ctx;
    const core = this.#core;
    core.u8.fill(0, ctx, ctx + VqDevice.Size);
    core.set(ctx + VqDevice.RamBase, this.#memory.base);
    core.set(ctx + VqDevice.RamSize, this.#memory.size);
    core.set(ctx + VqDevice.QueueSize, layout.size);
    core.set(ctx + VqDevice.Descriptors, layout.descriptors);
    core.set(ctx + VqDevice.Available, layout.available);
    core.set(ctx + VqDevice.Used, layout.used);
    core.set(ctx + VqDevice.Table, this.#table.address);
    core.set(
      ctx + VqDevice.Features,
      this.#when(Feature.IndirectDescriptors, VqFeature.Indirect) |
        this.#when(Feature.EventIndex, VqFeature.EventIndex),
    );
    core.set(
      ctx + VqDevice.Abilities,
      (this.#block.readOnly ? 0 : BlkAbility.Write) |
        this.#when(Feature.BlkFlush, BlkAbility.Flush) |
        this.#when(Feature.BlkDiscard, BlkAbility.Discard) |
        this.#when(Feature.BlkWriteZeroes, BlkAbility.WriteZeroes),
    );
    core.set(ctx + VqDevice.BlockSectors, this.#block.sectorSize / BlkLimit.Sector);
    core.f64[(ctx + VqDevice.Capacity) >>> 3] = this.#block.size;
  }

  stop(): Later<void> {
    this.#life++;
    this.#layout = undefined;
    this.#negotiated = 0;
    this.#config.writeback = true;
    if (this.#inFlight.size > 0) return Promise.all(this.#inFlight).then(() => {});
  }

  notify(): void {
    this.#pump(VqAnswer.More);
  }

  save(): BlkState {
    const { u32 } = this.#core;
    const word = (field: number) => u32[(this.#ctx + field) >>> 2];
    const heads: number[] = [];
    for (let head = 0; head < (this.#layout?.size ?? 0); head++) {
      if (word(VqDevice.Slots + head * VqSlot.Size + VqSlot.Parts) !== 0) heads.push(head);
    }
    const queue = this.#layout
      ? { available: word(VqDevice.LastAvailable), used: word(VqDevice.UsedIndex), fault: word(VqDevice.Fault), heads }
      : null;
    return { writeback: this.#config.writeback, queue };
  }

  /**
   * Requests that were under way are made available once more, in the places of the ring before those not yet consumed:
   * free ones, for a driver has no more requests outstanding than the ring has places.
   */
  restore(state: unknown): void {
    const { writeback, queue } = checkBlk(state, this.#layout?.size ?? 0);
    this.#config.writeback = writeback;
    if (!this.#layout || !queue) return;
    const { size, available } = this.#layout;
    const { heads } = queue;
    const first = (queue.available - heads.length) & 0xffff;
    const view = new DataView(this.#core.u8.buffer);
    for (const [i, head] of heads.entries()) {
      const place = available + AvailableRing.Ring + ((first + i) & (size - 1)) * AvailableRing.EntrySize;
      view.setUint16(place, head, true);
    }
    this.#core.set(this.#ctx + VqDevice.LastAvailable, first);
    this.#core.set(this.#ctx + VqDevice.UsedIndex, queue.used & 0xffff);
    this.#core.set(this.#ctx + VqDevice.Fault, queue.fault);
    if (queue.fault === VqFault.None) this.#pump(VqAnswer.More);
  }

  /** Goes on from a VqAnswer for as long as there is more, then interrupts once at most. */
  #pump(answer: number): void {
    let answers = answer;
    for (let last = answer; (last & VqAnswer.More) !== 0; answers |= last) last = this.#round();
    this.#tell((answers & VqAnswer.Interrupt) !== 0);
  }

  /** Consumes once and completes what is done at once; VqAnswer. */
  #round(): number {
    const count = this.#core.call.virtioBlkConsume(this.#ctx);
    const table = this.#table;
    const batch: BlockRequest[] = [];
    let done = 0;
    let writes = false;
    for (let index = 0; index < count; index++) {
      const status = table.field(index, RequestField.Status) as Status;
      const head = table.field(index, RequestField.Tag);
      if (status !== Status.Pending) {
        this.#finished(done++, head, status);
        continue;
      }
      if (table.field(index, RequestField.Op) === BlockOp.GetId) {
        this.#identify(table.request(index));
        this.#finished(done++, head, Status.Ok);
        continue;
      }
      const request = table.read(index, this.#spare.pop() ?? new BlockRequest());
      request.tag = head;
      batch.push(request);
      if (request.op === Op.Read) this.#touch(request);
      else writes ||= request.op !== Op.Flush;
    }
    if (writes && this.#writesThrough) batch.push(this.#ownFlush());
    if (batch.length > 0) {
      const pending = this.#submit(batch);
      if (pending) this.#later(batch, pending);
      else done = this.#harvest(batch, done);
    }
    return this.#complete(done);
  }

  #submit(batch: readonly BlockRequest[]): Later<void> {
    try {
      return this.#block.submit(batch);
    } catch {
      // A closed block: #harvest fails what it left pending.
    }
  }

  #later(batch: BlockRequest[], pending: Promise<void>): void {
    const life = this.#life;
    const ended = pending
      .catch(() => {})
      .then(() => {
        this.#inFlight.delete(ended);
        if (life !== this.#life) return;
        this.#pump(this.#complete(this.#harvest(batch, 0)));
      });
    this.#inFlight.add(ended);
  }

  /** Writes a batch's completions from entry `done` on; returns the next free entry. */
  #harvest(batch: BlockRequest[], done: number): number {
    const own = batch[batch.length - 1].tag === OWN ? batch[batch.length - 1] : null;
    for (const request of batch) {
      if (request !== own) {
        let status = request.status === Status.Pending ? Status.Io : request.status;
        if (own && status === Status.Ok) status = own.status === Status.Pending ? Status.Io : own.status;
        this.#finished(done++, request.tag, status);
      }
      this.#spare.push(request);
    }
    return done;
  }

  #finished(entry: number, head: number, status: Status): void {
    const { u32 } = this.#core;
    const at = (this.#ctx + VqDevice.Completions + entry * VqCompletion.Size) >>> 2;
    u32[at + VqCompletion.Head / 4] = head;
    u32[at + VqCompletion.Status / 4] = status;
    const slot = this.#ctx + VqDevice.Slots + head * VqSlot.Size;
    this.#memory.touch(u32[(slot + VqSlot.StatusAddress) >>> 2], 1);
  }

  #complete(count: number): number {
    const { used, size } = this.#layout!;
    if (count > 0) this.#memory.touch(used, size * 8 + 6);
    return this.#core.call.virtioBlkComplete(this.#ctx, count);
  }

  /** Last of all: the driver may be at it again, or have reset the device, before a signal returns. */
  #tell(interrupt: boolean): void {
    const life = this.#life;
    if (this.#core.get(this.#ctx + VqDevice.Fault) !== VqFault.None) this.#signals.needsReset();
    if (interrupt && life === this.#life) this.#signals.usedBuffer();
  }

  #identify(request: BlockRequest): void {
    const { segments, memory } = request;
    this.#touch(request);
    for (let i = 0, from = 0; i < segments.count; from += segments.length(i++)) {
      memory.set(this.#identity.subarray(from, from + segments.length(i)), segments.start(i));
    }
  }

  #touch(request: BlockRequest): void {
    const { segments } = request;
    for (let i = 0; i < segments.count; i++) this.#memory.touch(segments.start(i), segments.length(i));
  }

  /** §5.2.6.2: without FLUSH, or with the cache switched off, a write that is reported done is on stable storage. */
  get #writesThrough(): boolean {
    if (this.#has(Feature.BlkConfigWce)) return !this.#config.writeback;
    return !this.#has(Feature.BlkFlush);
  }

  #ownFlush(): BlockRequest {
    const flush = this.#spare.pop() ?? new BlockRequest();
    flush.op = Op.Flush;
    flush.status = Status.Pending;
    flush.error = null;
    flush.offset = flush.length = 0;
    flush.segments.clear();
    flush.tag = OWN;
    return flush;
  }

  #has(feature: number): boolean {
    return (this.#negotiated & (1 << feature)) !== 0;
  }
  #when(feature: number, bit: number): number {
    return this.#has(feature) ? bit : 0;
  }
}
