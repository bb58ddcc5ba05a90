import { ParavaneError } from "../core/error.ts";
import type { AddressSpace, MmioDevice, Release } from "../core/machine.ts";
import type { V86Cpu } from "./internals.ts";
import type { V86Interrupts } from "./interrupts.ts";

/** v86 has one set of functions for each 128 KiB. */
const BLOCK_BITS = 17;
const BLOCK = 1 << BLOCK_BITS;

interface Window {
  base: number;
  end: number;
  device: MmioDevice;
}

/** What stood in a block before. */
interface Block {
  windows: Window[];
  read8: (address: number) => number;
  write8: (address: number, value: number) => void;
  read32: (address: number) => number;
  write32: (address: number, value: number) => void;
}

/** v86's memory space outside RAM: windows of any size, what is beside them in a block staying as it was. */
export class V86Mmio implements AddressSpace<MmioDevice> {
  readonly #cpu: V86Cpu;
  readonly #interrupts: V86Interrupts;
  readonly #ramEnd: number;
  readonly #blocks = new Map<number, Block>();
  readonly #write16: (address: number, value: number) => void;

  constructor(cpu: V86Cpu, interrupts: V86Interrupts, ramEnd: number) {
    this.#cpu = cpu;
    this.#interrupts = interrupts;
    this.#ramEnd = ramEnd;
    this.#write16 = cpu.mmap_write16;
    // v86 makes two bytes of a word; a device must be given the word.
    cpu.mmap_write16 = (address, value) => {
      const window = this.#find(address >>> 0);
      if (window) this.#store(window, address >>> 0, 2, value);
      else this.#write16.call(cpu, address, value);
    };
  }

  register(base: number, length: number, device: MmioDevice): Release {
    const end = base + length;
    const numbers: number[] = [];
    for (let at = base >>> BLOCK_BITS; at * BLOCK < end; at++) numbers.push(at);
    const taken = numbers.some((at) => this.#blocks.get(at)?.windows.some((w) => base < w.end && w.base < end));
    if (base < this.#ramEnd || end > 2 ** 32 || taken) {
      throw new ParavaneError("EXISTS", "memory window is taken, inside guest RAM or past 4 GiB", {
        offset: base,
        length,
      });
    }
    const window = { base, end, device };
    for (const number of numbers) this.#blockAt(number).windows.push(window);
    return () => {
      for (const number of numbers.splice(0)) this.#leave(number, window);
    };
  }

  detach(): void {
    this.#cpu.mmap_write16 = this.#write16;
  }

  #find(address: number): Window | undefined {
    const windows = this.#blocks.get(address >>> BLOCK_BITS)?.windows;
    return windows?.find(({ base, end }) => address >= base && address < end);
  }

  #load(window: Window, address: number, width: 1 | 4): number {
    this.#interrupts.enter();
    try {
      return window.device.readMmio(address - window.base, width);
    } finally {
      this.#interrupts.leave();
    }
  }

  #store(window: Window, address: number, width: 1 | 2 | 4, value: number): void {
    this.#interrupts.enter();
    try {
      window.device.writeMmio(address - window.base, width, value >>> 0);
    } finally {
      this.#interrupts.leave();
    }
  }

  #blockAt(number: number): Block {
    const { memory_map_read8, memory_map_write8, memory_map_read32, memory_map_write32, io } = this.#cpu;
    const found = this.#blocks.get(number);
    if (found) return found;
    const block: Block = {
      windows: [],
      read8: memory_map_read8[number],
      write8: memory_map_write8[number],
      read32: memory_map_read32[number],
      write32: memory_map_write32[number],
    };
    this.#blocks.set(number, block);
    const within = (address: number) =>
      block.windows.find(({ base, end }) => address >>> 0 >= base && address >>> 0 < end);
    io.mmap_register(
      number * BLOCK,
      BLOCK,
      (address) => {
        const window = within(address);
        return window ? this.#load(window, address >>> 0, 1) : block.read8(address);
      },
      (address, value) => {
        const window = within(address);
        if (window) this.#store(window, address >>> 0, 1, value);
        else block.write8(address, value);
      },
      (address) => {
        const window = within(address);
        return window ? this.#load(window, address >>> 0, 4) | 0 : block.read32(address);
      },
      (address, value) => {
        const window = within(address);
        if (window) this.#store(window, address >>> 0, 4, value);
        else block.write32(address, value);
      },
    );
    return block;
  }

  #leave(number: number, window: Window): void {
    const block = this.#blocks.get(number);
    if (!block) return;
    block.windows.splice(block.windows.indexOf(window), 1);
    if (block.windows.length > 0) return;
    this.#blocks.delete(number);
    this.#cpu.io.mmap_register(number * BLOCK, BLOCK, block.read8, block.write8, block.read32, block.write32);
  }
}
