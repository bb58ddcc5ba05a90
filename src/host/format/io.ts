import { ParavaneError } from "../../core/error.ts";
import { type Flow, wait } from "../../core/flow.ts";
import { SegmentList } from "../../core/segments.ts";
import type { Store } from "../../core/store.ts";

/** Bytes moved at a time. */
const RUN = 2 ** 20;

export function* read(store: Store, position: number, length: number): Flow<Uint8Array> {
  const bytes = new Uint8Array(length);
  yield* wait(store.readv(position, bytes, SegmentList.of(0, length)));
  return bytes;
}

export function* write(store: Store, position: number, bytes: Uint8Array): Flow {
  yield* wait(store.writev(position, bytes, SegmentList.of(0, bytes.length)));
}

/** Fills [from, to) with one byte; the store grows if it ends before. */
export function* fill(store: Store, from: number, to: number, value: number): Flow {
  const bytes = new Uint8Array(Math.min(RUN, Math.max(0, to - from))).fill(value);
  for (let at = from; at < to; at += RUN) yield* write(store, at, bytes.subarray(0, Math.min(RUN, to - at)));
}

/** Are they zeros, of whole words? */
export function isEmpty({ buffer, byteOffset, byteLength }: ArrayBufferView): boolean {
  return new Int32Array(buffer, byteOffset, byteLength / 4).every((word) => word === 0);
}

/** Copies whole words to another place of the store, which does not overlap. Zeros take no space there. */
export function* copy(store: Store, from: number, to: number, length: number): Flow {
  for (let at = 0; at < length; at += RUN) {
    const bytes = yield* read(store, from + at, Math.min(RUN, length - at));
    if (isEmpty(bytes)) yield* clear(store, to + at, to + at + bytes.length);
    else yield* write(store, to + at, bytes);
  }
}

/** Makes [from, to) zeros, where the store ends before, by growing. */
export function* clear(store: Store, from: number, to: number): Flow {
  const inside = Math.min(to, store.size) - from;
  if (inside > 0) yield* wait(store.discard(from, inside));
  if (to > store.size) yield* wait(store.resize(to));
}

export function alignUp(position: number, unit: number): number {
  return Math.ceil(position / unit) * unit;
}

export function corrupt(store: Store, structure: string, offset: number, what: string): ParavaneError {
  return new ParavaneError("CORRUPT", `the ${structure} ${what}`, { file: store.name, structure, offset });
}

export function unsupported(store: Store, structure: string, what: string, hint?: string): ParavaneError {
  return new ParavaneError("UNSUPPORTED", what, { file: store.name, structure }, { hint });
}

export function invalid(message: string, hint?: string): ParavaneError {
  return new ParavaneError("INVALID", message, {}, { hint });
}

/** Bytes as text, one character each, up to the first NUL. */
export function textAt(bytes: Uint8Array, at: number, length: number): string {
  const end = bytes.subarray(at, at + length).indexOf(0);
  return String.fromCharCode(...bytes.subarray(at, end < 0 ? at + length : at + end));
}
