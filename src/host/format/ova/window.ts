import { ParavaneError } from "../../../core/error.ts";
import type { Later } from "../../../core/flow.ts";
import type { SegmentList } from "../../../core/segments.ts";
import type { Store } from "../../../core/store.ts";
import { Unwritable } from "../../../core/unwritable.ts";

/** A part of a store, read as a file of its own. The store is its owner's to close. */
export class WindowStore extends Unwritable {
  readonly name: string;
  readonly size: number;
  readonly #store: Store;
  readonly #start: number;

  /** @param start byte of the store */
  constructor(store: Store, name: string, start: number, size: number) {
    super();
    this.#store = store;
    this.name = name;
    this.#start = start;
    this.size = size;
  }

  readv(position: number, memory: Uint8Array, segments: SegmentList): Later<void> {
    if (position < 0 || position + segments.total > this.size) {
      throw new ParavaneError("OUT_OF_RANGE", `byte ${position} is past the end`, {
        file: this.name,
        offset: position,
      });
    }
    return this.#store.readv(this.#start + position, memory, segments);
  }
  extent(position: number, length: number): { hole: boolean; length: number } {
    return this.#store.extent?.(this.#start + position, length) ?? { hole: false, length };
  }
  locate(position: number): { name: string; position: number } {
    return { name: this.#store.name, position: this.#start + position };
  }
  close(): void {}

  protected refusal(): ParavaneError {
    return new ParavaneError("READ_ONLY", `${this.name} is part of ${this.#store.name}`, { file: this.name });
  }
}
