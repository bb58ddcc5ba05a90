import { DeviceStatus, Feature, Mmio, MmioValue } from "../../assembly/spec/virtio.ts";
import { ParavaneError } from "../core/error.ts";
import type { Width } from "../core/machine.ts";
import type { GuestCpu } from "../hypervisor/machine.ts";

/** Guest-physical addresses of a queue's parts. */
export interface QueueAddresses {
  descriptors: number;
  available: number;
  used: number;
}

/** A driver's view of one virtio-mmio window (VIRTIO 1.2 §4.2): every access is a trap. */
export class VirtioMmioBus {
  readonly #cpu: GuestCpu;
  readonly #base: number;

  constructor(cpu: GuestCpu, base: number) {
    this.#cpu = cpu;
    this.#base = base;
  }

  read(register: number): number {
    return this.#cpu.load(this.#base + register, 4);
  }
  write(register: number, value: number): void {
    this.#cpu.store(this.#base + register, 4, value);
  }

  /** §2.5.1: fields read together belong together when the generation did not change meanwhile. */
  config<T>(read: (field: (offset: number, width: Width) => number) => T): T {
    for (;;) {
      const before = this.read(Mmio.ConfigGeneration);
      const value = read((offset, width) => this.#cpu.load(this.#base + Mmio.Config + offset, width));
      if (this.read(Mmio.ConfigGeneration) === before) return value;
    }
  }

  /**
   * §3.1.1, steps 1 to 6: reset, then agree on the offered features among `wanted` (bit numbers). Returns them as a word
   * of bits 0–31; VERSION_1 is taken for granted.
   * @throws ParavaneError NOT_FOUND (no such device), BUSY, UNSUPPORTED (the device does not agree)
   */
  negotiate(type: number, wanted: readonly number[]): number {
    const found = this.read(Mmio.Magic) === MmioValue.Magic && this.read(Mmio.Version) === MmioValue.Version;
    if (!found || this.read(Mmio.DeviceId) !== type) {
      throw new ParavaneError("NOT_FOUND", `no virtio device of type ${type} in the window`, { offset: this.#base });
    }
    this.write(Mmio.Status, 0);
    if (this.read(Mmio.Status) !== 0) {
      throw new ParavaneError(
        "BUSY",
        "the virtio device has not let go of its last driver's requests",
        {},
        {
          hint: "try again when they have completed",
        },
      );
    }
    this.write(Mmio.Status, DeviceStatus.Acknowledge);
    this.write(Mmio.Status, DeviceStatus.Acknowledge | DeviceStatus.Driver);
    this.write(Mmio.DeviceFeaturesSelect, 0);
    const features = (this.read(Mmio.DeviceFeatures) & wanted.reduce((word, bit) => word | (1 << bit), 0)) >>> 0;
    this.write(Mmio.DriverFeaturesSelect, 0);
    this.write(Mmio.DriverFeatures, features);
    this.write(Mmio.DriverFeaturesSelect, 1);
    this.write(Mmio.DriverFeatures, 1 << (Feature.Version1 - 32));
    this.write(Mmio.Status, DeviceStatus.Acknowledge | DeviceStatus.Driver | DeviceStatus.FeaturesOk);
    if ((this.read(Mmio.Status) & DeviceStatus.FeaturesOk) === 0) this.#fail("the virtio device refuses our features");
    return features;
  }

  /** §4.2.3.2. @throws ParavaneError UNSUPPORTED */
  setUpQueue(queue: number, size: number, at: QueueAddresses): void {
    this.write(Mmio.QueueSelect, queue);
    this.write(Mmio.QueueSize, size);
    this.write(Mmio.QueueDescriptorsLow, at.descriptors);
    this.write(Mmio.QueueDescriptorsHigh, 0);
    this.write(Mmio.QueueDriverLow, at.available);
    this.write(Mmio.QueueDriverHigh, 0);
    this.write(Mmio.QueueDeviceLow, at.used);
    this.write(Mmio.QueueDeviceHigh, 0);
    this.write(Mmio.QueueReady, 1);
    if (this.read(Mmio.QueueReady) !== 1) this.#fail(`the virtio device refuses queue ${queue}`);
  }

  /** Largest size of a queue; 0 when there is none of that number, or it is in use. */
  queueSizeMax(queue: number): number {
    this.write(Mmio.QueueSelect, queue);
    return this.read(Mmio.QueueReady) === 0 ? this.read(Mmio.QueueSizeMax) : 0;
  }

  driverOk(): void {
    this.write(Mmio.Status, this.read(Mmio.Status) | DeviceStatus.DriverOk);
  }

  #fail(message: string): never {
    this.write(Mmio.Status, DeviceStatus.Failed);
    throw new ParavaneError("UNSUPPORTED", message, { offset: this.#base });
  }
}
