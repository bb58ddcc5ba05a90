import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { compressPool, type PackOrder, type PackWorker } from "../host/image/compress-pool.ts";
import { coreZstdParts } from "../host/image/core-zstd.ts";
import type { Compress } from "../host/image/pack.ts";

/** Each has a memory of its own, some 10 MiB with what Node needs for it. */
const MOST = 8;

/**
 * What a worker runs, `ZstdPacker` with `serveCompression`: text, so that it needs no file of its own, wherever this one is
 * bundled.
 */
const SOURCE = `
const { parentPort, workerData } = require("node:worker_threads");
const { module, input, slack, room } = workerData;
let most = -1;
let bytes;
let core;
function pack(unit) {
  if (unit.length > most) {
    most = unit.length;
    const pages = Math.ceil((input + most + slack + most + room) / 65536);
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    bytes = new Uint8Array(memory.buffer);
    core = new WebAssembly.Instance(module, { env: { memory } }).exports;
  }
  const output = input + most + slack;
  bytes.set(unit, input);
  return bytes.subarray(output, output + core.zstd(input, unit.length, output, 0));
}
parentPort.on("message", ({ memory, lengths }) => {
  const answer = { memory, packed: [] };
  const buffers = [memory.buffer];
  try {
    let at = 0;
    let put = 0;
    for (const length of lengths) {
      const packed = pack(memory.subarray(at, (at += length)));
      if (put + packed.length <= at) {
        memory.set(packed, put);
        answer.packed.push(memory.subarray(put, (put += packed.length)));
      } else {
        answer.packed.push(packed.slice());
        buffers.push(answer.packed.at(-1).buffer);
      }
    }
  } catch (thrown) {
    answer.packed = [];
    answer.error = String((thrown && thrown.message) || thrown);
  }
  parentPort.postMessage(answer, buffers);
});
`;

/** Compresses in the core, on a worker for each processor. They keep the process alive only while they have something to do. */
export function zstdWorkers(): Compress {
  return compressPool(nodeWorker, Math.min(MOST, availableParallelism()));
}

/** A worker of Node's, with the names that pages have. */
function nodeWorker(): PackWorker {
  // Without the flags of this process, which may say what language the text is in.
  const worker = new Worker(SOURCE, { eval: true, workerData: coreZstdParts(), execArgv: [] });
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
