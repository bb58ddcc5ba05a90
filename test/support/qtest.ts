import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** What a FIFO holds: with more commands than this under way, both sides could wait for each other. */
const CHUNK = 60_000;

/**
 * QEMU's machine, driven over its qtest text protocol (docs/devel/qtest.rst of QEMU): port and memory accesses, one line
 * each, answered in order; changes of the I/O APIC's inputs arrive between the answers. Accesses sent together are made
 * together: the machine's main loop, which ends I/O, runs between two calls of `flush`.
 */
export class Qtest {
  /** Level of each interrupt line, as of the last answer read. */
  readonly levels = new Uint8Array(24);
  /** Batches sent so far. */
  trips = 0;
  /** Where its pipes are; its command line names it. */
  readonly folder: string;
  readonly #child: ChildProcess;
  readonly #in: number;
  readonly #out: number;
  #lines: string[] = [];
  readonly #buffer = Buffer.alloc(1 << 16);
  #text = "";
  #at = 0;

  /** @param args QEMU's own; the machine, its RAM and the protocol are given here. Ended by force after `seconds`. */
  constructor(args: readonly string[], seconds: number) {
    this.folder = mkdtempSync(join(tmpdir(), "paravane-qtest-"));
    const pipe = join(this.folder, "q");
    execFileSync("mkfifo", [`${pipe}.in`, `${pipe}.out`]);
    const machine = ["-machine", "pc,accel=tcg", "-m", "16", "-S", "-nodefaults", "-display", "none", "-vga", "none"];
    const protocol = ["-qtest", `pipe:${pipe}`, "-qtest-log", "none"];
    const errors = openSync(join(this.folder, "stderr"), "w");
    // Whatever happens to us, it ends in time; and when it has ended, our open or read does. In the group that `close` ends.
    const script = 'timeout --foreground -s KILL "$0" qemu-system-x86_64 "$@"; exec 3<>"$PIPE.out"';
    this.#child = spawn("sh", ["-c", script, String(seconds), ...machine, ...protocol, ...args], {
      stdio: ["ignore", "ignore", errors],
      env: { ...process.env, PIPE: pipe },
      detached: true,
    });
    closeSync(errors);
    this.#in = openSync(`${pipe}.in`, "r+");
    this.#out = openSync(`${pipe}.out`, "r");
    this.command("irq_intercept_in ioapic");
  }

  /** Adds a command to the batch. */
  send(line: string): void {
    this.#lines.push(line);
  }

  /** Sends the batch. `heard` gets what was answered to each command after its "OK". @throws when QEMU is gone */
  flush(heard: (answer: string, index: number) => void = () => {}): void {
    const lines = this.#lines;
    this.#lines = [];
    for (let first = 0; first < lines.length; ) {
      let last = first;
      for (let bytes = 0; last < lines.length; last++) {
        bytes += lines[last].length + 1;
        // One that is longer goes alone: it has one answer.
        if (bytes > CHUNK && last > first) break;
      }
      writeSync(this.#in, `${lines.slice(first, last).join("\n")}\n`);
      this.trips++;
      for (let i = first; i < last; i++) heard(this.#answer(lines[i]), i);
      first = last;
    }
  }

  /** Sends one command and waits for its answer. */
  command(line: string): string {
    let answer = "";
    this.send(line);
    this.flush((text) => {
      answer = text;
    });
    return answer;
  }

  close(): void {
    try {
      process.kill(-(this.#child.pid as number), "SIGKILL");
    } catch {
      // It has ended by itself.
    }
    closeSync(this.#in);
    closeSync(this.#out);
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** The next answer; what stands before it moves interrupt lines. */
  #answer(command: string): string {
    for (;;) {
      const line = this.#line(command);
      if (line.startsWith("OK")) return line.slice(3);
      const moved = /^IRQ (raise|lower) (\d+)$/.exec(line);
      if (!moved) throw new Error(`qtest: "${command}" was answered "${line}"`);
      this.levels[Number(moved[2])] = moved[1] === "raise" ? 1 : 0;
    }
  }

  #line(command: string): string {
    for (;;) {
      const end = this.#text.indexOf("\n", this.#at);
      if (end >= 0) {
        const line = this.#text.slice(this.#at, end);
        this.#at = end + 1;
        return line;
      }
      const got = readSync(this.#out, this.#buffer, 0, this.#buffer.length, null);
      if (got === 0) {
        throw new Error(`QEMU ended at "${command}": ${readFileSync(join(this.folder, "stderr"), "latin1")}`);
      }
      this.#text = this.#text.slice(this.#at) + this.#buffer.toString("latin1", 0, got);
      this.#at = 0;
    }
  }
}
