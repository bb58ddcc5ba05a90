import { BlockRequest, Op, Status } from "../../../core/block.ts";
import type { SegmentList } from "../../../core/segments.ts";
import type { Work } from "./command.ts";
import { type Outcome, senseOf } from "./outcome.ts";

/** Where a command's data goes or comes from: the initiator's buffer, segments of a memory. */
export interface DataBuffer {
  memory: Uint8Array;
  segments: SegmentList;
  /** Sum of the segments' lengths. */
  bytes: number;
}

/** What is to be asked of the block, in one batch, and how many bytes it moves between the initiator and the disk. */
export interface Requests {
  requests: BlockRequest[];
  bytes: number;
}

/** Bytes of the private buffer that verifying reads into, and that a fill is written from. */
const PIECE = 64 << 10;
const scratch = new Uint8Array(PIECE);
const NONE = new Uint8Array(0);

/**
 * Carries work out as far as it goes without the block: an outcome, or requests for it, after which `conclude` has the
 * outcome. `touch` is called with what of the buffer is about to be written; requests are taken from `spare` first, and are
 * the caller's to put back.
 */
export function carryOut(
  work: Work,
  buffer: DataBuffer,
  touch: (segments: SegmentList) => void,
  spare: BlockRequest[] = [],
): Outcome | Requests {
  const asked = (op: Op, offset: number, length: number, memory: Uint8Array = NONE): BlockRequest => {
    const request = spare.pop() ?? new BlockRequest();
    request.op = op;
    request.offset = offset;
    request.length = length;
    request.memory = memory;
    request.segments.clear();
    request.status = Status.Pending;
    request.error = null;
    return request;
  };
  switch (work.kind) {
    case "done":
      return outcome(0);
    case "sense":
      return { sense: work.sense, bytes: 0, overrun: false };
    case "data":
      return scatter(work.bytes, buffer, touch);
    case "transfer": {
      // All or nothing: of a sector there is no half.
      if (work.length > buffer.bytes) return { sense: null, bytes: 0, overrun: true };
      const request = asked(work.op, work.offset, work.length, buffer.memory);
      request.segments.pushSlice(buffer.segments, 0, work.length);
      if (work.op === Op.Read) touch(request.segments);
      const requests = work.durable ? [request, asked(Op.Flush, 0, 0)] : [request];
      return { requests, bytes: work.length };
    }
    case "flush":
      return { requests: [asked(Op.Flush, 0, 0)], bytes: 0 };
    case "verify":
      return { requests: [repeated(asked(Op.Read, work.offset, work.length, scratch))], bytes: 0 };
    case "want": {
      if (work.length > buffer.bytes) return { sense: null, bytes: 0, overrun: true };
      const next = carryOut(work.accept(gather(buffer, work.length)), buffer, touch, spare);
      return { ...next, bytes: work.length };
    }
    case "ranges":
      return { requests: work.ranges.map(({ offset, length }) => asked(work.op, offset, length)), bytes: 0 };
    case "fill":
      return { requests: [repeated(asked(Op.Write, work.offset, work.length, tiled(work.block)))], bytes: 0 };
  }
}

/** The outcome once every request has a status; one still pending was lost by its block. */
export function conclude({ requests, bytes }: Requests, blockSize: number): Outcome {
  for (const request of requests) {
    if (request.status === Status.Ok) continue;
    if (request.status === Status.Pending) request.status = Status.Io;
    return { sense: senseOf(request, blockSize), bytes: 0, overrun: false };
  }
  return outcome(bytes);
}

function outcome(bytes: number): Outcome {
  return { sense: null, bytes, overrun: false };
}

/** A request whose segments are all of its memory, again and again. */
function repeated(request: BlockRequest): BlockRequest {
  const { length, memory, segments } = request;
  for (let left = length; left > 0; left -= memory.length) segments.push(0, Math.min(left, memory.length));
  return request;
}

function tiled(block: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(PIECE - (PIECE % block.length));
  for (let at = 0; at < bytes.length; at += block.length) bytes.set(block, at);
  return bytes;
}

function scatter(bytes: Uint8Array, buffer: DataBuffer, touch: (segments: SegmentList) => void): Outcome {
  const { memory, segments } = buffer;
  touch(segments);
  let at = 0;
  for (let i = 0; i < segments.count && at < bytes.length; i++) {
    const part = bytes.subarray(at, at + segments.length(i));
    memory.set(part, segments.start(i));
    at += part.length;
  }
  return { sense: null, bytes: at, overrun: at < bytes.length };
}

/** A copy: the guest may change what it has sent while it is being looked at. */
function gather({ memory, segments }: DataBuffer, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0, at = 0; i < segments.count && at < length; i++) {
    const run = Math.min(segments.length(i), length - at);
    bytes.set(memory.subarray(segments.start(i), segments.start(i) + run), at);
    at += run;
  }
  return bytes;
}
