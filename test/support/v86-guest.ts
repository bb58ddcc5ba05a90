import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { V86 } from "v86";
import { type AttachOptions, attach, type V86Disks } from "../../src/v86/index.ts";
import type { V86Cpu } from "../../src/v86/internals.ts";
import { KERNEL_OPTIONS } from "../guest/kit/disk.ts";
import type { GuestKit } from "../guest/kit/kit.ts";

const WASM = join(dirname(createRequire(import.meta.url).resolve("v86")), "v86.wasm");
const FIRMWARE = "/usr/share/seabios";

/** A shell's prompt: the rescue shell's, the root's. */
const PROMPTS = ["/ # ", "guest# "];

export interface GuestOptions extends AttachOptions {
  /** Bytes; default 256 MiB. */
  memory?: number;
  /** Boots this kernel instead of what the disks hold. */
  kernel?: { kit: GuestKit; append?: string };
  state?: ArrayBuffer;
  /** v86's own disk and CD. */
  v86?: Record<string, unknown>;
}

function image(path: string): { buffer: ArrayBuffer } {
  const bytes = readFileSync(path);
  return { buffer: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) as ArrayBuffer };
}

/** A guest in v86 with its serial line at hand. */
export class Guest {
  readonly emulator: V86;
  readonly disks: V86Disks;
  /** All that the guest has written to its serial line. */
  output = "";
  halted = false;
  /** Where the next `expect` looks from. */
  #seen = 0;
  #wake: () => void = () => {};

  constructor(options: GuestOptions = {}) {
    const { memory = 256 << 20, kernel, state, v86, ...attached } = options;
    const settings = {
      wasm_path: WASM,
      memory_size: memory,
      vga_memory_size: 2 << 20,
      bios: image(`${FIRMWARE}/bios.bin`),
      vga_bios: image(`${FIRMWARE}/vgabios-stdvga.bin`),
      ...(kernel && {
        bzimage: image(kernel.kit.kernel),
        initrd: image(kernel.kit.initrd),
        cmdline: `${KERNEL_OPTIONS} ${kernel.append ?? ""}`,
      }),
      ...(state && { initial_state: { buffer: state } }),
      autostart: true,
      disable_keyboard: true,
      disable_mouse: true,
      disable_speaker: true,
      ...v86,
    };
    this.emulator = new V86(settings);
    this.disks = attach(this.emulator, attached);
    this.emulator.add_listener("serial0-output-byte", (byte) => {
      this.output += String.fromCharCode(byte);
      this.#wake();
    });
    // Not among the events that v86's types know: HLT with interrupts off.
    this.emulator.add_listener("cpu-event-halt" as "emulator-stopped", () => {
      this.halted = true;
      this.#wake();
    });
  }

  get cpu(): V86Cpu {
    return (this.emulator as unknown as { v86: { cpu: V86Cpu } }).v86.cpu;
  }

  /** What was written from the last `expect` on up to and with `text`, or the first of several. @throws after that many seconds */
  async expect(text: string | readonly string[], seconds = 180): Promise<string> {
    const texts = typeof text === "string" ? [text] : text;
    return this.#until(seconds, `"${texts.join('" or "')}"`, () => {
      const ends = texts.map((each) => [this.output.indexOf(each, this.#seen), each.length]).filter(([at]) => at >= 0);
      if (ends.length === 0) return undefined;
      const end = Math.min(...ends.map(([at, length]) => at + length));
      const passed = this.output.slice(this.#seen, end);
      this.#seen = end;
      return passed;
    });
  }

  send(text: string): void {
    this.emulator.serial0_send(text);
  }

  /** Logs in on the disk's root. */
  async login(seconds?: number): Promise<void> {
    await this.expect("paravane login: ", seconds);
    this.send("root\n");
    await this.expect("guest# ");
    // Lines are not to be folded, nor commands to be echoed with where the cursor is.
    await this.run("stty -echo cols 1000");
  }

  /** What the command writes. @throws when it fails, or is not done after that many seconds */
  async run(command: string, seconds = 120): Promise<string> {
    const { output, code } = await this.try(command, seconds);
    if (code !== 0) throw new Error(`${command}: exit code ${code}\n${output}`);
    return output;
  }

  async try(command: string, seconds = 120): Promise<{ output: string; code: number }> {
    // The echo of the command line, where there is one, holds no such number.
    this.send(`${command}; echo "<"$?">"\n`);
    let output = "";
    for (;;) {
      output += await this.expect(">", seconds);
      const [end, code] = /<(\d+)>$/.exec(output) ?? [];
      if (end === undefined) continue;
      await this.expect(PROMPTS, seconds);
      return { output: output.slice(0, -end.length).replaceAll("\r", ""), code: Number(code) };
    }
  }

  async powerOff(seconds = 120): Promise<void> {
    this.send("poweroff\n");
    await this.#until(seconds, "the guest's end", () => (this.halted ? true : undefined));
  }

  async stop(): Promise<void> {
    await this.emulator.stop();
    await this.disks.close();
    await this.emulator.destroy();
  }

  async #until<T>(seconds: number, what: string, look: () => T | undefined): Promise<T> {
    await this.disks.ready;
    const end = Date.now() + seconds * 1000;
    for (;;) {
      const found = look();
      if (found !== undefined) return found;
      const left = end - Date.now();
      if (left <= 0 || (this.halted && what !== "the guest's end")) {
        const why = this.halted ? "the guest has halted" : `${seconds} s have passed`;
        throw new Error(`${why} without ${what}; the last it wrote:\n${this.output.slice(-2000)}`);
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.min(left, 1000));
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }
}
