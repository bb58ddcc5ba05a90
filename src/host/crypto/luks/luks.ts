// What both versions of LUKS have in common: a header that keeps the volume key, once for each passphrase.
import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { KeyDerivation, Passphrase, Unlocking } from "../../../core/secret.ts";
import type { CipherSpec } from "../cipher.ts";
import type { Area } from "./area.ts";

/** "Magic for the first header"; the second copy of version 2 has another. */
export const MAGIC = Uint8Array.of(0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe);
export const MAGIC_2ND = Uint8Array.of(0x53, 0x4b, 0x55, 0x4c, 0xba, 0xbe);

export const SECTOR = 512;
/** "The number of anti-forensic stripes" that everybody writes. */
export const STRIPES = 4000;

/** How a new header is to be. */
export interface LuksCreateOptions {
  version?: 1 | 2;
  /** "aes-xts-plain64" unless given; see src/host/crypto/cipher.ts. */
  cipher?: string;
  /** Bits; XTS has two keys in one: 512 unless given, 256 for other modes. */
  keySize?: number;
  /** Of key derivation and splitting: "sha256" unless given. */
  hash?: string;
  /** Milliseconds that trying a passphrase is to take here; 2000 unless given. */
  iterTime?: number;
  /** PBKDF2 rounds, instead of a time; at least 1000. */
  iterations?: number;
  /** Version 2 only: "argon2id" unless given, where the package hash-wasm is; Argon2's memory in bytes. */
  pbkdf?: "pbkdf2" | "argon2id";
  memory?: number;
  /** Version 2 only: bytes that are encrypted together: 512 to 4096. */
  sectorSize?: number;
  uuid?: string;
}

export interface KeySlot {
  slot: number;
  active: boolean;
  /** What trying a passphrase on it takes. */
  iterations?: number;
  kdf?: string;
  /** Byte in the header's area, and bytes. */
  offset?: number;
  length?: number;
}

export interface NewKey {
  passphrase: Passphrase;
  /** A free one; the first when absent. */
  slot?: number;
  iterTime?: number;
  iterations?: number;
}

/** An opened header. */
export interface Luks {
  readonly version: 1 | 2;
  readonly area: Area;
  readonly cipher: CipherSpec;
  readonly keyBytes: number;
  /** Bytes that are encrypted together. */
  readonly sectorBytes: number;
  /** Where the data starts, from the start of the header; how many bytes of it, where the header says so. */
  readonly dataOffset: number;
  readonly dataSize?: number;
  /** Number of the first sector of the data. */
  readonly firstNumber: number;
  /** Something the header says that a person should know. */
  readonly warnings: readonly string[];
  readonly slots: readonly KeySlot[];
  /** The volume key, or undefined when no slot opens with that passphrase. @throws ParavaneError UNSUPPORTED, CORRUPT */
  tryPassphrase(passphrase: Uint8Array, kdf: KeyDerivation): Flow<Uint8Array | undefined>;
  /** Is it the volume key? */
  verify(key: Uint8Array, kdf: KeyDerivation): Flow<boolean>;
  /** Which slots the passphrase opens. */
  slotsOf(passphrase: Uint8Array, kdf: KeyDerivation): Flow<number[]>;
  /** Adds a slot with this key, durably. @throws ParavaneError NO_SPACE (no slot is free), INVALID */
  add(key: Uint8Array, passphrase: Uint8Array, options: Omit<NewKey, "passphrase">, kdf: KeyDerivation): Flow<number>;
  /** Overwrites a slot's key material and frees it, durably. @throws ParavaneError NOT_FOUND */
  erase(slot: number): Flow;
  /** As qemu-img info says it. */
  describe(): Record<string, unknown>;
}

/** Does the work with the passphrase, which is wiped afterwards if it was made for this. @throws ParavaneError INVALID */
export function* withPassphrase<T>(
  passphrase: Passphrase,
  image: string,
  work: (bytes: Uint8Array) => Flow<T>,
): Flow<T> {
  const bytes = typeof passphrase === "function" ? yield* wait(passphrase(image)) : passphrase;
  if (!(bytes instanceof Uint8Array)) {
    const hint = "Encode text as UTF-8: new TextEncoder().encode(text)";
    throw new ParavaneError(
      "INVALID",
      `a passphrase is a Uint8Array, not a ${typeof bytes}`,
      { file: image },
      { hint },
    );
  }
  try {
    return yield* work(bytes);
  } finally {
    if (bytes !== passphrase) bytes.fill(0);
  }
}

/** The volume key, the caller's to wipe. @throws ParavaneError DENIED (none given, or a wrong one), UNSUPPORTED, CORRUPT */
export function* unlock(luks: Luks, { passphrase, volumeKey, kdf = {} }: Unlocking): Flow<Uint8Array> {
  const context = { file: luks.area.store.name, structure: "LUKS header" };
  if (volumeKey) {
    if (yield* luks.verify(volumeKey, kdf)) return volumeKey.slice();
    throw new ParavaneError("DENIED", "that volume key is another image's", context);
  }
  if (!passphrase) throw noPassphrase(context.file);
  const key = yield* withPassphrase(passphrase, context.file, (bytes) => luks.tryPassphrase(bytes, kdf));
  if (key) return key;
  const used = luks.slots.filter(({ active }) => active).length;
  if (used === 0)
    throw new ParavaneError("DENIED", "the image has no key slot in use: no passphrase opens it", context);
  const slots = used === 1 ? "the one key slot does not open" : `none of the ${used} key slots opens`;
  throw new ParavaneError("DENIED", `wrong passphrase: ${slots}`, context, {
    hint: "Mind a line break at the end of a passphrase file: it counts",
  });
}

/** Of a header whose data begins where it does itself. */
export const DETACHED = "the header is detached: the data that it is for is in another file";

export function noPassphrase(file: string): ParavaneError {
  const hint = "Give it as `passphrase`, or on the command line with --passphrase-file";
  return new ParavaneError("DENIED", "the image is encrypted, and no passphrase was given", { file }, { hint });
}

export function badHeader(area: Area, structure: string, at: number, what: string): ParavaneError {
  const context = { file: area.store.name, structure, offset: area.position + at };
  return new ParavaneError("CORRUPT", `the ${structure} ${what}`, context);
}

/** Text up to its first NUL; undefined when it is no printable ASCII. */
export function textOf(bytes: Uint8Array): string | undefined {
  const end = bytes.indexOf(0);
  const text = String.fromCharCode(...(end < 0 ? bytes : bytes.subarray(0, end)));
  return /^[\x20-\x7e]*$/.test(text) ? text : undefined;
}

export function newUuid(): string {
  const bytes = globalThis.crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** How qemu-img names a cipher. */
export function cipherFacts({ name, mode }: CipherSpec, keyBytes: number): Record<string, unknown> {
  const [cipherMode, iv = ""] = mode.split("-");
  const [generator, ivHash] = iv.split(":");
  const bits = cipherMode === "xts" ? keyBytes * 4 : keyBytes * 8;
  return {
    "ivgen-alg": generator,
    ...(ivHash === undefined ? {} : { "ivgen-hash-alg": ivHash }),
    "cipher-alg": `${name}-${bits}`,
    "cipher-mode": cipherMode,
  };
}
