import { ParavaneError } from "../../core/error.ts";
import { type Flow, wait } from "../../core/flow.ts";
import {
  type CreateOptions,
  ExtentKind,
  type Format,
  type Image,
  type Measure,
  type OpenOptions,
} from "../../core/format.ts";
import { SegmentList } from "../../core/segments.ts";
import type { Store } from "../../core/store.ts";
import { CoreMapper } from "../../wasm/map.ts";

const SECTOR = 512;
/** Bytes of zeros written at a time. */
const RUN = 2 ** 20;

interface RawCreateOptions extends CreateOptions {
  /**
   * "off" leaves a hole; "full" writes zeros, so that the space is there. "falloc" reserves the space and writes nothing
   * where the store can (files on Linux, with koffi installed), and writes zeros elsewhere: Node has no call for it.
   */
  preallocation?: "off" | "falloc" | "full";
}

/** No metadata: guest byte n is store byte n. */
class RawImage implements Image {
  readonly format = "raw";
  readonly sectorSize = SECTOR;
  size: number;
  readonly mapper: CoreMapper;
  readonly dirty = false;
  readonly sparse = true;
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

  /** @throws ParavaneError INVALID (not whole sectors), and what the store throws: a device keeps its size */
  *resize(size: number): Flow {
    if (!Number.isSafeInteger(size) || size < 0 || size % SECTOR !== 0) {
      const hint = `Give whole sectors of ${SECTOR} bytes`;
      throw new ParavaneError("INVALID", `a raw image cannot be ${size} bytes`, { file: this.#store.name }, { hint });
    }
    yield* wait(this.#store.resize(size));
    yield* wait(this.#store.flush());
    this.size = size;
    this.mapper.limit = size;
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

  *create(store: Store, options: CreateOptions): Flow<void> {
    const { size, preallocation } = checked(options);
    yield* wait(store.resize(size));
    if (preallocation === "off" || (preallocation === "falloc" && store.reserve?.(size))) return;
    const zeros = new Uint8Array(Math.min(RUN, size));
    for (let at = 0; at < size; at += RUN) {
      yield* wait(store.writev(at, zeros, SegmentList.of(0, Math.min(RUN, size - at))));
    }
  },

  // What is not stored still counts in the length of the file.
  measure(options: CreateOptions): Measure {
    const { size } = checked(options);
    return { unit: SECTOR, bytes: () => size };
  },
};

/** @throws ParavaneError INVALID */
function checked({ size, preallocation = "off", parent, ...rest }: RawCreateOptions) {
  const [unknown] = Object.keys(rest);
  const invalid = (message: string, hint: string) => new ParavaneError("INVALID", message, {}, { hint });
  if (unknown !== undefined) throw invalid(`raw images have no option "${unknown}"`, "Known: preallocation");
  if (parent) throw invalid("a raw image has no parent", "Make the image in a format that notes one");
  if (!["off", "falloc", "full"].includes(preallocation)) {
    throw invalid(`there is no preallocation "${preallocation}"`, "Known: off, falloc, full");
  }
  if (!Number.isSafeInteger(size) || size < 0) {
    throw invalid(`a raw image cannot be ${size} bytes`, "Give whole bytes");
  }
  return { size: Math.ceil(size / SECTOR) * SECTOR, preallocation };
}
