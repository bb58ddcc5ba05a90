import { ParavaneError } from "../../core/error.ts";
import { type Flow, wait } from "../../core/flow.ts";
import { type CreateOptions, ExtentKind, type Format, type Image, type OpenOptions } from "../../core/format.ts";
import type { Store } from "../../core/store.ts";
import { CoreMapper } from "../../wasm/map.ts";

const SECTOR = 512;

/** No metadata: guest byte n is store byte n. */
class RawImage implements Image {
  readonly format = "raw";
  readonly sectorSize = SECTOR;
  readonly size: number;
  readonly mapper: CoreMapper;
  readonly dirty = false;
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
    // A file that ends inside a sector: the rest of that sector reads as zeros, and a write to it extends the file.
    this.size = Math.ceil(store.size / SECTOR) * SECTOR;
    this.mapper = new CoreMapper({ kind: "flat", hole: ExtentKind.Zero, base: 0, limit: store.size });
  }

  *allocate(): Flow {
    yield* wait(this.#store.resize(this.size));
    this.mapper.limit = this.size;
  }

  // A flat map has no entries: it never misses, is never corrupt, and leaves nothing to write.
  *load(): Flow {}
  *sync(): Flow {}
  fault(): ParavaneError {
    return new ParavaneError("CORRUPT", "a raw image has no metadata");
  }

  describe(): Record<string, unknown> {
    return { format: this.format, size: this.size };
  }
}

export const raw: Format = {
  name: "raw",
  extensions: ["img", "raw", "bin", "iso"],

  /** Anything can be raw, so it is what is left when nobody else is sure. */
  probe: () => 1,

  *open(store: Store, _options: OpenOptions): Flow<Image> {
    return new RawImage(store);
  },

  *create(store: Store, { size, ...rest }: CreateOptions): Flow<void> {
    const [unknown] = Object.keys(rest);
    if (unknown !== undefined) throw new ParavaneError("INVALID", `raw images have no option "${unknown}"`);
    if (!Number.isSafeInteger(size) || size < 0) {
      throw new ParavaneError("INVALID", `a raw image cannot be ${size} bytes`, {}, { hint: "Give whole bytes" });
    }
    yield* wait(store.resize(Math.ceil(size / SECTOR) * SECTOR));
  },
};
