import type { Flow } from "../../../core/flow.ts";
import type { Format, OpenOptions } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { refusePart } from "./alone.ts";
import { checkParallels, repairParallels } from "./check.ts";
import { createParallels, measureParallels } from "./create.ts";
import { parseHeader } from "./header.ts";
import { ParallelsImage } from "./image.ts";
import { isUsual, readLayout } from "./layout.ts";
import { LookedParallels } from "./lookup.ts";

/** @throws ParavaneError CORRUPT, UNSUPPORTED */
export function* openParallels(store: Store, { onWarning }: OpenOptions): Flow<ParallelsImage | LookedParallels> {
  const layout = yield* readLayout(store, onWarning);
  return isUsual(layout) ? new ParallelsImage(layout) : new LookedParallels(layout);
}

/** Parallels' expanding hard disks: one file, a `.hdd` by itself or a `.hds` of a bundle. */
export const parallels: Format = {
  name: "parallels",
  extensions: ["hds", "hdd"],
  probe: (head) => (parseHeader(head) ? 100 : 0),
  *open(store, options) {
    yield* refusePart(store, options);
    return yield* openParallels(store, options);
  },
  create: createParallels,
  measure: measureParallels,
  check: checkParallels,
  repair: repairParallels,
};
