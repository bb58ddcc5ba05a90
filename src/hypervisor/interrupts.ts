import type { InterruptLine, Release } from "../core/machine.ts";

/** 0–15 are the legacy lines; 16 is the Xen event-channel upcall; the rest are free for platform devices. */
const LINES = 24;

/** A handler that leaves its line asserted this often in a row has lost its device: the line is masked. */
const STORM = 10_000;

/**
 * Level-triggered interrupt lines of one guest. Sources on a line are ORed. A handler runs when its line is high and the
 * guest is between instructions: never inside a trap and never inside another handler.
 */
export class InterruptController {
  /** Handler calls so far. */
  delivered = 0;
  /** Told of each delivery, before the handler runs. */
  trace: ((line: number) => void) | null = null;
  readonly #asserted = new Uint16Array(LINES);
  readonly #handlers: ((() => void) | undefined)[] = new Array(LINES);
  #pending = 0;
  #held = 0;

  /** A new source on `line`. A device sets its line last, when its registers already tell the new state. */
  source(line: number): InterruptLine {
    let level = false;
    return {
      set: (asserted) => {
        if (asserted === level) return;
        level = asserted;
        this.#asserted[line] += asserted ? 1 : -1;
        if (asserted) {
          this.#pending |= 1 << line;
          if (this.#held === 0) this.#deliver();
        } else if (this.#asserted[line] === 0) this.#pending &= ~(1 << line);
      },
    };
  }

  /** Routes `line` to a guest's handler; one per line. */
  handle(line: number, handler: () => void): Release {
    this.#handlers[line] = handler;
    if (this.#held === 0) this.#deliver();
    return () => {
      if (this.#handlers[line] === handler) this.#handlers[line] = undefined;
    };
  }

  level(line: number): boolean {
    return this.#asserted[line] > 0;
  }

  /** Interrupts wait from `hold` to the matching `unhold`: a trap in progress, or the guest's own `cli`. */
  hold(): void {
    this.#held++;
  }
  unhold(): void {
    if (--this.#held === 0 && this.#pending !== 0) this.#deliver();
  }

  #deliver(): void {
    this.#held++;
    try {
      for (let rounds = 0; ; ) {
        const ready = this.#next();
        if (ready < 0) break;
        if (++rounds > STORM) {
          this.#pending &= ~(1 << ready);
          break;
        }
        this.delivered++;
        this.trace?.(ready);
        this.#handlers[ready]!();
      }
    } finally {
      this.#held--;
    }
  }

  #next(): number {
    for (let left = this.#pending; left !== 0; left &= left - 1) {
      const line = 31 - Math.clz32(left & -left);
      if (this.#handlers[line]) return line;
    }
    return -1;
  }
}
