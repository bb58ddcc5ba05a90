import { ParavaneError } from "../../core/error.ts";
import type { Disk } from "../block/open.ts";
import type { Place } from "../block/places.ts";
import { Pace, type TaskOptions } from "./task.ts";

export interface MapOptions extends TaskOptions {
  /** Bytes of the disk to begin at, and how many. Default: all of it. */
  from?: number;
  length?: number;
}

/** A run of the disk that is kept in one way. */
export interface MapRun extends Place {
  /** Byte of the disk. */
  start: number;
}

/**
 * Where each part of a disk is, without reading its data: runs in order that cover the range, those that continue each
 * other joined. @throws ParavaneError OUT_OF_RANGE, ABORTED, CORRUPT, and what the stores throw
 */
export async function* mapDisk(disk: Disk, options: MapOptions = {}): AsyncGenerator<MapRun> {
  const { from = 0, length = Math.max(0, disk.size - from) } = options;
  const end = from + length;
  if (!(from >= 0 && length >= 0 && end <= disk.size)) {
    throw new ParavaneError("OUT_OF_RANGE", `${length} bytes at ${from} pass the end, ${disk.size}`, {
      offset: from,
      length,
    });
  }
  const pace = new Pace(options, length);
  let held: MapRun | undefined;
  for (let at = from; at < end; ) {
    const wait = pace.step(at - from);
    if (wait) await wait;
    const places = disk.places(at, end - at);
    for (const place of places instanceof Promise ? await places : places) {
      if (held && continues(held, place)) held.length += place.length;
      else {
        if (held) yield held;
        held = { start: at, ...place };
      }
      at += place.length;
    }
  }
  pace.end();
  if (held) yield held;
}

function continues(last: Place, next: Place): boolean {
  if (last.kind !== next.kind || last.depth !== next.depth || last.store !== next.store) return false;
  if (last.position === undefined || next.position === undefined) return last.position === next.position;
  return last.position + last.length === next.position;
}
