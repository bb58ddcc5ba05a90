import { type Core, coreFor, PAGE } from "./core.ts";

/** Bytes that `incompressible` works in. */
const SCRATCH = PAGE;
/** The least that it can judge, and what lengths must be multiples of. */
const LEAST = 8192;
const MULTIPLE = 4096;

/** Buffers in a memory of the core's, so that what is in them is found out at the speed of memory. */
export class ScanBuffers {
  /** All of them, one after the other. */
  readonly memory: Uint8Array;
  readonly #core: Core;
  readonly #scratch: number;

  /** @param bytes of each: a multiple of 64 */
  constructor(count: number, bytes: number) {
    const own = Math.ceil((count * bytes) / PAGE);
    const pages = own + SCRATCH / PAGE;
    // The memory never grows, so the view lives as long as it.
    this.#core = coreFor(new WebAssembly.Memory({ initial: pages, maximum: pages }));
    this.memory = this.#core.u8.subarray(0, own * PAGE);
    this.#scratch = own * PAGE;
  }

  /**
   * The run of bytes from `from` on, in whole units, that are all zeros, or of which no unit is: its length, plus 1 when it
   * is zeros. `length` and `unit` are multiples of 64.
   */
  zeroRun(from: number, length: number, unit: number): number {
    return this.#core.call.zeroRun(from, length, unit);
  }

  /** Would compressing these bytes gain next to nothing, such as noise, or what is compressed already? False: perhaps not. */
  incompressible(from: number, length: number): boolean {
    if (length < LEAST || length % MULTIPLE !== 0) return false;
    return this.#core.call.incompressible(from, length, this.#scratch) !== 0;
  }

  /** RFC 1950's checksum. */
  adler32(from: number, length: number): number {
    return this.#core.call.adler32(from, length) >>> 0;
  }
}
