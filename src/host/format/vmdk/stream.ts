import { type Flow, wait } from "../../../core/flow.ts";
import type { OpenOptions, Packing, ParentReference } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { corrupt, read, unsupported } from "../io.ts";
import type { Found, Unit } from "../lookup/mapper.ts";
import { Unpacker } from "../unpacker.ts";
import type { Descriptor } from "./descriptor.ts";
import { describeVmdk } from "./facts.ts";
import { grainCodec } from "./grain-codec.ts";
import { GrainImage } from "./grain-image.ts";
import { findGrain, type GrainTables } from "./grains.ts";
import { AT_END, DEFLATE, Flag, type Header, parseHeader, SECTOR } from "./header.ts";
import { checked, embedded, parentOf } from "./layout.ts";
import { StreamWriter } from "./stream-writer.ts";

interface StreamLayout {
  tables: GrainTables;
  header: Header;
  descriptor: Descriptor;
  parent?: ParentReference;
}

/** @throws ParavaneError CORRUPT, UNSUPPORTED */
export function* readCompressed(store: Store, first: Header): Flow<GrainTables> {
  let header = first;
  if (!(first.flags & Flag.Compressed) || first.compression !== DEFLATE) {
    throw unsupported(store, "header", `grains with markers, packed by method ${first.compression}, are not known`);
  }
  if (first.directoryOffset === AT_END) header = yield* readFooter(store);
  const { size, grain, count } = checked(store, header);
  const directory = Number(header.directoryOffset) * SECTOR;
  if (directory === 0 || directory + count * 4 > store.size) {
    throw corrupt(store, "grain directory", directory, "is not inside the file");
  }
  return {
    store,
    size,
    grain,
    entries: header.tableEntries,
    directory,
    zero: header.flags & Flag.ZeroedGrain ? 1 : undefined,
    compressed: true,
    markers: (header.flags & Flag.Markers) !== 0,
  };
}

/** Zeros behind the end, which a copy in whole blocks leaves. */
const MAX_PADDING = 2 ** 20;

/** Footer and end-of-stream marker are the last two sectors. @throws ParavaneError CORRUPT */
function* readFooter(store: Store): Flow<Header> {
  const last = Math.floor(store.size / SECTOR) * SECTOR - SECTOR * 2;
  const from = Math.max(SECTOR, last - MAX_PADDING);
  for (let at = last, end = true; end && at >= from; at -= SECTOR) {
    const [sector, next] = [yield* read(store, at, SECTOR), yield* read(store, at + SECTOR, SECTOR)];
    const footer = parseHeader(sector);
    if (footer) return footer;
    end = [sector, next].every((bytes) => bytes.every((byte) => byte === 0));
  }
  throw corrupt(store, "footer", Math.max(0, last), "is not there: the file is cut off");
}

/** @throws ParavaneError CORRUPT, UNSUPPORTED */
export function* readStream(store: Store, header: Header): Flow<StreamLayout> {
  const { descriptor } = yield* embedded(store, header);
  const { parent } = parentOf(store, descriptor);
  const tables = yield* readCompressed(store, header);
  return { tables, header, descriptor, ...(parent && { parent }) };
}

/** A streamOptimized disk: compressed grains, in the order in which they came. It is written once, from its start to its end. */
export class StreamVmdk extends GrainImage {
  readonly format = "vmdk";
  readonly packing: Packing;
  readonly #layout: StreamLayout;
  protected readonly unpacker: Unpacker<Unit>;
  #writer: StreamWriter | undefined;

  constructor(layout: StreamLayout, { codecs }: OpenOptions) {
    super(layout.tables.store, layout.tables.size);
    this.#layout = layout;
    this.unpacker = new Unpacker(this.store, layout.tables.grain, grainCodec(layout.tables, codecs?.deflate));
    this.packing = { unit: layout.tables.grain, codec: "zlib", only: true };
  }

  get identity(): string {
    return this.#layout.descriptor.cid;
  }
  override get parent(): ParentReference | undefined {
    return this.#layout.parent;
  }
  override get dirty(): boolean {
    return this.#writer?.dirty ?? false;
  }

  find(offset: number): Found {
    return findGrain(this.#layout.tables, this.pages, offset, { start: 0, base: 0 });
  }

  /** @throws ParavaneError UNSUPPORTED: it has been written */
  *begin(): Flow {
    const { tables, header } = this.#layout;
    const { directory, size, grain, entries, store } = tables;
    const count = Math.ceil(size / (grain * entries));
    const bytes = yield* read(store, directory, count * 4);
    if (bytes.some((byte) => byte !== 0) || header.directoryOffset !== AT_END) throw this.#once();
    this.#writer = new StreamWriter(tables, header);
  }

  override *allocate(): Flow {
    throw this.#once();
  }

  /** @throws ParavaneError UNSUPPORTED (the grain is there already), NO_SPACE */
  *writePacked(offset: number, packed: Uint8Array): Flow {
    yield* this.#writer!.add(offset, packed);
  }

  override *sync(): Flow {
    if (!this.#writer) return;
    this.#layout.tables.directory = yield* this.#writer.end();
    this.pages.clear();
    this.unpacker.forget();
  }

  #once() {
    const hint = "Convert it to another subformat, such as monolithicSparse";
    return unsupported(this.store, "header", "streamOptimized VMDKs are written once, by a conversion", hint);
  }

  describe(): Record<string, unknown> {
    const { header, descriptor, tables } = this.#layout;
    const { size } = this;
    const { grain, markers } = tables;
    const own = { "virtual-size": size, filename: this.store.name, "cluster-size": grain, format: "" };
    const extents = [{ compressed: true, ...own }];
    const more = { version: header.version, markers };
    return describeVmdk(descriptor, { size, unit: grain, dirty: header.unclean, extents, header: more });
  }
}

/** An empty one. */
export function* createStream(store: Store, header: Header): Flow {
  const { size, grain } = checked(store, header);
  const tables = { store, size, grain, entries: header.tableEntries, directory: 0 };
  const writer = new StreamWriter({ ...tables, compressed: true, markers: true }, header);
  yield* writer.end();
  yield* wait(store.flush());
}
