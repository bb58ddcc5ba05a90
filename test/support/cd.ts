import { AtaRegister, AtaStatus, BmCommand, Prd } from "../../assembly/spec/ata.ts";
import { PacketOp } from "../../assembly/spec/mmc.ts";
import type { Clock } from "../../src/core/machine.ts";
import { SegmentList } from "../../src/core/segments.ts";
import { CdDrive } from "../../src/host/device/ide/atapi/drive.ts";
import type { CdDriveOptions } from "../../src/host/device/ide/atapi/options.ts";
import type { Disc } from "../../src/host/media/disc.ts";
import { IdeBench } from "./ide.ts";

/** A clock that stands still until it is told. */
export class ManualClock implements Clock {
  time = 1000;
  #timers: { at: number; call: () => void }[] = [];

  now(): number {
    return this.time;
  }
  after(ms: number, call: () => void) {
    const timer = { at: this.time + ms, call };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((each) => each !== timer);
    };
  }
  /** Lets time pass, timers going off in their order. */
  advance(ms: number): void {
    const end = this.time + ms;
    for (;;) {
      const next = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.#timers = this.#timers.filter((each) => each !== next);
      this.time = Math.max(this.time, next.at);
      next.call();
    }
    this.time = end;
  }
}

/** How a packet command ended. */
export interface PacketResult {
  data: Uint8Array;
  /** "key/asc ascq", such as "5/2400"; undefined when it went well. */
  sense: string | undefined;
}

export function cdb(...bytes: number[]): Uint8Array {
  const packet = new Uint8Array(12);
  packet.set(bytes);
  return packet;
}

/** The bytes of a number, high byte first. */
export function be(value: number, bytes: number): number[] {
  return Array.from({ length: bytes }, (_, i) => Math.floor(value / 2 ** (8 * (bytes - 1 - i))) & 0xff);
}

export function number(bytes: Uint8Array, at: number, length: number): number {
  return bytes.subarray(at, at + length).reduce((sum, byte) => sum * 256 + byte, 0);
}

/** A drive without its channel: packets go in, results come out. */
export class PacketBench {
  readonly clock = new ManualClock();
  readonly drive: CdDrive;

  constructor(cd: Disc | null, options: Partial<CdDriveOptions> = {}) {
    this.drive = new CdDrive({ cd, ...options }, this.clock, 0);
    this.drive.reset("power");
  }

  /** Runs a command to its end, its data in pieces of `piece` bytes; a failure without fetching the sense. */
  async raw(packet: Uint8Array, out?: Uint8Array, piece = 65534): Promise<{ data: Uint8Array; error: number }> {
    const { drive } = this;
    const none = new Uint8Array(0);
    const answer = await drive.begin(packet);
    if (answer.kind === "check") return { data: none, error: answer.error };
    if (answer.kind === "done") return { data: none, error: 0 };
    const data = new Uint8Array(answer.length);
    if (answer.kind === "out") data.set((out ?? none).subarray(0, answer.length));
    for (let at = 0; at < answer.length; at += piece) {
      const part = SegmentList.of(at, Math.min(piece, answer.length - at));
      const error = answer.kind === "in" ? await drive.read(at, data, part) : await drive.write(at, data, part);
      if (error !== 0) return { data: data.subarray(0, at), error };
    }
    const end = await drive.end();
    return { data, error: end.kind === "check" ? end.error : 0 };
  }

  /** The same, with the sense that a failure leaves. */
  async run(packet: Uint8Array, out?: Uint8Array, piece?: number): Promise<PacketResult> {
    const { data, error } = await this.raw(packet, out, piece);
    if (error === 0) return { data, sense: undefined };
    return { data, sense: await this.sense() };
  }

  async sense(): Promise<string> {
    const { data } = await this.raw(cdb(PacketOp.RequestSense, 0, 0, 0, 18));
    return `${data[2].toString(16)}/${number(data, 12, 2).toString(16).padStart(4, "0")}`;
  }

  /** The data of a command that must go well. */
  async data(...bytes: number[]): Promise<number[]> {
    const { data, sense } = await this.run(cdb(...bytes));
    if (sense !== undefined) throw new Error(`sense ${sense}`);
    return [...data];
  }
}

export const TABLE = 0x200000;
export const BUFFER = 0x100000;

/** A guest at the registers of a channel with a CD drive. */
export class CdBench extends IdeBench {
  /** Status at the end, and the Error register. */
  last = { status: 0, error: 0 };

  packet(packet: Uint8Array, features = 0, limit = 0xfffe): void {
    this.write(AtaRegister.Features, features);
    this.write(AtaRegister.LbaMid, limit & 0xff);
    this.write(AtaRegister.LbaHigh, limit >> 8);
    this.write(AtaRegister.Command, 0xa0);
    for (let i = 0; i < 12; i += 2) this.write(AtaRegister.Data, packet[i] | (packet[i + 1] << 8), 2);
  }

  /** By PIO: what was read; what the drive wants is zeros. */
  pio(packet: Uint8Array, limit = 0xfffe): { bytes: Uint8Array; sizes: number[] } {
    this.packet(packet, 0, limit);
    const bytes: number[] = [];
    const sizes: number[] = [];
    while (this.altStatus & AtaStatus.DataRequest) {
      const size = this.read(AtaRegister.LbaMid) | (this.read(AtaRegister.LbaHigh) << 8);
      sizes.push(size);
      const wants = (this.read(AtaRegister.Count) & 2) === 0;
      for (let i = 0; i < size; i += 2) {
        if (wants) {
          this.write(AtaRegister.Data, 0, 2);
          continue;
        }
        const word = this.read(AtaRegister.Data, 2);
        bytes.push(word & 0xff);
        if (i + 1 < size) bytes.push(word >> 8);
      }
    }
    this.#end();
    return { bytes: Uint8Array.from(bytes), sizes };
  }

  /** By DMA into `length` bytes at BUFFER. */
  dma(packet: Uint8Array, length: number): Uint8Array {
    const runs: [number, number][] = [];
    for (let at = 0; at < length; at += 65536) runs.push([BUFFER + at, Math.min(65536, length - at) & 0xffff]);
    runs[runs.length - 1][1] = (runs[runs.length - 1][1] | Prd.EndOfTable) >>> 0;
    this.prds(TABLE, runs);
    this.write(AtaRegister.BmCommand, 0);
    this.write(AtaRegister.BmStatus, 6);
    this.write(AtaRegister.BmTable, TABLE, 4);
    this.packet(packet, 1);
    this.write(AtaRegister.BmCommand, BmCommand.Start | BmCommand.ToMemory);
    this.#end();
    this.write(AtaRegister.BmCommand, 0);
    return this.cpu.ram.bytes(BUFFER, length).slice();
  }

  #end(): void {
    this.last = { status: this.status, error: this.error };
  }
}
