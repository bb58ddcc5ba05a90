import { ParavaneError } from "../../core/error.ts";
import type { AmendOptions } from "../../core/format.ts";
import type { Disk } from "../block/open.ts";
import { engineOf } from "./whole.ts";

/**
 * Changes options of the image that were chosen when it was made, durably; the format's own names. What is submitted meanwhile
 * waits. @throws ParavaneError UNSUPPORTED (by the format, or for what the image holds), INVALID, READ_ONLY, NO_SPACE
 */
export function amendDisk(disk: Disk, options: AmendOptions): Promise<void> {
  return engineOf(disk).exclusive(function* (image) {
    if (!image.amend)
      throw new ParavaneError("UNSUPPORTED", `the options of a ${image.format} image cannot be changed`);
    yield* image.amend(options);
  });
}
