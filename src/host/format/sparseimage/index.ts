import { ExtentKind, type Format } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { corrupt } from "../io.ts";
import { LookupImage } from "../lookup/image.ts";
import type { Found } from "../lookup/mapper.ts";
import { checkUnits } from "../lookup/unit-check.ts";
import { type Bands, isSparseImage, readBands } from "./bands.ts";

class SparseImage extends LookupImage {
  readonly format = "sparseimage";
  readonly #bands: Bands;

  constructor(store: Store, bands: Bands) {
    super(store, bands.size);
    this.#bands = bands;
  }

  find(offset: number): Found {
    const { stored, bandBytes, size } = this.#bands;
    // The first that ends behind it.
    let [low, high] = [0, stored.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (stored[middle].start + bandBytes <= offset) low = middle + 1;
      else high = middle;
    }
    const next = stored[low];
    if (!next || next.start > offset) return { kind: ExtentKind.Backing, length: (next?.start ?? size) - offset };
    const within = offset - next.start;
    const length = Math.min(bandBytes, size - next.start) - within;
    const position = next.position + within;
    if (position + length <= this.store.size) return { kind: ExtentKind.Data, length, position };
    throw corrupt(this.store, "band", next.position, `passes the end of the file, ${this.store.size}`);
  }

  describe(): Record<string, unknown> {
    const { size, bandBytes, stored } = this.#bands;
    return { format: this.format, size, clusterSize: bandBytes, bands: stored.length };
  }
}

/** Apple's sparse disk images, in one file; read only. */
export const sparseimage: Format = {
  name: "sparseimage",
  extensions: ["sparseimage"],
  probe: (head) => (isSparseImage(head) ? 100 : 0),

  *open(store) {
    return new SparseImage(store, yield* readBands(store));
  },

  *check(store) {
    const bands = yield* readBands(store);
    const image = new SparseImage(store, bands);
    return yield* checkUnits(image, bands.bandBytes);
  },
};
