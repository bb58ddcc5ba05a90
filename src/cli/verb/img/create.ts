import { UsageError } from "../../usage.ts";
import type { ImgVerb } from "./command.ts";
import { encrypted } from "./encrypt.ts";
import { formattingLine } from "./formatting.ts";
import { checkMade, formatOptions, optionHelp, ourFormat } from "./names.ts";
import { lastOf, QUIET, sizeOf } from "./options.ts";
import { checkParentFormat, type GivenParent, givenParent, newParent, openParent } from "./parent.ts";
import { Secrets } from "./secrets.ts";
import { makeTarget } from "./target.ts";

export const create: ImgVerb = {
  name: "create",
  summary: "a new, empty image",
  usage: "[-f FMT] [-o OPTIONS] [-b PARENT -F FMT] FILE [SIZE]",
  description: [
    "An existing file is replaced, once the new image is whole. Sizes take k, M, G, T, P or E (powers of 1024). With -b the",
    "image holds only what differs from its parent, whose size it takes when none is given; the parent's name is written",
    "into the image as it is, and relative ones are looked for from the image's own folder.",
  ].join("\n"),
  options: [
    { short: "f", value: "FMT", help: "raw (default), vpc, vhdx, vdi, vmdk, parallels, luks or qcow2" },
    { short: "o", value: "OPTIONS", help: "the format's options, such as subformat=fixed; -o help lists them" },
    { short: "b", value: "PARENT", help: "the image that it is based on" },
    { short: "F", value: "FMT", help: "the parent's format" },
    { short: "u", help: "do not open the parent: it may be missing" },
    QUIET,
  ],
  examples: [
    ["paravane img create -f qcow2 -o cluster_size=128k disk.qcow2 20G", "an image that grows as it is written"],
    ["paravane img create -f qcow2 -b base.qcow2 -F qcow2 child.qcow2", "changes go to child.qcow2, base.qcow2 stays"],
  ],

  async run(given, ui) {
    const [file, text, ...more] = given.rest;
    const name = lastOf(given, "f") ?? "raw";
    const format = ourFormat(name);
    const lists = given.values.get("o") ?? [];
    if (lists.some((list) => list === "help" || list === "?")) {
      ui.out(optionHelp(format));
      return 0;
    }
    if (file === undefined || more.length > 0)
      throw new UsageError("give a file and a size; see: paravane img create --help");
    checkMade(format);
    const { size: optionSize, backingFile, backingFormat, ...options } = formatOptions(format, lists);
    const backing = lastOf(given, "b") ?? (backingFile as string | undefined);
    const parent: GivenParent | undefined =
      backing === undefined
        ? undefined
        : givenParent(given, backing, lastOf(given, "F") ?? (backingFormat as string | undefined));
    if (!parent && (given.values.has("F") || backingFormat !== undefined)) {
      throw new UsageError(`${file}: a backing format (-F) without a backing file (-b)`);
    }
    if (parent) checkParentFormat(file, name);
    if (text !== undefined && optionSize !== undefined) {
      throw new UsageError(`${file}: The image size must be specified only once`);
    }
    const made = encrypted(format, options, new Secrets(given));
    let size = text === undefined ? (optionSize as number | undefined) : sizeOf(text, "size");
    const disk = parent && !given.flags.has("u") ? await openParent(file, parent, true) : undefined;
    try {
      size ??= disk?.size;
      if (size === undefined) throw new UsageError(`${file}: Image creation needs a size parameter`);
      if (!given.flags.has("q")) ui.out(formattingLine(file, format, { size, parent, options }));
      await makeTarget({
        path: file,
        format,
        size,
        options: made,
        parent: parent && newParent(file, parent, disk),
        durable: true,
      });
    } finally {
      await disk?.close();
    }
    return 0;
  },
};
