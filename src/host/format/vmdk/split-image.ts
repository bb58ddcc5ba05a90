import type { Block } from "../../../core/block.ts";
import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { Decompress, NewParent, OpenOptions, ParentReference } from "../../../core/format.ts";
import type { UnpackBuffers } from "../../../wasm/unpack.ts";
import { invalid, unsupported, write } from "../io.ts";
import type { Found, Unit } from "../lookup/mapper.ts";
import { type Codec, Unpacker } from "../unpacker.ts";
import { checkedSize, parentOf as noted, TWO_GB } from "./create.ts";
import { changedDescriptor, type Descriptor, type DescriptorChange, newCid, parseDescriptor } from "./descriptor.ts";
import type { Split } from "./extents.ts";
import { describeVmdk } from "./facts.ts";
import { GrainImage } from "./grain-image.ts";
import type { GrainTables } from "./grains.ts";
import { SECTOR } from "./header.ts";
import { checkTracking, parentOf } from "./layout.ts";
import type { LookedPart, Part, SparsePart } from "./parts.ts";

/** A disk in several files: a descriptor, and an extent in each of the others. */
export class SplitVmdk extends GrainImage {
  readonly format = "vmdk";
  readonly data: Split["files"];
  readonly #split: Split;
  readonly #deflate: Decompress | undefined;
  #unpacker: Unpacker<Unit> | undefined;
  #descriptor: Descriptor;
  /** The CID once the disk is changed. */
  readonly #next = newCid();

  constructor(split: Split, codecs?: OpenOptions["codecs"]) {
    super(split.files, split.size);
    this.#split = split;
    this.#deflate = codecs?.deflate;
    this.#descriptor = split.descriptor;
    this.data = split.files;
  }

  /** Holes of flat files are holes of the disk. */
  get sparse(): boolean {
    return this.#split.parts.every(({ unit }) => unit === undefined);
  }
  override get parent(): ParentReference | undefined {
    return parentOf(this.#split.store, this.#descriptor).parent;
  }
  get identity(): string {
    return this.#descriptor.cid;
  }
  get nextIdentity(): string {
    return this.#next;
  }
  override get dirty(): boolean {
    return this.#sparse.some(({ image }) => image.dirty);
  }
  get crowded(): boolean {
    return this.#sparse.some(({ image }) => image.crowded);
  }
  get #sparse(): SparsePart[] {
    return this.#split.parts.flatMap(({ sparse }) => sparse ?? []);
  }

  override attach(backing: Block): void {
    for (const { image } of this.#sparse) image.attach(backing);
  }

  find(offset: number, wanted?: number): Found {
    const part = this.#at(offset);
    const found = part.find(offset - part.start, this.pages, wanted);
    return { ...found, length: Math.min(found.length, part.start + part.size - offset) };
  }

  protected get unpacker(): Unpacker<Unit> {
    const { parts } = this.#split;
    const largest = Math.max(...parts.map(({ tables, unit = 0 }) => (tables ? unit : 0)));
    this.#unpacker ??= new Unpacker(this.store, largest, this.#codec());
    return this.#unpacker;
  }

  /** Each extent's own; to that, positions are those of its file. */
  #codec(): Codec<Unit> {
    const of = (unit: Unit) => (this.#at(unit.start) as LookedPart<GrainTables>).unpacking(this.#deflate);
    const within = (unit: Unit, base: number): Unit => ({ ...unit, position: unit.position - base });
    return {
      measure(bytes, unit) {
        const { codec, base } = of(unit);
        const own = within(unit, base);
        codec.measure?.(bytes, own);
        unit.packed = own.packed;
      },
      ...(this.#deflate && {
        elsewhere: (bytes: Uint8Array, unit: Unit) => of(unit).codec.elsewhere!(bytes, unit),
        proves: (buffers: UnpackBuffers, slot: number, bytes: Uint8Array, unit: Unit) =>
          of(unit).codec.proves!(buffers, slot, bytes, unit),
      }),
      here: (buffers, slot, bytes, unit) => of(unit).codec.here(buffers, slot, bytes, unit),
      damaged(unit, what) {
        const { codec, base } = of(unit);
        return codec.damaged(within(unit, base), what);
      },
    };
  }

  #at(offset: number): Part {
    const { parts } = this.#split;
    let low = 0;
    let high = parts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (parts[middle].start <= offset) low = middle;
      else high = middle - 1;
    }
    return parts[low];
  }

  override *loadPage(page: number): Flow {
    if (page < 0) yield* this.#split.parts[-1 - page].sparse!.load();
    else yield* super.loadPage(page);
  }

  /** @throws ParavaneError READ_ONLY (an extent is), UNSUPPORTED, CORRUPT */
  *begin(): Flow {
    const { store, parts } = this.#split;
    const only = parts.find(
      ({ extent, store: file, tables }) => extent.access !== "RW" || tables !== undefined || file?.readOnly,
    );
    if (only) {
      const message = `the extent ${only.extent.file ?? only.extent.type} can only be read`;
      throw new ParavaneError("READ_ONLY", message, { file: store.name, structure: "descriptor" });
    }
    checkTracking(store, this.#descriptor);
    for (const { image } of this.#sparse) yield* image.begin();
    yield* this.#change({ cid: this.#next });
  }
  *finish(): Flow {
    for (const { image } of this.#sparse) yield* image.finish();
  }

  override *allocate(offset = 0, length = 0): Flow {
    const { sparse, start, size } = this.#at(offset);
    if (!sparse) {
      throw unsupported(this.#split.store, "descriptor", `byte ${offset} is in an extent of zeros, which has no file`);
    }
    yield* sparse.image.allocate(offset - start, Math.min(length, start + size - offset));
  }

  override *sync(): Flow {
    for (const { image, store } of this.#sparse) {
      if (!image.dirty) continue;
      yield* image.sync();
      yield* wait(store.flush());
    }
  }

  /** The last extent alone changes its size. @throws ParavaneError INVALID, UNSUPPORTED, NO_SPACE */
  *resize(size: number): Flow {
    const { store, parts } = this.#split;
    if (size % SECTOR !== 0) throw invalid(`a VMDK cannot be ${size} bytes`, "Give whole sectors of 512 bytes");
    checkedSize(size);
    const last = parts[parts.length - 1];
    const own = size - last.start;
    const most = this.#descriptor.createType.startsWith("twoGb") ? TWO_GB : Number.MAX_SAFE_INTEGER;
    if (own <= 0 || own > most || !last.store) {
      const what = `only the last extent, of ${last.size} bytes, can change, and up to ${most}`;
      throw unsupported(store, "descriptor", what, "Convert the disk to a new one of that size");
    }
    if (parts.some(({ extent }) => extent !== last.extent && extent.file === last.extent.file)) {
      throw unsupported(store, "descriptor", `${last.extent.file} holds more than the last extent`);
    }
    if (own < last.size) yield* this.#change({ sectors: own / SECTOR });
    // First to what it is: what an interrupted shrinking has left must not come back.
    for (const bytes of own > last.size ? [last.size, own] : [own]) yield* resizeFile(last, bytes);
    yield* this.#change({ sectors: own / SECTOR });
    last.size = own;
    this.size = size;
  }

  /** @throws ParavaneError INVALID, UNSUPPORTED (flat extents hold all of the disk) */
  *setParent(parent: NewParent | undefined): Flow {
    this.#allSparse("can have a parent");
    if (!parent && !this.parent) return;
    yield* this.#change({ parent: parent ? noted(parent) : null });
    for (const { image } of this.#sparse) yield* image.adopt(this.parent);
  }

  *empty(): Flow {
    this.#allSparse("can be emptied");
    for (const { image } of this.#sparse) yield* image.empty();
  }

  #allSparse(can: string): void {
    const other = this.#split.parts.find(({ sparse }) => !sparse);
    if (other) throw unsupported(this.#split.store, "descriptor", `no disk with ${other.extent.type} extents ${can}`);
  }

  /** Changes the descriptor, durably; its CID is in the first sector. */
  *#change(change: DescriptorChange): Flow {
    const { store } = this.#split;
    const before = this.#descriptor.text;
    const text = changedDescriptor(before, change);
    if (text === before) return;
    yield* write(
      store,
      0,
      Uint8Array.from(text, (character) => character.charCodeAt(0)),
    );
    if (store.size > text.length) yield* wait(store.resize(text.length));
    yield* wait(store.flush());
    this.#descriptor = parseDescriptor(text)!;
  }

  describe(): Record<string, unknown> {
    const { parts } = this.#split;
    return describeVmdk(this.#descriptor, {
      size: this.size,
      unit: parts.find((part) => part.unit !== undefined)?.unit,
      dirty: this.#sparse.some(({ layout }) => layout.header.unclean),
      extents: parts.map(shown),
    });
  }
}

function* resizeFile({ sparse, store, extent }: Part, bytes: number): Flow {
  if (sparse) {
    if (sparse.image.size !== bytes) yield* sparse.image.resize(bytes);
    return;
  }
  yield* wait(store!.resize(extent.offset * SECTOR + bytes));
  yield* wait(store!.flush());
}

function shown({ size, store, unit, tables, extent }: Part): Record<string, unknown> {
  return {
    ...(tables?.compressed && { compressed: true }),
    "virtual-size": size,
    filename: store?.name ?? "",
    ...(unit !== undefined && { "cluster-size": unit }),
    format: extent.type,
  };
}
