import { ParavaneError } from "../../core/error.ts";
import type { CreateOptions, NewFiles } from "../../core/format.ts";
import type { Store } from "../../core/store.ts";
import { createEmpty, drive, formatNamed } from "../block/open.ts";

export interface CreateImageOptions extends CreateOptions {
  format: string;
  /** As for `createDisk`. */
  files?: NewFiles;
  signal?: AbortSignal;
}

/**
 * Writes a new, empty image into an empty store, durably, and leaves it at that; the store stays open.
 * @throws ParavaneError EXISTS (the store is not empty), INVALID, NO_SPACE, ABORTED, and what the store throws
 */
export function createImage(store: Store, options: CreateImageOptions): Promise<void> {
  const { format, signal, files, ...rest } = options;
  if (store.size > 0) throw new ParavaneError("EXISTS", `${store.name} is not empty`, { file: store.name });
  return drive(createEmpty(store, formatNamed(format), rest, files), signal);
}
