import { type Disk, formatNamed } from "../../../host/block/open.ts";
import { copyBitmaps, listBitmaps } from "../../../host/image/bitmap.ts";
import { packingOf } from "../../../host/image/pack.ts";
import { salvage } from "../../../host/image/salvage.ts";
import { UsageError } from "../../usage.ts";
import { type ImgVerb, interruptible, progressOf } from "./command.ts";
import { copyAll, depthOf, isEmptyOver, type Source } from "./convert-copy.ts";
import { encrypted } from "./encrypt.ts";
import { sameFile } from "./files.ts";
import { expandTargetOpts, TARGET_IMAGE_OPTS } from "./image-opts.ts";
import { checkMade, formatOptions, optionHelp, ourFormat, qemuFormat } from "./names.ts";
import { openingOf, openNamed, withDisk } from "./open.ts";
import { ALLOW, CACHE, cacheOf, type Given, lastOf, PROGRESS, QUIET, SHARE, SOURCE_CACHE, sizeOf } from "./options.ts";
import { checkParentFormat, type GivenParent, givenParent, newParent, openParent, parentPath } from "./parent.ts";
import { Secrets } from "./secrets.ts";
import { isWorthSharing, type ShareOrder, seenAs, shareCopy } from "./share.ts";
import { SNAPSHOT, snapshotOption } from "./snapshots.ts";
import { isDevice, makeTarget } from "./target.ts";

export const convert: ImgVerb = {
  name: "convert",
  summary: "the same disk in another format",
  usage: "[-f FMT] [-O FMT] [-o OPTIONS] [-c] [-n] [-B PARENT -F FMT] [-l SNAPSHOT] SOURCE... TARGET",
  description: [
    "The source is only read. The target appears, and replaces an existing file, once it is whole; after a failure or Ctrl-C",
    "there is none, or the one there was before. What a source does not store is not read, and zeros are not written.",
    "Several sources are put one after the other. With -B the target holds only what the source has and PARENT has not.",
  ].join("\n"),
  options: [
    { short: "f", value: "FMT", help: "the source's format (default: by its content)" },
    { short: "O", value: "FMT", help: "the target's: raw (default), vpc, vhdx, vdi, vmdk, parallels, luks or qcow2" },
    { short: "o", value: "OPTIONS", help: "the target format's options, as for create; -o help lists them" },
    { short: "c", help: "compress; on as many processors as there are" },
    { short: "n", help: "write into a target that exists" },
    TARGET_IMAGE_OPTS,
    { long: "target-is-zero", help: "with -n: the target reads as zeros, so that they need not be written" },
    { short: "B", value: "PARENT", help: "the target's parent; with -n: it has that already" },
    { short: "F", value: "FMT", help: "the parent's format" },
    SNAPSHOT,
    { short: "S", value: "SIZE", help: "runs of zeros this long are left out (default 4k; 0: everything is written)" },
    { long: "bitmaps", help: "also copies the source's dirty bitmaps" },
    { long: "skip-broken-bitmaps", help: "with --bitmaps: leaves out those that were not stored, instead of failing" },
    { short: "r", value: "RATE", help: "bytes moved a second, at most" },
    { long: "salvage", help: "what cannot be read becomes zeros, and is reported" },
    {
      short: "m",
      value: "N",
      help: "1: on one processor; 2 to 16 are accepted, as much is under way together as pays",
    },
    { short: "W", help: "accepted; makes no difference" },
    { short: "C", help: "accepted; makes no difference" },
    PROGRESS,
    QUIET,
    { ...CACHE, help: "the target's: unsafe (default) flushes nothing, all others when it is whole" },
    SOURCE_CACHE,
    ALLOW,
    SHARE,
  ],
  examples: [
    ["paravane img convert -p -O qcow2 disk.vhd disk.qcow2", "a VHD as qcow2, with progress"],
    ["paravane img convert -c -O qcow2 disk.vhdx small.qcow2", "compressed"],
    ["paravane img convert -l before-upgrade disk.qcow2 old.raw", "an internal snapshot as a disk of its own"],
  ],
  imageOpts: ["f"],
  images: (count) => count - 1,

  async run(named, ui) {
    const given = expandTargetOpts(named);
    const format = ourFormat(lastOf(given, "O") ?? "raw");
    if ((given.values.get("o") ?? []).some((list) => list === "help" || list === "?")) {
      ui.out(optionHelp(format));
      return 0;
    }
    const asked = read(given, format);
    const { files, to, parent, fresh } = asked;
    const existing = given.flags.has("n");
    const left = existing ? `${to} is partly written` : `${files[0]} is unchanged, and no ${to} was made`;
    return interruptible(ui, left, async (signal) => {
      const sources: Source[] = [];
      const opened: Disk[] = [];
      const shared = sharedBy(given, asked, format);
      // Where threads do the work there is nothing that this one should go on with while it reads or writes.
      const direct = shared !== undefined || given.flags.has("c");
      let parentDisk: Disk | undefined;
      try {
        const f = lastOf(given, "f");
        for (const file of files) {
          const snapshot = await snapshotOption(given, file, f);
          const source = await openNamed(file, { ...openingOf(given), ...snapshot, async: !direct });
          opened.push(source);
          const base = parent && depthOf(source, parentPath(to, parent.name));
          const onLoss = (offset: number, _: number, { message }: Error) => {
            if (!asked.quiet) ui.note(`warning: error while reading offset ${offset}: ${message}`);
          };
          const disk = given.flags.has("salvage") ? salvage(source, onLoss) : source;
          sources.push({ disk, ...(base !== undefined && { base }) });
        }
        if (asked.bitmaps) checkBitmaps(opened[0], asked.skipBroken);
        const size = sources.reduce((sum, { disk }) => sum + disk.size, 0);
        const onProgress = progressOf(given, ui, "convert");
        const fill = async (target: Disk, reads: boolean, file: string) => {
          if (target.size < size) throw new UsageError("output file is smaller than input file");
          const options = {
            fresh: reads,
            sparse: asked.sparse,
            compress: given.flags.has("c"),
            signal,
            ...(onProgress && { onProgress }),
            ...(asked.rate !== undefined && { rate: asked.rate }),
          };
          if (shared) {
            const order = { ...shared, target: file, size, fresh: reads, sparse: asked.sparse };
            await shareCopy(order, (parts) => copyAll(sources, target, { ...options, parts }));
          } else await copyAll(sources, target, options);
          if (!asked.bitmaps) return;
          for (const name of await copyBitmaps(opened[0], target, asked.skipBroken)) {
            ui.note(`warning: Skipping inconsistent bitmap '${name}'`);
          }
        };
        if (existing) {
          return await withDisk(openNamed(to, { ...openingOf(given, "O"), format, write: true }), async (target) => {
            if (given.flags.has("c")) packingOf(target);
            // What it holds of its own would show where nothing is copied.
            if (parent && !(await isEmptyOver(target, parentPath(to, parent.name))))
              for (const source of sources) delete source.base;
            await fill(target, fresh, to);
            return 0;
          });
        }
        if (parent) parentDisk = await openParent(to, parent);
        const made = {
          path: to,
          format,
          size: asked.size ?? size,
          options: encrypted(format, asked.options, new Secrets(given)),
          parent: parent && newParent(to, parent, parentDisk),
          // The disk that is filled closes it.
          openParent: parent && (() => openParent(to, parent)),
          durable: asked.durable,
          direct,
          signal,
        };
        const zeros = !parent && !isDevice(to) && !formatNamed(format).noise;
        await makeTarget(made, (target, file) => fill(target, zeros, file));
        return 0;
      } finally {
        await parentDisk?.close();
        for (const { disk } of sources) await disk.close();
      }
    });
  },
};

interface Asked {
  files: string[];
  to: string;
  options: Record<string, unknown>;
  size: number | undefined;
  parent: GivenParent | undefined;
  sparse: number;
  fresh: boolean;
  durable: boolean;
  quiet: boolean;
  bitmaps: boolean;
  skipBroken: boolean;
  rate: number | undefined;
}

/** For threads that help, which they do with one large source that goes into a raw file as it is: what they are to read. */
function sharedBy(
  given: Given,
  { files, to }: Asked,
  format: string,
): Pick<ShareOrder, "given" | "file" | "seen"> | undefined {
  const { flags, values } = given;
  const plain =
    !["n", "c", "salvage"].some((flag) => flags.has(flag)) && !["B", "r", "l"].some((name) => values.has(name));
  const [file] = files;
  if (format !== "raw" || !plain || files.length > 1 || isDevice(to) || lastOf(given, "m") === "1") return undefined;
  return isWorthSharing(given, file) ? { given, file, seen: seenAs(file) } : undefined;
}

/** Before any of it is written. */
function checkBitmaps(source: Disk, skipBroken: boolean): void {
  if (source.format !== "qcow2") throw new UsageError("Source lacks bitmap support");
  const broken = listBitmaps(source).find(({ inconsistent }) => inconsistent);
  if (!broken || skipBroken) return;
  throw new UsageError(
    `Cannot copy inconsistent bitmap '${broken.name}'. Try --skip-broken-bitmaps, or ` +
      "use 'paravane img bitmap --remove' to delete it",
  );
}

/** What was asked for, as far as it can be judged before any file is opened. @throws UsageError */
function read(given: Given, format: string): Asked {
  const files = [...given.rest];
  const to = files.pop();
  if (to === undefined || files.length === 0) {
    throw new UsageError("give a source and a target; see: paravane img convert --help");
  }
  if (files.some((file) => sameFile(file, to))) throw new UsageError("source and target are the same file");
  if (files.length > 1 && given.values.has("l")) {
    throw new UsageError("No support for concatenating multiple snapshot");
  }
  if (!given.flags.has("n")) checkMade(format);
  const { size, backingFile, backingFormat, ...options } = formatOptions(format, given.values.get("o") ?? []);
  const existing = given.flags.has("n");
  if (existing && given.values.has("o")) throw new UsageError("-o has no effect when skipping image creation");
  const fresh = given.flags.has("target-is-zero");
  if (fresh && !existing) throw new UsageError("--target-is-zero requires use of -n flag");
  const sparse = sizeOf(lastOf(given, "S") ?? "4k", "-S");
  if (sparse % 512 !== 0 || sparse > 2 ** 24) {
    throw new UsageError("Invalid buffer size for sparse output specified: give multiples of 512 up to 16777216, or 0");
  }
  const lanes = sizeOf(lastOf(given, "m") ?? "8", "-m");
  if (lanes < 1 || lanes > 16) {
    throw new UsageError("Invalid number of coroutines. Allowed number of coroutines is between 1 and 16");
  }
  cacheOf(given, "T");
  const bitmaps = given.flags.has("bitmaps");
  const skipBroken = given.flags.has("skip-broken-bitmaps");
  if (skipBroken && !bitmaps) throw new UsageError("Use of --skip-broken-bitmaps requires --bitmaps");
  if (bitmaps && files.length > 1) throw new UsageError("Copying bitmaps only possible with single source");
  if (bitmaps && format !== "qcow2") {
    throw new UsageError(`Format driver '${qemuFormat(format)}' does not support bitmaps`);
  }
  const rate = lastOf(given, "r");
  const name = lastOf(given, "B") ?? (backingFile as string | undefined);
  const F = lastOf(given, "F") ?? (backingFormat as string | undefined);
  const parent = name === undefined ? undefined : givenParent(given, name, F);
  if (parent) checkParentFormat(to, lastOf(given, "O") ?? "raw");
  return {
    files,
    to,
    options,
    size: size as number | undefined,
    parent,
    sparse,
    fresh,
    durable: (cacheOf(given, "t") ?? "unsafe") !== "unsafe",
    quiet: given.flags.has("q"),
    bitmaps,
    skipBroken,
    rate: rate === undefined ? undefined : sizeOf(rate, "-r"),
  };
}
