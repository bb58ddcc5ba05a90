import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { KeyDerivation } from "../../../core/secret.ts";
import type { CipherSpec } from "../cipher.ts";
import { checkIterations, type Hash, hashNamed, iterationsFor, randomBytes, sameBytes } from "../hash.ts";
import type { Area } from "./area.ts";
import {
  buildHeader1,
  buildSlot,
  DIGEST_BYTES,
  HEADER_BYTES,
  type Header1,
  materialBytes,
  parseHeader1,
  SALT_BYTES,
  SLOTS,
  type Slot1,
  slotPosition,
} from "./header1.ts";
import { badHeader, cipherFacts, type KeySlot, type Luks, type NewKey, newUuid, SECTOR, STRIPES } from "./luks.ts";
import { type Material, readMaterial, wipeMaterial, writeMaterial } from "./material.ts";

/** Slots start at multiples of this, as everybody's do ("alignment of key slots"). */
const SLOT_ALIGNMENT = 4096;
const DATA_ALIGNMENT = 2 ** 20;
/** What trying the volume key takes, as part of what a passphrase does. */
const DIGEST_SHARE = 8;
export const MIN_ITERATIONS = 1000;

/** How a new header is to be, checked. */
export interface Plan1 {
  cipher: CipherSpec;
  keyBytes: number;
  hash: string;
  iterTime: number;
  iterations: number | undefined;
  uuid: string | undefined;
}

/** Bytes before the data, key slots included. */
export function layout1(keyBytes: number): { slots: number[]; dataOffset: number } {
  const step = Math.ceil(materialBytes(keyBytes, STRIPES) / SLOT_ALIGNMENT) * SLOT_ALIGNMENT;
  const slots = Array.from({ length: SLOTS }, (_, i) => SLOT_ALIGNMENT + i * step);
  return { slots, dataOffset: Math.ceil((SLOT_ALIGNMENT + SLOTS * step) / DATA_ALIGNMENT) * DATA_ALIGNMENT };
}

export class Luks1 implements Luks {
  readonly version = 1;
  readonly sectorBytes = SECTOR;
  readonly firstNumber = 0;
  readonly warnings: readonly string[] = [];
  readonly area: Area;
  readonly #header: Header1;

  constructor(area: Area, header: Header1) {
    this.area = area;
    this.#header = header;
  }

  get cipher(): CipherSpec {
    return this.#header.cipher;
  }
  get keyBytes(): number {
    return this.#header.keyBytes;
  }
  get dataOffset(): number {
    return this.#header.payloadOffset;
  }

  get slots(): readonly KeySlot[] {
    return this.#header.slots.map(({ active, iterations, offset, stripes }, slot) => ({
      slot,
      active,
      ...(active && { iterations, kdf: "pbkdf2" }),
      offset,
      length: materialBytes(this.keyBytes, stripes),
    }));
  }

  *tryPassphrase(passphrase: Uint8Array, kdf: KeyDerivation): Flow<Uint8Array | undefined> {
    let damaged: unknown;
    for (let index = 0; index < SLOTS; index++) {
      try {
        const key = yield* this.#trySlot(index, passphrase, kdf);
        if (key) return key;
      } catch (thrown) {
        // Another slot may be sound.
        damaged ??= thrown;
      }
    }
    if (damaged) throw damaged;
    return undefined;
  }

  *slotsOf(passphrase: Uint8Array, kdf: KeyDerivation): Flow<number[]> {
    const list: number[] = [];
    for (let index = 0; index < SLOTS; index++) {
      if (this.#header.slots[index].bad) continue;
      const key = yield* this.#trySlot(index, passphrase, kdf);
      key?.fill(0);
      if (key) list.push(index);
    }
    return list;
  }

  *#trySlot(index: number, passphrase: Uint8Array, kdf: KeyDerivation): Flow<Uint8Array | undefined> {
    const slot = this.#header.slots[index];
    if (slot.bad) throw slot.bad;
    if (!slot.active) return undefined;
    const hash = yield* this.#hash(kdf);
    this.#check(slot.iterations, kdf);
    const slotKey = yield* wait(hash.pbkdf2(passphrase, slot.salt, slot.iterations, this.keyBytes));
    let right = false;
    let key: Uint8Array | undefined;
    try {
      key = yield* readMaterial(this.area, this.#material(slot, hash), slotKey);
      right = yield* this.verify(key, kdf);
      return right ? key : undefined;
    } finally {
      slotKey.fill(0);
      if (!right) key?.fill(0);
    }
  }

  *verify(key: Uint8Array, kdf: KeyDerivation): Flow<boolean> {
    const { digest, digestSalt, digestIterations, keyBytes } = this.#header;
    if (key.length !== keyBytes) return false;
    const hash = yield* this.#hash(kdf);
    this.#check(digestIterations, kdf);
    return sameBytes(yield* wait(hash.pbkdf2(key, digestSalt, digestIterations, DIGEST_BYTES)), digest);
  }

  *add(key: Uint8Array, passphrase: Uint8Array, options: Omit<NewKey, "passphrase">, kdf: KeyDerivation): Flow<number> {
    const { slots } = this.#header;
    const context = { file: this.area.store.name, structure: "LUKS header" };
    const index = options.slot ?? slots.findIndex(({ active, bad }) => !active && !bad);
    if (index === -1) throw new ParavaneError("NO_SPACE", `all ${SLOTS} key slots are in use`, context);
    const slot: Slot1 | undefined = slots[index];
    if (!slot) throw new ParavaneError("INVALID", `there is no key slot ${index}: 0 to ${SLOTS - 1}`, context);
    if (slot.bad) throw slot.bad;
    if (slot.active) throw new ParavaneError("INVALID", `key slot ${index} is in use`, context);
    const hash = yield* this.#hash(kdf);
    slot.iterations = options.iterations ?? (yield* wait(iterationsFor(hash, this.keyBytes, options.iterTime ?? 2000)));
    slot.salt = randomBytes(SALT_BYTES);
    slot.stripes = STRIPES;
    if (slot.offset + materialBytes(this.keyBytes, STRIPES) > this.#slotEnd(index)) {
      throw badHeader(this.area, `LUKS key slot ${index}`, slotPosition(index), "has no room for a key");
    }
    const slotKey = yield* wait(hash.pbkdf2(passphrase, slot.salt, slot.iterations, this.keyBytes));
    try {
      yield* writeMaterial(this.area, this.#material(slot, hash), slotKey, key);
    } finally {
      slotKey.fill(0);
    }
    // A slot may lie in two sectors: it comes to be in use when all else of it is on the disk.
    yield* this.area.write(slotPosition(index), buildSlot(slot));
    yield* this.area.flush();
    slot.active = true;
    yield* this.area.write(slotPosition(index), buildSlot(slot).subarray(0, 4));
    yield* this.area.flush();
    return index;
  }

  *erase(index: number): Flow {
    const slot: Slot1 | undefined = this.#header.slots[index];
    if (!slot || (!slot.active && !slot.bad)) {
      throw new ParavaneError("NOT_FOUND", `key slot ${index} is not in use`, {
        file: this.area.store.name,
        structure: "LUKS header",
      });
    }
    if (!slot.bad) yield* wipeMaterial(this.area, slot.offset, materialBytes(this.keyBytes, slot.stripes));
    else if (slot.active) throw slot.bad;
    slot.active = false;
    slot.iterations = 0;
    slot.salt = new Uint8Array(SALT_BYTES);
    yield* this.area.write(slotPosition(index), buildSlot(slot));
    yield* this.area.flush();
  }

  describe(): Record<string, unknown> {
    const { cipher, keyBytes, hash, uuid, payloadOffset, digestIterations, slots } = this.#header;
    return {
      ...cipherFacts(cipher, keyBytes),
      "hash-alg": hash,
      uuid,
      "payload-offset": payloadOffset,
      "master-key-iters": digestIterations,
      slots: slots.map(({ active, iterations, offset, stripes }) => ({
        active,
        ...(active ? { iters: iterations } : {}),
        "key-offset": offset,
        ...(active ? { stripes } : {}),
      })),
    };
  }

  #hash(kdf: KeyDerivation): Flow<Hash> {
    return wait(hashNamed(this.#header.hash, kdf));
  }
  #check(iterations: number, kdf: KeyDerivation): void {
    try {
      checkIterations(iterations, kdf);
    } catch (thrown) {
      const { code, message, hint } = thrown as ParavaneError;
      throw new ParavaneError(code, message, { file: this.area.store.name, structure: "LUKS header" }, { hint });
    }
  }
  #material({ offset, stripes }: Slot1, hash: Hash): Material {
    return { offset, stripes, keyBytes: this.keyBytes, cipher: this.cipher, hash };
  }
  /** Where the next slot's material, or the data, starts. */
  #slotEnd(index: number): number {
    const { slots, payloadOffset } = this.#header;
    const end = payloadOffset > 0 ? payloadOffset : this.area.size;
    const next = slots.filter((_, i) => i !== index).map(({ offset }) => offset);
    return Math.min(end, ...next.filter((offset) => offset > slots[index].offset));
  }
}

/** Reads the header; @param bare the data follows it. @throws ParavaneError CORRUPT, UNSUPPORTED */
export function* openLuks1(area: Area, bare: boolean): Flow<Luks1> {
  if (area.size < HEADER_BYTES) throw badHeader(area, "LUKS header", 0, "is cut off");
  return new Luks1(area, parseHeader1(area, yield* area.read(0, HEADER_BYTES), bare));
}

/** Writes a header for `key` with all slots free; nothing takes it for one before it is whole. */
export function* createLuks1(area: Area, plan: Plan1, key: Uint8Array, kdf: KeyDerivation): Flow<Luks1> {
  const hash = yield* wait(hashNamed(plan.hash, kdf));
  const { slots, dataOffset } = layout1(plan.keyBytes);
  const share = plan.iterTime / DIGEST_SHARE;
  const digestIterations = plan.iterations ?? (yield* wait(iterationsFor(hash, DIGEST_BYTES, share)));
  const digestSalt = randomBytes(SALT_BYTES);
  const header: Header1 = {
    cipher: plan.cipher,
    hash: plan.hash,
    keyBytes: plan.keyBytes,
    payloadOffset: dataOffset,
    digest: yield* wait(hash.pbkdf2(key, digestSalt, digestIterations, DIGEST_BYTES)),
    digestSalt,
    digestIterations,
    uuid: plan.uuid ?? newUuid(),
    slots: slots.map((offset) => ({
      active: false,
      iterations: 0,
      salt: new Uint8Array(SALT_BYTES),
      offset,
      stripes: STRIPES,
    })),
  };
  if (area.store.size < area.position + dataOffset) yield* wait(area.store.resize(area.position + dataOffset));
  yield* area.write(0, buildHeader1(header));
  yield* area.flush();
  return new Luks1(area, header);
}
