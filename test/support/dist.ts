import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

const run = promisify(execFile);
const BUILT = "dist/src/cli/main.js";
const LOCK = "build/dist.lock";
/** Milliseconds after which a lock is nobody's: no build takes as long. */
const STALE = 120_000;

function newest(path: string): number {
  const stat = statSync(path);
  if (!stat.isDirectory()) return path.endsWith(".gen.ts") ? 0 : stat.mtimeMs;
  return Math.max(0, ...readdirSync(path).map((name) => newest(join(path, name))));
}

/** The built package is as new as its sources. Tests of what users run call this before all else. */
export async function buildDist(): Promise<void> {
  const sources = () => Math.max(...["src", "assembly", "build.mjs", "tsconfig.json"].map(newest));
  const fresh = () => existsSync(BUILT) && statSync(BUILT).mtimeMs >= sources();
  while (!fresh()) {
    try {
      mkdirSync(LOCK);
    } catch {
      // Another test file builds it, or was killed while it did.
      const since = statSync(LOCK, { throwIfNoEntry: false })?.mtimeMs;
      if (since !== undefined && Date.now() - since > STALE) rmSync(LOCK, { recursive: true, force: true });
      await sleep(200);
      continue;
    }
    try {
      await run(process.execPath, ["build.mjs"]);
    } finally {
      rmSync(LOCK, { recursive: true, force: true });
    }
  }
}

export interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs the built command line, as a user would; with `shell`, behind that shell prefix (such as a `ulimit`). */
export async function paravane(args: string[], options: { shell?: string; cwd?: string } = {}): Promise<Ended> {
  const main = join(process.cwd(), BUILT);
  const [file, argv] = options.shell
    ? ["bash", ["-c", `${options.shell}; exec "$@"`, "bash", process.execPath, main, ...args]]
    : [process.execPath, [main, ...args]];
  try {
    const { stdout, stderr } = await run(file, argv, { cwd: options.cwd, maxBuffer: 64 << 20 });
    return { code: 0, stdout, stderr };
  } catch (thrown) {
    const { code, stdout, stderr } = thrown as { code: number; stdout: string; stderr: string };
    return { code, stdout, stderr };
  }
}
