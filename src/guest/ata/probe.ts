import {
  AtaCommand,
  AtaControl,
  AtaDevice,
  AtaError,
  AtaFeature,
  AtaRegister,
  AtaSignature,
  AtaStatus,
  AtaTransfer,
} from "../../../assembly/spec/ata.ts";
import { ParavaneError } from "../../core/error.ts";
import type { AtaRegisters } from "../../hypervisor/ata-registers.ts";
import type { GuestCpu } from "../../hypervisor/machine.ts";
import { AtapiDrive } from "../atapi.ts";
import { AtaChannel } from "./channel.ts";
import { AtaDisk } from "./disk.ts";
import { type DriveIdentity, parseIdentify } from "./identify.ts";
import { enableBusMaster, TrappedAtaRegisters } from "./registers.ts";
import { deviceBits, plainTaskfile } from "./taskfile.ts";

export interface AtaProbeOptions {
  mode: "pio" | "dma";
  /** 0 is the primary channel. */
  channel?: 0 | 1;
  /** How to reach the registers; trapping port accesses when absent. */
  registers?: AtaRegisters;
  /** Bytes of one access to the data port; default 2, as libata has it without PIO32. */
  dataWidth?: 2 | 4;
  /** Use READ and WRITE MULTIPLE when the drive has them set up; default true. */
  multiple?: boolean;
}

/** ATA/ATAPI-6 §9.2: a host looks at Status 2 ms after a reset at the earliest. */
const RESET_MS = 2;
/** A drive may take this long to be ready after a reset (§9.2), in milliseconds. */
const READY_MS = 31_000;
const POLL_MS = 1;
/** Looks at the status register before a driver sleeps between them. */
const EAGER_POLLS = 300;

/**
 * Looks for disks on one channel as libata does: register test, soft reset, signatures, IDENTIFY, transfer mode. The
 * drivers it returns share the channel; it is let go when all of them are closed.
 * @throws ParavaneError NOT_FOUND (no IDE function on the PCI bus), IO (a drive stays busy)
 */
export async function probeAta(cpu: GuestCpu, options: AtaProbeOptions): Promise<AtaDisk[]> {
  const found = await probe(cpu, options, [AtaSignature.Disk]);
  return found.filter((each) => each instanceof AtaDisk);
}

/**
 * The same for disks and packet devices, which may share the channel. What a packet device holds is not looked at yet.
 * @throws ParavaneError NOT_FOUND, IO
 */
export function probeIde(cpu: GuestCpu, options: AtaProbeOptions): Promise<(AtaDisk | AtapiDrive)[]> {
  return probe(cpu, options, [AtaSignature.Disk, AtaSignature.Packet]);
}

async function probe(
  cpu: GuestCpu,
  options: AtaProbeOptions,
  kinds: readonly AtaSignature[],
): Promise<(AtaDisk | AtapiDrive)[]> {
  const busMaster = enableBusMaster(cpu);
  if (busMaster === undefined) throw new ParavaneError("NOT_FOUND", "there is no IDE controller on the PCI bus");
  const index = options.channel ?? 0;
  const registers = options.registers ?? new TrappedAtaRegisters(cpu, index, busMaster);
  const channel = new AtaChannel(cpu, registers, options.dataWidth ?? 2);
  const drives: (AtaDisk | AtapiDrive)[] = [];
  let open = 0;
  const closed = () => {
    if (--open === 0) channel.close();
  };
  try {
    for (const { drive, kind, identity } of await new Probe(cpu, channel).run(options.mode, kinds)) {
      const name = `ata${index}.${drive}`;
      if (kind === AtaSignature.Packet) {
        const mode = identity.dma ? options.mode : "pio";
        drives.push(new AtapiDrive(cpu, channel, identity, { drive, mode }, name, closed));
        continue;
      }
      const able = {
        drive,
        lba48: identity.lba48,
        mode: options.mode === "dma" && identity.dma ? options.mode : ("pio" as const),
        multiple: options.multiple === false ? 0 : identity.multiple,
      };
      drives.push(new AtaDisk(channel, identity, able, name, closed));
    }
  } catch (error) {
    channel.close();
    throw error;
  }
  open = drives.length;
  if (open === 0) channel.close();
  return drives;
}

interface Found {
  drive: number;
  kind: AtaSignature;
  identity: DriveIdentity;
}

/** One look at a channel, by polling, its interrupt off. */
class Probe {
  readonly #cpu: GuestCpu;
  readonly #channel: AtaChannel;
  readonly #registers: AtaRegisters;

  constructor(cpu: GuestCpu, channel: AtaChannel) {
    this.#cpu = cpu;
    this.#channel = channel;
    this.#registers = channel.registers;
  }

  async run(mode: "pio" | "dma", kinds: readonly AtaSignature[]): Promise<Found[]> {
    // ata_sff_prereset: a drive at work on an old request is given time.
    await this.#ready();
    const candidates = [0, 1].filter((drive) => this.#isThere(drive));
    if (candidates.length === 0) return [];
    await this.#reset();
    // Signatures first: both drives hear every write to the task file, so a command for one spoils the other's.
    const signatures: (AtaSignature | undefined)[] = [];
    for (const drive of candidates) signatures.push(await this.#classify(drive));
    const found: Found[] = [];
    for (const [i, drive] of candidates.entries()) {
      const kind = signatures[i];
      if (kind === undefined || !kinds.includes(kind)) continue;
      const code = kind === AtaSignature.Disk ? AtaCommand.Identify : AtaCommand.IdentifyPacket;
      const first = await this.#identify(drive, code);
      if (!first) continue;
      const wanted = mode === "dma" && first.dma ? first.fastestDma : AtaTransfer.PioFlow | 4;
      await this.#command(plainTaskfile(drive, AtaCommand.SetFeatures, AtaFeature.SetTransferMode, wanted));
      found.push({ drive, kind, identity: (await this.#identify(drive, code)) ?? first });
    }
    // Interrupts on, with nothing left over from the polled commands.
    this.#registers.read(AtaRegister.Status, 1);
    this.#registers.write(AtaRegister.BmStatus, 1, this.#registers.read(AtaRegister.BmStatus, 1));
    this.#registers.write(AtaRegister.Control, 1, 0);
    return found;
  }

  /** ata_devchk: two registers that hold what is written to them. */
  #isThere(drive: number): boolean {
    const registers = this.#registers;
    registers.write(AtaRegister.Device, 1, deviceBits(drive));
    this.#channel.pause();
    for (const [count, low] of [
      [0x55, 0xaa],
      [0xaa, 0x55],
      [0x55, 0xaa],
    ]) {
      registers.write(AtaRegister.Count, 1, count);
      registers.write(AtaRegister.LbaLow, 1, low);
    }
    return registers.read(AtaRegister.Count, 1) === 0x55 && registers.read(AtaRegister.LbaLow, 1) === 0xaa;
  }

  /** ata_bus_softreset. */
  async #reset(): Promise<void> {
    const registers = this.#registers;
    registers.write(AtaRegister.Control, 1, AtaControl.InterruptDisable);
    registers.write(AtaRegister.Control, 1, AtaControl.InterruptDisable | AtaControl.SoftwareReset);
    registers.write(AtaRegister.Control, 1, AtaControl.InterruptDisable);
    await this.#sleep(RESET_MS);
    await this.#ready();
  }

  /** ata_sff_dev_classify. */
  async #classify(drive: number): Promise<AtaSignature | undefined> {
    const registers = this.#registers;
    registers.write(AtaRegister.Device, 1, deviceBits(drive) & (AtaDevice.Obsolete | AtaDevice.Second));
    this.#channel.pause();
    const status = await this.#ready();
    const passed = registers.read(AtaRegister.Error, 1) & 0x7f;
    if (passed !== AtaError.DiagnosticPassed) return undefined;
    const signature = registers.read(AtaRegister.LbaMid, 1) | (registers.read(AtaRegister.LbaHigh, 1) << 8);
    if (signature === AtaSignature.Packet) return AtaSignature.Packet;
    return signature === AtaSignature.Disk && status !== 0 ? AtaSignature.Disk : undefined;
  }

  async #identify(drive: number, code: number): Promise<DriveIdentity | undefined> {
    const status = await this.#command(plainTaskfile(drive, code));
    if ((status & (AtaStatus.Error | AtaStatus.DataRequest)) !== AtaStatus.DataRequest) return undefined;
    const words = new Uint16Array(256);
    for (let i = 0; i < 256; i++) words[i] = this.#registers.read(AtaRegister.Data, 2);
    this.#channel.waitIdle();
    return parseIdentify(words);
  }

  /** Issues a command and polls for its answer: the status. */
  async #command(taskfile: ReturnType<typeof plainTaskfile>): Promise<number> {
    this.#channel.select(taskfile.device);
    this.#channel.load(taskfile);
    this.#channel.execute(taskfile.command);
    return this.#ready();
  }

  /** Status once BSY is clear; all ones when nobody drives the bus. */
  async #ready(): Promise<number> {
    const end = this.#cpu.clock.now() + READY_MS;
    for (let looks = 0; ; looks++) {
      const status = this.#registers.read(AtaRegister.Status, 1);
      if ((status & AtaStatus.Busy) === 0 || status === 0xff) return status;
      if (looks < EAGER_POLLS) continue;
      if (this.#cpu.clock.now() > end) throw new ParavaneError("IO", "an ATA drive stays busy");
      await this.#sleep(POLL_MS);
    }
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.#cpu.clock.after(ms, resolve));
  }
}
