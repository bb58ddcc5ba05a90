import type { Block } from "../../../core/block.ts";
import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type {
  AmendOptions,
  Image,
  Mapper,
  NewParent,
  Packing,
  ParentReference,
  Snapshots,
} from "../../../core/format.ts";
import type { KeySlots } from "../../../core/keys.ts";
import type { SegmentList } from "../../../core/segments.ts";
import type { Store } from "../../../core/store.ts";
import type { Luks } from "../../crypto/luks/index.ts";
import { keySlotsOf } from "../../crypto/luks/keys.ts";
import { Scatter } from "../scatter.ts";
import { allocate, zero } from "./allocate.ts";
import { amend } from "./amend.ts";
import { Bitmaps } from "./bitmaps.ts";
import { describe } from "./describe.ts";
import { Autoclear, Compatible, CryptMethod, Field, Incompatible, SECTOR } from "./header.ts";
import { viewOf, write } from "./io.ts";
import { type OldAes, VeiledMapper } from "./old-aes.ts";
import { isOverlap } from "./overlap.ts";
import { writePacked } from "./pack.ts";
import { parentOf, setParent } from "./parent.ts";
import { type NextState, publish } from "./publish.ts";
import { preallocate, resize } from "./resize.ts";
import { applySnapshot, createSnapshot, deleteSnapshot, listSnapshots } from "./snapshot.ts";
import { OFFSET, PACKED } from "./tables.ts";
import type { Volume } from "./volume.ts";

/** log2 of the window that QEMU inflates with. */
const WINDOW_BITS = 12;

interface Encryption {
  luks?: Luks | undefined;
  aes?: OldAes | undefined;
}

/** An open qcow2 image. */
export class Qcow2Image implements Image {
  readonly format = "qcow2";
  readonly sectorSize = SECTOR;
  readonly data?: Store;
  readonly encrypted: boolean;
  readonly keys?: KeySlots;
  readonly zeroUnit: number;
  readonly packing?: Packing;
  readonly writePacked?: (offset: number, packed: Uint8Array) => Flow;
  readonly snapshots: Snapshots = {
    list: () => listSnapshots(this),
    create: (options) => createSnapshot(this, options),
    apply: (idOrName) => applySnapshot(this, idOrName),
    delete: (idOrName) => deleteSnapshot(this, idOrName),
  };
  readonly bitmaps: Bitmaps;
  #volume: Volume;
  /** The volume anew, after all of it was written in another way. */
  readonly #reopen: () => Flow<Volume>;
  readonly #writable: boolean;
  readonly #luks: Luks | undefined;
  /** The old encryption, which is only read; and the map that says so. */
  readonly #aes: OldAes | undefined;
  readonly #veiled: VeiledMapper | undefined;
  #size: number;
  #begun = false;
  #refusal: ParavaneError | undefined;

  constructor(
    volume: Volume,
    size: number,
    writable: boolean,
    reopen: () => Flow<Volume>,
    { luks, aes }: Encryption = {},
  ) {
    this.#volume = volume;
    this.#luks = luks;
    this.#aes = aes;
    if (aes) this.#veiled = new VeiledMapper(volume.tables.mapper);
    this.#writable = writable;
    this.#reopen = reopen;
    this.#size = size;
    this.zeroUnit = volume.unitBytes;
    this.bitmaps = new Bitmaps(this);
    this.encrypted = volume.header.cryptMethod !== CryptMethod.None;
    if (luks) this.keys = keySlotsOf(luks);
    if (volume.target !== volume.store) this.data = volume.target;
    // Compressed clusters are never encrypted, so none is added.
    if (volume.data || this.encrypted) return;
    const unit = volume.clusterBytes;
    const zstd = volume.header.compression === "zstd";
    this.packing = zstd ? { unit, codec: "zstd" } : { unit, codec: "deflate", windowBits: WINDOW_BITS };
    this.writePacked = (offset, packed) => {
      this.bitmaps.touch(offset, unit);
      return this.#judged(writePacked(this.#volume, offset, packed));
    };
  }

  get size(): number {
    return this.#size;
  }
  get parent(): ParentReference | undefined {
    return parentOf(this.#volume.header);
  }
  get mapper(): Mapper {
    return this.#veiled ?? this.#volume.tables.mapper;
  }
  get dirty(): boolean {
    return this.#volume.dirty;
  }
  get crowded(): boolean {
    return this.#volume.crowded;
  }

  attach(backing: Block): void {
    this.#volume.backing = backing;
  }

  *load(): Flow {
    yield* this.#volume.tables.load();
  }

  fault(): ParavaneError {
    return this.#volume.fault();
  }

  *allocate(offset: number, length: number): Flow {
    if (this.#refusal) throw this.#refusal;
    yield* this.#judged(allocate(this.#volume, offset, length));
  }

  *zero(offset: number, length: number): Flow<number> {
    if (this.#refusal) throw this.#refusal;
    return yield* this.#judged(zero(this.#volume, offset, length));
  }

  guard(position: number, length: number): ParavaneError | null {
    return this.#volume.data ? null : this.#volume.overlaps.refusal("guest data", position, length);
  }

  get refusal(): ParavaneError | undefined {
    return this.#refusal;
  }

  /** "The corrupt bit": whoever opens the image next does not write it before it was repaired. */
  *condemn(cause: ParavaneError): Flow {
    if (this.#refusal) return;
    const { header, store } = this.#volume;
    this.#refusal = cause;
    // Version 2 has no such bit.
    if (header.version < 3) return;
    header.incompatible |= Incompatible.Corrupt;
    yield* this.#writeIncompatible();
    yield* wait(store.flush());
  }

  /** Work that may find that it would write over metadata. */
  *#judged<T>(work: Flow<T>): Flow<T> {
    try {
      return yield* work;
    } catch (thrown) {
      if (isOverlap(thrown)) yield* this.condemn(thrown);
      throw thrown;
    }
  }

  *unpack(offset: number, memory: Uint8Array, segments: SegmentList): Flow {
    const { tables, unpacker, clusterBytes } = this.#volume;
    const first = Math.floor(offset / clusterBytes);
    const last = Math.floor((offset + segments.total - 1) / clusterBytes);
    const entries: bigint[] = [];
    for (let cluster = first; cluster <= last; cluster++) {
      entries.push(tables.peek(Math.floor(cluster / tables.perTable), cluster % tables.perTable));
    }
    const scatter = new Scatter(memory, segments);
    const put = (bytes: Uint8Array, i: number) => scatter.put((first + i) * clusterBytes - offset, bytes);
    if (!this.#aes) return yield* unpacker.each(entries, put);
    for (const [i, entry] of entries.entries()) {
      if (entry & PACKED) yield* unpacker.each([entry], (bytes) => put(bytes, i));
      else {
        // The whole of what is wanted of the cluster, from its start on.
        const end = Math.min(clusterBytes, offset + segments.total - (first + i) * clusterBytes);
        put(yield* this.#aes.read(Number(entry & OFFSET), (first + i) * clusterBytes, end), i);
      }
    }
  }

  *stage(): Flow {
    yield* this.#judged(this.#volume.stage());
  }
  *sync(): Flow {
    yield* this.#volume.tables.sync();
  }
  release(): void {
    this.#volume.release();
  }

  /**
   * Repairs an image that was not closed, says that it is open where refcounts are kept lazily, and clears what a writer
   * that does not keep it up to date must clear.
   */
  *begin(): Flow {
    if (this.#begun) return;
    const { header, store } = this.#volume;
    if (!this.#writable) throw new ParavaneError("READ_ONLY", "the image is open for reading", { file: store.name });
    if (header.incompatible & Incompatible.Dirty) {
      yield* this.move({ ...this.state, miscounted: true, clear: Incompatible.Dirty });
    }
    const kept = header.autoclear & (Autoclear.RawDataFile | (header.bitmaps ? Autoclear.Bitmaps : 0n));
    if (header.autoclear !== kept) {
      const bytes = new Uint8Array(8);
      viewOf(bytes).setBigUint64(0, kept);
      yield* write(store, Field.Autoclear, bytes);
      yield* wait(store.flush());
      this.#volume.header.autoclear = kept;
    }
    // Whole clusters, so that one that is cut short by the end of the file can be written in part.
    const { data = store, clusterBytes } = this.#volume;
    for (const file of new Set([store, data])) {
      const whole = Math.ceil(file.size / clusterBytes) * clusterBytes;
      if (file.size < whole) yield* wait(file.resize(whole));
    }
    this.#volume.grown();
    yield* this.#volume.survey();
    yield* this.bitmaps.begin();
    if (header.compatible & Compatible.LazyRefcounts) yield* this.#markDirty(true);
    this.#begun = true;
  }

  *finish(): Flow {
    if (!this.#begun || this.#refusal) return;
    yield* this.settle();
    yield* this.bitmaps.finish();
    if (this.#volume.lazy) yield* this.#markDirty(false);
    this.#begun = false;
  }

  *#markDirty(dirty: boolean): Flow {
    const { header, store } = this.#volume;
    header.incompatible = (header.incompatible & ~Incompatible.Dirty) | (dirty ? Incompatible.Dirty : 0n);
    yield* this.#writeIncompatible();
    yield* wait(store.flush());
    this.#volume.lazy = dirty;
  }

  *#writeIncompatible(): Flow {
    const { header, store } = this.#volume;
    const bytes = new Uint8Array(8);
    viewOf(bytes).setBigUint64(0, header.incompatible);
    yield* write(store, Field.Incompatible, bytes);
  }

  // --- the whole image: nothing else is under way ------------------------------------------------------------------------

  *resize(size: number): Flow {
    yield* this.settle();
    if (size === 0 && this.bitmaps.any) {
      const what = "the disk has bitmaps, which a disk of no bytes cannot have";
      throw new ParavaneError("UNSUPPORTED", what, { file: this.#volume.store.name });
    }
    yield* this.bitmaps.takeAll();
    yield* resize(this, size);
    yield* this.bitmaps.resized();
  }

  *preallocate(from: number, to: number): Flow {
    yield* this.#judged(preallocate(this, from, to));
  }

  *amend(options: AmendOptions): Flow {
    yield* this.#judged(amend(this, options));
  }

  /** Counts are written as they change from now on. */
  *unlazy(): Flow {
    if (!this.#volume.lazy) return;
    yield* this.settle();
    yield* this.#markDirty(false);
  }

  *setParent(parent: NewParent | undefined): Flow {
    yield* this.settle();
    try {
      yield* setParent(this.#volume, parent);
    } finally {
      yield* this.reload();
    }
  }

  *empty(): Flow {
    const { header, store, data, rawData } = this.#volume;
    if (rawData) {
      const what = "an image with a raw data file cannot be emptied: the file is the disk";
      throw new ParavaneError("UNSUPPORTED", what, { file: store.name });
    }
    yield* this.settle();
    this.bitmaps.touchAll();
    yield* this.move({ ...this.state, l1: { position: 0, size: 0, entries: header.l1Size } });
    yield* this.compact();
    if (data) yield* wait(data.resize(0));
    this.#volume.grown();
  }

  /** Makes all that was written so far durable, counts included. */
  *settle(): Flow {
    yield* this.begin();
    yield* this.#judged(this.#volume.settle());
  }

  /** Moves the tables to the front of the file, where there is room, and cuts off what is free at its end. */
  *compact(): Flow {
    yield* this.move({ ...this.state, cut: true });
  }

  /** Makes the whole image as `state` says. Whatever goes wrong, what is open is what is on disk. */
  *move(state: NextState): Flow {
    try {
      yield* publish(this.#volume, state);
    } finally {
      yield* this.reload();
    }
  }

  /** As it is. */
  get state(): NextState {
    const { header, snapshots } = this.#volume;
    const { size, l1Position, l1Size } = header;
    return { size, l1: { position: l1Position, size: l1Size, entries: l1Size }, snapshots };
  }

  /** Reads all metadata again. */
  *reload(): Flow {
    const { backing, lazy } = this.#volume;
    this.#volume = yield* this.#reopen();
    this.#volume.backing = backing;
    this.#volume.lazy = lazy;
    this.#size = this.#volume.header.size;
    if (this.#begun) yield* this.#volume.survey();
  }

  /** For the operations on whole images beside this file. */
  get volume(): Volume {
    return this.#volume;
  }

  describe(): Record<string, unknown> {
    return describe(this.#volume, this.size, this.bitmaps.list(), this.#luks?.describe());
  }
}
