import { type Block, BlockRequest, Op, Status } from "../../core/block.ts";
import { ParavaneError } from "../../core/error.ts";
import { type Flow, type Later, wait } from "../../core/flow.ts";
import { SegmentList } from "../../core/segments.ts";
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
    const past = new SegmentList();
    past.pushSlice(request.segments, from + inside, length - inside);
    for (let i = 0; i < past.count; i++) {
      request.memory.fill(0, past.start(i), past.start(i) + past.length(i));
    }
    if (inside === 0) return;
    const part = new BlockRequest();
    part.op = Op.Read;
    const lead = offset % block.sectorSize;
    const whole = Math.ceil((lead + inside) / block.sectorSize) * block.sectorSize;
    part.offset = offset - lead;
    part.length = whole;
    const aligned = whole === inside;
    if (aligned) {
      part.memory = request.memory;
      part.segments.pushSlice(request.segments, from, inside);
    } else {
      // The parent has larger sectors than the image over it.
      part.memory = new Uint8Array(whole);
      part.segments.push(0, whole);
    }
    const pass = () => {
      if (part.status !== Status.Ok) {
        const message = "the backing disk could not be read";
        fail(request, part.error ?? new ParavaneError(codeOf(part.status), message, { offset }));
      } else if (!aligned) scatter(part.memory.subarray(lead, lead + inside), request, from);
    };
    const pending = block.submit([part]);
    if (pending) return pending.then(pass);
    pass();
  }

  *close(): Flow {
    if (this.block) yield* wait(this.block.close());
  }
}

/** Copies bytes to where the request wants them, from its byte `from` on. */
function scatter(bytes: Uint8Array, request: BlockRequest, from: number): void {
  const into = new SegmentList();
  into.pushSlice(request.segments, from, bytes.length);
  for (let i = 0, at = 0; i < into.count; at += into.length(i), i++) {
    request.memory.set(bytes.subarray(at, at + into.length(i)), into.start(i));
  }
}
