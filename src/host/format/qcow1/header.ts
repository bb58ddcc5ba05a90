// The header of a version 1 image of QEMU's copy-on-write format (QEMU, block/qcow.c, QCowHeader). Big-endian.
import type { Flow } from "../../../core/flow.ts";
import { ExtentKind, type ParentReference } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { corrupt, read, unsupported } from "../io.ts";
import type { TreeLayout } from "../lookup/tree.ts";

const HEADER_BYTES = 48;
const MAX_NAME = 1023;
/** QCOW_OFLAG_COMPRESSED. */
const COMPRESSED = 1n << 63n;
/** QCOW_CRYPT_AES. */
export const AES = 1;

export interface QcowLayout extends TreeLayout {
  encrypted: boolean;
  /** Seconds since 1970: when the parent's file was last written. 0: not noted. */
  modified: number;
  parent?: ParentReference;
}

export function isQcow1(head: Uint8Array): boolean {
  return [0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 1].every((byte, i) => head[i] === byte);
}

/** @throws ParavaneError CORRUPT, UNSUPPORTED, naming the structure and its offset */
export function* readQcow1(store: Store): Flow<QcowLayout> {
  if (store.size < HEADER_BYTES) throw corrupt(store, "header", 0, `does not fit ${store.size} bytes`);
  const head = yield* read(store, 0, HEADER_BYTES);
  if (!isQcow1(head)) throw corrupt(store, "header", 0, "has no magic");
  const view = new DataView(head.buffer);
  const wrong = (at: number, what: string) => corrupt(store, "header", at, what);
  const [clusterBits, l2Bits, method] = [head[32], head[33], view.getUint32(36)];
  if (clusterBits < 9 || clusterBits > 16) throw wrong(32, `says that a cluster has 2^${clusterBits} bytes`);
  if (l2Bits < 6 || l2Bits > 13) throw wrong(33, `says that an L2 table has 2^${l2Bits} entries`);
  if (method > AES) throw unsupported(store, "header", `encryption method ${method} of qcow version 1 is not known`);
  const clusterBytes = 2 ** clusterBits;
  const l2Entries = 2 ** l2Bits;
  const wanted = view.getBigUint64(24);
  if (wanted < 2n || wanted > BigInt(Number.MAX_SAFE_INTEGER))
    throw wrong(24, `says that the disk has ${wanted} bytes`);
  const size = Math.floor(Number(wanted) / 512) * 512;
  const entries = Math.ceil(size / (l2Entries * clusterBytes));
  const l1 = Number(view.getBigUint64(40));
  if (l1 % 8 !== 0 || l1 < HEADER_BYTES || l1 + entries * 8 > store.size) {
    throw wrong(40, `points at byte ${l1}, where no L1 table of ${entries} entries can be`);
  }
  const modified = view.getUint32(20);
  const nameAt = Number(view.getBigUint64(8));
  const parent = nameAt === 0 ? undefined : yield* parentOf(store, nameAt, view.getUint32(16), modified);
  const mask = (1n << BigInt(63 - clusterBits)) - 1n;
  const encrypted = method === AES;
  return {
    ...{
      store,
      size,
      clusterBytes,
      start: HEADER_BYTES,
      l1: { position: l1, entries },
      l2Entries,
      littleEndian: false,
    },
    ...{ hasParent: parent !== undefined, encrypted, modified },
    ...(parent && { parent }),
    read(entry) {
      if ((entry & COMPRESSED) !== 0n) {
        const packed = Number((entry & ~COMPRESSED) >> BigInt(63 - clusterBits));
        return { kind: ExtentKind.Packed, position: Number(entry & mask), packed };
      }
      // Encrypted bytes are not the guest's.
      if (encrypted) return { kind: ExtentKind.Packed, position: Number(entry), method: AES };
      return { kind: ExtentKind.Data, position: Number(entry) };
    },
  };
}

function* parentOf(store: Store, at: number, length: number, modified: number): Flow<ParentReference> {
  if (length === 0 || length > MAX_NAME || at < HEADER_BYTES || at + length > store.size) {
    throw corrupt(store, "header", 8, `says that the parent's name is ${length} bytes at byte ${at}`);
  }
  const name = new TextDecoder().decode(yield* read(store, at, length));
  return { paths: [name], identities: [], ...(modified !== 0 && { modified }) };
}
