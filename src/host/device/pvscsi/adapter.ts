import { Asc } from "../../../../assembly/spec/mmc.ts";
import {
  HostStatus,
  PvscsiCommandStatus,
  PvscsiInterrupt,
  PvscsiMessageType,
  PvscsiPci,
  PvscsiRegister,
  PvscsiSetupMessages,
} from "../../../../assembly/spec/pvscsi.ts";
import { BlockAsc } from "../../../../assembly/spec/scsi.ts";
import { ParavaneError } from "../../../core/error.ts";
import type { Later } from "../../../core/flow.ts";
import type { Machine, MmioDevice, PciFunction, Release, Width } from "../../../core/machine.ts";
import type { ScsiDisk } from "../scsi/disk.ts";
import { type AdapterCommand, CommandPort } from "./command-port.ts";
import { configPage } from "./config-page.ts";
import { CommandQueue } from "./queue.ts";
import { checkState, type PvscsiState, restoreTask, saveTask } from "./save.ts";

/** Targets are numbered in one byte of the request. */
const TARGETS = 64;
const MESSAGE_WORDS = PvscsiSetupMessages.Size / 4;

export interface AdapterPlace {
  /** Device number; the first free one when absent. */
  slot?: number;
  /** INTA#'s interrupt line, where the machine leaves the choice to the device. */
  interrupt: number;
  /** Where BAR 0, 32 KiB of memory space, starts out. */
  memory: number;
}

/** The adapter's PCI function: its registers, its interrupt, the commands of its command register. */
export class PvscsiAdapter implements MmioDevice {
  readonly #machine: Machine;
  readonly #function: PciFunction;
  readonly #queue: CommandQueue;
  readonly #port = new CommandPort();
  readonly #release: Release;
  #commandStatus: number = PvscsiCommandStatus.Succeeded;
  #interruptStatus = 0;
  #interruptMask = 0;

  /** @throws ParavaneError EXISTS (the slot is taken), NO_SPACE */
  constructor(machine: Machine, place: AdapterPlace) {
    this.#machine = machine;
    this.#queue = new CommandQueue(machine.memory, () => this.#raise(PvscsiInterrupt.Completion));
    this.#function = machine.pci.attach({
      ...(place.slot === undefined ? {} : { slot: place.slot }),
      vendor: PvscsiPci.Vendor,
      device: PvscsiPci.Device,
      classCode: PvscsiPci.ClassCode,
      revision: PvscsiPci.Revision,
      subsystemVendor: PvscsiPci.Vendor,
      subsystem: PvscsiPci.Device,
      interrupt: place.interrupt,
      bars: [{ kind: "memory", size: PvscsiPci.BarSize, base: place.memory, device: this }],
    });
    this.#release = machine.onReset(() => this.#powerOn());
  }

  /** @throws ParavaneError EXISTS, INVALID */
  plug(target: number, disk: ScsiDisk): void {
    if (!Number.isInteger(target) || target < 0 || target >= TARGETS)
      throw new ParavaneError("INVALID", `there is no target ${target}: they are 0 to ${TARGETS - 1}`, { target });
    const { targets } = this.#queue;
    if (targets.has(target)) throw new ParavaneError("EXISTS", `target ${target} has a disk already`, { target });
    targets.set(target, disk);
    this.#tell(PvscsiMessageType.Added, target);
  }

  /** The end of what the disk still does. @throws ParavaneError NOT_FOUND */
  unplug(target: number): Later<void> {
    this.#disk(target);
    this.#queue.targets.delete(target);
    this.#tell(PvscsiMessageType.Removed, target);
    return this.#queue.idle;
  }

  /** @throws ParavaneError NOT_FOUND */
  resized(target: number): void {
    this.#disk(target).resized();
  }

  readMmio(offset: number, width: Width): number {
    const value = this.#read(offset & ~3);
    return width === 4 ? value : (value >>> (8 * (offset & 3))) & (width === 2 ? 0xffff : 0xff);
  }

  /** Registers are words: a narrower write does nothing. */
  writeMmio(offset: number, width: Width, value: number): void {
    if (width !== 4) return;
    switch (offset) {
      case PvscsiRegister.Command:
        this.#commandStatus = PvscsiCommandStatus.Failed;
        this.#execute(this.#port.begin(value));
        break;
      case PvscsiRegister.CommandData:
        this.#execute(this.#port.data(value));
        break;
      case PvscsiRegister.InterruptStatus:
        this.#interruptStatus &= ~value;
        this.#drive();
        break;
      case PvscsiRegister.InterruptMask:
        this.#interruptMask = value & PvscsiInterrupt.All;
        this.#drive();
        break;
      case PvscsiRegister.KickOther:
      case PvscsiRegister.KickReadWrite:
        // Without mastering there is no reaching the rings.
        if (this.#function.busMaster) this.#queue.pump();
        break;
    }
  }

  save(): PvscsiState {
    const { memory } = this.#machine;
    return {
      version: 1,
      commandStatus: this.#commandStatus,
      command: this.#port.command,
      words: [...this.#port.words],
      interruptStatus: this.#interruptStatus,
      interruptMask: this.#interruptMask,
      rings: this.#queue.rings.save(),
      attentions: Array.from(this.#queue.targets, ([target, { attention }]) => [target, attention]),
      tasks: this.#queue.inFlight.map((task) => saveTask(task, memory)),
    };
  }

  restore(state: PvscsiState): Later<void> {
    checkState(state, this.#machine.memory);
    this.#queue.abandon();
    const { idle } = this.#queue;
    return idle ? idle.then(() => this.#load(state)) : this.#load(state);
  }

  close(): Later<void> {
    this.#release();
    this.#queue.abandon();
    this.#interruptStatus = 0;
    this.#function.detach();
    return this.#queue.idle;
  }

  #load(state: PvscsiState): void {
    const { memory } = this.#machine;
    const { rings, targets } = this.#queue;
    this.#commandStatus = state.commandStatus;
    this.#port.command = state.command;
    this.#port.words = [...state.words];
    this.#interruptStatus = state.interruptStatus;
    this.#interruptMask = state.interruptMask & PvscsiInterrupt.All;
    rings.restore(state.rings, state.tasks.length);
    // What is begun again was begun before there was anything to be told.
    for (const disk of targets.values()) disk.attention = 0;
    const tasks = state.tasks.map((task) => restoreTask(task, memory, rings.core.u8));
    this.#queue.restart(tasks, () => {
      for (const [target, code] of state.attentions) {
        const disk = targets.get(target);
        if (disk) disk.attention = code;
      }
    });
    this.#drive();
  }

  #read(offset: number): number {
    switch (offset) {
      case PvscsiRegister.CommandStatus:
        return this.#commandStatus;
      case PvscsiRegister.InterruptStatus:
        return this.#interruptStatus;
      case PvscsiRegister.InterruptMask:
        return this.#interruptMask;
      default:
        return 0;
    }
  }

  /** Null: words of the descriptor are still to come. */
  #execute(command: AdapterCommand | null): void {
    if (command) this.#commandStatus = this.#carryOut(command);
    else if (this.#port.missing === MESSAGE_WORDS) this.#commandStatus = MESSAGE_WORDS;
    else if (this.#port.missing > 0) this.#commandStatus = PvscsiCommandStatus.MoreData;
  }

  #carryOut(command: AdapterCommand): number {
    const { rings, targets } = this.#queue;
    const succeeded = (well: boolean) => (well ? PvscsiCommandStatus.Succeeded : PvscsiCommandStatus.Failed);
    switch (command.kind) {
      case "reset adapter":
        this.#queue.abandon();
        this.#interruptStatus = 0;
        this.#resetTargets(BlockAsc.BusReset);
        this.#drive();
        return PvscsiCommandStatus.Succeeded;
      case "reset bus":
        this.#queue.end(() => true, HostStatus.BusReset);
        this.#resetTargets(BlockAsc.BusReset);
        return PvscsiCommandStatus.Succeeded;
      case "reset device":
        this.#queue.end(({ target }) => target === command.target, HostStatus.BusReset);
        targets.get(command.target)?.reset(BlockAsc.BusDeviceReset);
        return succeeded(targets.has(command.target));
      case "abort": {
        const [low, high] = command.context;
        this.#queue.end(({ context }) => context[0] === low && context[1] === high, HostStatus.Aborted);
        return PvscsiCommandStatus.Succeeded;
      }
      case "rings":
        this.#queue.abandon();
        return succeeded(this.#function.busMaster && rings.setUp(command.state, command.requests, command.completions));
      case "messages":
        return this.#function.busMaster && rings.setUpMessages(command.pages)
          ? MESSAGE_WORDS
          : PvscsiCommandStatus.Failed;
      case "config":
        return succeeded(this.#function.busMaster && this.#config(command));
      case "refused":
        return PvscsiCommandStatus.Failed;
    }
  }

  #config({ address, pageAddress, page }: AdapterCommand & { kind: "config" }): boolean {
    const { memory } = this.#machine;
    const bytes = configPage(pageAddress, page, Math.max(0, ...this.#queue.targets.keys()) + 1);
    if (!bytes || address + bytes.length > memory.size) return false;
    memory.touch(memory.base + address, bytes.length);
    memory.linear.set(bytes, memory.base + address);
    return true;
  }

  /** Tells a driver that has a message ring; one that has none looks when it likes. */
  #tell(type: PvscsiMessageType, target: number): void {
    const { core, address } = this.#queue.rings;
    if (core.call.pvscsiMessage(address, type, target) !== 0) this.#raise(PvscsiInterrupt.Message);
  }

  #disk(target: number): ScsiDisk {
    const disk = this.#queue.targets.get(target);
    if (!disk) throw new ParavaneError("NOT_FOUND", `target ${target} has no disk`, { target });
    return disk;
  }

  #resetTargets(code: Asc | BlockAsc): void {
    for (const disk of this.#queue.targets.values()) disk.reset(code);
  }

  #powerOn(): void {
    this.#queue.abandon();
    this.#port.begin(0);
    this.#commandStatus = PvscsiCommandStatus.Succeeded;
    this.#interruptStatus = 0;
    this.#interruptMask = 0;
    this.#resetTargets(Asc.PowerOnReset);
    this.#drive();
  }

  #raise(cause: PvscsiInterrupt): void {
    this.#interruptStatus |= cause;
    this.#drive();
  }

  #drive(): void {
    this.#function.interrupt.set((this.#interruptStatus & this.#interruptMask) !== 0);
  }
}
