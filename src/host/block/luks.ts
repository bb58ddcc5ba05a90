import type { Block } from "../../core/block.ts";
import type { Unlocking } from "../../core/secret.ts";
import { invalid } from "../format/io.ts";
import { luks } from "../format/luks/index.ts";
import { BlockStore } from "./block-store.ts";
import { createEmpty, type Disk, drive, openDisk } from "./open.ts";

export interface UnlockBlockOptions extends Unlocking {
  readOnly?: boolean;
  onWarning?: (message: string) => void;
  signal?: AbortSignal;
}

export interface EncryptBlockOptions extends Omit<Unlocking, "locked"> {
  signal?: AbortSignal;
  /** LUKS' own, as for `createDisk` with the format "luks". */
  [option: string]: unknown;
}

/**
 * The disk inside of a LUKS container that is kept on a disk, of any format: a guest's encrypted disk, read from outside. It
 * closes the block; when opening fails, that is left open.
 * @throws ParavaneError DENIED (no or a wrong passphrase), CORRUPT, UNSUPPORTED, READ_ONLY, ABORTED
 */
export function unlockBlock(block: Block, options: UnlockBlockOptions = {}): Promise<Disk> {
  return openDisk(new BlockStore(block), { ...options, format: "luks" });
}

/**
 * Makes a LUKS container of a whole disk, whose content is lost, and opens it. What was there before reads as noise, unless
 * the option `preallocation` is "full".
 * @throws ParavaneError INVALID (an option, or a disk too small for the header), DENIED (no passphrase), and what the block
 * fails with
 */
export async function encryptBlock(block: Block, options: EncryptBlockOptions): Promise<Disk> {
  const { passphrase, volumeKey, kdf, signal, ...rest } = options;
  const header = luks.measure!({ ...rest, size: 0 }).bytes(0);
  const size = block.size - header;
  const unit = typeof rest.sectorSize === "number" ? rest.sectorSize : 512;
  if (size < unit) {
    throw invalid(`a disk of ${block.size} bytes is too small for a LUKS header of ${header} bytes and data`);
  }
  const unlocking: Unlocking = {
    ...(passphrase && { passphrase }),
    ...(volumeKey && { volumeKey }),
    ...(kdf && { kdf }),
  };
  const whole = Math.floor(size / unit) * unit;
  const store = new BlockStore(block, "disk", header + whole);
  await drive(createEmpty(store, luks, { ...rest, ...unlocking, size: whole }), signal);
  return openDisk(store, { ...unlocking, format: "luks", ...(signal && { signal }) });
}
