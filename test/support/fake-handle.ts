import { SegmentList } from "../../src/core/segments.ts";
import { MemoryStore } from "../../src/host/store/memory.ts";
import type { SyncAccessHandle } from "../../src/host/store/opfs.ts";

/** A FileSystemSyncAccessHandle in memory, with a quota on the file's length. */
export class FakeHandle implements SyncAccessHandle {
  readonly #content: MemoryStore;
  readonly quota: number;
  flushes = 0;

  constructor(content: Uint8Array = new Uint8Array(0), quota = Number.POSITIVE_INFINITY) {
    this.#content = new MemoryStore(content);
    this.quota = quota;
  }
  read(buffer: Uint8Array, { at }: { at: number }): number {
    const length = Math.max(0, Math.min(buffer.length, this.#content.size - at));
    this.#content.readv(at, buffer, SegmentList.of(0, length));
    return length;
  }
  write(buffer: Uint8Array, { at }: { at: number }): number {
    this.#charge(at + buffer.length);
    this.#content.writev(at, buffer, SegmentList.of(0, buffer.length));
    return buffer.length;
  }
  getSize(): number {
    return this.#content.size;
  }
  truncate(size: number): void {
    this.#charge(size);
    this.#content.resize(size);
  }
  flush(): void {
    this.flushes++;
  }
  close(): void {}

  #charge(size: number): void {
    if (size > this.quota) throw new DOMException("No space available for this operation", "QuotaExceededError");
  }
}
