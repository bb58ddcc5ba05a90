import { createFile } from "../../../node.ts";
import { UsageError } from "../../usage.ts";
import type { ImgVerb } from "./command.ts";
import { formatOptions, ourFormat } from "./names.ts";
import { lastOf, QUIET, sizeOf } from "./options.ts";

export const create: ImgVerb = {
  name: "create",
  summary: "a new, empty image",
  usage: "[-f FMT] [-o OPTIONS] FILE SIZE",
  description:
    "An existing file is replaced, once the new image is whole. Sizes take k, M, G, T, P or E (powers of 1024).",
  options: [
    { short: "f", value: "FMT", help: "raw (default), vpc, vhdx or qcow2" },
    { short: "o", value: "OPTIONS", help: "the format's options, such as subformat=fixed or cluster_size=128k" },
    QUIET,
  ],
  examples: [
    ["paravane img create -f qcow2 -o cluster_size=128k disk.qcow2 20G", "an image that grows as it is written"],
  ],

  async run(given, ui) {
    const [file, text, ...more] = given.rest;
    if (file === undefined || more.length > 0)
      throw new UsageError("give a file and a size; see: paravane img create --help");
    const format = ourFormat(lastOf(given, "f") ?? "raw");
    const options = formatOptions(format, given.values.get("o") ?? []);
    if (options.backingFile !== undefined) throw new UsageError("images with a parent cannot be created here yet");
    const size = text === undefined ? (options.size as number | undefined) : sizeOf(text, "size");
    if (size === undefined) throw new UsageError(`${file}: a new image needs a size`);
    const disk = await createFile(file, { ...options, format, size, overwrite: true });
    await disk.close();
    if (!given.flags.has("q")) ui.out(`Created '${file}': ${lastOf(given, "f") ?? "raw"}, ${disk.size} bytes`);
    return 0;
  },
};
