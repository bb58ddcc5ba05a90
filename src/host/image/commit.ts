import { ParavaneError } from "../../core/error.ts";
import { flush } from "../block/bytes.ts";
import type { Disk } from "../block/open.ts";
import { copyDisk } from "./copy.ts";
import { discardChanges } from "./discard.ts";
import type { TaskOptions } from "./task.ts";
import { engineOf, parentsOf } from "./whole.ts";

export interface CommitOptions extends TaskOptions {
  /** Which of its parents takes the data; the nearest one when absent. It must have been opened for writing. */
  base?: Disk;
  /** Leaves the image as it is, instead of emptying it. Always so when the base is not the nearest parent. */
  keep?: boolean;
  /** Bytes moved a second, at most. */
  rate?: number;
}

export interface CommitReport {
  /** Bytes that were written to the base as data. */
  written: number;
  /** The base's bytes before and after; it grows where it must. */
  baseSize: { before: number; after: number };
  emptied: boolean;
}

/**
 * Writes what an image holds, and what parents between it and the base hold, down into the base. The image is emptied last,
 * when all of that is durable: whenever it is stopped, the image reads as before and the commit can be made again. The base
 * by itself is neither its old nor its new state until then, and the same goes for other images based on it, afterwards too.
 * Nobody may write to the disk meanwhile.
 * @throws ParavaneError INVALID (no such parent), READ_ONLY (the base), BUSY (somebody wrote), UNSUPPORTED (the format cannot
 * grow, or be emptied), ABORTED, NO_SPACE, MEDIA, CORRUPT, IO
 */
export async function commitDisk(disk: Disk, options: CommitOptions = {}): Promise<CommitReport> {
  const { base = disk.backing, keep = false, rate, ...task } = options;
  const overlay = engineOf(disk);
  const context = { file: overlay.store.name };
  const depth = base === undefined ? 0 : [...parentsOf(disk)].indexOf(base) + 1;
  if (depth === 0) {
    const message = base === undefined ? "the image has no parent to commit to" : "the base is none of the parents";
    throw new ParavaneError("INVALID", message, context);
  }
  const target = engineOf(base as Disk);
  if (target.readOnly) {
    const hint = "Open the parent for writing, and the image over it with `backing`";
    throw new ParavaneError("READ_ONLY", `the parent, ${target.store.name}, is open read-only`, context, { hint });
  }
  const empties = depth === 1 && !keep;
  if (empties && !overlay.image.empty) {
    const hint = "Keep it as it is: `keep`, or -d on the command line";
    throw new ParavaneError("UNSUPPORTED", `a ${disk.format} image cannot be emptied`, context, { hint });
  }
  if (empties && overlay.readOnly) throw new ParavaneError("READ_ONLY", "the image is open read-only", context);

  const before = target.size;
  const wanted = Math.ceil(disk.size / target.sectorSize) * target.sectorSize;
  const announced = await announce(disk, base as Disk, depth);
  const { changes } = overlay;
  if (wanted > before) await target.resize(wanted);
  const { written } = await copyDisk(disk, base as Disk, { ...task, depth, ...(rate !== undefined && { rate }) });
  await flush(target);
  if (overlay.changes !== changes) {
    const hint = "Nothing is lost; commit again while nobody writes";
    throw new ParavaneError("BUSY", "the image was written while it was committed", context, { hint });
  }
  if (empties) await discardChanges(disk);
  // What the image notes of its parent is of now: when it was last written, and its one identity.
  const { setParent, parent } = overlay.image;
  if (depth === 1 && setParent && !overlay.readOnly) {
    if (parent?.modified !== undefined) await renote(disk, base as Disk, { modified: Date.now() / 1000 });
    else if (announced) await renote(disk, base as Disk, {});
  }
  return { written, baseSize: { before, after: target.size }, emptied: empties };
}

/**
 * Some formats give an image a new identity when its content changes, and children note it. So the image notes the one that
 * the base is about to have beside the one it has, and then the base takes it on, before any data moves.
 */
async function announce(disk: Disk, base: Disk, depth: number): Promise<boolean> {
  const overlay = engineOf(disk);
  const target = engineOf(base);
  const { nextIdentity } = target.image;
  if (nextIdentity === undefined) return false;
  const child = depth === 1 ? overlay : engineOf([...parentsOf(disk)][depth - 2] as Disk);
  if ((child.image.parent?.identities.length ?? 0) === 0) return false;
  if (depth > 1) {
    const context = { file: overlay.store.name };
    const hint = "Commit one image at a time, each to its own parent";
    const message = `the images between this one and a ${base.format} base would not know it again`;
    throw new ParavaneError("UNSUPPORTED", message, context, { hint });
  }
  await renote(disk, base, { nextIdentity });
  // Its first change, durable when this returns.
  await target.exclusive(function* () {});
  return true;
}

/** Notes the same parent, of which something has changed. */
async function renote(disk: Disk, base: Disk, changed: { nextIdentity?: string; modified?: number }): Promise<void> {
  const overlay = engineOf(disk);
  const { paths } = overlay.image.parent!;
  const absolutePath = paths.slice(1).find((path) => /^([a-z]:|\\)/i.test(path));
  const { identity } = engineOf(base).image;
  await overlay.reparent(
    {
      path: paths[0],
      format: base.format,
      ...(absolutePath && { absolutePath }),
      ...(identity !== undefined && { identity }),
      ...changed,
    },
    base,
  );
}
