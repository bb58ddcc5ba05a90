// Key material: the volume key, spread over stripes, encrypted with a key that comes of a passphrase.
import { type Flow, wait } from "../../../core/flow.ts";
import { mergeKey, splitKey } from "../anti-forensic.ts";
import { type CipherSpec, makeCipher } from "../cipher.ts";
import { type Hash, randomBytes } from "../hash.ts";
import type { Area } from "./area.ts";
import { SECTOR } from "./luks.ts";

/** Where a slot's key material is, and how it is made. Offsets are bytes from the start of the header. */
export interface Material {
  offset: number;
  /** Bytes of the volume key in it. */
  keyBytes: number;
  stripes: number;
  cipher: CipherSpec;
  hash: Hash;
}

const sectorsOf = ({ keyBytes, stripes }: Material) => Math.ceil((keyBytes * stripes) / SECTOR) * SECTOR;

/** What the key in the slot would be, if `slotKey` is the right one. */
export function* readMaterial(area: Area, material: Material, slotKey: Uint8Array): Flow<Uint8Array> {
  const bytes = yield* area.read(material.offset, sectorsOf(material));
  const cipher = yield* wait(makeCipher(material.cipher, slotKey));
  try {
    cipher.decrypt(bytes, 0);
    return yield* wait(mergeKey(material.hash, bytes, material.keyBytes, material.stripes));
  } finally {
    cipher.wipe();
    bytes.fill(0);
  }
}

export function* writeMaterial(area: Area, material: Material, slotKey: Uint8Array, key: Uint8Array): Flow {
  const split = yield* wait(splitKey(material.hash, key, material.stripes));
  const bytes = new Uint8Array(sectorsOf(material));
  bytes.set(split);
  const cipher = yield* wait(makeCipher(material.cipher, slotKey));
  try {
    cipher.encrypt(bytes, 0);
    yield* area.write(material.offset, bytes);
  } finally {
    cipher.wipe();
    split.fill(0);
    bytes.fill(0);
  }
}

/** Makes what was there useless. */
export function* wipeMaterial(area: Area, offset: number, length: number): Flow {
  yield* area.write(offset, randomBytes(length));
  yield* area.flush();
}
