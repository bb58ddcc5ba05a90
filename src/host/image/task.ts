import { ParavaneError } from "../../core/error.ts";

/** What every operation on a whole disk takes. */
export interface TaskOptions {
  /** Stops it at the next step; it throws ABORTED. */
  signal?: AbortSignal;
  /** How far it has got, in bytes. */
  onProgress?: (done: number, total: number) => void;
}

/** Milliseconds between two looks at the signal and reports of progress: over synchronous stores nothing else waits. */
const BEAT = 50;

/** Reports progress and lets the signal, timers and Ctrl-C through, now and then. */
export class Pace {
  readonly #options: TaskOptions;
  readonly #total: number;
  #next = performance.now() + BEAT;

  constructor(options: TaskOptions, total: number) {
    this.#options = options;
    this.#total = total;
    this.#check();
    options.onProgress?.(0, total);
  }

  /** A promise only when it is time. @throws ParavaneError ABORTED */
  step(done: number): Promise<void> | undefined {
    this.#check();
    return performance.now() < this.#next ? undefined : this.#breathe(done);
  }

  end(): void {
    this.#check();
    this.#options.onProgress?.(this.#total, this.#total);
  }

  async #breathe(done: number): Promise<void> {
    this.#options.onProgress?.(done, this.#total);
    await new Promise((resolve) => setTimeout(resolve));
    this.#next = performance.now() + BEAT;
    this.#check();
  }

  #check(): void {
    const { signal } = this.#options;
    if (signal?.aborted) throw new ParavaneError("ABORTED", "the caller gave up", {}, { cause: signal.reason });
  }
}

/** Holds work back to so many bytes a second. */
export class Throttle {
  readonly #rate: number;
  readonly #start = performance.now();

  constructor(rate: number | undefined) {
    this.#rate = rate ?? Number.POSITIVE_INFINITY;
  }

  /** A promise when `moved` bytes are more than the time that has passed allows; it ends soon, so that a signal is seen. */
  step(moved: number): Promise<void> | undefined {
    const early = (moved / this.#rate) * 1000 - (performance.now() - this.#start);
    if (!(early > 0)) return undefined;
    return new Promise((resolve) => setTimeout(resolve, Math.min(early, BEAT)));
  }
}
