import { type Block, BlockRequest, Op, Status } from "../../core/block.ts";
import { ParavaneError } from "../../core/error.ts";
import { type Flow, wait } from "../../core/flow.ts";
import { SegmentList } from "../../core/segments.ts";
import type { Store } from "../../core/store.ts";

/** Where an image's bytes come from. */
export interface ByteSource {
  /** Bytes. */
  readonly size: number;
  /** Fills every segment from `position` on; what lies past the end are zeros. @throws ParavaneError MEDIA, CRC, IO, CLOSED */
  read(position: number, memory: Uint8Array, segments: SegmentList): Flow;
}

/** Zeros for the part of `segments` from byte `from` on. */
export function fillZeros(memory: Uint8Array, segments: SegmentList, from = 0): void {
  let skip = from;
  for (let i = 0; i < segments.count; i++) {
    const length = segments.length(i);
    if (skip < length) memory.fill(0, segments.start(i) + skip, segments.start(i) + length);
    skip = Math.max(0, skip - length);
  }
}

/** Copies `bytes` to `segments`, from their byte `at` on. */
export function scatter(bytes: Uint8Array, memory: Uint8Array, segments: SegmentList, at: number): void {
  let skip = at;
  let done = 0;
  for (let i = 0; i < segments.count && done < bytes.length; i++) {
    const length = segments.length(i);
    if (skip >= length) {
      skip -= length;
      continue;
    }
    const take = Math.min(length - skip, bytes.length - done);
    memory.set(bytes.subarray(done, done + take), segments.start(i) + skip);
    done += take;
    skip = 0;
  }
}

export function storeSource(store: Store): ByteSource {
  return {
    size: store.size,
    *read(position, memory, segments) {
      const there = Math.max(0, Math.min(segments.total, store.size - position));
      let part = segments;
      if (there < segments.total) {
        part = new SegmentList();
        part.pushSlice(segments, 0, there);
        fillZeros(memory, segments, there);
      }
      if (there > 0) yield* wait(store.readv(position, memory, part));
    },
  };
}

const CODES: Partial<Record<Status, "MEDIA" | "OUT_OF_RANGE" | "UNSUPPORTED" | "CRC">> = {
  [Status.Media]: "MEDIA",
  [Status.OutOfRange]: "OUT_OF_RANGE",
  [Status.Unsupported]: "UNSUPPORTED",
  [Status.Crc]: "CRC",
};

/** A block moves whole sectors, so what does not start or end at one goes through a buffer. */
export function blockSource(block: Block): ByteSource {
  function* whole(offset: number, memory: Uint8Array, segments: SegmentList): Flow {
    const request = new BlockRequest();
    request.op = Op.Read;
    request.offset = offset;
    request.length = segments.total;
    request.memory = memory;
    request.segments.pushSlice(segments, 0, segments.total);
    yield* wait(block.submit([request]));
    if (request.status === Status.Ok) return;
    throw request.error ?? new ParavaneError(CODES[request.status] ?? "IO", "the read failed", { offset });
  }
  return {
    size: block.size,
    *read(position, memory, segments) {
      const unit = block.sectorSize;
      const there = Math.max(0, Math.min(segments.total, block.size - position));
      if (there < segments.total) fillZeros(memory, segments, there);
      if (there === 0) return;
      if (position % unit === 0 && there % unit === 0) {
        const part = new SegmentList();
        part.pushSlice(segments, 0, there);
        yield* whole(position, memory, part);
        return;
      }
      const start = position - (position % unit);
      const bytes = new Uint8Array(Math.ceil((position + there) / unit) * unit - start);
      yield* whole(start, bytes, SegmentList.of(0, bytes.length));
      scatter(bytes.subarray(position - start, position - start + there), memory, segments, 0);
    },
  };
}
