import { dirname } from "node:path";
import { ParavaneError } from "../../../core/error.ts";
import { checkImage, type ImageCheck, type ImageRepair, repairImage } from "../../../host/image/check.ts";
import { FileStore } from "../../../host/store/file.ts";
import { imageFile } from "../../../node/bundle.ts";
import { allowFolders } from "../../../node/gate.ts";
import { UsageError } from "../../usage.ts";
import { type ImgVerb, interruptible } from "./command.ts";
import { ourFormat, qemuFormat } from "./names.ts";
import { notOpened } from "./open.ts";
import { ALLOW, lastOf, OUTPUT, QUIET, SHARE, SOURCE_CACHE, wantsJson } from "./options.ts";

/** As qemu-img ends: all is well or was mended, corruptions are left, only leaks are, the format has no check. */
const Exit = { Clean: 0, Corrupt: 2, Leaks: 3, Unsupported: 63 } as const;

export const check: ImgVerb = {
  name: "check",
  summary: "follows all of an image's metadata, and mends it",
  usage: "[-f FMT] [-r leaks|all] [--output human|json] FILE",
  description: [
    "Reads only, unless -r says what to mend. What was found goes to standard error, a line each. Exit code 0: nothing is",
    "wrong (any more); 1: the check could not be made; 2: something is corrupt; 3: space is leaked, and nothing else is",
    "wrong; 63: the format has nothing to check.",
  ].join("\n"),
  options: [
    { short: "f", long: "format", value: "FMT", help: "the image's format (default: by its content)" },
    { short: "r", long: "repair", value: "leaks|all", help: "give leaked space back; all: also mend what can be" },
    OUTPUT,
    QUIET,
    SOURCE_CACHE,
    ALLOW,
    SHARE,
  ],
  examples: [
    ["paravane img check disk.qcow2", "is it sound?"],
    ["paravane img check -r all disk.qcow2", "mend it; make a copy first"],
  ],
  imageOpts: ["format"],

  async run(given, ui) {
    const [file, ...more] = given.rest;
    if (file === undefined || more.length > 0) throw new UsageError("give one image; see: paravane img check --help");
    const json = wantsJson(given);
    const what = lastOf(given, "repair");
    if (what !== undefined && what !== "leaks" && what !== "all") {
      throw new UsageError(`-r takes leaks or all, not "${what}"`);
    }
    const name = lastOf(given, "format");
    const quiet = given.flags.has("q");
    const member = given.members?.get(file);
    const options = {
      ...(name !== undefined && { format: ourFormat(name) }),
      ...(member !== undefined && { member }),
    };
    const path = imageFile(file);
    const gate = allowFolders([dirname(path), ...(given.values.get("allow") ?? [])]);
    const store = open(path, what === undefined);
    try {
      return await interruptible(ui, `${file} is as it was, or as after a power cut`, async (signal) => {
        let report: ImageCheck;
        let repaired: ImageRepair | undefined;
        if (what === undefined) report = await checkImage(store, { ...options, gate, signal });
        else {
          try {
            report = repaired = await repairImage(store, what, { ...options, gate, signal });
          } catch (thrown) {
            if (!(thrown instanceof ParavaneError && thrown.code === "CORRUPT")) throw thrown;
            // What is beyond repair is reported like all else.
            report = await checkImage(store, { ...options, gate, signal });
            ui.note(thrown.describe());
          }
        }
        if (!quiet) for (const problem of report.problems) ui.note(said(problem));
        if (json) ui.out(JSON.stringify(jsonOf(file, report, repaired), null, 4));
        else if (!quiet) ui.out(human(report, repaired));
        return report.corruptions > 0 ? Exit.Corrupt : report.leaks > 0 ? Exit.Leaks : Exit.Clean;
      });
    } catch (thrown) {
      if (!(thrown instanceof ParavaneError)) throw thrown;
      if (thrown.code === "ABORTED") throw thrown;
      const none = thrown.code === "UNSUPPORTED" && /nothing to (check|repair)$/.test(thrown.message);
      if (!none) throw notOpened(file, thrown);
      ui.note("This image format does not support checks");
      return Exit.Unsupported;
    } finally {
      store.close();
    }
  },
};

function open(file: string, readOnly: boolean): FileStore {
  try {
    return new FileStore(file, { readOnly });
  } catch (thrown) {
    throw notOpened(file, thrown);
  }
}

function said({ kind, structure, offset, message }: ImageCheck["problems"][number]): string {
  return `${kind === "leak" ? "Leaked" : "ERROR"}: the ${structure} at byte ${offset} ${message}`;
}

/** qemu-img's fields: those that are 0 are left out. */
function jsonOf(file: string, report: ImageCheck, repaired: ImageRepair | undefined) {
  const numbers = {
    "image-end-offset": report.imageEndOffset,
    "total-clusters": report.totalClusters,
    "allocated-clusters": report.allocatedClusters,
    "fragmented-clusters": report.fragmentedClusters ?? 0,
    "compressed-clusters": report.compressedClusters,
    corruptions: report.corruptions,
    leaks: report.leaks,
    "corruptions-fixed": repaired?.corruptionsFixed ?? 0,
    "leaks-fixed": repaired?.leaksFixed ?? 0,
  };
  return {
    ...Object.fromEntries(Object.entries(numbers).filter(([, value]) => value !== 0)),
    "check-errors": 0,
    filename: file,
    format: qemuFormat(report.format),
  };
}

function human(report: ImageCheck, repaired: ImageRepair | undefined): string {
  const { leaks, corruptions, totalClusters: total, imageEndOffset } = report;
  const lines: string[] = [];
  if (repaired && repaired.leaksFixed + repaired.corruptionsFixed > 0) {
    lines.push(
      "The following inconsistencies were found and repaired:",
      "",
      `    ${repaired.leaksFixed} leaked clusters`,
      `    ${repaired.corruptionsFixed} corruptions`,
      "",
      "Double checking the fixed image now...",
    );
  }
  if (corruptions > 0) {
    lines.push(
      "",
      `${corruptions} errors were found on the image.`,
      "Data may be corrupted, or further writes to the image may corrupt it.",
    );
  }
  if (leaks > 0) {
    lines.push(
      "",
      `${leaks} leaked clusters were found on the image.`,
      "This means waste of disk space, but no harm to data.",
    );
  }
  if (corruptions + leaks === 0) lines.push("No errors were found on the image.");
  if (total > 0 && report.allocatedClusters > 0) {
    const percent = (part: number, whole: number) => (whole === 0 ? 0 : (100 * part) / whole).toFixed(2);
    const allocated = report.allocatedClusters;
    lines.push(
      `${allocated}/${total} = ${percent(allocated, total)}% allocated, ` +
        `${percent(report.fragmentedClusters ?? 0, allocated)}% fragmented, ` +
        `${percent(report.compressedClusters, allocated)}% compressed clusters`,
    );
  }
  if (imageEndOffset > 0) lines.push(`Image end offset: ${imageEndOffset}`);
  return lines.join("\n");
}
