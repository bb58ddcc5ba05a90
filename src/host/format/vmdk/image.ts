import type { Block } from "../../../core/block.ts";
import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import {
  ExtentKind,
  type Image,
  type NewParent,
  type OpenOptions,
  type ParentReference,
} from "../../../core/format.ts";
import { CoreMapper } from "../../../wasm/map.ts";
import { readBacking } from "../blocks/image.ts";
import { alignUp, clear, corrupt, fill, isEmpty, read, unsupported, write } from "../io.ts";
import { Metadata } from "../metadata.ts";
import { matchCopies } from "./copies.ts";
import { changedHeader } from "./cowd.ts";
import { descriptorBytes, parentOf } from "./create.ts";
import { changedDescriptor, type DescriptorChange, newCid } from "./descriptor.ts";
import { describeVmdk } from "./facts.ts";
import { type HeaderChange, REACH, SECTOR } from "./header.ts";
import {
  checkTracking,
  littleEndian,
  readExtent,
  readLayout,
  TABLE,
  tableBytes,
  type VmdkLayout,
  zeroEntry,
} from "./layout.ts";
import { resizeVmdk } from "./resize.ts";
import { eachTable, metadataRanges, type Range, soundTable, survey } from "./scan.ts";

const REPAIR = "Mend it first: paravane img check -r all";

/**
 * A disk in grains, found through a directory of grain tables; both are there twice, but once in ESX Server's extents. A grain
 * appears at the end of the file when it is first written. Its entries are written, the copy's first, after a flush.
 */
export class SparseVmdk implements Image {
  readonly format = "vmdk";
  readonly sectorSize = SECTOR;
  #layout: VmdkLayout;
  #mapper: CoreMapper;
  #metadata: Metadata;
  /** Pages of the copy that wait for `sync`, by position. */
  readonly #copies = new Map<number, Uint8Array>();
  /** The CID once the disk is changed. */
  readonly #next = newCid();
  /** Where the next grain goes. */
  #end = 0;
  /** Where the header says that it does. */
  #noted = 0;
  #backing: Block | undefined;
  #begun = false;
  readonly #warn: OpenOptions["onWarning"];
  /** Where no grain may be, once a table was looked at. */
  #taken: Range[] | undefined;
  /** Tables whose copy is used. */
  readonly #copied = new Set<number>();

  constructor(layout: VmdkLayout, onWarning?: OpenOptions["onWarning"]) {
    this.#layout = layout;
    this.#warn = onWarning;
    this.#mapper = mapperFor(layout);
    this.#metadata = metadataFor(layout, this.#mapper);
  }

  get size(): number {
    return this.#layout.size;
  }
  get mapper(): CoreMapper {
    return this.#mapper;
  }
  get parent(): ParentReference | undefined {
    return this.#layout.parent;
  }
  get identity(): string {
    return this.#layout.descriptor!.cid;
  }
  get nextIdentity(): string {
    return this.#next;
  }
  get dirty(): boolean {
    return this.#metadata.dirty || this.#copies.size > 0;
  }
  get crowded(): boolean {
    return this.#metadata.crowded;
  }

  attach(backing: Block): void {
    this.#backing = backing;
  }
  *load(): Flow {
    // Before the first change all tables have been looked at.
    yield* this.#metadata.load((page, key) => this.#choose(page, key));
  }

  /** What to go by: of a directory, the tables that were chosen; in place of a table that cannot be, its copy, if that can. */
  #choose(page: Uint8Array, key: number): Flow | undefined {
    const layout = this.#layout;
    const { directory, redundant, damage } = layout;
    // Before the first change all tables have been looked at.
    if (this.#begun) return undefined;
    const number = Math.floor(key / 2);
    if ((key & 1) === 0) {
      const first = (number * this.mapper.pageBytes(key)) / 4;
      if (damage !== undefined) page.set(littleEndian(directory.tables.subarray(first, first + page.length / 4)));
      return undefined;
    }
    const copy = redundant?.tables[number] ?? 0;
    if (copy === 0 || copy === directory.tables[number]) return undefined;
    this.#taken ??= metadataRanges(layout);
    // While a disk is written its copies come first; closed, they say the same. So what says nothing was lost.
    const lost = !layout.header.unclean && isEmpty(page);
    return soundTable(layout, this.#taken, page, number) && !lost ? undefined : this.#useCopy(page, number, copy);
  }

  *#useCopy(page: Uint8Array, index: number, copy: number): Flow {
    const layout = this.#layout;
    const tables = layout.directory.tables.slice();
    tables[index] = copy;
    const taken = metadataRanges({ ...layout, directory: { ...layout.directory, tables } });
    const bytes = yield* read(layout.store, copy * SECTOR, tableBytes(layout));
    if (isEmpty(bytes) || !soundTable(layout, taken, bytes, index)) return;
    page.set(bytes);
    if (this.#copied.has(index)) return;
    this.#copied.add(index);
    this.#warn?.(`${layout.store.name}: ${TABLE} ${index} is damaged; its copy is used`);
  }
  *sync(): Flow {
    for (const [position, bytes] of this.#copies) {
      yield* write(this.#layout.store, position, bytes);
      this.#copies.delete(position);
    }
    yield* this.#metadata.sync();
    yield* this.#noteEnd();
  }

  /** ESX Server's extents say where the next grain goes. Who finds them unclean does not go by it. */
  *#noteEnd(): Flow {
    const { store, header } = this.#layout;
    if (!header.cowd || this.#noted === this.#end) return;
    this.#noted = this.#end;
    yield* write(store, 0, changedHeader(header, { free: this.#end / SECTOR }).subarray(0, SECTOR));
  }

  fault(): ParavaneError {
    const { grain, entries, directory, store } = this.#layout;
    const index = Math.floor(this.mapper.stopOffset / grain);
    const table = Math.floor(index / entries);
    const at = directory.tables[table] * SECTOR + (index % entries) * 4;
    const what = `${table} points at byte ${this.mapper.stopPosition} for grain ${index}, where nothing can be`;
    return corrupt(store, TABLE, at, what);
  }

  /** @throws ParavaneError CORRUPT when a write to one grain would change another; UNSUPPORTED */
  *begin(): Flow {
    const layout = this.#layout;
    const { store, damage, header } = layout;
    if (header.version > 2) {
      throw unsupported(store, "header", "version 3 VMDKs, whose changes are tracked, are only read");
    }
    if (layout.descriptor) checkTracking(store, layout.descriptor);
    if (damage !== undefined) throw new ParavaneError("CORRUPT", damage, { file: store.name }, { hint: REPAIR });
    yield* this.#survey();
    if (header.unclean) yield* matchCopies(layout);
    yield* this.#change({ unclean: true, free: this.#end / SECTOR }, { cid: this.#next });
    this.#begun = true;
  }
  *finish(): Flow {
    yield* this.#change({ unclean: false, free: this.#end / SECTOR }, {});
  }

  *#survey(): Flow {
    const layout = this.#layout;
    const wrong = (offset: number, what: string) => {
      const context = { file: layout.store.name, structure: TABLE, offset };
      const message = `the ${TABLE} ${what}: the disk can only be read`;
      throw new ParavaneError("CORRUPT", message, context, { hint: REPAIR });
    };
    if (layout.overlap) wrong(0, "overlaps other metadata");
    const usage = yield* survey(layout, wrong);
    this.#end = usage.end;
    const { directory, redundant, header } = layout;
    if (!redundant || header.unclean || this.#begun) return;
    const copies = new Uint32Array(redundant.tables.length);
    for (const index of usage.empty) copies[index] = redundant.tables[index];
    yield* eachTable(layout, copies, (copy, index) => {
      if (!isEmpty(copy)) wrong(directory.tables[index] * SECTOR, `${index} is empty, but its copy is not`);
    });
  }

  /** Grains from `offset` on, as far as none has a place and their entries are in one table. */
  *allocate(offset: number, length: number): Flow {
    const { grain, entries, directory, redundant, store, size } = this.#layout;
    const first = Math.floor(offset / grain);
    const table = Math.floor(first / entries);
    if (directory.tables[table] === 0) return yield* this.#addTable(table);
    // The resolve that stopped for want of a place has looked this entry up, so its page is cached.
    const key = this.mapper.leafKey(table, 0);
    const page = this.#metadata.page(key);
    const view = new DataView(page.buffer, page.byteOffset, page.length);
    const zero = zeroEntry(this.#layout);
    const last = Math.min(Math.ceil((offset + length) / grain), (table + 1) * entries);
    const entry = (index: number) => view.getUint32((index % entries) * 4, true);
    const holes: boolean[] = [];
    for (let index = first; index < last; index++) {
      const value = entry(index);
      if (value !== 0 && value !== zero) break;
      holes.push(value === 0);
    }
    const place = this.#end;
    const count = holes.length;
    this.#reach(place + count * grain);
    yield* clear(store, place, place + count * grain);
    for (const [i, hole] of holes.entries()) {
      if (!hole || !this.#backing) continue;
      const start = (first + i) * grain;
      const from = Math.max(0, offset - start);
      const to = Math.min(grain, offset + length - start, size - start);
      yield* this.#copyBacking(place + i * grain, start, from);
      yield* this.#copyBacking(place + i * grain + to, start + to, grain - to);
    }
    this.mapper.limit = store.size;
    this.#end = place + count * grain;
    this.#metadata.change(key, directory.tables[table] * SECTOR, (bytes) => {
      const changed = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      for (let i = 0; i < count; i++) {
        changed.setUint32(((first + i) % entries) * 4, (place + i * grain) / SECTOR, true);
      }
    });
    if (redundant) this.#copies.set(redundant.tables[table] * SECTOR, this.#metadata.page(key).slice());
  }

  #reach(end: number): void {
    if (end / SECTOR <= REACH) return;
    throw new ParavaneError("NO_SPACE", "the VMDK has reached the last sector that an entry can name", {
      file: this.#layout.store.name,
    });
  }

  *#copyBacking(position: number, guest: number, length: number): Flow {
    const { from, store, size } = this.#layout;
    const covered = Math.min(length, Math.min(this.#backing!.size - from, size) - guest);
    if (covered > 0) yield* write(store, position, yield* readBacking(this.#backing!, from + guest, covered));
  }

  /** An empty table and its copy, for a directory that has none there. Like grains they are durable before entries name them. */
  *#addTable(table: number): Flow {
    const { store, grain, directory, redundant } = this.#layout;
    const bytes = tableBytes(this.#layout);
    const at = this.#end;
    const end = alignUp(at + bytes * (redundant ? 2 : 1), grain);
    this.#reach(end);
    yield* clear(store, at, end);
    this.mapper.limit = store.size;
    this.#end = end;
    const key = this.mapper.topKey(table * 4);
    const page = this.mapper.pageBytes(key);
    const start = (key / 2) * page;
    directory.tables[table] = at / SECTOR;
    this.#metadata.change(key, directory.position + start, (changed) => {
      new DataView(changed.buffer, changed.byteOffset).setUint32((table * 4) % page, at / SECTOR, true);
    });
    if (!redundant) return;
    redundant.tables[table] = (at + bytes) / SECTOR;
    const part = redundant.tables.subarray(start / 4, (start + page) / 4);
    this.#copies.set(redundant.position + start, littleEndian(part));
  }

  /** @throws ParavaneError INVALID, NO_SPACE, UNSUPPORTED when the parent would show in what is new */
  *resize(size: number): Flow {
    if (size > this.size && this.parent && (this.#backing?.size ?? 0) > this.#layout.from + this.size) {
      const hint = "Convert the disk to one without a parent first";
      throw unsupported(this.#layout.store, "descriptor", "the parent would show in what is new", hint);
    }
    yield* this.#survey();
    yield* resizeVmdk(this.#layout, size, this.#end);
    yield* this.#renew();
    yield* this.#survey();
    yield* this.#noteEnd();
  }

  /** @throws ParavaneError INVALID */
  *setParent(parent: NewParent | undefined): Flow {
    if (!parent && !this.parent) return;
    yield* this.#change({}, { parent: parent ? parentOf(parent) : null });
    if (!parent) this.#backing = undefined;
    yield* this.#renew();
  }

  /** The disk that this is an extent of has another parent, or none. */
  *adopt(parent: ParentReference | undefined): Flow {
    const { parent: _, ...rest } = this.#layout;
    this.#layout = { ...rest, ...(parent && { parent }) };
    if (!parent) this.#backing = undefined;
    yield* this.#renew();
  }

  *empty(): Flow {
    const layout = this.#layout;
    for (const copy of [layout.redundant, layout.directory]) {
      for (const at of copy?.tables ?? []) {
        if (at > 0) yield* fill(layout.store, at * SECTOR, at * SECTOR + tableBytes(layout), 0);
      }
    }
    yield* wait(layout.store.flush());
    yield* this.#renew();
    yield* this.#survey();
    if (layout.store.size > this.#end) yield* wait(layout.store.resize(this.#end));
    this.mapper.limit = layout.store.size;
    yield* this.#noteEnd();
  }

  /** The image has been changed as a whole. */
  *#renew(): Flow {
    this.#layout = yield* again(this.#layout);
    this.#mapper = mapperFor(this.#layout);
    this.#metadata = metadataFor(this.#layout, this.#mapper);
  }

  /** Changes header and descriptor, durably. The first is one sector; a CID is in the descriptor's first one. */
  *#change(header: HeaderChange, descriptor: DescriptorChange): Flow {
    const { store, descriptorAt, descriptor: before } = this.#layout;
    const text = before && changedDescriptor(before.text, descriptor);
    if (text !== undefined && text !== before!.text) {
      yield* write(store, descriptorAt.position, descriptorBytes(text, descriptorAt.length));
    }
    yield* write(store, 0, changedHeader(this.#layout.header, header));
    yield* wait(store.flush());
    const { directory, redundant } = this.#layout;
    const read = yield* again(this.#layout);
    // Entries that wait for `sync` are in these already.
    this.#layout = { ...read, directory, ...(redundant && { redundant }) };
  }

  describe(): Record<string, unknown> {
    const { header, descriptor, grain, size, store } = this.#layout;
    const extents = [{ "virtual-size": size, filename: store.name, "cluster-size": grain, format: "" }];
    const more = { version: header.version, zeroedGrain: zeroEntry(this.#layout) !== undefined };
    return describeVmdk(descriptor!, { size, unit: grain, dirty: header.unclean, extents, header: more });
  }
}

function again(layout: VmdkLayout): Flow<VmdkLayout> {
  return layout.descriptor ? readLayout(layout.store) : readExtent(layout.store, { ...layout, size: 0 });
}

function mapperFor(layout: VmdkLayout): CoreMapper {
  const { store, directory, grain } = layout;
  const entries = { bytes: 4 as const, bigEndian: false, mask: 0xffffffffn, absent: 0n, unit: SECTOR };
  const zero = zeroEntry(layout);
  const leaf = tableBytes(layout);
  return new CoreMapper({
    kind: "tree",
    hole: ExtentKind.Backing,
    base: SECTOR,
    limit: store.size,
    blockBytes: grain,
    table: {
      position: directory.position,
      length: Math.max(4, directory.tables.length * 4),
      entries,
      cache: { pageBytes: 4096, maxBytes: 2 ** 20 },
    },
    leaf: {
      bytes: leaf,
      entries: { ...entries, ...(zero !== undefined && { zero: BigInt(zero) }) },
      // The tables of 64 GiB.
      cache: { pageBytes: leaf, maxBytes: 2 ** 22 },
    },
  });
}

function metadataFor({ store, directory }: VmdkLayout, mapper: CoreMapper): Metadata {
  return new Metadata(store, mapper, directory.position + directory.tables.length * 4);
}
