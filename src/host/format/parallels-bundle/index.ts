import { wait } from "../../../core/flow.ts";
import type { Format } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { checkBundle, repairBundle } from "./check.ts";
import { isDescriptor, readDescriptor } from "./descriptor.ts";
import { BundleImage } from "./image.ts";
import { openLayers } from "./layers.ts";

/** Parallels' disk bundles, by their DiskDescriptor.xml: plain, expanding and split disks, with snapshots. */
export const parallelsBundle: Format = {
  name: "parallels-bundle",
  extensions: [],
  written: true,
  probe: (head) => (isDescriptor(head) ? 100 : 0),

  *open(store, options) {
    const { readOnly = store.readOnly } = options;
    const descriptor = yield* readDescriptor(store);
    const opened: Store[] = [];
    let image: BundleImage | undefined;
    try {
      const storages = yield* openLayers(store, descriptor, { ...options, readOnly }, opened);
      image = new BundleImage(store, descriptor, storages, readOnly);
      return image;
    } finally {
      if (!image) for (const file of opened) yield* wait(file.close());
    }
  },

  check: checkBundle,
  repair: repairBundle,
};
