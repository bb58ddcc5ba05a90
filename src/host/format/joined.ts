import { type Flow, type Later, run, wait } from "../../core/flow.ts";
import type { SegmentList } from "../../core/segments.ts";
import type { Store } from "../../core/store.ts";

/** Several files as one range of positions, for images that keep their data in more than one. Each has a window of its own. */
export class JoinedStore implements Store {
  readonly name: string;
  readonly readOnly: boolean;
  /** Positions that a file has for itself. */
  readonly window: number;
  readonly #files: Store[] = [];

  /** @param count files, at most */
  constructor(name: string, readOnly: boolean, count: number) {
    this.name = name;
    this.readOnly = readOnly;
    // A multiple of every page and cluster size.
    this.window = 2 ** Math.min(48, 52 - Math.ceil(Math.log2(Math.max(1, count))));
  }

  /** Takes the file over; returns where its first byte is from now on. */
  add(file: Store): number {
    this.#files.push(file);
    return (this.#files.length - 1) * this.window;
  }

  get size(): number {
    return this.#files.length * this.window;
  }
  get releases(): boolean {
    return this.#files.every(({ releases }) => releases);
  }

  readv(position: number, memory: Uint8Array, segments: SegmentList): Later<void> {
    return this.#file(position).readv(position % this.window, memory, segments);
  }
  writev(position: number, memory: Uint8Array, segments: SegmentList): Later<void> {
    return this.#file(position).writev(position % this.window, memory, segments);
  }
  discard(position: number, length: number): Later<void> {
    return this.#file(position).discard(position % this.window, length);
  }
  extent(position: number, length: number): { hole: boolean; length: number } {
    return this.#file(position).extent?.(position % this.window, length) ?? { hole: false, length };
  }
  locate(position: number): { name: string; position: number } {
    return { name: this.#file(position).name, position: position % this.window };
  }

  /** Where the file ends that has the byte. */
  endOf(position: number): number {
    return position - (position % this.window) + this.#file(position).size;
  }

  flush(): Later<void> {
    return run(this.#each((file) => file.flush()));
  }
  close(): Later<void> {
    return run(this.#each((file) => file.close()));
  }
  /** Files change their sizes themselves. */
  resize(): void {
    throw new RangeError("there is no one file to resize");
  }

  #file(position: number): Store {
    return this.#files[Math.floor(position / this.window)];
  }

  *#each(work: (file: Store) => Later<void>): Flow {
    for (const file of this.#files) yield* wait(work(file));
  }
}
