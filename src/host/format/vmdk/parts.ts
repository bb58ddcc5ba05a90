import type { Flow } from "../../../core/flow.ts";
import { type Decompress, ExtentKind, MapStop, type OpenOptions } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import type { Found, Unit } from "../lookup/mapper.ts";
import { Missing, type Pages } from "../lookup/pages.ts";
import type { Codec } from "../unpacker.ts";
import type { Extent } from "./descriptor.ts";
import { grainCodec } from "./grain-codec.ts";
import type { GrainTables } from "./grains.ts";
import { SparseVmdk } from "./image.ts";
import type { VmdkLayout } from "./layout.ts";

/** One extent of a disk. Offsets are from its start, positions those of the disk's joined files. */
export interface Part {
  /** Guest bytes before it, and in it. */
  readonly start: number;
  size: number;
  readonly extent: Extent;
  /** Absent for zeros, which are in no file. */
  readonly store?: Store;
  /** Guest bytes that get a place together. */
  readonly unit?: number;
  /** The tables of an extent that is only read. */
  readonly tables?: { compressed: boolean };
  /** Sparse extents that can be written. */
  readonly sparse?: SparsePart;
  /**
   * @param pages of the joined files
   * @param wanted bytes that are asked for
   * @throws Missing, ParavaneError CORRUPT
   */
  find(offset: number, pages: Pages, wanted?: number): Found;
}

interface Where {
  start: number;
  size: number;
  extent: Extent;
}

/** FLAT and VMFS: bytes as they are. */
export class FlatPart implements Part {
  readonly start: number;
  size: number;
  readonly extent: Extent;
  readonly store: Store;
  readonly #position: number;

  /** @param position of its first byte */
  constructor({ start, size, extent }: Where, store: Store, position: number) {
    this.start = start;
    this.size = size;
    this.extent = extent;
    this.store = store;
    this.#position = position;
  }

  find(offset: number): Found {
    return { kind: ExtentKind.Data, length: this.size - offset, position: this.#position + offset };
  }
}

export class ZeroPart implements Part {
  readonly start: number;
  size: number;
  readonly extent: Extent;

  constructor({ start, size, extent }: Where) {
    this.start = start;
    this.size = size;
    this.extent = extent;
  }

  find(offset: number): Found {
    return { kind: ExtentKind.Zero, length: this.size - offset };
  }
}

/** Tables that are looked up as they are on disk. */
interface Looked {
  store: Store;
  grain: number;
  compressed: boolean;
}

/** Extents that are only read: SESPARSE, compressed ones, and VMFSSPARSE with odd grains. */
export class LookedPart<Tables extends Looked> implements Part {
  readonly start: number;
  size: number;
  readonly extent: Extent;
  readonly tables: Tables;
  readonly #find: (offset: number, pages: Pages) => Found;
  readonly #base: number;
  #codec: Codec<Unit> | undefined;

  /** @param base where its file begins @param find what the tables say of an offset */
  constructor(
    { start, size, extent }: Where,
    tables: Tables,
    base: number,
    find: (offset: number, pages: Pages) => Found,
  ) {
    this.start = start;
    this.size = size;
    this.extent = extent;
    this.tables = tables;
    this.#base = base;
    this.#find = find;
  }

  get store(): Store {
    return this.tables.store;
  }
  get unit(): number {
    return this.tables.grain;
  }

  find(offset: number, pages: Pages): Found {
    return this.#find(offset, pages);
  }

  /** How compressed grains are unpacked, for whom positions are those of its file, which begins at `base`. */
  unpacking(this: LookedPart<GrainTables>, deflate: Decompress | undefined): { codec: Codec<Unit>; base: number } {
    this.#codec ??= grainCodec(this.tables, deflate);
    return { codec: this.#codec, base: this.#base };
  }
}

/** Guest bytes looked up at a time, at most. */
const RUN = 2 ** 22;

/** SPARSE and VMFSSPARSE: a file with tables of its own. */
export class SparsePart implements Part {
  readonly start: number;
  size: number;
  readonly extent: Extent;
  readonly image: SparseVmdk;
  readonly layout: VmdkLayout;
  readonly #base: number;
  readonly #miss: number;

  /**
   * @param base where its file begins
   * @param miss stands for its own page that is missing
   */
  constructor(
    { start, size, extent }: Where,
    layout: VmdkLayout,
    base: number,
    miss: number,
    onWarning: OpenOptions["onWarning"],
  ) {
    this.start = start;
    this.size = size;
    this.extent = extent;
    this.layout = layout;
    this.image = new SparseVmdk(layout, onWarning);
    this.#base = base;
    this.#miss = miss;
  }

  get sparse(): SparsePart {
    return this;
  }
  get store(): Store {
    return this.layout.store;
  }
  get unit(): number {
    return this.layout.grain;
  }

  find(offset: number, _pages?: Pages, wanted = RUN): Found {
    const { mapper } = this.image;
    mapper.setRange(0, offset, Math.min(RUN, wanted, this.size - offset), false);
    const stop = mapper.resolve(1);
    if (mapper.extentCount === 0) throw stop === MapStop.Miss ? new Missing(this.#miss) : this.image.fault();
    const kind = mapper.extentKind(0);
    const length = mapper.extentLength(0);
    if (kind !== ExtentKind.Data) return { kind, length };
    return { kind, length, position: this.#base + mapper.extentPosition(0) };
  }

  *load(): Flow {
    yield* this.image.load();
  }
}
