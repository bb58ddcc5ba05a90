import {
  AvailableRing,
  Descriptor,
  DeviceStatus,
  Feature,
  InterruptCause,
  UsedRing,
} from "../../../../assembly/spec/virtio.ts";
import type { Later } from "../../../core/flow.ts";
import type { GuestMemory, InterruptLine, Width } from "../../../core/machine.ts";
import { checkTransport, IDLE, noState, type TransportState } from "./save.ts";

/** Where an enabled queue lies: linear addresses, checked to be inside guest RAM, aligned and apart. */
export interface QueueLayout {
  size: number;
  descriptors: number;
  available: number;
  used: number;
}

/** A virtio device as its transport sees it, whatever the bus. */
export interface VirtioDevice {
  /** VIRTIO 1.2 §5. */
  readonly type: number;
  /** Feature bits offered: 0–31 and 32–63. */
  readonly features: readonly [low: number, high: number];
  /** Largest size of each queue. */
  readonly queueSizes: readonly number[];
  /** Bytes of the configuration space. */
  readonly configSize: number;
  /** The transport it is plugged into, before anything else is called. */
  connect(signals: VirtioSignals): void;
  readConfig(offset: number, width: Width): number;
  writeConfig(offset: number, width: Width, value: number): void;
  /** The driver is ready: these features, these queues (undefined where it has set up none). */
  start(features: readonly [low: number, high: number], queues: readonly (QueueLayout | undefined)[]): void;
  /**
   * The queues are the driver's again: from now on nothing is written to them and no interrupt raised. A promise, when
   * a store still moves data to or from buffers of the guest, of the end of that.
   */
  stop(): Later<void>;
  notify(queue: number): void;
  /** What the device itself knows beyond its set-up, requests under way included: plain data. */
  save(): unknown;
  /** After `start`, with guest memory as it was: goes on from there. @throws ParavaneError INVALID */
  restore(state: unknown): void;
}

/** What a device tells its driver, through its transport. */
export interface VirtioSignals {
  /** Used buffers are there. */
  usedBuffer(): void;
  /** The configuration space has changed. */
  configChanged(): void;
  /** The driver broke the protocol: only a reset helps (§2.1.2). */
  needsReset(): void;
}

/** What the driver has written about one queue. Addresses are guest-physical. */
class QueueSetup {
  size: number;
  readonly low = { descriptors: 0, available: 0, used: 0 };
  readonly high = { descriptors: 0, available: 0, used: 0 };
  layout: QueueLayout | undefined;

  constructor(size: number) {
    this.size = size;
  }
}

/** What the transports of VIRTIO 1.2 §4 have in common: status, features, queue set-up, interrupt causes, reset. */
export class VirtioTransport implements VirtioSignals {
  readonly device: VirtioDevice;
  readonly #memory: GuestMemory;
  readonly #line: InterruptLine;
  status = 0;
  /** InterruptCause bits. */
  causes = 0;
  /** Counts changes of the configuration space. */
  generation = 0;
  featuresSelect = 0;
  driverFeaturesSelect = 0;
  queueSelect = 0;
  #accepted: [number, number] = [0, 0];
  #queues: QueueSetup[] = [];
  #stopping: Promise<void> | undefined;

  constructor(device: VirtioDevice, memory: GuestMemory, line: InterruptLine) {
    this.device = device;
    this.#memory = memory;
    this.#line = line;
    this.#clear();
    device.connect(this);
  }

  get deviceFeatures(): number {
    return this.device.features[this.featuresSelect] ?? 0;
  }

  get driverFeatures(): number {
    return this.#accepted[this.driverFeaturesSelect] ?? 0;
  }
  set driverFeatures(value: number) {
    // §2.2.1, §3.1.1: fixed once FEATURES_OK stands.
    if (this.#writable && this.driverFeaturesSelect < 2) this.#accepted[this.driverFeaturesSelect] = value >>> 0;
  }

  /** The selected queue's registers; undefined when there is no such queue. */
  get queue(): QueueSetup | undefined {
    return this.#queues[this.queueSelect];
  }
  get queueSizeMax(): number {
    return this.device.queueSizes[this.queueSelect] ?? 0;
  }
  get queueReady(): boolean {
    return this.queue?.layout !== undefined;
  }

  /** Lets a set-up register of the selected queue be written: not when it is ready (§4.2.2.2), not while resetting. */
  configureQueue(write: (queue: QueueSetup) => void): void {
    if (this.queue && !this.queueReady && !this.#stopping) write(this.queue);
  }

  /** Ready or not. A queue whose addresses cannot be used stays unready, and the device asks for a reset. */
  set queueReady(ready: boolean) {
    const { queue } = this;
    // Without RING_RESET, which is not offered, a queue of a running device is taken back by a device reset only.
    if (!queue || this.#stopping || (this.status & DeviceStatus.DriverOk) !== 0) return;
    if (!ready) queue.layout = undefined;
    else if (!queue.layout && (this.status & DeviceStatus.FeaturesOk) !== 0) {
      queue.layout = this.#check(queue);
      if (!queue.layout) this.needsReset();
    }
  }

  notify(queue: number): void {
    const running = (this.status & (DeviceStatus.DriverOk | DeviceStatus.NeedsReset)) === DeviceStatus.DriverOk;
    if (running && !this.#stopping && this.#queues[queue]?.layout) this.device.notify(queue);
  }

  /** §2.1: bits are added one by one; zero resets; the device alone sets NEEDS_RESET. */
  writeStatus(value: number): void {
    if (value === 0) {
      this.reset();
      return;
    }
    if (this.#stopping) return;
    let added = value & ~this.status & 0xff & ~DeviceStatus.NeedsReset;
    if ((added & DeviceStatus.FeaturesOk) !== 0 && !this.#featuresAcceptable()) added &= ~DeviceStatus.FeaturesOk;
    if (((this.status | added) & DeviceStatus.FeaturesOk) === 0) added &= ~DeviceStatus.DriverOk;
    this.status |= added;
    if ((added & DeviceStatus.DriverOk) !== 0) {
      this.device.start(
        this.#accepted,
        this.#queues.map((queue) => queue.layout),
      );
    }
  }

  /**
   * §2.4: complete when the status reads 0, which a device with data still on its way to guest memory puts off until
   * then. Queues and interrupts are silent at once.
   */
  reset(): void {
    this.causes = 0;
    this.#line.set(false);
    if (this.#stopping) return;
    const pending = this.device.stop();
    if (!(pending instanceof Promise)) {
      this.#clear();
      return;
    }
    this.#stopping = pending.then(() => {
      this.#stopping = undefined;
      this.#clear();
    });
  }

  /** A reset in progress. */
  get stopping(): Promise<void> | undefined {
    return this.#stopping;
  }

  acknowledge(causes: number): void {
    this.causes &= ~causes;
    this.#line.set(this.causes !== 0);
  }

  usedBuffer(): void {
    this.#raise(InterruptCause.UsedBuffer);
  }
  configChanged(): void {
    this.generation = (this.generation + 1) >>> 0;
    if ((this.status & DeviceStatus.DriverOk) !== 0) this.#raise(InterruptCause.ConfigurationChange);
  }
  needsReset(): void {
    if ((this.status & DeviceStatus.NeedsReset) !== 0) return;
    this.status |= DeviceStatus.NeedsReset;
    // §2.1.2: told by a configuration change, to a driver that is running.
    if ((this.status & DeviceStatus.DriverOk) !== 0) this.#raise(InterruptCause.ConfigurationChange);
  }

  /** Where the transport and its device are; a reset in progress is saved as done. */
  save(): TransportState {
    if (this.#stopping) return { ...IDLE, generation: this.generation };
    const { status, causes, generation, featuresSelect, driverFeaturesSelect, queueSelect } = this;
    const queues = this.#queues.map(({ size, low, high, layout }) => ({
      size,
      low: { ...low },
      high: { ...high },
      ready: layout !== undefined,
    }));
    const selects: [number, number, number] = [featuresSelect, driverFeaturesSelect, queueSelect];
    const device = (status & DeviceStatus.DriverOk) === 0 ? null : this.device.save();
    return { status, causes, generation, selects, accepted: [...this.#accepted], queues, device };
  }

  /**
   * Goes on from a save, guest memory being as it was then. Waits first for what still moves here.
   * @throws ParavaneError INVALID, leaving a device that has been reset
   */
  restore(state: TransportState): Later<void> {
    this.reset();
    if (this.#stopping) return this.#stopping.then(() => this.#load(state));
    this.#load(state);
  }

  #load(state: TransportState): void {
    try {
      this.#take(checkTransport(state, this.#queues.length));
    } catch (thrown) {
      this.reset();
      throw thrown;
    }
  }

  #take({ status, causes, generation, selects, accepted, queues, device }: TransportState): void {
    this.generation = generation;
    this.#accepted = [accepted[0], accepted[1]];
    if ((status & DeviceStatus.FeaturesOk) !== 0 && !this.#featuresAcceptable()) throw noState("features");
    for (const [i, saved] of queues.entries()) {
      const queue = this.#queues[i];
      queue.size = saved.size;
      Object.assign(queue.low, saved.low);
      Object.assign(queue.high, saved.high);
      queue.layout = saved.ready ? this.#check(queue) : undefined;
      if (saved.ready && !queue.layout) throw noState(`queue ${i}`);
    }
    [this.featuresSelect, this.driverFeaturesSelect, this.queueSelect] = selects;
    this.status = status;
    this.causes = causes;
    this.#line.set(causes !== 0);
    if ((status & DeviceStatus.DriverOk) === 0) return;
    this.device.start(
      this.#accepted,
      this.#queues.map(({ layout }) => layout),
    );
    this.device.restore(device);
  }

  get #writable(): boolean {
    return !this.#stopping && (this.status & DeviceStatus.FeaturesOk) === 0;
  }

  #raise(cause: number): void {
    this.causes |= cause;
    this.#line.set(true);
  }

  #clear(): void {
    this.status = 0;
    this.featuresSelect = 0;
    this.driverFeaturesSelect = 0;
    this.queueSelect = 0;
    this.#accepted = [0, 0];
    this.#queues = this.device.queueSizes.map((size) => new QueueSetup(size));
  }

  /** §3.1.1 step 5, §6.1: a subset of what was offered, and no driver of before 1.0. */
  #featuresAcceptable(): boolean {
    const [low, high] = this.#accepted;
    const [offeredLow, offeredHigh] = this.device.features;
    const version1 = 1 << (Feature.Version1 - 32);
    return (low & ~offeredLow) === 0 && (high & ~offeredHigh) === 0 && (high & version1) !== 0;
  }

  /** §2.7: a power of two; each part inside RAM, aligned, and on its own. */
  #check(queue: QueueSetup): QueueLayout | undefined {
    const { size, low, high } = queue;
    if (size === 0 || size > this.queueSizeMax || (size & (size - 1)) !== 0) return undefined;
    if (high.descriptors !== 0 || high.available !== 0 || high.used !== 0) return undefined;
    if (low.descriptors % 16 !== 0 || low.available % 2 !== 0 || low.used % 4 !== 0) return undefined;
    const parts = [
      [low.descriptors, size * Descriptor.Size],
      [low.available, size * AvailableRing.EntrySize + AvailableRing.Overhead],
      [low.used, size * UsedRing.EntrySize + UsedRing.Overhead],
    ].sort((a, b) => a[0] - b[0]);
    for (let i = 0; i < 3; i++) {
      if (parts[i][0] + parts[i][1] > (parts[i + 1]?.[0] ?? this.#memory.size)) return undefined;
    }
    const { base } = this.#memory;
    return {
      size,
      descriptors: base + low.descriptors,
      available: base + low.available,
      used: base + low.used,
    };
  }
}
