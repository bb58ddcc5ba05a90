import type { Flow } from "../../core/flow.ts";

/** One flow at a time. Costs nothing while flows do not wait, as over a synchronous store. */
export class Lock {
  held = false;
  #waiting: (() => void)[] = [];

  /** Runs the flow to its end, holding the lock. The caller has seen that it is not held. */
  *during<T>(flow: Flow<T>): Flow<T> {
    this.held = true;
    try {
      return yield* flow;
    } finally {
      this.held = false;
      for (const wake of this.#waiting.splice(0)) wake();
    }
  }

  /** When the lock may be free; look at `held` again. */
  released(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}
