import type { Format } from "../../../core/format.ts";
import { checkVdi, repairVdi } from "./check.ts";
import { createVdi, measureVdi } from "./create.ts";
import { parseHeader } from "./header.ts";
import { VdiImage } from "./image.ts";
import { readLayout } from "./layout.ts";

/** VirtualBox's Virtual Disk Image, dynamic, fixed and differencing. */
export const vdi: Format = {
  name: "vdi",
  extensions: ["vdi"],
  probe: (head) => (parseHeader(head) ? 100 : 0),

  *open(store, { onWarning }) {
    return new VdiImage(yield* readLayout(store, onWarning));
  },

  create: createVdi,
  measure: measureVdi,
  check: checkVdi,
  repair: repairVdi,
};
