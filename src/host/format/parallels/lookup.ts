import type { Flow } from "../../../core/flow.ts";
import { ExtentKind } from "../../../core/format.ts";
import { isSound, placeOf } from "../blocks/layout.ts";
import { corrupt, unsupported } from "../io.ts";
import { LookupImage } from "../lookup/image.ts";
import type { Found } from "../lookup/mapper.ts";
import { describeParallels } from "./describe.ts";
import { HEADER_BYTES } from "./header.ts";
import { type ParallelsLayout, TABLE } from "./layout.ts";

/**
 * An expanding disk whose clusters are no power of two: Parallels' first versions made them of 63 sectors, or of 252 KiB (QEMU,
 * docs/interop/parallels.txt, "Definitions"). Only read.
 */
export class LookedParallels extends LookupImage {
  readonly format = "parallels";
  readonly #layout: ParallelsLayout;

  constructor(layout: ParallelsLayout) {
    super(layout.store, layout.size);
    this.#layout = layout;
  }

  get zeroUnit(): number {
    return this.#layout.blockSize;
  }

  find(offset: number): Found {
    const { blockSize } = this.#layout;
    const index = Math.floor(offset / blockSize);
    const within = offset - index * blockSize;
    const length = Math.min(blockSize - within, this.size - offset);
    const page = this.pages.at(HEADER_BYTES + index * 4);
    const entry = page.view.getUint32(page.at, true);
    if (entry === 0) return { kind: this.#layout.hole, length };
    const place = placeOf(this.#layout, entry);
    if (isSound(this.#layout, entry)) return { kind: ExtentKind.Data, length, position: place + within };
    const what = `points at byte ${place} in entry ${index}, where no cluster can be`;
    throw corrupt(this.store, TABLE, HEADER_BYTES + index * 4, what);
  }

  /** @throws ParavaneError UNSUPPORTED */
  *begin(): Flow {
    const { store, blockSize } = this.#layout;
    const hint = `Convert it first: paravane img convert -O parallels ${store.name} NEW.hdd`;
    throw unsupported(store, "header", `Parallels disks with clusters of ${blockSize} bytes are only read`, hint);
  }

  describe(): Record<string, unknown> {
    return describeParallels(this.#layout);
  }
}
