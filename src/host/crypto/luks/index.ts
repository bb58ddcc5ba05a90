import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { Unlocking } from "../../../core/secret.ts";
import type { Store } from "../../../core/store.ts";
import { checkCipher, makeCipher, parseCipher } from "../cipher.ts";
import { CipherStore, type CipherStoreOptions, LockedStore } from "../cipher-store.ts";
import { HASH_NAMES, MAX_ITERATIONS, randomBytes } from "../hash.ts";
import type { Area } from "./area.ts";
import { type Luks, type LuksCreateOptions, MAGIC, noPassphrase, unlock, viewOf, withPassphrase } from "./luks.ts";
import { createLuks1, layout1, MIN_ITERATIONS, openLuks1, type Plan1 } from "./luks1.ts";
import { createLuks2, DATA_OFFSET_2, openLuks2, type Plan2 } from "./luks2.ts";

export { Area } from "./area.ts";
export type { Luks, LuksCreateOptions } from "./luks.ts";

/** Is it the start of a LUKS header? */
export function isLuks(head: Uint8Array): boolean {
  return head.length >= 8 && MAGIC.every((byte, i) => head[i] === byte);
}

/** Reads the header. @param bare the data follows it @throws ParavaneError CORRUPT, UNSUPPORTED */
export function* openLuks(area: Area, { kdf = {} }: Unlocking, bare: boolean): Flow<Luks> {
  const head = yield* area.read(0, 8);
  const version = isLuks(head) ? viewOf(head).getUint16(6) : 2;
  if (version === 1) return yield* openLuks1(area, bare);
  // What has no magic may still have a good second copy, which only version 2 knows.
  if (version === 2) return yield* openLuks2(area, kdf);
  const context = { file: area.store.name, structure: "LUKS header" };
  throw new ParavaneError("UNSUPPORTED", `LUKS version ${version} is not known`, context);
}

/** The data of an encrypted image, decrypted; or locked, when it is to be. @throws as `unlock` */
export function* unlockStore(
  luks: Luks,
  store: Store,
  options: Unlocking,
  where: CipherStoreOptions,
): Flow<CipherStore | LockedStore> {
  if (options.locked) return new LockedStore(store, where.owns);
  const key = yield* unlock(luks, options);
  try {
    return new CipherStore(store, yield* wait(makeCipher(luks.cipher, key, luks.sectorBytes)), where);
  } finally {
    key.fill(0);
  }
}

export type LuksPlan = { dataOffset: number } & (({ version: 1 } & Plan1) | ({ version: 2 } & Plan2));

const invalid = (message: string, hint?: string) => new ParavaneError("INVALID", message, {}, { hint });

/** @throws ParavaneError INVALID */
export function planLuks(options: LuksCreateOptions): LuksPlan {
  const {
    version = 1,
    cipher: cipherText = "aes-xts-plain64",
    keySize = cipherText.includes("-xts-") ? 512 : 256,
    hash = "sha256",
    iterTime = 2000,
    iterations,
    pbkdf = "argon2id",
    memory,
    sectorSize = 512,
    uuid,
    ...unknown
  } = options;
  const [name] = Object.keys(unknown);
  if (name !== undefined) throw invalid(`LUKS has no option "${name}"`);
  if (version !== 1 && version !== 2) throw invalid(`there is no LUKS version ${version}`, "Known: 1, 2");
  if (!HASH_NAMES.includes(hash)) throw invalid(`there is no hash "${hash}"`, `Known: ${HASH_NAMES.join(", ")}`);
  const cipher = parseCipher(cipherText);
  try {
    checkCipher(cipher, keySize / 8);
  } catch (thrown) {
    throw invalid((thrown as ParavaneError).message, (thrown as ParavaneError).hint);
  }
  if (!(iterTime > 0 && iterTime <= 600000)) throw invalid(`a passphrase cannot take ${iterTime} ms to try`);
  const least = version === 2 && pbkdf === "argon2id" ? 1 : MIN_ITERATIONS;
  if (
    iterations !== undefined &&
    !(Number.isInteger(iterations) && iterations >= least && iterations <= MAX_ITERATIONS)
  ) {
    throw invalid(`there cannot be ${iterations} iterations`, `Give ${least} to ${MAX_ITERATIONS}`);
  }
  if (uuid !== undefined && !/^[0-9a-f-]{1,36}$/i.test(uuid)) throw invalid(`"${uuid}" is no UUID`);
  const common = { cipher, keyBytes: keySize / 8, hash, iterTime, iterations, uuid };
  if (version === 1) {
    const later = { pbkdf: options.pbkdf, memory, sectorSize: options.sectorSize };
    for (const [option, value] of Object.entries(later)) {
      if (value !== undefined) throw invalid(`LUKS version 1 has no option "${option}"`, "Use version: 2");
    }
    return { version, ...common, dataOffset: layout1(common.keyBytes).dataOffset };
  }
  if (pbkdf !== "pbkdf2" && pbkdf !== "argon2id") {
    throw invalid(`there is no key derivation "${pbkdf}"`, "Known: pbkdf2, argon2id");
  }
  if (![512, 1024, 2048, 4096].includes(sectorSize)) throw invalid(`sectors cannot be ${sectorSize} bytes`);
  if (memory !== undefined && !(memory >= 32768 && memory <= 2 ** 31)) {
    throw invalid(`Argon2 cannot take ${memory} bytes`, "Give 32 KiB to 2 GiB");
  }
  const kib = memory === undefined ? undefined : Math.floor(memory / 1024);
  return { version, ...common, cipherText, pbkdf, memory: kib, sectorBytes: sectorSize, dataOffset: DATA_OFFSET_2 };
}

/**
 * Writes a header with a new volume key (or the given one) and, when there is a passphrase, a key slot that it opens.
 * @throws ParavaneError DENIED (neither passphrase nor key), INVALID, UNSUPPORTED
 */
export function* createLuks(area: Area, plan: LuksPlan, unlocking: Unlocking): Flow<Luks> {
  const { passphrase, volumeKey, kdf = {} } = unlocking;
  const file = area.store.name;
  if (!passphrase && !volumeKey) throw noPassphrase(file);
  if (volumeKey && volumeKey.length !== plan.keyBytes) {
    throw invalid(`the volume key has ${volumeKey.length} bytes, not ${plan.keyBytes}`);
  }
  const key = volumeKey?.slice() ?? randomBytes(plan.keyBytes);
  try {
    const share = { iterTime: plan.iterTime, ...(plan.iterations !== undefined && { iterations: plan.iterations }) };
    const luks =
      plan.version === 1
        ? yield* createLuks1(area, { ...plan, iterations: plan.iterations }, key, kdf)
        : yield* createLuks2(area, { ...plan, iterations: plan.iterations }, key, kdf);
    if (passphrase) yield* withPassphrase(passphrase, file, (bytes) => luks.add(key, bytes, share, kdf));
    return luks;
  } finally {
    key.fill(0);
  }
}
