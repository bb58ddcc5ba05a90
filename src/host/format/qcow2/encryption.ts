// Encrypted guest data ("crypt_method", "Data encryption"): by LUKS, whose header lies in clusters of its own. Each 512-byte sector
// is encrypted with the number of its place in the file, so that a cluster that is copied is encrypted anew. Metadata,
// compressed clusters and the parent's name are not.
import { ParavaneError } from "../../../core/error.ts";
import type { Flow } from "../../../core/flow.ts";
import type { Unlocking } from "../../../core/secret.ts";
import type { Store } from "../../../core/store.ts";
import {
  Area,
  createLuks,
  type Luks,
  type LuksCreateOptions,
  type LuksPlan,
  openLuks,
  planLuks,
  unlockStore,
} from "../../crypto/luks/index.ts";
import { CryptMethod, type Header } from "./header.ts";
import { setWide, unsupported, viewOf } from "./io.ts";
import { type OldAes, openOldAes } from "./old-aes.ts";
import type { PlaceFor } from "./space.ts";

/** What stands before the data of an encrypted image. @throws DENIED (no or a wrong passphrase), CORRUPT, UNSUPPORTED */
export function* openEncryption(
  store: Store,
  data: Store | undefined,
  { encryption, cryptMethod }: Header,
  writable: boolean,
  unlocking: Unlocking,
): Flow<{ cipher?: Store; luks?: Luks; aes?: OldAes }> {
  if (cryptMethod === CryptMethod.Aes) {
    if (writable && !unlocking.locked) {
      const hint = "Open it read-only, and convert it to LUKS: -o encrypt.format=luks";
      throw unsupported(store, "the image is encrypted by the old AES method, which is too weak to be written", hint);
    }
    return { aes: yield* openOldAes(store, data, unlocking) };
  }
  if (!encryption) return {};
  const luks = yield* openLuks(new Area(store, encryption.position, encryption.bytes), unlocking, false);
  if (luks.version !== 1) throw unsupported(store, `the image has a LUKS header of version ${luks.version}, not 1`);
  const cipher = yield* unlockStore(luks, data ?? store, unlocking, { owns: data !== undefined });
  return { cipher, luks };
}

/** How a new image is to be encrypted: "luks" with all that has a default, or more. */
export type EncryptionOption = "luks" | Omit<LuksCreateOptions, "version" | "pbkdf" | "memory" | "sectorSize">;

/** @throws ParavaneError INVALID */
export function planEncryption(encryption: EncryptionOption | undefined): LuksPlan | undefined {
  if (encryption === undefined) return undefined;
  if (encryption !== "luks" && (typeof encryption !== "object" || encryption === null)) {
    throw new ParavaneError("INVALID", `there is no encryption "${encryption}"`, {}, { hint: "Known: luks" });
  }
  if (encryption !== "luks" && "version" in encryption) {
    throw new ParavaneError("INVALID", "qcow2 has LUKS version 1, no other");
  }
  return planLuks(encryption === "luks" ? {} : encryption);
}

/** Writes the header into new clusters; the content of the extension that points to it. */
export function* createEncryption(
  store: Store,
  plan: LuksPlan,
  place: PlaceFor,
  unlocking: Unlocking,
): Flow<Uint8Array> {
  const bytes = plan.dataOffset;
  const position = place(bytes);
  yield* createLuks(new Area(store, position, bytes), plan, unlocking);
  const extension = new Uint8Array(16);
  setWide(viewOf(extension), 0, position);
  setWide(viewOf(extension), 8, bytes);
  return extension;
}
