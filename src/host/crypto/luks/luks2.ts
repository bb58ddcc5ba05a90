import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { KeyDerivation } from "../../../core/secret.ts";
import { type CipherSpec, checkCipher } from "../cipher.ts";
import {
  type Argon2Cost,
  argon2,
  checkArgon2,
  checkIterations,
  hashNamed,
  iterationsFor,
  randomBytes,
  sameBytes,
} from "../hash.ts";
import type { Area } from "./area.ts";
import { DEFAULT_SIZE, type Header2, readHeader2, writeHeader2 } from "./header2.ts";
import { type Kdf2, MAX_SLOTS, type Metadata2, parseMetadata2, type Slot2, type Tree } from "./json2.ts";
import { badHeader, cipherFacts, type KeySlot, type Luks, type NewKey, newUuid, STRIPES } from "./luks.ts";
import { readMaterial, wipeMaterial, writeMaterial } from "./material.ts";

/** Where everybody puts the data, so that there is room for many slots. */
const DATA_OFFSET = 2 ** 24;
const SLOT_ALIGNMENT = 4096;
const DIGEST_SHARE = 8;
const SLOT_CIPHER = "aes-xts-plain64";
const SLOT_KEY_BYTES = 64;
/** Argon2: passes at least, lanes, KiB unless told otherwise: what a page can give. */
const MIN_PASSES = 4;
const LANES = 4;
const MEMORY = 65536;

/** How a new header is to be, checked. */
export interface Plan2 {
  cipherText: string;
  cipher: CipherSpec;
  keyBytes: number;
  hash: string;
  iterTime: number;
  iterations: number | undefined;
  pbkdf: "pbkdf2" | "argon2id";
  /** KiB. */
  memory: number | undefined;
  sectorBytes: number;
  uuid: string | undefined;
}

const base64 = (bytes: Uint8Array) => btoa(String.fromCharCode(...bytes));

export class Luks2 implements Luks {
  readonly version = 2;
  readonly area: Area;
  readonly warnings: readonly string[];
  #header: Header2;
  #metadata: Metadata2;
  /** What new slots are like. */
  readonly #fresh: Pick<Plan2, "hash" | "pbkdf" | "memory">;

  constructor(
    area: Area,
    header: Header2,
    warnings: readonly string[],
    fresh?: Pick<Plan2, "hash" | "pbkdf" | "memory">,
  ) {
    this.area = area;
    this.warnings = warnings;
    this.#header = header;
    this.#metadata = parseMetadata2(area, header);
    this.#fresh = fresh ?? this.#likeFirst();
    const [slot] = this.#metadata.slots;
    if (slot) this.#checkCipher(slot.keyBytes);
  }

  get cipher(): CipherSpec {
    return this.#metadata.cipher;
  }
  get keyBytes(): number {
    return this.#metadata.slots[0]?.keyBytes ?? 0;
  }
  get sectorBytes(): number {
    return this.#metadata.sectorBytes;
  }
  get dataOffset(): number {
    return this.#metadata.dataOffset;
  }
  get dataSize(): number | undefined {
    return this.#metadata.dataSize;
  }
  get firstNumber(): number {
    return this.#metadata.firstNumber;
  }

  get slots(): readonly KeySlot[] {
    return this.#metadata.slots.map(({ id, kdf, offset, size }) => ({
      slot: id,
      active: true,
      iterations: kdf.type === "pbkdf2" ? kdf.iterations : kdf.time,
      kdf: kdf.type,
      offset,
      length: size,
    }));
  }

  *tryPassphrase(passphrase: Uint8Array, kdf: KeyDerivation): Flow<Uint8Array | undefined> {
    let damaged: unknown;
    for (const slot of this.#metadata.slots) {
      try {
        const key = yield* this.#trySlot(slot, passphrase, kdf);
        if (key) return key;
      } catch (thrown) {
        damaged ??= thrown;
      }
    }
    if (damaged) throw damaged;
    const [bad] = this.#metadata.badSlots;
    if (bad) throw badHeader(this.area, `LUKS2 key slot ${bad[0]}`, 4096, bad[1]);
    return undefined;
  }

  *slotsOf(passphrase: Uint8Array, kdf: KeyDerivation): Flow<number[]> {
    const list: number[] = [];
    for (const slot of this.#metadata.slots) {
      const key = yield* this.#trySlot(slot, passphrase, kdf);
      key?.fill(0);
      if (key) list.push(slot.id);
    }
    return list;
  }

  *#trySlot(slot: Slot2, passphrase: Uint8Array, kdf: KeyDerivation): Flow<Uint8Array | undefined> {
    if (!this.#metadata.digest.slots.includes(slot.id)) return undefined;
    const slotKey = yield* this.#derive(slot.kdf, passphrase, slot.areaKeyBytes, kdf);
    let right = false;
    let key: Uint8Array | undefined;
    try {
      const hash = yield* wait(hashNamed(slot.splitHash, kdf));
      key = yield* readMaterial(this.area, { ...slot, hash }, slotKey);
      right = yield* this.verify(key, kdf);
      return right ? key : undefined;
    } finally {
      slotKey.fill(0);
      if (!right) key?.fill(0);
    }
  }

  *#derive(cost: Kdf2, passphrase: Uint8Array, length: number, kdf: KeyDerivation): Flow<Uint8Array> {
    this.#located(() => (cost.type === "pbkdf2" ? checkIterations(cost.iterations, kdf) : checkArgon2(cost, kdf)));
    if (cost.type !== "pbkdf2") return yield* wait(argon2(cost, passphrase, cost.salt, length, kdf));
    const hash = yield* wait(hashNamed(cost.hash, kdf));
    return yield* wait(hash.pbkdf2(passphrase, cost.salt, cost.iterations, length));
  }

  *verify(key: Uint8Array, kdf: KeyDerivation): Flow<boolean> {
    const { hash: name, iterations, salt, digest } = this.#metadata.digest;
    this.#located(() => checkIterations(iterations, kdf));
    const hash = yield* wait(hashNamed(name, kdf));
    if (!sameBytes(yield* wait(hash.pbkdf2(key, salt, iterations, digest.length)), digest)) return false;
    this.#checkCipher(key.length);
    return true;
  }

  *add(key: Uint8Array, passphrase: Uint8Array, options: Omit<NewKey, "passphrase">, kdf: KeyDerivation): Flow<number> {
    const { slots, badSlots, digest } = this.#metadata;
    const context = { file: this.area.store.name, structure: "LUKS2 header" };
    const taken = new Set([...slots.map(({ id }) => id), ...badSlots.keys()]);
    const free = Array.from({ length: MAX_SLOTS }, (_, i) => i).find((each) => !taken.has(each));
    const id = options.slot ?? free;
    if (id === undefined) throw new ParavaneError("NO_SPACE", `all ${MAX_SLOTS} key slots are in use`, context);
    if (!(Number.isInteger(id) && id >= 0 && id < MAX_SLOTS)) {
      throw new ParavaneError("INVALID", `there is no key slot ${id}: 0 to ${MAX_SLOTS - 1}`, context);
    }
    if (taken.has(id)) throw new ParavaneError("INVALID", `key slot ${id} is in use`, context);
    const size = Math.ceil((key.length * STRIPES) / SLOT_ALIGNMENT) * SLOT_ALIGNMENT;
    const offset = this.#room(size);
    const cost = yield* this.#cost(options, kdf);
    const cipher = { name: "aes", mode: "xts-plain64" };
    const hash = yield* wait(hashNamed(this.#fresh.hash, kdf));
    const slotKey = yield* this.#derive(cost, passphrase, SLOT_KEY_BYTES, kdf);
    try {
      const material = { offset, stripes: STRIPES, keyBytes: key.length, cipher, hash };
      yield* writeMaterial(this.area, material, slotKey, key);
    } finally {
      slotKey.fill(0);
    }
    yield* this.area.flush();
    const area = {
      type: "raw",
      offset: `${offset}`,
      size: `${size}`,
      encryption: SLOT_CIPHER,
      key_size: SLOT_KEY_BYTES,
    };
    yield* this.#change(kdf, (tree) => {
      tree.keyslots[id] = {
        type: "luks2",
        key_size: key.length,
        af: { type: "luks1", stripes: STRIPES, hash: hash.name },
        area,
        kdf: kdfJson(cost),
      };
      tree.digests[digest.id].keyslots.push(`${id}`);
    });
    return id;
  }

  *erase(id: number): Flow {
    const { slots, badSlots } = this.#metadata;
    const slot = slots.find((each) => each.id === id);
    if (!slot && !badSlots.has(id)) {
      const context = { file: this.area.store.name, structure: "LUKS2 header" };
      throw new ParavaneError("NOT_FOUND", `key slot ${id} is not in use`, context);
    }
    if (slot) yield* wipeMaterial(this.area, slot.offset, slot.size);
    yield* this.#change({}, (tree) => {
      delete tree.keyslots[id];
      for (const digest of Object.values(tree.digests)) {
        digest.keyslots = digest.keyslots.filter((each) => each !== `${id}`);
      }
      const tokens = (tree.tokens ?? {}) as Record<string, { keyslots?: string[] }>;
      for (const token of Object.values(tokens))
        token.keyslots = token.keyslots?.filter((each) => each !== `${id}`) ?? [];
    });
  }

  describe(): Record<string, unknown> {
    const { cipher, sectorBytes, dataOffset, digest, slots } = this.#metadata;
    return {
      version: 2,
      ...cipherFacts(cipher, this.keyBytes),
      "hash-alg": digest.hash,
      uuid: this.#header.uuid,
      "payload-offset": dataOffset,
      "sector-size": sectorBytes,
      "master-key-iters": digest.iterations,
      slots: slots.map(({ id, kdf, offset, stripes }) => ({
        slot: id,
        active: true,
        kdf: kdf.type,
        ...(kdf.type === "pbkdf2"
          ? { iters: kdf.iterations }
          : { time: kdf.time, memory: kdf.memory, lanes: kdf.lanes }),
        "key-offset": offset,
        stripes,
      })),
    };
  }

  /** Writes the header with that change, its number one higher. */
  *#change(kdf: KeyDerivation, change: (tree: Tree) => void): Flow {
    const tree = structuredClone(this.#metadata.tree);
    change(tree);
    const header = { ...this.#header, sequence: this.#header.sequence + 1n, json: JSON.stringify(tree) };
    const metadata = parseMetadata2(this.area, header);
    yield* writeHeader2(this.area, header, kdf);
    this.#header = header;
    this.#metadata = metadata;
  }

  /** Where `size` bytes of key material may go. */
  #room(size: number): number {
    const { slots, areas } = this.#metadata;
    let at = areas.from;
    for (const { offset, size: used } of [...slots].sort((a, b) => a.offset - b.offset)) {
      if (offset - at >= size) break;
      at = Math.max(at, Math.ceil((offset + used) / SLOT_ALIGNMENT) * SLOT_ALIGNMENT);
    }
    if (at + size <= areas.to && this.#metadata.badSlots.size === 0) return at;
    throw new ParavaneError("NO_SPACE", "the header has no room for another key slot", {
      file: this.area.store.name,
      structure: "LUKS2 header",
    });
  }

  /** As the slots are that are there. */
  #likeFirst(): Pick<Plan2, "hash" | "pbkdf" | "memory"> {
    const [slot] = this.#metadata.slots;
    const kdf = slot?.kdf;
    return {
      hash: slot?.splitHash ?? "sha256",
      pbkdf: kdf?.type === "pbkdf2" ? "pbkdf2" : "argon2id",
      memory: kdf && kdf.type !== "pbkdf2" ? kdf.memory : undefined,
    };
  }

  *#cost({ iterations, iterTime = 2000 }: Omit<NewKey, "passphrase">, kdf: KeyDerivation): Flow<Kdf2> {
    const salt = randomBytes(32);
    const { pbkdf, hash: name, memory = MEMORY } = this.#fresh;
    if (pbkdf === "pbkdf2") {
      const hash = yield* wait(hashNamed(name, kdf));
      const count = iterations ?? (yield* wait(iterationsFor(hash, SLOT_KEY_BYTES, iterTime)));
      return { type: "pbkdf2", hash: name, iterations: count, salt };
    }
    const cost: Argon2Cost = { type: "argon2id", time: iterations ?? 1, memory, lanes: LANES };
    if (iterations !== undefined) return { ...cost, time: Math.max(MIN_PASSES, iterations), salt };
    this.#located(() => checkArgon2(cost, kdf));
    const start = performance.now();
    (yield* wait(argon2(cost, new Uint8Array(16), salt, SLOT_KEY_BYTES, kdf))).fill(0);
    const time = Math.floor(iterTime / Math.max(1, performance.now() - start));
    return { ...cost, time: Math.min(1000, Math.max(MIN_PASSES, time)), salt };
  }

  #checkCipher(keyBytes: number): void {
    this.#located(() => checkCipher(this.cipher, keyBytes));
  }
  #located(check: () => void): void {
    try {
      check();
    } catch (thrown) {
      const { code, message, hint } = thrown as ParavaneError;
      throw new ParavaneError(code, message, { file: this.area.store.name, structure: "LUKS2 header" }, { hint });
    }
  }
}

function kdfJson(kdf: Kdf2): Record<string, unknown> {
  const salt = base64(kdf.salt);
  if (kdf.type === "pbkdf2") return { type: kdf.type, hash: kdf.hash, iterations: kdf.iterations, salt };
  return { type: kdf.type, time: kdf.time, memory: kdf.memory, cpus: kdf.lanes, salt };
}

/** Reads the header. @throws ParavaneError CORRUPT, UNSUPPORTED */
export function* openLuks2(area: Area, kdf: KeyDerivation): Flow<Luks2> {
  const { header, damaged } = yield* readHeader2(area, kdf);
  const mend = "; the next change of its key slots mends that";
  return new Luks2(area, header, damaged === undefined ? [] : [`the LUKS2 header: ${damaged}${mend}`]);
}

/** Bytes before the data. */
export const DATA_OFFSET_2 = DATA_OFFSET;

/** Writes a header for `key` without a slot. */
export function* createLuks2(area: Area, plan: Plan2, key: Uint8Array, kdf: KeyDerivation): Flow<Luks2> {
  const hash = yield* wait(hashNamed(plan.hash, kdf));
  const share = plan.iterTime / DIGEST_SHARE;
  const iterations = plan.iterations ?? (yield* wait(iterationsFor(hash, 32, share)));
  const salt = randomBytes(32);
  const digest = yield* wait(hash.pbkdf2(key, salt, Math.max(1000, iterations), 32));
  const tree = {
    keyslots: {},
    tokens: {},
    segments: {
      0: {
        type: "crypt",
        offset: `${DATA_OFFSET}`,
        size: "dynamic",
        iv_tweak: "0",
        encryption: plan.cipherText,
        sector_size: plan.sectorBytes,
      },
    },
    digests: {
      0: {
        type: "pbkdf2",
        keyslots: [],
        segments: ["0"],
        hash: plan.hash,
        iterations: Math.max(1000, iterations),
        salt: base64(salt),
        digest: base64(digest),
      },
    },
    config: { json_size: `${DEFAULT_SIZE - 4096}`, keyslots_size: `${DATA_OFFSET - 2 * DEFAULT_SIZE}` },
  };
  if (area.store.size < area.position + DATA_OFFSET) yield* wait(area.store.resize(area.position + DATA_OFFSET));
  const header: Header2 = {
    size: DEFAULT_SIZE,
    sequence: 1n,
    label: "",
    subsystem: "",
    uuid: plan.uuid ?? newUuid(),
    checksum: "sha256",
    json: JSON.stringify(tree),
  };
  yield* writeHeader2(area, header, kdf);
  return new Luks2(area, header, [], plan);
}
