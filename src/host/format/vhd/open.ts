import type { Flow } from "../../../core/flow.ts";
import type { Image, OpenOptions } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { DynamicVhd } from "./dynamic.ts";
import { FixedVhd } from "./fixed.ts";
import { readLayout } from "./layout.ts";

export function* openVhd(store: Store, options: OpenOptions): Flow<Image> {
  const layout = yield* readLayout(store, options.onWarning);
  return layout.dynamic ? new DynamicVhd(layout, layout.dynamic) : new FixedVhd(layout);
}
