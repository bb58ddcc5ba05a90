import { BlockRequest, Op, Status } from "../../core/block.ts";
import { ParavaneError } from "../../core/error.ts";
import type { Disk } from "../block/open.ts";
import { codeOf } from "../block/status.ts";
import { Pace, type TaskOptions } from "./task.ts";

export interface BenchOptions extends TaskOptions {
  /** Requests in all (default 75,000), and how many are in flight together (64). */
  count?: number;
  depth?: number;
  /** Bytes of the first request's place (0), of each request (4096), and from one to the next (as large as a request). */
  offset?: number;
  size?: number;
  step?: number;
  /** Writes this byte; reads when absent. */
  write?: number;
  /** Flushes after so many writes. */
  flushInterval?: number;
}

export interface BenchReport {
  requests: number;
  bytes: number;
  flushes: number;
  seconds: number;
}

/**
 * Sends requests one after another through the disk, from its start again when it ends, and measures how long that takes.
 * Places and sizes are whole sectors.
 * @throws ParavaneError INVALID, ABORTED, and what a request fails with
 */
export async function benchDisk(disk: Disk, options: BenchOptions = {}): Promise<BenchReport> {
  const { count = 75000, depth = 64, offset = 0, size = 4096, step = size, write, flushInterval = 0 } = options;
  const unit = disk.sectorSize;
  for (const [name, value] of Object.entries({ offset, size, step })) {
    if (Number.isSafeInteger(value) && value >= 0 && value % unit === 0) continue;
    throw new ParavaneError("INVALID", `${name} ${value} is not whole sectors of ${unit} bytes`);
  }
  if (size === 0 || size > disk.size || offset + size > disk.size) {
    throw new ParavaneError("INVALID", `requests of ${size} bytes from ${offset} on do not fit a disk of ${disk.size}`);
  }
  if (!(count >= 1 && depth >= 1)) throw new ParavaneError("INVALID", "at least one request, one at a time");
  const memory = new Uint8Array(Math.min(count, depth) * size).fill(write ?? 0);
  const pool = Array.from({ length: Math.min(count, depth) }, (_, i) => {
    const request = new BlockRequest();
    request.op = write === undefined ? Op.Read : Op.Write;
    request.length = size;
    request.memory = memory;
    request.segments.push(i * size, size);
    return request;
  });
  const flush = new BlockRequest();
  flush.op = Op.Flush;
  const report: BenchReport = { requests: 0, bytes: 0, flushes: 0, seconds: 0 };
  const pace = new Pace(options, count);
  const start = performance.now();
  let at = offset;
  while (report.requests < count) {
    const wait = pace.step(report.requests);
    if (wait) await wait;
    const left = flushInterval > 0 ? flushInterval - (report.requests % flushInterval) : depth;
    const batch = pool.slice(0, Math.min(depth, left, count - report.requests));
    for (const request of batch) {
      request.offset = at;
      at += step;
      if (at + size > disk.size) at = offset;
    }
    report.requests += batch.length;
    if (flushInterval > 0 && report.requests % flushInterval === 0) {
      batch.push(flush);
      report.flushes++;
    }
    const pending = disk.submit(batch);
    if (pending) await pending;
    const failed = batch.find(({ status }) => status !== Status.Ok);
    if (failed) throw failed.error ?? new ParavaneError(codeOf(failed.status), "the request failed");
  }
  report.seconds = (performance.now() - start) / 1000;
  report.bytes = report.requests * size;
  pace.end();
  return report;
}
