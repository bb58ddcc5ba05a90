import type { Format } from "../../../core/format.ts";
import { checkParallels, repairParallels } from "./check.ts";
import { createParallels, measureParallels } from "./create.ts";
import { parseHeader } from "./header.ts";
import { ParallelsImage } from "./image.ts";
import { readLayout } from "./layout.ts";

/** Parallels' expanding hard disks: one file, a `.hdd` by itself or a `.hds` of a bundle. */
export const parallels: Format = {
  name: "parallels",
  extensions: ["hds", "hdd"],
  probe: (head) => (parseHeader(head) ? 100 : 0),

  *open(store, { onWarning }) {
    return new ParallelsImage(yield* readLayout(store, onWarning));
  },

  create: createParallels,
  measure: measureParallels,
  check: checkParallels,
  repair: repairParallels,
};
