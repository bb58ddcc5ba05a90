import type { Block } from "../../../core/block.ts";
import { ParavaneError } from "../../../core/error.ts";
import type { Flow } from "../../../core/flow.ts";
import type { DirtyBitmaps, Image, Mapper, ParentReference, Snapshots } from "../../../core/format.ts";
import type { KeySlots } from "../../../core/keys.ts";
import type { SegmentList } from "../../../core/segments.ts";
import type { Store } from "../../../core/store.ts";

/** A disk inside an archive: its own image, of which positions are in a part of the archive. */
export class OvaImage implements Image {
  readonly format = "ova";
  readonly size: number;
  readonly sectorSize: number;
  readonly data: Store;
  readonly dirty = false;
  readonly encrypted: boolean;
  readonly sparse: boolean;
  // The disk is read-only, so that of these only what reads is ever called.
  readonly keys?: KeySlots;
  readonly snapshots?: Snapshots;
  readonly bitmaps?: DirtyBitmaps;
  readonly #image: Image;
  readonly #archive: string;
  readonly #member: string;

  constructor(image: Image, window: Store, archive: string, member: string) {
    this.#archive = archive;
    this.#image = image;
    this.size = image.size;
    this.sectorSize = image.sectorSize;
    this.data = image.data ?? window;
    this.encrypted = image.encrypted ?? false;
    this.sparse = image.sparse ?? false;
    if (image.keys) this.keys = image.keys;
    if (image.snapshots) this.snapshots = image.snapshots;
    if (image.bitmaps) this.bitmaps = image.bitmaps;
    this.#member = member;
  }

  get mapper(): Mapper {
    return this.#image.mapper;
  }
  get parent(): ParentReference | undefined {
    return this.#image.parent;
  }
  get identity(): string | undefined {
    return this.#image.identity;
  }
  attach(backing: Block): void {
    this.#image.attach?.(backing);
  }
  load(): Flow {
    return this.#image.load();
  }
  fault(): ParavaneError {
    return this.#image.fault();
  }
  *unpack(offset: number, memory: Uint8Array, segments: SegmentList): Flow {
    yield* this.#image.unpack!(offset, memory, segments);
  }
  // Nobody opens it for writing.
  *allocate(): Flow {
    throw new ParavaneError("READ_ONLY", "ova images are only read", { file: this.data.name });
  }
  *sync(): Flow {}

  describe(): Record<string, unknown> {
    const own = this.#image.describe();
    const { data } = (own.formatSpecific ?? {}) as { data?: { extents?: object[] } };
    // All of them are in the archive.
    const extents = data?.extents?.map((extent) => ({ ...extent, filename: this.#archive }));
    const member = { member: this.#member, "member-format": this.#image.format };
    const formatSpecific = { type: this.format, data: { ...data, ...member, ...(extents && { extents }) } };
    return { ...own, format: this.format, formatSpecific };
  }
}
