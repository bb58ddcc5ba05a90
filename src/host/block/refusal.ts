import { type Block, type BlockRequest, Op } from "../../core/block.ts";
import { ParavaneError } from "../../core/error.ts";

/** Why the request cannot be carried out at all, or null. @param file for the message */
export function refusal(request: BlockRequest, { size, sectorSize, readOnly }: Block, file: string) {
  const { op, offset, length, segments, memory } = request;
  if (op === Op.Flush) return null;
  const no = (code: "UNSUPPORTED" | "READ_ONLY" | "OUT_OF_RANGE" | "INVALID", message: string) =>
    new ParavaneError(code, message, { file, offset, length });
  if (op > Op.WriteZeroes) return no("UNSUPPORTED", `there is no block operation ${op}`);
  if (op !== Op.Read && readOnly) return no("READ_ONLY", "the disk is read-only");
  if (!(offset >= 0 && length >= 0 && offset + length <= size)) {
    return no("OUT_OF_RANGE", `${length} bytes at ${offset} pass the end, ${size}`);
  }
  if (offset % sectorSize !== 0 || length % sectorSize !== 0) {
    return no("INVALID", `not whole sectors of ${sectorSize} bytes`);
  }
  if (op > Op.Write) return null;
  if (segments.total !== length) return no("INVALID", `segments hold ${segments.total} bytes of ${length}`);
  for (let i = 0; i < segments.count; i++) {
    if (segments.start(i) + segments.length(i) > memory.length) {
      return no("INVALID", "a segment lies outside the request's memory");
    }
  }
  return null;
}
