import { type Flow, wait } from "../../../core/flow.ts";
import { alignUp, unsupported, write } from "../io.ts";
import { GRAIN_MARKER, type GrainTables } from "./grains.ts";
import { changedHosted, type Header, SECTOR } from "./header.ts";
import { littleEndian } from "./layout.ts";

/** "Markers" of VMware Virtual Disk Format 5.0: their types; a grain has none. */
const Marker = { EndOfStream: 0, Table: 1, Directory: 2, Footer: 3 } as const;
/** Bytes gathered before they are written. */
const RUN = 2 ** 21;

/**
 *   header │ descriptor │ marker, grain │ marker, grain │ … │ marker, tables │ marker, directory │ marker, footer │ end
 *
 * What follows the grains is written by `end`, and over again when more grains come. Memory: four bytes a grain stored.
 */
export class StreamWriter {
  dirty = false;
  readonly #tables: GrainTables;
  readonly #header: Header;
  readonly #entries = new Map<number, Uint32Array>();
  /** Where the next grain goes. */
  #end: number;
  #held: Uint8Array = new Uint8Array(RUN);
  #heldBytes = 0;

  constructor(tables: GrainTables, header: Header) {
    this.#tables = tables;
    this.#header = header;
    this.#end = Number(header.overHead) * SECTOR;
  }

  *add(offset: number, packed: Uint8Array): Flow {
    const { grain, entries, store } = this.#tables;
    const index = offset / grain;
    const number = Math.floor(index / entries);
    const table = this.#entries.get(number) ?? new Uint32Array(entries);
    this.#entries.set(number, table);
    if (table[index % entries] !== 0) throw unsupported(store, "grain table", `grain ${index} is written already`);
    const length = alignUp(GRAIN_MARKER + packed.length, SECTOR);
    if (this.#heldBytes + length > this.#held.length) yield* this.#flush();
    if (length > this.#held.length) this.#held = new Uint8Array(length);
    const bytes = this.#held.subarray(this.#heldBytes, this.#heldBytes + length).fill(0);
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    view.setBigUint64(0, BigInt(offset / SECTOR), true);
    view.setUint32(8, packed.length, true);
    bytes.set(packed, GRAIN_MARKER);
    table[index % entries] = (this.#end + this.#heldBytes) / SECTOR;
    this.#heldBytes += length;
    this.dirty = true;
  }

  *#flush(): Flow {
    if (this.#heldBytes > 0) yield* write(this.#tables.store, this.#end, this.#held.subarray(0, this.#heldBytes));
    this.#end += this.#heldBytes;
    this.#heldBytes = 0;
  }

  /** Writes tables, directory and footer behind the grains; returns where the directory is. */
  *end(): Flow<number> {
    yield* this.#flush();
    const { store, grain, entries, size } = this.#tables;
    let at = this.#end;
    const put = function* (type: number, content: Uint8Array) {
      const bytes = new Uint8Array(SECTOR + alignUp(content.length, SECTOR));
      const view = new DataView(bytes.buffer);
      view.setBigUint64(0, BigInt(Math.ceil(content.length / SECTOR)), true);
      view.setUint32(12, type, true);
      bytes.set(content, SECTOR);
      yield* write(store, at, bytes);
      const position = at + SECTOR;
      at += bytes.length;
      return position;
    };
    const directory = new Uint32Array(Math.max(1, Math.ceil(size / (grain * entries))));
    for (const [number, table] of [...this.#entries].sort(([a], [b]) => a - b)) {
      directory[number] = (yield* put(Marker.Table, littleEndian(table))) / SECTOR;
    }
    const position = yield* put(Marker.Directory, littleEndian(directory));
    yield* put(Marker.Footer, changedHosted(this.#header, { directoryOffset: position / SECTOR }));
    yield* put(Marker.EndOfStream, new Uint8Array(0));
    yield* wait(store.resize(at));
    this.dirty = false;
    return position;
  }
}
