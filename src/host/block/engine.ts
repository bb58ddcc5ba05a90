import { type Block, type BlockRequest, Op, Status } from "../../core/block.ts";
import { type AsyncCloseable, disposable } from "../../core/dispose.ts";
import { asParavaneError, ParavaneError } from "../../core/error.ts";
import { type Flow, type Later, run, wait } from "../../core/flow.ts";
import { ExtentKind, type Image, MapStop, type NewParent } from "../../core/format.ts";
import { SegmentList } from "../../core/segments.ts";
import type { Store } from "../../core/store.ts";
import { Backing } from "./backing.ts";
import { Batch } from "./batch.ts";
import { type Around, clear, MAX_STALLS } from "./clear.ts";
import { Flights } from "./flights.ts";
import { Lock } from "./lock.ts";
import { type Place, placesOf } from "./places.ts";
import { refusal } from "./refusal.ts";
import { fail, finish } from "./status.ts";

export interface EngineOptions {
  readOnly?: boolean;
  /** What lies behind extents of kind `Backing`; the engine closes it. Zeros past its end, or when there is none. */
  backing?: Block;
}

/**
 * The one read and write loop: asks the image where the bytes of a batch are, and moves them between the store and the
 * requests' memory. Image metadata changes under a lock; data moves without.
 */
export class Engine implements Block, AsyncCloseable {
  declare readonly [Symbol.asyncDispose]: () => Promise<void>;
  readonly image: Image;
  readonly store: Store;
  readonly readOnly: boolean;
  /** Where data extents are. */
  readonly #data: Store;
  #backing: Backing;
  readonly #lock = new Lock();
  /** Batch states not in use. */
  readonly #idle: Batch[] = [];
  #copied = 0;
  #active = 0;
  /** Requests so far that could change the disk. */
  changes = 0;
  /** The image knows that it is being changed. */
  #begun = false;
  #drained: (() => void) | null = null;
  /**
   * Transfers under way. Metadata must not be written before the data that it already shows is there, nor may space that was
   * given up be used again while something that looked it up before still moves.
   */
  readonly #flights = new Flights();
  /** Flows that are about to write metadata; new places wait for them. */
  #settling = 0;
  #waiting: (() => void)[] = [];
  /** Work on the image as a whole. */
  #exclusive: Promise<void> | null = null;
  #closing: { result: Later<void> } | null = null;

  constructor(image: Image, store: Store, options: EngineOptions = {}) {
    this.image = image;
    this.store = store;
    this.readOnly = options.readOnly ?? store.readOnly;
    this.#data = image.data ?? store;
    this.#backing = new Backing(options.backing);
    if (options.backing) image.attach?.(options.backing);
  }

  get size(): number {
    return this.image.size;
  }
  get sectorSize(): number {
    return this.image.sectorSize;
  }
  get copied(): number {
    return this.#copied + this.#backing.copied;
  }
  get backing(): Block | undefined {
    return this.#backing.block;
  }

  submit(requests: readonly BlockRequest[]): Later<void> {
    if (this.#exclusive) return this.#exclusive.then(() => this.submit(requests));
    if (this.#closing) throw new ParavaneError("CLOSED", "the disk is closed", { file: this.store.name });
    this.#active++;
    let pending: Later<void>;
    try {
      pending = run(this.#serve(requests));
    } catch (thrown) {
      this.#leave();
      throw thrown;
    }
    const leave = () => this.#leave();
    if (!pending) return leave();
    return pending.then(leave, (thrown) => {
      leave();
      throw thrown;
    });
  }

  /**
   * Changes the disk's size, durably, once what is under way has completed; what is submitted meanwhile waits. New bytes
   * are zeros. @throws ParavaneError CLOSED, READ_ONLY, INVALID, UNSUPPORTED (by the format), NO_SPACE
   */
  resize(size: number): Promise<void> {
    const file = this.store.name;
    return this.exclusive(function* (image) {
      if (image.resize) return yield* image.resize(size);
      throw new ParavaneError("UNSUPPORTED", `the size of ${image.format} images cannot be changed yet`, { file });
    });
  }

  /**
   * Carries out work on the image as a whole, once what is under way has completed and is durable; what is submitted
   * meanwhile waits. Without `durable` it has completed only, unless metadata has piled up.
   * @throws ParavaneError CLOSED, READ_ONLY, and what the work throws
   */
  async exclusive<T>(work: (image: Image) => Flow<T>, { durable = true } = {}): Promise<T> {
    const context = { file: this.store.name };
    while (this.#exclusive) await this.#exclusive;
    if (this.#closing) throw new ParavaneError("CLOSED", "the disk is closed", context);
    if (this.readOnly) throw new ParavaneError("READ_ONLY", "the disk is read-only", context);
    const done = this.#alone(work, durable);
    const over = () => {
      this.#exclusive = null;
    };
    this.#exclusive = done.then(over, over);
    return done;
  }

  async #alone<T>(work: (image: Image) => Flow<T>, durable: boolean): Promise<T> {
    await run(this.#drain());
    if (!this.#begun) {
      const refused = await run(this.#begin());
      if (refused) throw refused;
    }
    if (durable || this.image.crowded) await run(this.#durable());
    return run(work(this.image));
  }

  /**
   * Notes another parent, or none, in the image, durably, and reads through `backing` from then on. Returns the block behind
   * it before, which is the caller's to close. No data moves. @throws ParavaneError UNSUPPORTED, and as `exclusive`
   */
  reparent(parent: NewParent | undefined, backing: Block | undefined): Promise<Block | undefined> {
    const engine = this;
    const file = this.store.name;
    return this.exclusive(function* (image) {
      if (!image.setParent) {
        throw new ParavaneError("UNSUPPORTED", `the parent of a ${image.format} image cannot be changed`, { file });
      }
      yield* image.setParent(parent);
      const before = engine.#backing.block;
      engine.#backing = new Backing(backing);
      if (backing) image.attach?.(backing);
      return before;
    });
  }

  close(): Later<void> {
    if (this.#exclusive) return this.#exclusive.then(() => this.close());
    if (!this.#closing) {
      this.#closing = { result: undefined };
      this.#closing.result = run(this.#close());
    }
    return this.#closing.result;
  }

  #leave(): void {
    if (--this.#active === 0) this.#drained?.();
  }

  /** Waits for all batches under way. */
  *#drain(): Flow {
    if (this.#active === 0) return;
    yield new Promise<void>((resolve) => {
      this.#drained = resolve;
    });
  }

  *#close(): Flow {
    yield* this.#drain();
    try {
      yield* this.#durable();
      // Space that the first one gave up is noted by a second.
      if (this.image.dirty) yield* this.#durable();
      if (this.#begun && this.image.finish) yield* this.image.finish();
    } finally {
      yield* wait(this.store.close());
      if (this.#data !== this.store) yield* wait(this.#data.close());
      yield* this.#backing.close();
    }
  }

  *#serve(requests: readonly BlockRequest[]): Flow {
    const batch = this.#idle.pop() ?? new Batch(this.#data);
    for (const request of requests) {
      request.status = Status.Pending;
      request.error = null;
      let refused = refusal(request, this, this.store.name);
      if (!refused && changes(request.op)) refused = this.image.refusal ?? null;
      if (!refused && changes(request.op)) this.changes++;
      if (!refused && !this.#begun && changes(request.op)) refused = yield* this.#begin();
      if (!refused && this.image.crowded && changes(request.op)) refused = yield* this.#relieve();
      if (!refused && changes(request.op)) this.image.bitmaps?.touch(request.offset, request.length);
      if (refused) fail(request, refused);
      else if (request.op <= Op.Write) batch.add(request);
      else {
        // Everything but a transfer waits for what stands before it, and what follows waits for it.
        yield* this.#move(batch);
        try {
          if (request.op === Op.Flush) yield* this.#durable();
          else yield* clear(request, this.#around(batch));
        } catch (thrown) {
          fail(request, thrown);
        }
        finish(request);
      }
    }
    yield* this.#move(batch);
    this.#idle.push(batch);
  }

  /** `batch` carries the writes of zeros: nothing is in it when a discard or write-zeroes begins. */
  #around(batch: Batch): Around {
    const move = (request: BlockRequest) => {
      batch.add(request);
      return this.#move(batch);
    };
    return {
      image: this.image,
      data: this.#data,
      lock: this.#lock,
      flights: this.#flights,
      backed: this.#backing.block !== undefined,
      durable: () => this.#durable(),
      move,
    };
  }

  /** Before the first change; why the image cannot be changed, or null. */
  *#begin(): Flow<ParavaneError | null> {
    while (this.#lock.held) yield this.#lock.released();
    if (this.#begun) return null;
    try {
      if (this.image.begin) yield* this.#lock.during(this.image.begin());
      this.#begun = true;
      return null;
    } catch (thrown) {
      return asParavaneError(thrown);
    }
  }

  /**
   * Where the bytes from `offset` on are, without reading them: a list that covers a first part of the range.
   * @throws ParavaneError CLOSED, CORRUPT, and what the store throws
   */
  places(offset: number, length: number): Later<Place[]> {
    if (this.#exclusive) return this.#exclusive.then(() => this.places(offset, length));
    if (this.#closing) throw new ParavaneError("CLOSED", "the disk is closed", { file: this.store.name });
    const inside = Math.min(length, this.size - offset);
    return run(placesOf(this.image, this.#lock, this.#data, this.#backing.block, offset, inside));
  }

  /** Writes metadata that has piled up; why that failed, or null. */
  *#relieve(): Flow<ParavaneError | null> {
    try {
      yield* this.#durable();
      return null;
    } catch (thrown) {
      return asParavaneError(thrown);
    }
  }

  /** Reads and writes: maps what is left of the batch, moves what is mapped, and again, until nothing is left. */
  *#move(batch: Batch): Flow {
    if (batch.count === 0) return;
    batch.flight = this.#flights.begin();
    try {
      yield* this.#transfer(batch);
    } catch (thrown) {
      // What fails no request, such as memory that was taken away. Nothing of the batch may go on behind it.
      const inFlight = batch.transfers.settled();
      if (inFlight) yield inFlight;
      throw thrown;
    } finally {
      this.#flights.end(batch.flight);
      batch.allocates = false;
    }
  }

  /** A batch that needs a place while metadata is about to be written lets go of what that waits for: itself. */
  *#stepAside(batch: Batch): Flow {
    batch.transfers.issue();
    const inFlight = batch.transfers.settled();
    if (inFlight) yield inFlight;
    this.#flights.end(batch.flight);
    try {
      while (this.#settling > 0) yield this.#woken();
    } finally {
      batch.flight = this.#flights.begin();
    }
  }

  *#transfer(batch: Batch): Flow {
    const { mapper } = this.image;
    const { transfers } = batch;
    let stalls = 0;
    let first = 0;
    for (;;) {
      while (first < batch.count && batch.left(first) === 0) first++;
      if (first === batch.count) break;
      const count = batch.setRanges(mapper, first);
      const stop = mapper.resolve(count);
      stalls = mapper.extentCount > 0 ? 0 : stalls + 1;
      // The mapper belongs to whoever runs: what it answered must be used before this flow waits for anything.
      const retry = this.#use(batch);
      if (retry) {
        yield retry;
        continue;
      }
      const answered = stop === MapStop.Done || stop === MapStop.Full;
      if (answered && stalls <= MAX_STALLS) continue;
      const stopped = batch.ranges[answered ? 0 : mapper.stopRange];
      if (stop === MapStop.Corrupt) {
        const request = batch.requests[stopped];
        const damage = request.op === Op.Write ? this.image.guard?.(mapper.stopPosition, 1) : undefined;
        batch.drop(stopped, damage ?? this.image.fault());
        if (damage) batch.transfers.wait(this.#condemn(request, damage));
      } else if (stalls > MAX_STALLS) {
        batch.drop(stopped, new ParavaneError("IO", "the disk's map makes no progress", { file: this.store.name }));
      }
      // Whoever held the lock may have done what this flow wants, so it resolves again instead of going on.
      else if (this.#lock.held) {
        yield this.#lock.released();
        stalls = 0;
      } else if (stop === MapStop.Allocate && !batch.allocates && this.#settling > 0) yield* this.#stepAside(batch);
      else {
        const { stopOffset, stopLength } = mapper;
        if (stop === MapStop.Allocate) batch.allocates = true;
        try {
          if (stop === MapStop.Miss) yield* this.#lock.during(this.image.load());
          else yield* this.#lock.during(this.image.allocate(stopOffset, stopLength));
        } catch (thrown) {
          batch.drop(stopped, thrown);
        }
      }
    }
    transfers.issue();
    const inFlight = transfers.settled();
    if (inFlight) yield inFlight;
    this.#copied += batch.end();
  }

  #woken(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** Takes the extents of the last `resolve`. A promise: wait for it, then resolve again from where it got. */
  #use(batch: Batch): Promise<unknown> | null {
    const { mapper } = this.image;
    for (let i = 0; i < mapper.extentCount; i++) {
      const index = batch.ranges[mapper.extentRange(i)];
      const request = batch.requests[index];
      const from = batch.done[index];
      const length = mapper.extentLength(i);
      const kind = mapper.extentKind(i);
      if (kind === ExtentKind.Data) {
        const write = request.op === Op.Write;
        const damage = write ? (this.image.guard?.(mapper.extentPosition(i), length) ?? null) : null;
        if (damage) {
          batch.drop(index, damage);
          batch.transfers.wait(this.#condemn(request, damage));
          // What is left of the request is not wanted any more.
          return batch.transfers.settled() ?? Promise.resolve();
        }
        const busy = batch.transfers.add(request, from, length, mapper.extentPosition(i), write);
        if (busy) return busy;
      } else if (kind === ExtentKind.Packed) batch.transfers.wait(this.#unpack(request, from, length));
      else if (kind === ExtentKind.Backing && this.#backing.block) {
        batch.transfers.wait(this.#backing.read(request, from, length));
      } else fillZeros(request, from, length);
      batch.done[index] = from + length;
    }
    return null;
  }

  #condemn(request: BlockRequest, damage: ParavaneError): Later<void> {
    try {
      return run(this.image.condemn!(damage))?.catch((thrown) => fail(request, thrown));
    } catch (thrown) {
      fail(request, thrown);
    }
  }

  #unpack(request: BlockRequest, from: number, length: number): Later<void> {
    const segments = new SegmentList();
    segments.pushSlice(request.segments, from, length);
    this.#copied += length;
    try {
      const pending = run(this.image.unpack!(request.offset + from, request.memory, segments));
      return pending?.catch((thrown) => fail(request, thrown));
    } catch (thrown) {
      fail(request, thrown);
    }
  }

  /** Data first, then the metadata that makes it visible, each durable before the next. */
  *#durable(): Flow {
    if (this.readOnly) return;
    this.#settling++;
    try {
      const older = this.#flights.close();
      for (;;) {
        const pending = this.#flights.landed(older) ?? (this.#lock.held ? this.#lock.released() : null);
        if (!pending) break;
        yield pending;
      }
      yield* this.#lock.during(this.#flush());
    } finally {
      if (--this.#settling === 0) this.#wake();
    }
  }

  *#flush(): Flow {
    const { image, store } = this;
    if (this.#data !== store) yield* wait(this.#data.flush());
    if (image.dirty && image.stage) yield* image.stage();
    if (image.dirty) {
      yield* wait(store.flush());
      yield* image.sync();
    }
    yield* wait(store.flush());
    image.release?.();
  }
}
disposable(Engine.prototype);

function changes(op: Op): boolean {
  return op !== Op.Read && op !== Op.Flush;
}

const scratch = new SegmentList();

function fillZeros(request: BlockRequest, from: number, length: number): void {
  scratch.clear();
  scratch.pushSlice(request.segments, from, length);
  for (let i = 0; i < scratch.count; i++) {
    const start = scratch.start(i);
    request.memory.fill(0, start, start + scratch.length(i));
  }
}
