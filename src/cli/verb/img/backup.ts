import { existsSync } from "node:fs";
import { ParavaneError } from "../../../core/error.ts";
import type { Disk } from "../../../host/block/open.ts";
import { backupDisk } from "../../../host/image/backup.ts";
import { type BitmapAction, changeBitmaps, listBitmaps } from "../../../host/image/bitmap.ts";
import { copyDisk } from "../../../host/image/copy.ts";
import { UsageError } from "../../usage.ts";
import { type ImgVerb, interruptible, progressOf } from "./command.ts";
import { sameFile } from "./files.ts";
import { ourFormat } from "./names.ts";
import { openingOf, openNamed, withDisk } from "./open.ts";
import { ALLOW, type Given, lastOf, PROGRESS, QUIET, sizeOf } from "./options.ts";
import { checkParentFormat, givenParent, newParent, openParent } from "./parent.ts";
import { makeTarget } from "./target.ts";

export const backup: ImgVerb = {
  name: "backup",
  summary: "full and incremental backups of a qcow2 image, by a dirty bitmap",
  usage: "--bitmap NAME [-f FMT] [-O FMT] [-b PREVIOUS -F FMT | -n] [--keep] SOURCE TARGET",
  description: [
    "Without -b or -n TARGET is a full copy, and BITMAP notes what changes from now on; it is added when there is none. With",
    "-b only what changed since goes into TARGET, a new image over PREVIOUS, the backup before; with -n, into TARGET, which is",
    "that backup. The bitmap is cleared last, once the backup is whole and durable: whatever fails, the next backup has it all.",
  ].join("\n"),
  options: [
    { long: "bitmap", value: "NAME", help: "the bitmap of what changed since the last backup" },
    { short: "b", value: "PREVIOUS", help: "an incremental backup: TARGET is based on this one" },
    { short: "F", value: "FMT", help: "PREVIOUS's format" },
    { short: "n", help: "an incremental backup into TARGET, which is the one before" },
    { long: "keep", help: "leave the bitmap as it is: the next backup has the same, and more" },
    { short: "f", value: "FMT", help: "the source's format (default: by its content)" },
    { short: "O", value: "FMT", help: "the target's: qcow2 (default), or another; with -n default: by its content" },
    { short: "r", value: "RATE", help: "bytes moved a second, at most" },
    PROGRESS,
    QUIET,
    ALLOW,
  ],
  examples: [
    ["paravane img backup --bitmap daily disk.qcow2 sunday.qcow2", "a full backup, and note what changes"],
    [
      "paravane img backup --bitmap daily -b sunday.qcow2 -F qcow2 disk.qcow2 monday.qcow2",
      "what changed since; monday.qcow2 reads as the whole disk",
    ],
  ],

  async run(given, ui) {
    const [from, to, ...more] = given.rest;
    if (to === undefined || more.length > 0)
      throw new UsageError("give a source and a target; see: paravane img backup --help");
    if (sameFile(from, to)) throw new UsageError("source and target are the same file");
    const name = lastOf(given, "bitmap");
    if (name === undefined) throw new UsageError("say which bitmap with --bitmap");
    const previous = lastOf(given, "b");
    const onto = given.flags.has("n");
    if (previous !== undefined && onto) throw new UsageError("-b makes a new image, and -n none: give one of them");
    if (previous === undefined && given.values.has("F")) throw new UsageError("-F only supported with -b");
    const full = previous === undefined && !onto;
    if (!onto && existsSync(to)) {
      throw new ParavaneError(
        "EXISTS",
        `${to} exists`,
        { file: to },
        { hint: "Choose another name, or write onto it with -n" },
      );
    }
    const left = onto ? `${to} is partly written; back up again to finish` : `no ${to} was made`;
    return interruptible(ui, `${from} and its bitmap are unchanged, ${left}`, (signal) =>
      withDisk(openNamed(from, { ...openingOf(given), write: true }), async (source) => {
        const known = listBitmaps(source).find((bitmap) => bitmap.name === name);
        if (!known && !full) {
          const hint = "Begin with a full backup, without -b or -n: it adds the bitmap";
          throw new ParavaneError("NOT_FOUND", `Dirty bitmap '${name}' not found`, { file: from }, { hint });
        }
        if (known?.inconsistent && !full) {
          const hint = "Make a full backup: it begins the bitmap anew";
          throw new ParavaneError(
            "CORRUPT",
            `Bitmap '${name}' is inconsistent and cannot be used`,
            { file: from },
            { hint },
          );
        }
        const rate = lastOf(given, "r");
        const task = {
          signal,
          ...(rate !== undefined && { rate: sizeOf(rate, "-r") }),
          onProgress: progressOf(given, ui, "backup") ?? (() => {}),
        };
        const fill = async (target: Disk) => {
          if (target.size < source.size) throw new UsageError("the target is smaller than the source");
          if (full) await copyDisk(source, target, { ...task, fresh: true });
          else await backupDisk(source, target, { ...task, bitmap: name });
        };
        if (onto) {
          const O = lastOf(given, "O");
          const open = { ...(O !== undefined && { format: O }), allow: given.values.get("allow"), write: true };
          await withDisk(openNamed(to, open), async (target) => {
            if (target.size < source.size) await target.resize(source.size);
            await fill(target);
          });
        } else await makeBackup(given, to, previous, source, fill, signal);
        const changes = changesAfter(name, known, full, given.flags.has("keep"));
        if (changes.length > 0) await changeBitmaps(source, changes);
        if (!given.flags.has("q")) ui.out(full ? "Full backup complete." : "Incremental backup complete.");
        return 0;
      }),
    );
  },
};

async function makeBackup(
  given: Given,
  to: string,
  previous: string | undefined,
  source: Disk,
  fill: (target: Disk) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const O = lastOf(given, "O") ?? "qcow2";
  const parent = previous === undefined ? undefined : givenParent(given, previous, lastOf(given, "F"));
  if (parent) checkParentFormat(to, O);
  const below = parent && (await openParent(to, parent));
  try {
    const format = ourFormat(O);
    const target = { path: to, format, size: source.size, options: {}, durable: true, signal };
    const over = parent && { parent: newParent(to, parent, below), openParent: () => openParent(to, parent) };
    await makeTarget({ ...target, ...over }, fill);
  } finally {
    await below?.close();
  }
}

/** What becomes of the bitmap once the backup is there. */
function changesAfter(
  name: string,
  known: { inconsistent: boolean; recording: boolean } | undefined,
  full: boolean,
  keep: boolean,
): BitmapAction[] {
  if (!known) return [{ do: "add", name }];
  if (known.inconsistent)
    return [
      { do: "remove", name },
      { do: "add", name },
    ];
  if (keep) return [];
  return full && !known.recording
    ? [
        { do: "clear", name },
        { do: "enable", name },
      ]
    : [{ do: "clear", name }];
}
