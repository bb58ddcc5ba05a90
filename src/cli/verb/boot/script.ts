import { UsageError } from "../../usage.ts";

/** What a line of a script does; texts have no quotes or escapes any more. */
export interface Step {
  line: number;
  verb: "expect" | "send" | "wait" | "eject" | "insert" | "snapshot" | "save" | "stats";
  text: string;
  /** Seconds, or the number of a CD drive; NaN when absent. */
  number: number;
}

/** Each verb: does it take a text, and may a number follow? */
const VERBS: Record<Step["verb"], { text: boolean; number: boolean }> = {
  expect: { text: true, number: true },
  send: { text: true, number: false },
  wait: { text: false, number: true },
  eject: { text: false, number: true },
  insert: { text: true, number: true },
  snapshot: { text: true, number: false },
  save: { text: true, number: false },
  stats: { text: false, number: false },
};

/** @throws UsageError naming the line */
export function parseScript(source: string, name: string): Step[] {
  return source.split("\n").flatMap((content, i) => {
    const trimmed = content.trim();
    return trimmed === "" || trimmed.startsWith("#") ? [] : [stepOf(trimmed, i + 1, name)];
  });
}

function stepOf(content: string, line: number, name: string): Step {
  const wrong = (what: string) => new UsageError(`${name}:${line}: ${what}; see: paravane boot --help`);
  const [, word, quoted, digits] = /^(\w+)(?:\s+("(?:[^"\\]|\\.)*"))?(?:\s+(\d+(?:\.\d+)?))?$/.exec(content) ?? [];
  if (word === undefined) throw wrong(`not understood: ${content}`);
  if (!(word in VERBS)) throw wrong(`unknown word "${word}"`);
  const verb = word as Step["verb"];
  if (VERBS[verb].text !== (quoted !== undefined)) {
    throw wrong(VERBS[verb].text ? `${verb} wants a text in double quotes` : `${verb} takes no text`);
  }
  if (digits !== undefined && !VERBS[verb].number) throw wrong(`${verb} takes no number`);
  if (verb === "wait" && digits === undefined) throw wrong("wait wants seconds");
  return { line, verb, text: quoted === undefined ? "" : unquote(quoted, wrong), number: Number(digits ?? Number.NaN) };
}

/** JSON's escapes, and \xHH for control characters. */
function unquote(quoted: string, wrong: (what: string) => Error): string {
  try {
    return JSON.parse(quoted.replace(/\\x([0-9a-fA-F]{2})/g, "\\u00$1"));
  } catch {
    throw wrong(`not a text: ${quoted}`);
  }
}
