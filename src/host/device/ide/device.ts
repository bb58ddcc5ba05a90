import type { DriveKind, IdeOp } from "../../../../assembly/spec/ide.ts";
import type { Later } from "../../../core/flow.ts";
import type { SegmentList } from "../../../core/segments.ts";
import type { DevicePort } from "./port.ts";

/** `power`: power-on and the reset wire; `soft`: SRST; `abort`: DEVICE RESET, or IDLE IMMEDIATE while busy. */
export type ResetKind = "power" | "soft" | "abort";

/** What survives JSON: numbers, strings, booleans, null, arrays and objects of them. Byte strings are base64. */
export type Plain = null | boolean | number | string | Plain[] | { [key: string]: Plain };

/**
 * A device on an IDE channel. The core keeps its task file and decides what happens when; the channel asks the device for
 * one thing at a time, and each is answered exactly once through the port, at once or later.
 *
 * A command of the device's own (IdeOp above Flush) is a dialogue. `execute` is called when the command is given and again,
 * with `port.step` one higher, each time that the guest has read or filled the block last offered; it answers with
 *
 *     port.dataIn(n)      n bytes of port.buffer are the guest's to read: DRQ, INTRQ; then `execute` again
 *     port.dataInLast(n)  the same, and the command ends with the last byte
 *     port.dataOut(n)     n bytes are wanted from the guest: DRQ; then `execute` again, port.buffer filled
 *     port.dma(n)         n bytes by DMA; when the bus master has been started `transfer` is called, and port.takeDma()
 *                         has the segments
 *     port.done()         the command has ended well: INTRQ
 *     port.fail(error)    it has failed: Error register, ERR, INTRQ
 */
export interface IdeDevice {
  readonly kind: Exclude<DriveKind, DriveKind.Absent>;
  /** The device's place in the channel: its settings go into the port's drive fields. Called once. */
  plug(port: DevicePort): void;
  /** Carries a command of the device's own one step further. */
  execute(op: IdeOp): void;
  /** Moves what the port's `op` names: sectors of a media command, or the bytes of a DMA asked for with `port.dma`. */
  transfer(): void;
  /** Forgets the command under way. What has been asked and not answered is still answered; the answer is dropped. */
  reset(kind: ResetKind): void;
  /** All that `restore` needs on a device made with the same options. */
  save(): Plain;
  restore(state: Plain): void;
  /**
   * After `restore`: the command that was under way goes on by itself. Otherwise what had been asked is asked again, so
   * that `execute` and `transfer` must bear to be called once more with the state that they themselves left.
   */
  readonly goesOn?: boolean;
  /** The guest will ask for nothing more. */
  close?(): void;
  /** A command waits for `resume`, which has it tried again. */
  readonly stopped?: boolean;
  resume?(): void;
}

/** How a packet command goes on. */
export type PacketAnswer =
  /** It has ended well. */
  | { kind: "done" }
  /** CHECK CONDITION: the Error register, sense key in bits 7–4 (SFF-8020i); the device keeps the sense data. */
  | { kind: "check"; error: number }
  /** `length` bytes for the host, or from it. Zero is "done". */
  | { kind: "in" | "out"; length: number };

/**
 * A packet device behind its command set: SCSI-like commands of 12 bytes, one at a time. The ATA side of PACKET (byte count
 * limit, interrupt reason, DRQ blocks, DMA) is packet.ts, which asks for the data in pieces that come in order and never
 * overlap; a piece is up to 64 KiB by PIO, and whatever its PRD table holds by DMA.
 */
export interface PacketDevice {
  /** Fills the words of IDENTIFY PACKET DEVICE (ATA/ATAPI-6 §8.16) that do not depend on the channel: not 62, 63, 88, 93. */
  identify(words: Uint16Array): void;
  /** Takes a command. `dma` is bit 0 of the Features register. What has not been answered is asked again after a restore. */
  begin(packet: Uint8Array, dma: boolean): Later<PacketAnswer>;
  /**
   * Puts the bytes from `at` on into all of `segments` of `memory`. The Error register of a CHECK CONDITION, or 0. When memory has
   * grown before that is answered, `memory` is empty by then: the answer counts for nothing, and the same bytes are asked for
   * again.
   */
  read(at: number, memory: Uint8Array, segments: SegmentList): Later<number>;
  /**
   * Takes the bytes from `at` on, in the call itself: `memory` may be gone later. The Error register of a CHECK CONDITION,
   * or 0.
   */
  write(at: number, memory: Uint8Array, segments: SegmentList): Later<number>;
  /** The command's data is through: its last word on how it went. Absent: well. */
  end?(): Later<PacketAnswer>;
  /** Power mode, which CHECK POWER MODE tells and other ATA commands set: "standby", or more. Absent: always active. */
  power?: "active" | "idle" | "standby";
  reset(kind: ResetKind): void;
  save(): Plain;
  restore(state: Plain): void;
  /** The guest will ask for nothing more. */
  close?(): void;
}
