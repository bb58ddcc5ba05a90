import { AtaRegister } from "../../../../assembly/spec/ata.ts";
import { DriveField, IdeAnswer, IdeField, IdeLimit, type IdeOp } from "../../../../assembly/spec/ide.ts";
import type { BlockRequest, Status } from "../../../core/block.ts";
import type { Clock } from "../../../core/machine.ts";
import type { Core } from "../../../wasm/core.ts";

/** What a device reaches its channel through. */
export interface ChannelSide {
  readonly core: Core;
  /** Linear address of the channel's context. */
  readonly context: number;
  readonly clock: Clock;
  /** Answers what the core has asked for, and does what follows from it. */
  answer(answer: number, lba: number): void;
  /**
   * Walks the PRD table of the DMA that was asked for, into `request`: false when the command has already ended, since the
   * table was short, outside memory, or the bus master switched off.
   */
  takeDma(request: BlockRequest): boolean;
  /** An emulator must know which of its pages a device is about to change. */
  touch(request: BlockRequest): void;
}

/** A device's side of its channel: its registers, the buffer, and the answers it may give (see IdeDevice). */
export class DevicePort {
  readonly clock: Clock;
  /** 0 or 1. */
  readonly index: number;
  readonly #channel: ChannelSide;
  readonly #core: Core;
  /** Linear addresses of the contexts. */
  readonly #context: number;
  readonly #drive: number;

  constructor(channel: ChannelSide, index: number, drive: number) {
    this.#channel = channel;
    this.#core = channel.core;
    this.#context = channel.context;
    this.#drive = drive;
    this.clock = channel.clock;
    this.index = index;
  }

  get(field: DriveField): number {
    return this.#core.u32[(this.#drive + field) >>> 2];
  }
  set(field: DriveField, value: number): void {
    this.#core.u32[(this.#drive + field) >>> 2] = value;
  }
  /** A u64 field, as a double. */
  getWide(field: DriveField): number {
    return this.get(field) + this.get(field + 4) * 2 ** 32;
  }
  setWide(field: DriveField, value: number): void {
    this.set(field, value >>> 0);
    this.set(field + 4, Math.floor(value / 2 ** 32));
  }

  /** The task file: a register, and what it held before it was last written. */
  register(index: AtaRegister): number {
    return this.#core.u32[(this.#drive + DriveField.Registers + index * 4) >>> 2];
  }
  setRegister(index: AtaRegister, value: number): void {
    this.#core.u32[(this.#drive + DriveField.Registers + index * 4) >>> 2] = value & 0xff;
  }
  previous(index: AtaRegister): number {
    return this.#core.u32[(this.#drive + DriveField.Previous + index * 4) >>> 2];
  }
  setPrevious(index: AtaRegister, value: number): void {
    this.#core.u32[(this.#drive + DriveField.Previous + index * 4) >>> 2] = value & 0xff;
  }
  /** Count, 8 or 16 bits of it. */
  count(ext = false): number {
    const low = this.register(AtaRegister.Count);
    return ext ? low | (this.previous(AtaRegister.Count) << 8) : low;
  }
  /** LBA low, mid and high: 24 bits. */
  get address(): number {
    return (
      this.register(AtaRegister.LbaLow) |
      (this.register(AtaRegister.LbaMid) << 8) |
      (this.register(AtaRegister.LbaHigh) << 16)
    );
  }

  /** The command under way. */
  get op(): IdeOp {
    return this.channelField(IdeField.Op) as IdeOp;
  }
  get command(): number {
    return this.channelField(IdeField.Command);
  }
  get step(): number {
    return this.channelField(IdeField.Step);
  }
  /** CommandBits. */
  get traits(): number {
    return this.channelField(IdeField.Traits);
  }
  channelField(field: IdeField): number {
    return this.#core.u32[(this.#context + field) >>> 2];
  }

  /** The data of one DRQ block. Hold it no longer than the current turn. */
  get buffer(): Uint8Array {
    return this.#core.u8.subarray(this.bufferAt, this.bufferAt + IdeLimit.BlockBytes);
  }
  /** The memory that the buffer and guest RAM are in, and where the buffer starts. */
  get memory(): Uint8Array {
    return this.#core.u8;
  }
  get bufferAt(): number {
    return this.#context + IdeField.Buffer;
  }

  dataIn(bytes: number): void {
    this.#channel.answer(IdeAnswer.DataIn | bytes, -1);
  }
  dataInLast(bytes: number): void {
    this.#channel.answer(IdeAnswer.DataInLast | bytes, -1);
  }
  /** `quiet`: without an interrupt, as the first block of a command comes. */
  dataOut(bytes: number, quiet: boolean): void {
    this.#channel.answer(IdeAnswer.DataOut | (quiet ? IdeAnswer.Quiet : 0) | bytes, -1);
  }
  dma(bytes: number): void {
    this.#channel.answer(IdeAnswer.Dma | bytes, -1);
  }
  done(): void {
    this.#channel.answer(0, -1);
  }
  /** Ends the command with these Error bits, and these in Status besides DRDY and ERR. */
  fail(error: number, status = 0): void {
    this.#channel.answer(IdeAnswer.Error | (status << 8) | error, -1);
  }
  /** The answer to `transfer`; `lba` is the sector that failed, below zero when unknown. */
  finish(status: Status, lba = -1): void {
    this.#channel.answer(status, lba);
  }
  takeDma(request: BlockRequest): boolean {
    return this.#channel.takeDma(request);
  }
  touch(request: BlockRequest): void {
    this.#channel.touch(request);
  }
}
