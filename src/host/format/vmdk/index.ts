import type { Format } from "../../../core/format.ts";
import { textAt } from "../io.ts";
import { checkVmdk, repairVmdk } from "./check.ts";
import { createVmdk, measureVmdk } from "./create.ts";
import { isDescriptor } from "./descriptor.ts";
import { SparseVmdk } from "./image.ts";
import { readLayout } from "./layout.ts";

/** VMware's disks in one sparse file (monolithicSparse), with parents; other kinds are known and refused. */
export const vmdk: Format = {
  name: "vmdk",
  extensions: ["vmdk"],
  probe: (head) => (["KDMV", "COWD"].includes(textAt(head, 0, 4)) || isDescriptor(head) ? 100 : 0),

  *open(store, { onWarning }) {
    return new SparseVmdk(yield* readLayout(store, onWarning));
  },

  create: createVmdk,
  measure: measureVmdk,
  check: checkVmdk,
  repair: repairVmdk,
};
