import type { Flow } from "./flow.ts";
import type { Passphrase, Unlocking } from "./secret.ts";

/** One place for a passphrase in an encrypted image. */
export interface KeySlotInfo {
  slot: number;
  active: boolean;
  /** What trying a passphrase on it takes: rounds, and the name of the function. */
  iterations?: number;
  kdf?: string;
}

/** Passphrases that open an image. Changes are durable when they return; the data's own key never changes. */
export interface KeySlots {
  list(): readonly KeySlotInfo[];
  /**
   * Adds a passphrase, which `unlocking` allows; returns its slot. One in use is taken by `force`: a failure or power cut then
   * leaves it empty. @throws ParavaneError DENIED, NO_SPACE, INVALID
   */
  add(
    unlocking: Unlocking,
    key: { passphrase: Passphrase; slot?: number; iterTime?: number; iterations?: number; force?: boolean },
  ): Flow<number>;
  /**
   * Makes a slot, or all that the passphrase opens, useless and free; returns them. The last one goes only by `force`, and all
   * of the data with it. @throws ParavaneError DENIED, NOT_FOUND, INVALID
   */
  erase(what: Pick<Unlocking, "passphrase" | "kdf"> & { slot?: number; force?: boolean }): Flow<number[]>;
}
