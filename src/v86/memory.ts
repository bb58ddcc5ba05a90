import { ParavaneError } from "../core/error.ts";
import type { GuestMemory } from "../core/machine.ts";
import { PAGE } from "../wasm/core.ts";
import type { V86Cpu } from "./internals.ts";

/** What the memory grows by when device state needs room, in WebAssembly pages. */
const STEP = 16;

/**
 * v86's own WebAssembly memory, which the core is bound to as well, so that it reads rings and moves data where the guest's
 * are. Device state goes into pages of its own behind what v86 had at that time; what v86 allocates later, it finds behind them.
 *
 *     0            mem8.byteOffset                                   at some growth
 *     ├ v86's own ┼ guest-physical 0 ……… RAM ……… ┼ v86's own …… ┼ device contexts ┼ v86's own …
 */
export class V86Memory implements GuestMemory {
  readonly wasm: WebAssembly.Memory;
  readonly base: number;
  readonly size: number;
  readonly #cpu: V86Cpu;
  #linear: Uint8Array;
  /** Room left in the last pages taken. */
  #next = 0;
  #end = 0;

  constructor(cpu: V86Cpu) {
    this.#cpu = cpu;
    this.wasm = cpu.wasm_memory;
    this.base = cpu.mem8.byteOffset;
    this.size = cpu.mem8.length;
    this.#linear = new Uint8Array(this.wasm.buffer);
  }

  get linear(): Uint8Array {
    if (this.#linear.length === 0) this.#linear = new Uint8Array(this.wasm.buffer);
    return this.#linear;
  }

  reserve(bytes: number, align = 16): number {
    let start = Math.ceil(this.#next / align) * align;
    if (start + bytes > this.#end) {
      const pages = Math.max(STEP, Math.ceil(bytes / PAGE));
      try {
        this.#next = this.wasm.grow(pages) * PAGE;
      } catch (cause) {
        const text = "v86's memory cannot grow to hold the state of its disks";
        throw new ParavaneError("NO_SPACE", text, { length: bytes }, { cause, hint: "Give the guest less memory" });
      }
      this.#end = this.#next + pages * PAGE;
      start = this.#next;
    }
    this.#next = start + bytes;
    return start;
  }

  touch(start: number, length: number): void {
    const address = start - this.base;
    // A device's own buffer is outside RAM, where no code is.
    if (address >= 0 && address < this.size && length > 0) this.#cpu.jit_dirty_cache(address, address + length);
  }
}
