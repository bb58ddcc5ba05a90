import { ParavaneError } from "../../../core/error.ts";
import { type BitmapExtent, bitmapExtents } from "../../../host/image/bitmap.ts";
import { type MapRun, mapDisk } from "../../../host/image/map.ts";
import type { Ui } from "../../ui.ts";
import { UsageError } from "../../usage.ts";
import type { ImgVerb } from "./command.ts";
import { openingOf, openNamed, withDisk } from "./open.ts";
import { ALLOW, lastOf, OUTPUT, SHARE, sizeOf, wantsJson } from "./options.ts";

export const map: ImgVerb = {
  name: "map",
  summary: "where each part of a disk is stored",
  usage: "[-f FMT] [-s OFFSET] [-l LENGTH] [--bitmap NAME] [--output human|json] FILE",
  description: [
    "Lists the runs of the disk and the files of its chain that hold them. The human form shows only what is stored as it",
    "is, and fails where something is compressed.",
  ].join("\n"),
  options: [
    { short: "f", value: "FMT", help: "the image's format (default: by its content)" },
    { short: "s", long: "start-offset", value: "OFFSET", help: "the first byte of the disk to show" },
    { short: "l", long: "max-length", value: "LENGTH", help: "how many bytes of it" },
    { long: "bitmap", value: "NAME", help: "instead: which parts the dirty bitmap of that name says are changed" },
    OUTPUT,
    ALLOW,
    SHARE,
  ],
  examples: [["paravane img map --output json disk.qcow2", "for a script, with qemu-img's field names"]],
  imageOpts: ["f"],

  async run(given, ui) {
    const [file, ...more] = given.rest;
    if (file === undefined || more.length > 0) throw new UsageError("give one image; see: paravane img map --help");
    const json = wantsJson(given);
    const bytes = (name: string) => {
      const text = lastOf(given, name);
      return text === undefined ? undefined : sizeOf(text, `--${name}`);
    };
    const [start = 0, most = Number.POSITIVE_INFINITY] = [bytes("start-offset"), bytes("max-length")];
    return withDisk(openNamed(file, { ...openingOf(given), locked: true }), async (disk) => {
      const from = Math.min(start, disk.size);
      const bitmap = lastOf(given, "bitmap");
      if (bitmap !== undefined) {
        const extents = bitmapExtents(disk, bitmap, { from, length: Math.min(most, disk.size - from) });
        await printBitmap(extents, json, ui);
        return 0;
      }
      if (!json) ui.out(row("Offset", "Length", "Mapped to", "File"));
      let line = "";
      for await (const run of mapDisk(disk, { from, length: Math.min(most, disk.size - from) })) {
        if (json) {
          if (line !== "") ui.out(`${line},`);
          line = `${line === "" ? "[" : ""}${jsonOf(run)}`;
        } else if (run.kind === "packed") {
          const hint = "Use --output json";
          const context = { file, offset: run.start };
          throw new ParavaneError("UNSUPPORTED", "the file holds compressed clusters", context, { hint });
        } else if (run.kind === "data") {
          ui.out(row(hex(run.start), hex(run.length), hex(run.position!), run.store!));
        }
      }
      if (json) ui.out(`${line === "" ? "[" : line}]`);
      return 0;
    });
  },
};

async function printBitmap(extents: AsyncIterable<BitmapExtent>, json: boolean, ui: Ui): Promise<void> {
  if (!json) ui.out(`${"Offset".padEnd(16)}Length`);
  let line = "";
  for await (const { start, length, dirty } of extents) {
    if (json) {
      if (line !== "") ui.out(`${line},`);
      line = `${line === "" ? "[" : ""}{ "start": ${start}, "length": ${length}, "dirty": ${dirty}}`;
    } else if (dirty) ui.out(hex(start).padEnd(16) + hex(length));
  }
  if (json) ui.out(`${line === "" ? "[" : line}]`);
}

function row(offset: string, length: string, position: string, file: string): string {
  return `${[offset, length, position].map((cell) => cell.padEnd(16)).join("")}${file}`;
}

const hex = (value: number) => (value === 0 ? "0" : `0x${value.toString(16)}`);

/** On one line, spaced like qemu-img's, for scripts that look no closer. */
function jsonOf({ start, length, depth, kind, position }: MapRun): string {
  const data = kind === "data" || kind === "packed";
  const fields = {
    start,
    length,
    depth,
    present: kind !== "hole",
    zero: !data,
    data,
    compressed: kind === "packed",
    ...(position !== undefined && { offset: position }),
  };
  return `{ ${Object.entries(fields)
    .map(([name, value]) => `"${name}": ${value}`)
    .join(", ")}}`;
}
