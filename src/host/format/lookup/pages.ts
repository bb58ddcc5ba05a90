import { type Flow, wait } from "../../../core/flow.ts";
import { SegmentList } from "../../../core/segments.ts";
import type { Store } from "../../../core/store.ts";

const PAGE = 4096;
/** 1 MiB. */
const MAX_PAGES = 256;

/** Thrown by a look-up that needs a page that is not at hand. */
export class Missing {
  readonly page: number;
  constructor(page: number) {
    this.page = page;
  }
}

/** One of several files that are joined ends where the next has not begun. */
type Pageable = Store & { endOf?(position: number): number };

/** A bounded cache of the pages of a store that tables lie in; the oldest goes first. */
export class Pages {
  readonly #store: Pageable;
  readonly #pages = new Map<number, DataView>();

  constructor(store: Pageable) {
    this.#store = store;
  }

  /** Bytes of the store, which are all in one page: a whole entry, aligned to its size. @throws Missing */
  at(position: number): { view: DataView; at: number } {
    const page = Math.floor(position / PAGE);
    const view = this.#pages.get(page);
    if (!view) throw new Missing(page);
    return { view, at: position - page * PAGE };
  }

  /** The store has changed. */
  clear(): void {
    this.#pages.clear();
  }

  static position(page: number): number {
    return page * PAGE;
  }

  *load(page: number): Flow {
    const start = page * PAGE;
    const bytes = new Uint8Array(PAGE);
    const end = this.#store.endOf?.(start) ?? this.#store.size;
    const length = Math.max(0, Math.min(PAGE, end - start));
    if (length > 0) yield* wait(this.#store.readv(start, bytes, SegmentList.of(0, length)));
    this.#pages.delete(page);
    if (this.#pages.size >= MAX_PAGES) this.#pages.delete(this.#pages.keys().next().value!);
    this.#pages.set(page, new DataView(bytes.buffer));
  }
}
