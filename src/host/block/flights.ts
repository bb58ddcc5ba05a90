/**
 * The batches that have transfers under way, by generation: who must wait for all that is under way now, and not for what
 * starts meanwhile, closes the generation and waits for it and those before.
 */
export class Flights {
  /** The generation that batches join. */
  #current = 0;
  /** Generation → its batches that are still flying. */
  readonly #flying = new Map<number, number>();
  #waiting: (() => void)[] = [];

  /** A batch takes off; hand the answer to `end`. */
  begin(): number {
    this.#flying.set(this.#current, (this.#flying.get(this.#current) ?? 0) + 1);
    return this.#current;
  }

  end(generation: number): void {
    const left = this.#flying.get(generation)! - 1;
    if (left > 0) this.#flying.set(generation, left);
    else {
      this.#flying.delete(generation);
      for (const wake of this.#waiting.splice(0)) wake();
    }
  }

  /** Closes the generation; returns its number, for `landed`. */
  close(): number {
    return this.#current++;
  }

  /** A promise while batches of that generation, or of an older one, are flying: look again after it. */
  landed(generation: number): Promise<void> | null {
    for (const flying of this.#flying.keys()) {
      if (flying <= generation) return new Promise((resolve) => this.#waiting.push(resolve));
    }
    return null;
  }
}
