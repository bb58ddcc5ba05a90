import { CipherField, CipherKey, CipherMode } from "../../assembly/spec/cipher.ts";
import { type Core, coreFor, PAGE } from "./core.ts";

/** How sectors are encrypted with AES, and with which keys (16, 24 or 32 bytes each; XTS: 16 or 32). */
export interface SectorCipherOptions {
  /** How a sector's number enters: see `CipherMode`. */
  mode: "xts" | "cbc-plain" | "cbc-essiv";
  key: Uint8Array;
  /** XTS: the second key. ESSIV: what the number is encrypted with. */
  second?: Uint8Array;
  /** Bytes that are encrypted together: a multiple of 512. */
  sectorBytes?: number;
  /** Only the lower 32 bits of a sector's number count ("plain"). */
  narrow?: boolean;
}

const MODES = { xts: CipherMode.Xts, "cbc-plain": CipherMode.CbcPlain, "cbc-essiv": CipherMode.CbcEssiv };

/** The context and its scratch block are in the first page of a memory of their own, the data in the second. */
const SCRATCH = CipherField.Size;
const DATA = PAGE;

/** Encrypts whole sectors, synchronously; the key is only in the core's memory. */
export class SectorCipher {
  readonly sectorBytes: number;
  readonly #core: Core;
  #wiped = false;

  constructor({ mode, key, second, sectorBytes = 512, narrow = false }: SectorCipherOptions) {
    this.sectorBytes = sectorBytes;
    this.#core = coreFor(new WebAssembly.Memory({ initial: 2, maximum: 2 }));
    const { call, u8 } = this.#core;
    this.#core.set(CipherField.Mode, MODES[mode]);
    this.#core.set(CipherField.SectorBytes, sectorBytes);
    this.#core.set(CipherField.NumberMask, 0xffffffff);
    this.#core.set(CipherField.NumberMask + 4, narrow ? 0 : 0xffffffff);
    call.cipherTables(0);
    for (const [which, bytes] of [
      [CipherKey.Data, key],
      [CipherKey.Second, second],
    ] as const) {
      if (!bytes) continue;
      u8.set(bytes, DATA);
      call.cipherKey(0, which, DATA, bytes.length);
      u8.fill(0, DATA, DATA + bytes.length);
    }
  }

  /** Whole sectors from `bytes` into `into`, which may be the same. @param number the first one's, in 512 bytes */
  encrypt(bytes: Uint8Array, number: number, into = bytes): void {
    this.#run(bytes, number, into, false);
  }
  decrypt(bytes: Uint8Array, number: number, into = bytes): void {
    this.#run(bytes, number, into, true);
  }

  /** Forgets the key; nothing can be done with it afterwards. */
  wipe(): void {
    this.#wiped = true;
    this.#core.u8.fill(0);
  }

  #run(bytes: Uint8Array, number: number, into: Uint8Array, decrypt: boolean): void {
    if (this.#wiped) throw new RangeError("the key was wiped");
    if (bytes.length % this.sectorBytes !== 0) throw new RangeError(`${bytes.length} bytes are not whole sectors`);
    const { call, u8 } = this.#core;
    for (let at = 0; at < bytes.length; at += PAGE) {
      const part = Math.min(PAGE, bytes.length - at);
      u8.set(bytes.subarray(at, at + part), DATA);
      call.cipherSectors(0, DATA, part, number + at / 512, decrypt, SCRATCH);
      into.set(u8.subarray(DATA, DATA + part), at);
    }
  }
}
