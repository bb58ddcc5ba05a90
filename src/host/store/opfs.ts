import { type AsyncCloseable, disposable } from "../../core/dispose.ts";
import { type ErrorCode, ParavaneError } from "../../core/error.ts";
import type { SegmentList } from "../../core/segments.ts";
import type { Store } from "../../core/store.ts";

/** What is used of a FileSystemSyncAccessHandle (WHATWG File System §2.6). */
export interface SyncAccessHandle {
  read(buffer: Uint8Array, options: { at: number }): number;
  write(buffer: Uint8Array, options: { at: number }): number;
  getSize(): number;
  truncate(size: number): void;
  flush(): void;
  close(): void;
}

export interface OpfsStoreOptions {
  /** For messages. */
  name?: string;
  readOnly?: boolean;
}

export interface OpfsOpenOptions {
  /** Makes the file, and the folders it is in, when there is none. */
  create?: boolean;
  readOnly?: boolean;
}

const ZEROS = new Uint8Array(65536);

/** The names of DOMException by what they mean here; any other is `IO`. */
const CODES: Record<string, ErrorCode> = {
  InvalidStateError: "CLOSED",
  NoModificationAllowedError: "BUSY",
  NotFoundError: "NOT_FOUND",
  QuotaExceededError: "NO_SPACE",
  TypeMismatchError: "INVALID",
};

/**
 * A file of the browser's private file system, synchronous; only dedicated workers have it. The browser charges a file's
 * whole length against the quota, holes too: prefer a format that grows as it is written to a sparse raw disk.
 */
export class OpfsStore implements Store, AsyncCloseable {
  declare readonly [Symbol.asyncDispose]: () => Promise<void>;
  readonly name: string;
  readonly readOnly: boolean;
  readonly releases = false;
  readonly #handle: SyncAccessHandle;
  #size: number;
  #closed = false;

  /** @param handle owned by the store from then on */
  constructor(handle: SyncAccessHandle, options: OpfsStoreOptions = {}) {
    this.#handle = handle;
    this.name = options.name ?? "opfs";
    this.readOnly = options.readOnly ?? false;
    this.#size = handle.getSize();
  }

  /**
   * Opens a file by its path in the private file system, with slashes.
   * @throws ParavaneError NOT_FOUND, BUSY (another handle is open), INVALID, UNSUPPORTED (not in a worker of a browser)
   */
  static async open(path: string, options: OpfsOpenOptions = {}): Promise<OpfsStore> {
    const { create = false, readOnly = false } = options;
    const { navigator } = globalThis as unknown as { navigator?: { storage?: Partial<Root> } };
    if (!navigator?.storage?.getDirectory) {
      throw new ParavaneError("UNSUPPORTED", "there is no private file system here", { file: path });
    }
    const names = path.split("/").filter((name) => name !== "");
    const last = names.pop() ?? "";
    try {
      let folder = await navigator.storage.getDirectory();
      for (const name of names) folder = await folder.getDirectoryHandle(name, { create });
      const file = await folder.getFileHandle(last, { create });
      if (!file.createSyncAccessHandle) {
        throw new ParavaneError("UNSUPPORTED", "synchronous access needs a dedicated worker", { file: path });
      }
      // Browsers without modes open it exclusively, which serves as well.
      const handle = await file.createSyncAccessHandle({ mode: readOnly ? "read-only" : "readwrite" });
      return new OpfsStore(handle, { name: path, readOnly });
    } catch (thrown) {
      throw typed(thrown, path);
    }
  }

  get size(): number {
    return this.#size;
  }

  readv(position: number, memory: Uint8Array, segments: SegmentList): void {
    this.#check(position, segments.total, this.#size);
    for (let i = 0; i < segments.count; i++) {
      const part = memory.subarray(segments.start(i), segments.start(i) + segments.length(i));
      const count = this.#do(() => this.#handle.read(part, { at: position }));
      if (count !== part.length)
        throw this.#error("IO", `only ${count} of ${part.length} bytes at ${position} were read`);
      position += part.length;
    }
  }

  writev(position: number, memory: Uint8Array, segments: SegmentList): void {
    this.#check(position, segments.total, Number.MAX_SAFE_INTEGER, true);
    for (let i = 0; i < segments.count; i++) {
      this.#write(position, memory.subarray(segments.start(i), segments.start(i) + segments.length(i)));
      position += segments.length(i);
    }
  }

  flush(): void {
    this.#check(0, 0, 0);
    if (!this.readOnly) this.#do(() => this.#handle.flush());
  }

  discard(position: number, length: number): void {
    this.#check(position, length, this.#size, true);
    for (let done = 0; done < length; done += ZEROS.length) {
      this.#write(position + done, ZEROS.subarray(0, Math.min(ZEROS.length, length - done)));
    }
  }

  resize(size: number): void {
    this.#check(size, 0, Number.MAX_SAFE_INTEGER, true);
    this.#do(() => this.#handle.truncate(size));
    // Chromium passes over a length that its file system cannot have.
    const found = this.#do(() => this.#handle.getSize());
    if (found !== size) throw this.#error("NO_SPACE", `${this.name} stays at ${found} bytes instead of ${size}`);
    this.#size = size;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#handle.close();
  }

  #write(position: number, part: Uint8Array): void {
    const count = this.#do(() => this.#handle.write(part, { at: position }));
    if (count > 0) this.#size = Math.max(this.#size, position + count);
    // The one reason there is for a short one.
    if (count !== part.length) {
      throw this.#error("NO_SPACE", `only ${count} of ${part.length} bytes at ${position} found space`);
    }
  }

  #do<T>(work: () => T): T {
    try {
      return work();
    } catch (thrown) {
      throw typed(thrown, this.name);
    }
  }

  #check(position: number, length: number, end: number, write = false): void {
    if (this.#closed) throw this.#error("CLOSED", `${this.name} is closed`);
    if (write && this.readOnly) throw this.#error("READ_ONLY", `${this.name} is read-only`);
    if (position >= 0 && position + length <= end) return;
    throw this.#error("OUT_OF_RANGE", `${length} bytes at ${position} pass the end, ${end}`);
  }

  #error(code: ErrorCode, message: string): ParavaneError {
    return new ParavaneError(code, message, { file: this.name });
  }
}
disposable(OpfsStore.prototype);

interface Root {
  getDirectory(): Promise<Folder>;
}
interface Folder {
  getDirectoryHandle(name: string, options: { create: boolean }): Promise<Folder>;
  getFileHandle(name: string, options: { create: boolean }): Promise<FileHandle>;
}
interface FileHandle {
  createSyncAccessHandle?(options: { mode: string }): Promise<SyncAccessHandle>;
}

function typed(thrown: unknown, file: string): ParavaneError {
  if (thrown instanceof ParavaneError) return thrown;
  const { name = "", message = String(thrown) } = thrown as Partial<Error>;
  const code = CODES[name] ?? "IO";
  const hint = code === "NO_SPACE" ? "The quota counts a file's whole length, holes too" : undefined;
  return new ParavaneError(code, `${file}: ${message}`, { file }, { cause: thrown, hint });
}
