import { ParavaneError } from "../../core/error.ts";
import type { SegmentList } from "../../core/segments.ts";
import { ReadOnlyStore } from "./read-only.ts";
import { Units } from "./units.ts";

export interface BlobStoreOptions {
  /** For messages; a File's own name when absent. */
  name?: string;
  /** Bytes kept in memory, at most. Default 8 MiB. */
  cacheBytes?: number;
  /** Bytes read at a time. Default 128 KiB: browsers take as long for 4 KiB of a Blob. */
  unit?: number;
}

/** A Blob or a File that a user has picked, read-only. Asynchronous. */
export class BlobStore extends ReadOnlyStore {
  readonly #units: Units;

  constructor(blob: Blob, { name, cacheBytes = 2 ** 23, unit = 2 ** 17 }: BlobStoreOptions = {}) {
    super(name ?? (blob as { name?: string }).name ?? "blob", blob.size);
    const fetch = async (position: number, length: number) => {
      let bytes: Uint8Array;
      try {
        bytes = new Uint8Array(await blob.slice(position, position + length).arrayBuffer());
      } catch (thrown) {
        throw this.#changed(position, length, thrown);
      }
      if (bytes.length !== length) throw this.#changed(position, length);
      return bytes;
    };
    this.#units = new Units(blob.size, fetch, { unit, cacheBytes, readahead: 2 ** 20, inFlight: 4 });
  }

  protected read(position: number, memory: Uint8Array, segments: SegmentList): Promise<void> {
    return this.#units.read(position, memory, segments);
  }

  #changed(offset: number, length: number, cause?: unknown): ParavaneError {
    const context = { file: this.name, offset, length };
    const hint = "If the file was changed or removed since it was chosen, choose it again";
    return new ParavaneError("IO", `${this.name} can no longer be read`, context, { cause, hint });
  }
}
