import { type Block, type BlockRequest, Op, Status } from "../../src/core/block.ts";
import { ParavaneError } from "../../src/core/error.ts";

export interface FakeOptions {
  sectorSize?: number;
  readOnly?: boolean;
  /** Completes each batch only when `release()` is called. */
  manual?: boolean;
}

/** A disk that is one array: what a device does to it can be read off. Keeps what it was asked. */
export class FakeBlock implements Block {
  readonly bytes: Uint8Array;
  readonly sectorSize: number;
  readonly readOnly: boolean;
  copied = 0;
  readonly asked: { op: Op; offset: number; length: number }[] = [];
  batches = 0;
  /** Requests that match end with the status it answers. */
  fault: (request: BlockRequest) => Status = () => Status.Ok;
  closed = false;
  readonly #manual: boolean;
  #waiting: (() => void)[] = [];

  constructor(size: number, options: FakeOptions = {}) {
    this.bytes = new Uint8Array(size);
    this.sectorSize = options.sectorSize ?? 512;
    this.readOnly = options.readOnly ?? false;
    this.#manual = options.manual ?? false;
  }

  get size(): number {
    return this.bytes.length;
  }

  submit(batch: readonly BlockRequest[]): void | Promise<void> {
    if (this.closed) throw new ParavaneError("CLOSED", "the disk is closed");
    this.batches++;
    for (const { op, offset, length } of batch) this.asked.push({ op, offset, length });
    const requests = [...batch];
    if (!this.#manual) return this.#carryOut(requests);
    return new Promise((resolve) => {
      this.#waiting.push(() => {
        this.#carryOut(requests);
        resolve();
      });
    });
  }

  /** Batches not completed yet. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Completes the oldest batch, or the one at `index`, and lets what follows from it happen. */
  async release(index = 0): Promise<void> {
    for (const complete of this.#waiting.splice(index, 1)) complete();
    for (let tick = 0; tick < 10; tick++) await Promise.resolve();
  }

  close(): void {
    this.closed = true;
  }

  #carryOut(batch: readonly BlockRequest[]): void {
    for (const request of batch) request.status = this.#one(request);
  }

  #one(request: BlockRequest): Status {
    const { op, offset, length, segments, memory } = request;
    if (length % this.sectorSize !== 0 || offset % this.sectorSize !== 0) throw new Error("not whole sectors");
    if (offset < 0 || offset + length > this.size) throw new Error("out of range");
    const fault = this.fault(request);
    if (fault !== Status.Ok) return fault;
    if (op === Op.Discard || op === Op.WriteZeroes) this.bytes.fill(0, offset, offset + length);
    if (op !== Op.Read && op !== Op.Write) return Status.Ok;
    if (segments.total !== length) throw new Error(`segments of ${segments.total} bytes for a request of ${length}`);
    let at = offset;
    for (let i = 0; i < segments.count; i++) {
      const [start, run] = [segments.start(i), segments.length(i)];
      if (op === Op.Read) memory.set(this.bytes.subarray(at, at + run), start);
      else this.bytes.set(memory.subarray(start, start + run), at);
      at += run;
    }
    this.copied += length;
    return Status.Ok;
  }
}
