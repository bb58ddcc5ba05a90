#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { ParavaneError } from "../core/error.ts";
import { Ui } from "./ui.ts";
import { UsageError } from "./usage.ts";
import { VERBS } from "./verb/index.ts";
import { parseVerb, verbHelp } from "./verb.ts";

function version(): string {
  // From dist/src/cli, where this runs, and from src/cli alike the nearest package.json is the package's.
  for (let at = new URL(".", import.meta.url); ; at = new URL("..", at)) {
    try {
      return JSON.parse(readFileSync(new URL("package.json", at), "utf8")).version;
    } catch (thrown) {
      if (at.pathname === "/") throw thrown;
    }
  }
}

function help(): string {
  const wide = Math.max(...VERBS.map(({ name }) => name.length)) + 3;
  return [
    "paravane: virtual disks and devices for virtual machines that run in JavaScript",
    "",
    "Usage: paravane COMMAND [OPTIONS]",
    "",
    "Commands:",
    ...VERBS.map(({ name, summary }) => `  ${name.padEnd(wide)}${summary}`),
    "",
    "Options:",
    "  --help      this text; with a command, that command's options and examples",
    "  --version   the version",
    "",
    "Examples:",
    ...VERBS.map(({ examples }) => `  ${examples[0][0]}`),
  ].join("\n");
}

async function main(args: string[], ui: Ui): Promise<number> {
  const [first, ...rest] = args;
  if (first === "--version") {
    ui.out(version());
    return 0;
  }
  if (first === undefined || first === "--help" || first === "help") {
    ui.out(help());
    return first === undefined ? 2 : 0;
  }
  if (first.startsWith("-")) throw new UsageError(`unknown option "${first}"; see: paravane --help`);
  const verb = VERBS.find(({ name }) => name === first);
  if (!verb) throw new UsageError(`unknown command "${first}"; see: paravane --help`);
  if ("main" in verb) return verb.main(rest, ui);
  const values = parseVerb(verb, rest);
  if (values.help) {
    ui.out(verbHelp(verb));
    return 0;
  }
  return verb.run(values, ui);
}

const ui = new Ui();
try {
  process.exitCode = await main(process.argv.slice(2), ui);
} catch (thrown) {
  if (process.env.PARAVANE_DEBUG) {
    ui.clear();
    console.error(thrown);
  } else if (thrown instanceof ParavaneError) ui.note(thrown.describe());
  else ui.note(thrown instanceof Error ? thrown.message : String(thrown));
  process.exitCode = thrown instanceof UsageError ? 2 : 1;
}
