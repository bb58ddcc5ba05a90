import { existsSync } from "node:fs";
import { ParavaneError } from "../../../core/error.ts";
import type { NewParent } from "../../../core/format.ts";
import type { Disk } from "../../../host/block/open.ts";
import { rebaseDisk } from "../../../host/image/rebase.ts";
import { UsageError } from "../../usage.ts";
import { type ImgVerb, interruptible, progressOf } from "./command.ts";
import { openImage } from "./files.ts";
import { ourFormat, qemuFormat } from "./names.ts";
import { openingOf, openNamed, withDisk } from "./open.ts";
import { ALLOW, CACHE, cacheOf, lastOf, PROGRESS, QUIET, SHARE, SOURCE_CACHE } from "./options.ts";
import { type GivenParent, givenParent, newParent, openParent, parentPath } from "./parent.ts";

export const rebase: ImgVerb = {
  name: "rebase",
  summary: "puts an image over another parent",
  usage: "[-f FMT] -b PARENT [-F FMT] [-u] [-p] FILE",
  description: [
    "The image reads the same afterwards: what differs between the old parent and the new is copied into it first, and only",
    "then the parent's name changes. With -b \"\" it holds everything itself. PARENT is looked for from the image's folder.",
    "After a failure or Ctrl-C the image is whole, over the old parent.",
  ].join("\n"),
  options: [
    { short: "b", value: "PARENT", help: 'the new parent, or ""' },
    { short: "F", value: "FMT", help: "its format; as with qemu-img, it is to be said" },
    { short: "u", help: "only changes the name: for a parent that was moved. Neither parent is read" },
    { short: "f", value: "FMT", help: "the image's format (default: by its content)" },
    CACHE,
    SOURCE_CACHE,
    PROGRESS,
    QUIET,
    SHARE,
    ALLOW,
  ],
  examples: [
    ["paravane img rebase -b base2.qcow2 -F qcow2 disk.qcow2", "disk.qcow2 reads the same over base2.qcow2"],
    ["paravane img rebase -u -b new/base.raw -F raw disk.qcow2", "the base was moved"],
  ],
  imageOpts: ["f"],

  async run(given, ui) {
    const [file, ...more] = given.rest;
    if (file === undefined || more.length > 0) throw new UsageError("give one image; see: paravane img rebase --help");
    cacheOf(given, "t");
    cacheOf(given, "T");
    const name = lastOf(given, "b");
    const unsafe = given.flags.has("u");
    if (name === undefined && !unsafe) throw new UsageError('say which parent with -b, "" for none, or give -u');
    const options = { ...openingOf(given), write: true, async: true, alone: unsafe };
    return interruptible(ui, `${file} reads as before, over its old parent`, (signal) =>
      withDisk(openNamed(file, options), async (disk) => {
        const parent = name ? givenParent(given, name, lastOf(given, "F")) : undefined;
        const backing = parent && (await newBacking(file, parent, unsafe, disk));
        const note = parent && noteOf(file, parent, backing);
        const onProgress = progressOf(given, ui, "rebase") ?? (() => {});
        try {
          await rebaseDisk(disk, {
            unsafe,
            ...(backing && { backing }),
            ...(note && { parent: note }),
            signal,
            onProgress,
          });
        } catch (thrown) {
          if (backing && disk.backing !== backing) await backing.close();
          throw thrown;
        }
        return 0;
      }),
    );
  },
};

/** The new parent, open; with -u by itself, and only where its format or identity is needed. */
async function newBacking(file: string, parent: GivenParent, unsafe: boolean, disk: Disk): Promise<Disk | undefined> {
  if (!unsafe) {
    // A differencing VHD's parent is a VHD, and VHDX's a VHDX: nothing is guessed there.
    const own = disk.format === "qcow2" ? undefined : qemuFormat(disk.format);
    return openParent(file, { ...parent, format: parent.format ?? own });
  }
  const path = parentPath(file, parent.name);
  if (disk.format === "qcow2" && (parent.format !== undefined || !existsSync(path))) return undefined;
  return openImage(path, { ...(parent.format !== undefined && { format: parent.format }), alone: true, locked: true });
}

function noteOf(file: string, { name, format }: GivenParent, backing: Disk | undefined): NewParent {
  const found = format ?? (backing && qemuFormat(backing.format));
  if (found === undefined || (format === undefined && backing?.format === "raw")) {
    throw new ParavaneError(
      "INVALID",
      `Could not change the backing file to '${name}': backing format must be specified`,
      { file },
      { hint: "Say it with -F; raw is never guessed" },
    );
  }
  return newParent(file, { name, format: ourFormat(found) }, backing);
}
