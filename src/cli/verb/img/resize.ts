import { resizeDisk } from "../../../host/image/resize.ts";
import { UsageError } from "../../usage.ts";
import { type ImgVerb, interruptible } from "./command.ts";
import { openingOf, openNamed, withDisk } from "./open.ts";
import { ALLOW, lastOf, QUIET, sizeOf } from "./options.ts";

/** What is asked for, and what is done: room on the host is got by writing. */
const MODES: Record<string, "off" | "metadata" | "full"> = {
  off: "off",
  metadata: "metadata",
  falloc: "full",
  full: "full",
};

export const resize: ImgVerb = {
  name: "resize",
  summary: "makes a disk larger or smaller",
  usage: "[-f FMT] [--shrink] [--preallocation off|metadata|falloc|full] FILE [+|-]SIZE",
  description: [
    "With + or - the size is changed by that much. New space is zeros; partitions and file systems stay as they are. What",
    "is past the end of a smaller disk is lost, so that needs --shrink.",
  ].join("\n"),
  options: [
    { short: "f", value: "FMT", help: "the image's format (default: by its content)" },
    { long: "shrink", help: "the disk may become smaller" },
    {
      long: "preallocation",
      value: "MODE",
      help: "off (default); full or falloc: new space is written at once;\nmetadata: it only gets places in the image (qcow2)",
    },
    QUIET,
    ALLOW,
  ],
  examples: [
    ["paravane img resize disk.vhdx +10G", "10 GiB more"],
    ["paravane img resize --shrink disk.qcow2 8G", "shrink the partitions inside first"],
  ],
  imageOpts: ["f"],
  images: () => 1,

  async run(given, ui) {
    const [file, text, ...more] = given.rest;
    if (file === undefined || text === undefined || more.length > 0) {
      throw new UsageError("give an image and a size; see: paravane img resize --help");
    }
    const sign = /^[+-]/.test(text) ? text[0] : "";
    const amount = sizeOf(text.slice(sign.length), "size");
    const mode = lastOf(given, "preallocation") ?? "off";
    if (!Object.hasOwn(MODES, mode)) throw new UsageError(`Invalid preallocation mode '${mode}'`);
    // With its parent: what is new must not show that one's bytes.
    const options = { ...openingOf(given), write: true };
    return interruptible(ui, `${file} has its old size or the new one`, (signal) =>
      withDisk(openNamed(file, options), async (disk) => {
        const size = sign === "+" ? disk.size + amount : sign === "-" ? disk.size - amount : amount;
        if (size <= 0) throw new UsageError("New image size must be positive");
        const shrink = given.flags.has("shrink");
        if (size < disk.size && mode !== "off") {
          throw new UsageError("Preallocation can only be used for growing images");
        }
        if (size < disk.size && !shrink) {
          throw new UsageError(
            "Use the --shrink option to perform a shrink operation: " +
              "it deletes all data beyond the shrunken image's end",
          );
        }
        await resizeDisk(disk, size, { shrink, preallocation: MODES[mode], signal });
        if (!given.flags.has("q")) ui.out("Image resized.");
        return 0;
      }),
    );
  },
};
