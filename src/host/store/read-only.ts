import { disposable } from "../../core/dispose.ts";
import { ParavaneError } from "../../core/error.ts";
import type { SegmentList } from "../../core/segments.ts";
import type { Store } from "../../core/store.ts";

/** What stores have in common that cannot be written and answer with promises. */
export abstract class ReadOnlyStore implements Store {
  declare readonly [Symbol.asyncDispose]: () => Promise<void>;
  readonly name: string;
  readonly size: number;
  readonly readOnly = true;
  readonly releases = false;
  protected closed = false;

  constructor(name: string, size: number) {
    this.name = name;
    this.size = size;
  }

  /** Fills the segments, which lie inside the store. */
  protected abstract read(position: number, memory: Uint8Array, segments: SegmentList): Promise<void>;

  async readv(position: number, memory: Uint8Array, segments: SegmentList): Promise<void> {
    this.check(position, segments.total);
    if (segments.total > 0) await this.read(position, memory, segments);
  }
  async writev(position: number, _memory: Uint8Array, segments: SegmentList): Promise<void> {
    this.#refuse(position, segments.total);
  }
  async flush(): Promise<void> {
    this.check(0, 0);
  }
  async discard(position: number, length: number): Promise<void> {
    this.#refuse(position, length);
  }
  async resize(size: number): Promise<void> {
    this.#refuse(size, 0);
  }
  close(): void {
    this.closed = true;
  }

  protected check(position: number, length: number): void {
    const context = { file: this.name, offset: position, length };
    if (this.closed) throw new ParavaneError("CLOSED", `${this.name} is closed`, context);
    if (position >= 0 && position + length <= this.size) return;
    throw new ParavaneError("OUT_OF_RANGE", `${length} bytes at ${position} pass the end, ${this.size}`, context);
  }

  #refuse(position: number, length: number): never {
    const context = { file: this.name, offset: position, length };
    if (this.closed) throw new ParavaneError("CLOSED", `${this.name} is closed`, context);
    throw new ParavaneError("READ_ONLY", `${this.name} cannot be written`, context);
  }
}
disposable(ReadOnlyStore.prototype);
