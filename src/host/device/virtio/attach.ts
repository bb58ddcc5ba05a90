import type { Block } from "../../../core/block.ts";
import { disposable } from "../../../core/dispose.ts";
import type { Device, Machine } from "../../../core/machine.ts";
import { VirtioBlk } from "./virtio-blk.ts";
import { VirtioMmio, type VirtioMmioOptions } from "./virtio-mmio.ts";
import { VirtioPci, type VirtioPciOptions } from "./virtio-pci.ts";

/** Where the device is: in a window of memory space, or, with `pci`, on the PCI bus. */
export type VirtioBlkOptions = (VirtioMmioOptions | { pci: VirtioPciOptions }) & {
  /** What the guest is told the disk is called (GET_ID), 20 bytes at most; default "paravane". */
  identity?: string;
};

/** A plugged-in virtio block device. */
export interface VirtioBlkDevice extends Device {
  /** To be called when the block's size has changed: tells the driver. */
  resized(): void;
}

/**
 * Plugs `block` into `machine` as a virtio block device behind a virtio-mmio window, or as a PCI function.
 * @throws ParavaneError EXISTS (the window or slot is taken), INVALID (sector size, BARs), NO_SPACE (host memory)
 */
export function attachVirtioBlk(machine: Machine, block: Block, options: VirtioBlkOptions): VirtioBlkDevice {
  const device = new VirtioBlk(machine.memory, block, options.identity ?? "paravane");
  const transport =
    "pci" in options ? new VirtioPci(machine, device, options.pci) : new VirtioMmio(machine, device, options);
  return disposable({ close: () => transport.close(), resized: () => device.resized() });
}
