import { ParavaneError } from "../../core/error.ts";
import type { CreateOptions } from "../../core/format.ts";
import { type Disk, formatNamed } from "../block/open.ts";
import { listBitmaps } from "./bitmap.ts";
import { mapDisk } from "./map.ts";
import type { TaskOptions } from "./task.ts";
import { engineOf } from "./whole.ts";

export interface MeasureOptions extends TaskOptions, Omit<CreateOptions, "size"> {
  /** The new image's format. */
  format: string;
  /** Bytes of a new, empty disk; or the disk that is to be converted. */
  source: number | Disk;
}

export interface Measured {
  /** Bytes of the file that a conversion makes; of the empty one, when there is nothing to convert. */
  required: number;
  /** Bytes of the file when the guest has written all of the disk. */
  fullyAllocated: number;
  /** Bytes that the source's bitmaps take in it besides, where both formats keep some. */
  bitmaps?: number;
}

/**
 * How large the file of a new image is, without making it. Of a source, everything counts that it stores, zeros too.
 * @throws ParavaneError UNSUPPORTED (the format cannot say), INVALID, ABORTED, CORRUPT
 */
export async function measureImage(options: MeasureOptions): Promise<Measured> {
  const { format: name, source, signal, onProgress, ...creation } = options;
  const format = formatNamed(name);
  const size = typeof source === "number" ? source : source.size;
  if (!format.measure) {
    throw new ParavaneError("UNSUPPORTED", `how large ${name} images get cannot be told beforehand`);
  }
  const measure = format.measure({ ...creation, size });
  const { unit, bytes } = measure;
  const all = Math.ceil(size / unit);
  let used = 0;
  if (typeof source !== "number") {
    /** Units before this one have been counted, if they are used. */
    let next = 0;
    for await (const { start, length, kind } of mapDisk(source, {
      ...(signal && { signal }),
      ...(onProgress && { onProgress }),
    })) {
      if (kind === "zero" || kind === "hole") continue;
      const first = Math.max(next, Math.floor(start / unit));
      next = Math.ceil((start + length) / unit);
      used += Math.max(0, next - first);
    }
  }
  const { preallocation } = creation;
  if (preallocation === "full" || preallocation === "falloc") used = all;
  const measured = { required: bytes(used), fullyAllocated: bytes(all) };
  if (typeof source === "number" || !measure.bitmaps || !keepsBitmaps(source)) return measured;
  return { ...measured, bitmaps: measure.bitmaps(listBitmaps(source)) };
}

function keepsBitmaps(source: Disk): boolean {
  const facts = source.describe().formatSpecific as { data?: { compat?: string } } | undefined;
  return engineOf(source).image.bitmaps !== undefined && facts?.data?.compat !== "0.10";
}
