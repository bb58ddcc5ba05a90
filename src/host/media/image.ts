import type { Block } from "../../core/block.ts";
import { ParavaneError } from "../../core/error.ts";
import { Control, type Disc, type Track } from "./disc.ts";
import { type SectorForm, STORED } from "./sector.ts";
import { blockSource } from "./source.ts";

export interface CdOptions {
  /** What the medium is; by its size when absent. */
  kind?: "cd" | "dvd";
  /** How the block holds its sectors; default "mode1/2048", an ISO 9660 or UDF image. */
  form?: SectorForm;
}

/** More user data than this is on no CD: 800 MiB, where other emulators draw the line too. In bytes. */
const MAX_CD = 838_860_800;
/** READ CAPACITY has 32 bits for the last address. */
const MAX_SECTORS = 2 ** 32 - 1;

/**
 * A disc of one track from a virtual disk: an ISO 9660 or UDF image, or one of raw sectors. A last sector that the block
 * holds only a part of is filled up with zeros. Closing the disc does not close the block.
 * @throws ParavaneError INVALID (no sectors), UNSUPPORTED (too many, or the block's own sectors are larger than 2,048)
 */
export function cdFromBlock(block: Block, options: CdOptions = {}): Disc {
  const form = options.form ?? "mode1/2048";
  const { bytes } = STORED[form];
  const sectors = Math.ceil(block.size / bytes);
  if (sectors === 0) throw new ParavaneError("INVALID", "an empty image is no disc", { length: block.size });
  if (sectors > MAX_SECTORS) {
    throw new ParavaneError("UNSUPPORTED", "an optical disc has at most 2^32 sectors", { length: block.size });
  }
  if (block.sectorSize > 2048) {
    const hint = "Give a disk with sectors of 512 or 2,048 bytes";
    throw new ParavaneError("UNSUPPORTED", `${block.sectorSize}-byte sectors cannot hold a disc`, {}, { hint });
  }
  const kind = options.kind ?? (form === "mode1/2048" && block.size > MAX_CD ? "dvd" : "cd");
  if (kind === "dvd" && form !== "mode1/2048") {
    throw new ParavaneError("UNSUPPORTED", "a DVD image has sectors of 2,048 bytes", { form });
  }
  const track: Track = {
    number: 1,
    session: 1,
    control: form === "audio" ? 0 : Control.Data,
    form,
    pregap: 0,
    start: 0,
    end: sectors,
    indexes: [],
  };
  const type = form.startsWith("mode2") ? 0x20 : 0;
  return {
    kind,
    sectors,
    tracks: [track],
    sessions: [{ number: 1, firstTrack: 1, lastTrack: 1, leadOut: sectors, type }],
    runs: [{ lba: 0, count: sectors, track, form, source: blockSource(block), position: 0 }],
    close() {},
  };
}
