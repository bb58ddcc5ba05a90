import type { Flow } from "../../../core/flow.ts";
import { ExtentKind } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import type { BlockLayout } from "../blocks/layout.ts";
import { alignUp, corrupt, read, unsupported } from "../io.ts";
import { HEADER_BYTES, type Header, parseHeader, SECTOR } from "./header.ts";

export const TABLE = "block allocation table";
export const MIN_CLUSTER = 4096;
export const MAX_CLUSTER = 2 ** 28;

export interface ParallelsLayout extends BlockLayout {
  header: Header;
}

/** @throws ParavaneError CORRUPT, UNSUPPORTED, naming the structure and its offset */
export function* readLayout(store: Store, onWarning?: (message: string) => void): Flow<ParallelsLayout> {
  if (store.size < HEADER_BYTES) throw corrupt(store, "header", 0, `does not fit ${store.size} bytes`);
  const header = parseHeader(yield* read(store, 0, HEADER_BYTES));
  if (!header) throw corrupt(store, "header", 0, "has no magic");
  if (header.inUse) onWarning?.(`${store.name}: the disk was not closed properly, or is open elsewhere`);
  return layoutOf(store, header);
}

/** Can the core look clusters up, and the disk be written? */
export const isUsual = ({ blockSize }: ParallelsLayout): boolean => Number.isInteger(Math.log2(blockSize));

/** The layout that the header means. */
export function layoutOf(store: Store, header: Header): ParallelsLayout {
  const { version, tracks, entries, extended, dataOffset, sectors } = header;
  const wrong = (at: number, what: string) => corrupt(store, "header", at, what);
  if (version !== 2) throw unsupported(store, "header", `version ${version} of Parallels disks is not known`);
  const blockSize = tracks * SECTOR;
  if (tracks === 0) throw wrong(28, "says that a cluster has no sectors");
  if (blockSize < MIN_CLUSTER || blockSize > MAX_CLUSTER) {
    throw unsupported(store, "header", `Parallels clusters of ${tracks} sectors are not supported`);
  }
  const tableEnd = HEADER_BYTES + entries * 4;
  if (tableEnd > store.size)
    throw corrupt(store, TABLE, HEADER_BYTES, `of ${entries} entries passes the end of the file`);
  if (sectors > BigInt(entries) * BigInt(tracks)) {
    throw wrong(36, `says ${sectors} sectors, too many for ${entries} clusters of ${tracks}`);
  }
  if (sectors * 512n > BigInt(Number.MAX_SAFE_INTEGER)) throw wrong(36, `says ${sectors} sectors`);
  const stride = blockSize;
  return {
    store,
    size: Number(sectors) * SECTOR,
    blockSize,
    table: { name: TABLE, position: HEADER_BYTES, entries },
    entry: { origin: 0, unit: extended ? blockSize : SECTOR, absent: 0 },
    lead: 0,
    stride,
    start: Math.max(dataOffset * SECTOR, alignUp(tableEnd, SECTOR)),
    hasParent: false,
    hole: ExtentKind.Backing,
    header,
  };
}
