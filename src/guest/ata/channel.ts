import {
  AtaControl,
  AtaDevice,
  AtaError,
  AtaRegister,
  AtaStatus,
  BmCommand,
  BmStatus,
} from "../../../assembly/spec/ata.ts";
import { type BlockRequest, Status } from "../../core/block.ts";
import { type ErrorCode, ParavaneError } from "../../core/error.ts";
import type { Release } from "../../core/machine.ts";
import type { AtaRegisters } from "../../hypervisor/ata-registers.ts";
import type { GuestCpu } from "../../hypervisor/machine.ts";
import { DataPort } from "./data-port.ts";
import { PrdTable } from "./prd-table.ts";
import type { Taskfile } from "./taskfile.ts";

/** A command with its data and what to do when it ends. */
export interface Command {
  taskfile: Taskfile;
  /** Its segments hold the data. */
  request: BlockRequest;
  /** Bytes of one DRQ block (PIO). */
  block: number;
  /** PACKET: the twelve bytes that the device is sent, and what became of them. The device says how much it moves. */
  packet?: PacketExchange;
  done(request: BlockRequest): void;
}

export interface PacketExchange {
  bytes: Uint8Array;
  /** Bytes moved by PIO. */
  moved: number;
  /** The Error register of a CHECK CONDITION, or 0. */
  error: number;
}

/** Reads of the status register before a busy device counts as stuck; libata waits as many times 10 µs. */
const IDLE_READS = 1000;
/** Milliseconds between looks at a device that works at something. */
const POLL_MS = 1;

/**
 * One channel as libata drives it: the register sequences of libata-sff.c and its BMDMA part, one command at a time,
 * completion by interrupt. Counted in traps they cost 26 for a DMA command with a 28-bit address, 31 with a 48-bit one.
 */
export class AtaChannel {
  readonly registers: AtaRegisters;
  readonly prds: PrdTable;
  readonly #cpu: GuestCpu;
  readonly #port: DataPort;
  readonly #unhook: Release;
  readonly #waiting: Command[] = [];
  #active: Command | null = null;
  /** Bytes of PIO data still to move. */
  #left = 0;

  constructor(cpu: GuestCpu, registers: AtaRegisters, dataWidth: 2 | 4) {
    this.registers = registers;
    this.#cpu = cpu;
    this.#port = new DataPort(registers, cpu.ram, dataWidth);
    this.prds = new PrdTable(cpu.ram);
    this.#unhook = cpu.onInterrupt(registers.interruptLine, () => this.#interrupt());
  }

  /** Starts a command, or queues it behind the one under way. */
  submit(command: Command): void {
    if (this.#active) this.#waiting.push(command);
    else this.#start(command);
  }

  /** Switches the channel's interrupt off and gives its memory back. */
  close(): void {
    this.registers.write(AtaRegister.Control, 1, AtaControl.InterruptDisable);
    this.#unhook();
    this.prds.free();
  }

  /** ata_sff_qc_issue and ata_bmdma_qc_issue. */
  #start(command: Command): void {
    const { taskfile } = command;
    this.#active = command;
    this.#left = command.request.length;
    this.#cpu.cli();
    this.select(taskfile.device);
    this.load(taskfile);
    if (taskfile.protocol === "dma") {
      // The table is written as each command starts, for a channel has one.
      this.prds.fill(command.request.segments);
      this.#prepareDma(taskfile);
      this.execute(taskfile.command);
      if (command.packet) this.#sendPacket(command);
      else this.#startDma();
    } else {
      this.#port.rewind(command.request.segments);
      this.execute(taskfile.command);
      if (command.packet) this.#sendPacket(command);
      else if (taskfile.protocol === "pio" && taskfile.write) this.#sendFirst();
    }
    this.#cpu.sti();
  }

  /** ata_dev_select. */
  select(device: number): void {
    this.waitIdle();
    this.registers.write(AtaRegister.Device, 1, device & (AtaDevice.Obsolete | AtaDevice.Second));
    this.pause();
    this.waitIdle();
  }

  /** ata_sff_tf_load. */
  load(taskfile: Taskfile): void {
    const { registers } = this;
    const { lba, count, features } = taskfile;
    if (taskfile.addressed) {
      if (taskfile.ext) {
        registers.write(AtaRegister.Features, 1, 0);
        registers.write(AtaRegister.Count, 1, (count >>> 8) & 0xff);
        registers.write(AtaRegister.LbaLow, 1, Math.floor(lba / 2 ** 24) & 0xff);
        registers.write(AtaRegister.LbaMid, 1, Math.floor(lba / 2 ** 32) & 0xff);
        registers.write(AtaRegister.LbaHigh, 1, Math.floor(lba / 2 ** 40) & 0xff);
      }
      registers.write(AtaRegister.Features, 1, features);
      registers.write(AtaRegister.Count, 1, count & 0xff);
      registers.write(AtaRegister.LbaLow, 1, lba & 0xff);
      registers.write(AtaRegister.LbaMid, 1, (lba >>> 8) & 0xff);
      registers.write(AtaRegister.LbaHigh, 1, (lba >>> 16) & 0xff);
    }
    registers.write(AtaRegister.Device, 1, taskfile.device);
    this.waitIdle();
  }

  /** ata_sff_exec_command. */
  execute(command: number): void {
    this.registers.write(AtaRegister.Command, 1, command);
    this.pause();
  }

  /** ata_wait_idle. */
  waitIdle(): number {
    let status = 0;
    for (let reads = 0; reads < IDLE_READS; reads++) {
      status = this.registers.read(AtaRegister.Status, 1);
      if (status === 0xff || (status & (AtaStatus.Busy | AtaStatus.DataRequest)) === 0) break;
    }
    return status;
  }

  /** ata_sff_pause: the read is the 400 ns that a device needs. */
  pause(): number {
    return this.registers.read(AtaRegister.AltStatus, 1);
  }

  /** ata_bmdma_setup, but for the command itself. */
  #prepareDma(taskfile: Taskfile): void {
    const { registers } = this;
    registers.write(AtaRegister.BmTable, 4, this.prds.address);
    const stopped = registers.read(AtaRegister.BmCommand, 1) & ~(BmCommand.ToMemory | BmCommand.Start);
    registers.write(AtaRegister.BmCommand, 1, stopped | (taskfile.write ? 0 : BmCommand.ToMemory));
  }

  /** ata_bmdma_start. */
  #startDma(): void {
    const { registers } = this;
    const ready = registers.read(AtaRegister.BmCommand, 1);
    registers.write(AtaRegister.BmCommand, 1, ready | BmCommand.Start);
  }

  /** Looks again in a while, if the command is still under way. */
  #later(command: Command, look: () => void): void {
    this.#cpu.clock.after(POLL_MS, () => {
      this.#cpu.cli();
      if (this.#active === command) look();
      this.#cpu.sti();
    });
  }

  /** atapi_send_cdb: no interrupt announces that the device wants the packet. */
  #sendPacket(command: Command): void {
    const { registers } = this;
    const status = registers.read(AtaRegister.Status, 1);
    if (status & AtaStatus.Busy) {
      this.#later(command, () => this.#sendPacket(command));
      return;
    }
    if ((status & AtaStatus.DataRequest) === 0) {
      this.#end(command, status);
      return;
    }
    const { bytes } = command.packet!;
    for (let i = 0; i < bytes.length; i += 2) registers.write(AtaRegister.Data, 2, bytes[i] | (bytes[i + 1] << 8));
    if (command.taskfile.protocol === "dma") this.#startDma();
    this.pause();
  }

  /** atapi_pio_bytes: as many bytes as the device says, as far as there is room for them. */
  #movePacketData(command: Command): void {
    const { registers } = this;
    const count = registers.read(AtaRegister.LbaMid, 1) | (registers.read(AtaRegister.LbaHigh, 1) << 8);
    const bytes = Math.min(count, this.#left) & ~1;
    if (command.taskfile.write) this.#port.write(bytes);
    else this.#port.read(bytes);
    // What there is no room for is read and forgotten, what is wanting is zeros.
    for (let at = bytes; at < count; at += 2) {
      if (command.taskfile.write) registers.write(AtaRegister.Data, 2, 0);
      else registers.read(AtaRegister.Data, 2);
    }
    this.#left -= bytes;
    command.packet!.moved += bytes;
    this.pause();
  }

  /** ata_sff_pio_task: no interrupt announces the first block of a write. */
  #sendFirst(): void {
    const command = this.#active;
    if (!command) return;
    const status = this.registers.read(AtaRegister.Status, 1);
    if (status & AtaStatus.Busy) this.#later(command, () => this.#sendFirst());
    else if (status & AtaStatus.DataRequest) this.#moveBlock(command);
    else this.#end(command, status);
  }

  /** ata_pio_sectors. */
  #moveBlock(command: Command): void {
    const bytes = Math.min(this.#left, command.block);
    if (command.taskfile.write) this.#port.write(bytes);
    else this.#port.read(bytes);
    this.#left -= bytes;
    this.pause();
  }

  /** ata_bmdma_port_intr and ata_sff_hsm_move. */
  #interrupt(): void {
    const { registers } = this;
    const command = this.#active;
    if (!command) {
      this.#acknowledge();
      return;
    }
    let hostStatus = 0;
    if (command.taskfile.protocol === "dma") {
      hostStatus = registers.read(AtaRegister.BmStatus, 1);
      if ((hostStatus & BmStatus.Interrupt) === 0) return;
      registers.write(AtaRegister.BmCommand, 1, registers.read(AtaRegister.BmCommand, 1) & ~BmCommand.Start);
      this.pause();
    }
    if (this.pause() & AtaStatus.Busy) return;
    const status = this.#acknowledge();
    if (hostStatus & BmStatus.Error) this.#finish(command, Status.Io, "the bus master could not reach memory");
    else if (command.packet) {
      const more = command.taskfile.protocol === "pio" && (status & AtaStatus.DataRequest) !== 0;
      if (more) this.#movePacketData(command);
      else this.#end(command, status);
    } else if (command.taskfile.protocol !== "pio" || this.#left === 0) this.#end(command, status);
    else if ((status & AtaStatus.DataRequest) === 0) this.#end(command, status);
    else {
      this.#moveBlock(command);
      if (this.#left === 0 && !command.taskfile.write) this.#end(command, this.waitIdle());
    }
  }

  /** ata_sff_check_status and ata_bmdma_irq_clear. */
  #acknowledge(): number {
    const status = this.registers.read(AtaRegister.Status, 1);
    this.registers.write(AtaRegister.BmStatus, 1, this.registers.read(AtaRegister.BmStatus, 1));
    return status;
  }

  #end(command: Command, status: number): void {
    const failed = status & (AtaStatus.Busy | AtaStatus.DataRequest | AtaStatus.DeviceFault | AtaStatus.Error);
    if (failed === 0 && this.#unmoved(command) === 0) {
      this.#finish(command, Status.Ok);
      return;
    }
    const error = this.registers.read(AtaRegister.Error, 1);
    if (command.packet) command.packet.error = error;
    const text = `drive answered status 0x${status.toString(16)}, error 0x${error.toString(16)}`;
    this.#finish(command, causeOf(status, error), text);
  }

  #unmoved(command: Command): number {
    return command.taskfile.protocol === "pio" && !command.packet ? this.#left : 0;
  }

  #finish(command: Command, status: Status, why?: string): void {
    const { request } = command;
    this.#active = null;
    request.status = status;
    request.error =
      why === undefined
        ? null
        : new ParavaneError(CODES[status] ?? "IO", `ATA command failed: ${why}`, {
            command: `0x${command.taskfile.command.toString(16)}`,
            offset: request.offset,
            length: request.length,
          });
    const next = this.#waiting.shift();
    if (next) this.#start(next);
    command.done(request);
  }
}

const CODES: Partial<Record<Status, ErrorCode>> = { [Status.Media]: "MEDIA", [Status.Crc]: "CRC" };

/** ata_to_sense_error, in a block layer's words. */
function causeOf(status: number, error: number): Status {
  if (status & AtaStatus.DeviceFault) return Status.Io;
  if (error & AtaError.InterfaceCrc) return Status.Crc;
  if (error & AtaError.Uncorrectable) return Status.Media;
  if (error & AtaError.IdNotFound) return Status.OutOfRange;
  return Status.Io;
}
