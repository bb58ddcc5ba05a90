import type { Flow } from "../../../core/flow.ts";
import { ExtentKind, type ParentReference } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import type { BlockLayout } from "../blocks/layout.ts";
import { NO_GUID } from "../guid.ts";
import { corrupt, read, unsupported } from "../io.ts";
import { FREE, type Header, ImageType, isWhole, parseHeader, SECTOR, ZERO } from "./header.ts";

export const TABLE = "block map";
/** VirtualBox makes blocks of 1 MiB, and reads any power of two; QEMU reads those of 1 MiB. */
export const DEFAULT_BLOCK = 2 ** 20;
export const MIN_BLOCK = 4096;
export const MAX_BLOCK = 2 ** 28;
/** QEMU's limit, with which the map and its place still fit 32 bits. */
export const MAX_BLOCKS = 0x3fffff00;

export interface VdiLayout extends BlockLayout {
  header: Header;
  parent: ParentReference | undefined;
}

/** @throws ParavaneError CORRUPT, UNSUPPORTED, naming the structure and its offset */
export function* readLayout(store: Store, onWarning?: (message: string) => void): Flow<VdiLayout> {
  if (store.size < SECTOR) throw corrupt(store, "header", 0, `does not fit ${store.size} bytes`);
  const header = parseHeader(yield* read(store, 0, SECTOR));
  if (!header) throw corrupt(store, "header", 64, "has no signature");
  return layoutOf(store, header, onWarning);
}

/** The layout that the header means. */
export function layoutOf(store: Store, header: Header, onWarning?: (message: string) => void): VdiLayout {
  const { version, type, blockSize, blockExtra, blocks, tableOffset, dataOffset } = header;
  const warn = (message: string) => onWarning?.(`${store.name}: ${message}`);
  const wrong = (at: number, what: string) => corrupt(store, "header", at, what);
  if (version[0] !== 1) {
    const hint = "Convert it with VirtualBox: VBoxManage clonemedium";
    throw unsupported(store, "header", `version ${version.join(".")} of VDI is not known`, hint);
  }
  if (!isWhole(header)) throw wrong(72, "says that it is shorter than its fields");
  if (type === ImageType.Undo) throw unsupported(store, "header", "VDI undo images are not supported");
  if (type !== ImageType.Dynamic && type !== ImageType.Fixed && type !== ImageType.Differencing) {
    throw wrong(76, `has unknown image type ${type}`);
  }
  if (blockSize < SECTOR || (blockSize & (blockSize - 1)) !== 0) throw wrong(376, `has block size ${blockSize}`);
  if (blockSize < MIN_BLOCK || blockSize > MAX_BLOCK) {
    throw unsupported(store, "header", `VDI blocks of ${blockSize} bytes are not supported`);
  }
  if (blockExtra % SECTOR !== 0 || blockExtra > MAX_BLOCK) {
    throw unsupported(store, "header", `${blockExtra} more bytes before each block are not supported`);
  }
  if (tableOffset < SECTOR || tableOffset % 4 !== 0) throw wrong(340, `puts the block map at byte ${tableOffset}`);
  const tableEnd = tableOffset + blocks * 4;
  if (tableEnd > store.size)
    throw corrupt(store, TABLE, tableOffset, `of ${blocks} entries passes the end of the file`);
  if (dataOffset < SECTOR || dataOffset % SECTOR !== 0) throw wrong(344, `puts the data at byte ${dataOffset}`);
  if (dataOffset < tableEnd && dataOffset >= tableOffset) throw wrong(344, "puts the data into the block map");
  if (header.size > BigInt(blocks) * BigInt(blockSize)) {
    throw wrong(368, `says ${header.size} bytes, too many for ${blocks} blocks of ${blockSize}`);
  }
  // VirtualBox makes disks that end inside a sector, out of raw files that do.
  const size = Math.ceil(Number(header.size) / SECTOR) * SECTOR;
  if (header.size % 512n !== 0n) warn("the disk ends inside a sector; the rest of that reads as zeros");
  const hasParent = header.parent !== NO_GUID;
  if (type === ImageType.Differencing && !hasParent) throw wrong(424, "names no parent, but the image is differencing");
  return {
    store,
    size,
    blockSize,
    table: { name: TABLE, position: tableOffset, entries: blocks },
    entry: { origin: dataOffset, unit: blockExtra + blockSize, absent: FREE, zero: ZERO },
    lead: blockExtra,
    stride: blockExtra + blockSize,
    start: dataOffset,
    hasParent,
    hole: hasParent ? ExtentKind.Backing : ExtentKind.Zero,
    header,
    parent: hasParent ? parentOf(header) : undefined,
  };
}

/**
 * A VDI knows its parent by UUID alone: that of the image, and that of its content at the time. VirtualBox names the files
 * of snapshots by it, but not the first of a chain.
 */
function parentOf({ parent, parentModified }: Header): ParentReference {
  return {
    paths: [`{${parent}}.vdi`],
    format: "vdi",
    identities: [parentModified === NO_GUID ? parent : `${parent}/${parentModified}`],
    recognise: (head) => parseHeader(head)?.created === parent,
  };
}
