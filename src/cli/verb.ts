import { parseArgs } from "node:util";
import type { Ui } from "./ui.ts";
import { UsageError } from "./usage.ts";

interface Option {
  /** What its value is called in the help; absent for a switch. */
  value?: string;
  help: string;
}

/** What was written on the command line: `true` for a switch. */
export type Values = Record<string, string | boolean | undefined>;

/** A command with an option syntax of its own. */
export interface RawVerb {
  name: string;
  summary: string;
  examples: readonly [command: string, effect: string][];
  /** Exit code; takes everything after the command's name. */
  main(args: string[], ui: Ui): Promise<number>;
}

/** One command. Adding one is a file in verb/ and a line in its index. */
export interface Verb {
  name: string;
  summary: string;
  /** What it does, for a person who has never used it. */
  description: string;
  examples: readonly [command: string, effect: string][];
  options: Record<string, Option>;
  /** Exit code. @throws UsageError, ParavaneError */
  run(values: Values, ui: Ui): Promise<number>;
}

/** @throws UsageError */
export function parseVerb(verb: Verb, args: string[]): Values {
  const options = Object.fromEntries(
    Object.entries({ ...verb.options, help: { help: "" } as Option }).map(([name, { value }]) => [
      name,
      { type: value === undefined ? ("boolean" as const) : ("string" as const) },
    ]),
  );
  try {
    return parseArgs({ args, options, strict: true, allowPositionals: false }).values;
  } catch (thrown) {
    const [message] = (thrown as Error).message.split(/\. |\n/);
    throw new UsageError(`${message.replace(/\.$/, "")}; see: paravane ${verb.name} --help`);
  }
}

export function verbHelp(verb: Verb): string {
  const options = Object.entries(verb.options).map(([name, { value, help }]) => [
    `  --${name}${value === undefined ? "" : ` ${value}`}`,
    help,
  ]);
  const wide = Math.max(...options.map(([left]) => left.length)) + 3;
  return [
    `paravane ${verb.name}: ${verb.summary}`,
    "",
    verb.description,
    "",
    "Options:",
    ...options.map(([left, help]) => left.padEnd(wide) + help.replaceAll("\n", `\n${" ".repeat(wide)}`)),
    "",
    "Examples:",
    ...verb.examples.flatMap(([command, effect]) => [`  ${command}`, `      ${effect}`]),
  ].join("\n");
}
