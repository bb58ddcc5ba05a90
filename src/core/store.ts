import type { Later } from "./flow.ts";
import type { SegmentList } from "./segments.ts";

/**
 * Where bytes are kept: a file, an array, a browser's private file. Positional, never a shared cursor. Positions and
 * lengths are bytes. A synchronous store returns nothing and does the work before it returns; an asynchronous one
 * returns promises. Errors are thrown (or rejected) as ParavaneError: NO_SPACE, READ_ONLY, OUT_OF_RANGE, IO, CLOSED.
 */
export interface Store {
  /** For messages: a path, a URL, "memory". */
  readonly name: string;
  /** Equal for two stores only when they are the same file; absent where nobody can tell. */
  readonly identity?: string;
  /** When it was last written before it was opened, in seconds since 1970; absent where nobody can tell. */
  readonly modified?: number;
  readonly size: number;
  readonly readOnly: boolean;
  /** `discard` gives space back; otherwise it writes zeros, and an advisory discard is better left alone. */
  readonly releases: boolean;
  /** Fills every segment, in order, from consecutive bytes at `position`. @throws OUT_OF_RANGE past the end */
  readv(position: number, memory: Uint8Array, segments: SegmentList): Later<void>;
  /** Writes every segment, in order, to consecutive bytes at `position`, growing the store when it ends beyond. */
  writev(position: number, memory: Uint8Array, segments: SegmentList): Later<void>;
  /** Resolves when everything written before is durable. */
  flush(): Later<void>;
  /** Makes the range read as zeros, releasing space where the host can. */
  discard(position: number, length: number): Later<void>;
  /**
   * Absent when the store cannot. Gives bytes [0, length) room on the host, so that writing there cannot fail for want of it,
   * and writes nothing; the store grows to that size. False: this file's host cannot, and nothing has changed.
   */
  reserve?(length: number): boolean;
  /**
   * Absent when the store cannot tell. Of the bytes from `position` on, how many of the next `length` are all kept, or are a
   * hole that reads as zeros; at least one.
   */
  extent?(position: number, length: number): { hole: boolean; length: number };
  /** Absent when the store is one file. The file that has the byte, and where. */
  locate?(position: number): { name: string; position: number };
  /** Truncates, or extends with zeros. */
  resize(size: number): Later<void>;
  /** Releases the store; does not flush. Idempotent. */
  close(): Later<void>;
}
