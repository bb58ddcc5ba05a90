import { ZstdPack } from "../../assembly/spec/zstd.ts";
import { type Core, coreFor, PAGE } from "./core.ts";

/** Where the core's compressor has its input: past what it works in. */
export const PACK_INPUT = Math.ceil(ZstdPack.Size / PAGE) * PAGE;
/** What it reads past that; and what a frame may take more than its content while it is made. */
export const PACK_SLACK = 64;
export const PACK_ROOM = 2 ** 18;

/** A memory of the core's to compress in. */
export class ZstdPacker {
  readonly #core: Core;
  readonly #output: number;

  /** @param most bytes that are compressed together */
  constructor(most: number) {
    this.#output = PACK_INPUT + most + PACK_SLACK;
    const pages = Math.ceil((this.#output + most + PACK_ROOM) / PAGE);
    this.#core = coreFor(new WebAssembly.Memory({ initial: pages, maximum: pages }));
  }

  /** The bytes as a Zstandard frame. */
  pack(bytes: Uint8Array): Uint8Array {
    this.#core.u8.set(bytes, PACK_INPUT);
    const length = this.#core.call.zstd(PACK_INPUT, bytes.length, this.#output, 0);
    return this.#core.u8.slice(this.#output, this.#output + length);
  }
}
