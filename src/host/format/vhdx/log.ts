// The log (MS-VHDX 2.3): a ring of entries. Those of the active sequence must be carried out before the file is used.
import type { Flow } from "../../../core/flow.ts";
import type { Store } from "../../../core/store.ts";
import { crc32c, viewOf } from "./crc32c.ts";
import {
  type Change,
  descriptorSectors,
  type EntryHeader,
  isData,
  parseChange,
  parseDescriptors,
  parseEntryHeader,
} from "./entry.ts";
import { alignUp, corrupt, MiB, read, SECTOR } from "./io.ts";
import type { Region } from "./regions.ts";

/** Bytes of the log looked at a time. */
const SCAN = MiB;
/** An entry can claim the whole log; so many times its length may be looked at to find the sequence, or it is hostile. */
const MAX_READINGS = 16;

interface Entry extends EntryHeader {
  /** Byte of the log where it starts. */
  at: number;
}

export interface Sequence {
  entries: readonly Entry[];
  /** Bytes that the file has once they are carried out. */
  fileEnd: number;
}

/** Finds and reads the entries of the log with the header's GUID. */
export class LogReader {
  readonly #store: Store;
  readonly #region: Region;
  readonly #guid: string;
  #budget: number;

  constructor(store: Store, region: Region, guid: string) {
    this.#store = store;
    this.#region = region;
    this.#guid = guid;
    this.#budget = region.length * MAX_READINGS;
  }

  /**
   * The sequence that ends in the newest entry that is whole and whose tail is reached by whole entries one after another
   * (2.3.3). What a power failure tore off after it is left out. @throws ParavaneError CORRUPT when there is none
   */
  *active(): Flow<Sequence> {
    const candidates = yield* this.#scan();
    const byPlace = new Map(candidates.map((entry) => [entry.at, entry]));
    candidates.sort((a, b) => (a.sequence < b.sequence ? 1 : a.sequence > b.sequence ? -1 : 0));
    /** Those whose checksum has been looked at. */
    const whole = new Map<Entry, boolean>();
    for (const head of candidates) {
      const entries = yield* this.#chain(head, byPlace, whole);
      if (!entries) continue;
      const { flushedFileOffset, lastFileOffset } = head;
      if (flushedFileOffset > this.#store.size) {
        throw this.#corrupt(head.at, `is of a file of ${flushedFileOffset} bytes: it has been truncated since`);
      }
      if (lastFileOffset > 2 ** 47) throw this.#corrupt(head.at, `extends the file to ${lastFileOffset} bytes`);
      return { entries, fileEnd: alignUp(Math.max(this.#store.size, lastFileOffset), MiB) };
    }
    throw this.#corrupt(0, "must be replayed, but has no whole entry");
  }

  /** What the entry changes, in order. Only for entries of the active sequence. */
  *changes(entry: Entry, use: (change: Change) => Flow): Flow {
    yield* this.#eachChange(entry, use);
  }

  /** Every place that has an entry's header. */
  *#scan(): Flow<Entry[]> {
    const found: Entry[] = [];
    for (let at = 0; at < this.#region.length; at += SCAN) {
      const bytes = yield* read(this.#store, this.#region.position + at, Math.min(SCAN, this.#region.length - at));
      for (let i = 0; i < bytes.length; i += SECTOR) {
        const header = parseEntryHeader(bytes.subarray(i, i + SECTOR), this.#guid, this.#region.length);
        if (header) found.push({ ...header, at: at + i });
      }
    }
    return found;
  }

  /** The entries from the head's tail to the head, or null when they are not all there and whole. */
  *#chain(head: Entry, byPlace: Map<number, Entry>, whole: Map<Entry, boolean>): Flow<Entry[] | null> {
    const entries: Entry[] = [];
    let at = head.tail;
    let bytes = 0;
    for (;;) {
      this.#spend(SECTOR, at);
      const entry = byPlace.get(at);
      if (!entry || entry.sequence > head.sequence) return null;
      if (entries.length > 0 && entry.sequence !== entries[entries.length - 1].sequence + 1n) return null;
      // One turn of the ring at most.
      if ((bytes += entry.length) > this.#region.length) return null;
      entries.push(entry);
      if (entry === head) break;
      at = (at + entry.length) % this.#region.length;
    }
    // The head first: it is the likeliest to be torn.
    for (const entry of entries.toReversed()) {
      if (!whole.has(entry)) whole.set(entry, yield* this.#isWhole(entry));
      if (!whole.get(entry)) return null;
    }
    return entries;
  }

  *#isWhole(entry: Entry): Flow<boolean> {
    this.#spend(entry.length, entry.at);
    let crc = 0;
    let stored = 0;
    for (let done = 0; done < entry.length; done += SCAN) {
      const bytes = yield* this.#read(entry.at + done, Math.min(SCAN, entry.length - done));
      if (done === 0) {
        stored = viewOf(bytes).getUint32(4, true);
        bytes.fill(0, 4, 8);
      }
      crc = crc32c(bytes, crc);
    }
    return crc === stored && (yield* this.#eachChange(entry, function* () {}));
  }

  /** False as soon as a descriptor or data sector is not of this entry. */
  *#eachChange(entry: Entry, use: (change: Change) => Flow): Flow<boolean> {
    const first = descriptorSectors(entry.descriptors) * SECTOR;
    let data = first;
    for (let at = 0; at < first; at += SECTOR) {
      const descriptors = parseDescriptors(yield* this.#read(entry.at + at, SECTOR), at / SECTOR, entry);
      if (!descriptors) return false;
      for (const descriptor of descriptors) {
        let sector: Uint8Array | undefined;
        if (isData(descriptor)) {
          if (data + SECTOR > entry.length) return false;
          sector = yield* this.#read(entry.at + data, SECTOR);
          data += SECTOR;
        }
        const change = parseChange(descriptor, sector, entry.sequence);
        if (!change) return false;
        yield* use(change);
      }
    }
    return true;
  }

  /** Bytes of the ring. */
  *#read(at: number, length: number): Flow<Uint8Array> {
    const { position, length: ring } = this.#region;
    const from = at % ring;
    const inside = Math.min(length, ring - from);
    const bytes = yield* read(this.#store, position + from, inside);
    if (inside === length) return bytes;
    const both = new Uint8Array(length);
    both.set(bytes);
    both.set(yield* read(this.#store, position, length - inside), inside);
    return both;
  }

  #spend(bytes: number, at: number): void {
    this.#budget -= bytes;
    if (this.#budget < 0) throw this.#corrupt(at, "has more overlapping entries than any writer leaves");
  }

  #corrupt(at: number, what: string) {
    return corrupt(this.#store, "log", this.#region.position + at, what);
  }
}
