import {
  AtaCommand,
  AtaError,
  AtaFeature,
  AtaReason,
  AtaRegister,
  AtaStatus,
  AtaTransfer,
} from "../../../../assembly/spec/ata.ts";
import { DriveField, DriveKind, IdeLimit, IdeOp } from "../../../../assembly/spec/ide.ts";
import { BlockRequest, Status } from "../../../core/block.ts";
import { type Flow, run, wait } from "../../../core/flow.ts";
import { SegmentList } from "../../../core/segments.ts";
import { transferWords } from "./ata/identify.ts";
import { setTransferMode } from "./ata/settings.ts";
import type { IdeDevice, PacketDevice, Plain, ResetKind } from "./device.ts";

import type { DevicePort } from "./port.ts";

/** Bit 1 of Features, OVL: the command may be overlapped (ATA/ATAPI-6, PACKET). */
const OVERLAP = 0x02;

/** The others of the power commands end in standby: SLEEP is one from which any command wakes the drive, as with disks. */
const IDLES: ReadonlySet<number> = new Set([AtaCommand.Idle, AtaCommand.IdleImmediate]);

/** PIO 4, DMA 2, Ultra DMA 5. */
const MODES = { pio: 4, singleWord: 0x07, multiWord: 0x07, ultra: (2 << IdeLimit.UltraDma) - 1 };

/** What a packet device has of SET FEATURES (ATA/ATAPI-6 §8.46). */
function setFeatures(port: DevicePort): boolean {
  const feature = port.register(AtaRegister.Features);
  if (feature === AtaFeature.SetTransferMode) return setTransferMode(port, MODES);
  return feature === AtaFeature.KeepOnReset || feature === AtaFeature.RevertOnReset;
}

/** The data of the packet command under way. */
interface Transfer {
  direction: "in" | "out";
  length: number;
  /** Bytes moved, or on offer. */
  at: number;
  /** Bytes of the block on offer. */
  block: number;
  /** Byte count limit. */
  limit: number;
}

/** The ATA side of a packet device (ATA/ATAPI-6 §8.23, §9.8; SFF-8020i §5): PACKET and its data, and the few others. */
export class PacketDrive implements IdeDevice {
  readonly kind = DriveKind.Packet;
  readonly device: PacketDevice;
  #port!: DevicePort;
  #transfer: Transfer | null = null;
  /** Resets so far: what a command learns after one, it need not follow up. */
  #resets = 0;
  readonly #segments = new SegmentList(1);
  readonly #request = new BlockRequest();

  constructor(device: PacketDevice) {
    this.device = device;
  }

  plug(port: DevicePort): void {
    this.#port = port;
    port.set(DriveField.SectorBytes, IdeLimit.SectorBytes);
    this.reset("power");
  }

  execute(op: IdeOp): void {
    const port = this.#port;
    switch (op) {
      case IdeOp.Packet:
        if (port.step === 0) this.#awaitPacket();
        else this.#go(this.#carryOn());
        return;
      case IdeOp.IdentifyPacket:
        this.#identify();
        return;
      case IdeOp.SetFeatures:
        if (setFeatures(port)) port.done();
        else port.fail(AtaError.Abort);
        return;
      case IdeOp.CheckPower:
        // §8.7: 00h in Standby, FFh Active or Idle.
        port.setRegister(AtaRegister.Count, this.device.power === "standby" ? 0 : 0xff);
        port.done();
        return;
      case IdeOp.Power:
        if (this.device.power) this.device.power = IDLES.has(port.command) ? "idle" : "standby";
        port.done();
        return;
      case IdeOp.Diagnostic:
        port.done();
        return;
      default:
        port.fail(AtaError.Abort);
    }
  }

  transfer(): void {
    if (this.#port.op === IdeOp.Flush) this.#port.finish(Status.Ok);
    else this.#go(this.#byDma());
  }

  reset(kind: ResetKind): void {
    this.#transfer = null;
    this.#resets++;
    if (kind === "power") this.#port.set(DriveField.TransferMode, AtaTransfer.UltraDma | IdeLimit.UltraDma);
    this.device.reset(kind);
  }

  save(): Plain {
    return { transfer: this.#transfer && { ...this.#transfer }, device: this.device.save() };
  }
  restore(state: Plain): void {
    const { transfer, device } = state as unknown as { transfer: Transfer | null; device: Plain };
    this.#transfer = transfer && { ...transfer };
    this.device.restore(device);
  }

  close(): void {
    this.device.close?.();
  }

  /** §9.8: the packet itself comes by PIO, without an interrupt; §8.23: nothing ends the command before its last byte. */
  #awaitPacket(): void {
    this.#transfer = null;
    this.#port.setRegister(AtaRegister.Count, AtaReason.Command);
    this.#port.dataOut(IdeLimit.PacketBytes, true);
  }

  /** A device that throws has broken down: the command ends with a device fault. */
  #go(flow: Flow): void {
    const broken = () => this.#port.fail(AtaError.Abort, AtaStatus.DeviceFault);
    try {
      const later = run(flow);
      if (later) later.catch(broken);
    } catch {
      broken();
    }
  }

  *#carryOn(): Flow {
    if (this.#port.step === 1) yield* this.#begin();
    else yield* this.#continue(this.#transfer);
  }

  *#begin(): Flow {
    const port = this.#port;
    const features = port.register(AtaRegister.Features);
    // No device here releases the bus, as word 49 of IDENTIFY PACKET DEVICE says, and a host that asked for it would wait.
    if (features & OVERLAP) {
      port.fail(AtaError.Abort);
      return;
    }
    const dma = (features & 1) !== 0;
    const resets = this.#resets;
    const answer = yield* wait(this.device.begin(port.buffer.slice(0, IdeLimit.PacketBytes), dma));
    if (resets !== this.#resets) port.done();
    else if (answer.kind === "check") port.fail(answer.error);
    else if (answer.kind === "done" || answer.length === 0) port.done();
    else if (dma) {
      this.#transfer = { direction: answer.kind, length: answer.length, at: 0, block: answer.length, limit: 0 };
      port.dma(answer.length);
    } else {
      const limit = byteCountLimit(port, answer.length);
      if (limit === 0) port.fail(AtaError.Abort);
      else yield* this.#offer({ direction: answer.kind, length: answer.length, at: 0, block: 0, limit });
    }
  }

  /** The guest has taken the block on offer, or filled it. */
  *#continue(transfer: Transfer | null): Flow {
    if (!transfer) {
      this.#port.fail(AtaError.Abort);
      return;
    }
    if (transfer.direction === "out" && transfer.block > 0) {
      const error = yield* wait(this.device.write(transfer.at, this.#port.memory, this.#block(transfer.block)));
      if (error !== 0) {
        this.#port.fail(error);
        return;
      }
    }
    // From here on there is no block, in case that this is saved and begun again.
    transfer.at += transfer.block;
    transfer.block = 0;
    if (transfer.at < transfer.length) yield* this.#offer(transfer);
    else yield* this.#end();
  }

  /** The next DRQ block: its size stands in the byte count, its direction in the interrupt reason. */
  *#offer(transfer: Transfer): Flow {
    const port = this.#port;
    const block = Math.min(transfer.limit, transfer.length - transfer.at);
    if (transfer.direction === "in") {
      const error = yield* this.#read(transfer.at, this.#block(block));
      if (error !== 0) {
        port.fail(error);
        return;
      }
    }
    transfer.block = block;
    this.#transfer = transfer;
    port.setRegister(AtaRegister.LbaMid, block);
    port.setRegister(AtaRegister.LbaHigh, block >> 8);
    port.setRegister(AtaRegister.Count, transfer.direction === "in" ? AtaReason.ToHost : 0);
    // The data port moves words: of an odd count the last byte is padding.
    const even = (block + 1) & ~1;
    if (transfer.direction === "in") port.dataIn(even);
    else port.dataOut(even, false);
  }

  *#byDma(): Flow {
    const transfer = this.#transfer;
    const request = this.#request;
    if (!this.#port.takeDma(request)) return;
    if (!transfer) {
      this.#port.fail(AtaError.Abort);
      return;
    }
    const { memory, segments } = request;
    const { at, direction } = transfer;
    const next = at + segments.total;
    if (direction === "in") this.#port.touch(request);
    const error =
      direction === "in" ? yield* this.#read(at, segments) : yield* wait(this.device.write(at, memory, segments));
    transfer.at = next;
    if (error !== 0) this.#port.fail(error);
    else if (next < transfer.length) this.#port.dma(transfer.length - next);
    else yield* this.#end();
  }

  /** Memory that grows takes its views away, and with them what comes later: that is asked for again. */
  *#read(at: number, segments: SegmentList): Flow<number> {
    for (;;) {
      const { memory } = this.#port;
      try {
        const error = yield* wait(this.device.read(at, memory, segments));
        if (memory.length > 0) return error;
      } catch (thrown) {
        if (memory.length > 0) throw thrown;
      }
    }
  }

  *#end(): Flow {
    const answer = yield* wait(this.device.end?.() ?? ({ kind: "done" } as const));
    this.#transfer = null;
    if (answer.kind === "check") this.#port.fail(answer.error);
    else this.#port.done();
  }

  #block(bytes: number): SegmentList {
    this.#segments.clear();
    this.#segments.push(this.#port.bufferAt, bytes);
    return this.#segments;
  }

  #identify(): void {
    const words = new Uint16Array(256);
    this.device.identify(words);
    transferWords(words, this.#port, MODES);
    this.#port.buffer.set(new Uint8Array(words.buffer));
    this.#port.dataInLast(512);
  }
}

/**
 * ATA/ATAPI-6, byte count limit of PACKET: FFFFh counts as FFFEh, and an odd limit is one less unless all the data fits
 * below it. 0: none was given.
 */
function byteCountLimit(port: DevicePort, length: number): number {
  let limit = port.register(AtaRegister.LbaMid) | (port.register(AtaRegister.LbaHigh) << 8);
  if (limit === 0xffff) limit--;
  return limit & 1 && length > limit ? limit - 1 : limit;
}
