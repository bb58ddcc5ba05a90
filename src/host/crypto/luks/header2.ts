// The binary header of LUKS version 2 ("LUKS2 On-Disk Format Specification", 2.1). Big-endian. There are two copies, each with
// a JSON area behind it; the newer one of those whose checksum is right counts.
//
//   0        4096          size       size + 4096        2 × size
//   ├ header ┼ JSON ………… ┼ header 2nd ┼ JSON …………………… ┼ key slots' areas ……… ┼ data
import { type Flow, wait } from "../../../core/flow.ts";
import type { KeyDerivation } from "../../../core/secret.ts";
import { hashNamed, randomBytes, sameBytes } from "../hash.ts";
import type { Area } from "./area.ts";
import { badHeader, MAGIC, MAGIC_2ND, textOf, viewOf } from "./luks.ts";

const Field = {
  Magic: 0,
  Version: 6,
  Size: 8,
  Sequence: 16,
  Label: 24,
  ChecksumName: 72,
  Salt: 104,
  Uuid: 168,
  Subsystem: 208,
  Offset: 256,
  Checksum: 448,
} as const;
const CHECKSUM_BYTES = 64;
export const BINARY_BYTES = 4096;
/** "hdr_size": header and JSON area, in bytes; so these are also the places of the second copy (2.2). */
const SIZES = Array.from({ length: 9 }, (_, i) => 0x4000 * 2 ** i);
export const DEFAULT_SIZE = SIZES[0];

/** One copy of the header. */
export interface Header2 {
  size: number;
  sequence: bigint;
  label: string;
  subsystem: string;
  uuid: string;
  checksum: string;
  /** Text of the JSON area. */
  json: string;
}

/** The newer good copy; `damaged` says what is wrong with the other. @throws ParavaneError CORRUPT when none is good */
export function* readHeader2(area: Area, kdf: KeyDerivation): Flow<{ header: Header2; damaged?: string }> {
  const first = yield* readCopy(area, 0, MAGIC, kdf);
  const places = typeof first === "string" ? SIZES : [first.size];
  let second: Header2 | string = "is not there";
  for (const at of places) {
    if (typeof second !== "string" || at + BINARY_BYTES > area.size) continue;
    const found = yield* readCopy(area, at, MAGIC_2ND, kdf);
    if (typeof found !== "string" || found !== NO_MAGIC) second = found;
  }
  if (typeof first === "string" && typeof second === "string") {
    throw badHeader(area, "LUKS2 header", 0, `${first}, and its second copy ${second}`);
  }
  if (typeof second === "string") return { header: first as Header2, damaged: `its second copy ${second}` };
  if (typeof first === "string") return { header: second, damaged: `it ${first}; its second copy is used` };
  if (first.sequence === second.sequence) return { header: first };
  return first.sequence > second.sequence
    ? { header: first, damaged: "its second copy is older" }
    : { header: second, damaged: "it is older than its second copy, which is used" };
}

const NO_MAGIC = "is not there: no magic";

/** A copy, or what is wrong with it. */
function* readCopy(area: Area, at: number, magic: Uint8Array, kdf: KeyDerivation): Flow<Header2 | string> {
  const head = yield* area.read(at, BINARY_BYTES);
  const view = viewOf(head);
  if (!magic.every((byte, i) => head[i] === byte)) return NO_MAGIC;
  if (view.getUint16(Field.Version) !== 2) return `has version ${view.getUint16(Field.Version)}`;
  const size = view.getUint32(Field.Size) * 2 ** 32 + view.getUint32(Field.Size + 4);
  if (!SIZES.includes(size)) return `says that it is ${size} bytes long`;
  const offset = view.getUint32(Field.Offset) * 2 ** 32 + view.getUint32(Field.Offset + 4);
  if (offset !== at || (at !== 0 && at !== size)) return `says that it lies at byte ${offset}`;
  if (at + size > area.size) return "is cut off";
  const checksum = textOf(head.subarray(Field.ChecksumName, Field.ChecksumName + 32)) ?? "";
  const bytes = yield* area.read(at, size);
  const sum = bytes.slice(Field.Checksum, Field.Checksum + CHECKSUM_BYTES);
  bytes.fill(0, Field.Checksum, Field.Checksum + CHECKSUM_BYTES);
  let digest: Uint8Array;
  try {
    const hash = yield* wait(hashNamed(checksum, kdf));
    digest = yield* wait(hash.digest(bytes));
  } catch (thrown) {
    return `has a checksum that cannot be made: ${(thrown as Error).message}`;
  }
  if (!sameBytes(digest, sum.subarray(0, digest.length))) return "has a wrong checksum";
  const text = bytes.subarray(BINARY_BYTES);
  const end = text.indexOf(0);
  return {
    size,
    sequence: view.getBigUint64(Field.Sequence),
    label: textOf(head.subarray(Field.Label, Field.Label + 48)) ?? "",
    subsystem: textOf(head.subarray(Field.Subsystem, Field.Subsystem + 48)) ?? "",
    uuid: textOf(head.subarray(Field.Uuid, Field.Uuid + 40)) ?? "",
    checksum,
    json: new TextDecoder().decode(end < 0 ? text : text.subarray(0, end)),
  };
}

/** Writes both copies, the second when the first is durable: whenever that stops, one of them is good. */
export function* writeHeader2(area: Area, header: Header2, kdf: KeyDerivation): Flow {
  const json = new TextEncoder().encode(header.json);
  if (json.length >= header.size - BINARY_BYTES) {
    throw badHeader(area, "LUKS2 header", BINARY_BYTES, "has no room for more in its JSON area");
  }
  const hash = yield* wait(hashNamed(header.checksum, kdf));
  for (const [at, magic] of [
    [0, MAGIC],
    [header.size, MAGIC_2ND],
  ] as const) {
    const bytes = new Uint8Array(header.size);
    const view = viewOf(bytes);
    const text = (field: number, value: string) => bytes.set(new TextEncoder().encode(value), field);
    bytes.set(magic);
    view.setUint16(Field.Version, 2);
    view.setUint32(Field.Size + 4, header.size);
    view.setBigUint64(Field.Sequence, header.sequence);
    text(Field.Label, header.label);
    text(Field.ChecksumName, header.checksum);
    bytes.set(randomBytes(64), Field.Salt);
    text(Field.Uuid, header.uuid);
    text(Field.Subsystem, header.subsystem);
    view.setUint32(Field.Offset + 4, at);
    bytes.set(json, BINARY_BYTES);
    bytes.set(yield* wait(hash.digest(bytes)), Field.Checksum);
    yield* area.write(at, bytes);
    yield* area.flush();
  }
}
