import type { Emulator } from "./emulator.ts";

const PERIOD = 100;

/** Shows the text screen in place where a person looks; elsewhere once, at the end. */
export class Screen {
  readonly #emulator: Emulator;
  readonly #live = process.stdout.isTTY === true;
  readonly #timer: NodeJS.Timeout | null = null;
  #shown = "";

  constructor(emulator: Emulator) {
    this.#emulator = emulator;
    if (!this.#live) return;
    process.stdout.write("\x1b[2J");
    this.#timer = setInterval(() => this.#draw(), PERIOD);
  }

  get text(): string {
    return (this.#emulator.screen_adapter?.get_text_screen?.() ?? []).map((line) => line.trimEnd()).join("\n");
  }

  close(): void {
    if (this.#timer) clearInterval(this.#timer);
    if (this.#live) this.#draw();
    else process.stdout.write(`${this.text.trimEnd()}\n`);
  }

  #draw(): void {
    const { text } = this;
    if (text === this.#shown) return;
    this.#shown = text;
    process.stdout.write(`\x1b[H${text.replaceAll("\n", "\x1b[K\r\n")}\x1b[K`);
  }
}
