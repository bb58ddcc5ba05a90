import { type Block, BlockRequest, Op, Status } from "../../core/block.ts";
import { ParavaneError } from "../../core/error.ts";
import { type Flow, type Later, run, wait } from "../../core/flow.ts";
import { SegmentList } from "../../core/segments.ts";
import type { Store } from "../../core/store.ts";
import { codeOf } from "./status.ts";

/**
 * The bytes of a disk as a store, for an image that is kept on a disk instead of in a file. Its size stays.
 * Positions and lengths need not be whole sectors; a write of a part of one reads the rest of it first.
 */
export class BlockStore implements Store {
  readonly name: string;
  /** Zeroing a disk is as good as anything it can do to give space back, but writes where it cannot. */
  readonly releases = false;
  readonly size: number;
  readonly #block: Block;
  /** Writes of parts of sectors, one at a time: two could be of the same sector. */
  #parts: Promise<unknown> | undefined;

  /** @param size bytes of the disk that are used, if not all are */
  constructor(block: Block, name = "disk", size = block.size) {
    this.#block = block;
    this.name = name;
    this.size = size;
  }

  get readOnly(): boolean {
    return this.#block.readOnly;
  }

  readv(position: number, memory: Uint8Array, segments: SegmentList): Later<void> {
    return run(this.#read(position, memory, segments));
  }
  writev(position: number, memory: Uint8Array, segments: SegmentList): Later<void> {
    return run(this.#write(position, memory, segments));
  }
  flush(): Later<void> {
    return run(this.#submit(Op.Flush, 0, 0));
  }
  discard(position: number, length: number): Later<void> {
    return run(this.#clear(position, length));
  }
  resize(size: number): void {
    if (size === this.size) return;
    throw new ParavaneError("UNSUPPORTED", `${this.name} is a disk of ${this.size} bytes, and stays that`, {
      file: this.name,
    });
  }
  close(): Later<void> {
    return this.#block.close();
  }

  *#read(position: number, memory: Uint8Array, segments: SegmentList): Flow {
    const { total } = segments;
    this.#check(position, total, "OUT_OF_RANGE");
    if (this.#isWhole(position, total)) return yield* this.#submit(Op.Read, position, total, memory, segments);
    const { start, bytes } = this.#around(position, total);
    yield* this.#submit(Op.Read, start, bytes.length, bytes, SegmentList.of(0, bytes.length));
    scatter(bytes.subarray(position - start), memory, segments);
  }

  *#write(position: number, memory: Uint8Array, segments: SegmentList): Flow {
    const { total } = segments;
    this.#check(position, total, "NO_SPACE");
    if (this.#isWhole(position, total)) return yield* this.#submit(Op.Write, position, total, memory, segments);
    const part = new Uint8Array(total);
    let at = 0;
    for (let i = 0; i < segments.count; i++) {
      const start = segments.start(i);
      part.set(memory.subarray(start, start + segments.length(i)), at);
      at += segments.length(i);
    }
    yield* this.#alone(this.#merge(position, part));
  }

  /** Writes a part of some sectors. */
  *#merge(position: number, part: Uint8Array): Flow {
    const { start, bytes } = this.#around(position, part.length);
    const all = SegmentList.of(0, bytes.length);
    yield* this.#submit(Op.Read, start, bytes.length, bytes, all);
    bytes.set(part, position - start);
    yield* this.#submit(Op.Write, start, bytes.length, bytes, all);
  }

  *#alone(work: Flow): Flow {
    while (this.#parts) yield this.#parts.catch(() => {});
    const pending = run(work);
    if (!pending) return;
    this.#parts = pending;
    try {
      yield pending;
    } finally {
      this.#parts = undefined;
    }
  }

  *#clear(position: number, length: number): Flow {
    this.#check(position, length, "NO_SPACE");
    const { sectorSize } = this.#block;
    const first = Math.ceil(position / sectorSize) * sectorSize;
    const last = Math.floor((position + length) / sectorSize) * sectorSize;
    if (first >= last) return yield* this.#alone(this.#merge(position, new Uint8Array(length)));
    if (first > position) yield* this.#alone(this.#merge(position, new Uint8Array(first - position)));
    yield* this.#submit(Op.WriteZeroes, first, last - first);
    const rest = position + length - last;
    if (rest > 0) yield* this.#alone(this.#merge(last, new Uint8Array(rest)));
  }

  *#submit(op: Op, offset: number, length: number, memory?: Uint8Array, segments?: SegmentList): Flow {
    if (length === 0 && op !== Op.Flush) return;
    const request = new BlockRequest();
    request.op = op;
    request.offset = offset;
    request.length = length;
    if (memory && segments) {
      request.memory = memory;
      request.segments.pushSlice(segments, 0, length);
    }
    yield* wait(this.#block.submit([request]));
    if (request.status === Status.Ok) return;
    throw request.error ?? new ParavaneError(codeOf(request.status), "the request failed", { offset, length });
  }

  #check(position: number, length: number, code: "OUT_OF_RANGE" | "NO_SPACE"): void {
    if (position >= 0 && length >= 0 && position + length <= this.size) return;
    const context = { file: this.name, offset: position, length };
    throw new ParavaneError(code, `${this.name} ends at byte ${this.size}`, context);
  }

  #isWhole(position: number, length: number): boolean {
    return position % this.#block.sectorSize === 0 && length % this.#block.sectorSize === 0;
  }

  /** Room for the whole sectors around the bytes. */
  #around(position: number, length: number): { start: number; bytes: Uint8Array } {
    const { sectorSize } = this.#block;
    const start = Math.floor(position / sectorSize) * sectorSize;
    const end = Math.ceil((position + length) / sectorSize) * sectorSize;
    return { start, bytes: new Uint8Array(end - start) };
  }
}

function scatter(bytes: Uint8Array, memory: Uint8Array, segments: SegmentList): void {
  let at = 0;
  for (let i = 0; i < segments.count; i++) {
    memory.set(bytes.subarray(at, at + segments.length(i)), segments.start(i));
    at += segments.length(i);
  }
}
