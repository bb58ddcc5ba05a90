// The nodes of an Apple sparse disk image (.sparseimage). Apple does not publish the format; as libmodi ("Sparse disk image
// (.sparseimage) format") and apfs-fuse (DeviceSparseImage), which knows more than the first node, have it. Big-endian.
import type { Flow } from "../../../core/flow.ts";
import type { Store } from "../../../core/store.ts";
import { corrupt, read, textAt, unsupported } from "../io.ts";

const SECTOR = 512;
/** Of the header, and of each node; bands follow. */
const NODE = 4096;
const HEADER = "sparse image header";
const INDEX = "band index node";
/** Numbers of bands in the header begin at byte 64, in other nodes at 56. */
const First = { Header: 64, Node: 56 } as const;
const Field = { Version: 4, BandSectors: 8, Sectors32: 16, Next: 20, Sectors: 28 } as const;
/** Where other nodes say which is the next. */
const NEXT = 12;
/** Bands of up to 64 TiB, in the usual MiB. */
const MAX_BANDS = 2 ** 26;
const MAX_BAND = 2 ** 31;

/** A part of the disk that is stored. Bytes. */
interface Band {
  start: number;
  position: number;
}
export interface Bands {
  size: number;
  bandBytes: number;
  /** By `start`. */
  stored: readonly Band[];
}

export const isSparseImage = (head: Uint8Array): boolean => textAt(head, 0, 4) === "sprs";

/** @throws ParavaneError CORRUPT, UNSUPPORTED */
export function* readBands(store: Store): Flow<Bands> {
  if (store.size < NODE) throw corrupt(store, HEADER, 0, `does not fit ${store.size} bytes`);
  let node = yield* nodeAt(store, 0);
  const wrong = (at: number, what: string) => corrupt(store, HEADER, at, what);
  if (!isSparseImage(new Uint8Array(node.buffer))) throw wrong(0, "has no magic");
  const version = node.getUint32(Field.Version);
  if (version !== 3) throw unsupported(store, HEADER, `version ${version} of Apple sparse images is not known`);
  const bandBytes = node.getUint32(Field.BandSectors) * SECTOR;
  if (bandBytes === 0 || bandBytes > MAX_BAND)
    throw wrong(Field.BandSectors, `says that a band has ${bandBytes} bytes`);
  // The older field has 32 bits; the newer one is not in all images.
  const [low, sectors] = [node.getUint32(Field.Sectors32), node.getBigUint64(Field.Sectors) || null];
  const size = Number(sectors ?? low) * SECTOR;
  if (sectors !== null && Number(sectors & 0xffffffffn) !== low) {
    throw wrong(Field.Sectors, `says ${sectors} sectors, and ${low} elsewhere`);
  }
  const count = Math.ceil(size / bandBytes);
  if (count > MAX_BANDS) throw unsupported(store, HEADER, `a disk of ${size} bytes in bands of ${bandBytes}`);

  const positions = new Map<number, number>();
  let at = 0;
  for (let first: number = First.Header, next = node.getBigUint64(Field.Next); ; ) {
    for (let entry = first; entry < NODE; entry += 4) {
      const number = node.getUint32(entry);
      if (number === 0) continue;
      const what = `names band ${number}, of ${count}`;
      if (number > count) throw corrupt(store, INDEX, at + entry, what);
      if (positions.has(number - 1)) throw corrupt(store, INDEX, at + entry, `${what}, which another entry has`);
      positions.set(number - 1, at + NODE + ((entry - first) / 4) * bandBytes);
    }
    if (next === 0n) break;
    // Onwards only, so that there is an end.
    if (next < BigInt(at + NODE) || next > BigInt(store.size - NODE)) {
      throw corrupt(store, INDEX, at, `says that the next one is at byte ${next}`);
    }
    at = Number(next);
    node = yield* nodeAt(store, at);
    if (!isSparseImage(new Uint8Array(node.buffer))) throw corrupt(store, INDEX, at, "has no magic");
    first = First.Node;
    next = node.getBigUint64(NEXT);
  }
  const stored = Array.from(positions, ([number, position]) => ({ start: number * bandBytes, position }));
  stored.sort((one, other) => one.start - other.start);
  return { size, bandBytes, stored };
}

function* nodeAt(store: Store, position: number): Flow<DataView> {
  return new DataView((yield* read(store, position, NODE)).buffer);
}
