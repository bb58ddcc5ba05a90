import type { Later } from "./flow.ts";

/**
 * What opens an encrypted image, as bytes: text is UTF-8. An array stays the caller's, who should fill it with zeros when all
 * is done; what the function returns, asked once an image with its store's name, is filled with zeros after use.
 */
export type Passphrase = Uint8Array | ((image: string) => Later<Uint8Array>);

/** A hash that is fed piece by piece, as the package hash-wasm makes it. */
interface WasmHasher {
  init(): WasmHasher;
  update(data: Uint8Array): WasmHasher;
  digest(outputType: "binary"): Uint8Array;
}

/** What of the package hash-wasm is used; the module itself is one. */
export interface HashWasm {
  createSHA1(): Promise<WasmHasher>;
  createSHA256(): Promise<WasmHasher>;
  createSHA512(): Promise<WasmHasher>;
  createRIPEMD160(): Promise<WasmHasher>;
  pbkdf2(options: {
    password: Uint8Array;
    salt: Uint8Array;
    iterations: number;
    hashLength: number;
    hashFunction: Promise<WasmHasher>;
    outputType: "binary";
  }): Promise<Uint8Array>;
  argon2i: Argon2;
  argon2id: Argon2;
}

/** Memory in KiB, lengths in bytes. */
type Argon2 = (options: {
  password: Uint8Array;
  salt: Uint8Array;
  iterations: number;
  parallelism: number;
  memorySize: number;
  hashLength: number;
  outputType: "binary";
}) => Promise<Uint8Array>;

/** How keys are made of passphrases: with what, and how much an image may ask for. */
export interface KeyDerivation {
  /**
   * The package hash-wasm, for what the platform's WebCrypto lacks: Argon2, RIPEMD-160, and everything in pages without
   * a secure context. Node finds it by its name where it is installed.
   */
  hashWasm?: HashWasm;
  /** PBKDF2 rounds for one key slot, at most (2^28: about a minute). */
  maxIterations?: number;
  /** Bytes that Argon2 may take (2 GiB), and bytes that it may go through, passes counted (64 GiB). */
  maxMemory?: number;
  maxWork?: number;
}

/** What opens an encrypted image. Formats that know no encryption do not look at it. */
export interface Unlocking {
  passphrase?: Passphrase;
  /** Instead of a passphrase: the key that the data is encrypted with. It stays the caller's. */
  volumeKey?: Uint8Array;
  kdf?: KeyDerivation;
  /** Opens it without its key, for a look at what is not encrypted: reads and writes of data fail with DENIED. */
  locked?: boolean;
}
