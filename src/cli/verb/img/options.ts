import { UsageError } from "../../usage.ts";
import type { ParentOpts } from "./image-opts.ts";

/** An option with qemu-img's letter, its long name, or both. */
export interface ImgOption {
  short?: string;
  long?: string;
  /** What its value is called in the help; absent for a switch. */
  value?: string;
  help: string;
}

/** What was given: by the long name where there is one, else by the letter. Later values of an option win. */
export interface Given {
  flags: Set<string>;
  values: Map<string, string[]>;
  rest: string[];
  /** The names of all options, in the order in which they were given. */
  order: string[];
  /** With `--image-opts`: the id of a file's secret, by the file's name. */
  keySecrets?: ReadonlyMap<string, string>;
  /** The ids of its parents' secrets, the nearest first, where they have others. */
  parentSecrets?: ReadonlyMap<string, readonly (string | undefined)[]>;
  /** The disks of archives that were asked for, by the archive's name. */
  members?: ReadonlyMap<string, string>;
  /** What was said of images' parents, by the image's name. */
  parents?: ReadonlyMap<string, ParentOpts | "none">;
}

const nameOf = ({ long, short }: ImgOption) => long ?? short!;

/** Reads options in any order among the other arguments, as qemu-img does: `-O raw`, `-Oraw`, `-pn`, `--output=json`. */
export function parseOptions(verb: string, options: readonly ImgOption[], args: readonly string[]): Given {
  const given: Given = { flags: new Set(), values: new Map(), rest: [], order: [] };
  const wrong = (text: string) => new UsageError(`${text}; see: paravane img ${verb} --help`);
  const put = (option: ImgOption, value: string) => {
    const list = given.values.get(nameOf(option)) ?? [];
    given.values.set(nameOf(option), [...list, value]);
    given.order.push(nameOf(option));
  };
  const raise = (option: ImgOption) => {
    given.flags.add(nameOf(option));
    given.order.push(nameOf(option));
  };
  for (let i = 0; i < args.length; i++) {
    const arg = args[i];
    const valueAfter = (what: string) => {
      if (++i >= args.length) throw wrong(`option "${what}" needs a value`);
      return args[i];
    };
    if (arg === "--") {
      given.rest.push(...args.slice(i + 1));
      break;
    }
    // A size to shrink by is no option.
    if (arg === "-" || !arg.startsWith("-") || /^-\d/.test(arg)) given.rest.push(arg);
    else if (arg.startsWith("--")) {
      const [, name, value] = /^--([^=]*)(?:=(.*))?$/s.exec(arg)!;
      const option = options.find(({ long }) => long === name);
      if (!option) throw wrong(`unknown option "--${name}"`);
      if (option.value !== undefined) put(option, value ?? valueAfter(arg));
      else if (value === undefined) raise(option);
      else throw wrong(`option "--${name}" takes no value`);
    } else {
      for (let at = 1; at < arg.length; at++) {
        const option = options.find(({ short }) => short === arg[at]);
        if (!option) throw wrong(`unknown option "-${arg[at]}"`);
        if (option.value === undefined) raise(option);
        else {
          put(option, at + 1 < arg.length ? arg.slice(at + 1) : valueAfter(`-${arg[at]}`));
          break;
        }
      }
    }
  }
  return given;
}

/** The last value given for it. */
export function lastOf(given: Given, name: string): string | undefined {
  return given.values.get(name)?.at(-1);
}

const UNITS = "bkmgtpe";

/** "512", "64k", "1.5G", "0x200": bytes. @throws UsageError */
export function sizeOf(text: string, what: string): number {
  if (/^0x[0-9a-f]+$/i.test(text) && Number.isSafeInteger(Number(text))) return Number(text);
  const [, digits, unit] = /^(\d+(?:\.\d+)?)([bkmgtpe]?)$/i.exec(text) ?? [];
  const value = Math.ceil(Number(digits) * 1024 ** Math.max(0, UNITS.indexOf((unit || "b").toLowerCase())));
  if (Number.isSafeInteger(value)) return value;
  if (value > Number.MAX_SAFE_INTEGER)
    throw new UsageError(`${what} "${text}" is too large: 8 PiB less one byte is the most`);
  throw new UsageError(`${what} "${text}" is not a size; write bytes, or a number with k, M, G, T, P or E`);
}

const CACHES = ["none", "writeback", "writethrough", "directsync", "unsafe"];

/** `-t` or `-T`. @throws UsageError */
export function cacheOf(given: Given, letter: "t" | "T"): string | undefined {
  const cache = lastOf(given, letter);
  if (cache === undefined || CACHES.includes(cache)) return cache;
  throw new UsageError(`Invalid ${letter === "T" ? "source " : ""}cache option: ${cache}; known: ${CACHES.join(", ")}`);
}

/** The option that is "human" or "json". @throws UsageError */
export function wantsJson(given: Given): boolean {
  const output = lastOf(given, "output") ?? "human";
  if (output === "json" || output === "human") return output === "json";
  throw new UsageError(`--output must be human or json, not "${output}"`);
}

export const OUTPUT: ImgOption = { long: "output", value: "human|json", help: "how results are printed" };
export const SHARE: ImgOption = { short: "U", long: "force-share", help: "accepted; nothing is locked" };
export const PROGRESS: ImgOption = {
  short: "p",
  help: "show progress on standard error; where that is no terminal, on standard output",
};
export const QUIET: ImgOption = { short: "q", help: "print only errors" };
export const CACHE: ImgOption = { short: "t", value: "CACHE", help: "accepted; the host's page cache is always used" };
export const SOURCE_CACHE: ImgOption = { ...CACHE, short: "T" };
export const ALLOW: ImgOption = {
  long: "allow",
  value: "DIR",
  help: "a folder, beside the image's own, for parents and data files; may be repeated",
};
