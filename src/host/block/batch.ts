import { type BlockRequest, Op } from "../../core/block.ts";
import type { Mapper } from "../../core/format.ts";
import type { Store } from "../../core/store.ts";
import { fail, finish } from "./status.ts";
import { Transfers } from "./transfers.ts";

/** The transfers of one submit, as far as they have got. */
export class Batch {
  /** Its number among those in flight. */
  flight = 0;
  /** Has been given places, and its data is not all there yet. */
  allocates = false;
  readonly requests: BlockRequest[] = [];
  /** How many requests; the array keeps its length. */
  count = 0;
  /** Bytes of each request answered so far. */
  readonly done: number[] = [];
  /** Which request each of the mapper's ranges is. */
  readonly ranges: number[] = [];
  readonly transfers: Transfers;

  constructor(store: Store) {
    this.transfers = new Transfers(store);
  }

  add(request: BlockRequest): void {
    this.done[this.count] = 0;
    this.requests[this.count++] = request;
  }

  left(index: number): number {
    return this.requests[index].length - this.done[index];
  }

  /** Hands the mapper what is left, from request `first` on; returns the number of ranges. */
  setRanges(mapper: Mapper, first: number): number {
    let count = 0;
    for (let i = first; i < this.count && count < mapper.maxRanges; i++) {
      const left = this.left(i);
      if (left === 0) continue;
      const request = this.requests[i];
      this.ranges[count] = i;
      mapper.setRange(count++, request.offset + this.done[i], left, request.op === Op.Write);
    }
    return count;
  }

  /** Gives request `index` up. */
  drop(index: number, thrown: unknown): void {
    fail(this.requests[index], thrown);
    this.done[index] = this.requests[index].length;
  }

  /** Finishes the requests; returns the bytes moved for them. */
  end(): number {
    for (let i = 0; i < this.count; i++) finish(this.requests[i]);
    this.count = 0;
    const { copied } = this.transfers;
    this.transfers.copied = 0;
    return copied;
  }
}
