import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import { SegmentList } from "../../../core/segments.ts";
import type { Store } from "../../../core/store.ts";

export const MiB = 2 ** 20;
/** What the log works in, and so the unit of every metadata write. */
export const SECTOR = 4096;

/** Bytes of the store; those past its end are zeros. */
export function* read(store: Store, position: number, length: number): Flow<Uint8Array> {
  const bytes = new Uint8Array(length);
  const inside = Math.min(length, store.size - position);
  if (inside > 0) yield* wait(store.readv(position, bytes, SegmentList.of(0, inside)));
  return bytes;
}

export function* write(store: Store, position: number, bytes: Uint8Array): Flow {
  yield* wait(store.writev(position, bytes, SegmentList.of(0, bytes.length)));
}

export function alignUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

/** A 64-bit field as a number; what is too large to be exact becomes infinite, and so fails every bounds check. */
export function wide(view: DataView, at: number): number {
  const value = view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true);
  return value <= Number.MAX_SAFE_INTEGER ? value : Number.POSITIVE_INFINITY;
}

export function putWide(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 2 ** 32, true);
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}

export function corrupt(store: Store, structure: string, offset: number, what: string): ParavaneError {
  return new ParavaneError("CORRUPT", `the ${structure} ${what}`, { file: store.name, structure, offset });
}

export function unsupported(store: Store, structure: string, offset: number, what: string): ParavaneError {
  return new ParavaneError("UNSUPPORTED", `the ${structure} ${what}`, { file: store.name, structure, offset });
}
