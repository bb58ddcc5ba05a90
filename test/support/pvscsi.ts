import {
  PvscsiCommand,
  PvscsiCompletion,
  PvscsiElement,
  PvscsiFlag,
  PvscsiInterrupt,
  PvscsiMessage,
  PvscsiRegister,
  PvscsiRequest,
  PvscsiRings,
  PvscsiSetupMessages,
  PvscsiSetupRings,
} from "../../assembly/spec/pvscsi.ts";
import type { Block } from "../../src/core/block.ts";
import { attachPvscsi, type PvscsiDevice, type PvscsiDisk } from "../../src/host/device/pvscsi/attach.ts";
import { LabMachine } from "../../src/hypervisor/machine.ts";

/** Where this guest keeps things; guest-physical. */
export const AT = {
  state: 0x10000,
  requests: 0x20000,
  completions: 0x40000,
  messages: 0x60000,
  lists: 0x80000,
  sense: 0xc0000,
  data: 0x100000,
};
export const BASE = 0xf2000000;
const LINE = 11;

export interface RawRequest {
  cdb: readonly number[];
  context?: number;
  target?: number;
  bus?: number;
  lun?: readonly number[];
  flags?: number;
  address?: number;
  /** Upper half of the address. */
  high?: number;
  length?: number | bigint;
  sense?: number;
  senseLength?: number;
  cdbLength?: number;
}

export interface RawCompletion {
  context: number;
  host: number;
  status: number;
  bytes: number;
  sense: Uint8Array;
}

/** A guest that writes registers, rings and lists as it is told, right or wrong. */
export class RawPvscsi {
  readonly machine: LabMachine;
  readonly device: PvscsiDevice;
  interrupts = 0;
  readonly #view: DataView;
  #requestEntries = 32;
  #completionEntries = 128;
  produced = 0;
  consumed = 0;
  /** Of the last request that was given none. */
  nextContext = 0;

  constructor(disks: readonly (PvscsiDisk | Block | null)[], memory = 4 << 20) {
    this.machine = new LabMachine({ memory });
    this.device = attachPvscsi(this.machine, { interrupt: LINE, memory: BASE, disks });
    this.#view = new DataView(this.machine.memory.wasm.buffer, this.machine.memory.base, this.machine.memory.size);
    // Slot 1: after the host bridge. Mastering on, as firmware leaves the rest.
    this.machine.guest.out(0xcf8, 4, 0x80000804);
    this.machine.guest.out(0xcfc, 2, 7);
  }

  get line(): boolean {
    return this.machine.trap.interrupts.level(LINE);
  }

  read(register: number): number {
    return this.machine.guest.load(BASE + register, 4);
  }
  write(register: number, value: number): void {
    this.machine.guest.store(BASE + register, 4, value >>> 0);
  }
  word(address: number, value?: number): number {
    if (value !== undefined) this.#view.setUint32(address, value, true);
    return this.#view.getUint32(address, true);
  }
  bytes(address: number, length: number): Uint8Array {
    return this.machine.guest.ram.bytes(address, length);
  }

  /** Command status after the command and its descriptor. */
  command(command: number, words: readonly number[] = []): number {
    this.write(PvscsiRegister.Command, command);
    for (const word of words) this.write(PvscsiRegister.CommandData, word);
    return this.read(PvscsiRegister.CommandStatus);
  }

  setUp(requestPages = 1, completionPages = 1): number {
    const words = new Array(PvscsiSetupRings.Size / 4).fill(0);
    words[PvscsiSetupRings.RequestPages / 4] = requestPages;
    words[PvscsiSetupRings.CompletionPages / 4] = completionPages;
    words[PvscsiSetupRings.State / 4] = AT.state >>> 12;
    for (let i = 0; i < 32; i++) {
      words[PvscsiSetupRings.Requests / 4 + 2 * i] = (AT.requests >>> 12) + i;
      words[PvscsiSetupRings.Completions / 4 + 2 * i] = (AT.completions >>> 12) + i;
    }
    this.#requestEntries = Math.max(1, requestPages * 32);
    this.#completionEntries = Math.max(1, completionPages * 128);
    this.produced = this.consumed = 0;
    const status = this.command(PvscsiCommand.SetupRings, words);
    this.write(PvscsiRegister.InterruptMask, PvscsiInterrupt.All);
    return status;
  }

  setUpMessages(pages = 1): number {
    const words = new Array(PvscsiSetupMessages.Size / 4).fill(0);
    words[PvscsiSetupMessages.Pages / 4] = pages;
    for (let i = 0; i < 16; i++) words[PvscsiSetupMessages.Ring / 4 + 2 * i] = (AT.messages >>> 12) + i;
    return this.command(PvscsiCommand.SetupMessageRing, words);
  }

  /** Puts a request on the ring; its context. Unless told: target 0, 4,096 bytes at AT.data, sense of 64 bytes. */
  push(request: RawRequest): number {
    const context = request.context ?? ++this.nextContext;
    const at = AT.requests + (this.produced % this.#requestEntries) * PvscsiRequest.Size;
    this.bytes(at, PvscsiRequest.Size).fill(0);
    const view = this.#view;
    view.setUint32(at + PvscsiRequest.Context, context, true);
    view.setUint32(at + PvscsiRequest.DataAddress, request.address ?? AT.data, true);
    view.setUint32(at + PvscsiRequest.DataAddress + 4, request.high ?? 0, true);
    view.setBigUint64(at + PvscsiRequest.DataLength, BigInt(request.length ?? 4096), true);
    view.setUint32(at + PvscsiRequest.SenseAddress, request.sense ?? AT.sense, true);
    view.setUint32(at + PvscsiRequest.SenseLength, request.senseLength ?? 64, true);
    view.setUint32(at + PvscsiRequest.Flags, request.flags ?? 0, true);
    const tail = this.bytes(at + PvscsiRequest.Cdb, 88);
    tail.set(request.cdb);
    tail[PvscsiRequest.CdbLength - PvscsiRequest.Cdb] = request.cdbLength ?? request.cdb.length;
    tail.set(request.lun ?? [], PvscsiRequest.Lun - PvscsiRequest.Cdb);
    tail[PvscsiRequest.Bus - PvscsiRequest.Cdb] = request.bus ?? 0;
    tail[PvscsiRequest.Target - PvscsiRequest.Cdb] = request.target ?? 0;
    this.produced = (this.produced + 1) >>> 0;
    this.word(AT.state + PvscsiRings.RequestProducer, this.produced);
    return context;
  }

  kick(): void {
    this.write(PvscsiRegister.KickReadWrite, 0);
  }

  /** Takes completions off the ring. The sense bytes are those in the buffer at AT.sense now. */
  completions(): RawCompletion[] {
    const found: RawCompletion[] = [];
    const end = this.word(AT.state + PvscsiRings.CompletionProducer);
    for (; this.consumed !== end; this.consumed = (this.consumed + 1) >>> 0) {
      const at = AT.completions + (this.consumed % this.#completionEntries) * PvscsiCompletion.Size;
      found.push({
        context: this.word(at + PvscsiCompletion.Context),
        host: this.word(at + PvscsiCompletion.HostStatus) & 0xffff,
        status: this.word(at + PvscsiCompletion.HostStatus) >>> 16,
        bytes: this.word(at + PvscsiCompletion.DataLength),
        sense: this.bytes(AT.sense, this.word(at + PvscsiCompletion.SenseLength)).slice(),
      });
    }
    this.word(AT.state + PvscsiRings.CompletionConsumer, this.consumed);
    return found;
  }

  /** One command, from the ring to its completion. */
  run(request: RawRequest): RawCompletion {
    this.push(request);
    this.kick();
    const all = this.completions();
    if (all.length !== 1) throw new Error(`${all.length} completions for one command`);
    return all[0];
  }

  /** Writes a segment list of [address, length, flags] at `at`. */
  list(elements: readonly (readonly [address: number, length: number, flags?: number])[], at = AT.lists): number {
    elements.forEach(([address, length, flags], i) => {
      const element = at + i * PvscsiElement.Size;
      this.word(element + PvscsiElement.Address, address);
      this.word(element + PvscsiElement.Address + 4, 0);
      this.word(element + PvscsiElement.Length, length);
      this.word(element + PvscsiElement.Flags, flags ?? 0);
    });
    return at;
  }

  /** Type and target of message `index`. */
  message(index: number): [type: number, target: number] {
    const at = AT.messages + index * PvscsiMessage.Size;
    return [this.word(at + PvscsiMessage.Type), this.word(at + PvscsiMessage.Target)];
  }

  /** Takes away the unit attention of each target. */
  settle(...targets: number[]): void {
    for (const target of targets) this.run({ cdb: [0, 0, 0, 0, 0, 0], target });
  }
}

export const IN = PvscsiFlag.ToHost;
export const OUT = PvscsiFlag.ToDevice;
export const LIST = PvscsiFlag.List;

/** READ (10) or WRITE (10). */
export function rw10(code: number, lba: number, blocks: number, flags = 0): number[] {
  return [code, flags, lba >>> 24, (lba >>> 16) & 255, (lba >>> 8) & 255, lba & 255, 0, blocks >>> 8, blocks & 255, 0];
}
