import { asParavaneError } from "../../../core/error.ts";
import { type CompareReport, compareDisks } from "../../../host/image/compare.ts";
import { UsageError } from "../../usage.ts";
import { type ImgVerb, interruptible, progressOf } from "./command.ts";
import { openingOf, openNamed, withDisk } from "./open.ts";
import { ALLOW, cacheOf, PROGRESS, QUIET, SHARE, SOURCE_CACHE } from "./options.ts";

/** The exit code, qemu-img's too. */
const NOT_READ = 4;

export const compare: ImgVerb = {
  name: "compare",
  summary: "do two images hold the same disk?",
  usage: "[-f FMT] [-F FMT] [-s] [-p] [-q] FILE1 FILE2",
  description: [
    "Compares what a guest would read. If one disk is larger, what it has more must be zeros. With -s sizes must be equal,",
    "and the same parts allocated. Exit code 0: the same; 1: different; 2: they could not be opened; 4: nor read.",
  ].join("\n"),
  options: [
    { short: "f", value: "FMT", help: "the first image's format (default: by its content)" },
    { short: "F", value: "FMT", help: "the second's" },
    { short: "s", help: "strict: also compare sizes and what is allocated" },
    PROGRESS,
    QUIET,
    SOURCE_CACHE,
    ALLOW,
    SHARE,
  ],
  examples: [["paravane img compare disk.vhd disk.qcow2", "is the converted disk the same?"]],
  failure: 2,
  imageOpts: ["f", "F"],

  async run(given, ui) {
    const [one, other, ...more] = given.rest;
    if (other === undefined || more.length > 0)
      throw new UsageError("give two images; see: paravane img compare --help");
    cacheOf(given, "T");
    const print = (line: string) => {
      ui.clear();
      if (!given.flags.has("q")) ui.out(line);
    };
    const strict = given.flags.has("s");
    return interruptible(ui, "nothing was changed", (signal) =>
      withDisk(openNamed(one, openingOf(given)), (first) =>
        withDisk(openNamed(other, openingOf(given, "F")), async (second) => {
          const onProgress = progressOf(given, ui, "compare");
          let report: CompareReport;
          try {
            report = await compareDisks(first, second, { strict, signal, ...(onProgress && { onProgress }) });
          } catch (thrown) {
            const cause = asParavaneError(thrown);
            if (cause.code === "ABORTED") throw thrown;
            ui.note(`Error while reading: ${cause.describe()}`);
            return NOT_READ;
          }
          const common = Math.min(first.size, second.size);
          const inCommon = !report.identical && report.what !== "size" && report.offset < common;
          if (report.sizesDiffer && !strict && !inCommon) print("Warning: Image size mismatch!");
          if (report.identical) print("Images are identical.");
          else if (report.what === "size") print("Strict mode: Image size mismatch!");
          else if (report.what === "content") print(`Content mismatch at offset ${report.offset}!`);
          else print(`Strict mode: Offset ${report.offset} block status mismatch!`);
          return report.identical ? 0 : 1;
        }),
      ),
    );
  },
};
