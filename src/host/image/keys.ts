import { ParavaneError } from "../../core/error.ts";
import type { Image } from "../../core/format.ts";
import type { KeySlotInfo, KeySlots } from "../../core/keys.ts";
import type { Passphrase, Unlocking } from "../../core/secret.ts";
import type { Disk } from "../block/open.ts";
import { engineOf } from "./whole.ts";

export interface AddKeyOptions extends Omit<Unlocking, "locked"> {
  /** The new one; `passphrase` (or `volumeKey`) is one that opens the image already. */
  newPassphrase: Passphrase;
  /** A free slot; the first when absent. */
  slot?: number;
  /** The slot may be in use: what opened it does so no more. A failure or power cut leaves it empty. */
  force?: boolean;
  /** Milliseconds that trying the new one is to take here (2000), or rounds. */
  iterTime?: number;
  iterations?: number;
}

export interface EraseKeyOptions extends Pick<Unlocking, "passphrase" | "kdf"> {
  /** This slot; all that `passphrase` opens when absent. */
  slot?: number;
  /** Also the last one, after which nothing opens the image any more. */
  force?: boolean;
}

/** The places for passphrases of an encrypted image; none where there is no such thing. */
export function listKeys(disk: Disk): readonly KeySlotInfo[] {
  return engineOf(disk).image.keys?.list() ?? [];
}

/**
 * Adds a passphrase, durably; returns its slot. The data is not encrypted anew.
 * @throws ParavaneError DENIED (a wrong passphrase), NO_SPACE (no slot is free), INVALID, READ_ONLY, UNSUPPORTED
 */
export function addKey(disk: Disk, options: AddKeyOptions): Promise<number> {
  const { newPassphrase, slot, force, iterTime, iterations, ...unlocking } = options;
  const key = {
    passphrase: newPassphrase,
    ...(slot !== undefined && { slot }),
    ...(force && { force }),
    ...(iterTime !== undefined && { iterTime }),
    ...(iterations !== undefined && { iterations }),
  };
  return engineOf(disk).exclusive((image) => keysOf(image, disk).add(unlocking, key));
}

/**
 * Overwrites one key slot, or all that a passphrase opens; returns which.
 * @throws ParavaneError DENIED (a wrong passphrase), NOT_FOUND, INVALID (the last one), READ_ONLY, UNSUPPORTED
 */
export function eraseKey(disk: Disk, options: EraseKeyOptions): Promise<number[]> {
  return engineOf(disk).exclusive((image) => keysOf(image, disk).erase(options));
}

function keysOf(image: Image, disk: Disk): KeySlots {
  if (image.keys) return image.keys;
  throw new ParavaneError("UNSUPPORTED", `the ${disk.format} image has no key slots`);
}
