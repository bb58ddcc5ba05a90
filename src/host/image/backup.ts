import { flush } from "../block/bytes.ts";
import type { Disk } from "../block/open.ts";
import { bitmapExtents } from "./bitmap.ts";
import { type CopyReport, copyDisk } from "./copy.ts";
import { Pace, type TaskOptions } from "./task.ts";

export interface BackupOptions extends TaskOptions {
  /** The source's bitmap of what changed since the last backup. It is only read. */
  bitmap: string;
  /** Bytes moved a second, at most. */
  rate?: number;
}

/**
 * Writes what a bitmap says is changed into the target, durably: an empty image over the last backup, or the last backup
 * itself. Afterwards the target reads as the source. Clear the bitmap then, and not before. Nobody may write to the source
 * meanwhile.
 * @throws ParavaneError NOT_FOUND, CORRUPT (the bitmap is inconsistent), OUT_OF_RANGE (the target is smaller), ABORTED, and
 * what reading and writing throw
 */
export async function backupDisk(source: Disk, target: Disk, options: BackupOptions): Promise<CopyReport> {
  const { bitmap, signal, onProgress, rate } = options;
  const report: CopyReport = { length: 0, read: 0, written: 0 };
  const pace = new Pace({ ...(signal && { signal }), ...(onProgress && { onProgress }) }, source.size);
  const unit = Math.max(source.sectorSize, target.sectorSize);
  for await (const { start, length, dirty } of bitmapExtents(source, bitmap, signal ? { signal } : {})) {
    const wait = pace.step(start);
    if (wait) await wait;
    if (!dirty) continue;
    const from = Math.floor(start / unit) * unit;
    const end = Math.min(source.size, Math.ceil((start + length) / unit) * unit);
    const part = await copyDisk(source, target, {
      from,
      to: from,
      length: end - from,
      ...(signal && { signal }),
      ...(rate !== undefined && { rate }),
      ...(onProgress && { onProgress: (done: number) => onProgress(from + done, source.size) }),
    });
    report.length += part.length;
    report.read += part.read;
    report.written += part.written;
  }
  await flush(target);
  pace.end();
  return report;
}
