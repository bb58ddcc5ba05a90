import { ParavaneError } from "../../../core/error.ts";
import { amendDisk } from "../../../host/image/amend.ts";
import { rebaseDisk } from "../../../host/image/rebase.ts";
import { UsageError } from "../../usage.ts";
import { type ImgVerb, interruptible } from "./command.ts";
import { changeKeys, KEY_OPTIONS, keyChange } from "./key-slots.ts";
import { formatOptions, optionHelp, ourFormat, qemuFormat, qemuOption } from "./names.ts";
import { openingOf, openNamed, withDisk } from "./open.ts";
import { ALLOW, CACHE, cacheOf, lastOf, PROGRESS, QUIET } from "./options.ts";
import { newParent } from "./parent.ts";
import { Secrets } from "./secrets.ts";

export const amend: ImgVerb = {
  name: "amend",
  summary: "changes options that an image was made with",
  usage: "[-f FMT] -o OPTIONS FILE",
  description: [
    "Of qcow2 images: compat, lazy_refcounts, refcount_bits, size, and backing_file with backing_fmt (only the name, as",
    "rebase -u does). An option that has that value already is accepted. Of encrypted images, the passphrases: to add one,",
    "encrypt.state=active,encrypt.new-secret=ID, and what opens the image already by --passphrase-file, --image-opts or",
    "encrypt.key-secret=ID; to erase, encrypt.state=inactive with encrypt.old-secret=ID, for all slots that it opens, or with",
    "encrypt.keyslot=N. LUKS images take the same names without encrypt.",
  ].join("\n"),
  options: [
    { short: "o", value: "OPTIONS", help: "what to change, as name=value,...; -o help lists them" },
    { short: "f", value: "FMT", help: "the image's format (default: by its content)" },
    { long: "force", help: "also takes a key slot in use, or erases the last one, and with it all of the data" },
    CACHE,
    PROGRESS,
    QUIET,
    ALLOW,
  ],
  examples: [["paravane img amend -o compat=1.1,lazy_refcounts=on disk.qcow2", "a version 2 image becomes version 3"]],
  imageOpts: ["f"],

  async run(given, ui) {
    const lists = given.values.get("o") ?? [];
    if (lists.length === 0) throw new UsageError("Must specify options (-o)");
    if (lists.some((list) => list === "help" || list === "?")) {
      ui.out(amendHelp(ourFormat(lastOf(given, "f") ?? "qcow2")));
      return 0;
    }
    const [file, ...more] = given.rest;
    if (file === undefined || more.length > 0) throw new UsageError("Expecting one image file name");
    cacheOf(given, "t");
    const keys = keyChange(lists);
    const opening = openingOf(given);
    if (keys) {
      const locked = { ...opening, write: true, alone: true, locked: true };
      return withDisk(openNamed(file, locked), async (disk) => {
        await changeKeys(disk, keys, new Secrets(given), opening.passphraseFor?.(file), given.flags.has("force"));
        return 0;
      });
    }
    return interruptible(ui, `${file} has its old options or the new ones`, () =>
      withDisk(openNamed(file, { ...openingOf(given), write: true, alone: true }), async (disk) => {
        if (disk.format !== "qcow2") {
          throw notAmended(disk.format);
        }
        const { size, backingFile, backingFormat, ...asked } = formatOptions(disk.format, lists);
        const options = changed({ ...asked, ...(size !== undefined && { size }) }, disk.describe());
        const fixed = Object.keys(options).find((name) => !AMENDABLE.includes(name));
        if (fixed !== undefined) {
          throw new UsageError(`the option "${qemuOption(disk.format, fixed)}" is only for new images: ${file}`);
        }
        await amendDisk(disk, options);
        if (backingFile !== undefined || backingFormat !== undefined) {
          const name = (backingFile as string | undefined) ?? disk.parent?.paths[0];
          if (name === undefined)
            throw new ParavaneError("INVALID", "a backing format without a backing file", { file });
          const format = (backingFormat as string | undefined) ?? disk.parent?.format;
          await rebaseDisk(disk, {
            unsafe: true,
            ...(name !== "" && { parent: newParent(file, { name, format }, undefined) }),
          });
        }
        return 0;
      }),
    );
  },
};

/** Of qcow2 images, by our names. */
const AMENDABLE = ["compat", "refcountBits", "lazyRefcounts", "size"];

function amendHelp(format: string): string {
  if (format === "luks") return optionHelp(format, () => false, KEY_OPTIONS);
  if (format !== "qcow2") throw notAmended(format);
  const keys = Object.fromEntries(Object.entries(KEY_OPTIONS).map(([name, help]) => [`encrypt.${name}`, help]));
  return optionHelp(format, (ours) => [...AMENDABLE, "backingFile", "backingFormat"].includes(ours), keys);
}

function notAmended(format: string): UsageError {
  return new UsageError(`Format driver '${qemuFormat(format)}' does not support option amendment`);
}

/** What is not so already. */
function changed(asked: Record<string, unknown>, facts: Record<string, unknown>): Record<string, unknown> {
  const data = (facts.formatSpecific as { data: Record<string, unknown> }).data;
  const current: Record<string, unknown> = {
    clusterSize: facts.clusterSize,
    size: facts.size,
    compressionType: data["compression-type"],
    extendedL2: data["extended-l2"] ?? false,
    dataFile: data["data-file"],
    dataFileRaw: data["data-file-raw"] ?? false,
    preallocation: "off",
  };
  return Object.fromEntries(Object.entries(asked).filter(([name, value]) => current[name] !== value));
}
