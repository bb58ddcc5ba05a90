import { stripVTControlCharacters, styleText } from "node:util";
import { PLAIN, type Style } from "../lab/table.ts";

type Ink = Parameters<typeof styleText>[0];

/** Standard output for results, standard error for everything else. Colours and progress only where a person looks. */
export class Ui {
  readonly style: Style;
  readonly #progress: boolean;
  #shown = false;

  constructor() {
    const colours = process.stdout.isTTY === true && !process.env.NO_COLOR && process.env.TERM !== "dumb";
    const ink = (name: Ink) => (text: string) => styleText(name, text);
    this.style = colours ? { strong: ink("bold"), faint: ink("dim"), good: ink("green"), bad: ink("red") } : PLAIN;
    this.#progress = process.stderr.isTTY === true && process.env.TERM !== "dumb";
    // A reader that has seen enough (`| head`) is no error.
    process.stdout.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") throw error;
      process.exit(0);
    });
  }

  out(text: string): void {
    process.stdout.write(`${text}\n`);
  }

  /** One line for a person, apart from the results. */
  note(text: string): void {
    this.clear();
    process.stderr.write(`paravane: ${text.replaceAll(/\s*\n\s*/g, " ")}\n`);
  }

  /** Shows how far it has got, in place. */
  progress(done: number, of: number, text: string): void {
    if (!this.#progress) return;
    const width = Math.max(20, (process.stderr.columns ?? 80) - 1);
    const filled = Math.round((20 * done) / of);
    const line = ` ${"█".repeat(filled)}${"░".repeat(20 - filled)} ${done}/${of}  ${text}`;
    process.stderr.write(`\r\x1b[2K${stripVTControlCharacters(line).slice(0, width)}`);
    this.#shown = true;
  }

  /** The same for a program that reads: on standard output, in qemu-img's form. */
  percent(value: number): void {
    if (!this.#progress) process.stdout.write(`    (${value.toFixed(2)}/100%)\r`);
  }

  clear(): void {
    if (this.#shown) process.stderr.write("\r\x1b[2K");
    this.#shown = false;
  }
}
