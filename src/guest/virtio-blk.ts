import { BlkConfig, BlkLimit, DeviceStatus, DeviceType, Feature, InterruptCause } from "../../assembly/spec/virtio.ts";
import { VqFeature, VqLimit } from "../../assembly/spec/virtqueue.ts";
import { type BlockRequest, Op, Status } from "../core/block.ts";
import { ParavaneError } from "../core/error.ts";
import type { Release } from "../core/machine.ts";
import type { GuestCpu } from "../hypervisor/machine.ts";
import type { BlockDriver } from "./driver.ts";
import type { VirtioBus } from "./virtio-bus.ts";
import { VirtioMmioBus } from "./virtio-mmio.ts";
import { VirtioPciBus } from "./virtio-pci.ts";
import { BlkQueue } from "./virtio-queue.ts";

/** Where to look for the device. */
export type VirtioPlace =
  /** Guest-physical address of a virtio-mmio window, and its interrupt line. */
  | { base: number; interrupt: number }
  /** On the PCI bus: in that slot, or wherever it is. */
  | { pci: { slot?: number } };

export type VirtioBlkProbe = VirtioPlace & VirtioBlkTuning;

export interface VirtioBlkTuning {
  /** Features to use when offered; both by default. */
  indirect?: boolean;
  eventIndex?: boolean;
  /** Largest queue to ask for, a power of two; default 128. */
  queueSize?: number;
  /**
   * Look at the used ring right after ringing the doorbell, with interrupts off, and ask for one only when something is
   * still in flight (as Linux's poll queues and NAPI do). Default true; false takes an interrupt for every batch.
   */
  pollFirst?: boolean;
}

/** Bytes of one request: no limit of the device's, but what block layers use. */
const MAX_BYTES = 1 << 20;
const MAX_SEGMENTS = 62;
/** Milliseconds between looks at a device that takes time to reset. */
const RESET_POLL = 1;

/**
 * Finds a virtio block device and starts it.
 * @throws ParavaneError NOT_FOUND, BUSY, UNSUPPORTED, NO_SPACE
 */
export function probeVirtioBlk(cpu: GuestCpu, options: VirtioBlkProbe): VirtioBlkDriver {
  const bus =
    "pci" in options
      ? new VirtioPciBus(cpu, DeviceType.Block, options.pci.slot)
      : new VirtioMmioBus(cpu, options.base, options.interrupt, DeviceType.Block);
  return new VirtioBlkDriver(cpu, bus, options);
}

/**
 * Driver for virtio-blk (VIRTIO 1.2 §5.2) over virtio-mmio (§4.2) or virtio-pci (§4.1).
 *
 * Exits of one batch: a notification. If the device finishes later, also what tells the cause of the interrupt: over
 * virtio-mmio a load of InterruptStatus and a store to InterruptACK, over virtio-pci one read of the ISR status. A device that
 * finishes within the notification costs neither, for the driver polls first.
 */
export class VirtioBlkDriver implements BlockDriver {
  readonly name = "virtio-blk";
  readonly sectorSize: number;
  readonly depth: number;
  readonly maxBytes = MAX_BYTES;
  readonly maxSegments: number;
  readonly readOnly: boolean;
  onComplete: (request: BlockRequest) => void = () => {};
  #size = 0;
  readonly #cpu: GuestCpu;
  readonly #bus: VirtioBus;
  readonly #features: number;
  readonly #queue: BlkQueue;
  readonly #pollFirst: boolean;
  readonly #release: Release;
  /** Completions are being handed out: a nested start leaves doorbell and polling to whoever does that. */
  #draining = false;
  #kick = false;
  #look = false;
  #closed = false;
  #failed = false;
  readonly #done: BlockRequest[] = [];

  constructor(cpu: GuestCpu, bus: VirtioBus, options: VirtioBlkTuning) {
    this.#cpu = cpu;
    this.#bus = bus;
    this.#features = bus.negotiate([
      Feature.BlkSegMax,
      Feature.BlkReadOnly,
      Feature.BlkBlockSize,
      Feature.BlkFlush,
      Feature.BlkDiscard,
      Feature.BlkWriteZeroes,
      ...((options.indirect ?? true) ? [Feature.IndirectDescriptors] : []),
      ...((options.eventIndex ?? true) ? [Feature.EventIndex] : []),
    ]);
    const config = bus.config((field) => ({
      segments: this.#has(Feature.BlkSegMax) ? field(BlkConfig.SegMax, 4) : 1,
      sector: this.#has(Feature.BlkBlockSize) ? field(BlkConfig.BlockSize, 4) : BlkLimit.Sector,
    }));
    this.sectorSize = config.sector;
    this.readOnly = this.#has(Feature.BlkReadOnly);
    this.#readCapacity();
    const indirect = this.#has(Feature.IndirectDescriptors);
    this.depth = Math.min(bus.queueSizeMax(0), options.queueSize ?? 128, VqLimit.Queue);
    // Without indirect tables a request takes a descriptor for each segment, its header and its status.
    this.maxSegments = Math.min(config.segments, MAX_SEGMENTS, indirect ? MAX_SEGMENTS : this.depth - 2);
    if (this.maxSegments < 1) {
      throw new ParavaneError("UNSUPPORTED", `the virtio device's queue of ${this.depth} is too short`);
    }
    this.#pollFirst = options.pollFirst ?? true;
    const features =
      (indirect ? VqFeature.Indirect : 0) |
      (this.#has(Feature.EventIndex) ? VqFeature.EventIndex : 0) |
      (this.#pollFirst ? VqFeature.PollFirst : 0);
    this.#queue = new BlkQueue(cpu.ram, this.depth, features, this.maxSegments);
    bus.setUpQueue(0, this.depth, this.#queue.addresses);
    this.#release = cpu.onInterrupt(bus.interrupt, () => this.#interrupt());
    bus.driverOk();
  }

  get size(): number {
    return this.#size;
  }

  start(requests: readonly BlockRequest[]): number {
    if (this.#closed && !this.#failed) throw new ParavaneError("CLOSED", "the virtio-blk driver is closed");
    let started = 0;
    while (started < requests.length) {
      if (this.#endsHere(requests[started])) {
        this.#done.push(requests[started++]);
        continue;
      }
      let end = started + 1;
      while (end < requests.length && !this.#endsHere(requests[end])) end++;
      const { taken, notify } = this.#queue.submit(
        started === 0 && end === requests.length ? requests : requests.slice(started, end),
      );
      this.#kick ||= notify;
      started += taken;
      if (started < end) break;
    }
    this.#look ||= this.#pollFirst;
    this.#drain();
    return started;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#bus.status = 0;
    this.#release();
    this.#awaitReset();
  }

  /** Rings the doorbell, if it must be rung; then hands out completions, as long as that leads to more. */
  #drain(): void {
    if (this.#draining) return;
    this.#draining = true;
    try {
      while (this.#kick || this.#look || this.#done.length > 0) {
        if (this.#kick && !this.#closed) this.#bus.notify(0);
        this.#kick = false;
        if (this.#closed || (this.#look && this.#poll() === 0)) this.#look = false;
        for (const request of this.#done.splice(0)) this.onComplete(request);
      }
    } finally {
      this.#draining = false;
    }
  }

  #poll(): number {
    const count = this.#queue.poll(this.#done);
    if (count >= 0) return count;
    this.#fail();
    return 0;
  }

  /** The device has lost its way, or we have: what is in flight and what comes from now on ends as I/O errors. */
  #fail(): void {
    this.#failed = true;
    this.close();
  }

  /** The cause is read and acknowledged before the rings are looked at; what it announces is handled. */
  #interrupt(): void {
    const causes = this.#bus.causes();
    if ((causes & InterruptCause.ConfigurationChange) !== 0) {
      if ((this.#bus.status & DeviceStatus.NeedsReset) !== 0) this.#fail();
      else this.#readCapacity();
    }
    this.#look = true;
    this.#drain();
  }

  #readCapacity(): void {
    const [low, high] = this.#bus.config((field) => [field(BlkConfig.Capacity, 4), field(BlkConfig.Capacity + 4, 4)]);
    this.#size = (high * 2 ** 32 + low) * BlkLimit.Sector;
  }

  /**
   * Does the request end before it reaches the device? A flush where there is no cache is done; an operation the device
   * does not have is unsupported; nothing reaches a device that has failed.
   */
  #endsHere(request: BlockRequest): boolean {
    const { op } = request;
    if (this.#failed) request.status = Status.Io;
    else if (op === Op.Flush && !this.#has(Feature.BlkFlush)) request.status = Status.Ok;
    else if (op === Op.Discard || op === Op.WriteZeroes) {
      const feature = op === Op.Discard ? Feature.BlkDiscard : Feature.BlkWriteZeroes;
      if (this.#has(feature) && request.length / BlkLimit.Sector <= 0xffffffff) return false;
      request.status = Status.Unsupported;
    } else return false;
    return true;
  }

  /** §2.4.2: the reset is complete, and memory the guest's again, when the status reads 0. */
  #awaitReset(): void {
    if (this.#bus.status !== 0) {
      this.#cpu.clock.after(RESET_POLL, () => this.#awaitReset());
      return;
    }
    this.#queue.free();
    for (const request of this.#queue.abandon()) {
      request.status = Status.Io;
      this.#done.push(request);
    }
    this.#drain();
  }

  #has(feature: number): boolean {
    return (this.#features & (1 << feature)) !== 0;
  }
}
