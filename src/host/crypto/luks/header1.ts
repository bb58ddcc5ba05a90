// The header of LUKS version 1 ("LUKS On-Disk Format Specification", figures 1 to 4). Big-endian; offsets of key material and
// data are in sectors of 512 bytes.
import { ParavaneError } from "../../../core/error.ts";
import { type CipherSpec, checkCipher } from "../cipher.ts";
import type { Area } from "./area.ts";
import { badHeader, DETACHED, MAGIC, SECTOR, textOf, viewOf } from "./luks.ts";

const Field = {
  Magic: 0,
  Version: 6,
  CipherName: 8,
  CipherMode: 40,
  HashSpec: 72,
  PayloadOffset: 104,
  KeyBytes: 108,
  Digest: 112,
  DigestSalt: 132,
  DigestIterations: 164,
  Uuid: 168,
  Slots: 208,
} as const;

/** Of one key slot. */
const Slot = { Active: 0, Iterations: 4, Salt: 8, Offset: 40, Stripes: 44, Bytes: 48 } as const;

export const SLOTS = 8;
export const HEADER_BYTES = Field.Slots + SLOTS * Slot.Bytes;
export const DIGEST_BYTES = 20;
export const SALT_BYTES = 32;
const ACTIVE = 0x00ac71f3;
const INACTIVE = 0x0000dead;
/** More is nobody's, and bounds what is read for a slot. */
const MAX_STRIPES = 8192;

/** Offsets are bytes from the start of the header. */
export interface Slot1 {
  active: boolean;
  iterations: number;
  salt: Uint8Array;
  offset: number;
  stripes: number;
  /** Why the slot is of no use. */
  bad?: ParavaneError;
}

export interface Header1 {
  cipher: CipherSpec;
  hash: string;
  payloadOffset: number;
  keyBytes: number;
  digest: Uint8Array;
  digestSalt: Uint8Array;
  digestIterations: number;
  uuid: string;
  slots: Slot1[];
}

/** Key material is read and encrypted in whole sectors. */
export function materialBytes(keyBytes: number, stripes: number): number {
  return Math.ceil((keyBytes * stripes) / SECTOR) * SECTOR;
}

/** @param bare the data follows the header in the same area @throws ParavaneError CORRUPT, UNSUPPORTED */
export function parseHeader1(area: Area, bytes: Uint8Array, bare: boolean): Header1 {
  const wrong = (at: number, what: string) => badHeader(area, "LUKS header", at, what);
  const view = viewOf(bytes);
  const text = (at: number, length: number, what: string) => {
    const found = textOf(bytes.subarray(at, at + length));
    if (found === undefined || found === "") throw wrong(at, `has a ${what} that is no text`);
    return found;
  };
  const cipher = { name: text(Field.CipherName, 32, "cipher name"), mode: text(Field.CipherMode, 32, "cipher mode") };
  const hash = text(Field.HashSpec, 32, "hash");
  const keyBytes = view.getUint32(Field.KeyBytes);
  try {
    checkCipher(cipher, keyBytes);
  } catch (thrown) {
    const { code, message, hint } = thrown as ParavaneError;
    throw new ParavaneError(code, message, { file: area.store.name, structure: "LUKS header" }, { hint });
  }
  const header: Header1 = {
    cipher,
    hash,
    keyBytes,
    payloadOffset: view.getUint32(Field.PayloadOffset) * SECTOR,
    digest: bytes.slice(Field.Digest, Field.Digest + DIGEST_BYTES),
    digestSalt: bytes.slice(Field.DigestSalt, Field.DigestSalt + SALT_BYTES),
    digestIterations: view.getUint32(Field.DigestIterations),
    uuid: textOf(bytes.subarray(Field.Uuid, Field.Uuid + 40)) ?? "",
    slots: [],
  };
  if (header.digestIterations === 0) throw wrong(Field.DigestIterations, "has a digest of no iterations");
  if (bare && header.payloadOffset === 0) {
    throw new ParavaneError("UNSUPPORTED", DETACHED, { file: area.store.name, structure: "LUKS header" });
  }
  if (bare && (header.payloadOffset < HEADER_BYTES || header.payloadOffset > area.size)) {
    throw wrong(Field.PayloadOffset, `puts the data at byte ${header.payloadOffset}, outside the file`);
  }
  const end = bare ? Math.min(area.size, header.payloadOffset) : area.size;
  for (let i = 0; i < SLOTS; i++) header.slots.push(parseSlot(area, view, i, header, end));
  return header;
}

function parseSlot(area: Area, view: DataView, index: number, { keyBytes }: Header1, end: number): Slot1 {
  const at = Field.Slots + index * Slot.Bytes;
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  const state = view.getUint32(at + Slot.Active);
  const slot: Slot1 = {
    active: state === ACTIVE,
    iterations: view.getUint32(at + Slot.Iterations),
    salt: bytes.slice(at + Slot.Salt, at + Slot.Salt + SALT_BYTES),
    offset: view.getUint32(at + Slot.Offset) * SECTOR,
    stripes: view.getUint32(at + Slot.Stripes),
  };
  const bad = (field: number, what: string) => {
    slot.bad = badHeader(area, `LUKS key slot ${index}`, at + field, what);
  };
  if (state !== ACTIVE && state !== INACTIVE) bad(Slot.Active, `is neither in use nor free (${state.toString(16)})`);
  else if (slot.stripes === 0 || slot.stripes > MAX_STRIPES) bad(Slot.Stripes, `has ${slot.stripes} stripes`);
  else if (slot.offset < HEADER_BYTES || slot.offset + materialBytes(keyBytes, slot.stripes) > end) {
    bad(Slot.Offset, `has its key material at byte ${slot.offset}, where it cannot be`);
  } else if (slot.active && slot.iterations === 0) bad(Slot.Iterations, "has no iterations");
  return slot;
}

/** The first sectors of an image, all slots free or as they are. */
export function buildHeader1(header: Header1): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  const view = viewOf(bytes);
  const text = (at: number, value: string) => bytes.set(new TextEncoder().encode(value), at);
  bytes.set(MAGIC);
  view.setUint16(Field.Version, 1);
  text(Field.CipherName, header.cipher.name);
  text(Field.CipherMode, header.cipher.mode);
  text(Field.HashSpec, header.hash);
  view.setUint32(Field.PayloadOffset, header.payloadOffset / SECTOR);
  view.setUint32(Field.KeyBytes, header.keyBytes);
  bytes.set(header.digest, Field.Digest);
  bytes.set(header.digestSalt, Field.DigestSalt);
  view.setUint32(Field.DigestIterations, header.digestIterations);
  text(Field.Uuid, header.uuid);
  for (const [i, slot] of header.slots.entries()) bytes.set(buildSlot(slot), slotPosition(i));
  return bytes;
}

export function slotPosition(index: number): number {
  return Field.Slots + index * Slot.Bytes;
}

export function buildSlot({ active, iterations, salt, offset, stripes }: Slot1): Uint8Array {
  const bytes = new Uint8Array(Slot.Bytes);
  const view = viewOf(bytes);
  view.setUint32(Slot.Active, active ? ACTIVE : INACTIVE);
  view.setUint32(Slot.Iterations, iterations);
  bytes.set(salt, Slot.Salt);
  view.setUint32(Slot.Offset, offset / SECTOR);
  view.setUint32(Slot.Stripes, stripes);
  return bytes;
}
