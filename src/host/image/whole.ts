import type { Block } from "../../core/block.ts";
import { ParavaneError } from "../../core/error.ts";
import { Engine } from "../block/engine.ts";
import type { Disk } from "../block/open.ts";

/** What drives the disk's image. @throws ParavaneError INVALID when it is none of ours */
export function engineOf(disk: Disk): Engine {
  if (disk instanceof Engine) return disk;
  throw new ParavaneError("INVALID", "this works only on disks that openDisk or createDisk returned");
}

/** The blocks behind a disk, nearest first. */
export function* parentsOf(disk: Block): Generator<Block> {
  for (let at = behind(disk); at; at = behind(at)) yield at;
}

function behind(block: Block): Block | undefined {
  return block instanceof Engine ? block.backing : undefined;
}
