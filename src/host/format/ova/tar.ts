// tar as POSIX.1-2001 has it (ustar, with pax records), and GNU's long names and large sizes.
import type { Flow } from "../../../core/flow.ts";
import type { Store } from "../../../core/store.ts";
import { alignUp, corrupt, read, textAt, unsupported } from "../io.ts";

const BLOCK = 512;
const Field = { Name: 0, Size: 124, Checksum: 148, Type: 156, Magic: 257, Prefix: 345, Extended: 482 } as const;
const MAX_MEMBERS = 1000;
/** Of the records that describe one member. */
const MAX_RECORDS = 2 ** 16;

/** A file in an archive: where its header and its bytes are. */
export interface Member {
  name: string;
  header: number;
  start: number;
  size: number;
  /** Its holes are left out, so that the bytes are not those of the file. */
  sparse: boolean;
}

/** What records say of the next file. */
interface Described {
  name?: string;
  size?: number;
  sparse?: boolean;
}

/** Is it the first block of a tar archive? */
export function isTar(head: Uint8Array): boolean {
  return head.length >= BLOCK && textAt(head, Field.Magic, 5) === "ustar" && sums(head);
}

/** The name in a first block. */
export const nameIn = (head: Uint8Array): string => {
  const prefix =
    textAt(head, Field.Magic, 6) === "ustar" && head[Field.Magic + 5] === 0 && textAt(head, Field.Prefix, 155);
  return `${prefix ? `${prefix}/` : ""}${textAt(head, Field.Name, 100)}`;
};

/** The regular files of an archive, in its order; what they hold is not read. @throws ParavaneError CORRUPT, UNSUPPORTED */
export function* readMembers(store: Store): Flow<Member[]> {
  const members: Member[] = [];
  let described: Described = {};
  for (let at = 0, count = 0; at + BLOCK <= store.size; count++) {
    const wrong = (what: string) => corrupt(store, "tar header", at, what);
    const head = yield* read(store, at, BLOCK);
    if (head.every((byte) => byte === 0)) break;
    if (!isTar(head)) throw wrong("is damaged: its checksum is wrong, or its magic");
    if (count >= MAX_MEMBERS) throw unsupported(store, "tar header", `it has more than ${MAX_MEMBERS} files`);
    const type = String.fromCharCode(head[Field.Type]);
    const own = numberAt(head, Field.Size, 12);
    const size = "xgLK".includes(type) ? own : (described.size ?? own);
    const start = at + BLOCK;
    if (!Number.isSafeInteger(size) || start + size > store.size) {
      throw wrong(`of ${nameIn(head)} says ${size} bytes, but the archive ends before: it is cut off`);
    }
    if ("xL".includes(type)) {
      if (size > MAX_RECORDS) throw wrong(`has ${size} bytes of records, more than ${MAX_RECORDS}`);
      const bytes = yield* read(store, start, size);
      if (type === "L") described.name = utf8(bytes).replace(/\0.*$/s, "");
      else described = { ...described, ...records(bytes, wrong) };
    } else if (!"gK".includes(type)) {
      const name = (described.name ?? nameIn(head)).replace(/^(\.\/)+/, "");
      // GNU's "S" has the map of its holes in the header and in blocks after it, which are not counted in its size.
      if (type === "S" && head[Field.Extended] !== 0)
        throw unsupported(store, "tar header", `${name} is stored with holes`);
      const sparse = type === "S" || described.sparse === true;
      if ("0\x007S".includes(type)) members.push({ name, header: at, start, size, sparse });
      described = {};
    }
    at = start + alignUp(size, BLOCK);
  }
  return members;
}

/** The sum of all bytes, those of the sum itself as spaces. */
function sums(head: Uint8Array): boolean {
  let sum = 0;
  for (const [i, byte] of head.subarray(0, BLOCK).entries()) {
    sum += i >= Field.Checksum && i < Field.Checksum + 8 ? 0x20 : byte;
  }
  return sum === numberAt(head, Field.Checksum, 8);
}

/** Octal digits; or, with the first bit set, bytes. */
function numberAt(head: Uint8Array, at: number, length: number): number {
  if (head[at] & 0x80) {
    let value = head[at] & 0x7f;
    for (let i = 1; i < length; i++) value = value * 256 + head[at + i];
    return value;
  }
  const digits = textAt(head, at, length).trim();
  return /^[0-7]*$/.test(digits) ? Number.parseInt(digits || "0", 8) : Number.NaN;
}

const utf8 = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** "LENGTH KEY=VALUE\n", each. */
function records(bytes: Uint8Array, wrong: (what: string) => Error): Described {
  const found: Described = {};
  let real: string | undefined;
  for (let at = 0; at < bytes.length; ) {
    const [, digits, key] = /^(\d{1,6}) ([^=]{1,200})=/.exec(utf8(bytes.subarray(at, at + 300))) ?? [];
    const length = Number(digits);
    if (digits === undefined || length < digits.length + key.length + 3 || at + length > bytes.length) {
      throw wrong("has records that are damaged");
    }
    const value = utf8(bytes.subarray(at + digits.length + 1, at + length - 1)).slice(key.length + 1);
    if (key === "path") found.name = value;
    // The file's own name is elsewhere then, and its first bytes may be the map of its holes (GNU tar, "PAX Format").
    if (key === "GNU.sparse.name") real = value;
    if (key.startsWith("GNU.sparse.")) found.sparse = true;
    if (key === "size") found.size = /^\d{1,16}$/.test(value) ? Number(value) : Number.NaN;
    at += length;
  }
  return real === undefined ? found : { ...found, name: real };
}
