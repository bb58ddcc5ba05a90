import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { test } from "vitest";

/** Is `command` on this machine? "python:NAME" is a module of Debian's Python. */
export function found(command: string): boolean {
  if (command.startsWith("/")) return existsSync(command);
  try {
    const [, module] = command.split("python:");
    if (module) return execFileSync("/usr/bin/python3", ["-c", `import ${module}`], { stdio: "ignore" }) === null;
    execFileSync("sh", ["-c", `command -v ${command}`], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/**
 * A test judged by another program. Without it: a failure in CI, where every peer is installed, and elsewhere a skip that
 * says why.
 */
export function peerTest(
  peer: string,
  installed: string,
  name: string,
  body: () => void | Promise<void>,
  timeout?: number,
): void {
  if (found(peer)) test(name, body, timeout);
  else if (process.env.CI) {
    test(name, () => {
      throw new Error(`${peer} is missing in CI; install ${installed}`);
    });
  } else test.skip(`${name} (needs ${peer}: install ${installed})`, body);
}
