import { ParavaneError } from "../../../core/error.ts";
import { applySnapshot, createSnapshot, deleteSnapshot, listSnapshots } from "../../../host/image/snapshot.ts";
import { UsageError } from "../../usage.ts";
import type { ImgVerb } from "./command.ts";
import { openNamed, withDisk } from "./open.ts";
import { lastOf, QUIET, SHARE } from "./options.ts";
import { snapshotTable } from "./snapshots.ts";

const ACTIONS = {
  c: { verb: "create", work: async (disk, name) => void (await createSnapshot(disk, { name })) },
  a: { verb: "apply", work: applySnapshot },
  d: { verb: "delete", work: deleteSnapshot },
} satisfies Record<string, { verb: string; work: (...args: Parameters<typeof applySnapshot>) => Promise<void> }>;

export const snapshot: ImgVerb = {
  name: "snapshot",
  summary: "states of the disk kept inside a qcow2 image",
  usage: "[-f FMT] [-l | -c NAME | -a SNAPSHOT | -d SNAPSHOT] FILE",
  description:
    "Snapshots are found by id, else by name. Applying one loses what was written since; the snapshot stays.",
  options: [
    { short: "l", help: "list them (default)" },
    { short: "c", value: "NAME", help: "keep the disk as it is now" },
    { short: "a", value: "SNAPSHOT", help: "make the disk what it was" },
    { short: "d", value: "SNAPSHOT", help: "forget it, and give its space back" },
    { short: "f", long: "format", value: "FMT", help: "the image's format (default: by its content)" },
    QUIET,
    SHARE,
  ],
  examples: [
    ["paravane img snapshot -c before-upgrade disk.qcow2", "keep this state"],
    ["paravane img snapshot -a before-upgrade disk.qcow2", "go back to it"],
  ],
  imageOpts: ["format"],

  async run(given, ui) {
    const [file, ...more] = given.rest;
    if (file === undefined || more.length > 0)
      throw new UsageError("give one image; see: paravane img snapshot --help");
    const asked = Object.keys(ACTIONS).filter((letter) => given.values.has(letter)) as (keyof typeof ACTIONS)[];
    const times = asked.reduce((sum, letter) => sum + given.values.get(letter)!.length, given.flags.has("l") ? 1 : 0);
    if (times > 1) throw new UsageError("Cannot mix '-l', '-a', '-c', '-d'");
    const [letter] = asked;
    const f = lastOf(given, "format");
    const options = { ...(f !== undefined && { format: f }), alone: true, locked: true, write: letter !== undefined };
    return withDisk(openNamed(file, options), async (disk) => {
      if (letter === undefined) {
        const list = listSnapshots(disk);
        if (list.length > 0) ui.out(snapshotTable(list));
        return 0;
      }
      const { verb, work } = ACTIONS[letter];
      const name = lastOf(given, letter)!;
      try {
        await work(disk, name);
      } catch (thrown) {
        if (!(thrown instanceof ParavaneError)) throw thrown;
        const { code, message, context, hint } = thrown;
        throw new ParavaneError(code, `Could not ${verb} snapshot '${name}': ${message}`, context, {
          cause: thrown,
          hint,
        });
      }
      return 0;
    });
  },
};
