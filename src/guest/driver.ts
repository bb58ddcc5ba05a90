import type { BlockRequest } from "../core/block.ts";

/**
 * What a guest's disk driver offers the block layer above it. Requests are BlockRequests whose segments are
 * guest-physical addresses; offsets, lengths and sizes are bytes.
 */
export interface BlockDriver {
  readonly name: string;
  readonly size: number;
  readonly sectorSize: number;
  /** Requests it holds at once. */
  readonly depth: number;
  /** Limits of one request; the block layer merges up to them and never beyond. */
  readonly maxBytes: number;
  readonly maxSegments: number;
  /**
   * Starts requests in order until it is full and rings the doorbell once. Returns how many it took. Completions may
   * come before it returns (a synchronous device) or later, from an interrupt.
   */
  start(requests: readonly BlockRequest[]): number;
  /** Set by the block layer: called once for each request, its status final. */
  onComplete: (request: BlockRequest) => void;
  /** Quiesces the device and frees the driver's memory. */
  close(): void;
}
