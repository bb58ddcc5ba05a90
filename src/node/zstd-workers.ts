import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { asParavaneError, ParavaneError } from "../core/error.ts";
import { compressPool, type PackOrder, type PackWorker } from "../host/image/compress-pool.ts";
import type { Compress } from "../host/image/pack.ts";

const PACKAGE = "@bokuweb/zstd-wasm";
/** Each has a decoder's memory of its own, some 10 MiB with what Node needs for it. */
const MOST = 8;
/** Two thirds of the time that level 3 takes, and 2 % more room on programs; the same on text. */
const LEVEL = 2;

/** What a worker runs; text, so that it needs no file of its own, wherever this one is bundled. As `serveCompression`. */
const SOURCE = `
const { parentPort, workerData } = require("node:worker_threads");
const zstd = require(workerData.module);
const ready = zstd.init();
parentPort.on("message", async ({ memory, lengths }) => {
  const answer = { memory, packed: [] };
  try {
    await ready;
    let at = 0;
    for (const length of lengths) answer.packed.push(zstd.compress(memory.subarray(at, (at += length)), ${LEVEL}));
  } catch (thrown) {
    answer.packed = [];
    answer.error = String((thrown && thrown.message) || thrown);
  }
  parentPort.postMessage(answer, [memory.buffer]);
});
`;

/**
 * Compresses with the package @bokuweb/zstd-wasm, on a worker for each processor. They keep the process alive only while they
 * have something to do. @throws ParavaneError UNSUPPORTED when the package is not installed
 */
export function zstdWorkers(): Compress {
  let module: string;
  try {
    module = createRequire(import.meta.url).resolve(PACKAGE);
  } catch (thrown) {
    throw new ParavaneError(
      "UNSUPPORTED",
      `nothing here compresses with zstd (${asParavaneError(thrown).message.split("\n")[0]})`,
      {},
      { cause: thrown, hint: `Use Node 22.15 or later, install ${PACKAGE}, or choose compression_type=zlib` },
    );
  }
  return compressPool(() => nodeWorker(module), Math.min(MOST, availableParallelism()));
}

/** A worker of Node's, with the names that pages have. */
function nodeWorker(module: string): PackWorker {
  // Without the flags of this process, which may say what language the text is in.
  const worker = new Worker(SOURCE, { eval: true, workerData: { module }, execArgv: [] });
  let under = 0;
  let over = false;
  worker.unref();
  return {
    postMessage(order: PackOrder, transfer) {
      if (under++ === 0) worker.ref();
      worker.postMessage(order, transfer);
    },
    addEventListener(type, listener) {
      if (type === "message") {
        worker.on("message", (data) => {
          if (--under === 0) worker.unref();
          listener({ data });
        });
        return;
      }
      worker.on("error", listener);
      worker.on("exit", () => {
        if (!over) listener({ message: "it has ended" });
      });
    },
    terminate() {
      over = true;
      return worker.terminate();
    },
  };
}
