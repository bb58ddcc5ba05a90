import { Op } from "../../core/block.ts";
import { ParavaneError } from "../../core/error.ts";
import type { Disk } from "../block/open.ts";
import { Requests } from "./request.ts";
import { Pace, type TaskOptions } from "./task.ts";
import { engineOf } from "./whole.ts";

export interface ResizeOptions extends TaskOptions {
  /** The disk may become smaller, which loses what is beyond the new end. */
  shrink?: boolean;
  /**
   * "full" writes the new bytes, so that later writes there cannot fail for want of space; "metadata" only gives them places in
   * the image, of formats that can.
   */
  preallocation?: "off" | "metadata" | "full";
}

/** Bytes of zeros written at a time. */
const CHUNK = 1 << 20;

/**
 * Changes the disk's size in bytes, durably; new bytes are zeros.
 * @throws ParavaneError INVALID (smaller, without `shrink`), UNSUPPORTED (by the format), READ_ONLY, NO_SPACE, ABORTED
 */
export async function resizeDisk(disk: Disk, size: number, options: ResizeOptions = {}): Promise<void> {
  const { shrink = false, preallocation = "off" } = options;
  const before = disk.size;
  if (size < before && !shrink) {
    throw new ParavaneError(
      "INVALID",
      `${size} bytes are fewer than the disk has, ${before}: what is beyond them would be lost`,
      {},
      { hint: "Ask for a smaller disk explicitly" },
    );
  }
  const { image } = engineOf(disk);
  if (preallocation === "metadata" && !image.preallocate) {
    throw new ParavaneError("UNSUPPORTED", `${disk.format} images have no metadata to preallocate`);
  }
  await disk.resize(size);
  if (preallocation === "metadata") {
    await engineOf(disk).exclusive(function* (image) {
      yield* image.preallocate!(before, disk.size);
    });
  }
  if (preallocation === "full" && disk.size > before) await fillDisk(disk, before, disk.size, options);
}

/** Writes zeros to bytes [from, to), so that all of them have a place in the store. */
export async function fillDisk(disk: Disk, from: number, to: number, options: TaskOptions = {}): Promise<void> {
  const requests = new Requests(new Uint8Array(CHUNK));
  const pace = new Pace(options, to - from);
  for (let at = from; at < to; at += CHUNK) {
    const wait = pace.step(at - from);
    if (wait) await wait;
    requests.add(Op.Write, at, Math.min(CHUNK, to - at), 0);
    await requests.submit(disk);
  }
  requests.add(Op.Flush, 0, 0, 0);
  await requests.submit(disk);
  pace.end();
}
