import * as fs from "node:fs";
import { ParavaneError } from "../../core/error.ts";
import type { Later } from "../../core/flow.ts";
import type { SegmentList } from "../../core/segments.ts";

/** Most segments handed to one system call (Linux: IOV_MAX is 1024). */
const MAX_VECTOR = 512;
/** From this many segments on, one vectored call is cheaper than a call for each. */
const MIN_VECTOR = 3;

/** The system calls behind a store; they finish short transfers and throw the host's own errors. */
export interface Transfers {
  /** Moves all the segments, in order, to (`write`) or from consecutive bytes at `position`. */
  move(write: boolean, position: number, memory: Uint8Array, segments: SegmentList): Later<void>;
  sync(): Later<void>;
  truncate(size: number): Later<void>;
  close(): void;
}

export class DirectTransfers implements Transfers {
  readonly #fd: number;
  constructor(fd: number) {
    this.#fd = fd;
  }

  move(write: boolean, position: number, memory: Uint8Array, segments: SegmentList): void {
    const fd = this.#fd;
    if (segments.count === 1) {
      // By far the most usual, so without making a view.
      const start = segments.start(0);
      const length = segments.total;
      const moved = write
        ? fs.writeSync(fd, memory, start, length, position)
        : fs.readSync(fd, memory, start, length, position);
      if (moved === length) return;
    }
    const buffers = views(memory, segments);
    for (let at = 0; at < buffers.length; ) {
      let moved: number;
      const vector = buffers.length - at >= MIN_VECTOR;
      if (vector) {
        const some = buffers.slice(at, at + MAX_VECTOR);
        moved = write ? fs.writevSync(fd, some, position) : fs.readvSync(fd, some, position);
      } else {
        const one = buffers[at];
        moved = write ? fs.writeSync(fd, one, 0, one.length, position) : fs.readSync(fd, one, 0, one.length, position);
      }
      if (moved === 0) throw shortTransfer(write, position);
      position += moved;
      at = skip(buffers, at, moved);
    }
  }
  sync(): void {
    fs.fdatasyncSync(this.#fd);
  }
  truncate(size: number): void {
    fs.ftruncateSync(this.#fd, size);
  }
  close(): void {
    fs.closeSync(this.#fd);
  }
}

interface Waiting {
  position: number;
  length: number;
  buffers: Uint8Array[];
  resolve(): void;
  reject(thrown: unknown): void;
}

/**
 * A file system lets one writer into a file at a time: a second would hold a thread, and spin. So one write is under way;
 * what waits meanwhile and continues another goes with it.
 */
export class PoolTransfers implements Transfers {
  readonly #fd: number;
  readonly #waiting: Waiting[] = [];
  #writing = false;
  #closed = false;
  constructor(fd: number) {
    this.#fd = fd;
  }

  move(write: boolean, position: number, memory: Uint8Array, segments: SegmentList): Promise<void> {
    const buffers = views(memory, segments);
    if (!write) return this.#move(false, position, buffers);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ position, length: segments.total, buffers, resolve, reject });
      if (!this.#writing) void this.#write();
    });
  }

  async #write(): Promise<void> {
    this.#writing = true;
    while (this.#waiting.length > 0 && !this.#closed) {
      const some = this.#next();
      const [{ position, resolve, reject }] = some;
      const whole = this.#move(
        true,
        position,
        some.length === 1 ? some[0].buffers : some.flatMap((one) => one.buffers),
      );
      if (some.length === 1) await whole.then(resolve, reject);
      else {
        await whole.then(
          () => {
            for (const one of some) one.resolve();
          },
          // Which of them fails is known only when each is tried alone.
          async () => {
            for (const one of some) await this.#move(true, one.position, one.buffers).then(one.resolve, one.reject);
          },
        );
      }
    }
    this.#writing = false;
  }

  /** The write that has waited longest, and those that continue it. */
  #next(): Waiting[] {
    const some = this.#waiting.splice(0, 1);
    let end = some[0].position + some[0].length;
    for (let count = some[0].buffers.length; ; ) {
      const at = this.#waiting.findIndex(({ position }) => position === end);
      if (at < 0 || count + this.#waiting[at].buffers.length > MAX_VECTOR) return some;
      const [more] = this.#waiting.splice(at, 1);
      some.push(more);
      count += more.buffers.length;
      end += more.length;
    }
  }

  close(): void {
    this.#closed = true;
    fs.closeSync(this.#fd);
    // The host may give the number to another file at once.
    const gone = new ParavaneError("CLOSED", "the file was closed before this was written");
    for (const { reject } of this.#waiting.splice(0)) reject(gone);
  }

  async #move(write: boolean, position: number, buffers: Uint8Array[]): Promise<void> {
    for (let at = 0; at < buffers.length; ) {
      const some = at === 0 && buffers.length <= MAX_VECTOR ? buffers : buffers.slice(at, at + MAX_VECTOR);
      const moved = await this.#once(write, position, some);
      if (moved === 0) throw shortTransfer(write, position);
      position += moved;
      at = skip(buffers, at, moved);
    }
  }
  sync(): Promise<void> {
    return new Promise((resolve, reject) => fs.fdatasync(this.#fd, (error) => (error ? reject(error) : resolve())));
  }
  truncate(size: number): Promise<void> {
    return new Promise((resolve, reject) =>
      fs.ftruncate(this.#fd, size, (error) => (error ? reject(error) : resolve())),
    );
  }

  /** Callbacks, because a FileHandle's promises cost three times as much. */
  #once(write: boolean, position: number, buffers: Uint8Array[]): Promise<number> {
    return new Promise((resolve, reject) => {
      const done = (error: NodeJS.ErrnoException | null, moved: number) => (error ? reject(error) : resolve(moved));
      if (buffers.length === 1) {
        if (write) fs.write(this.#fd, buffers[0], 0, buffers[0].length, position, done);
        else fs.read(this.#fd, buffers[0], 0, buffers[0].length, position, done);
      } else if (write) fs.writev(this.#fd, buffers, position, done);
      else fs.readv(this.#fd, buffers, position, done);
    });
  }
}

/** Drops `moved` bytes from the front of buffers[at…]; returns the index of the first that is left. */
function skip(buffers: Uint8Array[], at: number, moved: number): number {
  while (moved > 0) {
    const { length } = buffers[at];
    if (moved < length) {
      buffers[at] = buffers[at].subarray(moved);
      return at;
    }
    moved -= length;
    at++;
  }
  return at;
}

function views(memory: Uint8Array, segments: SegmentList): Uint8Array[] {
  const list: Uint8Array[] = [];
  for (let i = 0; i < segments.count; i++) {
    const start = segments.start(i);
    list.push(memory.subarray(start, start + segments.length(i)));
  }
  return list;
}

function shortTransfer(write: boolean, position: number): ParavaneError {
  if (write) return new ParavaneError("IO", `the host wrote nothing at ${position}`, { offset: position });
  return new ParavaneError("OUT_OF_RANGE", `the file ends at ${position}: it has shrunk since it was opened`);
}
