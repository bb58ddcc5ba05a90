import { asParavaneError, ParavaneError } from "../../../core/error.ts";
import { type Flow, type Later, run, wait } from "../../../core/flow.ts";
import type { OpenOptions } from "../../../core/format.ts";
import { SegmentList } from "../../../core/segments.ts";
import type { Store } from "../../../core/store.ts";
import { Unwritable } from "../../../core/unwritable.ts";

/** Files that are open at once. */
const MAX_OPEN = 64;
/** Lengths that are remembered. */
const MAX_KNOWN = 2 ** 16;

/** The files of the bands as one range of positions: those of the disk. They are opened when they are first asked for. */
export class BandFiles extends Unwritable {
  readonly name: string;
  readonly size: number;
  readonly #bandBytes: number;
  readonly #openFile: NonNullable<OpenOptions["openFile"]>;
  /** The least recently used first. */
  readonly #open = new Map<number, Store>();
  readonly #lengths = new Map<number, number>();
  /** Uses of stores that are not over, which are not closed meanwhile. */
  readonly #busy = new Map<Store, number>();
  #closed = false;

  constructor(name: string, size: number, bandBytes: number, openFile: NonNullable<OpenOptions["openFile"]>) {
    super();
    this.name = name;
    this.size = size;
    this.#bandBytes = bandBytes;
    this.#openFile = openFile;
  }

  /** Bytes of the band's file, 0 where there is none; undefined when that is not known yet. */
  lengthOf(band: number): number | undefined {
    return this.#lengths.get(band);
  }

  /** Finds that out. @throws ParavaneError what opening throws, but NOT_FOUND */
  *look(band: number): Flow {
    if (this.#lengths.size >= MAX_KNOWN) this.#lengths.clear();
    const file = yield* this.#file(band);
    this.#lengths.set(band, file?.size ?? 0);
  }

  readv(position: number, memory: Uint8Array, segments: SegmentList): Later<void> {
    return run(this.#read(position, memory, segments));
  }

  *#read(position: number, memory: Uint8Array, segments: SegmentList): Flow {
    const { total } = segments;
    for (let done = 0; done < total; ) {
      const band = Math.floor((position + done) / this.#bandBytes);
      const within = position + done - band * this.#bandBytes;
      const length = Math.min(total - done, this.#bandBytes - within);
      const file = yield* this.#file(band);
      if (!file) throw new ParavaneError("IO", `band ${band} is gone`, { file: this.name, offset: position + done });
      const part = new SegmentList(segments.count);
      part.pushSlice(segments, done, length);
      this.#busy.set(file, (this.#busy.get(file) ?? 0) + 1);
      try {
        yield* wait(file.readv(within, memory, part));
      } finally {
        const left = this.#busy.get(file)! - 1;
        if (left > 0) this.#busy.set(file, left);
        else this.#busy.delete(file);
      }
      done += length;
    }
  }

  *#file(band: number): Flow<Store | undefined> {
    if (this.#closed) throw new ParavaneError("CLOSED", `${this.name} is closed`, { file: this.name });
    const known = this.#open.get(band);
    if (known) {
      this.#open.delete(band);
      this.#open.set(band, known);
      return known;
    }
    let file: Store;
    try {
      file = yield* wait(this.#openFile(`bands/${band.toString(16)}`, true));
    } catch (thrown) {
      if (asParavaneError(thrown).code === "NOT_FOUND") return undefined;
      throw thrown;
    }
    // Somebody else may have opened it meanwhile.
    const other = this.#open.get(band);
    if (other) {
      yield* wait(file.close());
      return other;
    }
    this.#open.set(band, file);
    for (const [number, store] of this.#open) {
      if (this.#open.size <= MAX_OPEN) break;
      if (number === band || this.#busy.has(store)) continue;
      this.#open.delete(number);
      yield* wait(store.close());
    }
    return file;
  }

  close(): Later<void> {
    this.#closed = true;
    return run(this.#close());
  }
  *#close(): Flow {
    const files = [...this.#open.values()];
    this.#open.clear();
    for (const file of files) yield* wait(file.close());
  }

  protected refusal(): ParavaneError {
    return new ParavaneError("READ_ONLY", "sparsebundle images are only read", { file: this.name });
  }
}
