import type { Disk } from "../../../host/block/open.ts";
import type { Place } from "../../../host/block/places.ts";
import { UsageError } from "../../usage.ts";
import type { ImgVerb } from "./command.ts";
import { openImage } from "./files.ts";
import { ALLOW, lastOf, OUTPUT, SHARE, wantsJson } from "./options.ts";

export const map: ImgVerb = {
  name: "map",
  summary: "where each part of a disk is stored",
  usage: "[-f FMT] [--output human|json] FILE",
  description: "Lists the runs of the disk and the files of its chain that hold them.",
  options: [{ short: "f", value: "FMT", help: "the image's format (default: by its content)" }, OUTPUT, ALLOW, SHARE],
  examples: [["paravane img map --output json disk.qcow2", "for a script, with qemu-img's field names"]],

  async run(given, ui) {
    const [file, ...more] = given.rest;
    if (file === undefined || more.length > 0) throw new UsageError("give one image; see: paravane img map --help");
    const json = wantsJson(given);
    const disk = await openImage(file, { format: lastOf(given, "f"), allow: given.values.get("allow") });
    try {
      if (!json) ui.out("Offset          Length          Mapped to       File");
      let first = true;
      for await (const [start, place] of runs(disk)) {
        if (json) ui.out(`${first ? "[" : ","}${JSON.stringify(jsonOf(start, place))}`);
        else if (place.position !== undefined) {
          const cells = [start, place.length, place.position].map((n) =>
            (n === 0 ? "0" : `0x${n.toString(16)}`).padEnd(16),
          );
          ui.out(`${cells.join("")}${place.store}`);
        }
        first = false;
      }
      if (json) ui.out(first ? "[]" : "]");
    } finally {
      await disk.close();
    }
    return 0;
  },
};

function jsonOf(start: number, { length, depth, kind, position }: Place) {
  const data = kind === "data" || kind === "packed";
  const offset = position === undefined ? {} : { offset: position };
  return { start, length, depth, present: kind !== "hole", zero: !data, data, ...offset };
}

/** Runs with their offsets; those that continue each other are one. */
async function* runs(disk: Disk): AsyncGenerator<[start: number, place: Place]> {
  let held: [number, Place] | undefined;
  for (let at = 0; at < disk.size; ) {
    for (const place of await disk.places(at, disk.size - at)) {
      const last = held?.[1];
      const follows =
        last?.kind === place.kind &&
        last.depth === place.depth &&
        last.store === place.store &&
        (place.position === undefined ? last.position === undefined : last.position! + last.length === place.position);
      if (follows) last.length += place.length;
      else {
        if (held) yield held;
        held = [at, { ...place }];
      }
      at += place.length;
    }
  }
  if (held) yield held;
}
