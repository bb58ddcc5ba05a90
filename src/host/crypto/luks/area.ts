import { type Flow, wait } from "../../../core/flow.ts";
import { SegmentList } from "../../../core/segments.ts";
import type { Store } from "../../../core/store.ts";

/** Where a header with its key slots lies: from byte `position` of the store on, up to `length` bytes. */
export class Area {
  readonly store: Store;
  readonly position: number;
  readonly length: number;

  constructor(store: Store, position = 0, length = Number.MAX_SAFE_INTEGER) {
    this.store = store;
    this.position = position;
    this.length = length;
  }

  /** Bytes that are there. */
  get size(): number {
    return Math.max(0, Math.min(this.length, this.store.size - this.position));
  }

  /** What is past the end reads as zeros. */
  *read(at: number, length: number): Flow<Uint8Array> {
    const bytes = new Uint8Array(length);
    const inside = Math.max(0, Math.min(length, this.size - at));
    if (inside > 0) yield* wait(this.store.readv(this.position + at, bytes, SegmentList.of(0, inside)));
    return bytes;
  }

  *write(at: number, bytes: Uint8Array): Flow {
    yield* wait(this.store.writev(this.position + at, bytes, SegmentList.of(0, bytes.length)));
  }

  *flush(): Flow {
    yield* wait(this.store.flush());
  }
}
