// amend's options for the passphrases of an encrypted image.
import type { Passphrase } from "../../../core/secret.ts";
import type { Disk } from "../../../host/block/open.ts";
import { addKey, eraseKey } from "../../../host/image/keys.ts";
import { UsageError } from "../../usage.ts";
import { pairsOf, type Secrets } from "./secrets.ts";

/** What each is, for the help. */
export const KEY_OPTIONS: Record<string, string> = {
  state: "active: adds a passphrase; inactive: erases",
  "new-secret": "the id of the secret with the passphrase to add",
  "old-secret": "the id of that whose slots are erased",
  keyslot: "the slot, 0 or above; default: the first free one, or all that old-secret opens",
  "iter-time": "milliseconds that trying a passphrase is to take (default 2000)",
  "key-secret": "the id of the secret that opens the image already",
};
const NAMES = Object.keys(KEY_OPTIONS);

export type KeyChange = Record<string, string>;

/** Those of `-o` that are about key slots, with "encrypt." before them or, of LUKS images, without; undefined when none is. */
export function keyChange(lists: readonly string[]): KeyChange | undefined {
  const pairs = lists.flatMap(pairsOf).map(([name, value]) => [name.replace(/^encrypt\./, ""), value] as const);
  const own = pairs.filter(([name]) => NAMES.includes(name));
  if (own.length === 0) return undefined;
  const other = pairs.find(([name]) => !NAMES.includes(name) && name !== "format");
  if (other) throw new UsageError(`key slots are changed alone, without "${other[0]}"; known: ${NAMES.join(", ")}`);
  return Object.fromEntries(own);
}

/** @param passphrase what opens the image already, where nothing else says @throws UsageError, and as `addKey` and `eraseKey` */
export async function changeKeys(
  disk: Disk,
  asked: KeyChange,
  secrets: Secrets,
  passphrase: Passphrase | undefined,
  force: boolean,
): Promise<void> {
  const { state, keyslot, "iter-time": time, "new-secret": fresh, "old-secret": old } = asked;
  const slot = keyslot === undefined ? {} : { slot: number(keyslot, "keyslot") };
  if (state === "active") {
    if (fresh === undefined) throw new UsageError("'new-secret' is required to activate a keyslot");
    if (old !== undefined) throw new UsageError("'old-secret' must not be given when activating keyslots");
    const known = asked["key-secret"] === undefined ? passphrase : secrets.passphrase(asked["key-secret"]);
    const cost = time === undefined ? {} : { iterTime: number(time, "iter-time") };
    await addKey(disk, {
      ...(known && { passphrase: known }),
      newPassphrase: secrets.passphrase(fresh)!,
      ...slot,
      ...cost,
      force,
    });
  } else if (state === "inactive") {
    if (fresh !== undefined) throw new UsageError("'new-secret' must not be given when erasing keyslots");
    if (keyslot === undefined && old === undefined) {
      throw new UsageError("to erase keyslots, 'old-secret' or 'keyslot' is needed");
    }
    const erased = old === undefined ? undefined : secrets.passphrase(old);
    await eraseKey(disk, { ...slot, ...(erased && { passphrase: erased }), force });
  } else throw new UsageError(`state is active or inactive, not "${state ?? ""}"`);
}

function number(text: string, what: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new UsageError(`${what} is a number, not "${text}"`);
}
