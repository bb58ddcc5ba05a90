import { type Block, type BlockRequest, Op, Status } from "../../src/core/block.ts";
import { ParavaneError } from "../../src/core/error.ts";
import type { Later } from "../../src/core/flow.ts";

const SECTOR = 512;

/** A failure to come: requests of that kind that touch that byte (any, when absent). */
export interface Fault {
  op: Op;
  status: Status;
  /** Bytes; also reported as the place of the error. */
  at?: number;
}

/**
 * A sparse disk in memory for device tests. It completes at once, or, while `held`, when `release` is called; faults are
 * injected, and every request is written down.
 */
export class SparseBlock implements Block {
  readonly size: number;
  readonly sectorSize: number;
  readOnly = false;
  copied = 0;
  closed = false;
  /** Requests wait for `release`. */
  held = false;
  /** Sectors it may still allocate before it is full. */
  room = Number.POSITIVE_INFINITY;
  readonly faults: Fault[] = [];
  readonly log: { op: Op; offset: number; length: number }[] = [];
  readonly #sectors = new Map<number, Uint8Array>();
  #waiting: (() => void)[] = [];

  constructor(size: number, sectorSize = SECTOR) {
    this.size = size;
    this.sectorSize = sectorSize;
  }

  submit(batch: readonly BlockRequest[]): Later<void> {
    if (this.closed) throw new ParavaneError("CLOSED", "the block is closed");
    for (const { op, offset, length } of batch) this.log.push({ op, offset, length });
    if (!this.held) {
      for (const request of batch) this.#carryOut(request);
      return undefined;
    }
    return new Promise((resolve) =>
      this.#waiting.push(() => {
        for (const request of batch) this.#carryOut(request);
        resolve();
      }),
    );
  }

  close(): void {
    this.closed = true;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Whoever asked for what is held is no more. */
  forget(): void {
    this.#waiting = [];
  }

  /** Completes what is held; resolves once whoever submitted it has heard. */
  async release(): Promise<void> {
    for (const go of this.#waiting.splice(0)) go();
    await new Promise<void>((resolve) => queueMicrotask(() => queueMicrotask(() => queueMicrotask(resolve))));
  }

  /** Nothing is written any more: all of it is zeros. */
  wipe(): void {
    this.#sectors.clear();
  }

  /** Content of [offset, offset + length) in bytes, whole sectors. */
  peek(offset: number, length: number): Uint8Array {
    const out = new Uint8Array(length);
    for (let at = 0; at < length; at += SECTOR) {
      const sector = this.#sectors.get((offset + at) / SECTOR);
      if (sector) out.set(sector, at);
    }
    return out;
  }

  poke(offset: number, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += SECTOR) {
      this.#sectors.set((offset + at) / SECTOR, bytes.slice(at, at + SECTOR));
    }
  }

  #carryOut(request: BlockRequest): void {
    const { op, offset, length } = request;
    request.error = null;
    request.status = this.#verdict(request);
    if (request.status !== Status.Ok || length === 0) return;
    if (op === Op.Discard || op === Op.WriteZeroes) {
      for (const sector of this.#sectors.keys())
        if (sector * SECTOR >= offset && sector * SECTOR < offset + length) this.#sectors.delete(sector);
      return;
    }
    const bytes = op === Op.Read ? this.peek(offset, length) : new Uint8Array(length);
    let at = 0;
    for (let i = 0; i < request.segments.count; i++) {
      const run = request.memory.subarray(
        request.segments.start(i),
        request.segments.start(i) + request.segments.length(i),
      );
      if (op === Op.Read) run.set(bytes.subarray(at, at + run.length));
      else bytes.set(run, at);
      at += run.length;
    }
    if (at !== length) throw new Error(`segments hold ${at} bytes, the request says ${length}`);
    if (op === Op.Write) this.poke(offset, bytes);
    this.copied += length;
  }

  #verdict(request: BlockRequest): Status {
    const { op, offset, length } = request;
    if (offset % this.sectorSize !== 0 || length % this.sectorSize !== 0) throw new Error("not whole sectors");
    const index = this.faults.findIndex(
      (fault) => fault.op === op && (fault.at === undefined || (fault.at >= offset && fault.at < offset + length)),
    );
    if (index >= 0) {
      const [{ status, at }] = this.faults.splice(index, 1);
      request.error = new ParavaneError("MEDIA", "injected", at === undefined ? {} : { offset: at });
      return status;
    }
    if (op === Op.Flush) return Status.Ok;
    if (offset + length > this.size) return Status.OutOfRange;
    if (op !== Op.Write) return Status.Ok;
    if (this.readOnly) return Status.ReadOnly;
    for (let at = offset; at < offset + length; at += SECTOR) if (!this.#sectors.has(at / SECTOR)) this.room--;
    return this.room < 0 ? Status.NoSpace : Status.Ok;
  }
}
