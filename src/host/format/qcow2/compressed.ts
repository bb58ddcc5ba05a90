import type { Flow } from "../../../core/flow.ts";
import type { Decompress, OpenOptions } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { inflateCodec } from "../inflate-codec.ts";
import { type Codec, type PackedUnit, Unpacker } from "../unpacker.ts";
import { unzstdHere } from "../zstd.ts";
import type { Header } from "./header.ts";
import { corrupt } from "./io.ts";

/** Where a compressed cluster is, in bytes ("Compressed Clusters Descriptor"). */
export function packedPlace(entry: bigint, clusterBits: number): { position: number; length: number } {
  const x = BigInt(62 - (clusterBits - 8));
  const position = Number(entry & ((1n << x) - 1n));
  const sectors = Number((entry & ((1n << 62n) - 1n)) >> x) + 1;
  return { position, length: sectors * 512 - (position % 512) };
}

/** Reads compressed clusters. */
export class ClusterUnpacker {
  readonly #store: Store;
  readonly #clusterBits: number;
  readonly #unpacker: Unpacker<PackedUnit>;

  constructor(store: Store, header: Header, codecs: OpenOptions["codecs"]) {
    this.#store = store;
    this.#clusterBits = header.clusterBits;
    const damaged = ({ position }: PackedUnit, what: string) => corrupt(store, "compressed cluster", position, what);
    const codec = header.compression === "zlib" ? inflateCodec(codecs?.deflate) : zstdCodec(codecs?.zstd);
    this.#unpacker = new Unpacker(store, 2 ** header.clusterBits, { ...codec, damaged });
  }

  /** Hands out the guest bytes of whole clusters; they are good during the call only. @throws ParavaneError CORRUPT */
  *each(entries: readonly bigint[], use: (bytes: Uint8Array, index: number) => void): Flow {
    yield* this.#unpacker.each(
      entries.map((entry) => this.#unit(entry)),
      use,
    );
  }

  /** Guest bytes of the whole cluster. @throws ParavaneError CORRUPT */
  *cluster(entry: bigint): Flow<Uint8Array> {
    let copy!: Uint8Array;
    yield* this.each([entry], (bytes) => {
      copy = bytes.slice();
    });
    return copy;
  }

  /** To be called before the space of compressed clusters is used again. */
  forget(): void {
    this.#unpacker.forget();
  }

  #unit(entry: bigint): PackedUnit {
    const { position, length } = packedPlace(entry, this.#clusterBits);
    if (position < 2 ** this.#clusterBits || position >= this.#store.size) {
      throw corrupt(this.#store, "compressed cluster", position, "lies outside the file");
    }
    return { position, packed: length, size: 2 ** this.#clusterBits };
  }
}

function zstdCodec(zstd: Decompress | undefined): Omit<Codec<PackedUnit>, "damaged"> {
  return {
    here: (buffers, slot, bytes, { size }) => unzstdHere(buffers, slot, bytes, size),
    ...(zstd && { elsewhere: (bytes: Uint8Array, { size }: PackedUnit) => zstd(bytes, size) }),
  };
}
