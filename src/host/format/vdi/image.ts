import { type Flow, wait } from "../../../core/flow.ts";
import type { NewParent, ParentReference } from "../../../core/format.ts";
import { BlocksImage } from "../blocks/image.ts";
import { entryFor } from "../blocks/layout.ts";
import { NO_GUID, newGuid } from "../guid.ts";
import { unsupported, write } from "../io.ts";
import { changedHeader, type Header, type HeaderChange, ImageType, parseHeader } from "./header.ts";
import { layoutOf, type VdiLayout } from "./layout.ts";
import { parentUuids } from "./parent.ts";
import { resizeVdi } from "./resize.ts";

/**
 * Dynamic, fixed and differencing disks: they differ only in what their map says.
 *
 *   header │ block map │ block │ block │ …
 *
 * "Blocks allocated" is where other products put the next block, so it is never less than what is in use: it is written
 * with a flush before the entries that need it.
 */
export class VdiImage extends BlocksImage {
  readonly format = "vdi";
  /** "UUID of image's last modification", once it is changed. */
  readonly #next = newGuid();
  declare protected layout: VdiLayout;

  get #header(): Header {
    return this.layout.header;
  }
  override get parent(): ParentReference | undefined {
    return this.layout.parent;
  }
  get identity(): string {
    return `${this.#header.created}/${this.#header.modified}`;
  }
  get nextIdentity(): string {
    return `${this.#header.created}/${this.#next}`;
  }

  override *begin(): Flow {
    yield* this.survey();
    yield* this.change({ modified: this.#next, allocated: this.#slots });
  }

  /** The count first, durable before any entry. */
  *stage(): Flow {
    if (this.#header.allocated < this.#slots) yield* this.#write({ allocated: this.#slots });
  }

  get #slots(): number {
    return entryFor(this.layout, this.end);
  }

  /** @throws ParavaneError INVALID, NO_SPACE, UNSUPPORTED when the parent would show in what is new */
  *resize(size: number): Flow {
    const header = yield* resizeVdi(this.layout, size, this.backing);
    this.renew(layoutOf(this.layout.store, header));
    yield* this.survey();
  }

  /** @throws ParavaneError INVALID */
  *setParent(parent: NewParent | undefined): Flow {
    if (!parent && !this.layout.hasParent) return;
    if (this.#header.type === ImageType.Fixed && parent) {
      const hint = "Convert it to a dynamic one first";
      throw unsupported(this.layout.store, "header", "a fixed VDI holds all its blocks: no parent could show", hint);
    }
    const type = parent ? ImageType.Differencing : ImageType.Dynamic;
    yield* this.change({ type, parent: parent ? parentUuids(parent) : null });
    if (!parent) this.backing = undefined;
    this.renew(layoutOf(this.layout.store, this.#header));
  }

  /** @throws ParavaneError UNSUPPORTED, for a fixed disk */
  *empty(): Flow {
    if (this.#header.type === ImageType.Fixed) {
      throw unsupported(this.layout.store, "header", "a fixed VDI keeps its blocks");
    }
    yield* this.dropAll();
    yield* this.change({ allocated: this.#slots });
    this.renew(layoutOf(this.layout.store, this.#header));
  }

  /** Changes the header, durably. */
  *change(change: HeaderChange): Flow {
    yield* this.#write(change);
    yield* wait(this.layout.store.flush());
  }

  /** It is one sector, which a disk writes whole. */
  *#write(change: HeaderChange): Flow {
    const bytes = changedHeader(this.#header, change);
    yield* write(this.layout.store, 0, bytes);
    this.layout.header = parseHeader(bytes)!;
  }

  describe(): Record<string, unknown> {
    const { text, version, type, flags, comment, geometry, logicalGeometry, ...header } = this.#header;
    const known = Object.entries(ImageType)
      .find(([, value]) => value === type)![0]
      .toLowerCase();
    return {
      format: this.format,
      subformat: known,
      size: this.size,
      blockSize: header.blockSize,
      allocatedBlocks: header.allocated,
      creator: text.replace(/^<+ | >+$/g, ""),
      version: version.join("."),
      uuid: header.created,
      modificationUuid: header.modified,
      ...(header.parent !== NO_GUID && { parentUuid: header.parent, parentModificationUuid: header.parentModified }),
      geometry,
      ...(logicalGeometry && { logicalGeometry }),
      ...(header.blockExtra > 0 && { blockExtra: header.blockExtra }),
      ...(flags !== 0 && { flags }),
      ...(comment !== "" && { comment }),
    };
  }
}
