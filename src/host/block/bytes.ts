import { type Block, BlockRequest, Op, Status } from "../../core/block.ts";
import { ParavaneError } from "../../core/error.ts";
import { codeOf } from "./status.ts";

/** Carries out one request. @throws ParavaneError its cause, when it failed */
async function one(block: Block, op: Op, offset: number, length: number, bytes?: Uint8Array): Promise<void> {
  const request = new BlockRequest();
  request.op = op;
  request.offset = offset;
  request.length = length;
  if (bytes) {
    request.memory = bytes;
    request.segments.push(0, length);
  }
  await block.submit([request]);
  if (request.status === Status.Ok) return;
  throw request.error ?? new ParavaneError(codeOf(request.status), "the request failed", { offset, length });
}

/** Reads bytes, which need not be whole sectors. @throws ParavaneError OUT_OF_RANGE, MEDIA, IO */
export async function readBytes(block: Block, offset: number, length: number): Promise<Uint8Array> {
  if (!(Number.isSafeInteger(offset) && offset >= 0 && Number.isSafeInteger(length) && length >= 0)) {
    throw new ParavaneError("OUT_OF_RANGE", `${length} bytes at ${offset} are no range of a disk`, { offset, length });
  }
  const lead = offset % block.sectorSize;
  const whole = Math.ceil((lead + length) / block.sectorSize) * block.sectorSize;
  const bytes = new Uint8Array(whole);
  await one(block, Op.Read, offset - lead, whole, bytes);
  return bytes.subarray(lead, lead + length);
}

/** Writes bytes: whole sectors. @throws ParavaneError OUT_OF_RANGE, INVALID, READ_ONLY, NO_SPACE, MEDIA, IO */
export function writeBytes(block: Block, offset: number, bytes: Uint8Array): Promise<void> {
  return one(block, Op.Write, offset, bytes.length, bytes);
}

/** Makes everything written so far durable. @throws ParavaneError */
export function flush(block: Block): Promise<void> {
  return one(block, Op.Flush, 0, 0);
}

/** Makes the range read as zeros. @throws ParavaneError */
export function writeZeroes(block: Block, offset: number, length: number): Promise<void> {
  return one(block, Op.WriteZeroes, offset, length);
}

/** Tells that the range's content is not needed any more. @throws ParavaneError */
export function discard(block: Block, offset: number, length: number): Promise<void> {
  return one(block, Op.Discard, offset, length);
}
