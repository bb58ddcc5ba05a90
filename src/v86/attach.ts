import type { Block } from "../core/block.ts";
import { type AsyncCloseable, disposable } from "../core/dispose.ts";
import { asParavaneError, ParavaneError } from "../core/error.ts";
import type { Later } from "../core/flow.ts";
import type { GuestMemory } from "../core/machine.ts";
import { attachIde, type IdeController, type IdeDrive } from "../host/device/ide/controller.ts";
import type { IdeState } from "../host/device/ide/save.ts";
import { attachPvscsi, type PvscsiDevice, type PvscsiDisk } from "../host/device/pvscsi/attach.ts";
import type { PvscsiState } from "../host/device/pvscsi/save.ts";
import { attachVirtioBlk, type VirtioBlkDevice } from "../host/device/virtio/attach.ts";
import { cpuOf, type V86Cpu, type V86Emulator } from "./internals.ts";
import { V86Machine } from "./machine.ts";
import { type BootDevice, IDE_SLOT, removeIde, tellFirmware } from "./replace.ts";
import { joinState } from "./state.ts";
import { SteadyBlock } from "./steady.ts";

export interface AttachOptions {
  /** Primary and secondary channel; on each, drive 0 and drive 1: disks, CD drives. Takes the place of v86's own controller. */
  ide?: readonly (readonly (IdeDrive | null | undefined)[] | undefined)[];
  /** Disks with a virtio-blk function on the PCI bus each, in the order in which a guest names them. */
  virtio?: readonly VirtioDisk[];
  /** Disks on one PVSCSI adapter, by target number. */
  pvscsi?: readonly (PvscsiDisk | null | undefined)[];
  /** What the firmware tries, in this order; default disk, CD, floppy, with a CD first when there is no disk. */
  boot?: readonly BootDevice[];
}

/** A disk, alone or with what the guest is told that it is called: 20 bytes at most. */
export type VirtioDisk = Block | { block: Block; identity?: string };

/** What `attach` has plugged in. Closing takes it out again; disks stay open, for they are the caller's. */
export interface V86Disks extends AsyncCloseable {
  /** Plugged in: v86 has got so far. Rejects with a ParavaneError, and the guest then runs without. */
  readonly ready: Promise<void>;
  /** Null before `ready`, and without IDE drives. */
  readonly ide: IdeController | null;
  /** In the order given; empty before `ready`. */
  readonly virtio: readonly VirtioBlkDevice[];
  /** Null before `ready`, and without PVSCSI disks. */
  readonly pvscsi: PvscsiDevice | null;
  /** For device models of one's own; null before `ready`. */
  readonly machine: V86Machine | null;
}

/**
 * Plugs disks into an instance of v86's class `V86`. To be called right after its constructor, so that the firmware finds them;
 * saved states of v86 then hold the devices too, with what they have under way.
 * @throws ParavaneError EXISTS (v86 has disks of its own), UNSUPPORTED (another version of v86), INVALID, NO_SPACE: at once when
 * the emulator has started, otherwise through `ready`
 */
export function attach(emulator: V86Emulator, options: AttachOptions): V86Disks {
  return new Attachment(emulator, options);
}

/** Where the functions stand until the firmware has moved them, and the line of INTA#, which the router decides on. */
const VIRTIO_PORTS = 0xd000;
const VIRTIO_STEP = 0x100;
const PVSCSI_MEMORY = 0xfeb00000;
const INTERRUPT = 11;

class Attachment implements V86Disks {
  declare readonly [Symbol.asyncDispose]: () => Promise<void>;
  readonly ready: Promise<void>;
  ide: IdeController | null = null;
  virtio: VirtioBlkDevice[] = [];
  pvscsi: PvscsiDevice | null = null;
  machine: V86Machine | null = null;
  readonly #emulator: V86Emulator;
  readonly #options: AttachOptions;
  #leaveState: () => void = () => {};
  #stopWaiting: () => void = () => {};

  constructor(emulator: V86Emulator, options: AttachOptions) {
    this.#emulator = emulator;
    this.#options = options;
    const cpu = cpuOf(emulator);
    if (cpu) {
      this.#plug(cpu);
      this.ready = Promise.resolve();
      return;
    }
    this.ready = new Promise((resolve, reject) => {
      const onReady = () => {
        this.#stopWaiting();
        try {
          this.#plug(cpuOf(emulator));
          resolve();
        } catch (thrown) {
          reject(asParavaneError(thrown));
        }
      };
      this.#stopWaiting = () => emulator.remove_listener("emulator-ready", onReady);
      emulator.add_listener("emulator-ready", onReady);
    });
    // Whoever does not wait is told by the guest, which finds no disk.
    this.ready.catch(() => {});
  }

  #plug(cpu: V86Cpu | undefined): void {
    const { ide, virtio = [], pvscsi = [], boot } = this.#options;
    if (cpu && attached.has(cpu)) {
      throw new ParavaneError("EXISTS", "this emulator has its disks already", {}, { hint: "Attach them all at once" });
    }
    const machine = new V86Machine(cpu);
    this.machine = machine;
    if (!cpu) return;
    if (ide) {
      removeIde(cpu, machine);
      // The PIIX4 function is the one that drivers use Ultra DMA with.
      const drives = ide.map((channel) => channel?.map((drive) => drive && steady(drive, machine.memory)));
      this.ide = steadySlots(attachIde(machine, { drives, slot: IDE_SLOT, model: "piix4" }), machine.memory);
    }
    this.virtio = virtio.map((disk, i) => {
      const { block, identity } = "submit" in disk ? { block: disk, identity: undefined } : disk;
      const over = new SteadyBlock(block, machine.memory);
      const pci = { interrupt: INTERRUPT, ports: VIRTIO_PORTS + i * VIRTIO_STEP };
      return attachVirtioBlk(machine, over, { pci, ...(identity !== undefined && { identity }) });
    });
    if (pvscsi.length > 0) {
      const disks = pvscsi.map((disk) => disk && steady(disk, machine.memory));
      const adapter = attachPvscsi(machine, { disks, interrupt: INTERRUPT, memory: PVSCSI_MEMORY });
      const plug = (target: number, disk: PvscsiDisk) => adapter.plug(target, steady(disk, machine.memory));
      this.pvscsi = disposable({ ...adapter, plug });
    }
    tellFirmware(cpu, boot ?? (this.#hasDisk ? ["disk", "cd", "floppy"] : ["cd", "floppy", "disk"]));
    attached.add(cpu);
    this.#leaveState = joinState(this.#emulator, cpu, {
      save: () => ({
        version: 1,
        pci: machine.pci.save(),
        interrupts: machine.interrupts.theirs,
        ide: this.ide?.save() ?? null,
        virtio: this.virtio.map((each) => each.save()),
        pvscsi: this.pvscsi?.save() ?? null,
      }),
      restore: (state) => {
        const { virtio: saved = [], pvscsi: adapter = null } = state;
        if (saved.length !== this.virtio.length || (adapter === null) !== (this.pvscsi === null)) {
          throw new ParavaneError("INVALID", "this state of v86 was saved with other disks on its PCI bus");
        }
        machine.interrupts.theirs = state.interrupts;
        machine.pci.restore(state.pci);
        const waits = [
          this.ide?.restore(state.ide as IdeState),
          ...this.virtio.map((each, i) => each.restore(saved[i])),
          this.pvscsi?.restore(adapter as PvscsiState),
        ];
        return waits.some((wait) => wait) ? Promise.all(waits).then(() => {}) : undefined;
      },
    });
  }

  get #hasDisk(): boolean {
    const { ide = [], virtio = [], pvscsi = [] } = this.#options;
    const hard = (drive: IdeDrive | null | undefined) => drive && !("cd" in drive) && !("packet" in drive);
    return virtio.length > 0 || pvscsi.length > 0 || ide.flat().some(hard);
  }

  close(): Later<void> {
    this.#stopWaiting();
    const { ide, virtio, pvscsi, machine } = this;
    this.ide = null;
    this.virtio = [];
    this.pvscsi = null;
    this.machine = null;
    const waits = [ide, pvscsi, ...virtio].map((each) => each?.close());
    this.#leaveState();
    machine?.detach();
    const cpu = cpuOf(this.#emulator);
    if (cpu) attached.delete(cpu);
    if (waits.some((wait) => wait)) return Promise.all(waits).then(() => {});
  }
}
disposable(Attachment.prototype);

const attached = new WeakSet<V86Cpu>();

/** The same disk, alone or with its options, over a block that bears the growth of v86's memory; anything else as it is. */
function steady<T extends object>(drive: T, memory: GuestMemory): T {
  if ("submit" in drive) return new SteadyBlock(drive as unknown as Block, memory) as unknown as T;
  return "block" in drive && drive.block ? { ...drive, block: new SteadyBlock(drive.block as Block, memory) } : drive;
}

/** What is put into a removable drive later is as steady as what was in it. */
function steadySlots(controller: IdeController, memory: GuestMemory): IdeController {
  const slotOf = controller.cartridge.bind(controller);
  const cartridge: IdeController["cartridge"] = (channel, drive) => {
    const slot = slotOf(channel, drive);
    const { insert } = slot;
    return Object.assign(slot, { insert: (block: Block) => insert(new SteadyBlock(block, memory)) });
  };
  return Object.assign(controller, { cartridge });
}
