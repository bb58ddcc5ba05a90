import { DeviceStatus, Feature } from "../../assembly/spec/virtio.ts";
import { ParavaneError } from "../core/error.ts";
import type { Width } from "../core/machine.ts";

/** Guest-physical addresses of a queue's parts. */
export interface QueueAddresses {
  descriptors: number;
  available: number;
  used: number;
}

/** A virtio device as its driver sees it, whatever the transport: every access is a trap. */
export abstract class VirtioBus {
  /** The line its interrupts come on. */
  abstract readonly interrupt: number;
  abstract get status(): number;
  abstract set status(value: number);
  abstract notify(queue: number): void;
  /** InterruptCause bits, acknowledged. */
  abstract causes(): number;
  /** Largest size of a queue; 0 when there is none of that number, or it is in use. */
  abstract queueSizeMax(queue: number): number;

  /** Features offered, bits 0–31. */
  protected abstract offered(): number;
  protected abstract accept(low: number, high: number): void;
  protected abstract enableQueue(queue: number, size: number, at: QueueAddresses): boolean;
  protected abstract generation(): number;
  protected abstract field(offset: number, width: Width): number;
  /** For messages. */
  protected abstract readonly place: Record<string, number>;

  /** §2.5.1: fields read together belong together when the generation did not change meanwhile. */
  config<T>(read: (field: (offset: number, width: Width) => number) => T): T {
    for (;;) {
      const before = this.generation();
      const value = read((offset, width) => this.field(offset, width));
      if (this.generation() === before) return value;
    }
  }

  /**
   * §3.1.1, steps 1 to 6: reset, then agree on the offered features among `wanted` (bit numbers). Returns them as a word
   * of bits 0–31; VERSION_1 is taken for granted.
   * @throws ParavaneError BUSY, UNSUPPORTED (the device does not agree)
   */
  negotiate(wanted: readonly number[]): number {
    this.status = 0;
    if (this.status !== 0) {
      const hint = "try again when they have completed";
      throw new ParavaneError("BUSY", "the virtio device has not let go of its last driver's requests", {}, { hint });
    }
    this.status = DeviceStatus.Acknowledge;
    this.status = DeviceStatus.Acknowledge | DeviceStatus.Driver;
    const features = (this.offered() & wanted.reduce((word, bit) => word | (1 << bit), 0)) >>> 0;
    this.accept(features, 1 << (Feature.Version1 - 32));
    this.status = DeviceStatus.Acknowledge | DeviceStatus.Driver | DeviceStatus.FeaturesOk;
    if ((this.status & DeviceStatus.FeaturesOk) === 0) this.#fail("the virtio device refuses our features");
    return features;
  }

  /** @throws ParavaneError UNSUPPORTED */
  setUpQueue(queue: number, size: number, at: QueueAddresses): void {
    if (!this.enableQueue(queue, size, at)) this.#fail(`the virtio device refuses queue ${queue}`);
  }

  driverOk(): void {
    this.status |= DeviceStatus.DriverOk;
  }

  #fail(message: string): never {
    this.status = DeviceStatus.Failed;
    throw new ParavaneError("UNSUPPORTED", message, this.place);
  }
}
