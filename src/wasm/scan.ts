import { type Core, coreFor, PAGE } from "./core.ts";

/** Buffers in a memory of the core's, so that zeros in them are found at the speed of memory. */
export class ScanBuffers {
  /** All of them, one after the other. */
  readonly memory: Uint8Array;
  readonly #core: Core;

  /** @param bytes of each: a multiple of 64 */
  constructor(count: number, bytes: number) {
    const pages = Math.ceil((count * bytes) / PAGE);
    // The memory never grows, so the view lives as long as it.
    this.#core = coreFor(new WebAssembly.Memory({ initial: pages, maximum: pages }));
    this.memory = this.#core.u8;
  }

  /**
   * The run of bytes from `from` on, in whole units, that are all zeros, or of which no unit is: its length, plus 1 when it
   * is zeros. `length` and `unit` are multiples of 64.
   */
  zeroRun(from: number, length: number, unit: number): number {
    return this.#core.call.zeroRun(from, length, unit);
  }
}
