import { type BlockRequest, Op, Status } from "../../core/block.ts";
import { disposable } from "../../core/dispose.ts";
import { ParavaneError } from "../../core/error.ts";
import type { Disk } from "../block/open.ts";
import { finish } from "../block/status.ts";
import { Requests } from "./request.ts";

/**
 * The same disk, but what cannot be read reads as zeros: `onLoss` is told of each such sector. Closing it closes the disk.
 */
export function salvage(disk: Disk, onLoss: (offset: number, length: number, error: ParavaneError) => void): Disk {
  return disposable<Disk>(new Salvage(disk, onLoss) as unknown as Disk) as Disk;
}

class Salvage implements Omit<Disk, typeof Symbol.asyncDispose> {
  readonly #disk: Disk;
  readonly #onLoss: (offset: number, length: number, error: ParavaneError) => void;

  constructor(disk: Disk, onLoss: (offset: number, length: number, error: ParavaneError) => void) {
    this.#disk = disk;
    this.#onLoss = onLoss;
  }
  get size() {
    return this.#disk.size;
  }
  get sectorSize() {
    return this.#disk.sectorSize;
  }
  get readOnly() {
    return this.#disk.readOnly;
  }
  get copied() {
    return this.#disk.copied;
  }
  get format() {
    return this.#disk.format;
  }
  get parent() {
    return this.#disk.parent;
  }
  get backing() {
    return this.#disk.backing;
  }
  describe() {
    return this.#disk.describe();
  }
  resize(size: number) {
    return this.#disk.resize(size);
  }
  /** Where the map is damaged, all that is left is to try. */
  async places(offset: number, length: number) {
    try {
      return await this.#disk.places(offset, length);
    } catch (thrown) {
      if (!(thrown instanceof ParavaneError) || thrown.code === "CLOSED") throw thrown;
      return [{ kind: "data" as const, depth: 0, length: Math.min(length, this.sectorSize) }];
    }
  }
  close() {
    return this.#disk.close();
  }

  async submit(requests: readonly BlockRequest[]): Promise<void> {
    await this.#disk.submit(requests);
    for (const request of requests) {
      if (request.op === Op.Read && request.status !== Status.Ok) await this.#again(request);
    }
  }

  /** Sector by sector. */
  async #again(request: BlockRequest): Promise<void> {
    const unit = this.sectorSize;
    const bytes = new Uint8Array(unit);
    const requests = new Requests(bytes);
    const whole = new Uint8Array(request.length);
    for (let at = 0; at < request.length; at += unit) {
      requests.add(Op.Read, request.offset + at, unit, 0);
      try {
        await requests.submit(this.#disk);
        whole.set(bytes, at);
      } catch (thrown) {
        this.#onLoss(request.offset + at, unit, thrown as ParavaneError);
      }
    }
    let from = 0;
    for (let i = 0; i < request.segments.count; i++) {
      const length = request.segments.length(i);
      request.memory.set(whole.subarray(from, from + length), request.segments.start(i));
      from += length;
    }
    request.status = Status.Pending;
    request.error = null;
    finish(request);
  }
}
