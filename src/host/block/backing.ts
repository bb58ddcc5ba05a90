import { type Block, BlockRequest, Op, Status } from "../../core/block.ts";
import { ParavaneError } from "../../core/error.ts";
import { type Flow, type Later, wait } from "../../core/flow.ts";
import { codeOf, fail } from "./status.ts";

/** The block behind an image, if there is one: reads of what the image does not hold. */
export class Backing {
  readonly block: Block | undefined;

  constructor(block: Block | undefined) {
    this.block = block;
  }

  get copied(): number {
    return this.block?.copied ?? 0;
  }

  /** Fills bytes [from, from + length) of the request from the parent; zeros past the parent's end. */
  read(request: BlockRequest, from: number, length: number): Later<void> {
    const block = this.block!;
    const offset = request.offset + from;
    const inside = Math.max(0, Math.min(length, block.size - offset));
    const part = new BlockRequest();
    part.segments.pushSlice(request.segments, from + inside, length - inside);
    for (let i = 0; i < part.segments.count; i++) {
      const start = part.segments.start(i);
      request.memory.fill(0, start, start + part.segments.length(i));
    }
    if (inside === 0) return;
    part.op = Op.Read;
    part.offset = offset;
    part.length = inside;
    part.memory = request.memory;
    part.segments.clear();
    part.segments.pushSlice(request.segments, from, inside);
    const pass = () => {
      if (part.status === Status.Ok) return;
      fail(
        request,
        part.error ?? new ParavaneError(codeOf(part.status), "the backing disk could not be read", { offset }),
      );
    };
    const pending = block.submit([part]);
    if (pending) return pending.then(pass);
    pass();
  }

  *close(): Flow {
    if (this.block) yield* wait(this.block.close());
  }
}
