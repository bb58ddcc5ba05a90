import { type Flow, wait } from "../../../core/flow.ts";
import type { Store } from "../../../core/store.ts";
import { buildEntry, type Change } from "./entry.ts";
import { NO_GUID, newGuid } from "./guid.ts";
import type { Headers } from "./header.ts";
import { corrupt, read, SECTOR, write } from "./io.ts";
import { LogReader } from "./log.ts";
import { REGION_TABLES, type Region } from "./regions.ts";

/** Changed sectors that wait to be logged: one entry of them is a quarter of the smallest log. */
export const MAX_PENDING = 60;
/** Most that one call may change before the next `bound`: a block's share of a sector bitmap, and table entries. */
const RESERVE = 24;
/** Metadata never takes more than this, the largest table and bitmaps of a chunk or two. */
const MAX_ZEROED = 2 ** 30;

/**
 * The one way to metadata. Changes stay in memory, in sectors of the log, until `commit` writes them as one log entry and
 * then in place; so after a power cut the file has all of them or none. Reads see them at once.
 *
 * A log that must be replayed is: on disk when the image is writable, else into the same memory.
 */
export class Journal {
  /** Entries that were replayed when it was opened. */
  replayed = 0;
  readonly #store: Store;
  readonly #headers: Headers;
  readonly #log: Region;
  /** Position → content of a sector that the store does not have yet. */
  #pending = new Map<number, Uint8Array>();
  /** Ranges that a read-only replay zeroes; what `#pending` has lies over them. */
  readonly #zeroed: { position: number; end: number }[] = [];
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
    return this.#pending.size > 0 && !this.#readOnly;
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

    if (!readOnly && fileEnd > this.#store.size) yield* wait(this.#store.resize(fileEnd));
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
    if (data) {
      this.#pending.set(position, data);
      return;
    }
    for (const at of [...this.#pending.keys()]) if (at >= position && at < position + length) this.#pending.delete(at);
    this.#zeroed.push({ position, end: position + length });
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

  /** To be called before changes: makes room for them. What they may point to must be written by then. */
  *bound(): Flow {
    if (this.#pending.size <= MAX_PENDING - RESERVE) return;
    yield* wait(this.#store.flush());
    yield* this.commit();
    yield* wait(this.#store.flush());
  }

  /** Changes bytes of metadata; all changes up to the next `commit` become durable together. */
  *change(position: number, bytes: Uint8Array): Flow {
    const end = position + bytes.length;
    for (let at = floor(position); at < end; at += SECTOR) {
      let sector = this.#pending.get(at);
      if (!sector) this.#pending.set(at, (sector = yield* read(this.#store, at, SECTOR)));
      const from = Math.max(at, position);
      sector.set(bytes.subarray(from - position, Math.min(at + SECTOR, end) - position), from - at);
    }
  }

  /**
   * Logs all changes, then makes them in place. The caller flushes the store before, so that what they point to is durable
   * (and the log entry before this one, in place, which is not replayed any more once this one is there), and after.
   */
  *commit(): Flow {
    if (!this.dirty) return;
    const sectors = this.#pending;
    const { logGuid } = this.#headers.current;
    const guid = logGuid === NO_GUID ? newGuid() : logGuid;
    if (logGuid === NO_GUID) this.#head = 0;
    const entry = buildEntry(sectors, this.#head, ++this.#sequence, guid, this.#store.size);
    const { position, length } = this.#log;
    const first = Math.min(entry.length, length - this.#head);
    yield* write(this.#store, position + this.#head, entry.subarray(0, first));
    if (first < entry.length) yield* write(this.#store, position, entry.subarray(first));
    yield* wait(this.#store.flush());
    // The header names the log only now: it never asks for the replay of a log that has no whole entry.
    if (logGuid === NO_GUID) yield* this.#headers.update({ logGuid: guid });
    this.#head = (this.#head + entry.length) % length;
    for (const [at, sector] of sectors) yield* write(this.#store, at, sector);
    this.#pending = new Map();
  }

  /** After everything is durable in place: the log holds nothing any more. */
  *finish(): Flow {
    if (this.#headers.current.logGuid === NO_GUID) return;
    // Twice, so that neither of the two headers asks for it, should the other one be lost.
    yield* this.#headers.update({ logGuid: NO_GUID });
    yield* this.#headers.update({ logGuid: NO_GUID });
  }
}

const floor = (position: number): number => position - (position % SECTOR);
