import { BlockRequest, Op, Status } from "../../core/block.ts";
import { ParavaneError } from "../../core/error.ts";
import type { Later } from "../../core/flow.ts";
import type { Store } from "../../core/store.ts";
import { FORMATS } from "../format/index.ts";
import { claimedBy } from "../format/probe.ts";
import { fail, finish } from "./status.ts";

const SECTOR = 512;
const NOTHING = new Uint8Array(0);

/**
 * Stands before a raw disk whose format was guessed, and refuses the guest's writes that would make the next guess another
 * one: the first sector with the header of an image, or the last with the footer of a VHD. Such an image could name any
 * file of the host as its parent.
 */
export class RawGuard {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  /** Hands the batch on. A write that touches the first or the last sectors goes as up to three, so that what was looked at
   * is what is written, whatever the guest does to its memory meanwhile. */
  submit(requests: readonly BlockRequest[], size: number, next: (batch: BlockRequest[]) => Later<void>): Later<void> {
    const batch: BlockRequest[] = [];
    const split: { request: BlockRequest; parts: BlockRequest[] }[] = [];
    for (const request of requests) {
      const parts = this.#parts(request, size);
      if (!parts) batch.push(request);
      else {
        split.push({ request, parts });
        batch.push(...parts);
      }
    }
    const end = () => {
      for (const { request, parts } of split) {
        for (const { status, error } of parts) if (status !== Status.Ok && error) fail(request, error);
        finish(request);
      }
    };
    const pending = next(batch);
    if (pending) return pending.then(end);
    end();
  }

  /** What to write instead of the request; nothing of it when it is refused. Null when it may pass as it is. */
  #parts(request: BlockRequest, size: number): BlockRequest[] | null {
    const { op, offset, length, segments, memory } = request;
    // In a file that ends inside a sector, the last 512 bytes are in two.
    const guarded = this.#store.size % SECTOR === 0 ? SECTOR : 2 * SECTOR;
    if (op !== Op.Write || (offset > 0 && offset + length <= size - guarded)) return null;
    const whole = offset % SECTOR === 0 && length % SECTOR === 0 && length > 0 && segments.total === length;
    for (let i = 0; i < segments.count; i++) {
      if (segments.start(i) + segments.length(i) > memory.length) return null;
    }
    // The engine says what is wrong with it.
    if (!whole || offset + length > size) return null;

    request.status = Status.Pending;
    request.error = null;
    const head = offset === 0 ? SECTOR : 0;
    const tail = Math.min(length - head, Math.max(0, offset + length - (size - guarded)));
    const parts: BlockRequest[] = [];
    if (head > 0) parts.push(copied(request, 0, head));
    if (length > head + tail) parts.push(part(request, head, length - head - tail));
    if (tail > 0) parts.push(copied(request, length - tail, tail));
    const claim = this.#claim(parts, size);
    if (claim === undefined) return parts;
    const context = { file: this.#store.name, offset, length };
    const hint = 'Open the disk as format "raw" to allow it';
    const message = `the write would make this raw disk look like a ${claim} image; its format was guessed`;
    fail(request, new ParavaneError("DENIED", message, context, { hint }));
    return [];
  }

  #claim(parts: BlockRequest[], size: number): string | undefined {
    for (const { memory, offset, length } of parts) {
      if (offset === 0) {
        const claim = claimedBy(memory.subarray(0, SECTOR), NOTHING, FORMATS);
        if (claim !== undefined) return claim;
      }
      // Written to its last sector, the file ends with that; else where it ended before.
      const end = offset + length === size ? size : this.#store.size;
      if (end - SECTOR < offset || end - SECTOR >= offset + length) continue;
      const last = new Uint8Array(SECTOR);
      last.set(memory.subarray(end - SECTOR - offset, Math.min(length, end - offset)));
      const claim = claimedBy(NOTHING, last, FORMATS);
      if (claim !== undefined) return claim;
    }
    return undefined;
  }

  /** @throws ParavaneError DENIED when the disk, cut off after this sector, would look like another format */
  checkEnd(last: Uint8Array): void {
    const claim = claimedBy(NOTHING, last, FORMATS);
    if (claim === undefined) return;
    const hint = 'Open the disk as format "raw" to allow it';
    const message = `cut off there, this raw disk would look like a ${claim} image; its format was guessed`;
    throw new ParavaneError("DENIED", message, { file: this.#store.name }, { hint });
  }
}

/** Bytes [from, from + length) of the request, in its own memory. */
function part(request: BlockRequest, from: number, length: number): BlockRequest {
  const made = new BlockRequest();
  made.op = request.op;
  made.offset = request.offset + from;
  made.length = length;
  made.memory = request.memory;
  made.segments.pushSlice(request.segments, from, length);
  return made;
}

/** The same, in memory of our own. */
function copied(request: BlockRequest, from: number, length: number): BlockRequest {
  const made = part(request, from, length);
  const bytes = new Uint8Array(length);
  for (let i = 0, at = 0; i < made.segments.count; at += made.segments.length(i), i++) {
    const start = made.segments.start(i);
    bytes.set(made.memory.subarray(start, start + made.segments.length(i)), at);
  }
  made.memory = bytes;
  made.segments.clear();
  made.segments.push(0, length);
  return made;
}
