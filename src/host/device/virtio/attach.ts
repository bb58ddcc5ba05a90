import type { Block } from "../../../core/block.ts";
import { disposable } from "../../../core/dispose.ts";
import type { Later } from "../../../core/flow.ts";
import type { Device, Machine } from "../../../core/machine.ts";
import { noState, type TransportState } from "./save.ts";
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
  /**
   * The device at this moment, requests under way included: plain data that survives JSON. Disk content, guest memory and PCI
   * configuration are the machine's to save.
   */
  save(): VirtioState;
  /**
   * Goes on where `save` was called, on a device over the same content, guest memory restored before; what was under way is
   * begun again. Waits, where there is need, for what this device has in flight. @throws ParavaneError INVALID
   */
  restore(state: VirtioState): Later<void>;
}

/** A later version of this package reads what an earlier one has written. */
export interface VirtioState {
  version: 1;
  transport: TransportState;
}

/**
 * Plugs `block` into `machine` as a virtio block device behind a virtio-mmio window, or as a PCI function.
 * @throws ParavaneError EXISTS (the window or slot is taken), INVALID (sector size, BARs), NO_SPACE (host memory)
 */
export function attachVirtioBlk(machine: Machine, block: Block, options: VirtioBlkOptions): VirtioBlkDevice {
  const device = new VirtioBlk(machine.memory, block, options.identity ?? "paravane");
  const window =
    "pci" in options ? new VirtioPci(machine, device, options.pci) : new VirtioMmio(machine, device, options);
  const { transport } = window;
  return disposable({
    close: () => window.close(),
    resized: () => device.resized(),
    save: (): VirtioState => ({ version: 1, transport: transport.save() }),
    restore: (state: VirtioState) => {
      if (state?.version !== 1) throw noState("another version, or none");
      return transport.restore(state.transport);
    },
  });
}
