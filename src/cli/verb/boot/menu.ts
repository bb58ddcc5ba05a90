import { asParavaneError } from "../../../core/error.ts";
import type { Session } from "./session.ts";

const CTRL_A = 1;
const ENTER = 13;
const LINE_FEED = 10;
const BACKSPACE = 127;

export const MENU = [
  "Ctrl-A x  quit: stop the machine and close its disks",
  "Ctrl-A e  eject the CD",
  "Ctrl-A i  insert a CD: asks for its file",
  "Ctrl-A s  snapshot: keep the disk as it is now, inside its qcow2 image",
  "Ctrl-A t  statistics",
  "Ctrl-A h  this help",
  "Ctrl-A a  send Ctrl-A to the guest",
];

/** What is typed goes to the guest, except for what follows Ctrl-A. */
export class Menu {
  readonly #session: Session;
  readonly #toGuest: (bytes: Uint8Array) => void;
  readonly #say: (text: string) => void;
  readonly #quit: () => void;
  #escaped = false;
  /** A file name being typed. */
  #line: string | null = null;

  constructor(session: Session, toGuest: (bytes: Uint8Array) => void, say: (text: string) => void, quit: () => void) {
    this.#session = session;
    this.#toGuest = toGuest;
    this.#say = say;
    this.#quit = quit;
  }

  type(bytes: Uint8Array): void {
    let start = 0;
    bytes.forEach((byte, i) => {
      const forUs = this.#escaped || this.#line !== null || byte === CTRL_A;
      if (!forUs) return;
      if (i > start) this.#toGuest(bytes.subarray(start, i));
      start = i + 1;
      if (this.#line !== null) this.#edit(byte);
      else if (this.#escaped) this.#command(byte);
      else this.#escaped = true;
    });
    if (start < bytes.length) this.#toGuest(bytes.subarray(start));
  }

  #command(byte: number): void {
    this.#escaped = false;
    switch (String.fromCharCode(byte).toLowerCase()) {
      case "x":
        this.#quit();
        break;
      case "a":
      case "\x01":
        this.#toGuest(Uint8Array.of(CTRL_A));
        break;
      case "e":
        this.#do(() => this.#session.eject());
        break;
      case "i":
        this.#line = "";
        this.#say("file to insert, then Enter:");
        break;
      case "s":
        this.#do(() => this.#session.snapshot(new Date().toISOString().replace("T", " ").slice(0, 19)));
        break;
      case "t":
        for (const line of this.#session.stats()) this.#say(line);
        break;
      default:
        for (const line of MENU) this.#say(line);
    }
  }

  #edit(byte: number): void {
    if (byte === ENTER || byte === LINE_FEED) {
      const path = this.#line!;
      this.#line = null;
      if (path !== "") this.#do(() => this.#session.insert(path));
    } else if (byte === BACKSPACE) this.#line = this.#line!.slice(0, -1);
    else this.#line += String.fromCharCode(byte);
  }

  async #do(work: () => string | Promise<string>): Promise<void> {
    try {
      this.#say(await work());
    } catch (thrown) {
      this.#say(asParavaneError(thrown).describe());
    }
  }
}
