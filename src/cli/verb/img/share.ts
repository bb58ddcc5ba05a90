import { existsSync, statSync } from "node:fs";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { type ErrorCode, ParavaneError } from "../../../core/error.ts";
import { imageFile } from "../../../node/bundle.ts";
import type { Given } from "./options.ts";

// A copy into a raw file that threads share: each takes the next part of the disk, until there is none. All of them open the
// source for themselves. There is nothing else to agree on: a raw file has each byte in a place of its own.

/** Bytes of an image from which on another thread is worth its start, and threads at the most. */
const MUCH = 2 ** 27;
const MOST = 3;
/** Parts of this many bytes, or of multiples of it, so that there are not more than so many. */
const PART = 2 ** 25;
const PARTS = 4096;
/** In the place of the next part: nobody is to take one. */
const NONE = 2 ** 30;
/** What a thread is told that is to leave its part as it is. */
export const STOP = "stop";

/** What a thread needs to help. It is copied: no secrets are in it. */
export interface ShareOrder {
  /** The command line, and its source as it was when it was opened. */
  given: Given;
  file: string;
  seen: string;
  /** The raw file. */
  target: string;
  size: number;
  fresh: boolean;
  sparse: number;
  /** The next part, for all; then, for each thread, whether it may have taken any. */
  next: Int32Array;
  /** Where in that its own place is. */
  number: number;
}

/** How it ended. Without a failure it is done with all the parts that it took, or took none. */
export interface ShareAnswer {
  failure?: { code: ErrorCode; message: string; context: string; hint: string | undefined };
}

/** Parts of a disk that nobody has taken yet, in bytes. */
export function* takeParts(next: Int32Array, size: number): Generator<[start: number, end: number]> {
  const bytes = PART * Math.ceil(size / PART / PARTS);
  for (;;) {
    const start = Atomics.add(next, 0, 1) * bytes;
    if (start >= size) return;
    yield [start, Math.min(start + bytes, size)];
  }
}

/** What tells whether a file has been replaced or written since. */
export function seenAs(file: string): string {
  const { dev, ino, size, mtimeMs } = statSync(imageFile(file));
  return [dev, ino, size, mtimeMs].join();
}

/** What helps is a file of its own beside this one, once the command line is built. */
const HELPER = new URL("./copy-worker.js", import.meta.url);

/** Is the image large enough that threads are worth it, where they can help? */
export function isWorthSharing(given: Given, file: string): boolean {
  if (availableParallelism() === 1 || !existsSync(HELPER)) return false;
  // Each would derive keys for itself, and standard input is there once.
  if (["object", "passphrase-file"].some((name) => given.values.has(name))) return false;
  return (statSync(imageFile(file), { throwIfNoEntry: false })?.size ?? 0) >= MUCH;
}

/** Runs `work` with parts to take, while threads take others. @throws what any of them throws, with all of them at an end */
export async function shareCopy(
  order: Omit<ShareOrder, "next" | "number">,
  work: (parts: Iterable<[start: number, end: number]>) => Promise<void>,
): Promise<void> {
  const count = Math.min(availableParallelism(), MOST) - 1;
  const next = new Int32Array(new SharedArrayBuffer(4 * (1 + count)));
  const helpers = Array.from({ length: count }, (_, i) => helperFor({ ...order, next, number: 1 + i })).filter(
    (helper) => helper !== undefined,
  );
  try {
    await work(takeParts(next, order.size));
    const answers = await Promise.all(helpers.map(({ answer }) => answer));
    for (const { failure } of answers) {
      if (!failure) continue;
      const { code, message, context, hint } = failure;
      throw new ParavaneError(code, message, JSON.parse(context), hint === undefined ? {} : { hint });
    }
  } finally {
    Atomics.store(next, 0, NONE);
    // They are asked to end, not made to: a thread that is ended while it loads koffi takes the process with it.
    for (const { worker } of helpers) worker.postMessage(STOP);
    await Promise.all(helpers.map(({ gone }) => gone));
  }
}

interface Helper {
  worker: Worker;
  answer: Promise<ShareAnswer>;
  gone: Promise<unknown>;
}

/** None where the system has no more threads. */
function helperFor(order: ShareOrder): Helper | undefined {
  let worker: Worker;
  try {
    // Without the flags of this process, which may say what language the text is in.
    worker = new Worker(fileURLToPath(HELPER), { workerData: order, execArgv: [] });
  } catch {
    return undefined;
  }
  const gone = new Promise((resolve) => worker.once("exit", resolve));
  return { worker, answer: answerOf(worker, order), gone };
}

/** How a helper ended. After a failure nobody takes another part; one that has taken none is not missed. */
function answerOf(worker: Worker, { next, number }: ShareOrder): Promise<ShareAnswer> {
  return new Promise((resolve) => {
    const end = (answer: ShareAnswer) => {
      if (answer.failure) Atomics.store(next, 0, NONE);
      resolve(answer);
    };
    const fail = (message: string) => {
      const failure = { code: "IO", message, context: "{}", hint: undefined } as const;
      end(Atomics.load(next, number) === 0 ? {} : { failure });
    };
    worker.once("message", end);
    worker.once("error", (thrown) => fail(`a thread that copies has failed: ${thrown.message}`));
    worker.once("exit", () => fail("a thread that copies has ended"));
  });
}
