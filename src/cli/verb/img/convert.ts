import { randomUUID } from "node:crypto";
import { renameSync, rmSync } from "node:fs";
import { createDisk } from "../../../host/block/open.ts";
import { copyDisk } from "../../../host/image/copy.ts";
import { FileStore } from "../../../host/store/file.ts";
import { UsageError } from "../../usage.ts";
import { type ImgVerb, interruptible, progressOf } from "./command.ts";
import { openImage, sameFile } from "./files.ts";
import { formatOptions, ourFormat } from "./names.ts";
import { CACHE, lastOf, PROGRESS, QUIET, SHARE, SOURCE_CACHE, sizeOf } from "./options.ts";

export const convert: ImgVerb = {
  name: "convert",
  summary: "the same disk in another format",
  usage: "[-f FMT] [-O FMT] [-o OPTIONS] [-S SIZE] [-p] SOURCE TARGET",
  description: [
    "The source is only read. The target appears, and replaces an existing file, once it is whole; after a failure or Ctrl-C",
    "there is none, or the one there was before. What a source does not store is not read, and zeros are not written.",
  ].join("\n"),
  options: [
    { short: "f", value: "FMT", help: "the source's format (default: by its content)" },
    { short: "O", value: "FMT", help: "the target's: raw (default), vpc, vhdx or qcow2" },
    { short: "o", value: "OPTIONS", help: "the target format's options, as for create" },
    { short: "S", value: "SIZE", help: "runs of zeros this long are left out (default 4k; 0: everything is written)" },
    { short: "m", value: "N", help: "accepted" },
    { short: "W", help: "accepted" },
    PROGRESS,
    QUIET,
    CACHE,
    SOURCE_CACHE,
    SHARE,
  ],
  examples: [["paravane img convert -p -O qcow2 disk.vhd disk.qcow2", "a VHD as qcow2, with progress"]],

  async run(given, ui) {
    const [from, to, ...more] = given.rest;
    if (to === undefined || more.length > 0) {
      throw new UsageError("give one source and one target; see: paravane img convert --help");
    }
    if (sameFile(from, to)) throw new UsageError("source and target are the same file");
    const format = ourFormat(lastOf(given, "O") ?? "raw");
    const options = formatOptions(format, given.values.get("o") ?? []);
    const sparse = sizeOf(lastOf(given, "S") ?? "4k", "-S");
    if (options.backingFile !== undefined) throw new UsageError("a target with a parent cannot be made here yet");
    const source = await openImage(from, { format: lastOf(given, "f"), async: true });
    const partial = `${to}.${randomUUID().slice(0, 8)}.partial`;
    try {
      return await interruptible(ui, `${from} is unchanged, and no ${to} was made`, async (signal) => {
        const store = new FileStore(partial, { create: true, async: true, durable: false });
        try {
          const target = await createDisk(store, { size: source.size, ...options, format, signal });
          try {
            await copyDisk(source, target, {
              fresh: true,
              sparse,
              signal,
              onProgress: progressOf(given, ui, "convert"),
            });
          } finally {
            await target.close();
          }
          renameSync(partial, to);
          return 0;
        } finally {
          store.close();
          rmSync(partial, { force: true });
        }
      });
    } finally {
      await source.close();
    }
  },
};
