import type { ParavaneError } from "./error.ts";
import type { Later } from "./flow.ts";
import { SegmentList } from "./segments.ts";

const EMPTY = new Uint8Array(0);

/** What a request asks for. The values are those of `BlockOp` in assembly/spec/request.ts. */
export const Op = { Read: 0, Write: 1, Flush: 2, Discard: 3, WriteZeroes: 4 } as const;
export type Op = (typeof Op)[keyof typeof Op];

/**
 * How a request ended, by cause; each device maps these to its own wire status. The values are those of `BlockStatus`
 * in assembly/spec/request.ts.
 */
export const Status = {
  Ok: 0,
  /** Not completed yet. */
  Pending: 1,
  OutOfRange: 2,
  Media: 3,
  NoSpace: 4,
  ReadOnly: 5,
  Unsupported: 6,
  Io: 7,
  /** Damaged on the way between device and host, as the link's CRC has shown; the disk is well, and the next try may be too. */
  Crc: 8,
} as const;
export type Status = (typeof Status)[keyof typeof Status];

/**
 * One request of a batch. Offsets and lengths are bytes and multiples of the block's sector size. `segments` points into
 * `memory` and holds exactly `length` bytes for reads and writes, nothing otherwise. Whoever owns the request may refill
 * and resubmit it once `status` is no longer `Pending`.
 */
export class BlockRequest {
  op: Op = Op.Read;
  offset = 0;
  length = 0;
  memory: Uint8Array = EMPTY;
  readonly segments = new SegmentList();
  /** The submitter's own mark; blocks and filters carry it and never look at it. */
  tag = 0;
  /** Moved by the device without a CRC on the way, as PIO does: it can be damaged there, but nobody is told (`Status.Crc`). */
  unchecked = false;
  status: Status = Status.Pending;
  /** The cause, when `status` is not `Ok`. */
  error: ParavaneError | null = null;
}

/** A virtual disk, or a filter over one: everything a device, a server or a tool may ask of a disk. */
export interface Block {
  /** Bytes; a multiple of `sectorSize`. */
  readonly size: number;
  /** Logical sector: the unit of offsets and lengths, in bytes. */
  readonly sectorSize: number;
  readonly readOnly: boolean;
  /** Bytes moved between the host's stores and memory so far, each copy counted. */
  readonly copied: number;
  /**
   * Carries out a batch. Every request leaves with a final `status`; an I/O error never throws. Returns nothing when all
   * of it completed at once (synchronous stores), else a promise of that. Requests of one batch behave as if carried out
   * in order; batches in flight together are not ordered. A flush covers what completed, or stood before it in its batch.
   * @throws ParavaneError CLOSED
   */
  submit(batch: readonly BlockRequest[]): Later<void>;
  /** Makes everything durable, then releases the stores. Idempotent. */
  close(): Later<void>;
}
