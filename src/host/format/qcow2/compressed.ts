import { type Flow, wait } from "../../../core/flow.ts";
import type { Decompress, OpenOptions } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { inflate } from "../inflate.ts";
import { unzstd } from "../zstd.ts";
import type { Header } from "./header.ts";
import { corrupt, read } from "./io.ts";

/** Unpacked clusters are kept, so that small reads of one do not unpack it again and again. */
const CACHE_BYTES = 2 ** 22;

/** Where a compressed cluster is, in bytes ("Compressed Clusters Descriptor"). */
export function packedPlace(entry: bigint, clusterBits: number): { position: number; length: number } {
  const x = BigInt(62 - (clusterBits - 8));
  const position = Number(entry & ((1n << x) - 1n));
  const sectors = Number((entry & ((1n << 62n) - 1n)) >> x) + 1;
  return { position, length: sectors * 512 - (position % 512) };
}

/** Reads compressed clusters. */
export class Unpacker {
  readonly #store: Store;
  readonly #clusterBits: number;
  readonly #header: Header;
  readonly #codecs: OpenOptions["codecs"];
  /** By position in the store; the least recently used first. */
  readonly #cache = new Map<number, Uint8Array>();

  constructor(store: Store, header: Header, codecs: OpenOptions["codecs"]) {
    this.#store = store;
    this.#header = header;
    this.#clusterBits = header.clusterBits;
    this.#codecs = codecs;
  }

  /** Guest bytes of the whole cluster. @throws ParavaneError CORRUPT */
  *cluster(entry: bigint): Flow<Uint8Array> {
    const { position, length } = packedPlace(entry, this.#clusterBits);
    const cached = this.#cache.get(position);
    if (cached) {
      this.#cache.delete(position);
      this.#cache.set(position, cached);
      return cached;
    }
    const decompress = this.#codec();
    if (position < 2 ** this.#clusterBits || position >= this.#store.size) {
      throw corrupt(this.#store, "compressed cluster", position, "lies outside the file");
    }
    const size = 2 ** this.#clusterBits;
    // The last sector need not be there in full.
    const packed = yield* read(this.#store, position, Math.min(length, this.#store.size - position));
    let bytes: Uint8Array;
    try {
      bytes = yield* wait(decompress(packed, size));
    } catch (thrown) {
      const cause = thrown instanceof Error ? thrown.message : String(thrown);
      throw corrupt(this.#store, "compressed cluster", position, `does not unpack: ${cause}`);
    }
    if (bytes.length !== size) {
      throw corrupt(this.#store, "compressed cluster", position, `holds ${bytes.length} bytes, not ${size}`);
    }
    while (this.#cache.size > 0 && (this.#cache.size + 1) * size > CACHE_BYTES) {
      this.#cache.delete(this.#cache.keys().next().value!);
    }
    this.#cache.set(position, bytes);
    return bytes;
  }

  /** To be called before the space of compressed clusters is used again. */
  forget(): void {
    this.#cache.clear();
  }

  #codec(): Decompress {
    if (this.#header.compression === "zlib") return this.#codecs?.deflate ?? inflate;
    return this.#codecs?.zstd ?? unzstd;
  }
}
