// The header of a VirtualBox disk, version 1.1 (VirtualBox, src/VBox/Storage/VDICore.h: VDIPREHEADER and VDIHEADER1PLUS).
// Little-endian; all of it is in the first sector.
//
//   0 what it is, 64 bytes of text │ 64 signature │ 68 version │ 72 header … │ 512
import { guidAt, NO_GUID, putGuid } from "../guid.ts";
import { textAt } from "../io.ts";

export const SECTOR = 512;
const SIGNATURE = 0xbeda107f;

/** VDIIMAGETYPE. */
export const ImageType = { Dynamic: 1, Fixed: 2, Undo: 3, Differencing: 4 } as const;

/** An entry of the block map: the block is not there. VDI_IMAGE_BLOCK_FREE. */
export const FREE = 0xffffffff;
/** It reads as zeros. VDI_IMAGE_BLOCK_ZERO. */
export const ZERO = 0xfffffffe;

/** VDIPREHEADER, then VDIHEADER1PLUS. */
const Field = {
  Signature: 64,
  Version: 68,
  HeaderBytes: 72,
  Type: 76,
  Flags: 80,
  Comment: 84,
  TableOffset: 340,
  DataOffset: 344,
  /** Cylinders, heads, sectors, bytes of a sector. */
  Geometry: 348,
  DiskSize: 368,
  BlockSize: 376,
  BlockExtra: 380,
  Blocks: 384,
  Allocated: 388,
  Created: 392,
  Modified: 408,
  Parent: 424,
  ParentModified: 440,
  LogicalGeometry: 456,
} as const;
const COMMENT_BYTES = 256;
/** VDIHEADER1 and VDIHEADER1PLUS. */
const SHORT_HEADER = 384;
const LONG_HEADER = 400;

export interface Header {
  /** The first sector, to be written back with what is not interpreted. */
  bytes: Uint8Array;
  text: string;
  /** Major and minor. */
  version: [number, number];
  type: number;
  flags: number;
  comment: string;
  /** Bytes in the file: the block map, and the first block. */
  tableOffset: number;
  dataOffset: number;
  geometry: Geometry;
  /** As the BIOS sees it; absent from older images. */
  logicalGeometry: Geometry | undefined;
  size: bigint;
  blockSize: number;
  /** Bytes before the data of each block that belong to it. */
  blockExtra: number;
  /** Entries of the block map, and how many blocks the file holds. */
  blocks: number;
  allocated: number;
  /** UUIDs: of the image, and of its content; those of the parent's, or zeros. */
  created: string;
  modified: string;
  parent: string;
  parentModified: string;
}

interface Geometry {
  cylinders: number;
  heads: number;
  sectors: number;
  sectorSize: number;
}

/** Null when the signature is not there. */
export function parseHeader(bytes: Uint8Array): Header | null {
  if (bytes.length < SECTOR) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, SECTOR);
  const word = (at: number) => view.getUint32(at, true);
  if (word(Field.Signature) !== SIGNATURE) return null;
  const geometry = (at: number): Geometry => ({
    cylinders: word(at),
    heads: word(at + 4),
    sectors: word(at + 8),
    sectorSize: word(at + 12),
  });
  return {
    bytes,
    text: textAt(bytes, 0, 64).trim(),
    version: [word(Field.Version) >>> 16, word(Field.Version) & 0xffff],
    type: word(Field.Type),
    flags: word(Field.Flags),
    comment: new TextDecoder()
      .decode(bytes.subarray(Field.Comment, Field.Comment + COMMENT_BYTES))
      .replace(/\0.*$/s, ""),
    tableOffset: word(Field.TableOffset),
    dataOffset: word(Field.DataOffset),
    geometry: geometry(Field.Geometry),
    logicalGeometry: word(Field.HeaderBytes) >= LONG_HEADER ? geometry(Field.LogicalGeometry) : undefined,
    size: view.getBigUint64(Field.DiskSize, true),
    blockSize: word(Field.BlockSize),
    blockExtra: word(Field.BlockExtra),
    blocks: word(Field.Blocks),
    allocated: word(Field.Allocated),
    created: guidAt(bytes, Field.Created),
    modified: guidAt(bytes, Field.Modified),
    parent: guidAt(bytes, Field.Parent),
    parentModified: guidAt(bytes, Field.ParentModified),
  };
}

/** Is the header as long as what is read of it? */
export function isWhole({ bytes }: Header): boolean {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(Field.HeaderBytes, true) >= SHORT_HEADER;
}

/** What of a header changes; the rest stays, also what is not interpreted. Parent: null for none. */
export interface HeaderChange {
  type?: number;
  tableOffset?: number;
  dataOffset?: number;
  size?: number;
  blockSize?: number;
  blocks?: number;
  allocated?: number;
  created?: string;
  modified?: string;
  parent?: { created: string; modified: string } | null;
}

/** A copy with the changes. */
export function changedHeader({ bytes }: Pick<Header, "bytes">, change: HeaderChange): Uint8Array {
  const made = bytes.slice();
  const view = new DataView(made.buffer);
  const put = (at: number, value: number | undefined) => value !== undefined && view.setUint32(at, value, true);
  put(Field.Type, change.type);
  put(Field.TableOffset, change.tableOffset);
  put(Field.DataOffset, change.dataOffset);
  if (change.size !== undefined) view.setBigUint64(Field.DiskSize, BigInt(change.size), true);
  put(Field.BlockSize, change.blockSize);
  put(Field.Blocks, change.blocks);
  put(Field.Allocated, change.allocated);
  if (change.created) putGuid(made, Field.Created, change.created);
  if (change.modified) putGuid(made, Field.Modified, change.modified);
  if (change.parent !== undefined) {
    putGuid(made, Field.Parent, change.parent?.created ?? NO_GUID);
    putGuid(made, Field.ParentModified, change.parent?.modified ?? NO_GUID);
  }
  return made;
}

/** A header of its own. */
export function newHeader(change: HeaderChange): Uint8Array {
  const bytes = new Uint8Array(SECTOR);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode("<<< Paravane Virtual Disk Image >>>\n"));
  view.setUint32(Field.Signature, SIGNATURE, true);
  view.setUint32(Field.Version, 0x10001, true);
  view.setUint32(Field.HeaderBytes, LONG_HEADER, true);
  view.setUint32(Field.Geometry + 12, SECTOR, true);
  return changedHeader({ bytes }, change);
}
