import { Mmio, MmioValue } from "../../assembly/spec/virtio.ts";
import { ParavaneError } from "../core/error.ts";
import type { Width } from "../core/machine.ts";
import type { GuestCpu } from "../hypervisor/machine.ts";
import { type QueueAddresses, VirtioBus } from "./virtio-bus.ts";

/** A driver's view of one virtio-mmio window (VIRTIO 1.2 §4.2). */
export class VirtioMmioBus extends VirtioBus {
  readonly interrupt: number;
  protected readonly place: Record<string, number>;
  readonly #cpu: GuestCpu;
  readonly #base: number;

  /** @throws ParavaneError NOT_FOUND when there is no device of that type in the window */
  constructor(cpu: GuestCpu, base: number, interrupt: number, type: number) {
    super();
    this.#cpu = cpu;
    this.#base = base;
    this.interrupt = interrupt;
    this.place = { offset: base };
    const found = this.#read(Mmio.Magic) === MmioValue.Magic && this.#read(Mmio.Version) === MmioValue.Version;
    if (!found || this.#read(Mmio.DeviceId) !== type) {
      throw new ParavaneError("NOT_FOUND", `no virtio device of type ${type} in the window`, { offset: base });
    }
  }

  get status(): number {
    return this.#read(Mmio.Status);
  }
  set status(value: number) {
    this.#write(Mmio.Status, value);
  }
  notify(queue: number): void {
    this.#write(Mmio.QueueNotify, queue);
  }
  /** §4.2.2: read, then written back. */
  causes(): number {
    const causes = this.#read(Mmio.InterruptStatus);
    this.#write(Mmio.InterruptAcknowledge, causes);
    return causes;
  }
  queueSizeMax(queue: number): number {
    this.#write(Mmio.QueueSelect, queue);
    return this.#read(Mmio.QueueReady) === 0 ? this.#read(Mmio.QueueSizeMax) : 0;
  }

  protected offered(): number {
    this.#write(Mmio.DeviceFeaturesSelect, 0);
    return this.#read(Mmio.DeviceFeatures);
  }
  protected accept(low: number, high: number): void {
    this.#write(Mmio.DriverFeaturesSelect, 0);
    this.#write(Mmio.DriverFeatures, low);
    this.#write(Mmio.DriverFeaturesSelect, 1);
    this.#write(Mmio.DriverFeatures, high);
  }
  /** §4.2.3.2. */
  protected enableQueue(queue: number, size: number, at: QueueAddresses): boolean {
    this.#write(Mmio.QueueSelect, queue);
    this.#write(Mmio.QueueSize, size);
    this.#write(Mmio.QueueDescriptorsLow, at.descriptors);
    this.#write(Mmio.QueueDescriptorsHigh, 0);
    this.#write(Mmio.QueueDriverLow, at.available);
    this.#write(Mmio.QueueDriverHigh, 0);
    this.#write(Mmio.QueueDeviceLow, at.used);
    this.#write(Mmio.QueueDeviceHigh, 0);
    this.#write(Mmio.QueueReady, 1);
    return this.#read(Mmio.QueueReady) === 1;
  }
  protected generation(): number {
    return this.#read(Mmio.ConfigGeneration);
  }
  protected field(offset: number, width: Width): number {
    return this.#cpu.load(this.#base + Mmio.Config + offset, width);
  }

  #read(register: number): number {
    return this.#cpu.load(this.#base + register, 4);
  }
  #write(register: number, value: number): void {
    this.#cpu.store(this.#base + register, 4, value);
  }
}
