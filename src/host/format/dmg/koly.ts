// The trailer of an Apple disk image (UDIF), the last 512 bytes of the file, and the block tables ("mish") that its property list
// or its resource fork holds. Apple publishes neither; as QEMU (block/dmg.c) and libmodi ("Apple Disk Image Format") know them.
// Big-endian.
import type { Flow } from "../../../core/flow.ts";
import type { Store } from "../../../core/store.ts";
import { corrupt, read, textAt, unsupported } from "../io.ts";
import { type Plist, parsePlist } from "../plist.ts";

const KOLY_BYTES = 512;
const TRAILER = "koly trailer";
/** QEMU's limit for property lists; a disk of 1 TB has one of about that. */
const MAX_LIST = 2 ** 24;

export interface Koly {
  version: number;
  /** Of the trailer. */
  position: number;
  data: { position: number; length: number };
  /** Sectors of the disk; 0: not said. */
  sectors: number;
  variant: number;
  /** CRC-32 of the data fork; absent where there is none. */
  checksum?: number;
  resources: Place;
  list: Place;
}
interface Place {
  position: number;
  length: number;
}

/** Is this the last sector of an Apple disk image? */
export function isKoly(tail: Uint8Array): boolean {
  return tail.length === KOLY_BYTES && textAt(tail, 0, 4) === "koly";
}

/** @throws ParavaneError CORRUPT, UNSUPPORTED */
export function* readKoly(store: Store): Flow<Koly> {
  const position = store.size - KOLY_BYTES;
  if (position < 0) throw corrupt(store, TRAILER, 0, `does not fit ${store.size} bytes`);
  const bytes = yield* read(store, position, KOLY_BYTES);
  if (!isKoly(bytes)) throw corrupt(store, TRAILER, position, "is not there");
  const view = new DataView(bytes.buffer);
  const word = (at: number) => view.getUint32(at);
  const wide = (at: number) => Number(view.getBigUint64(at));
  if (word(4) !== 4) throw unsupported(store, TRAILER, `version ${word(4)} of Apple disk images is not known`);
  if (word(60) > 1) {
    const hint = "Join its segments first, on a Mac: hdiutil convert -format UDZO";
    throw unsupported(store, TRAILER, `the file is one of ${word(60)} segments of an image`, hint);
  }
  const place = (at: number): Place => {
    const found = { position: wide(at), length: wide(at + 8) };
    if (found.position + found.length <= position) return found;
    const what = `puts ${found.length} bytes at byte ${found.position}, where they cannot be`;
    throw corrupt(store, TRAILER, position + at, what);
  };
  const crc = word(80) === 2 && word(84) === 32;
  return {
    ...{ version: word(4), position, data: place(24), resources: place(40), list: place(216) },
    ...{ sectors: wide(492), variant: word(488), ...(crc && { checksum: word(88) }) },
  };
}

/** A block table, and the byte of the file that it comes from, as near as that can be said. */
export interface Table {
  bytes: Uint8Array;
  position: number;
}

/** @throws ParavaneError CORRUPT, UNSUPPORTED */
export function* readTables(store: Store, { list, resources, position }: Koly): Flow<Table[]> {
  if (list.length > 0) return tablesOfList(store, list, yield* readPart(store, list));
  if (resources.length > 0) return tablesOfFork(store, resources, yield* readPart(store, resources));
  throw corrupt(store, TRAILER, position + 216, "has neither a property list nor a resource fork");
}

function* readPart(store: Store, { position, length }: Place): Flow<Uint8Array> {
  if (length <= MAX_LIST) return yield* read(store, position, length);
  throw unsupported(store, TRAILER, `block tables of ${length} bytes are too large, which are up to ${MAX_LIST}`);
}

function tablesOfList(store: Store, { position }: Place, bytes: Uint8Array): Table[] {
  let list: Plist;
  try {
    list = parsePlist(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (thrown) {
    if (!(thrown instanceof RangeError) && !(thrown instanceof TypeError)) throw thrown;
    throw corrupt(store, "property list", position, `cannot be read: ${thrown.message}`);
  }
  const blocks = child(child(list, "resource-fork"), "blkx");
  if (!Array.isArray(blocks)) throw corrupt(store, "property list", position, "has no block tables (blkx)");
  return blocks.map((block, i) => {
    const data = child(block, "Data");
    if (data instanceof Uint8Array) return { bytes: data, position };
    throw corrupt(store, "property list", position, `has no data in block table ${i}`);
  });
}

const child = (list: Plist | undefined, key: string) => (list instanceof Map ? list.get(key) : undefined);

/** Inside Macintosh: More Macintosh Toolbox, "Resource File Format": a length before each resource's bytes. */
function tablesOfFork(store: Store, { position }: Place, bytes: Uint8Array): Table[] {
  const wrong = (at: number, what: string) => corrupt(store, "resource fork", position + at, what);
  if (bytes.length < 16) throw wrong(0, `has only ${bytes.length} bytes`);
  const view = new DataView(bytes.buffer);
  const [start, length] = [view.getUint32(0), view.getUint32(8)];
  if (start < 16 || start + length > bytes.length) throw wrong(0, `puts its data at byte ${start}, of ${length} bytes`);
  const tables: Table[] = [];
  for (let at = start; at < start + length; ) {
    const size = at + 4 <= start + length ? view.getUint32(at) : -1;
    if (size < 0 || at + 4 + size > start + length) throw wrong(at, "has a resource that passes its end");
    const resource = bytes.subarray(at + 4, at + 4 + size);
    if (textAt(resource, 0, 4) === "mish") tables.push({ bytes: resource, position: position + at + 4 });
    at += 4 + size;
  }
  if (tables.length === 0) throw wrong(start, "has no block tables");
  return tables;
}
