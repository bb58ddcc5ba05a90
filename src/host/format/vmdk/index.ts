import type { Format } from "../../../core/format.ts";
import { read, textAt } from "../io.ts";
import { checkVmdk, repairVmdk } from "./check.ts";
import { createVmdk, measureVmdk } from "./create.ts";
import { isDescriptor } from "./descriptor.ts";
import { openSplit } from "./extents.ts";
import { SparseVmdk } from "./image.ts";
import { compressed, readHeader, readLayout } from "./layout.ts";
import { SplitVmdk } from "./split-image.ts";
import { readStream, StreamVmdk } from "./stream.ts";

/** VMware's disks: in one sparse file, or in several, flat or sparse, with a descriptor apart; or compressed. */
export const vmdk: Format = {
  name: "vmdk",
  extensions: ["vmdk"],
  probe: (head) => (["KDMV", "COWD"].includes(textAt(head, 0, 4)) || isDescriptor(head) ? 100 : 0),

  *open(store, options) {
    const head = yield* read(store, 0, Math.min(512, store.size));
    if (isDescriptor(head)) return new SplitVmdk(yield* openSplit(store, options), options.codecs);
    const header = yield* readHeader(store);
    if (compressed(header)) return new StreamVmdk(yield* readStream(store, header), options);
    return new SparseVmdk(yield* readLayout(store, options.onWarning), options.onWarning);
  },

  create: createVmdk,
  measure: measureVmdk,
  check: checkVmdk,
  repair: repairVmdk,
};
