import { AtaPort, AtaRegister } from "../../../../assembly/spec/ata.ts";
import type { Block } from "../../../core/block.ts";
import { disposable } from "../../../core/dispose.ts";
import type { Later } from "../../../core/flow.ts";
import type { Device, Machine, PciFunction, PortDevice, Release } from "../../../core/machine.ts";
import type { AtaRegisters } from "../../../hypervisor/ata-registers.ts";
import { IdeDisk } from "./ata/disk.ts";
import type { IdeDriveOptions } from "./ata/options.ts";
import { IdeChannel } from "./channel.ts";
import type { IdeDevice, PacketDevice } from "./device.ts";
import { PacketDrive } from "./packet.ts";

/** A disk, alone or with the identity it presents; or a packet device. */
export type IdeDrive = Block | IdeDriveOptions | { packet: PacketDevice };

export interface IdeOptions {
  /** Primary and secondary channel; on each, drive 0 and drive 1. */
  drives: readonly (readonly (IdeDrive | null | undefined)[] | undefined)[];
  /** PCI device number; the first free one when absent. */
  slot?: number;
}

export interface IdeController extends Device {
  /** The registers of the primary and the secondary channel, for a driver that does not trap. */
  readonly channels: readonly [AtaRegisters, AtaRegisters];
  /** Bytes that went through the data ports so far; each is one more copy than DMA makes. */
  readonly portBytes: number;
}

/** 82371SB (PIIX3) data sheet §2.3.1: where its bus-master registers stand until the guest moves BAR 4. */
const BUS_MASTER_BASE = 0xc000;

/** A PIIX3-style IDE function: 8086:7010, class 01 01, both channels at their legacy ports, bus master in BAR 4. */
class PiixIde implements IdeController {
  declare readonly [Symbol.asyncDispose]: () => Promise<void>;
  readonly channels: readonly [IdeChannel, IdeChannel];
  readonly #function: PciFunction;
  readonly #releases: Release[] = [];

  constructor(machine: Machine, options: IdeOptions) {
    const channel = (index: number, line: number) =>
      new IdeChannel(
        machine,
        line,
        [0, 1].map((drive) => deviceOf(options.drives[index]?.[drive], index * 2 + drive)),
        () => this.#masters,
      );
    this.channels = [channel(0, AtaPort.PrimaryInterrupt), channel(1, AtaPort.SecondaryInterrupt)];
    const [primary, secondary] = this.channels;
    this.#function = machine.pci.attach({
      ...(options.slot === undefined ? {} : { slot: options.slot }),
      vendor: 0x8086,
      device: 0x7010,
      // Programming interface 80h: legacy channels, bus master.
      classCode: 0x010180,
      bars: [null, null, null, null, { kind: "io", size: 16, base: BUS_MASTER_BASE, device: this.#busMaster() }],
    });
    try {
      const register = (base: number, length: number, at: IdeChannel, first: AtaRegister) =>
        this.#releases.push(machine.ports.register(base, length, window(at, base, first)));
      register(AtaPort.PrimaryCommand, 8, primary, AtaRegister.Data);
      register(AtaPort.PrimaryControl, 1, primary, AtaRegister.Control);
      register(AtaPort.SecondaryCommand, 8, secondary, AtaRegister.Data);
      register(AtaPort.SecondaryControl, 1, secondary, AtaRegister.Control);
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

  close(): Later<void> {
    this.#detach();
    const ending = this.channels.map((each) => each.close()).filter((later) => later instanceof Promise);
    return ending.length > 0 ? Promise.all(ending).then(() => undefined) : undefined;
  }

  get #masters(): boolean {
    return this.#function.busMaster;
  }

  #detach(): void {
    for (const release of this.#releases.splice(0)) release();
    this.#function.detach();
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

function deviceOf(drive: IdeDrive | null | undefined, index: number): IdeDevice | null {
  if (!drive) return null;
  if ("packet" in drive) return new PacketDrive(drive.packet);
  return new IdeDisk("block" in drive ? drive : { block: drive }, index);
}

/**
 * Plugs an IDE controller with these disks into a machine.
 * @throws ParavaneError EXISTS (its ports are taken), UNSUPPORTED (sector size), INVALID (a drive's strings), NO_SPACE
 */
export function attachIde(machine: Machine, options: IdeOptions): IdeController {
  return new PiixIde(machine, options);
}
