import { Op } from "../../core/block.ts";
import { ParavaneError } from "../../core/error.ts";
import type { Disk } from "../block/open.ts";
import type { Place } from "../block/places.ts";
import { Requests } from "./request.ts";
import { Pace, type TaskOptions } from "./task.ts";
import { ZeroFinder } from "./zeros.ts";

export interface CopyOptions extends TaskOptions {
  /** Bytes of the source and the target to begin at, whole sectors; and how many. Default: all of the source. */
  from?: number;
  to?: number;
  length?: number;
  /** The target reads as zeros: zeros need not be written. */
  fresh?: boolean;
  /** Runs of zeros this long, in bytes (a multiple of 4096), are not written as data. 0: everything is. Default 4096. */
  sparse?: number;
}

export interface CopyReport {
  /** Bytes looked at, read, and written as data. */
  length: number;
  read: number;
  written: number;
}

/** Bytes moved at a time. */
const CHUNK = 1 << 20;
/** Bytes that the source is asked about at a time. */
const WINDOW = 2 ** 30;

/**
 * Copies a disk's content. What the source does not store is not read; the source is never written. The target is as large
 * as what it gets, at least. Memory: one buffer of 1 MiB.
 * @throws ParavaneError ABORTED, OUT_OF_RANGE, NO_SPACE, READ_ONLY, MEDIA, CORRUPT, IO
 */
export async function copyDisk(source: Disk, target: Disk, options: CopyOptions = {}): Promise<CopyReport> {
  const { from = 0, to = 0, length = source.size - from, fresh = false, sparse = 4096 } = options;
  if (to + length > target.size) {
    const context = { offset: to, length };
    throw new ParavaneError("OUT_OF_RANGE", `${length} bytes do not fit a disk of ${target.size}`, context);
  }
  if (!Number.isInteger(sparse / 4096) || sparse < 0) {
    throw new ParavaneError(
      "INVALID",
      `zeros cannot be told apart every ${sparse} bytes`,
      {},
      { hint: "Multiples of 4096" },
    );
  }
  const unit = Math.max(source.sectorSize, target.sectorSize);
  const buffer = new Uint8Array(CHUNK);
  const zeros = new ZeroFinder(buffer);
  const requests = new Requests(buffer);
  const report: CopyReport = { length, read: 0, written: 0 };
  const pace = new Pace(options, length);

  /** A run of bytes that are stored: reads them, and writes what is not zero. */
  const move = async (start: number, end: number) => {
    for (let at = start; at < end; ) {
      const wait = pace.step(at);
      if (wait) await wait;
      const size = Math.min(CHUNK, end - at);
      requests.add(Op.Read, from + at, size, 0);
      await requests.submit(source);
      report.read += size;
      // A target with larger sectors ends after the source does.
      const whole = Math.ceil(size / target.sectorSize) * target.sectorSize;
      buffer.fill(0, size, whole);
      for (let done = 0; done < whole; ) {
        const run = sparse === 0 ? { end: whole, zero: false } : zeros.runEnd(done, whole, sparse);
        if (!run.zero) {
          requests.add(Op.Write, to + at + done, run.end - done, done);
          report.written += run.end - done;
        } else if (!fresh) requests.add(Op.WriteZeroes, to + at + done, run.end - done, 0);
        done = run.end;
      }
      await requests.submit(target);
      at += size;
    }
  };
  const clear = async (start: number, end: number) => {
    for (let at = start; at < end; at += WINDOW) {
      const wait = pace.step(at);
      if (wait) await wait;
      const size = Math.ceil((Math.min(end, at + WINDOW) - at) / target.sectorSize) * target.sectorSize;
      requests.add(Op.WriteZeroes, to + at, size, 0);
      await requests.submit(target);
    }
  };

  for (let at = 0; at < length; ) {
    const wait = pace.step(at);
    if (wait) await wait;
    const places = source.places(from + at, Math.min(WINDOW, length - at));
    const runs = joined(places instanceof Promise ? await places : places, sparse === 0);
    let begin = at;
    let next = at;
    for (const run of runs) {
      next += run.length;
      // Where the target's sectors are larger, a run begins and ends with whole ones.
      const end = next >= length ? length : (run.stored ? Math.ceil : Math.floor)(next / unit) * unit;
      if (end <= begin) continue;
      if (run.stored) await move(begin, Math.min(end, length));
      else if (!fresh) await clear(begin, end);
      begin = end;
    }
    // The end of a hole that was not whole sectors of the target is copied with what follows.
    if (begin <= at) {
      await move(at, Math.min(at + unit, length));
      begin = at + unit;
    }
    at = begin;
  }
  pace.end();
  return report;
}

/** Places as runs of bytes that must be read, or read as zeros. */
function joined(places: Place[], all: boolean): { length: number; stored: boolean }[] {
  const runs: { length: number; stored: boolean }[] = [];
  for (const { kind, length } of places) {
    const stored = all || (kind !== "zero" && kind !== "hole");
    const last = runs[runs.length - 1];
    if (last?.stored === stored) last.length += length;
    else runs.push({ length, stored });
  }
  return runs;
}
