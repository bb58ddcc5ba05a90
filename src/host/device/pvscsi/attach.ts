import type { Block } from "../../../core/block.ts";
import { disposable } from "../../../core/dispose.ts";
import type { Later } from "../../../core/flow.ts";
import type { Device, Machine } from "../../../core/machine.ts";
import { ScsiDisk, type ScsiDiskOptions } from "../scsi/disk.ts";
import { type AdapterPlace, PvscsiAdapter } from "./adapter.ts";
import type { PvscsiState } from "./save.ts";

/** A disk, alone or with the identity it presents. */
export type PvscsiDisk = Block | ScsiDiskOptions;

export interface PvscsiOptions extends AdapterPlace {
  /** By target number, 0 to 63. */
  disks: readonly (PvscsiDisk | null | undefined)[];
}

/** A plugged-in PVSCSI adapter. */
export interface PvscsiDevice extends Device {
  /**
   * Plugs a disk in while the guest runs; a driver with a message ring is told.
   * @throws ParavaneError EXISTS (the target has one), INVALID
   */
  plug(target: number, disk: PvscsiDisk): void;
  /** Takes a disk out, and waits for what it still does. @throws ParavaneError NOT_FOUND */
  unplug(target: number): Later<void>;
  /** To be called when a block's size has changed: the guest's next command hears of it. @throws ParavaneError NOT_FOUND */
  resized(target: number): void;
  /**
   * The adapter at this moment, commands under way included: plain data that survives JSON. Disk contents, guest memory and
   * PCI configuration are the machine's to save.
   */
  save(): PvscsiState;
  /**
   * Goes on where `save` was called, on an adapter with the same disks over the same contents, guest memory restored before;
   * what was under way is begun again. Waits, where there is need, for what this adapter has in flight.
   * @throws ParavaneError INVALID
   */
  restore(state: PvscsiState): Later<void>;
}

/**
 * Plugs VMware's paravirtual SCSI adapter with these disks into a machine, as PCI function 15AD:07C0.
 * @throws ParavaneError EXISTS (the slot is taken), INVALID (a disk's strings or blocks), NO_SPACE (host memory)
 */
export function attachPvscsi(machine: Machine, options: PvscsiOptions): PvscsiDevice {
  const disks = options.disks.map((disk, target) => (disk ? diskOf(disk, target) : null));
  const adapter = new PvscsiAdapter(machine, options);
  disks.forEach((disk, target) => {
    if (disk) adapter.plug(target, disk);
  });
  return disposable({
    plug: (target: number, disk: PvscsiDisk) => adapter.plug(target, diskOf(disk, target)),
    unplug: (target: number) => adapter.unplug(target),
    resized: (target: number) => adapter.resized(target),
    save: () => adapter.save(),
    restore: (state: PvscsiState) => adapter.restore(state),
    close: () => adapter.close(),
  });
}

function diskOf(disk: PvscsiDisk, target: number): ScsiDisk {
  return new ScsiDisk("submit" in disk ? { block: disk } : disk, target);
}
