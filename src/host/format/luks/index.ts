import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import {
  type CreateOptions,
  ExtentKind,
  type Format,
  type Image,
  type Measure,
  type OpenOptions,
} from "../../../core/format.ts";
import type { KeySlots } from "../../../core/keys.ts";
import type { Unlocking } from "../../../core/secret.ts";
import type { Store } from "../../../core/store.ts";
import { CoreMapper } from "../../../wasm/map.ts";
import {
  Area,
  createLuks,
  isLuks,
  type Luks,
  type LuksCreateOptions,
  openLuks,
  planLuks,
  unlockStore,
} from "../../crypto/luks/index.ts";
import { keySlotsOf } from "../../crypto/luks/keys.ts";

/** A header with key slots, then the disk, encrypted sector by sector. What was never written reads as noise. */
class LuksImage implements Image {
  readonly format = "luks";
  readonly encrypted = true;
  readonly dirty = false;
  readonly data: Store;
  readonly mapper: CoreMapper;
  readonly keys: KeySlots;
  size: number;
  readonly #luks: Luks;
  readonly #store: Store;

  constructor(store: Store, luks: Luks, data: Store) {
    this.data = data;
    this.keys = keySlotsOf(luks);
    this.#store = store;
    this.#luks = luks;
    const { dataOffset, sectorBytes } = luks;
    const there = luks.dataSize ?? store.size - dataOffset;
    this.size = Math.floor(Math.max(0, there) / sectorBytes) * sectorBytes;
    if (dataOffset + this.size > store.size) {
      throw new ParavaneError("CORRUPT", `the LUKS2 JSON area gives the disk ${this.size} bytes, more than there are`, {
        file: store.name,
        structure: "LUKS2 JSON area",
      });
    }
    this.mapper = new CoreMapper({
      kind: "flat",
      hole: ExtentKind.Zero,
      base: dataOffset,
      limit: dataOffset + this.size,
    });
  }

  get sectorSize(): number {
    return this.#luks.sectorBytes;
  }

  /** @throws ParavaneError INVALID (not whole sectors), UNSUPPORTED (the header says the size), and what the store throws */
  *resize(size: number): Flow {
    const { dataOffset, sectorBytes, dataSize } = this.#luks;
    const context = { file: this.#store.name };
    if (!Number.isSafeInteger(size) || size < 0 || size % sectorBytes !== 0) {
      const hint = `Give whole sectors of ${sectorBytes} bytes`;
      throw new ParavaneError("INVALID", `a disk cannot be ${size} bytes`, context, { hint });
    }
    if (dataSize !== undefined) {
      throw new ParavaneError("UNSUPPORTED", "the size of this disk is fixed in its header", context);
    }
    // What is new reads as zeros: written as such, before the disk shows it.
    yield* wait(this.data.resize(dataOffset + size));
    yield* wait(this.#store.flush());
    this.size = size;
    this.mapper.limit = dataOffset + size;
  }

  // All of the disk has its place.
  *allocate(): Flow {}
  *load(): Flow {}
  *sync(): Flow {}
  fault(): ParavaneError {
    return new ParavaneError("CORRUPT", "a LUKS image has no map");
  }

  describe(): Record<string, unknown> {
    const data = this.#luks.describe();
    return { format: this.format, size: this.size, encrypted: true, formatSpecific: { type: "luks", data } };
  }
}

interface LuksFormatOptions extends CreateOptions, LuksCreateOptions, Unlocking {
  /**
   * "off" leaves the disk as it is, so that it reads as noise; "full" writes zeros, encrypted; "falloc" only gives it room on
   * the host, as "full" does where the host cannot.
   */
  preallocation?: "off" | "falloc" | "full";
}

/** @throws ParavaneError INVALID */
function checked(options: CreateOptions) {
  const { size, parent, preallocation = "off", passphrase, volumeKey, kdf, ...rest } = options as LuksFormatOptions;
  if (parent) throw new ParavaneError("INVALID", "a LUKS image has no parent");
  if (!["off", "falloc", "full"].includes(preallocation)) {
    throw new ParavaneError(
      "INVALID",
      `there is no preallocation "${preallocation}"`,
      {},
      { hint: "Known: off, falloc, full" },
    );
  }
  const plan = planLuks(rest as LuksCreateOptions);
  const unit = plan.version === 2 ? plan.sectorBytes : 512;
  if (!Number.isSafeInteger(size + plan.dataOffset) || size < 0) {
    throw new ParavaneError("INVALID", `a disk cannot be ${size} bytes`);
  }
  const unlocking: Unlocking = {
    ...(passphrase && { passphrase }),
    ...(volumeKey && { volumeKey }),
    ...(kdf && { kdf }),
  };
  return { size: Math.ceil(size / unit) * unit, preallocation, plan, unlocking };
}

/** Linux Unified Key Setup, versions 1 and 2: a whole disk, encrypted. */
export const luks: Format = {
  name: "luks",
  extensions: ["luks"],
  noise: true,

  probe(head) {
    return isLuks(head) ? 100 : 0;
  },

  *open(store: Store, options: OpenOptions): Flow<Image> {
    const header = yield* openLuks(new Area(store), options, true);
    for (const warning of header.warnings) options.onWarning?.(`${store.name}: ${warning}`);
    const where = { origin: header.dataOffset, number: header.firstNumber };
    return new LuksImage(store, header, yield* unlockStore(header, store, options, where));
  },

  *create(store: Store, options: CreateOptions): Flow<void> {
    const { size, preallocation, plan, unlocking } = checked(options);
    // The header last: until then nothing takes the file for an image.
    const header = yield* createLuks(new Area(store), plan, unlocking);
    if (preallocation === "off") return yield* wait(store.resize(header.dataOffset + size));
    if (preallocation === "falloc" && store.reserve?.(header.dataOffset + size)) return;
    const data = yield* unlockStore(header, store, unlocking, {
      origin: header.dataOffset,
      number: header.firstNumber,
    });
    try {
      // Also where the store has that size already, with whatever is in it.
      yield* wait(data.discard(header.dataOffset, size));
      yield* wait(data.resize(header.dataOffset + size));
    } finally {
      yield* wait(data.close());
    }
  },

  measure(options: CreateOptions): Measure {
    const { size, plan } = checked({ ...options, passphrase: undefined });
    return { unit: 512, bytes: () => plan.dataOffset + size };
  },
};
