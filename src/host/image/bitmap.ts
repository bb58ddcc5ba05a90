import { ParavaneError } from "../../core/error.ts";
import { run } from "../../core/flow.ts";
import type { BitmapChange, BitmapInfo, DirtyBitmaps, Image } from "../../core/format.ts";
import type { Disk } from "../block/open.ts";
import { Pace, type TaskOptions } from "./task.ts";
import { engineOf } from "./whole.ts";

/** What to do with a bitmap; another image's is merged by giving its disk. */
export type BitmapAction =
  | Exclude<BitmapChange, { do: "merge" }>
  | { do: "merge"; name: string; from: string; source?: Disk };

/** A run of the disk, in bytes. */
export interface BitmapExtent {
  start: number;
  length: number;
  dirty: boolean;
}

/** The bitmaps kept inside the disk's image; none where the format keeps none. */
export function listBitmaps(disk: Disk): readonly BitmapInfo[] {
  return engineOf(disk).image.bitmaps?.list() ?? [];
}

/**
 * Carries all of it out, durably, or nothing. What is submitted meanwhile waits.
 * @throws ParavaneError NOT_FOUND, EXISTS, CORRUPT (an inconsistent bitmap), INVALID, UNSUPPORTED (by the format), READ_ONLY,
 * NO_SPACE
 */
export function changeBitmaps(disk: Disk, actions: readonly BitmapAction[]): Promise<void> {
  const changes = actions.map((action): BitmapChange => {
    if (action.do !== "merge") return action;
    const { source, ...rest } = action;
    return source ? { ...rest, source: bitmapsOf(engineOf(source).image, source) } : rest;
  });
  return engineOf(disk).exclusive((image) => bitmapsOf(image, disk).change(changes));
}

/**
 * What a bitmap says of the disk: runs in order that cover it, or the range.
 * @throws ParavaneError NOT_FOUND, CORRUPT (inconsistent, or damaged), UNSUPPORTED, OUT_OF_RANGE, ABORTED
 */
export async function* bitmapExtents(
  disk: Disk,
  name: string,
  options: TaskOptions & { from?: number; length?: number } = {},
): AsyncGenerator<BitmapExtent> {
  const { image } = engineOf(disk);
  const bitmaps = bitmapsOf(image, disk);
  const { from = 0, length = Math.max(0, disk.size - from) } = options;
  const end = from + length;
  if (!(from >= 0 && length >= 0 && end <= disk.size)) {
    throw new ParavaneError("OUT_OF_RANGE", `${length} bytes at ${from} pass the end, ${disk.size}`);
  }
  const pace = new Pace(options, length);
  let held: BitmapExtent | undefined;
  for (let at = from; at < end; ) {
    const wait = pace.step(at - from);
    if (wait) await wait;
    for (const { length: part, dirty } of await run(bitmaps.read(name, at, end - at))) {
      if (held?.dirty === dirty) held.length += part;
      else {
        if (held) yield held;
        held = { start: at, length: part, dirty };
      }
      at += part;
    }
  }
  pace.end();
  if (held) yield held;
}

/**
 * Gives the target, whose disk has the same size, the source's bitmaps.
 * @param skipBroken leaves inconsistent ones out, which otherwise are an error
 * @returns the names of those left out
 */
export async function copyBitmaps(source: Disk, target: Disk, skipBroken = false): Promise<string[]> {
  const skipped: string[] = [];
  const actions: BitmapAction[] = [];
  for (const { name, granularity, recording, inconsistent } of listBitmaps(source)) {
    if (inconsistent && skipBroken) skipped.push(name);
    else if (inconsistent) {
      const hint = "Leave it out with --skip-broken-bitmaps, or remove it: paravane img bitmap --remove";
      throw new ParavaneError("CORRUPT", `Cannot copy inconsistent bitmap '${name}'`, {}, { hint });
    } else {
      actions.push({ do: "add", name, granularity, recording }, { do: "merge", name, from: name, source });
    }
  }
  if (actions.length > 0) await changeBitmaps(target, actions);
  return skipped;
}

function bitmapsOf({ bitmaps }: Image, disk: Disk): DirtyBitmaps {
  if (bitmaps) return bitmaps;
  throw new ParavaneError("UNSUPPORTED", `${disk.format} images keep no bitmaps inside them`);
}
