import { type Block, BlockRequest, Op, Status } from "../../core/block.ts";
import { ParavaneError } from "../../core/error.ts";
import type { Later } from "../../core/flow.ts";
import { codeOf } from "../block/status.ts";

/** Requests that are used again and again, all over one buffer. What goes on where the one before ends, becomes part of it. */
export class Requests {
  readonly #memory: Uint8Array;
  readonly #pool: BlockRequest[] = [];
  #batch: BlockRequest[] = [];
  /** Where in the buffer the last one ends. */
  #end = 0;

  constructor(memory: Uint8Array) {
    this.#memory = memory;
  }

  /** @param at where in the buffer the bytes are, or go */
  add(op: Op, offset: number, length: number, at: number): void {
    const transfer = op === Op.Read || op === Op.Write;
    const last = this.#batch.at(-1);
    const joins = last?.op === op && last.offset + last.length === offset && (!transfer || this.#end === at);
    const request = joins ? last : this.#begin(op, offset);
    request.length += length;
    if (transfer) request.segments.push(at, length);
    this.#end = at + length;
  }

  #begin(op: Op, offset: number): BlockRequest {
    const index = this.#batch.length;
    let request = this.#pool[index];
    if (!request) {
      request = new BlockRequest();
      this.#pool[index] = request;
    }
    request.op = op;
    request.offset = offset;
    request.length = 0;
    request.memory = this.#memory;
    request.segments.clear();
    this.#batch.push(request);
    return request;
  }

  /** Carries out what was added; over synchronous stores it is done at once. @throws ParavaneError the first cause */
  submit(block: Block): Later<void> {
    const batch = this.#batch;
    this.#batch = [];
    if (batch.length === 0) return;
    const pending = block.submit(batch);
    if (pending) return pending.then(() => outcome(batch));
    outcome(batch);
  }
}

function outcome(batch: readonly BlockRequest[]): void {
  for (const { status, error, offset, length } of batch) {
    if (status === Status.Ok) continue;
    throw error ?? new ParavaneError(codeOf(status), "the request failed", { offset, length });
  }
}
