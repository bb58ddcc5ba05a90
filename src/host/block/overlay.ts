import type { Block } from "../../core/block.ts";
import type { AsyncCloseable } from "../../core/dispose.ts";
import { ParavaneError } from "../../core/error.ts";
import type { NewParent } from "../../core/format.ts";
import type { Store } from "../../core/store.ts";
import { OverlayImage } from "../filter/overlay.ts";
import { Engine } from "./engine.ts";
import { createDisk, type Disk } from "./open.ts";

export interface OverlayOptions {
  /** Bytes that scratch space is given out in: a power of two from 4 KiB to 64 KiB. */
  clusterBytes?: number;
}

export interface CreateOverlayOptions {
  /** "qcow2" over anything; "vhd" over a VHD, "vhdx" over a VHDX. */
  format: string;
  /**
   * How the image is to name the base, for those who open it by its name: as found from the image's own folder, or an
   * absolute path. Its format and identity are the base's own unless given.
   */
  parent: NewParent;
  /** Bytes; the base's when absent. */
  size?: number;
  signal?: AbortSignal;
  /** The format's own, as for `createDisk`. */
  [option: string]: unknown;
}

/**
 * Makes a real image in an empty store that holds what is written over `base`, and opens it: any base will do, a read-only
 * file, one behind HTTP, a Blob. It closes both. It is opened again with `openDisk(store, { backing: base })`, or by its name
 * through a gate; other programs open it where they reach the base under that name.
 * @throws ParavaneError EXISTS (the store is not empty), INVALID (the format wants another kind of base), NO_SPACE, ABORTED
 */
export function createOverlay(base: Block, store: Store, options: CreateOverlayOptions): Promise<Disk> {
  const { size = base.size, parent, ...rest } = options;
  return createDisk(store, { ...rest, size, parent: parentNote(base, parent), backing: base });
}

/** What an image is to note of the block that it is based on. */
export function parentNote(base: Block, parent: NewParent): NewParent {
  if (!(base instanceof Engine)) return { format: "raw", ...parent };
  const { format, identity } = base.image;
  const { modified } = base.store;
  return {
    format,
    ...(identity !== undefined && { identity }),
    ...(modified !== undefined && { modified }),
    ...parent,
  };
}

/**
 * A block that reads as `base` until written; what is written goes to `scratch`, and `base` stays as it is. The changes end
 * with the block, which closes both.
 * @throws ParavaneError INVALID, EXISTS (scratch is not empty)
 */
export function overlay(
  base: Block,
  scratch: Store,
  { clusterBytes = 65536 }: OverlayOptions = {},
): Block & AsyncCloseable {
  if (clusterBytes < 4096 || clusterBytes > 65536 || clusterBytes & (clusterBytes - 1)) {
    throw new ParavaneError(
      "INVALID",
      `overlay clusters cannot be ${clusterBytes} bytes`,
      {},
      { hint: "4096 to 65536" },
    );
  }
  if (scratch.size > 0) throw new ParavaneError("EXISTS", `${scratch.name} is not empty`, { file: scratch.name });
  return new Engine(new OverlayImage(base, scratch, clusterBytes), scratch, { backing: base, readOnly: false });
}
