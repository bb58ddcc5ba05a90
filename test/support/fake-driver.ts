import { type BlockRequest, Op, Status } from "../../src/core/block.ts";
import type { BlockDriver } from "../../src/guest/driver.ts";

export interface FakeOptions {
  depth?: number;
  maxBytes?: number;
  maxSegments?: number;
  /** Complete later, when `run` is called, instead of inside `start`. */
  later?: boolean;
}

/** A disk in an array, with a driver's limits, that breaks loudly when they are not kept. */
export class FakeDriver implements BlockDriver {
  readonly name = "fake";
  readonly sectorSize = 512;
  readonly depth: number;
  readonly maxBytes: number;
  readonly maxSegments: number;
  onComplete: (request: BlockRequest) => void = () => {};
  readonly disk: Uint8Array;
  readonly ram: Uint8Array;
  readonly started: { op: Op; offset: number; length: number; segments: number }[] = [];
  doorbells = 0;
  /** Decides how a request ends, in place of carrying it out. */
  sabotage: ((request: BlockRequest) => Status | undefined) | null = null;
  readonly #later: boolean;
  #held: BlockRequest[] = [];

  constructor(size: number, ram: Uint8Array, options: FakeOptions = {}) {
    this.disk = new Uint8Array(size);
    this.ram = ram;
    this.depth = options.depth ?? 32;
    this.maxBytes = options.maxBytes ?? 128 << 10;
    this.maxSegments = options.maxSegments ?? 16;
    this.#later = options.later ?? false;
  }

  get size(): number {
    return this.disk.length;
  }
  get held(): number {
    return this.#held.length;
  }

  start(requests: readonly BlockRequest[]): number {
    this.doorbells++;
    const taken = Math.min(requests.length, this.depth - this.#held.length);
    const accepted = requests.slice(0, taken);
    for (const request of accepted) this.#admit(request);
    if (this.#later) this.#held.push(...accepted);
    else for (const request of accepted) this.#complete(request);
    return taken;
  }

  /** Completes the oldest `count` of what it holds. */
  run(count = this.#held.length): void {
    for (const request of this.#held.splice(0, count)) this.#complete(request);
  }

  close(): void {}

  #admit(request: BlockRequest): void {
    const { op, offset, length, segments } = request;
    if (op <= Op.Write && (length > this.maxBytes || segments.count > this.maxSegments || segments.total !== length)) {
      throw new Error(
        `beyond the driver's limits: ${length} bytes, ${segments.count} segments of ${segments.total} bytes`,
      );
    }
    if (op === Op.Flush && this.#held.length > 0) throw new Error("a flush overtakes what stood before it");
    if (this.#held.some((held) => held.op === Op.Flush)) throw new Error("a request overtakes a flush");
    this.started.push({ op, offset, length, segments: segments.count });
  }

  #complete(request: BlockRequest): void {
    request.status = this.sabotage?.(request) ?? this.#carryOut(request);
    this.onComplete(request);
  }

  #carryOut({ op, offset, segments }: BlockRequest): Status {
    if (op > Op.Write) return Status.Ok;
    for (let i = 0, at = offset; i < segments.count; at += segments.length(i++)) {
      const start = segments.start(i);
      const end = start + segments.length(i);
      if (op === Op.Read) this.ram.set(this.disk.subarray(at, at + end - start), start);
      else this.disk.set(this.ram.subarray(start, end), at);
    }
    return Status.Ok;
  }
}
