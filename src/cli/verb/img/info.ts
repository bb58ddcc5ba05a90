import { statSync } from "node:fs";
import type { Disk } from "../../../host/block/open.ts";
import { UsageError } from "../../usage.ts";
import type { ImgVerb } from "./command.ts";
import { openImage } from "./files.ts";
import { qemuFormat } from "./names.ts";
import { lastOf, OUTPUT, SHARE, wantsJson } from "./options.ts";

export const info: ImgVerb = {
  name: "info",
  summary: "what an image is: format, sizes, parent, snapshots",
  usage: "[-f FMT] [--output human|json] FILE",
  description: "Reads the image's metadata only. The parent is named, not opened.",
  options: [{ short: "f", value: "FMT", help: "the image's format (default: by its content)" }, OUTPUT, SHARE],
  examples: [["paravane img info --output json disk.qcow2", "for a script, with qemu-img's field names"]],

  async run(given, ui) {
    const [file, ...more] = given.rest;
    if (file === undefined || more.length > 0) throw new UsageError("give one image; see: paravane img info --help");
    const disk = await openImage(file, { format: lastOf(given, "f"), alone: true });
    try {
      const facts = factsOf(disk, file);
      ui.out(wantsJson(given) ? JSON.stringify(facts, null, 4) : human(facts));
    } finally {
      await disk.close();
    }
    return 0;
  },
};

/** In qemu-img's words. */
function factsOf(disk: Disk, file: string): Record<string, unknown> {
  const own = disk.describe();
  const cluster = own.clusterSize ?? own.blockSize;
  return {
    ...(own.snapshots ? { snapshots: (own.snapshots as Snapshot[]).map(snapshotFacts) } : {}),
    ...(own.backingFormat === undefined ? {} : { "backing-filename-format": own.backingFormat }),
    "virtual-size": disk.size,
    filename: file,
    ...(cluster === undefined ? {} : { "cluster-size": cluster }),
    format: qemuFormat(disk.format),
    "actual-size": statSync(file).blocks * 512,
    ...(own.formatSpecific ? { "format-specific": own.formatSpecific } : {}),
    ...(own.backingFile === undefined ? {} : { "backing-filename": own.backingFile }),
    "dirty-flag": own.dirty === true,
  };
}

interface Snapshot {
  id: string;
  name: string;
  date: string;
  clockSeconds: number;
  stateSize: number;
}

function snapshotFacts({ id, name, date, clockSeconds, stateSize }: Snapshot) {
  const milliseconds = Date.parse(date);
  return {
    "vm-clock-nsec": Math.round((clockSeconds % 1) * 1e9),
    name,
    "date-sec": Math.floor(milliseconds / 1000),
    "date-nsec": (milliseconds % 1000) * 1e6,
    "vm-clock-sec": Math.floor(clockSeconds),
    id,
    "vm-state-size": stateSize,
  };
}

function human(facts: Record<string, unknown>): string {
  const rows: [string, unknown][] = [
    ["image", facts.filename],
    ["file format", facts.format],
    ["virtual size", `${short(facts["virtual-size"] as number)} (${facts["virtual-size"]} bytes)`],
    ["disk size", short(facts["actual-size"] as number)],
    ["cluster_size", facts["cluster-size"]],
    ["backing file", facts["backing-filename"]],
    ["backing file format", facts["backing-filename-format"]],
    ["cleanly shut down", facts["dirty-flag"] ? "no" : undefined],
  ];
  const lines = rows.flatMap(([name, value]) => (value === undefined ? [] : `${name}: ${value}`));
  const snapshots = (facts.snapshots as ReturnType<typeof snapshotFacts>[] | undefined) ?? [];
  if (snapshots.length > 0) lines.push("Snapshot list:", ...snapshots.map(({ id, name }) => `${id.padEnd(10)}${name}`));
  const specific = facts["format-specific"] as { data: Record<string, unknown> } | undefined;
  if (specific) {
    lines.push("Format specific information:");
    for (const [name, value] of Object.entries(specific.data)) lines.push(`    ${name.replaceAll("-", " ")}: ${value}`);
  }
  return lines.join("\n");
}

/** Three digits, as qemu-img rounds. */
function short(size: number): string {
  const power = size < 1000 ? 0 : Math.min(6, Math.floor(Math.log2(size / 1000) / 10) + 1);
  return `${Number((size / 1024 ** power).toPrecision(3))} ${["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"][power]}`;
}
