import { ParavaneError } from "../../../core/error.ts";
import type { Disk } from "../../../host/block/open.ts";
import { type BitmapAction, changeBitmaps, listBitmaps } from "../../../host/image/bitmap.ts";
import { UsageError } from "../../usage.ts";
import type { ImgVerb } from "./command.ts";
import { openNamed, withDisk } from "./open.ts";
import { ALLOW, type Given, lastOf, sizeOf } from "./options.ts";

const ACTIONS = ["add", "remove", "remove-all", "clear", "enable", "disable", "merge"] as const;
type Action = (typeof ACTIONS)[number];

export const bitmap: ImgVerb = {
  name: "bitmap",
  summary: "records, inside a qcow2 image, of which parts were changed",
  usage: "--add|--remove|--remove-all|--clear|--enable|--disable|--merge SOURCE FILE [BITMAP]",
  description: [
    "A bitmap notes every change of the disk, by any program, while it is enabled. What is asked for is done in order, all of",
    "it or nothing. See paravane img backup for its use, and img map --bitmap for what it says.",
  ].join("\n"),
  options: [
    { long: "add", help: "a new bitmap, enabled; with --disable behind it, not" },
    {
      short: "g",
      long: "granularity",
      value: "SIZE",
      help: "with --add: bytes that a bit stands for (default: a cluster)",
    },
    { long: "remove", help: "removes the bitmap" },
    { long: "remove-all", help: "removes all bitmaps; then no name is given" },
    { long: "clear", help: "forgets what it noted" },
    { long: "enable", help: "notes changes from now on" },
    { long: "disable", help: "notes no more changes" },
    { long: "merge", value: "SOURCE", help: "adds what the bitmap SOURCE notes" },
    { short: "b", long: "source-file", value: "FILE", help: "with --merge: the image that has SOURCE" },
    { short: "F", long: "source-format", value: "FMT", help: "that image's format" },
    { short: "f", long: "format", value: "FMT", help: "the image's format (default: by its content)" },
    ALLOW,
  ],
  examples: [
    ["paravane img bitmap --add disk.qcow2 daily", "begin to note what changes"],
    ["paravane img bitmap --merge monday --merge tuesday disk.qcow2 week", "what changed on either day"],
  ],
  imageOpts: ["format"],
  images: () => 1,

  async run(given) {
    const asked = actionsOf(given);
    const named = asked.some(({ action }) => action !== "remove-all");
    const [file, name, ...more] = given.rest;
    if (named && (name === undefined || more.length > 0)) throw new UsageError("Expecting filename and bitmap name");
    if (!named && (file === undefined || name !== undefined)) throw new UsageError("Expecting filename");
    const format = lastOf(given, "format");
    const granularity = lastOf(given, "granularity");
    const open = { ...(format !== undefined && { format }), alone: true, allow: given.values.get("allow") };
    await withDisk(openNamed(file, { ...open, write: true }), async (disk) => {
      const work = (source?: Disk) => carryOut(disk, name, asked, granularity, source);
      const from = lastOf(given, "source-file");
      if (from === undefined) return work();
      const F = lastOf(given, "source-format");
      return withDisk(openNamed(from, { ...open, format: undefined, ...(F !== undefined && { format: F }) }), work);
    });
    return 0;
  },
};

/** In the order in which they were given. @throws UsageError */
function actionsOf(given: Given): { action: Action; value: string | undefined }[] {
  const merges = [...(given.values.get("merge") ?? [])];
  const asked = given.order
    .filter((name): name is Action => (ACTIONS as readonly string[]).includes(name))
    .map((action) => ({ action, value: action === "merge" ? merges.shift() : undefined }));
  const has = (wanted: Action) => asked.some(({ action }) => action === wanted);
  if (asked.length === 0) {
    throw new UsageError(
      "Need at least one of --add, --remove, --remove-all, --clear, --enable, --disable, or --merge",
    );
  }
  if (given.values.has("granularity") && !has("add")) throw new UsageError("granularity only supported with --add");
  if (given.values.has("source-format") && !given.values.has("source-file")) {
    throw new UsageError("-F only supported with -b");
  }
  if (given.values.has("source-file") && !has("merge")) {
    throw new UsageError("Merge bitmap source file only supported with --merge");
  }
  return asked;
}

async function carryOut(
  disk: Disk,
  name: string,
  asked: ReturnType<typeof actionsOf>,
  granularity: string | undefined,
  source: Disk | undefined,
): Promise<void> {
  const changes: BitmapAction[] = [];
  for (const { action, value } of asked) {
    if (action === "remove-all") {
      // Those added by this very command are not there yet.
      for (const one of listBitmaps(disk)) changes.push({ do: "remove", name: one.name });
    } else if (action === "merge") changes.push({ do: "merge", name, from: value!, ...(source && { source }) });
    else if (action === "add") {
      const bytes = granularity === undefined ? undefined : sizeOf(granularity, "granularity");
      changes.push({ do: "add", name, ...(bytes !== undefined && { granularity: bytes }) });
    } else changes.push({ do: action, name });
  }
  try {
    await changeBitmaps(disk, changes);
  } catch (thrown) {
    if (!(thrown instanceof ParavaneError)) throw thrown;
    const { code, message, context, hint } = thrown;
    const what = `Operation ${asked.map(({ action }) => action).join(", ")} on bitmap ${name} failed: ${message}`;
    throw new ParavaneError(code, what, context, { cause: thrown, hint });
  }
}
