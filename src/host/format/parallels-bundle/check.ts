import { type Flow, wait } from "../../../core/flow.ts";
import type { CheckFiles, CheckReport } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { addReport, emptyReport, noteProblem } from "../lookup/tree-check.ts";
import { checkParallels, repairParallels } from "../parallels/check.ts";
import { readDescriptor } from "./descriptor.ts";
import { openLayers } from "./layers.ts";

/** What counts as a cluster in a plain file. */
const UNIT = 2 ** 20;

/** Checks each file by itself, and that it is as large as its part of the disk. @throws ParavaneError as opening does */
export function* checkBundle(store: Store, options: CheckFiles = {}): Flow<CheckReport> {
  return yield* each(store, options, true, checkParallels);
}

/** Mends each expanding disk by itself. @throws ParavaneError as `repairParallels`, and as opening does */
export function* repairBundle(store: Store, what: "leaks" | "all", options: CheckFiles = {}): Flow<CheckReport> {
  return yield* each(store, options, false, (file, over) => repairParallels(file, what, { over }));
}

function* each(
  store: Store,
  { openFile }: CheckFiles,
  readOnly: boolean,
  work: (file: Store, over: boolean) => Flow<CheckReport>,
): Flow<CheckReport> {
  const report = emptyReport(0);
  const opened: Store[] = [];
  // Older files are mended too.
  const opening = openFile && { openFile: (name: string) => openFile(name, readOnly) };
  try {
    const storages = yield* openLayers(store, yield* readDescriptor(store), { ...opening, readOnly: true }, opened);
    for (const { from, to, layers } of storages) {
      for (const [depth, { image, store: file, file: name }] of layers.entries()) {
        // What an older file holds is not what was lost.
        const own = image ? yield* work(file, depth < layers.length - 1) : plain(file.size);
        const size = image?.size ?? file.size;
        // What was before the disk grew is smaller.
        if (depth === 0 && size < to - from) {
          const message = `has ${size} bytes, its part of the disk ${to - from}`;
          noteProblem(own, { kind: "structure", structure: image ? "header" : "plain image", offset: 0, message });
        }
        addReport(report, own, name);
      }
    }
  } finally {
    for (const file of opened) yield* wait(file.close());
  }
  return report;
}

function plain(size: number): CheckReport {
  const clusters = Math.ceil(size / UNIT);
  return { ...emptyReport(clusters), allocatedClusters: clusters, imageEndOffset: size };
}
