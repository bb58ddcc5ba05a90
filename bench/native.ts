import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import type { Contestant } from "./harness.ts";

const FOLDER = "build/native";
const programs = new Map<string, string | null>();

/** Compiles bench/native/`name`.c; null where there is no C compiler. */
function program(name: string): string | null {
  let path = programs.get(name);
  if (path !== undefined) return path;
  path = `${FOLDER}/${name}`;
  mkdirSync(FOLDER, { recursive: true });
  try {
    execFileSync("gcc", ["-O2", "-fno-strict-aliasing", "-Wall", "-o", path, `bench/native/${name}.c`], {
      stdio: "inherit",
    });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    path = null;
  }
  programs.set(name, path);
  return path;
}

/**
 * The C twin of a bench as a contestant: none where gcc is missing. It works on a copy of `memory`, which holds what the
 * WebAssembly contestant starts from, and times itself: a process start is not in its figure.
 */
export function native(name: string, label: string, memory: Uint8Array, parameters: readonly number[]): Contestant[] {
  const path = program(name);
  if (!path) return [];
  const image = `${FOLDER}/${label}.bin`;
  writeFileSync(image, memory);
  return [
    {
      name: "C",
      measure(operations) {
        const output = execFileSync(path, [image, `${operations}`, ...parameters.map(String)], { encoding: "utf8" });
        const [nanoseconds, checksum] = output.split(" ").map(Number);
        return { nanoseconds, checksum };
      },
    },
  ];
}
