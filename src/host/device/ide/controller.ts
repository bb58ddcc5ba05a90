import { AtaPort, AtaRegister } from "../../../../assembly/spec/ata.ts";
import type { Block } from "../../../core/block.ts";
import { disposable } from "../../../core/dispose.ts";
import { ParavaneError } from "../../../core/error.ts";
import type { Later } from "../../../core/flow.ts";
import type { Device, InterruptLine, IoBar, Machine, PciFunction, PortDevice, Release } from "../../../core/machine.ts";
import type { AtaRegisters } from "../../../hypervisor/ata-registers.ts";
import { IdeDisk } from "./ata/disk.ts";
import type { IdeDriveOptions } from "./ata/options.ts";
import type { Cartridge } from "./ata/removable.ts";
import { CdDrive } from "./atapi/drive.ts";
import type { CdDriveOptions, Tray } from "./atapi/options.ts";
import { IdeChannel } from "./channel.ts";
import type { IdeDevice, PacketDevice } from "./device.ts";
import { PacketDrive } from "./packet.ts";
import type { IdeState } from "./save.ts";

/** A disk, alone or with the identity it presents; a CD or DVD drive; or a packet device of one's own. */
export type IdeDrive = Block | IdeDriveOptions | CdDriveOptions | { packet: PacketDevice };

export interface IdeOptions {
  /** Primary and secondary channel; on each, drive 0 and drive 1. */
  drives: readonly (readonly (IdeDrive | null | undefined)[] | undefined)[];
  /** PCI device number; the first free one when absent. */
  slot?: number;
  /** Which of Intel's functions it is: 8086:7010 or 8086:7111. Default `piix3`. */
  model?: "piix3" | "piix4";
  /**
   * `legacy`, the default: the channels stand at 1F0h and 170h and raise lines 14 and 15. `native` (PCI IDE Controller
   * Specification 1.0): they stand where BARs 0 to 3 say and share INTA#, wired to that legacy line.
   */
  mode?: "legacy" | { native: { interrupt: number } };
  /**
   * What a channel without drives reads as: 0, the default, as QEMU's does; 7Fh, as VirtualBox's, whose data line 7 is pulled
   * down and the others up; or FFh, a bus that nothing drives.
   */
  emptyChannel?: 0x00 | 0x7f | 0xff;
}

export interface IdeController extends Device {
  /** The registers of the primary and the secondary channel, for a driver that does not trap. */
  readonly channels: readonly [AtaRegisters, AtaRegisters];
  /** Bytes that went through the data ports so far; each is one more copy than DMA makes. */
  readonly portBytes: number;
  /** The tray of the CD drive at that place. @throws ParavaneError NOT_FOUND */
  tray(channel: 0 | 1, drive: 0 | 1): Tray;
  /** The slot of the removable disk drive at that place. @throws ParavaneError NOT_FOUND */
  cartridge(channel: 0 | 1, drive: 0 | 1): Cartridge;
  /** Does a command wait, under the error policy `stop`, for `resume`? */
  readonly stopped: boolean;
  /** Tries every stopped command again. */
  resume(): void;
  /**
   * The controller with its devices at this moment, commands under way included: plain data that survives JSON. Disk
   * contents, guest memory and PCI configuration are the machine's to save.
   */
  save(): IdeState;
  /**
   * Goes on where `save` was called, on a controller with the same drives over the same contents; what was under way is
   * begun again. Waits, where there is need, for what this controller has in flight. @throws ParavaneError INVALID
   */
  restore(state: IdeState): Later<void>;
}

/** 82371SB (PIIX3) data sheet §2.3.1: where its bus-master registers stand until the guest moves BAR 4. */
const BUS_MASTER_BASE = 0xc000;
/** Where BARs 0 to 3 stand in native mode until the guest moves them: command block and control block of each channel. */
const NATIVE_BASES = [0xc100, 0xc110, 0xc120, 0xc130] as const;
/** PCI IDE Controller Specification §2.4: the control register's place in its block of four. */
const CONTROL_OFFSET = 2;

/**
 * 82371SB data sheet §2.3.9, IDETIM: both channels decoded, as firmware leaves them; and 82371AB §4.1.11 on, slave and Ultra
 * DMA timing. They change nothing here, but a driver looks at what it has written, and for the decode bits.
 */
const TIMING = {
  offset: 0x40,
  bytes: [0x00, 0x80, 0x00, 0x80, 0, 0, 0, 0, 0, 0, 0, 0],
  writable: [0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0x0f, 0, 0x33, 0x33],
};

/** A PIIX IDE function: two channels, their bus masters in BAR 4. */
class PiixIde implements IdeController {
  declare readonly [Symbol.asyncDispose]: () => Promise<void>;
  readonly channels: readonly [IdeChannel, IdeChannel];
  readonly #function: PciFunction;
  readonly #devices: (IdeDevice | null)[];
  readonly #releases: Release[] = [];
  /** What each channel asks of INTA#, in native mode. */
  readonly #asserted = [false, false];

  constructor(machine: Machine, options: IdeOptions) {
    const native = typeof options.mode === "object" ? options.mode.native : null;
    this.#devices = [0, 1, 2, 3].map((i) => deviceOf(machine, options.drives[i >> 1]?.[i & 1], i));
    const channel = (index: number, legacy: number) =>
      new IdeChannel(
        machine,
        native?.interrupt ?? legacy,
        native ? this.#share(index) : machine.interrupt(legacy),
        this.#devices.slice(index * 2, index * 2 + 2),
        () => this.#function.busMaster,
        options.emptyChannel ?? 0,
      );
    this.channels = [channel(0, AtaPort.PrimaryInterrupt), channel(1, AtaPort.SecondaryInterrupt)];
    const bars = native ? this.#nativeBars() : [null, null, null, null];
    this.#function = machine.pci.attach({
      ...(options.slot === undefined ? {} : { slot: options.slot }),
      ...(native ? { interrupt: native.interrupt } : {}),
      vendor: 0x8086,
      device: options.model === "piix4" ? 0x7111 : 0x7010,
      // Programming interface: bus master; and each channel in native mode.
      classCode: native ? 0x010185 : 0x010180,
      bars: [...bars, { kind: "io", size: 16, base: BUS_MASTER_BASE, device: this.#busMaster() }],
      registers: [TIMING],
    });
    try {
      if (!native) this.#legacyPorts(machine);
    } catch (error) {
      this.#detach();
      throw error;
    }
    const reset = () => {
      for (const each of this.channels) each.reset();
    };
    this.#releases.push(machine.onReset(reset));
  }

  get portBytes(): number {
    return this.channels[0].portBytes + this.channels[1].portBytes;
  }

  tray(channel: 0 | 1, drive: 0 | 1): Tray {
    const device = this.#devices[channel * 2 + drive];
    if (device instanceof PacketDrive && device.device instanceof CdDrive) return device.device;
    throw new ParavaneError("NOT_FOUND", `drive ${drive} of channel ${channel} is no CD drive`, { channel, drive });
  }

  cartridge(channel: 0 | 1, drive: 0 | 1): Cartridge {
    const device = this.#devices[channel * 2 + drive];
    if (device instanceof IdeDisk && device.cartridge) return device.cartridge;
    throw new ParavaneError("NOT_FOUND", `drive ${drive} of channel ${channel} has no removable medium`, {
      channel,
      drive,
    });
  }

  get stopped(): boolean {
    return this.#devices.some((device) => device?.stopped);
  }

  resume(): void {
    for (const device of this.#devices) device?.resume?.();
  }

  save(): IdeState {
    return { version: 1, channels: this.channels.map((channel) => channel.save()) };
  }

  restore(state: IdeState): Later<void> {
    if (state.version !== 1 || state.channels?.length !== 2) {
      throw new ParavaneError("INVALID", `this is no saved IDE controller of version 1`, { version: state.version });
    }
    const waiting = this.channels.map((channel, i) => channel.restore(state.channels[i]));
    if (waiting.some((each) => each instanceof Promise)) return Promise.all(waiting).then(() => undefined);
  }

  close(): Later<void> {
    this.#detach();
    const ending = this.channels.map((each) => each.close()).filter((later) => later instanceof Promise);
    return ending.length > 0 ? Promise.all(ending).then(() => undefined) : undefined;
  }

  #detach(): void {
    for (const release of this.#releases.splice(0)) release();
    this.#function.detach();
  }

  /** One channel's part of INTA#. */
  #share(index: number): InterruptLine {
    return {
      set: (asserted) => {
        this.#asserted[index] = asserted;
        this.#function?.interrupt.set(this.#asserted.includes(true));
      },
    };
  }

  #legacyPorts(machine: Machine): void {
    const register = (base: number, length: number, device: PortDevice) =>
      this.#releases.push(machine.ports.register(base, length, device));
    const bases = [
      [AtaPort.PrimaryCommand, AtaPort.PrimaryControl],
      [AtaPort.SecondaryCommand, AtaPort.SecondaryControl],
    ];
    this.channels.forEach((channel, i) => {
      const [command, control] = bases[i];
      // The data port is a window of its own, so that a machine can bind it straight (PortStream).
      register(command, 1, channel.data);
      register(command + 1, 7, window(channel, command + 1, AtaRegister.Error));
      register(control, 1, window(channel, control, AtaRegister.Control));
    });
  }

  #nativeBars(): IoBar[] {
    return NATIVE_BASES.map((base, i): IoBar => {
      const channel = this.channels[i >> 1];
      if ((i & 1) === 0) return { kind: "io", size: 8, base, device: window(channel, base, AtaRegister.Data) };
      const at = base + CONTROL_OFFSET;
      const control = window(channel, at, AtaRegister.Control);
      const device: PortDevice = {
        readPort: (port, width) => (port === at ? control.readPort(port, width) : 2 ** (8 * width) - 1),
        writePort: (port, width, value) => {
          if (port === at) control.writePort(port, width, value);
        },
      };
      return { kind: "io", size: 4, base, device };
    });
  }

  /** BAR 4: eight bytes for each channel. */
  #busMaster(): PortDevice {
    const of = (port: number) => this.channels[(port - BUS_MASTER_BASE) >> 3];
    return {
      readPort: (port, width) => of(port).read((AtaRegister.BmCommand + (port & 7)) as AtaRegister, width),
      writePort: (port, width, value) =>
        of(port).write((AtaRegister.BmCommand + (port & 7)) as AtaRegister, width, value),
    };
  }
}
disposable(PiixIde.prototype);

function window(channel: IdeChannel, base: number, first: AtaRegister): PortDevice {
  return {
    readPort: (port, width) => channel.read((first + port - base) as AtaRegister, width),
    writePort: (port, width, value) => channel.write((first + port - base) as AtaRegister, width, value),
  };
}

function deviceOf(machine: Machine, drive: IdeDrive | null | undefined, index: number): IdeDevice | null {
  if (!drive) return null;
  // First of all: a filter may well call what it lies over its block.
  if ("submit" in drive) return new IdeDisk({ block: drive }, index);
  if ("cd" in drive) return new PacketDrive(new CdDrive(drive, machine.clock, index));
  if ("packet" in drive) return new PacketDrive(drive.packet);
  return new IdeDisk(drive, index);
}

/**
 * Plugs an IDE controller with these drives into a machine.
 * @throws ParavaneError EXISTS (its ports are taken), UNSUPPORTED (sector size), INVALID (a drive's strings), NO_SPACE
 */
export function attachIde(machine: Machine, options: IdeOptions): IdeController {
  return new PiixIde(machine, options);
}
