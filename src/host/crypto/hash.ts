// Hashes and key derivation: the platform's WebCrypto where it has them, the optional package hash-wasm where not.
import { ParavaneError } from "../../core/error.ts";
import type { HashWasm, KeyDerivation } from "../../core/secret.ts";

/** Names as in LUKS headers: bytes of a digest, WebCrypto's name, hash-wasm's. */
const HASHES: Record<string, { bytes: number; web?: string; wasm: keyof HashWasm & `create${string}` }> = {
  sha1: { bytes: 20, web: "SHA-1", wasm: "createSHA1" },
  sha256: { bytes: 32, web: "SHA-256", wasm: "createSHA256" },
  sha512: { bytes: 64, web: "SHA-512", wasm: "createSHA512" },
  ripemd160: { bytes: 20, wasm: "createRIPEMD160" },
};

export const HASH_NAMES = Object.keys(HASHES);

/** PBKDF2 rounds that one key slot may ask for: about a minute. */
export const MAX_ITERATIONS = 2 ** 28;
const MAX_MEMORY = 2 ** 31;
const MAX_WORK = 2 ** 36;

type Source = ArrayBufferView<ArrayBuffer>;

export interface Hash {
  readonly name: string;
  readonly bytes: number;
  digest(data: Uint8Array): Promise<Uint8Array>;
  pbkdf2(password: Uint8Array, salt: Uint8Array, iterations: number, length: number): Promise<Uint8Array>;
}

/** @throws ParavaneError UNSUPPORTED */
export async function hashNamed(name: string, kdf: KeyDerivation = {}): Promise<Hash> {
  const known = Object.hasOwn(HASHES, name) ? HASHES[name] : undefined;
  if (!known) {
    const hint = `Known: ${HASH_NAMES.join(", ")}`;
    throw new ParavaneError("UNSUPPORTED", `the hash "${name}" is not known`, {}, { hint });
  }
  const { bytes, web, wasm: create } = known;
  const subtle = globalThis.crypto?.subtle as SubtleCrypto | undefined;
  const native = web !== undefined && subtle ? { web, subtle } : undefined;
  const wasm = native ? await found(kdf) : await hashWasm(kdf, `the hash ${name}`);
  const hasher = await wasm?.[create]();
  return {
    name,
    bytes,
    // A slot takes thousands of small digests, one after the other: WebCrypto does each on another thread.
    async digest(data) {
      if (hasher) return hasher.init().update(data).digest("binary");
      return new Uint8Array(await native!.subtle.digest(native!.web, data as Source));
    },
    async pbkdf2(password, salt, iterations, length) {
      if (!native) {
        const cost = { password, salt, iterations, hashLength: length, hashFunction: wasm![create]() };
        return wasm!.pbkdf2({ ...cost, outputType: "binary" });
      }
      const key = await native.subtle.importKey("raw", password as Source, "PBKDF2", false, ["deriveBits"]);
      const parameters = { name: "PBKDF2", hash: native.web, salt: salt as Source, iterations };
      return new Uint8Array(await native.subtle.deriveBits(parameters, key, length * 8));
    },
  };
}

let installed: Promise<HashWasm | undefined> | undefined;

/** The package hash-wasm, where it is given or installed. */
function found(kdf: KeyDerivation): Promise<HashWasm | undefined> {
  if (kdf.hashWasm) return Promise.resolve(kdf.hashWasm);
  // Not in the text of the import, so that bundlers do not look for what is optional.
  const name = "hash-wasm";
  installed ??= import(/* @vite-ignore */ name).catch(() => undefined);
  return installed;
}

/** @throws ParavaneError UNSUPPORTED when it is neither given nor installed */
async function hashWasm(kdf: KeyDerivation, what: string): Promise<HashWasm> {
  const wasm = await found(kdf);
  if (wasm) return wasm;
  const hint = "Install it: npm install hash-wasm; in a page, import it and give the module as kdf: { hashWasm }";
  throw new ParavaneError("UNSUPPORTED", `${what} needs the package hash-wasm`, {}, { hint });
}

/** @throws ParavaneError UNSUPPORTED when a header asks for more than the caller allows */
export function checkIterations(iterations: number, kdf: KeyDerivation = {}): void {
  const most = kdf.maxIterations ?? MAX_ITERATIONS;
  if (iterations <= most) return;
  throw tooMuch(`asks for ${iterations} PBKDF2 iterations; ${most} are allowed`, "kdf.maxIterations");
}

export interface Argon2Cost {
  type: "argon2i" | "argon2id";
  /** Passes. */
  time: number;
  /** KiB. */
  memory: number;
  lanes: number;
}

/** @throws ParavaneError UNSUPPORTED, as `checkIterations` */
export function checkArgon2({ time, memory, lanes }: Argon2Cost, kdf: KeyDerivation = {}): void {
  const most = kdf.maxMemory ?? MAX_MEMORY;
  const bytes = memory * 1024;
  if (bytes > most) throw tooMuch(`asks for ${bytes} bytes of memory for Argon2; ${most} are allowed`, "kdf.maxMemory");
  const work = kdf.maxWork ?? MAX_WORK;
  if (bytes * time > work) {
    throw tooMuch(
      `asks for ${time} Argon2 passes over ${bytes} bytes; ${work} bytes in all are allowed`,
      "kdf.maxWork",
    );
  }
  if (lanes > 64) throw tooMuch(`asks for ${lanes} Argon2 lanes; 64 are allowed`, undefined);
}

function tooMuch(what: string, option: string | undefined): ParavaneError {
  const hint = option === undefined ? undefined : `If the image is to be trusted, raise ${option}`;
  return new ParavaneError("UNSUPPORTED", `the header ${what}`, {}, { hint });
}

export async function argon2(
  { type, time, memory, lanes }: Argon2Cost,
  password: Uint8Array,
  salt: Uint8Array,
  length: number,
  kdf: KeyDerivation,
): Promise<Uint8Array> {
  const wasm = await hashWasm(kdf, `the key derivation ${type}`);
  const cost = { iterations: time, parallelism: lanes, memorySize: memory, hashLength: length };
  return wasm[type]({ ...cost, password, salt, outputType: "binary" });
}

export function randomBytes(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  // At most 65,536 bytes a call (Web Cryptography API, 10.1.1).
  for (let at = 0; at < length; at += 65536) globalThis.crypto.getRandomValues(bytes.subarray(at, at + 65536));
  return bytes;
}

/** Equal, in a time that does not depend on where they differ. */
export function sameBytes(one: Uint8Array, other: Uint8Array): boolean {
  let differs = one.length ^ other.length;
  for (let i = 0; i < one.length; i++) differs |= one[i] ^ (other[i] ?? 0);
  return differs === 0;
}

/** PBKDF2 rounds that take about `milliseconds` here for a key of that length; at least 1000. */
export async function iterationsFor(hash: Hash, length: number, milliseconds: number): Promise<number> {
  const password = new Uint8Array(16);
  const salt = new Uint8Array(32);
  for (let count = 4096; ; count *= 2) {
    const start = performance.now();
    await hash.pbkdf2(password, salt, count, length);
    const took = performance.now() - start;
    if (took < 40 && count < 2 ** 24) continue;
    return Math.max(1000, Math.min(MAX_ITERATIONS / 2, Math.floor((count * milliseconds) / Math.max(took, 0.01))));
  }
}
