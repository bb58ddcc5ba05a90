import type { Format } from "../../../core/format.ts";
import { checkQcow2, repairQcow2 } from "./check.ts";
import { createQcow2, measureQcow2 } from "./create.ts";
import { MAGIC } from "./header.ts";
import { viewOf } from "./io.ts";
import { openQcow2 } from "./open.ts";

/** QEMU's copy-on-write image, versions 2 and 3. */
export const qcow2: Format = {
  name: "qcow2",
  extensions: ["qcow2", "qcow"],

  probe(head) {
    if (head.length < 8 || viewOf(head).getUint32(0) !== MAGIC) return 0;
    // Version 1 is another format.
    return viewOf(head).getUint32(4) >= 2 ? 100 : 0;
  },

  open: openQcow2,
  create: createQcow2,
  measure: measureQcow2,
  check: checkQcow2,
  repair: repairQcow2,
};
