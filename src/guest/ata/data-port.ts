import { AtaRegister } from "../../../assembly/spec/ata.ts";
import type { SegmentList } from "../../core/segments.ts";
import type { AtaRegisters } from "../../hypervisor/ata-registers.ts";
import type { GuestRam } from "../../hypervisor/memory.ts";

/** Moves PIO data between the data port and a request's segments, block by block. */
export class DataPort {
  readonly #registers: AtaRegisters;
  readonly #ram: GuestRam;
  readonly #width: 2 | 4;
  #segments!: SegmentList;
  #index = 0;
  #offset = 0;

  /** @param width bytes of one access to the data port */
  constructor(registers: AtaRegisters, ram: GuestRam, width: 2 | 4) {
    this.#registers = registers;
    this.#ram = ram;
    this.#width = width;
  }

  /** Data will come from, or go to, the start of `segments` (guest-physical). */
  rewind(segments: SegmentList): void {
    this.#segments = segments;
    this.#index = 0;
    this.#offset = 0;
  }

  /** Reads the next `length` bytes; an even number. */
  read(length: number): void {
    const registers = this.#registers;
    for (let left = length; left > 0; ) {
      const run = this.#run(left);
      const bytes = this.#ram.bytes(this.#address, run);
      let at = 0;
      if (this.#width === 4) {
        for (; at + 4 <= run; at += 4) {
          const value = registers.read(AtaRegister.Data, 4);
          bytes[at] = value;
          bytes[at + 1] = value >>> 8;
          bytes[at + 2] = value >>> 16;
          bytes[at + 3] = value >>> 24;
        }
      }
      for (; at + 2 <= run; at += 2) {
        const value = registers.read(AtaRegister.Data, 2);
        bytes[at] = value;
        bytes[at + 1] = value >>> 8;
      }
      this.#offset += at;
      left -= at;
      if (at === run) continue;
      // A word across two segments.
      const value = registers.read(AtaRegister.Data, 2);
      this.#ram.write8(this.#address, value);
      this.#offset++;
      this.#run(1);
      this.#ram.write8(this.#address, value >>> 8);
      this.#offset++;
      left -= 2;
    }
  }

  /** Writes the next `length` bytes; an even number. */
  write(length: number): void {
    const registers = this.#registers;
    for (let left = length; left > 0; ) {
      const run = this.#run(left);
      const bytes = this.#ram.bytes(this.#address, run);
      let at = 0;
      if (this.#width === 4) {
        for (; at + 4 <= run; at += 4) {
          const value = bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
          registers.write(AtaRegister.Data, 4, value >>> 0);
        }
      }
      for (; at + 2 <= run; at += 2) registers.write(AtaRegister.Data, 2, bytes[at] | (bytes[at + 1] << 8));
      this.#offset += at;
      left -= at;
      if (at === run) continue;
      const low = this.#ram.read8(this.#address);
      this.#offset++;
      this.#run(1);
      registers.write(AtaRegister.Data, 2, low | (this.#ram.read8(this.#address) << 8));
      this.#offset++;
      left -= 2;
    }
  }

  get #address(): number {
    return this.#segments.start(this.#index) + this.#offset;
  }

  /** Steps to the segment that holds the next byte; how many of `wanted` bytes it holds. */
  #run(wanted: number): number {
    while (this.#offset >= this.#segments.length(this.#index)) {
      this.#offset -= this.#segments.length(this.#index);
      this.#index++;
    }
    return Math.min(wanted, this.#segments.length(this.#index) - this.#offset);
  }
}
