/** What the guest has written, for whoever waits for a part of it. */
export class Transcript {
  /** All since the last match; a script that waits for nothing is not to fill memory. */
  #unread = "";
  #ended = false;
  #wake: (() => void) | null = null;

  add(text: string): void {
    this.#unread = (this.#unread + text).slice(-1_000_000);
    this.#wake?.();
  }

  /** Nothing more will come. */
  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  /** Waits for `text`, and takes all up to its end: null, or why it did not come. */
  async expect(text: string, seconds: number): Promise<string | null> {
    const end = performance.now() + seconds * 1000;
    for (;;) {
      const at = this.#unread.indexOf(text);
      if (at >= 0) {
        this.#unread = this.#unread.slice(at + text.length);
        return null;
      }
      const left = end - performance.now();
      if (this.#ended) return "the guest has stopped";
      if (left <= 0) return `${seconds} s have passed`;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /** The end of what was not waited for, for an error message. */
  get last(): string {
    return this.#unread.trimEnd().split("\n").slice(-3).join(" | ");
  }
}
