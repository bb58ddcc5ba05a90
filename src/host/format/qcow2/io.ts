import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import { SegmentList } from "../../../core/segments.ts";
import type { Store } from "../../../core/store.ts";

/** Bytes of the store; those past its end are zeros. */
export function* read(store: Store, position: number, length: number): Flow<Uint8Array> {
  const bytes = new Uint8Array(length);
  const inside = Math.max(0, Math.min(length, store.size - position));
  if (inside > 0) yield* wait(store.readv(position, bytes, SegmentList.of(0, inside)));
  return bytes;
}

export function* write(store: Store, position: number, bytes: Uint8Array): Flow {
  const pending = store.writev(position, bytes, SegmentList.of(0, bytes.length));
  if (pending) yield pending;
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** The offset of an L1 or L2 entry (bits 9 to 55), whose halves are `high` and `low`. */
export function offsetOf(high: number, low: number): number {
  return (high & 0x00ffffff) * 2 ** 32 + ((low & 0xfffffe00) >>> 0);
}

/** Big-endian, as a number; what does not fit 53 bits comes out inexact and far too large for any check. */
export function getWide(view: DataView, at: number): number {
  return view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4);
}
export function setWide(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / 2 ** 32));
  view.setUint32(at + 4, value % 2 ** 32);
}

export function corrupt(store: Store, structure: string, offset: number, what: string): ParavaneError {
  return new ParavaneError("CORRUPT", `the ${structure} ${what}`, { file: store.name, structure, offset });
}

export function unsupported(store: Store, what: string, hint?: string): ParavaneError {
  return new ParavaneError("UNSUPPORTED", what, { file: store.name, structure: "header" }, { hint });
}
