// The removable media feature set (ATA/ATAPI-6, Removable Media): a cartridge that is put in and taken out, and how the
// guest hears of it.
import { AtaCommand, AtaError } from "../../../../../assembly/spec/ata.ts";
import type { Block } from "../../../../core/block.ts";
import { ParavaneError } from "../../../../core/error.ts";
import type { AtaDisk, Verdict } from "./command.ts";

/** §8.14: bit 6 of Error in GET MEDIA STATUS. */
const WRITE_PROTECTED = 0x40;

export interface Removable {
  present: boolean;
  /** Another medium than the guest knows: told once. */
  changed: boolean;
  /** The button has been pressed while the medium was locked: told once. */
  requested: boolean;
  locked: boolean;
}

/** A removable drive's slot, as someone standing before the machine has it. */
export interface Cartridge {
  readonly isPresent: boolean;
  /** Has the guest locked it in? */
  readonly isLocked: boolean;
  /**
   * Puts a medium in, in the place of what is there. It must have sectors of the same size.
   * @throws ParavaneError INVALID
   */
  insert(block: Block): void;
  /**
   * Takes the medium out. The caller closes its block.
   * @throws ParavaneError BUSY when the guest has locked it in, which is then told of the wish, unless `force` is set
   */
  eject(options?: { force?: boolean }): void;
}

export function newRemovable(): Removable {
  return { present: true, changed: false, requested: false, locked: false };
}

/** What keeps a command from the media: Error bits, or 0. A change is told once, and the next command goes through. */
export function mediaError({ config, state: { media } }: AtaDisk): number {
  if (!config.removable) return 0;
  if (!media.present) return AtaError.NoMedia;
  if (!media.changed) return 0;
  media.changed = false;
  return AtaError.MediaChanged;
}

/** GET MEDIA STATUS, MEDIA LOCK, MEDIA UNLOCK and MEDIA EJECT (§8.14, §8.19 to §8.21). */
export function mediaCommand(disk: AtaDisk): Verdict {
  const { port, config, state } = disk;
  const { media } = state;
  if (!config.removable) return false;
  const refuse = (error: number): Verdict => {
    port.fail(error);
    return "answered";
  };
  if (!media.present && port.command !== AtaCommand.MediaUnlock) return refuse(AtaError.NoMedia);
  const requested = media.requested ? AtaError.MediaChangeRequest : 0;
  switch (port.command) {
    case AtaCommand.GetMediaStatus: {
      const error = mediaError(disk) | requested | (config.block.readOnly ? WRITE_PROTECTED : 0);
      media.requested = false;
      return error === 0 || refuse(error);
    }
    case AtaCommand.MediaLock:
      media.requested = false;
      if (requested !== 0) return refuse(requested);
      media.locked = true;
      return true;
    case AtaCommand.MediaUnlock:
      media.locked = false;
      return true;
    default:
      if (media.locked) return false;
      media.present = false;
      return "flush";
  }
}

/** @throws ParavaneError BUSY */
export function ejectMedia({ state: { media } }: AtaDisk, force: boolean): void {
  if (media.present && media.locked && !force) {
    media.requested = true;
    throw new ParavaneError("BUSY", "the guest has locked the medium in", {}, { hint: "it has been told of the wish" });
  }
  media.present = false;
  media.locked = false;
  media.requested = false;
}
