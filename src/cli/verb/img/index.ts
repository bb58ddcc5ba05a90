import type { Format } from "../../../core/format.ts";
import { FORMATS } from "../../../host/format/index.ts";
import type { RawVerb } from "../../verb.ts";
import { amend } from "./amend.ts";
import { backup } from "./backup.ts";
import { bench } from "./bench.ts";
import { bitmap } from "./bitmap.ts";
import { check } from "./check.ts";
import { type ImgVerb, runImgVerb } from "./command.ts";
import { commit } from "./commit.ts";
import { compare } from "./compare.ts";
import { convert } from "./convert.ts";
import { create } from "./create.ts";
import { dd } from "./dd.ts";
import { info } from "./info.ts";
import { map } from "./map.ts";
import { measure } from "./measure.ts";
import { qemuFormat } from "./names.ts";
import { rebase } from "./rebase.ts";
import { resize } from "./resize.ts";
import { wipeInput } from "./secrets.ts";
import { snapshot } from "./snapshot.ts";

const VERBS: readonly ImgVerb[] = [
  info,
  create,
  check,
  convert,
  compare,
  map,
  measure,
  resize,
  snapshot,
  bitmap,
  backup,
  commit,
  rebase,
  amend,
  dd,
  bench,
];

function formats(which: (format: Format) => boolean): string {
  return FORMATS.filter(which)
    .map(({ name }) => qemuFormat(name))
    .join(", ");
}

function help(): string {
  return [
    "paravane img: works on disk image files, with qemu-img's option letters",
    "",
    "Usage: paravane img COMMAND [OPTIONS]",
    "",
    "Commands:",
    ...VERBS.map(({ name, summary }) => `  ${name.padEnd(10)}${summary}`),
    "",
    "paravane img COMMAND --help shows a command's options and examples.",
    `Formats: ${formats((each) => each.create !== undefined)}; vhd is another name of vpc.`,
    `Only read: ${formats((each) => each.create === undefined && !each.written)}.`,
    `Written, but not made: ${formats((each) => each.create === undefined && each.written === true)}.`,
    "",
    'An image is named by its file, or with what opens it, here which disk of an archive: by \'json:{"driver": "ova",',
    '"member": "b.vmdk", "file.filename": "vm.ova"}\', or with --image-opts by driver=ova,member=b.vmdk,file.filename=vm.ova.',
  ].join("\n");
}

export const img: RawVerb = {
  name: "img",
  summary: "create, inspect and convert disk images, with qemu-img's option letters",
  examples: [["paravane img convert -O qcow2 disk.vhd disk.qcow2", "the same disk in another format"]],

  async main([first, ...rest], ui) {
    if (first === undefined || first === "--help" || first === "help") {
      ui.out(help());
      return first === undefined ? 1 : 0;
    }
    const verb = VERBS.find(({ name }) => name === first);
    if (!verb) {
      ui.note(`unknown command "img ${first}"; see: paravane img --help`);
      return 1;
    }
    try {
      return await runImgVerb(verb, rest, ui);
    } finally {
      wipeInput();
    }
  },
};
