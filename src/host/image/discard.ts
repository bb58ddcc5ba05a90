import { ParavaneError } from "../../core/error.ts";
import type { Disk } from "../block/open.ts";
import { engineOf } from "./whole.ts";

/**
 * Drops all that an image holds itself, durably: it reads as its parent again, or as zeros. What is submitted meanwhile waits.
 * @throws ParavaneError UNSUPPORTED (by the format), READ_ONLY, CLOSED
 */
export function discardChanges(disk: Disk): Promise<void> {
  return engineOf(disk).exclusive(function* (image) {
    if (!image.empty) {
      throw new ParavaneError("UNSUPPORTED", `a ${image.format} image cannot be emptied`, { file: image.format });
    }
    yield* image.empty();
  });
}
