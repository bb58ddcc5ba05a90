import { type Flow, wait } from "../../core/flow.ts";
import { SegmentList } from "../../core/segments.ts";
import type { Store } from "../../core/store.ts";
import type { CoreMapper } from "../../wasm/map.ts";

/** With more changed pages than this the image asks to be flushed, so that memory stays bounded. */
const MAX_DIRTY = 1024;

interface DirtyPage {
  position: number;
  bytes: Uint8Array;
}

/**
 * The metadata pages of one image: read into the mapper's cache on demand, changed there, and written back by `sync`.
 *
 * Nothing is written in between because an entry must not reach the disk before what it points to: `sync` runs after a
 * flush of the store, so one flush orders any number of entries.
 */
export class Metadata {
  readonly #store: Store;
  readonly #mapper: CoreMapper;
  readonly #dirty = new Map<number, DirtyPage>();
  /** End of the top table in the store; its last page may be cut short by that. */
  readonly #tableEnd: number;

  constructor(store: Store, mapper: CoreMapper, tableEnd: number) {
    this.#store = store;
    this.#mapper = mapper;
    this.#tableEnd = tableEnd;
  }

  get dirty(): boolean {
    return this.#dirty.size > 0;
  }

  /**
   * Brings in the page that the mapper has just missed. `check` may put other bytes there, or throw on what it holds: then no
   * lookup ever sees it.
   */
  *load(check?: (page: Uint8Array, key: number, position: number) => Flow | undefined): Flow {
    const { stopKey: key, stopPosition: position } = this.#mapper;
    const changed = this.#dirty.get(key);
    const at = this.#mapper.claimPage(key);
    if (changed) this.#mapper.memory.set(changed.bytes, at);
    else {
      const page = this.#mapper.pageBytes(key);
      const length = key & 1 ? page : Math.min(page, this.#tableEnd - position);
      const pending = this.#store.readv(position, this.#mapper.memory, SegmentList.of(at, length));
      if (pending) yield pending;
      const more = check?.(this.#mapper.memory.subarray(at, at + length), key, position);
      if (more) yield* more;
    }
    this.#mapper.commitPage(key, at);
  }

  /** The bytes of a cached page, to be read. Valid until the next load. */
  page(key: number): Uint8Array {
    const at = this.#mapper.pageAt(key);
    if (at < 0) throw new RangeError(`metadata page ${key} is not cached`);
    return this.#mapper.memory.subarray(at, at + this.#mapper.pageBytes(key));
  }

  /** Changes a cached page, kept at `position` in the store. */
  change(key: number, position: number, edit: (page: Uint8Array) => void): void {
    const page = this.page(key);
    edit(page);
    const length = key & 1 ? page.length : Math.min(page.length, this.#tableEnd - position);
    this.#dirty.set(key, { position, bytes: page.slice(0, length) });
  }

  get crowded(): boolean {
    return this.#dirty.size >= MAX_DIRTY;
  }

  *sync(): Flow {
    for (const [key, { position, bytes }] of this.#dirty) {
      yield* wait(this.#store.writev(position, bytes, SegmentList.of(0, bytes.length)));
      this.#dirty.delete(key);
    }
  }
}
