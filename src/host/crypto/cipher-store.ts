import { ParavaneError } from "../../core/error.ts";
import { type Flow, type Later, run } from "../../core/flow.ts";
import { SegmentList } from "../../core/segments.ts";
import type { Store } from "../../core/store.ts";
import { Unwritable } from "../../core/unwritable.ts";
import type { SectorCipher } from "../../wasm/cipher.ts";

/** Bytes that are encrypted and written together. */
const CHUNK = 2 ** 18;
/** Buffers kept for the next transfer. */
const MAX_IDLE = 4;

export interface CipherStoreOptions {
  /** Byte of the store that has sector `number`; all below is not encrypted with this. Multiples of the sector. */
  origin?: number;
  number?: number;
  /** Closing it closes the store behind it. */
  owns?: boolean;
}

/**
 * A store whose bytes are kept encrypted in another, at the same positions; whole sectors of the cipher's. What was never
 * written reads as whatever that decrypts to, but `discard` and `resize` write zeros as such.
 */
export class CipherStore implements Store {
  readonly releases = false;
  readonly #inner: Store;
  readonly #cipher: SectorCipher;
  readonly #origin: number;
  readonly #number: number;
  readonly #owns: boolean;
  readonly #idle: Uint8Array[] = [];
  /** Of zeros, to be encrypted. */
  #zeros: Uint8Array | undefined;

  constructor(inner: Store, cipher: SectorCipher, { origin = 0, number = 0, owns = false }: CipherStoreOptions = {}) {
    this.#inner = inner;
    this.#cipher = cipher;
    this.#origin = origin;
    this.#number = number;
    this.#owns = owns;
  }

  get name(): string {
    return this.#inner.name;
  }
  get readOnly(): boolean {
    return this.#inner.readOnly;
  }
  /** Whole sectors. */
  get size(): number {
    const bytes = this.#inner.size - this.#origin;
    return this.#origin + Math.max(0, bytes - (bytes % this.#cipher.sectorBytes));
  }

  readv(position: number, memory: Uint8Array, segments: SegmentList): Later<void> {
    return run(this.#read(position, memory, segments));
  }
  writev(position: number, memory: Uint8Array, segments: SegmentList): Later<void> {
    return run(this.#write(position, memory, segments));
  }
  flush(): Later<void> {
    return this.#inner.flush();
  }
  /** Writes zeros, also past the end, which grows the store. */
  discard(position: number, length: number): Later<void> {
    return run(this.#clear(position, length));
  }
  resize(size: number): Later<void> {
    return run(this.#resize(size));
  }
  close(): Later<void> {
    this.#cipher.wipe();
    return this.#owns ? this.#inner.close() : undefined;
  }

  *#read(position: number, memory: Uint8Array, segments: SegmentList): Flow {
    const { total } = segments;
    const part = new SegmentList();
    for (let done = 0; done < total; ) {
      const length = Math.min(CHUNK, total - done);
      const number = this.#numberOf(position + done, length);
      const buffer = this.#buffer(length);
      try {
        const pending = this.#inner.readv(position + done, buffer, SegmentList.of(0, length));
        if (pending) yield pending;
        const bytes = buffer.subarray(0, length);
        this.#cipher.decrypt(bytes, number);
        part.clear();
        part.pushSlice(segments, done, length);
        for (let i = 0, at = 0; i < part.count; at += part.length(i), i++) {
          memory.set(bytes.subarray(at, at + part.length(i)), part.start(i));
        }
      } finally {
        this.#recycle(buffer);
      }
      done += length;
    }
  }

  *#write(position: number, memory: Uint8Array, segments: SegmentList): Flow {
    const { total } = segments;
    const part = new SegmentList();
    for (let done = 0; done < total; ) {
      const length = Math.min(CHUNK, total - done);
      const number = this.#numberOf(position + done, length);
      const buffer = this.#buffer(length);
      try {
        part.clear();
        part.pushSlice(segments, done, length);
        // Taken once: a guest may change its memory meanwhile.
        for (let i = 0, at = 0; i < part.count; at += part.length(i), i++) {
          buffer.set(memory.subarray(part.start(i), part.start(i) + part.length(i)), at);
        }
        this.#cipher.encrypt(buffer.subarray(0, length), number);
        const pending = this.#inner.writev(position + done, buffer, SegmentList.of(0, length));
        if (pending) yield pending;
      } finally {
        this.#recycle(buffer);
      }
      done += length;
    }
  }

  *#clear(position: number, length: number): Flow {
    for (let done = 0; done < length; ) {
      const part = Math.min(CHUNK, length - done);
      const number = this.#numberOf(position + done, part);
      this.#zeros ??= new Uint8Array(CHUNK);
      const buffer = this.#buffer(part);
      try {
        this.#cipher.encrypt(this.#zeros.subarray(0, part), number, buffer);
        const pending = this.#inner.writev(position + done, buffer, SegmentList.of(0, part));
        if (pending) yield pending;
      } finally {
        this.#recycle(buffer);
      }
      done += part;
    }
  }

  *#resize(size: number): Flow {
    const { size: before } = this;
    if (size > before) return yield* this.#clear(before, size - before);
    const pending = this.#inner.resize(size);
    if (pending) yield pending;
  }

  #numberOf(position: number, length: number): number {
    const from = position - this.#origin;
    const { sectorBytes } = this.#cipher;
    if (from >= 0 && from % sectorBytes === 0 && length % sectorBytes === 0) return from / 512 + this.#number;
    throw new ParavaneError("INVALID", `${length} bytes at ${position} are not whole encrypted sectors`, {
      file: this.name,
      offset: position,
      length,
    });
  }

  #buffer(length: number): Uint8Array {
    const last = this.#idle.length - 1;
    if (last >= 0 && this.#idle[last].length >= length) return this.#idle.pop()!;
    // Small transfers do without a large buffer.
    return new Uint8Array(length <= 4096 ? 4096 : length <= 65536 ? 65536 : CHUNK);
  }
  #recycle(buffer: Uint8Array): void {
    if (this.#idle.length < MAX_IDLE) this.#idle.push(buffer);
    else this.#idle[0] = buffer;
  }
}

/** Stands in for the data of an image that was opened without its key. */
export class LockedStore extends Unwritable {
  readonly #inner: Store;
  readonly #owns: boolean;

  constructor(inner: Store, owns = false) {
    super();
    this.#inner = inner;
    this.#owns = owns;
  }
  get name(): string {
    return this.#inner.name;
  }
  get size(): number {
    return this.#inner.size;
  }
  readv(): never {
    throw this.refusal();
  }
  close(): Later<void> {
    return this.#owns ? this.#inner.close() : undefined;
  }
  protected refusal(): ParavaneError {
    return new ParavaneError("DENIED", "the image is encrypted, and was opened without its key", { file: this.name });
  }
}
