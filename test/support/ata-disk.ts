import { AtaRegister, AtaStatus } from "../../assembly/spec/ata.ts";
import type { IdeDriveOptions } from "../../src/host/device/ide/ata/options.ts";
import { IdeBench } from "./ide.ts";
import { LabClock } from "./lab-clock.ts";
import { SparseBlock } from "./sparse-block.ts";

export const IDLE = AtaStatus.Ready | AtaStatus.SeekComplete;
export const FAILED = AtaStatus.Ready | AtaStatus.Error;
export const ABORTED = [FAILED, 0x04];

/** Registers of a command; what is absent is 0, and Device says LBA. */
export interface Registers {
  features?: number;
  count?: number;
  lba?: number;
  device?: number;
  /** Write the high bytes first. */
  ext?: boolean;
}

/** One disk at the registers of the primary channel, and commands in one line. */
export class AtaBench extends IdeBench {
  readonly block: SparseBlock;
  readonly clock: LabClock;

  constructor(options: Omit<IdeDriveOptions, "block"> & { size?: number; sectorSize?: number } = {}) {
    const { size = 64 << 20, sectorSize = 512, ...drive } = options;
    const block = new SparseBlock(size, sectorSize);
    const clock = new LabClock();
    super([[{ block, ...drive }]], { clock });
    this.block = block;
    this.clock = clock;
  }

  /** Gives a command; its status. */
  command(code: number, { features = 0, count = 0, lba = 0, device, ext = false }: Registers = {}): number {
    const byte = (n: number) => Math.floor(lba / 2 ** (8 * n)) & 0xff;
    this.write(AtaRegister.Device, device ?? 0xe0 | (ext ? 0 : byte(3) & 0x0f));
    if (ext) {
      this.write(AtaRegister.Count, (count >> 8) & 0xff);
      for (let n = 0; n < 3; n++) this.write((AtaRegister.LbaLow + n) as AtaRegister, byte(3 + n));
    }
    this.write(AtaRegister.Features, features);
    this.write(AtaRegister.Count, count & 0xff);
    for (let n = 0; n < 3; n++) this.write((AtaRegister.LbaLow + n) as AtaRegister, byte(n));
    this.write(AtaRegister.Command, code);
    return this.status;
  }

  /** Gives a command that sends data: its status at the end. */
  send(code: number, data: Uint8Array, registers: Registers = {}): number {
    this.command(code, registers);
    this.feed(data);
    return this.status;
  }

  /** [Status, Error]. */
  get ended(): [number, number] {
    return [this.status, this.error];
  }

  /** IDENTIFY DEVICE. */
  identify(): Uint16Array {
    this.command(0xec);
    return new Uint16Array(this.drain().buffer);
  }
}

/** 512 bytes with some of them set. */
export function block(...parts: [at: number, ...bytes: number[]][]): Uint8Array {
  const bytes = new Uint8Array(512);
  for (const [at, ...values] of parts) bytes.set(values, at);
  return bytes;
}

export function word(bytes: Uint8Array, index: number): number {
  return bytes[index * 2] | (bytes[index * 2 + 1] << 8);
}

export function checksum(bytes: Uint8Array): number {
  return bytes.reduce((sum, byte) => sum + byte, 0) & 0xff;
}
