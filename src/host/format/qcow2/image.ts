import type { Block } from "../../../core/block.ts";
import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { Image, ParentReference } from "../../../core/format.ts";
import type { SegmentList } from "../../../core/segments.ts";
import type { Store } from "../../../core/store.ts";
import type { CoreMapper } from "../../../wasm/map.ts";
import { allocate, zero } from "./allocate.ts";
import { Autoclear, Compatible, Field, Incompatible, SECTOR } from "./header.ts";
import { corrupt, viewOf, write } from "./io.ts";
import { publish } from "./publish.ts";
import type { Volume } from "./volume.ts";

/** An open qcow2 image. */
export class Qcow2Image implements Image {
  readonly format = "qcow2";
  readonly sectorSize = SECTOR;
  readonly parent?: ParentReference;
  readonly data?: Store;
  readonly zeroUnit: number;
  #volume: Volume;
  /** The volume anew, after all of it was written in another way. */
  readonly #reopen: () => Flow<Volume>;
  readonly #writable: boolean;
  #size: number;

  constructor(volume: Volume, size: number, writable: boolean, reopen: () => Flow<Volume>) {
    this.#volume = volume;
    this.#writable = writable;
    this.#reopen = reopen;
    this.#size = size;
    this.zeroUnit = volume.unitBytes;
    if (volume.data) this.data = volume.data;
    const { backingFile, backingFormat } = volume.header;
    if (backingFile !== undefined) {
      this.parent = {
        paths: [backingFile],
        identities: [],
        ...(backingFormat === undefined ? {} : { format: backingFormat }),
      };
    }
  }

  get size(): number {
    return this.#size;
  }
  get mapper(): CoreMapper {
    return this.#volume.tables.mapper;
  }
  get dirty(): boolean {
    return this.#volume.dirty;
  }

  attach(backing: Block): void {
    this.#volume.backing = backing;
  }

  *load(): Flow {
    yield* this.#volume.tables.load();
  }

  fault(): ParavaneError {
    const { tables, l1, store, clusterBytes } = this.#volume;
    const { mapper } = tables;
    const target = mapper.stopPosition;
    const cluster = Math.floor(mapper.stopOffset / clusterBytes);
    const index = Math.floor(cluster / tables.perTable);
    const what = `points at byte ${target}, where nothing of the kind can be, or contradicts itself`;
    const page = mapper.pageAt(mapper.topKey(index * 8));
    const entry = page < 0 ? 0n : viewOf(mapper.memory).getBigUint64(page + ((index * 8) % 4096));
    const table = Number(entry & 0x00fffffffffffe00n);
    if (page < 0 || table === target)
      return corrupt(store, "L1 table", l1.position + index * 8, `entry ${index} ${what}`);
    const slot = cluster % tables.perTable;
    return corrupt(store, "L2 table", table + slot * tables.entryBytes, `entry ${slot} ${what}`);
  }

  *allocate(offset: number, length: number): Flow {
    yield* allocate(this.#volume, offset, length);
  }

  *zero(offset: number, length: number): Flow<number> {
    return yield* zero(this.#volume, offset, length);
  }

  *unpack(offset: number, memory: Uint8Array, segments: SegmentList): Flow {
    const { tables, unpacker, clusterBytes } = this.#volume;
    const first = Math.floor(offset / clusterBytes);
    const last = Math.floor((offset + segments.total - 1) / clusterBytes);
    const entries: bigint[] = [];
    for (let cluster = first; cluster <= last; cluster++) {
      entries.push(tables.peek(Math.floor(cluster / tables.perTable), cluster % tables.perTable));
    }
    let run = 0;
    let inRun = 0;
    for (const [i, entry] of entries.entries()) {
      const bytes = yield* unpacker.cluster(entry);
      let at = i === 0 ? offset - first * clusterBytes : 0;
      while (at < clusterBytes && run < segments.count) {
        const take = Math.min(clusterBytes - at, segments.length(run) - inRun);
        memory.set(bytes.subarray(at, at + take), segments.start(run) + inRun);
        at += take;
        inRun += take;
        if (inRun < segments.length(run)) continue;
        run++;
        inRun = 0;
      }
    }
  }

  *stage(): Flow {
    yield* this.#volume.stage();
  }
  *sync(): Flow {
    yield* this.#volume.tables.sync();
  }
  release(): void {
    this.#volume.release();
  }

  /** Repairs an image that was not closed, and clears what a writer that does not keep it up to date must clear. */
  *begin(): Flow {
    const { header, store } = this.#volume;
    if (!this.#writable) throw new ParavaneError("READ_ONLY", "the image is open for reading", { file: store.name });
    if (header.incompatible & Incompatible.Dirty) {
      yield* publish(store, header, {
        size: header.size,
        l1: { position: header.l1Position, size: header.l1Size, entries: header.l1Size },
        snapshots: this.#volume.snapshots,
        clear: Incompatible.Dirty,
      });
      yield* this.reload();
    }
    const kept = header.autoclear & Autoclear.RawDataFile;
    if (header.autoclear !== kept) {
      const bytes = new Uint8Array(8);
      viewOf(bytes).setBigUint64(0, kept);
      yield* write(store, Field.Autoclear, bytes);
      yield* wait(store.flush());
      this.#volume.header.autoclear = kept;
    }
    // Whole clusters, so that one that is cut short by the end of the file can be written in part.
    const { target, clusterBytes } = this.#volume;
    for (const file of new Set([store, target])) {
      const whole = Math.ceil(file.size / clusterBytes) * clusterBytes;
      if (file.size < whole) yield* wait(file.resize(whole));
    }
    this.#volume.grown();
  }

  /** Reads all metadata again, after all of it was written in another way. */
  *reload(): Flow {
    const { backing } = this.#volume;
    this.#volume = yield* this.#reopen();
    this.#volume.backing = backing;
    this.#size = this.#volume.header.size;
  }

  /** For the operations on whole images beside this file. */
  get volume(): Volume {
    return this.#volume;
  }

  describe(): Record<string, unknown> {
    const { header, snapshots } = this.#volume;
    const v3 = header.version > 2;
    const bit = (feature: bigint) => (header.incompatible & feature) !== 0n;
    return {
      format: this.format,
      size: this.size,
      clusterSize: 2 ** header.clusterBits,
      dirty: bit(Incompatible.Dirty),
      ...(header.backingFile === undefined ? {} : { backingFile: header.backingFile }),
      ...(header.backingFormat === undefined ? {} : { backingFormat: header.backingFormat }),
      ...(snapshots.length === 0
        ? {}
        : {
            snapshots: snapshots.map(({ id, name, date, clock, stateSize, diskSize }) => ({
              id,
              name,
              date: new Date(date).toISOString(),
              clockSeconds: Number(clock / 1000000n) / 1000,
              stateSize,
              diskSize: diskSize ?? header.size,
            })),
          }),
      bitmaps: header.bitmaps?.count ?? 0,
      // As qemu-img info names them.
      formatSpecific: {
        type: "qcow2",
        data: {
          compat: v3 ? "1.1" : "0.10",
          "compression-type": header.compression,
          "refcount-bits": 2 ** header.refcountOrder,
          ...(v3
            ? {
                "lazy-refcounts": (header.compatible & Compatible.LazyRefcounts) !== 0n,
                corrupt: bit(Incompatible.Corrupt),
                "extended-l2": bit(Incompatible.ExtendedL2),
              }
            : {}),
          ...(bit(Incompatible.DataFile)
            ? { "data-file": header.dataFile, "data-file-raw": (header.autoclear & Autoclear.RawDataFile) !== 0n }
            : {}),
        },
      },
    };
  }
}
