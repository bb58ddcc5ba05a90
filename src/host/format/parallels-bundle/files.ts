import { ParavaneError } from "../../../core/error.ts";
import type { Later } from "../../../core/flow.ts";
import type { SegmentList } from "../../../core/segments.ts";
import type { Store } from "../../../core/store.ts";

/** Several files as one, to be read: one after another, with a gap between, so that nothing goes on from one in the next. */
export class Files implements Store {
  readonly name: string;
  readonly readOnly = true;
  readonly releases = false;
  readonly size: number;
  readonly #stores: readonly Store[];
  readonly #starts: number[] = [];

  constructor(name: string, stores: readonly Store[]) {
    this.name = name;
    this.#stores = stores;
    let end = 0;
    for (const { size } of stores) {
      this.#starts.push(end);
      end += size + 1;
    }
    this.size = end;
  }

  /** Where byte `position` of a file is here. */
  at(file: number, position: number): number {
    return this.#starts[file] + position;
  }

  readv(position: number, memory: Uint8Array, segments: SegmentList): Later<void> {
    let file = this.#starts.length - 1;
    while (file > 0 && this.#starts[file] > position) file--;
    return this.#stores[file].readv(position - this.#starts[file], memory, segments);
  }

  writev(): never {
    throw this.#refused();
  }
  discard(): never {
    throw this.#refused();
  }
  resize(): never {
    throw this.#refused();
  }
  flush(): void {}
  async close(): Promise<void> {
    for (const store of this.#stores) await store.close();
  }
  #refused(): ParavaneError {
    return new ParavaneError("READ_ONLY", "the files of a bundle are only read", { file: this.name });
  }
}
