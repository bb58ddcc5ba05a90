// The JSON area of LUKS version 2 ("LUKS2 On-Disk Format Specification", 3), checked: what comes out is sane and bounded. Long
// integers are strings there.
import { ParavaneError } from "../../../core/error.ts";
import { type CipherSpec, checkCipher, parseCipher } from "../cipher.ts";
import type { Argon2Cost } from "../hash.ts";
import type { Area } from "./area.ts";
import { BINARY_BYTES, type Header2 } from "./header2.ts";
import { badHeader, DETACHED, SECTOR } from "./luks.ts";

/** "Luks2 keyslots": 0 to 31. */
export const MAX_SLOTS = 32;
const MAX_STRIPES = 8192;
const MAX_KEY_BYTES = 128;

export type Kdf2 = ({ type: "pbkdf2"; hash: string; iterations: number } | Argon2Cost) & { salt: Uint8Array };

/** Offsets and sizes are bytes from the start of the header. */
export interface Slot2 {
  id: number;
  keyBytes: number;
  stripes: number;
  splitHash: string;
  offset: number;
  size: number;
  cipher: CipherSpec;
  areaKeyBytes: number;
  kdf: Kdf2;
}

interface Digest2 {
  id: string;
  /** Ids of the slots that hold the key of which this is the digest. */
  slots: number[];
  hash: string;
  iterations: number;
  salt: Uint8Array;
  digest: Uint8Array;
}

export interface Metadata2 {
  /** All of it, as it is to be written again. */
  tree: Tree;
  slots: Slot2[];
  /** Slots of another kind, or out of order: what is wrong with them. */
  badSlots: Map<number, string>;
  /** Bytes that key slots' areas may take. */
  areas: { from: number; to: number };
  /** Of the key of the data. */
  digest: Digest2;
  cipher: CipherSpec;
  sectorBytes: number;
  dataOffset: number;
  /** Bytes; to the end of the store when absent. */
  dataSize?: number;
  firstNumber: number;
}

export interface Tree {
  keyslots: Record<string, unknown>;
  digests: Record<string, { keyslots: string[] } & Record<string, unknown>>;
  [name: string]: unknown;
}

type Fields = Record<string, unknown>;

/** A wish that a value did not meet; where is added by who reads it. */
class Wrong extends Error {}

function object(value: unknown, what: string): Fields {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields;
  throw new Wrong(`has no ${what}`);
}
function text(fields: Fields, name: string): string {
  const value = fields[name];
  if (typeof value === "string") return value;
  throw new Wrong(`has no text "${name}"`);
}
function number(fields: Fields, name: string, least: number, most: number): number {
  const value = fields[name];
  if (typeof value === "number" && Number.isInteger(value) && value >= least && value <= most) return value;
  throw new Wrong(`has "${name}" ${JSON.stringify(value)}, not ${least} to ${most}`);
}
/** A long integer, which has to be exact here. */
function wide(fields: Fields, name: string): number {
  const value = fields[name];
  if (typeof value === "string" && /^\d{1,20}$/.test(value) && Number.isSafeInteger(Number(value)))
    return Number(value);
  throw new Wrong(`has "${name}" ${JSON.stringify(value)}`);
}
function bytes(fields: Fields, name: string): Uint8Array {
  try {
    return Uint8Array.from(atob(text(fields, name)), (char) => char.charCodeAt(0));
  } catch {
    throw new Wrong(`has a "${name}" that is no base64`);
  }
}
function ids(fields: Fields, name: string): string[] {
  const value = fields[name];
  if (Array.isArray(value) && value.every((each) => typeof each === "string")) return value;
  throw new Wrong(`has no list "${name}"`);
}

/** @throws ParavaneError CORRUPT, UNSUPPORTED */
export function parseMetadata2(area: Area, header: Header2): Metadata2 {
  const unsupported = (what: string) =>
    new ParavaneError("UNSUPPORTED", what, { file: area.store.name, structure: "LUKS2 header" });
  try {
    let tree: unknown;
    try {
      tree = JSON.parse(header.json);
    } catch (thrown) {
      throw new Wrong(`does not parse: ${(thrown as Error).message.slice(0, 100)}`);
    }
    const root = object(tree, "object");
    const config = object(root.config, '"config"');
    const keyslotsSize = wide(config, "keyslots_size");
    const requirements = config.requirements === undefined ? {} : object(config.requirements, "requirements");
    const mandatory = requirements.mandatory === undefined ? [] : ids(requirements, "mandatory");
    if (mandatory.length > 0)
      throw unsupported(`the image requires ${mandatory.slice(0, 4).join(", ")}, not known here`);

    const areas = { from: 2 * header.size, to: 2 * header.size + keyslotsSize };
    const data = segmentOf(object(root.segments, '"segments"'), unsupported);
    if (data.dataOffset === 0) throw unsupported(DETACHED);
    if (keyslotsSize % BINARY_BYTES !== 0 || areas.to > Math.min(data.dataOffset, area.size)) {
      throw new Wrong(`gives key slots ${keyslotsSize} bytes, past the data's start or the file's end`);
    }
    if (data.dataOffset > area.size) throw new Wrong(`puts the data at byte ${data.dataOffset}, outside the file`);
    const digest = digestOf(object(root.digests, '"digests"'), data.id);
    const slots: Slot2[] = [];
    const badSlots = new Map<number, string>();
    for (const [name, value] of Object.entries(object(root.keyslots, '"keyslots"')).slice(0, MAX_SLOTS)) {
      const id = Number(name);
      if (!/^\d+$/.test(name) || id >= MAX_SLOTS) throw new Wrong(`has a key slot "${name.slice(0, 20)}"`);
      try {
        slots.push(slotOf(id, object(value, `key slot ${id}`), areas));
      } catch (thrown) {
        if (!(thrown instanceof Wrong)) throw thrown;
        badSlots.set(id, thrown.message);
      }
    }
    slots.sort((a, b) => a.id - b.id);
    const { id: _, ...where } = data;
    return { tree: root as Tree, slots, badSlots, areas, digest, ...where };
  } catch (thrown) {
    if (!(thrown instanceof Wrong)) throw thrown;
    throw badHeader(area, "LUKS2 JSON area", BINARY_BYTES, thrown.message);
  }
}

/** The one segment of encrypted data. */
function segmentOf(segments: Fields, unsupported: (what: string) => ParavaneError) {
  const names = Object.keys(segments);
  if (names.length !== 1) {
    throw unsupported(`the image has ${names.length} data segments: it is being encrypted anew, or of another kind`);
  }
  const segment = object(segments[names[0]], "segment");
  const type = text(segment, "type");
  if (type !== "crypt") throw unsupported(`the image has a data segment of type "${type.slice(0, 20)}"`);
  if (segment.integrity !== undefined) throw unsupported("the image has integrity tags, which are not supported");
  const sectorBytes = number(segment, "sector_size", 512, 4096);
  if (![512, 1024, 2048, 4096].includes(sectorBytes)) throw new Wrong(`has sectors of ${sectorBytes} bytes`);
  const dataOffset = wide(segment, "offset");
  if (dataOffset % SECTOR !== 0) throw new Wrong(`puts the data at byte ${dataOffset}, inside a sector`);
  const size = segment.size === "dynamic" ? undefined : wide(segment, "size");
  return {
    id: names[0],
    cipher: parseCipher(text(segment, "encryption")),
    sectorBytes,
    dataOffset,
    firstNumber: wide(segment, "iv_tweak"),
    ...(size !== undefined && { dataSize: size }),
  };
}

function digestOf(digests: Fields, segment: string): Digest2 {
  for (const [id, value] of Object.entries(digests)) {
    const digest = object(value, "digest");
    if (!ids(digest, "segments").includes(segment)) continue;
    if (text(digest, "type") !== "pbkdf2")
      throw new Wrong(`has a digest of type "${text(digest, "type").slice(0, 20)}"`);
    const sum = bytes(digest, "digest");
    if (sum.length < 16 || sum.length > 64) throw new Wrong(`has a digest of ${sum.length} bytes`);
    return {
      id,
      slots: ids(digest, "keyslots").map(Number),
      hash: text(digest, "hash"),
      iterations: number(digest, "iterations", 1, 2 ** 32 - 1),
      salt: bytes(digest, "salt"),
      digest: sum,
    };
  }
  throw new Wrong("has no digest of the data's key");
}

function slotOf(id: number, slot: Fields, areas: { from: number; to: number }): Slot2 {
  if (text(slot, "type") !== "luks2") throw new Wrong(`is of type "${text(slot, "type").slice(0, 20)}"`);
  const af = object(slot.af, '"af"');
  const place = object(slot.area, '"area"');
  if (text(af, "type") !== "luks1") throw new Wrong("is split in another way");
  if (text(place, "type") !== "raw") throw new Wrong("is kept in another way");
  const keyBytes = number(slot, "key_size", 1, MAX_KEY_BYTES);
  const stripes = number(af, "stripes", 1, MAX_STRIPES);
  const [offset, size] = [wide(place, "offset"), wide(place, "size")];
  if (offset % SECTOR !== 0 || offset < areas.from || offset + size > areas.to || size < keyBytes * stripes) {
    throw new Wrong(`has its area at byte ${offset}, where it cannot be`);
  }
  const cipher = parseCipher(text(place, "encryption"));
  const areaKeyBytes = number(place, "key_size", 1, MAX_KEY_BYTES);
  checkCipher(cipher, areaKeyBytes);
  const splitHash = text(af, "hash");
  return {
    id,
    keyBytes,
    stripes,
    splitHash,
    offset,
    size,
    cipher,
    areaKeyBytes,
    kdf: kdfOf(object(slot.kdf, '"kdf"')),
  };
}

function kdfOf(kdf: Fields): Kdf2 {
  const type = text(kdf, "type");
  const salt = bytes(kdf, "salt");
  if (type === "pbkdf2") {
    return { type, salt, hash: text(kdf, "hash"), iterations: number(kdf, "iterations", 1, 2 ** 32 - 1) };
  }
  if (type !== "argon2i" && type !== "argon2id") throw new Wrong(`has a key derivation "${type.slice(0, 20)}"`);
  // RFC 9106, 3.1: at least 8 KiB a lane.
  const lanes = number(kdf, "cpus", 1, 2 ** 24 - 1);
  return {
    type,
    salt,
    lanes,
    time: number(kdf, "time", 1, 2 ** 32 - 1),
    memory: number(kdf, "memory", 8 * lanes, 2 ** 32 - 1),
  };
}
