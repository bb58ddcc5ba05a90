import type { Flow } from "../../../core/flow.ts";
import { ExtentKind, type Format } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { unzlib } from "../inflate.ts";
import { read } from "../io.ts";
import { LookupImage } from "../lookup/image.ts";
import type { Found, Unit } from "../lookup/mapper.ts";
import { noteProblem } from "../lookup/tree-check.ts";
import { checkUnits } from "../lookup/unit-check.ts";
import { unpackAdc } from "./adc.ts";
import { bunzip } from "./bunzip.ts";
import { type Chunk, chunksOf, Method } from "./chunks.ts";
import { crc32 } from "./crc32.ts";
import { isKoly, type Koly, readKoly, readTables } from "./koly.ts";
import { unlzfse } from "./lzfse.ts";
import { unxz } from "./xz.ts";

const RUN = 2 ** 20;

const METHODS: Record<number, { name: string; unpack: (packed: Uint8Array, size: number) => Uint8Array }> = {
  [Method.Adc]: { name: "ADC", unpack: unpackAdc },
  [Method.Zlib]: { name: "zlib", unpack: unzlib },
  [Method.Bzip2]: { name: "bzip2", unpack: bunzip },
  [Method.Lzfse]: { name: "LZFSE", unpack: unlzfse },
  [Method.Lzma]: { name: "LZMA", unpack: unxz },
};

class DmgImage extends LookupImage {
  readonly format = "dmg";
  protected override readonly unitName = "chunk";
  readonly koly: Koly;
  readonly #chunks: readonly Chunk[];

  constructor(store: Store, koly: Koly, chunks: readonly Chunk[]) {
    const last = chunks.at(-1);
    super(store, last ? last.start + last.size : 0);
    this.koly = koly;
    this.#chunks = chunks;
  }

  find(offset: number): Found {
    const chunk = this.#chunkAt(offset);
    const within = offset - chunk.start;
    const length = chunk.size - within;
    const { start, size, method, position } = chunk;
    if (method === Method.Raw) return { kind: ExtentKind.Data, length, position: position + within };
    const unpacked = METHODS[method];
    if (!unpacked) return { kind: ExtentKind.Zero, length };
    return { kind: ExtentKind.Packed, length, unit: { start, size, position, packed: chunk.length, method } };
  }

  #chunkAt(offset: number): Chunk {
    let low = 0;
    let high = this.#chunks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#chunks[middle].start <= offset) low = middle + 1;
      else high = middle;
    }
    return this.#chunks[low - 1];
  }

  protected override unpackBytes(packed: Uint8Array, { size, method = 0 }: Unit): Uint8Array {
    return METHODS[method].unpack(packed, size);
  }

  describe(): Record<string, unknown> {
    const { version, variant, data } = this.koly;
    const methods = Object.entries(METHODS).filter(([code]) =>
      this.#chunks.some(({ method }) => method === Number(code)),
    );
    return {
      format: this.format,
      size: this.size,
      version,
      variant: variant === 1 ? "device" : variant === 2 ? "partition" : variant,
      chunks: this.#chunks.length,
      compression: methods.map(([, { name }]) => name),
      dataBytes: data.length,
    };
  }
}

function* openDmg(store: Store): Flow<DmgImage> {
  const koly = yield* readKoly(store);
  return new DmgImage(store, koly, chunksOf(store, koly, yield* readTables(store, koly)));
}

/** Apple's disk images (UDIF): UDRO, UDCO, UDZO, UDBZ, ULFO, ULMO; read only. */
export const dmg: Format = {
  name: "dmg",
  extensions: ["dmg"],
  probe: (_, tail) => (isKoly(tail) ? 100 : 0),

  *open(store, { onWarning }) {
    const image = yield* openDmg(store);
    const said = image.koly.sectors * 512;
    if (said !== 0 && said !== image.size) {
      onWarning?.(`${store.name}: the trailer says that the disk has ${said} bytes, its block tables ${image.size}`);
    }
    return image;
  },

  /** Unpacks every chunk, and compares the checksum of the data fork. */
  *check(store) {
    const image = yield* openDmg(store);
    const report = yield* checkUnits(image, 2 ** 18);
    const { checksum, data, position } = image.koly;
    if (checksum === undefined) return report;
    let crc = 0;
    for (let done = 0; done < data.length; done += RUN) {
      crc = crc32(yield* read(store, data.position + done, Math.min(RUN, data.length - done)), crc);
    }
    if (crc !== checksum) {
      const message = "the checksum of the data fork is wrong";
      noteProblem(report, { kind: "structure", structure: "data fork", offset: position + 88, message });
    }
    return report;
  },
};
