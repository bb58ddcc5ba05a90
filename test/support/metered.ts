import type { SegmentList } from "../../src/core/segments.ts";
import { KeptStore } from "./disks.ts";

/** Counts what is read: what opening a disk costs, whatever the machine's mood. */
export class MeteredStore extends KeptStore {
  reads = 0;
  bytesRead = 0;

  override readv(position: number, memory: Uint8Array, segments: SegmentList): void {
    this.reads++;
    this.bytesRead += segments.total;
    super.readv(position, memory, segments);
  }

  /** Forgets what was counted so far. */
  reset(): void {
    this.reads = 0;
    this.bytesRead = 0;
  }
}
