import { Mmio, MmioValue } from "../../../../assembly/spec/virtio.ts";
import type { Machine, MmioDevice, Release, Width } from "../../../core/machine.ts";
import { type VirtioDevice, VirtioTransport } from "./transport.ts";

/** "PARA". */
const VENDOR = 0x41524150;

export interface VirtioMmioOptions {
  /** Guest-physical address of the 512-byte window. */
  base: number;
  /** Interrupt line. */
  interrupt: number;
}

/** The virtio-mmio transport, version 2 (VIRTIO 1.2 §4.2). Registers are read and written as aligned 32-bit words. */
export class VirtioMmio implements MmioDevice {
  readonly transport: VirtioTransport;
  readonly #releases: Release[];

  /** @throws ParavaneError EXISTS when the window is taken */
  constructor(machine: Machine, device: VirtioDevice, options: VirtioMmioOptions) {
    this.transport = new VirtioTransport(device, machine.memory, machine.interrupt(options.interrupt));
    this.#releases = [
      machine.mmio.register(options.base, Mmio.WindowSize, this),
      machine.onReset(() => this.transport.reset()),
    ];
  }

  close(): void | Promise<void> {
    for (const release of this.#releases.splice(0)) release();
    this.transport.reset();
    return this.transport.stopping;
  }

  readMmio(offset: number, width: Width): number {
    const t = this.transport;
    if (offset >= Mmio.Config) return t.device.readConfig(offset - Mmio.Config, width);
    if (width !== 4) return 0;
    switch (offset) {
      case Mmio.Magic:
        return MmioValue.Magic;
      case Mmio.Version:
        return MmioValue.Version;
      case Mmio.DeviceId:
        return t.device.type;
      case Mmio.VendorId:
        return VENDOR;
      case Mmio.DeviceFeatures:
        return t.deviceFeatures;
      case Mmio.QueueSizeMax:
        return t.queueSizeMax;
      case Mmio.QueueReady:
        return t.queueReady ? 1 : 0;
      case Mmio.InterruptStatus:
        return t.causes;
      case Mmio.Status:
        return t.status;
      case Mmio.ConfigGeneration:
        return t.generation;
      default:
        // §4.2.2: the length of a shared memory region that does not exist, and its base, are all ones.
        return offset >= Mmio.SharedMemoryLengthLow && offset <= Mmio.SharedMemoryBaseHigh ? 0xffffffff : 0;
    }
  }

  writeMmio(offset: number, width: Width, value: number): void {
    const t = this.transport;
    if (offset >= Mmio.Config) {
      t.device.writeConfig(offset - Mmio.Config, width, value);
      return;
    }
    if (width !== 4) return;
    switch (offset) {
      case Mmio.QueueNotify:
        t.notify(value);
        return;
      case Mmio.InterruptAcknowledge:
        t.acknowledge(value);
        return;
      case Mmio.Status:
        t.writeStatus(value);
        return;
      case Mmio.DeviceFeaturesSelect:
        t.featuresSelect = value;
        return;
      case Mmio.DriverFeaturesSelect:
        t.driverFeaturesSelect = value;
        return;
      case Mmio.DriverFeatures:
        t.driverFeatures = value;
        return;
      case Mmio.QueueSelect:
        t.queueSelect = value;
        return;
      case Mmio.QueueReady:
        t.queueReady = value === 1;
        return;
      default:
        this.#configureQueue(offset, value);
    }
  }

  #configureQueue(offset: number, value: number): void {
    this.transport.configureQueue((queue) => {
      if (offset === Mmio.QueueSize) queue.size = value;
      else if (offset === Mmio.QueueDescriptorsLow) queue.low.descriptors = value;
      else if (offset === Mmio.QueueDescriptorsHigh) queue.high.descriptors = value;
      else if (offset === Mmio.QueueDriverLow) queue.low.available = value;
      else if (offset === Mmio.QueueDriverHigh) queue.high.available = value;
      else if (offset === Mmio.QueueDeviceLow) queue.low.used = value;
      else if (offset === Mmio.QueueDeviceHigh) queue.high.used = value;
    });
  }
}
