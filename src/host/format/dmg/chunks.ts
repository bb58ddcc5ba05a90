// Block tables of Apple disk images ("mish", BLKXTable): a header of 204 bytes, and 40 for each chunk of the disk. Big-endian.
import type { Store } from "../../../core/store.ts";
import { corrupt, textAt, unsupported } from "../io.ts";
import type { Koly, Table } from "./koly.ts";

const SECTOR = 512;
const TABLE_BYTES = 204;
const CHUNK_BYTES = 40;
/** QEMU's limit of what is unpacked at a time. */
const MAX_CHUNK = 2 ** 26;

/** "BLKXChunkEntry", EntryType. */
export const Method = {
  Zero: 0,
  Raw: 1,
  Ignore: 2,
  Adc: 0x80000004,
  Zlib: 0x80000005,
  Bzip2: 0x80000006,
  Lzfse: 0x80000007,
  Lzma: 0x80000008,
} as const;
const Comment = 0x7ffffffe;
const End = 0xffffffff;

/** Bytes of the disk that are kept together. */
export interface Chunk {
  start: number;
  size: number;
  method: number;
  /** In the file. */
  position: number;
  length: number;
}

const plain = (method: number) => method === Method.Zero || method === Method.Ignore;

/** All chunks of the disk, in its order and without a gap. @throws ParavaneError CORRUPT, UNSUPPORTED */
export function chunksOf(store: Store, koly: Koly, tables: readonly Table[]): Chunk[] {
  const chunks = tables.flatMap((table, number) => chunksOfTable(store, koly, table, number));
  chunks.sort((a, b) => a.start - b.start);
  let end = 0;
  for (const { start, size } of chunks) {
    if (start !== end) {
      const what = start < end ? `two chunks for byte ${start}` : `no chunk for byte ${end}`;
      throw corrupt(store, "block table", koly.list.position, `has ${what} of the disk`);
    }
    end = start + size;
  }
  return chunks;
}

function chunksOfTable(store: Store, koly: Koly, { bytes, position: from }: Table, number: number): Chunk[] {
  const wrong = (what: string) => corrupt(store, "block table", from, `${number} ${what}`);
  if (bytes.length < TABLE_BYTES || textAt(bytes, 0, 4) !== "mish") throw wrong("has no magic");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const wide = (at: number) => Number(view.getBigUint64(at));
  const count = view.getUint32(200);
  if (TABLE_BYTES + count * CHUNK_BYTES > bytes.length) throw wrong(`has ${count} chunks in ${bytes.length} bytes`);
  const first = wide(8);
  const origin = koly.data.position + wide(24);
  const chunks: Chunk[] = [];
  for (let i = 0; i < count; i++) {
    const at = TABLE_BYTES + i * CHUNK_BYTES;
    const method = view.getUint32(at);
    if (method === Comment || method === End) continue;
    const [start, size] = [(first + wide(at + 8)) * SECTOR, wide(at + 16) * SECTOR];
    const [position, length] = [origin + wide(at + 24), wide(at + 32)];
    if (size === 0) continue;
    if (!Number.isSafeInteger(start + size)) throw wrong(`has chunk ${i} at byte ${start} of the disk`);
    if (!plain(method)) {
      checkMethod(store, method);
      if (size > MAX_CHUNK && method !== Method.Raw) {
        throw wrong(`unpacks ${size} bytes in chunk ${i}, more than ${MAX_CHUNK}`);
      }
      if (length === 0 || length > MAX_CHUNK * 2 || position + length > koly.position) {
        throw wrong(`puts chunk ${i} into ${length} bytes at byte ${position}, where they cannot be`);
      }
      if (method === Method.Raw && length !== size) throw wrong(`has ${length} bytes for the ${size} of chunk ${i}`);
    }
    chunks.push({ start, size, method, position, length });
  }
  return chunks;
}

function checkMethod(store: Store, method: number): void {
  if (Object.values(Method).some((known) => known === method)) return;
  const hint = "Convert it on a Mac first: hdiutil convert -format UDZO";
  throw unsupported(
    store,
    "block table",
    `parts of the disk are compressed with method 0x${method.toString(16)}, which is not known`,
    hint,
  );
}
