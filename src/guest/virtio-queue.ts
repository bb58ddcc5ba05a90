import { AvailableRing, Descriptor, UsedRing } from "../../assembly/spec/virtio.ts";
import { DriverSlot, VqCompletion, VqDriver, VqFeature } from "../../assembly/spec/virtqueue.ts";
import type { BlockRequest, Status } from "../core/block.ts";
import type { GuestRam } from "../hypervisor/memory.ts";
import { type Core, coreFor } from "../wasm/core.ts";
import { RequestTable } from "../wasm/requests.ts";
import type { QueueAddresses } from "./virtio-bus.ts";

const PAGE = 4096;

/** One virtqueue of block requests in guest RAM, worked by the core's driver half. Knows no registers. */
export class BlkQueue {
  readonly size: number;
  readonly addresses: QueueAddresses;
  readonly #ram: GuestRam;
  readonly #core: Core;
  readonly #ctx: number;
  readonly #table: RequestTable;
  readonly #indirect: boolean;
  readonly #ringPages: number;
  readonly #slotPages: number;
  readonly #tablePages: number;
  readonly #slots: number;
  readonly #tables: number;
  /** In flight, by tag; `#tags` are the free ones. */
  readonly #requests: (BlockRequest | undefined)[];
  readonly #tags: number[];
  inFlight = 0;

  /**
   * `features` are VqFeature bits; `segments` the most of one request.
   * @throws ParavaneError NO_SPACE
   */
  constructor(ram: GuestRam, size: number, features: number, segments: number) {
    this.size = size;
    this.#ram = ram;
    this.#core = coreFor(ram.memory.wasm);
    this.#indirect = (features & VqFeature.Indirect) !== 0;
    // Available and used rings follow the descriptors, each on an alignment of its own (§2.7).
    const available = size * Descriptor.Size;
    const used = (available + size * AvailableRing.EntrySize + AvailableRing.Overhead + 3) & ~3;
    this.#ringPages = Math.ceil((used + size * UsedRing.EntrySize + UsedRing.Overhead) / PAGE);
    const ring = ram.allocate(this.#ringPages);
    this.addresses = { descriptors: ring, available: ring + available, used: ring + used };
    this.#slotPages = Math.ceil((size * DriverSlot.Size) / PAGE);
    this.#slots = ram.allocate(this.#slotPages);
    const entries = segments + 2;
    this.#tablePages = this.#indirect ? Math.ceil((size * entries * Descriptor.Size) / PAGE) : 0;
    this.#tables = this.#indirect ? ram.allocate(this.#tablePages) : 0;

    const core = this.#core;
    const ctx = (this.#ctx = ram.memory.reserve(VqDriver.Size));
    const table = ram.memory.reserve(RequestTable.bytes(size, size * segments));
    this.#table = new RequestTable(core, table, size, size * segments);
    core.set(ctx + VqDriver.RamBase, ram.memory.base);
    core.set(ctx + VqDriver.QueueSize, size);
    core.set(ctx + VqDriver.Descriptors, ram.linear(ring, 0));
    core.set(ctx + VqDriver.Available, ram.linear(ring + available, 0));
    core.set(ctx + VqDriver.Used, ram.linear(ring + used, 0));
    core.set(ctx + VqDriver.Features, features);
    core.set(ctx + VqDriver.Table, table);
    core.set(ctx + VqDriver.FreeCount, size);
    core.set(ctx + VqDriver.Slots, this.#slots);
    core.set(ctx + VqDriver.IndirectTables, this.#tables);
    core.set(ctx + VqDriver.IndirectEntries, entries);
    for (let i = 0; i < size; i++) core.set(ctx + VqDriver.NextFree + i * 4, i + 1);
    this.#requests = new Array(size).fill(undefined);
    this.#tags = Array.from({ length: size }, (_, i) => size - 1 - i);
  }

  /** How many of `requests`, from `first` on, the free descriptors are enough for. */
  #fitting(requests: readonly BlockRequest[], first: number): number {
    let free = this.#core.get(this.#ctx + VqDriver.FreeCount);
    let count = 0;
    for (; first + count < requests.length && this.inFlight + count < this.size; count++) {
      free -= this.#indirect ? 1 : Math.max(1, requests[first + count].segments.count) + 2;
      if (free < 0) break;
    }
    return count;
  }

  /** Makes requests available, as many as there are descriptors for; how many, and whether the device wants to know. */
  submit(requests: readonly BlockRequest[]): { taken: number; notify: boolean } {
    const taken = this.#fitting(requests, 0);
    if (taken === 0) return { taken, notify: false };
    this.#table.count = 0;
    for (let i = 0; i < taken; i++) {
      const tag = this.#tags.pop()!;
      this.#requests[tag] = requests[i];
      this.#table.push(requests[i], tag);
    }
    this.inFlight += taken;
    return { taken, notify: this.#core.call.virtioBlkSubmit(this.#ctx, taken) !== 0 };
  }

  /**
   * Takes what the device has finished into `done`, statuses set; how many, or VqPoll.Broken when the used ring makes no
   * sense.
   */
  poll(done: BlockRequest[]): number {
    if (this.inFlight === 0) return 0;
    const count = this.#core.call.virtioBlkPoll(this.#ctx);
    const { u32 } = this.#core;
    let at = (this.#ctx + VqDriver.Completions) >>> 2;
    for (let i = 0; i < count; i++, at += VqCompletion.Size / 4) {
      const request = this.#retire(u32[at + VqCompletion.Head / 4]);
      request.status = u32[at + VqCompletion.Status / 4] as Status;
      done.push(request);
    }
    return count;
  }

  /** Everything in flight, given up. */
  abandon(): BlockRequest[] {
    return this.#requests.flatMap((request, tag) => (request ? [this.#retire(tag)] : []));
  }

  #retire(tag: number): BlockRequest {
    const request = this.#requests[tag]!;
    this.#requests[tag] = undefined;
    this.#tags.push(tag);
    this.inFlight--;
    return request;
  }

  /** Gives the guest's pages back; only when the device has let go of them. */
  free(): void {
    this.#ram.free(this.addresses.descriptors, this.#ringPages);
    this.#ram.free(this.#slots, this.#slotPages);
    if (this.#indirect) this.#ram.free(this.#tables, this.#tablePages);
  }
}
