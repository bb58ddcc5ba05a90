import type { Block, BlockRequest } from "../core/block.ts";
import type { ParavaneError } from "../core/error.ts";
import { asParavaneError } from "../core/error.ts";
import type { Later } from "../core/flow.ts";
import type { SegmentList } from "../core/segments.ts";
import type { Store } from "../core/store.ts";
import { ThroughBlock } from "../host/filter/through.ts";

/** Told of one transfer between the host's file and memory, before it starts. Bytes. */
export type TransferTrace = (kind: "read" | "write" | "flush", position: number, length: number) => void;

/**
 * A store that can be watched, and that remembers what first went wrong: a guest learns no more than its device's error
 * bit, but the person who runs the lab wants to know that the host's disk is full.
 */
export class ObservedStore implements Store {
  trace: TransferTrace | null = null;
  failure: ParavaneError | null = null;
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  get name(): string {
    return this.#store.name;
  }
  get size(): number {
    return this.#store.size;
  }
  get readOnly(): boolean {
    return this.#store.readOnly;
  }
  get releases(): boolean {
    return this.#store.releases;
  }
  readv(position: number, memory: Uint8Array, segments: SegmentList): Later<void> {
    this.trace?.("read", position, segments.total);
    return this.#watch(() => this.#store.readv(position, memory, segments));
  }
  writev(position: number, memory: Uint8Array, segments: SegmentList): Later<void> {
    this.trace?.("write", position, segments.total);
    return this.#watch(() => this.#store.writev(position, memory, segments));
  }
  flush(): Later<void> {
    this.trace?.("flush", 0, 0);
    return this.#watch(() => this.#store.flush());
  }
  discard(position: number, length: number): Later<void> {
    return this.#watch(() => this.#store.discard(position, length));
  }
  resize(size: number): Later<void> {
    return this.#watch(() => this.#store.resize(size));
  }
  close(): Later<void> {
    return this.#store.close();
  }

  #watch(work: () => Later<void>): Later<void> {
    try {
      return work()?.catch((thrown) => this.#failed(thrown));
    } catch (thrown) {
      this.#failed(thrown);
    }
  }

  #failed(thrown: unknown): never {
    this.failure ??= asParavaneError(thrown, "IO", { file: this.name });
    throw thrown;
  }
}

/** A block that tells of each batch before carrying it out; for tracing only. */
export class ObservedBlock extends ThroughBlock {
  readonly #asked: (batch: readonly BlockRequest[]) => void;

  constructor(block: Block, asked: (batch: readonly BlockRequest[]) => void) {
    super(block);
    this.#asked = asked;
  }

  override submit(batch: readonly BlockRequest[]): Later<void> {
    this.#asked(batch);
    return super.submit(batch);
  }
}
