import { type ZstdFault, ZstdScratch } from "../../assembly/spec/zstd.ts";
import { type Core, coreFor, PAGE } from "./core.ts";

/** What the core's decoders read past their input and write past their output (assembly/packed), at the most. */
const INPUT_SLACK = 64;
const OUTPUT_SLACK = 320;
/** What each works in, one after the other. */
const ZSTD_SCRATCH = PAGE;
const SCRATCH = ZSTD_SCRATCH + Math.ceil(ZstdScratch.Size / PAGE) * PAGE;

export interface UnpackSizes {
  /** How many pieces of packed bytes are at hand together, and bytes of each. */
  areas: number;
  areaBytes: number;
  /** The same of what they hold. */
  slots: number;
  slotBytes: number;
}

/** A memory of the core's to unpack in: areas that packed bytes are read into, and slots for what comes out of them. */
export class UnpackBuffers {
  readonly areas: readonly Uint8Array[];
  readonly slots: readonly Uint8Array[];
  readonly #core: Core;

  constructor({ areas, areaBytes, slots, slotBytes }: UnpackSizes) {
    const slotStep = slotBytes + OUTPUT_SLACK;
    const areaStep = areaBytes + INPUT_SLACK;
    const pages = Math.ceil((SCRATCH + slots * slotStep + areas * areaStep) / PAGE);
    // The memory never grows, so the views live as long as it.
    this.#core = coreFor(new WebAssembly.Memory({ initial: pages, maximum: pages }));
    const views = (from: number, count: number, bytes: number, step: number) =>
      Array.from({ length: count }, (_, i) => this.#core.u8.subarray(from + i * step, from + i * step + bytes));
    this.slots = views(SCRATCH, slots, slotBytes, slotStep);
    this.areas = views(SCRATCH + slots * slotStep, areas, areaBytes, areaStep);
  }

  /**
   * Exactly `size` bytes out of raw DEFLATE data in an area, into a slot. How many bytes of it that took; 0: it is damaged.
   * @param toEnd the data has to end with the last byte; else it is not looked at any further
   */
  inflate(packed: Uint8Array, slot: number, size: number, toEnd: boolean): number {
    const { byteOffset: at, length } = packed;
    return this.#core.call.inflate(at, at + length, this.slots[slot].byteOffset, size, toEnd, 0);
  }

  /**
   * Exactly `size` bytes out of the zstd frames in an area, into a slot; what follows them is left alone. What is wrong with
   * them, if anything, and how many bytes they came to before that.
   */
  unzstd(packed: Uint8Array, slot: number, size: number): { fault: ZstdFault; done: number } {
    const { byteOffset: at, length } = packed;
    const fault = this.#core.call.unzstd(at, at + length, this.slots[slot].byteOffset, size, ZSTD_SCRATCH);
    return { fault, done: this.#core.u32[(ZSTD_SCRATCH + ZstdScratch.Done) / 4] };
  }

  /** RFC 1950's checksum of a slot's first bytes. */
  adler32(slot: number, size: number): number {
    return this.#core.call.adler32(this.slots[slot].byteOffset, size) >>> 0;
  }
}
