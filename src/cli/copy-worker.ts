import { parentPort, workerData } from "node:worker_threads";
import { asParavaneError } from "../core/error.ts";
import { openDisk } from "../host/block/open.ts";
import { copyDisk } from "../host/image/copy.ts";
import { FileStore } from "../host/store/file.ts";
import { openingOf, openNamed, withDisk } from "./verb/img/open.ts";
import { type ShareAnswer, type ShareOrder, STOP, seenAs, takeParts } from "./verb/img/share.ts";

// A thread that helps to copy a disk into a raw file (verb/img/share.ts).

const { given, file, seen, target, size, fresh, sparse, next, number } = workerData as ShareOrder;
const stop = new AbortController();
parentPort!.on("message", (message) => {
  if (message === STOP) stop.abort();
});

async function help(): Promise<ShareAnswer> {
  function* parts() {
    Atomics.store(next, number, 1);
    yield* takeParts(next, size);
  }
  try {
    await withDisk(openNamed(file, openingOf(given)), async (source) => {
      // Another file has that name by now: whoever opened the first one copies it.
      if (source.size !== size || seenAs(file) !== seen) return;
      await withDisk(openDisk(new FileStore(target), { format: "raw" }), async (disk) => {
        await copyDisk(source, disk, { fresh, sparse, parts: parts(), signal: stop.signal });
      });
    });
    return {};
  } catch (thrown) {
    // What could not be begun is left to the others.
    if (Atomics.load(next, number) === 0) return {};
    const { code, message, context, hint } = asParavaneError(thrown);
    return { failure: { code, message, context: JSON.stringify(context), hint } };
  }
}

parentPort!.postMessage(await help());
// Nothing else keeps this thread.
parentPort!.close();
