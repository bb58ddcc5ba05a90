import { BlockRequest, Op, Status } from "../core/block.ts";
import type { Later } from "../core/flow.ts";
import type { BlockDriver } from "./driver.ts";

/**
 * The guest's block layer: what stands between an application and a disk driver. A batch is a plug: nothing reaches the
 * driver before all of it is queued, so that neighbours are merged and the doorbell rings once.
 *
 * - A request that continues the one queued before it becomes part of it, up to the driver's limits. Only neighbours in
 *   the queue are merged, so requests that overlap keep their order.
 * - One beyond the driver's limits is split. A request made of several, or in several, fails as a whole.
 * - A flush waits for everything before it, and everything after waits for the flush.
 *
 * Requests not merged or split go to the driver as they are: no copy and no allocation.
 */
export class BlockLayer {
  readonly driver: BlockDriver;
  /** Waiting for the driver, from `#head` on. */
  readonly #queue: BlockRequest[] = [];
  #head = 0;
  #inFlight = 0;
  #flushing = false;
  /** Handing requests to the driver; completions that come meanwhile must not do so too. */
  #pumping = false;
  readonly #handed: BlockRequest[] = [];
  readonly #idle: Unit[] = [];
  /** Requests that were split, as far as they have got. */
  readonly #split = new Map<BlockRequest, Split>();
  /** Batches that did not complete at once. */
  readonly #batches = new Map<BlockRequest, Batch>();

  constructor(driver: BlockDriver) {
    this.driver = driver;
    driver.onComplete = (request) => this.#completed(request);
  }

  get size(): number {
    return this.driver.size;
  }
  get sectorSize(): number {
    return this.driver.sectorSize;
  }

  /**
   * Carries out a batch whose segments are guest-physical addresses. Every request leaves with a final status. Returns
   * nothing when all of it completed at once, else a promise of that. Overlapping requests of one batch are carried out in
   * order; between batches in flight together only a flush makes order.
   */
  submit(batch: readonly BlockRequest[]): Later<void> {
    for (const request of batch) this.#enqueue(request);
    this.#pump();
    let left = 0;
    for (const request of batch) if (request.status === Status.Pending) left++;
    if (left > 0) return this.#settled(batch, left);
  }

  #settled(batch: readonly BlockRequest[], left: number): Promise<void> {
    return new Promise((resolve) => {
      const wait = { left, resolve };
      for (const request of batch) if (request.status === Status.Pending) this.#batches.set(request, wait);
    });
  }

  #enqueue(request: BlockRequest): void {
    request.status = Status.Pending;
    request.error = null;
    const queue = this.#queue;
    if (request.op > Op.Write) {
      queue.push(request);
      return;
    }
    const { maxBytes, maxSegments } = this.driver;
    if (request.length > maxBytes || request.segments.count > maxSegments) {
      this.#divide(request);
      return;
    }
    if (queue.length > this.#head) {
      const last = queue[queue.length - 1];
      if (
        last.op === request.op &&
        last.offset + last.length === request.offset &&
        last.length + request.length <= maxBytes &&
        last.segments.count + request.segments.count <= maxSegments
      ) {
        this.#merge(last, request);
        return;
      }
    }
    queue.push(request);
  }

  #merge(last: BlockRequest, request: BlockRequest): void {
    let unit: Unit;
    if (last instanceof Unit) unit = last;
    else {
      unit = this.#unit(last, last.offset);
      this.#append(unit, last);
      this.#queue[this.#queue.length - 1] = unit;
    }
    this.#append(unit, request);
  }

  #append(unit: Unit, request: BlockRequest): void {
    unit.parents.push(request);
    unit.length += request.length;
    unit.segments.pushSlice(request.segments, 0, request.length);
  }

  #unit(like: BlockRequest, offset: number): Unit {
    const unit = this.#idle.pop() ?? new Unit();
    unit.op = like.op;
    unit.offset = offset;
    unit.length = 0;
    unit.memory = like.memory;
    unit.segments.clear();
    unit.status = Status.Pending;
    unit.error = null;
    return unit;
  }

  /** Queues the request as parts within the driver's limits, cut at sectors. */
  #divide(request: BlockRequest): void {
    const { maxBytes, maxSegments, sectorSize } = this.driver;
    const split: Split = { left: 0, failed: null };
    this.#split.set(request, split);
    for (let from = 0; from < request.length; from += this.#queue[this.#queue.length - 1].length) {
      const unit = this.#unit(request, request.offset + from);
      for (let length = Math.min(maxBytes, request.length - from); ; length = halved(length, sectorSize)) {
        unit.length = length;
        unit.segments.clear();
        unit.segments.pushSlice(request.segments, from, length);
        if (length <= sectorSize || unit.segments.count <= maxSegments) break;
      }
      unit.parents.push(request);
      this.#queue.push(unit);
      split.left++;
    }
  }

  /** Gives the driver what it has room for. */
  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    const queue = this.#queue;
    const handed = this.#handed;
    for (;;) {
      const room = this.#flushing ? 0 : this.driver.depth - this.#inFlight;
      for (let at = this.#head; at < queue.length && handed.length < room; at++) {
        const request = queue[at];
        if (request.op === Op.Flush) {
          if (this.#inFlight > 0 || handed.length > 0) break;
          this.#flushing = true;
          handed.push(request);
          break;
        }
        handed.push(request);
      }
      const offered = handed.length;
      if (offered === 0) break;
      // Taken off first: the driver may complete some of them before it returns.
      this.#head += offered;
      this.#inFlight += offered;
      if (this.#head === queue.length) {
        queue.length = 0;
        this.#head = 0;
      }
      const taken = this.driver.start(handed);
      if (taken < offered) this.#takeBack(taken);
      handed.length = 0;
      if (taken < offered) break;
    }
    this.#pumping = false;
  }

  /** The driver was full sooner than its depth says: the rest goes back to the front of the queue. */
  #takeBack(taken: number): void {
    const rest = this.#handed.slice(taken);
    this.#inFlight -= rest.length;
    this.#flushing = false;
    this.#queue.splice(0, this.#head, ...rest);
    this.#head = 0;
    if (taken > 0 || this.#inFlight > 0) return;
    // It holds nothing and takes nothing: it is gone, and nothing would ever complete.
    this.#inFlight += this.#queue.length;
    for (const request of this.#queue.splice(0)) {
      request.status = Status.Io;
      this.#completed(request);
    }
  }

  #completed(request: BlockRequest): void {
    this.#inFlight--;
    if (request.op === Op.Flush) this.#flushing = false;
    if (request instanceof Unit) this.#spread(request);
    else this.#finish(request);
    if (this.#head < this.#queue.length) this.#pump();
  }

  /** Passes a unit's outcome on to those it was made for. */
  #spread(unit: Unit): void {
    for (const parent of unit.parents) {
      const split = this.#split.get(parent);
      if (split) {
        if (unit.status !== Status.Ok) split.failed ??= unit;
        if (--split.left > 0) continue;
        this.#split.delete(parent);
      }
      const cause = split?.failed ?? unit;
      parent.error = cause.error;
      parent.status = cause.status;
      this.#finish(parent);
    }
    unit.parents.length = 0;
    // A failed one may still be the cause that a split request reports.
    if (unit.status === Status.Ok) this.#idle.push(unit);
  }

  #finish(request: BlockRequest): void {
    if (this.#batches.size === 0) return;
    const batch = this.#batches.get(request);
    if (!batch) return;
    this.#batches.delete(request);
    if (--batch.left === 0) batch.resolve();
  }
}

/** What the driver gets where requests were merged or split. */
class Unit extends BlockRequest {
  /** The application's requests it stands for. */
  readonly parents: BlockRequest[] = [];
}

interface Split {
  /** Parts not completed yet. */
  left: number;
  /** The first part that failed. */
  failed: BlockRequest | null;
}

interface Batch {
  /** Requests not completed yet. */
  left: number;
  resolve: () => void;
}

/** Half of the bytes, in whole sectors. */
function halved(length: number, sector: number): number {
  return Math.max(sector, Math.floor(length / 2 / sector) * sector);
}
