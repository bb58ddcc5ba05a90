import type { Disk } from "../../../host/block/open.ts";
import { measureImage } from "../../../host/image/measure.ts";
import { UsageError } from "../../usage.ts";
import { type ImgVerb, interruptible } from "./command.ts";
import { encrypted } from "./encrypt.ts";
import { formatOptions, ourFormat } from "./names.ts";
import { openingOf, openNamed, withDisk } from "./open.ts";
import { ALLOW, lastOf, OUTPUT, SHARE, sizeOf, wantsJson } from "./options.ts";
import { SNAPSHOT, snapshotOption } from "./snapshots.ts";

export const measure: ImgVerb = {
  name: "measure",
  summary: "how large the file of a new image will be",
  usage: "[-O FMT] [-o OPTIONS] [-f FMT] [-l SNAPSHOT] [--output human|json] (FILE | --size SIZE)",
  description: [
    "For a conversion of FILE, or a new, empty disk of SIZE. Prints the bytes that are needed at first, and those when the",
    "guest has written all of the disk. Everything that FILE stores counts, also where it is zeros.",
  ].join("\n"),
  options: [
    {
      short: "O",
      value: "FMT",
      help: "the new format: raw (default), vpc, vhdx, vdi, vmdk, parallels, luks or qcow2",
    },
    { short: "o", value: "OPTIONS", help: "its options, as for create" },
    { short: "f", value: "FMT", help: "FILE's format (default: by its content)" },
    { short: "s", long: "size", value: "SIZE", help: "of a new disk" },
    SNAPSHOT,
    OUTPUT,
    ALLOW,
    SHARE,
  ],
  examples: [
    ["paravane img measure -O qcow2 disk.vhd", "how much space will the conversion take?"],
    ["paravane img measure -O vhdx --size 100G", "how large can it get?"],
  ],
  imageOpts: ["f"],

  async run(given, ui) {
    const [file, ...more] = given.rest;
    if (more.length > 0) throw new UsageError("At most one filename argument is allowed.");
    const json = wantsJson(given);
    const format = ourFormat(lastOf(given, "O") ?? "raw");
    const {
      size: optionSize,
      backingFile: _,
      backingFormat: __,
      ...asked
    } = formatOptions(format, given.values.get("o") ?? []);
    const options = encrypted(format, asked, null);
    const text = lastOf(given, "size");
    const size = text === undefined ? (optionSize as number | undefined) : sizeOf(text, "--size");
    if (file !== undefined && text !== undefined)
      throw new UsageError("--size N cannot be used together with a filename.");
    if (file === undefined && size === undefined)
      throw new UsageError("Either --size N or one filename must be specified.");
    const f = lastOf(given, "f");
    const print = async (source: number | Disk, signal?: AbortSignal) => {
      const { required, fullyAllocated, bitmaps } = await measureImage({
        ...options,
        format,
        source,
        ...(signal && { signal }),
      });
      if (json) {
        const fields = { bitmaps, required, "fully-allocated": fullyAllocated };
        ui.out(JSON.stringify(fields, null, 4));
      } else {
        ui.out(`required size: ${required}\nfully allocated size: ${fullyAllocated}`);
        if (bitmaps !== undefined) ui.out(`bitmaps size: ${bitmaps}`);
      }
      return 0;
    };
    if (file === undefined) return print(size!);
    return interruptible(ui, "nothing was changed", async (signal) => {
      const open = { ...openingOf(given), locked: true, ...(await snapshotOption(given, file, f)) };
      return withDisk(openNamed(file, open), (disk) => print(disk, signal));
    });
  },
};
