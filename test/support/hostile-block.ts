import { type Block, type BlockRequest, Op, Status } from "../../src/core/block.ts";
import { ParavaneError } from "../../src/core/error.ts";
import type { Random } from "./random.ts";

const CAUSES = [Status.Media, Status.Io, Status.NoSpace, Status.ReadOnly, Status.OutOfRange, Status.Unsupported];

/**
 * A disk that fails, takes its time and looks at everything it is asked. What it finds wrong is kept, for a device may
 * survive an exception of its block.
 */
export class HostileBlock implements Block {
  readonly size: number;
  readonly sectorSize: number;
  readonly readOnly = false;
  copied = 0;
  /** Since the last look. */
  batches = 0;
  requests = 0;
  readonly wrong: string[] = [];
  waiting: (() => void)[] = [];
  readonly #bytes: Uint8Array;
  readonly #random: Random;
  readonly #mayTouch: (memory: Uint8Array, start: number, length: number) => boolean;

  /** @param mayTouch may a request's segment be there? */
  constructor(
    sectors: number,
    sectorSize: number,
    random: Random,
    mayTouch: (memory: Uint8Array, start: number, length: number) => boolean,
  ) {
    this.size = sectors * sectorSize;
    this.sectorSize = sectorSize;
    this.#bytes = new Uint8Array(this.size);
    this.#random = random;
    this.#mayTouch = mayTouch;
  }

  submit(batch: readonly BlockRequest[]): void | Promise<void> {
    this.batches++;
    this.requests += batch.length;
    const carryOut = () => {
      for (const request of batch) this.#one(request);
    };
    if (!this.#random.oneIn(6)) return carryOut();
    return new Promise((resolve) =>
      this.waiting.push(() => {
        carryOut();
        resolve();
      }),
    );
  }

  /** Completes what waits. */
  release(): void {
    for (const complete of this.waiting.splice(0)) complete();
  }

  close(): void {}

  #one(request: BlockRequest): void {
    const { op, offset, length, segments, memory } = request;
    const moves = op === Op.Read || op === Op.Write;
    const whole = offset % this.sectorSize === 0 && length % this.sectorSize === 0;
    if (op !== Op.Flush && !(offset >= 0 && length >= 0 && offset + length <= this.size && whole))
      this.wrong.push(`op ${op} at ${offset}+${length}`);
    if (moves && segments.total !== length) this.wrong.push(`segments of ${segments.total} for ${length} bytes`);
    for (let i = 0; moves && i < segments.count; i++)
      if (!this.#mayTouch(memory, segments.start(i), segments.length(i)))
        this.wrong.push(`segment at ${segments.start(i)}+${segments.length(i)}`);
    request.status = Status.Ok;
    if (this.#random.oneIn(16)) {
      request.status = this.#random.pick(CAUSES);
      if (this.#random.oneIn(2))
        request.error = new ParavaneError("MEDIA", "hostile", { offset: offset + this.#random.below(length + 1) });
      return;
    }
    if (op === Op.Discard || op === Op.WriteZeroes) this.#bytes.fill(0, offset, offset + length);
    if (!moves || this.wrong.length > 0) return;
    let at = offset;
    for (let i = 0; i < segments.count; at += segments.length(i++)) {
      const run = memory.subarray(segments.start(i), segments.start(i) + segments.length(i));
      if (op === Op.Read) run.set(this.#bytes.subarray(at, at + run.length));
      else this.#bytes.set(run, at);
    }
  }
}
