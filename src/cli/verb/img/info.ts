import { statSync } from "node:fs";
import { isAbsolute } from "node:path";
import type { SnapshotInfo } from "../../../core/format.ts";
import type { Disk } from "../../../host/block/open.ts";
import { chainOf, imageInfo } from "../../../host/image/info.ts";
import { engineOf } from "../../../host/image/whole.ts";
import { UsageError } from "../../usage.ts";
import type { ImgVerb } from "./command.ts";
import { infoText } from "./info-text.ts";
import { qemuFormat } from "./names.ts";
import { openingOf, openNamed, withDisk } from "./open.ts";
import { ALLOW, OUTPUT, SHARE, wantsJson } from "./options.ts";

export const info: ImgVerb = {
  name: "info",
  summary: "what an image is: format, sizes, parent, snapshots",
  usage: "[-f FMT] [--backing-chain] [--output human|json] FILE",
  description: [
    "Reads the image's metadata only. The parent is named, not opened, unless --backing-chain asks for it. What qemu-img",
    'does not tell comes last; in JSON, under "paravane".',
  ].join("\n"),
  options: [
    { short: "f", value: "FMT", help: "the image's format (default: by its content)" },
    { long: "backing-chain", help: "also its parent, that one's, and so on; an array in JSON" },
    OUTPUT,
    ALLOW,
    SHARE,
  ],
  examples: [
    ["paravane img info --output json disk.qcow2", "for a script, with qemu-img's field names"],
    ["paravane img info --backing-chain child.vhd", "and what it is based on"],
  ],
  imageOpts: ["f"],

  async run(given, ui) {
    const [file, ...more] = given.rest;
    if (file === undefined || more.length > 0) throw new UsageError("give one image; see: paravane img info --help");
    const chain = given.flags.has("backing-chain");
    const json = wantsJson(given);
    const opening = openingOf(given);
    // Nothing of what is encrypted is shown, so that no secret needs to be at hand.
    delete opening.passphraseFor;
    delete opening.parentPassphrasesFor;
    return withDisk(openNamed(file, { ...opening, alone: !chain, locked: true }), async (disk) => {
      const facts = (chain ? chainOf(disk) : [disk]).map(factsOf);
      if (json) ui.out(JSON.stringify(chain ? facts : facts[0], null, 4));
      else ui.out(facts.map(infoText).join("\n\n"));
      return 0;
    });
  },
};

export type Facts = ReturnType<typeof factsOf>;

/** In qemu-img's words; what it has no word for is under "paravane". */
function factsOf(disk: Disk) {
  const info = imageInfo(disk);
  const { store } = engineOf(disk);
  const { encrypted, formatSpecific, backingFile, backingFormat, ...rest } = info.details;
  // As it stands in the image, which may be no path of this host.
  const parent = (backingFile as string | undefined) ?? info.parentPaths[0];
  const parentFormat = (backingFormat as string | undefined) ?? (info.parentFormat && qemuFormat(info.parentFormat));
  const own = {
    ...rest,
    ...(info.parentPaths.length > 1 ? { parentPaths: info.parentPaths } : {}),
    ...(info.sectorSize === 512 ? {} : { sectorSize: info.sectorSize }),
  };
  return {
    ...(info.snapshots.length === 0 ? {} : { snapshots: info.snapshots.map(snapshotFacts) }),
    ...(parentFormat === undefined ? {} : { "backing-filename-format": parentFormat }),
    "virtual-size": disk.size,
    filename: store.name,
    ...(info.clusterSize === undefined ? {} : { "cluster-size": info.clusterSize }),
    format: qemuFormat(disk.format),
    ...(encrypted ? { encrypted } : {}),
    "actual-size": [store.name, ...extentFiles(store.name, formatSpecific as Specific | undefined)].reduce(
      (sum, file) => sum + statSync(file).blocks * 512,
      0,
    ),
    ...(formatSpecific ? { "format-specific": ordered(formatSpecific as Specific) } : {}),
    ...(parent === undefined
      ? {}
      : { "full-backing-filename": besides(store.name, parent, disk.parent?.windows), "backing-filename": parent }),
    "dirty-flag": info.dirty,
    ...(Object.keys(own).length === 0 ? {} : { paravane: own }),
  };
}

/** A VMDK's other files. */
function extentFiles(image: string, specific: Specific | undefined): string[] {
  const extents = (specific?.data.extents ?? []) as { filename: string }[];
  return extents.map(({ filename }) => filename).filter((name) => name !== "" && name !== image);
}

interface Specific {
  type: string;
  data: Record<string, unknown>;
}

const ORDER = [
  "compat",
  "compression-type",
  "lazy-refcounts",
  "bitmaps",
  "refcount-bits",
  "data-file",
  "data-file-raw",
  "corrupt",
];

/** In qemu-img's order, which the human form shows. */
function ordered({ type, data }: Specific): Specific {
  const first = ORDER.filter((name) => name in data).map((name) => [name, data[name]]);
  return { type, data: { ...Object.fromEntries(first), ...data } };
}

/** The name from where we are: that of the image up to its last slash, then the one in it. */
function besides(image: string, noted: string, windows = false): string {
  const name = windows ? noted.replaceAll("\\", "/").replace(/^\.\//, "") : noted;
  const elsewhere = isAbsolute(name) || /^([a-z]:|[a-z][a-z0-9+.-]+:)/i.test(name);
  return elsewhere ? name : image.slice(0, image.lastIndexOf("/") + 1) + name;
}

function snapshotFacts({ id, name, date, clock, stateSize, instructions }: SnapshotInfo) {
  return {
    ...(instructions !== undefined && { icount: Number(instructions) }),
    "vm-clock-nsec": Number(clock % 1000000000n),
    name,
    "date-sec": Math.floor(date / 1000),
    "date-nsec": Math.round((date % 1000) * 1e6),
    "vm-clock-sec": Number(clock / 1000000000n),
    id,
    "vm-state-size": stateSize,
  };
}
