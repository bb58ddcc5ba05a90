// The encryption of before LUKS ("crypt_method" 1), for reading: AES-128 in CBC, each sector with the number that the guest sees
// it under, so that only who knows the guest's offset can decrypt. The key is the passphrase itself, up to 16 bytes; whether it
// is the right one, nothing tells.
import { ParavaneError } from "../../../core/error.ts";
import type { Flow } from "../../../core/flow.ts";
import { ExtentKind, type Mapper, type MapStop } from "../../../core/format.ts";
import type { Unlocking } from "../../../core/secret.ts";
import type { Store } from "../../../core/store.ts";
import { SectorCipher } from "../../../wasm/cipher.ts";
import { noPassphrase, withPassphrase } from "../../crypto/luks/luks.ts";
import { read } from "./io.ts";

const KEY_BYTES = 16;

/** Reads encrypted bytes. */
export class OldAes {
  readonly #store: Store;
  readonly #cipher: SectorCipher | undefined;

  /** @param cipher none when the image is to stay locked */
  constructor(store: Store, cipher: SectorCipher | undefined) {
    this.#store = store;
    this.#cipher = cipher;
  }

  /** Whole sectors at `position`, which the guest sees at `offset`. @throws ParavaneError DENIED */
  *read(position: number, offset: number, length: number): Flow<Uint8Array> {
    if (!this.#cipher) {
      const message = "the image is encrypted, and was opened without its key";
      throw new ParavaneError("DENIED", message, { file: this.#store.name });
    }
    const bytes = yield* read(this.#store, position, length);
    this.#cipher.decrypt(bytes, offset / 512);
    return bytes;
  }
}

/** @throws ParavaneError DENIED (no passphrase) */
export function* openOldAes(store: Store, data: Store | undefined, unlocking: Unlocking): Flow<OldAes> {
  const { passphrase, volumeKey, locked } = unlocking;
  if (locked) return new OldAes(data ?? store, undefined);
  const key = new Uint8Array(KEY_BYTES);
  try {
    if (volumeKey) key.set(volumeKey.subarray(0, KEY_BYTES));
    else if (!passphrase) throw noPassphrase(store.name);
    else {
      yield* withPassphrase(passphrase, store.name, function* (bytes) {
        key.set(bytes.subarray(0, KEY_BYTES));
      });
    }
    return new OldAes(data ?? store, new SectorCipher({ mode: "cbc-plain", key }));
  } finally {
    key.fill(0);
  }
}

/** The map of such an image: its data is never at hand, but has to be unpacked. */
export class VeiledMapper implements Mapper {
  readonly #inner: Mapper;

  constructor(inner: Mapper) {
    this.#inner = inner;
  }
  get maxRanges(): number {
    return this.#inner.maxRanges;
  }
  setRange(index: number, offset: number, length: number, write: boolean): void {
    this.#inner.setRange(index, offset, length, write);
  }
  resolve(count: number): MapStop {
    return this.#inner.resolve(count);
  }
  get extentCount(): number {
    return this.#inner.extentCount;
  }
  extentRange(index: number): number {
    return this.#inner.extentRange(index);
  }
  extentKind(index: number): ExtentKind {
    const kind = this.#inner.extentKind(index);
    return kind === ExtentKind.Data ? ExtentKind.Packed : kind;
  }
  extentLength(index: number): number {
    return this.#inner.extentLength(index);
  }
  extentPosition(index: number): number {
    return this.#inner.extentPosition(index);
  }
  get stopRange(): number {
    return this.#inner.stopRange;
  }
  get stopOffset(): number {
    return this.#inner.stopOffset;
  }
  get stopLength(): number {
    return this.#inner.stopLength;
  }
  get stopKey(): number {
    return this.#inner.stopKey;
  }
  get stopPosition(): number {
    return this.#inner.stopPosition;
  }
}
