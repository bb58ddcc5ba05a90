import type { BlockRequest } from "../../core/block.ts";
import { type Flow, run } from "../../core/flow.ts";
import { SegmentList } from "../../core/segments.ts";
import type { Store } from "../../core/store.ts";
import { failTransfer } from "./status.ts";

const EMPTY = new Uint8Array(0);

/** One read or write of the store: bytes that lie together there, from one request or several. */
class Transfer {
  write = false;
  position = 0;
  length = 0;
  memory: Uint8Array = EMPTY;
  /** The request's own list when the transfer is the whole of it, else `own`. */
  segments: SegmentList;
  readonly own = new SegmentList();
  /** Which bytes of which request: request, from, length. */
  requests: BlockRequest[] = [];
  pieces: number[] = [];

  constructor() {
    this.segments = this.own;
  }

  overlaps(write: boolean, position: number, length: number): boolean {
    return (write || this.write) && position < this.position + this.length && this.position < position + length;
  }
}

/**
 * Issues the store transfers of one batch: joins those that continue each other, keeps asynchronous ones in flight side
 * by side, and lets none overtake another that touches the same bytes. A failed transfer fails its requests.
 */
export class Transfers {
  readonly #store: Store;
  readonly #free: Transfer[] = [];
  readonly #flying: Transfer[] = [];
  readonly #promises: Promise<void>[] = [];
  /** Being put together, not issued yet. */
  #open: Transfer | null = null;
  /** Other reads for the same request, which may turn out to be neighbours in the store, in another order. */
  readonly #apart: Transfer[] = [];
  /** Bytes moved so far. */
  copied = 0;

  constructor(store: Store) {
    this.#store = store;
  }

  /**
   * Adds bytes [from, from + length) of the request, which lie at `position` in the store. When it returns a promise,
   * wait for that and add again: something in flight touches the same bytes.
   */
  add(request: BlockRequest, from: number, length: number, position: number, write: boolean): Promise<unknown> | null {
    const open = this.#open;
    if (open && open.write === write && open.memory === request.memory && open.position + open.length === position) {
      this.#extend(open, request.segments, from, length);
      open.requests.push(request);
      open.pieces.push(from, length);
      return null;
    }
    if (open && !write && !open.write && open.requests[open.requests.length - 1] === request) {
      this.#apart.push(open);
      this.#open = null;
    } else this.issue();
    if (this.#flying.some((transfer) => transfer.overlaps(write, position, length))) {
      this.issue();
      return this.settled();
    }
    const transfer = this.#free.pop() ?? new Transfer();
    transfer.write = write;
    transfer.position = position;
    transfer.length = length;
    transfer.memory = request.memory;
    transfer.requests[0] = request;
    transfer.pieces[0] = from;
    transfer.pieces[1] = length;
    if (from === 0 && length === request.length) transfer.segments = request.segments;
    else {
      transfer.own.clear();
      transfer.own.pushSlice(request.segments, from, length);
      transfer.segments = transfer.own;
    }
    this.#open = transfer;
    return null;
  }

  /** Starts what was being put together. */
  issue(): void {
    const transfer = this.#open;
    this.#open = null;
    if (this.#apart.length === 0) {
      if (transfer) this.#start(transfer);
      return;
    }
    const list = this.#apart.splice(0);
    if (transfer) list.push(transfer);
    list.sort((a, b) => a.position - b.position);
    let last = list[0];
    for (let i = 1; i < list.length; i++) {
      const next = list[i];
      if (last.memory === next.memory && last.position + last.length === next.position) this.#join(last, next);
      else {
        this.#start(last);
        last = next;
      }
    }
    this.#start(last);
  }

  #join(transfer: Transfer, next: Transfer): void {
    this.#extend(transfer, next.segments, 0, next.length);
    for (const [i, request] of next.requests.entries()) {
      transfer.requests.push(request);
      transfer.pieces.push(next.pieces[i * 2], next.pieces[i * 2 + 1]);
    }
    this.#recycle(next);
  }

  #extend(transfer: Transfer, segments: SegmentList, from: number, length: number): void {
    if (transfer.segments !== transfer.own) {
      transfer.own.clear();
      transfer.own.pushSlice(transfer.segments, 0, transfer.length);
      transfer.segments = transfer.own;
    }
    transfer.own.pushSlice(segments, from, length);
    transfer.length += length;
  }

  #start(transfer: Transfer): void {
    let first: void | Promise<void>;
    try {
      first = this.#move(transfer.write, transfer.position, transfer.memory, transfer.segments);
      if (!first) {
        this.#done(transfer);
        return;
      }
    } catch (thrown) {
      this.wait(run(this.#failed(transfer, thrown)));
      return;
    }
    this.#flying.push(transfer);
    this.#promises.push(
      first.then(
        () => this.#done(transfer),
        (thrown) => run(this.#failed(transfer, thrown)),
      ),
    );
  }

  /** Counts other work of the batch, if it is not done yet, among what is in flight. */
  wait(pending: void | Promise<void>): void {
    if (pending) this.#promises.push(pending);
  }

  /** A promise of the end of everything in flight, or null when nothing is. It never rejects. */
  settled(): Promise<unknown> | null {
    return this.#promises.length === 0 ? null : Promise.all(this.#promises.splice(0));
  }

  #done(transfer: Transfer): void {
    this.copied += transfer.length;
    this.#recycle(transfer);
  }

  /** A joined transfer is tried again request by request, so that one bad sector fails only those that asked for it. */
  *#failed(transfer: Transfer, thrown: unknown): Flow {
    const { write, memory, requests, pieces } = transfer;
    let { position } = transfer;
    if (requests.length === 1) failTransfer(requests[0], thrown);
    else {
      for (const [i, request] of requests.entries()) {
        const length = pieces[i * 2 + 1];
        const segments = new SegmentList();
        segments.pushSlice(request.segments, pieces[i * 2], length);
        try {
          const pending = this.#move(write, position, memory, segments);
          if (pending) yield pending;
          this.copied += length;
        } catch (again) {
          failTransfer(request, again);
        }
        position += length;
      }
    }
    this.#recycle(transfer);
  }

  #recycle(transfer: Transfer): void {
    const index = this.#flying.length === 0 ? -1 : this.#flying.indexOf(transfer);
    if (index >= 0) this.#flying.splice(index, 1);
    // Setting an array's length is slow even when it does not change.
    if (transfer.requests.length > 1) {
      transfer.requests.length = 1;
      transfer.pieces.length = 2;
    }
    transfer.memory = EMPTY;
    this.#free.push(transfer);
  }

  #move(write: boolean, position: number, memory: Uint8Array, segments: SegmentList): void | Promise<void> {
    return write ? this.#store.writev(position, memory, segments) : this.#store.readv(position, memory, segments);
  }
}
