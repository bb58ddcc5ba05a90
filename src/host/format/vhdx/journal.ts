import { type Flow, wait } from "../../../core/flow.ts";
import type { Store } from "../../../core/store.ts";
import { NO_GUID, newGuid } from "../guid.ts";
import { buildEntry, type Change } from "./entry.ts";
import type { Headers } from "./header.ts";
import { alignUp, corrupt, read, SECTOR, write } from "./io.ts";
import { LogReader } from "./log.ts";
import { REGION_TABLES, type Region } from "./regions.ts";

/** Changed sectors in one entry of the log: a quarter of the smallest log. */
export const MAX_PENDING = 60;
/** Metadata never takes more than this, the largest table and bitmaps of a chunk or two. */
const MAX_ZEROED = 2 ** 30;

/**
 * The one way to metadata. Changes stay in memory, in sectors of the log, until `commit` writes them as a log entry and then
 * in place; so after a power cut the file has all that one entry holds or none of it. Reads see them at once.
 *
 * A log that must be replayed is: on disk when the image is writable, else into the same memory.
 */
export class Journal {
  /** Entries that were replayed when it was opened. */
  replayed = 0;
  /** Where the table is, once that is known. */
  bat: Region = { name: "", position: 0, length: 0 };
  readonly #store: Store;
  readonly #headers: Headers;
  readonly #log: Region;
  /** Position → content of a sector that the store does not have yet. */
  #pending = new Map<number, Uint8Array>();
  /** Ranges that are zeroed; what `#pending` has lies over them. */
  #zeroed: { position: number; end: number }[] = [];
  /** Sectors of an entry that may not have reached their places, because writing failed: the next entry has them too. */
  #unsure = new Set<number>();
  #sequence = 0n;
  /** Byte of the log where the next entry goes. */
  #head = 0;
  /** Bytes of the file, as the log leaves it. */
  #end: number;
  #readOnly = false;

  constructor(store: Store, headers: Headers) {
    const { logOffset, logLength } = headers.current;
    this.#store = store;
    this.#headers = headers;
    this.#log = { name: "log", position: logOffset, length: logLength };
    this.#end = store.size;
  }

  get dirty(): boolean {
    return this.#pending.size + this.#zeroed.length > 0 && !this.#readOnly;
  }
  /** A whole entry of changes waits. */
  get crowded(): boolean {
    return this.#pending.size >= MAX_PENDING && !this.#readOnly;
  }
  get end(): number {
    return Math.max(this.#end, this.#store.size);
  }
  get log(): Region {
    return this.#log;
  }

  /** Carries out what the log holds. @throws ParavaneError CORRUPT */
  *replay(readOnly: boolean): Flow {
    this.#readOnly = readOnly;
    const guid = this.#headers.current.logGuid;
    if (guid === NO_GUID) return;
    const reader = new LogReader(this.#store, this.#log, guid);
    const { entries, fileEnd } = yield* reader.active();
    this.#end = fileEnd;
    // Nothing is changed before all of it is known to be sound.
    let zeroed = 0;
    const inspect = function* (this: Journal, change: Change): Flow {
      if (!change.data) zeroed += change.length;
      if (zeroed > MAX_ZEROED) throw corrupt(this.#store, "log", change.position, `zeroes ${zeroed} bytes`);
      this.#check(change);
    }.bind(this);
    for (const entry of entries) yield* reader.changes(entry, inspect);

    if (!readOnly) {
      // "Any modification of the file", the replay's too (2.2.2): whoever knew it by its old identifier must look again.
      yield* this.#headers.update({ fileWriteGuid: newGuid() });
      if (fileEnd > this.#store.size) yield* wait(this.#store.resize(fileEnd));
    }
    const apply = readOnly ? this.#remember.bind(this) : this.#carryOut.bind(this);
    for (const entry of entries) yield* reader.changes(entry, apply);
    this.replayed = entries.length;
    if (readOnly) return;
    yield* wait(this.#store.flush());
    yield* this.finish();
  }

  /** The log never changes the headers, nor itself. */
  #check({ position, length }: Change): void {
    const { position: log, length: ring } = this.#log;
    if (position >= REGION_TABLES[0] && position + length <= this.#end) {
      if (position + length <= log || position >= log + ring) return;
    }
    throw corrupt(this.#store, "log", log, `changes ${length} bytes at ${position}, where no metadata is`);
  }

  *#carryOut({ position, data, length }: Change): Flow {
    if (data) yield* write(this.#store, position, data);
    else yield* wait(this.#store.discard(position, length));
  }

  *#remember({ position, data, length }: Change): Flow {
    if (data) this.#pending.set(position, data);
    else this.zero(position, length);
  }

  /** Does a replay in memory change any of these bytes? What is not metadata is not read through here. */
  touches(position: number, length: number): boolean {
    if (!this.#readOnly) return false;
    const end = position + length;
    for (const range of this.#zeroed) if (range.position < end && position < range.end) return true;
    for (const at of this.#pending.keys()) if (at < end && position < at + SECTOR) return true;
    return false;
  }

  /** Bytes as they are after all changes so far. */
  *read(position: number, length: number): Flow<Uint8Array> {
    const bytes = yield* read(this.#store, position, length);
    const end = position + length;
    for (const range of this.#zeroed) {
      if (range.position < end && position < range.end) {
        bytes.fill(0, Math.max(0, range.position - position), Math.min(length, range.end - position));
      }
    }
    if (this.#pending.size === 0) return bytes;
    for (let at = floor(position); at < end; at += SECTOR) {
      const sector = this.#pending.get(at);
      if (!sector) continue;
      const from = Math.max(at, position);
      bytes.set(sector.subarray(from - at, Math.min(SECTOR, end - at)), from - position);
    }
    return bytes;
  }

  /** Zeroes whole sectors of metadata, as part of the next entry. */
  zero(position: number, length: number): void {
    const end = position + length;
    for (const at of [...this.#pending.keys()]) if (at >= position && at < end) this.#pending.delete(at);
    if (length > 0) this.#zeroed.push({ position, end });
  }

  /** Changes bytes of metadata. */
  *change(position: number, bytes: Uint8Array): Flow {
    const end = position + bytes.length;
    for (let at = floor(position); at < end; at += SECTOR) {
      const from = Math.max(at, position);
      const part = bytes.subarray(from - position, Math.min(at + SECTOR, end) - position);
      let sector = this.#pending.get(at);
      if (!sector) {
        sector = yield* this.read(at, SECTOR);
        if (part.every((byte, i) => byte === sector![from - at + i])) continue;
        this.#pending.set(at, sector);
      }
      sector.set(part, from - at);
    }
  }

  /** The same with zeros, however many: they take no space in the entry but for the sectors that they begin and end in. */
  *clear(position: number, length: number): Flow {
    const end = position + length;
    const first = Math.min(end, alignUp(position, SECTOR));
    const last = Math.max(first, floor(end));
    yield* this.change(position, new Uint8Array(first - position));
    this.zero(first, last - first);
    yield* this.change(last, new Uint8Array(end - last));
  }

  /**
   * Logs all changes, then makes them in place. The caller flushes the store before, so that what they point to is durable
   * (and the log entry before this one, in place, which is not replayed any more once this one is there), and after.
   *
   * More than one entry of them are written in an order in which the file is sound after each: see `#next`. What is `whole`
   * goes into one entry, and is known not to be much.
   */
  *commit({ whole = false } = {}): Flow {
    for (let first = true; this.dirty; first = false) {
      if (!first) yield* wait(this.#store.flush());
      yield* this.#commitOne(whole ? new Map(this.#pending) : this.#next());
    }
  }

  *#commitOne(sectors: ReadonlyMap<number, Uint8Array>): Flow {
    const zeroed = this.#zeroed;
    const { logGuid } = this.#headers.current;
    const guid = logGuid === NO_GUID ? newGuid() : logGuid;
    if (logGuid === NO_GUID) this.#head = 0;
    const entry = buildEntry({ sectors, zeroed }, this.#head, ++this.#sequence, guid, this.#store.size);
    const { position, length } = this.#log;
    const first = Math.min(entry.length, length - this.#head);
    yield* write(this.#store, position + this.#head, entry.subarray(0, first));
    if (first < entry.length) yield* write(this.#store, position, entry.subarray(first));
    yield* wait(this.#store.flush());
    for (const at of sectors.keys()) this.#unsure.add(at);
    // The header names the log only now: it never asks for the replay of a log that has no whole entry.
    if (logGuid === NO_GUID) yield* this.#headers.update({ logGuid: guid });
    this.#head = (this.#head + entry.length) % length;
    for (const range of zeroed) yield* wait(this.#store.discard(range.position, range.end - range.position));
    for (const [at, sector] of sectors) yield* write(this.#store, at, sector);
    this.#zeroed = [];
    this.#unsure.clear();
    for (const at of sectors.keys()) this.#pending.delete(at);
  }

  /**
   * The sectors of the next entry. Sector bitmaps come before the table whose entries make them count, and in the table the
   * last come first: a chunk's bitmap entry stands after those of its blocks.
   */
  #next(): ReadonlyMap<number, Uint8Array> {
    if (this.#pending.size <= MAX_PENDING) return new Map(this.#pending);
    const { position: table, length } = this.bat;
    const rank = (at: number) => (this.#unsure.has(at) ? 0 : at < table || at >= table + length ? 1 : 2);
    const order = [...this.#pending].sort(([a], [b]) => rank(a) - rank(b) || b - a);
    return new Map(order.slice(0, MAX_PENDING));
  }

  /** After everything is durable in place: the log holds nothing any more. */
  *finish(): Flow {
    if (this.#headers.current.logGuid === NO_GUID) return;
    // Twice, so that neither of the two headers asks for it, should the other one be lost.
    yield* this.#headers.update({ logGuid: NO_GUID });
    yield* this.#headers.update({ logGuid: NO_GUID });
  }

  /** Cuts the file off after `size` bytes, which hold all there is. Everything is durable in place. */
  *truncate(size: number): Flow {
    // An entry says how long the file was: without that it would take the file for damaged.
    yield* this.finish();
    yield* wait(this.#store.resize(size));
    yield* wait(this.#store.flush());
    this.#end = size;
  }
}

const floor = (position: number): number => position - (position % SECTOR);
