import { existsSync, writeFileSync } from "node:fs";
import { asParavaneError, ParavaneError } from "../../core/error.ts";
import {
  htmlReport,
  type LabOptions,
  type LabResult,
  type ModelName,
  runLab,
  textReport,
  type WorkloadName,
} from "../../lab/index.ts";
import { bytes } from "../../lab/table.ts";
import { parseList, parseNumber, parseSize } from "../size.ts";
import type { Ui } from "../ui.ts";
import { UsageError } from "../usage.ts";
import type { Values } from "../verb.ts";
import { openLabImage } from "./lab-image.ts";

/** What a shell reports for a command ended by that signal: 128 and its number. */
const SIGNALS = { SIGINT: 130, SIGTERM: 143 } as const;

/** Milliseconds in which a second signal is the first one once more. */
const ECHO = 500;

/** As `Verb.run`, of the lab. */
export async function run(values: Values, ui: Ui): Promise<number> {
  const text = (name: string) => values[name] as string | undefined;
  const options = labOptions(values);
  if (values.size !== undefined && text("disk") !== undefined && existsSync(text("disk")!)) {
    throw new UsageError(`--size is for a new image, and ${text("disk")} exists`);
  }
  const image = await openLabImage({
    path: text("disk"),
    size: parseSize(text("size") ?? "256M", "size"),
    format: text("format"),
    overwrite: values.overwrite === true,
  });
  const stop = new AbortController();
  let stopped = 0;
  let since = 0;
  const onSignal = (signal: NodeJS.Signals) => {
    if (stopped > 0) {
      // Asked twice: at once. But npm and others pass on what the terminal has sent already.
      if (performance.now() - since > ECHO) process.exit(stopped);
      return;
    }
    stopped = SIGNALS[signal as keyof typeof SIGNALS];
    since = performance.now();
    stop.abort();
  };
  for (const signal in SIGNALS) process.on(signal, onSignal);
  if (!values.json) ui.out(`paravane lab on ${image.title}, ${bytes(image.disk.size)}\n`);
  let result: LabResult;
  try {
    result = await runLab(image.disk, {
      ...options,
      store: image.store,
      signal: stop.signal,
      onProgress: ({ model, doing, done, of }) => ui.progress(done, of, `${model}: ${doing}`),
    });
    await image.close();
  } catch (thrown) {
    const error = asParavaneError(thrown);
    await Promise.resolve(image.close()).catch(() => {});
    if (error.code === "ABORTED") {
      ui.note(`stopped; ${image.stopped()}`);
      return stopped;
    }
    const state = image.abandon();
    const hint = [error.hint ?? "", state].filter((text) => text !== "");
    throw new ParavaneError(error.code, error.message, error.context, { cause: error, hint: hint.join(". ") });
  } finally {
    for (const signal in SIGNALS) process.off(signal, onSignal);
  }
  ui.clear();
  report(result, values, ui);
  return result.verified ? 0 : 1;
}

/** Only what was given, so that the lab's own defaults hold. Names are checked by the lab. */
function labOptions(values: Values): LabOptions {
  const options: LabOptions = {};
  const given = (name: string, take: (text: string, name: string) => void) => {
    const text = values[name];
    if (typeof text === "string") take(text, name);
  };
  given("models", (text, name) => (options.models = parseList(text, name) as ModelName[]));
  given("workload", (text, name) => (options.workloads = parseList(text, name) as WorkloadName[]));
  given(
    "block-size",
    (text, name) => (options.blockSizes = parseList(text, name).map((part) => parseSize(part, name))),
  );
  given("queue-depth", (text, name) => {
    options.queueDepths = parseList(text, name).map((part) => parseNumber(part, name));
  });
  given("seconds", (text, name) => (options.seconds = parseNumber(text, name)));
  given("seed", (text, name) => (options.seed = parseNumber(text, name)));
  return options;
}

/** What was measured comes first: a file that cannot be written does not cost it. */
function report(result: LabResult, values: Values, ui: Ui): void {
  ui.out(values.json ? JSON.stringify(jsonReport(result), null, 2) : textReport(result, ui.style));
  if (typeof values.html === "string") save(values.html, htmlReport(result));
  if (typeof values.trace === "string") save(values.trace, traceLines(result));
}

function save(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (thrown) {
    throw new ParavaneError("IO", `${path} could not be written: ${(thrown as Error).message}`, {}, { cause: thrown });
  }
}

/** Everything measured; of the paths the sums, for the steps are in `--trace`. */
function jsonReport({ paths, ...rest }: LabResult): unknown {
  return { ...rest, paths: paths.map(({ steps, ...sums }) => ({ ...sums, steps: steps.length })) };
}

function traceLines({ paths }: LabResult): string {
  const lines = paths.flatMap(({ model, device, steps }) =>
    steps.map(({ layer, ...step }, i) =>
      JSON.stringify({ model, step: i, layer: layer === "device" ? device : layer, ...step }),
    ),
  );
  return `${lines.join("\n")}\n`;
}
