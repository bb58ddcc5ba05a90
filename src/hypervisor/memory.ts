import { ParavaneError } from "../core/error.ts";
import type { GuestMemory } from "../core/machine.ts";
import { PAGE } from "../wasm/core.ts";

/**
 * One guest's memory: a WebAssembly memory that holds the host's per-device state below and guest RAM above.
 *
 *     0        64 KiB              base (page aligned)                    base + size
 *     ├ unused ┼ device contexts … ┼ guest-physical 0 ……………………………………… size ┤
 *
 * Linear address 0 is never handed out, so that the core can answer 0 for "outside guest RAM".
 */
export class LinearMemory implements GuestMemory {
  readonly wasm: WebAssembly.Memory;
  readonly base: number;
  readonly size: number;
  readonly linear: Uint8Array;
  #next = PAGE;

  /** Sizes in bytes, rounded up to WebAssembly pages. `host` is the room for device state. */
  constructor(size: number, host = 64 * PAGE) {
    const ramPages = Math.ceil(size / PAGE);
    const hostPages = Math.ceil(host / PAGE);
    const pages = 1 + hostPages + ramPages;
    if (!(size > 0) || pages > 65536) {
      throw new ParavaneError("INVALID", `guest memory of ${size} bytes does not fit a 4 GiB WebAssembly memory`, {
        size,
      });
    }
    this.wasm = new WebAssembly.Memory({ initial: pages, maximum: pages });
    this.base = (1 + hostPages) * PAGE;
    this.size = ramPages * PAGE;
    this.linear = new Uint8Array(this.wasm.buffer);
  }

  reserve(bytes: number, align = 16): number {
    const start = Math.ceil(this.#next / align) * align;
    if (start + bytes > this.base) {
      throw new ParavaneError(
        "NO_SPACE",
        "no room left for device state beside guest RAM",
        { length: bytes },
        {
          hint: "create the machine with a larger `hostMemory`",
        },
      );
    }
    this.#next = start + bytes;
    return start;
  }

  touch(): void {}
}

/**
 * Guest-physical access as the guest itself has it: little-endian, bounds-checked, not trapped. Also a small page
 * allocator, standing for the guest kernel's. Addresses and lengths are bytes.
 */
export class GuestRam {
  readonly memory: GuestMemory;
  #next = 0x100000; // below 1 MiB is the legacy area; leave it as a real kernel does
  readonly #free = new Map<number, number[]>();

  constructor(memory: GuestMemory) {
    this.memory = memory;
  }

  get size(): number {
    return this.memory.size;
  }

  /** The bytes [address, address + length) themselves, not a copy. @throws ParavaneError OUT_OF_RANGE */
  bytes(address: number, length: number): Uint8Array {
    const start = this.#linear(address, length);
    return this.memory.linear.subarray(start, start + length);
  }
  /** Linear address of guest-physical [address, address + length). @throws ParavaneError OUT_OF_RANGE */
  linear(address: number, length: number): number {
    return this.#linear(address, length);
  }
  read8(address: number): number {
    return this.memory.linear[this.#linear(address, 1)];
  }
  write8(address: number, value: number): void {
    this.memory.linear[this.#linear(address, 1)] = value;
  }
  read16(address: number): number {
    return this.read8(address) | (this.read8(address + 1) << 8);
  }
  write16(address: number, value: number): void {
    this.write8(address, value);
    this.write8(address + 1, value >>> 8);
  }
  read32(address: number): number {
    return (this.read16(address) | (this.read16(address + 2) << 16)) >>> 0;
  }
  write32(address: number, value: number): void {
    this.write16(address, value);
    this.write16(address + 2, value >>> 16);
  }

  /** Zeroed guest-physical pages (4 KiB each) in one run, aligned to 4 KiB. @throws ParavaneError NO_SPACE */
  allocate(pages: number): number {
    const recycled = this.#free.get(pages)?.pop();
    const address = recycled ?? this.#next;
    if (recycled === undefined) {
      if (address + pages * 4096 > this.size) {
        throw new ParavaneError(
          "NO_SPACE",
          "the guest is out of memory",
          { length: pages * 4096 },
          {
            hint: "create the machine with more `memory`",
          },
        );
      }
      this.#next += pages * 4096;
    }
    this.bytes(address, pages * 4096).fill(0);
    return address;
  }

  /** Gives back what `allocate` gave. */
  free(address: number, pages: number): void {
    const list = this.#free.get(pages);
    if (list) list.push(address);
    else this.#free.set(pages, [address]);
  }

  #linear(address: number, length: number): number {
    if (!(address >= 0) || address + length > this.size) {
      throw new ParavaneError("OUT_OF_RANGE", "address outside guest RAM", { offset: address, length });
    }
    return this.memory.base + address;
  }
}
