import { basename } from "node:path";
import { asParavaneError } from "../../../core/error.ts";
import type { Ui } from "../../ui.ts";
import { readWhole } from "./firmware.ts";
import { scanCodes } from "./keys.ts";
import { Menu } from "./menu.ts";
import type { BootOptions } from "./options.ts";
import { Screen } from "./screen.ts";
import { parseScript, type Step } from "./script.ts";
import { Session } from "./session.ts";
import { Transcript } from "./talk.ts";

/** Seconds that `expect` waits when its line does not say. */
const PATIENCE = 60;
/** What a shell reports for a command ended by that signal. */
const SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

/** Boots, and comes back when the guest has halted, the script is through or the user has had enough: the exit code. */
export async function boot(given: BootOptions, ui: Ui): Promise<number> {
  const steps = given.script === undefined ? null : readScript(given.script);
  const session = await Session.open(given, (text) => ui.note(text));
  const transcript = new Transcript();
  const screen = given.screen ? new Screen(session.emulator) : null;
  const say = (text: string) => process.stderr.write(`\r\n[${text}]\r\n`);
  const serial = new SerialOutput(given.screen ? null : process.stdout, transcript);
  session.emulator.add_listener("serial0-output-byte", (byte) => serial.add(byte));
  let code = 0;
  const stop = new Promise<void>((resolve) => {
    const typed = (bytes: Uint8Array) => {
      if (!given.screen) session.emulator.serial_send_bytes(0, bytes);
      else for (const byte of bytes) session.emulator.keyboard_send_scancodes(scanCodes(byte));
    };
    const menu = new Menu(session, typed, say, resolve);
    if (!steps) listen(menu);
    for (const [name, status] of Object.entries(SIGNALS)) {
      process.on(name, () => {
        code = status;
        resolve();
      });
    }
  });
  const halted = session.halted.then(() => {
    serial.flush();
    transcript.end();
  });
  try {
    await session.emulator.run();
    const ends: Promise<unknown>[] = [stop];
    if (steps)
      ends.push(
        follow(steps, session, transcript, basename(given.script!)).then((failed) => {
          if (failed === null) return;
          ui.note(failed);
          code = 1;
        }),
      );
    else ends.push(halted);
    await Promise.race(ends);
    serial.flush();
    if (given.stateSave !== undefined) {
      await session.emulator.stop();
      ui.note(await session.saveState(given.stateSave));
    }
  } finally {
    screen?.close();
    unlisten();
    await session.close();
  }
  if (given.stats) for (const line of session.stats()) ui.note(line);
  return code;
}

function readScript(path: string): Step[] {
  return parseScript(new TextDecoder().decode(readWhole(path)), basename(path));
}

/** Carries the script out: null, or what went wrong and where. */
async function follow(
  steps: readonly Step[],
  session: Session,
  transcript: Transcript,
  name: string,
): Promise<string | null> {
  for (const { line, verb, text, number } of steps) {
    const index = Number.isNaN(number) ? 0 : number;
    try {
      if (verb === "expect") {
        const why = await transcript.expect(text, Number.isNaN(number) ? PATIENCE : number);
        if (why !== null) {
          const last = transcript.last
            ? `the guest's last lines: ${transcript.last}`
            : "nothing came on the serial line: a Linux guest writes there with console=ttyS0 on its command line";
          return `${name}:${line}: ${why} without ${JSON.stringify(text)}; ${last}`;
        }
      } else if (verb === "send") session.emulator.serial_send_bytes(0, new TextEncoder().encode(text));
      else if (verb === "wait") await new Promise((resolve) => setTimeout(resolve, number * 1000));
      else if (verb === "eject") session.eject(index);
      else if (verb === "insert") await session.insert(text, index);
      else if (verb === "snapshot") await session.snapshot(text);
      else if (verb === "save") await session.saveState(text);
      else for (const each of session.stats()) process.stderr.write(`${each}\n`);
    } catch (thrown) {
      return `${name}:${line}: ${asParavaneError(thrown).describe()}`;
    }
  }
  return null;
}

/** Gathers what comes byte by byte. */
class SerialOutput {
  readonly #to: NodeJS.WriteStream | null;
  readonly #transcript: Transcript;
  #bytes: number[] = [];

  constructor(to: NodeJS.WriteStream | null, transcript: Transcript) {
    this.#to = to;
    this.#transcript = transcript;
  }

  add(byte: number): void {
    if (this.#bytes.push(byte) === 1) setImmediate(() => this.flush());
  }

  flush(): void {
    const bytes = Buffer.from(this.#bytes.splice(0));
    if (bytes.length === 0) return;
    this.#to?.write(bytes);
    this.#transcript.add(bytes.toString("latin1"));
  }
}

function listen(menu: Menu): void {
  const { stdin } = process;
  if (stdin.isTTY) stdin.setRawMode(true);
  stdin.on("data", (bytes: Buffer) => menu.type(bytes));
  stdin.resume();
}

function unlisten(): void {
  const { stdin } = process;
  if (stdin.isTTY) stdin.setRawMode(false);
  stdin.pause();
}
