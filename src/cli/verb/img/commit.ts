import { existsSync } from "node:fs";
import { ParavaneError } from "../../../core/error.ts";
import type { Disk } from "../../../host/block/open.ts";
import { commitDisk } from "../../../host/image/commit.ts";
import { engineOf, parentsOf } from "../../../host/image/whole.ts";
import { UsageError } from "../../usage.ts";
import { type ImgVerb, interruptible, progressOf } from "./command.ts";
import { sameFile } from "./files.ts";
import { openingOf, openNamed, withDisk } from "./open.ts";
import { ALLOW, CACHE, cacheOf, lastOf, PROGRESS, QUIET, sizeOf } from "./options.ts";
import { parentPath } from "./parent.ts";

export const commit: ImgVerb = {
  name: "commit",
  summary: "writes an image's data down into its parent",
  usage: "[-f FMT] [-b BASE] [-d] [-r RATE] [-p] FILE",
  description: [
    "The parent grows where it must. The image is emptied last, when the parent has all of its data for good: after a failure",
    "or Ctrl-C it reads as before, and the commit can be made again. Other images based on that parent are not right any more.",
  ].join("\n"),
  options: [
    { short: "f", value: "FMT", help: "the image's format (default: by its content)" },
    {
      short: "b",
      value: "BASE",
      help: "the parent further down that takes the data, also of those between; implies -d",
    },
    { short: "d", help: "leaves the image as it is, for who is going to delete it" },
    { short: "r", value: "RATE", help: "bytes moved a second, at most" },
    CACHE,
    PROGRESS,
    QUIET,
    ALLOW,
  ],
  examples: [
    ["paravane img commit -p changes.qcow2", "its parent takes the changes; changes.qcow2 is empty"],
    ["paravane img commit -b root.qcow2 top.qcow2", "everything above root.qcow2 goes into it"],
  ],
  imageOpts: ["f"],

  async run(given, ui) {
    const [file, ...more] = given.rest;
    if (file === undefined || more.length > 0) throw new UsageError("give one image; see: paravane img commit --help");
    cacheOf(given, "t");
    const named = lastOf(given, "b");
    const base = named === undefined || existsSync(named) ? named : parentPath(file, named);
    const rate = lastOf(given, "r");
    const options = { ...openingOf(given), write: true, async: true, committing: base ?? (true as const) };
    return interruptible(ui, `${file} reads as before; commit it again to finish`, (signal) =>
      withDisk(openNamed(file, options), async (disk) => {
        const target = base === undefined ? undefined : parentIn(disk, file, base);
        await commitDisk(disk, {
          keep: given.flags.has("d") || base !== undefined,
          ...(target && { base: target }),
          ...(rate !== undefined && { rate: sizeOf(rate, "-r") }),
          signal,
          onProgress: progressOf(given, ui, "commit") ?? (() => {}),
        });
        if (!given.flags.has("q")) ui.out("Image committed.");
        return 0;
      }),
    );
  },
};

function parentIn(disk: Disk, file: string, base: string): Disk {
  for (const block of parentsOf(disk)) if (sameFile(engineOf(block as Disk).store.name, base)) return block as Disk;
  throw new ParavaneError("NOT_FOUND", `Did not find '${base}' in the backing chain of '${file}'`);
}
