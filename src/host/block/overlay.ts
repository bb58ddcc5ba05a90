import type { Block } from "../../core/block.ts";
import type { AsyncCloseable } from "../../core/dispose.ts";
import { ParavaneError } from "../../core/error.ts";
import type { Store } from "../../core/store.ts";
import { OverlayImage } from "../filter/overlay.ts";
import { Engine } from "./engine.ts";

export interface OverlayOptions {
  /** Bytes that scratch space is given out in: a power of two from 4 KiB to 64 KiB. */
  clusterBytes?: number;
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
