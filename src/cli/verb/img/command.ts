import { ParavaneError } from "../../../core/error.ts";
import type { Ui } from "../../ui.ts";
import { expandImageOpts, IMAGE_OPTS } from "./image-opts.ts";
import { type Given, type ImgOption, parseOptions } from "./options.ts";
import { OBJECT, PASSPHRASE_FILE } from "./secrets.ts";

/** One of `paravane img`'s commands: a file of its own, and a line in the index. */
export interface ImgVerb {
  name: string;
  summary: string;
  /** The arguments that are no options, as the help shows them. */
  usage: string;
  /** What it does, for a person who has never used it. */
  description: string;
  options: readonly ImgOption[];
  examples: readonly [command: string, effect: string][];
  /**
   * With --image-opts, which it then has: the options that give the images' formats, in the order of the arguments, the last
   * one for the rest; and how many of so many arguments are images that are there, from the first on (all when absent).
   */
  imageOpts?: readonly string[];
  images?: (count: number) => number;
  /** Exit code after an error; 1 when absent. */
  failure?: number;
  run(given: Given, ui: Ui): Promise<number>;
}

export async function runImgVerb(verb: ImgVerb, args: string[], ui: Ui): Promise<number> {
  if (args.includes("--help") || (args.length === 1 && args[0] === "-h")) {
    ui.out(helpOf(verb));
    return 0;
  }
  try {
    const { imageOpts, images = (count: number) => count } = verb;
    const given = parseOptions(verb.name, optionsOf(verb), args);
    const named = imageOpts ? expandImageOpts(given, imageOpts, images(given.rest.length)) : given;
    return await verb.run({ ...named, rest: named.rest.map(pathOf) }, ui);
  } catch (thrown) {
    if (process.env.PARAVANE_DEBUG) throw thrown;
    // A wrong command line ends as a failure does, as with qemu-img.
    ui.note(
      thrown instanceof ParavaneError ? thrown.describe() : thrown instanceof Error ? thrown.message : `${thrown}`,
    );
    return verb.failure ?? 1;
  }
}

function optionsOf({ options, imageOpts }: ImgVerb): readonly ImgOption[] {
  return [...options, ...(imageOpts ? [IMAGE_OPTS] : []), OBJECT, PASSPHRASE_FILE];
}

/** Scripts write "file:" before names that would look like URLs. */
function pathOf(name: string): string {
  const path = name.replace(/^file:/, "");
  return path !== name && /^[^/]*:/.test(path) ? `./${path}` : path;
}

function helpOf(verb: ImgVerb): string {
  const options = optionsOf(verb);
  const left = options.map(({ short, long, value }) => {
    const names = [short && `-${short}`, long && `--${long}`].filter(Boolean).join(", ");
    return `  ${short ? "" : "    "}${names}${value === undefined ? "" : ` ${value}`}`;
  });
  const wide = Math.max(...left.map(({ length }) => length)) + 3;
  return [
    `paravane img ${verb.name}: ${verb.summary}`,
    "",
    `Usage: paravane img ${verb.name} ${verb.usage}`,
    "",
    verb.description,
    "",
    "Options:",
    ...options.map(({ help }, i) => left[i].padEnd(wide) + help.replaceAll("\n", `\n${" ".repeat(wide)}`)),
    "",
    "Examples:",
    ...verb.examples.flatMap(([command, effect]) => [`  ${command}`, `      ${effect}`]),
  ].join("\n");
}

/** What a shell reports for a command ended by that signal: 128 and its number. */
const SIGNALS = { SIGINT: 130, SIGTERM: 143 } as const;

/** Runs work that Ctrl-C stops; `left` says what is left then. Returns the exit code: the work's, or the signal's. */
export async function interruptible(
  ui: Ui,
  left: string,
  work: (signal: AbortSignal) => Promise<number>,
): Promise<number> {
  const stop = new AbortController();
  let stopped = 0;
  const onSignal = (signal: NodeJS.Signals) => {
    stopped = SIGNALS[signal as keyof typeof SIGNALS];
    stop.abort();
  };
  for (const signal in SIGNALS) process.on(signal, onSignal);
  try {
    return await work(stop.signal);
  } catch (thrown) {
    if (!(thrown instanceof ParavaneError && thrown.code === "ABORTED" && stopped > 0)) throw thrown;
    ui.note(`stopped; ${left}`);
    return stopped;
  } finally {
    ui.clear();
    for (const signal in SIGNALS) process.off(signal, onSignal);
  }
}

/** For `onProgress`: shows percentages when `-p` was given, to a person or to a program. */
export function progressOf(given: Given, ui: Ui, what: string): ((done: number, total: number) => void) | undefined {
  if (!given.flags.has("p")) return undefined;
  let last = -1;
  return (done, total) => {
    const percent = total === 0 ? 100 : Math.floor((100 * done) / total);
    if (percent === last) return;
    last = percent;
    ui.progress(percent, 100, what);
    ui.percent(percent);
  };
}
