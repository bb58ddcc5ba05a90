import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { ParavaneError } from "../../../core/error.ts";
import type { V86Emulator } from "../../../v86/index.ts";

/** What is used of v86's class beside what its disks need. */
export interface Emulator extends V86Emulator {
  add_listener(event: "emulator-ready" | "cpu-event-halt", listener: () => void): void;
  add_listener(event: "serial0-output-byte", listener: (byte: number) => void): void;
  run(): Promise<void>;
  stop(): Promise<void>;
  destroy(): Promise<void>;
  save_state(): Promise<ArrayBuffer>;
  restore_state(state: ArrayBuffer): Promise<void>;
  serial_send_bytes(port: number, bytes: Uint8Array): void;
  keyboard_send_scancodes(codes: number[]): void;
  get_instruction_counter(): number;
  readonly screen_adapter?: { get_text_screen?(): string[] };
}

type V86 = new (options: Record<string, unknown>) => Emulator;

/** v86 is the user's to install: found beside this package, or from the folder that the command was given in. */
export async function makeEmulator(options: Record<string, unknown>): Promise<Emulator> {
  const path = find();
  const { V86 } = (await import(pathToFileURL(path).href)) as { V86: V86 };
  return new V86({ ...options, wasm_path: join(dirname(path), "v86.wasm") });
}

function find(): string {
  for (const from of [import.meta.url, pathToFileURL(join(process.cwd(), "package.json"))]) {
    try {
      return createRequire(from).resolve("v86");
    } catch {}
  }
  throw new ParavaneError(
    "NOT_FOUND",
    "booting needs v86, the PC emulator, which is not installed",
    {},
    {
      hint: "npm install v86",
    },
  );
}
