import { SegmentList } from "../../src/core/segments.ts";
import type { Store } from "../../src/core/store.ts";

/** All the bytes of a synchronous store. */
export function contentOf(store: Store): Uint8Array {
  const bytes = new Uint8Array(store.size);
  const pending = store.readv(0, bytes, SegmentList.of(0, bytes.length));
  if (pending) throw new Error(`${store.name} is not synchronous`);
  return bytes;
}
