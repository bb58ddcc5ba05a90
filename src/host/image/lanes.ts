import type { Later } from "../../core/flow.ts";

/** Work that goes on side by side, at most one piece in each lane. */
export class Lanes {
  readonly #idle: number[];
  readonly #busy = new Set<Promise<void>>();
  #failure: { thrown: unknown } | null = null;

  constructor(count: number) {
    this.#idle = Array.from({ length: count }, (_, lane) => lane);
  }

  /** A promise when every lane is busy: look again after it. @throws what a piece of work threw */
  ready(): Promise<void> | undefined {
    this.check();
    return this.#idle.length > 0 ? undefined : Promise.race(this.#busy);
  }

  /** Runs the work in a free lane; what it throws later comes out of `ready` and `check`. */
  start(work: (lane: number) => Later<void>): void {
    const lane = this.#idle.pop()!;
    const pending = work(lane);
    if (!pending) {
      this.#idle.push(lane);
      return;
    }
    const over: Promise<void> = pending
      .catch((thrown: unknown) => {
        this.#failure ??= { thrown };
      })
      .then(() => {
        this.#busy.delete(over);
        this.#idle.push(lane);
      });
    this.#busy.add(over);
  }

  /** When all that was started has ended, well or not. It never rejects. */
  async settled(): Promise<void> {
    await Promise.all(this.#busy);
  }

  /** @throws what a piece of work threw, the first of them */
  check(): void {
    if (this.#failure) throw this.#failure.thrown;
  }
}
