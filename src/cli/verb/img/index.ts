import { UsageError } from "../../usage.ts";
import type { RawVerb } from "../../verb.ts";
import { type ImgVerb, runImgVerb } from "./command.ts";
import { convert } from "./convert.ts";
import { create } from "./create.ts";
import { info } from "./info.ts";
import { map } from "./map.ts";

const VERBS: readonly ImgVerb[] = [info, create, convert, map];

function help(): string {
  return [
    "paravane img: works on disk image files, with qemu-img's option letters",
    "",
    "Usage: paravane img COMMAND [OPTIONS]",
    "",
    "Commands:",
    ...VERBS.map(({ name, summary }) => `  ${name.padEnd(10)}${summary}`),
    "",
    "paravane img COMMAND --help shows a command's options and examples. Formats: raw, vpc (or vhd), vhdx, qcow2.",
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
    try {
      if (!verb) throw new UsageError(`unknown command "img ${first}"; see: paravane img --help`);
      return await runImgVerb(verb, rest, ui);
    } catch (thrown) {
      // As qemu-img ends after a wrong command line.
      if (!(thrown instanceof UsageError)) throw thrown;
      ui.note(thrown.message);
      return 1;
    }
  },
};
