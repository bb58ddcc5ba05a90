import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import { clearLastBlock, compact, vacate } from "../blocks/compact.ts";
import { BlocksImage } from "../blocks/image.ts";
import { alignUp, fill, write } from "../io.ts";
import { checkedSize } from "./create.ts";
import { describeParallels } from "./describe.ts";
import { changedHeader, HEADER_BYTES, type HeaderChange, parseHeader, SECTOR } from "./header.ts";
import { layoutOf, type ParallelsLayout } from "./layout.ts";

/**
 * An expanding disk.
 *
 *   header │ block allocation table │ cluster │ cluster │ …
 */
export class ParallelsImage extends BlocksImage {
  readonly format = "parallels";
  declare protected layout: ParallelsLayout;

  /** The flag stays until the disk is closed. */
  override *begin(): Flow {
    yield* this.survey();
    yield* changeHeader(this.layout, { inUse: true, written: true });
  }
  *finish(): Flow {
    yield* changeHeader(this.layout, { inUse: false });
  }

  /** @throws ParavaneError INVALID, NO_SPACE */
  *resize(wanted: number): Flow {
    const { layout } = this;
    const { store, blockSize, header } = layout;
    const size = checkedSize(wanted, blockSize, header.extended);
    if (wanted % SECTOR !== 0 || wanted === 0) {
      const hint = `Give whole sectors of ${SECTOR} bytes`;
      throw new ParavaneError("INVALID", `a Parallels disk cannot be ${wanted} bytes`, { file: store.name }, { hint });
    }
    const entries = Math.ceil(size / blockSize);
    if (size < layout.size) {
      yield* changeHeader(layout, { size, entries });
      yield* compact(layout);
    } else if (size > layout.size) {
      yield* clearLastBlock(layout);
      const tableEnd = alignUp(HEADER_BYTES + entries * 4, SECTOR);
      const dataOffset = Math.max(layout.start, alignUp(tableEnd, layout.entry.unit));
      if (dataOffset > layout.start) yield* vacate(layout, dataOffset);
      const present = Math.ceil(layout.size / blockSize);
      yield* fill(store, HEADER_BYTES + present * 4, HEADER_BYTES + Math.max(entries, header.entries) * 4, 0);
      yield* wait(store.flush());
      yield* changeHeader(layout, { size, entries, dataOffset: dataOffset / SECTOR });
    }
    this.renew(layoutOf(store, layout.header));
    yield* this.survey();
  }

  describe(): Record<string, unknown> {
    return describeParallels(this.layout);
  }
}

/** Changes the header, durably. Its 64 bytes are in one sector, which a disk writes whole. */
export function* changeHeader(layout: ParallelsLayout, change: HeaderChange): Flow {
  const bytes = changedHeader(layout.header, change);
  yield* write(layout.store, 0, bytes);
  yield* wait(layout.store.flush());
  Object.assign(layout, layoutOf(layout.store, parseHeader(bytes)!));
}
