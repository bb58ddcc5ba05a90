import { Op } from "../../core/block.ts";
import { ParavaneError } from "../../core/error.ts";
import type { Later } from "../../core/flow.ts";
import { ScanBuffers } from "../../wasm/scan.ts";
import type { Disk } from "../block/open.ts";
import type { Place } from "../block/places.ts";
import { Lanes } from "./lanes.ts";
import { Requests } from "./request.ts";
import { Pace, type TaskOptions, Throttle } from "./task.ts";

export interface CopyOptions extends TaskOptions {
  /** Bytes of the source and the target to begin at, whole sectors; and how many. Default: all of the source. */
  from?: number;
  to?: number;
  length?: number;
  /** Bytes [start, end) of these to copy, for several threads that share them: multiples of the sectors. Default: all. */
  parts?: Iterable<readonly [start: number, end: number]>;
  /** The target reads as zeros: zeros need not be written. */
  fresh?: boolean;
  /** Runs of zeros this long, in bytes (a multiple of 512), are not written as data. 0: everything is. Default 4096. */
  sparse?: number;
  /** Only what the source holds itself, or a parent nearer than this many steps: 1 leaves all its parents out. */
  depth?: number;
  /** Bytes moved a second, at most. */
  rate?: number;
}

export interface CopyReport {
  /** Bytes looked at, read, and written as data. */
  length: number;
  read: number;
  written: number;
}

/** Bytes moved at a time, and how many such moves are under way together where a store works asynchronously. */
const CHUNK = 1 << 21;
const LANES = 6;
/** Bytes that the source is asked about at a time. */
const WINDOW = 2 ** 30;

/**
 * Copies a disk's content. What the source does not store is not read; the source is never written. The target is as large
 * as what it gets, at least. Memory: buffers of 12 MiB. Reading and writing go on side by side where a store is asynchronous.
 * @throws ParavaneError ABORTED, OUT_OF_RANGE, NO_SPACE, READ_ONLY, MEDIA, CORRUPT, IO
 */
export async function copyDisk(source: Disk, target: Disk, options: CopyOptions = {}): Promise<CopyReport> {
  const { from = 0, to = 0, length = source.size - from, fresh = false, sparse = 4096, depth } = options;
  const { parts = [[0, length]] } = options;
  if (to + length > target.size) {
    const context = { offset: to, length };
    throw new ParavaneError("OUT_OF_RANGE", `${length} bytes do not fit a disk of ${target.size}`, context);
  }
  if (!Number.isInteger(sparse / 512) || sparse < 0) {
    const hint = "Multiples of 512";
    throw new ParavaneError("INVALID", `zeros cannot be told apart every ${sparse} bytes`, {}, { hint });
  }
  const unit = Math.max(source.sectorSize, target.sectorSize);
  const buffers = new ScanBuffers(LANES, CHUNK);
  const lanes = new Lanes(LANES);
  const requests = Array.from({ length: LANES }, () => new Requests(buffers.memory));
  const report: CopyReport = { length: 0, read: 0, written: 0 };
  const pace = new Pace(options, length);
  const throttle = new Throttle(options.rate);

  /** Writes what has been read into the lane's buffer. */
  const put = (lane: number, at: number, size: number): Later<void> => {
    const buffer = lane * CHUNK;
    // A target with larger sectors ends after the source does.
    const whole = Math.ceil(size / target.sectorSize) * target.sectorSize;
    if (whole > size) buffers.memory.fill(0, buffer + size, buffer + whole);
    for (let done = 0; done < whole; ) {
      const found =
        sparse === 0 ? whole : buffers.zeroRun(buffer + done, whole - done, Math.max(sparse, target.sectorSize));
      const run = found & ~1;
      if ((found & 1) === 0) {
        requests[lane].add(Op.Write, to + at + done, run, buffer + done);
        report.written += run;
      } else if (!fresh) requests[lane].add(Op.WriteZeroes, to + at + done, run, 0);
      done += run;
    }
    return requests[lane].submit(target);
  };
  /** A run of bytes that are stored: reads them, and writes what is not zero. */
  const move = async (start: number, end: number) => {
    for (let at = start; at < end; ) {
      const wait = pace.step(at) ?? throttle.step(report.read) ?? lanes.ready();
      if (wait) {
        await wait;
        continue;
      }
      const size = Math.min(CHUNK, end - at);
      const begin = at;
      lanes.start((lane) => {
        requests[lane].add(Op.Read, from + begin, size, lane * CHUNK);
        const reading = requests[lane].submit(source);
        report.read += size;
        return reading ? reading.then(() => put(lane, begin, size)) : put(lane, begin, size);
      });
      at += size;
    }
  };
  const clear = async (start: number, end: number) => {
    for (let at = start; at < end; ) {
      const wait = pace.step(at) ?? lanes.ready();
      if (wait) {
        await wait;
        continue;
      }
      const size = Math.ceil((Math.min(end, at + WINDOW) - at) / target.sectorSize) * target.sectorSize;
      const begin = at;
      lanes.start((lane) => {
        requests[lane].add(Op.WriteZeroes, to + begin, size, 0);
        return requests[lane].submit(target);
      });
      at += WINDOW;
    }
  };

  /** Bytes [at, partEnd) of what is to be copied; the last of it may still be under way when this returns. */
  const copyPart = async (at: number, partEnd: number) => {
    while (at < partEnd) {
      const wait = pace.step(at);
      if (wait) await wait;
      const places = source.places(from + at, Math.min(WINDOW, partEnd - at));
      const runs = joined(places instanceof Promise ? await places : places, sparse === 0, depth);
      let begin = at;
      let next = at;
      for (const run of runs) {
        const start = next;
        next += run.length;
        // A sector of the larger kind that began as part of another run.
        if (begin < start && run.what !== "stored") {
          const end = Math.min(begin + unit, partEnd);
          await move(begin, end);
          begin = end;
        }
        // Where the target's sectors are larger, a run begins and ends with whole ones.
        const end = next >= partEnd ? partEnd : (run.what === "stored" ? Math.ceil : Math.floor)(next / unit) * unit;
        if (end <= begin) continue;
        if (run.what === "stored") await move(begin, Math.min(end, partEnd));
        else if (run.what === "zeros" && !fresh) await clear(begin, end);
        begin = end;
      }
      // The end of a hole that was not whole sectors of the target is copied with what follows.
      if (begin <= at) {
        await move(at, Math.min(at + unit, partEnd));
        begin = at + unit;
      }
      at = begin;
    }
  };

  try {
    for (const [start, end] of parts) {
      report.length += end - start;
      await copyPart(start, end);
    }
  } finally {
    // Nothing of it may go on behind the caller's back, whatever happened.
    await lanes.settled();
  }
  lanes.check();
  pace.end();
  return report;
}

interface Run {
  length: number;
  what: "stored" | "zeros" | "other";
}

/** Places as runs of bytes that must be read, that read as zeros, or that are another's than asked for. */
function joined(places: Place[], all: boolean, within = Number.POSITIVE_INFINITY): Run[] {
  const runs: Run[] = [];
  for (const { kind, length, depth } of places) {
    const empty = kind === "zero" || kind === "hole";
    const other = depth >= within || (kind === "hole" && Number.isFinite(within));
    const what = other ? "other" : empty && !all ? "zeros" : "stored";
    const last = runs[runs.length - 1];
    if (last?.what === what) last.length += length;
    else runs.push({ length, what });
  }
  return runs;
}
