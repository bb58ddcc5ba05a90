import { execFileSync } from "node:child_process";

/** Vitest global set-up: the generated modules are as new as their sources. */
export function setup(): void {
  execFileSync(process.execPath, ["build.mjs", "--core"], { stdio: "inherit" });
}
