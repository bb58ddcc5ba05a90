import * as fs from "node:fs";
import { disposable } from "../../core/dispose.ts";
import { type ErrorCode, ParavaneError } from "../../core/error.ts";
import type { Later } from "../../core/flow.ts";
import { SegmentList } from "../../core/segments.ts";
import type { Store } from "../../core/store.ts";
import { fileHoles } from "./file-holes.ts";
import { DirectTransfers, PoolTransfers, type Transfers } from "./file-transfers.ts";

export interface FileStoreOptions {
  readOnly?: boolean;
  /** Makes a new, empty file. @throws EXISTS when there is one already, unless `overwrite` */
  create?: boolean;
  /** With `create`: empties an existing file. */
  overwrite?: boolean;
  /** Does the work in Node's thread pool, so that the event loop goes on. Slower for small requests. */
  async?: boolean;
  /** False: `flush` does nothing, so a power cut may lose anything. For a file that is of no use before it is whole. */
  durable?: boolean;
  /** False: holes are neither found nor punched, even where the host's calls for it can be reached. */
  holes?: boolean;
}

const ZEROS = new Uint8Array(1 << 20);

/** A regular file or block device of the host. Positional I/O only; no locking. Node only. */
export class FileStore implements Store {
  declare readonly [Symbol.asyncDispose]: () => Promise<void>;
  readonly name: string;
  readonly identity: string;
  readonly modified: number;
  readonly readOnly: boolean;
  readonly #fd: number;
  readonly #io: Transfers;
  readonly #durable: boolean;
  /** The calls for holes, unless this file has none. */
  #holes: boolean;
  #size: number;
  #closed = false;

  /** @throws ParavaneError NOT_FOUND, EXISTS, READ_ONLY (no permission to write), INVALID (not a file), IO */
  constructor(path: string, options: FileStoreOptions = {}) {
    this.name = path;
    this.readOnly = options.readOnly ?? false;
    this.#durable = options.durable ?? true;
    const mode = this.readOnly ? "r" : options.create ? (options.overwrite ? "w+" : "wx+") : "r+";
    try {
      this.#fd = fs.openSync(path, mode);
    } catch (thrown) {
      if (this.readOnly && (thrown as NodeJS.ErrnoException).code === "EACCES") {
        throw new ParavaneError("IO", `${path} may not be read`, { file: path }, { cause: thrown });
      }
      throw fileError(thrown, path);
    }
    const stat = fs.fstatSync(this.#fd);
    if (!stat.isFile() && !stat.isBlockDevice()) {
      fs.closeSync(this.#fd);
      throw new ParavaneError("INVALID", `${path} is not a regular file`, { file: path });
    }
    this.identity = `${stat.dev}:${stat.ino}`;
    this.modified = stat.mtimeMs / 1000;
    this.#holes = (options.holes ?? true) && stat.isFile();
    this.#size = stat.isFile() ? stat.size : deviceSize(this.#fd);
    this.#io = options.async ? new PoolTransfers(this.#fd) : new DirectTransfers(this.#fd);
  }

  get size(): number {
    return this.#size;
  }

  get releases(): boolean {
    return this.#holes && fileHoles() !== null;
  }

  readv(position: number, memory: Uint8Array, segments: SegmentList): Later<void> {
    this.#check(position, segments.total, this.#size);
    return this.#typed(() => this.#io.move(false, position, memory, segments), position, segments.total);
  }

  writev(position: number, memory: Uint8Array, segments: SegmentList): Later<void> {
    const length = segments.total;
    this.#check(position, length, Number.MAX_SAFE_INTEGER, true);
    const pending = this.#typed(() => this.#io.move(true, position, memory, segments), position, length);
    return then(pending, () => {
      if (length > 0) this.#size = Math.max(this.#size, position + length);
    });
  }

  flush(): Later<void> {
    this.#check(0, 0, 0);
    if (this.readOnly || !this.#durable) return;
    return this.#typed(() => this.#io.sync(), 0, 0);
  }

  discard(position: number, length: number): Later<void> {
    this.#check(position, length, this.#size, true);
    if (length > 0 && this.releases) {
      if (fileHoles()!.punch(this.#fd, position, length)) return;
      // The file system has no holes: zeros, from now on.
      this.#holes = false;
    }
    const zeros = new SegmentList();
    for (let done = 0; done < length; done += ZEROS.length) zeros.push(0, Math.min(ZEROS.length, length - done));
    return this.writev(position, ZEROS, zeros);
  }

  reserve(length: number): boolean {
    this.#check(0, length, Number.MAX_SAFE_INTEGER, true);
    if (length === 0 || !this.#holes || !fileHoles()?.reserve(this.#fd, length)) return false;
    this.#size = Math.max(this.#size, length);
    return true;
  }

  extent(position: number, length: number): { hole: boolean; length: number } {
    this.#check(position, length, this.#size);
    const holes = this.#holes ? fileHoles() : null;
    if (!holes) return { hole: false, length };
    const data = holes.nextData(this.#fd, position);
    if (data === position) {
      const end = holes.nextHole(this.#fd, position);
      return { hole: false, length: end > position ? Math.min(length, end - position) : length };
    }
    // -1: nothing but a hole to the end.
    return { hole: true, length: data > position ? Math.min(length, data - position) : length };
  }

  resize(size: number): Later<void> {
    this.#check(size, 0, Number.MAX_SAFE_INTEGER, true);
    return then(
      this.#typed(() => this.#io.truncate(size), size, 0),
      () => {
        this.#size = size;
      },
    );
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#io.close();
  }

  /** Runs it with the host's errors turned into ours. */
  #typed(work: () => Later<void>, offset: number, length: number): Later<void> {
    const context = { offset, length };
    try {
      const pending = work();
      return pending?.catch((thrown) => {
        throw fileError(thrown, this.name, context);
      });
    } catch (thrown) {
      throw fileError(thrown, this.name, context);
    }
  }

  #check(position: number, length: number, end: number, write = false): void {
    const inside = position >= 0 && position + length <= end;
    if (inside && !this.#closed && !(write && this.readOnly)) return;
    const context = { file: this.name, offset: position, length };
    if (this.#closed) throw new ParavaneError("CLOSED", `${this.name} is closed`, context);
    if (!inside) {
      throw new ParavaneError("OUT_OF_RANGE", `${length} bytes at ${position} pass the end, ${end}`, context);
    }
    throw new ParavaneError("READ_ONLY", `${this.name} is open read-only`, context);
  }
}
disposable(FileStore.prototype);

function then(first: Later<void>, next: () => void): Later<void> {
  return first ? first.then(next) : next();
}

/** A block device's stat says 0: reading tells where it ends. */
function deviceSize(fd: number): number {
  const probe = new Uint8Array(1);
  let low = 0;
  let high = 2 ** 50;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    let moved = 0;
    try {
      moved = fs.readSync(fd, probe, 0, 1, middle);
    } catch {}
    if (moved === 1) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** POSIX error names, by what they mean to us. */
const CODES: Record<string, ErrorCode> = {
  ENOENT: "NOT_FOUND",
  ENOTDIR: "NOT_FOUND",
  EEXIST: "EXISTS",
  ENOSPC: "NO_SPACE",
  EDQUOT: "NO_SPACE",
  EFBIG: "NO_SPACE",
  EROFS: "READ_ONLY",
  EACCES: "READ_ONLY",
  EPERM: "READ_ONLY",
  EISDIR: "INVALID",
  EIO: "MEDIA",
  EBUSY: "BUSY",
  ETXTBSY: "BUSY",
};

function fileError(thrown: unknown, file: string, context: object = {}): ParavaneError {
  if (thrown instanceof ParavaneError) return thrown;
  const { code = "", message = String(thrown) } = (thrown ?? {}) as NodeJS.ErrnoException;
  const hint =
    code === "EACCES" || code === "EROFS" ? "Open it read-only, or get the permission to write it" : undefined;
  return new ParavaneError(CODES[code] ?? "IO", message, { file, ...context }, { cause: thrown, hint });
}
