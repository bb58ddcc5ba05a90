// The header of a QED image (QEMU, docs/interop/qed_spec.rst, "Header"). Little-endian.
import type { Flow } from "../../../core/flow.ts";
import { ExtentKind, type ParentReference } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { corrupt, read, unsupported } from "../io.ts";
import type { TreeLayout } from "../lookup/tree.ts";

const HEADER_BYTES = 64;
/** QEMU's limit for names. */
const MAX_NAME = 1023;

/** "Feature bits". */
const Feature = { BackingFile: 1n, NeedCheck: 2n, BackingIsRaw: 4n } as const;
const KNOWN = 7n;

export interface QedLayout extends TreeLayout {
  features: bigint;
  /** Clusters of each table. */
  tableSize: number;
  needsCheck: boolean;
  parent?: ParentReference;
}

export function isQed(head: Uint8Array): boolean {
  return head[0] === 0x51 && head[1] === 0x45 && head[2] === 0x44 && head[3] === 0;
}

/** @throws ParavaneError CORRUPT, UNSUPPORTED, naming the structure and its offset */
export function* readQed(store: Store): Flow<QedLayout> {
  if (store.size < HEADER_BYTES) throw corrupt(store, "header", 0, `does not fit ${store.size} bytes`);
  const head = yield* read(store, 0, HEADER_BYTES);
  if (!isQed(head)) throw corrupt(store, "header", 0, "has no magic");
  const view = new DataView(head.buffer);
  const word = (at: number) => view.getUint32(at, true);
  const wide = (at: number) => view.getBigUint64(at, true);
  const wrong = (at: number, what: string) => corrupt(store, "header", at, what);
  const [clusterBytes, tableSize, headerSize] = [word(4), word(8), word(12)];
  const features = wide(16);
  const unknown = features & ~KNOWN;
  if (unknown !== 0n) throw unsupported(store, "header", `QED features 0x${unknown.toString(16)} are not known`);
  if (!isPower(clusterBytes, 2 ** 12, 2 ** 26)) throw wrong(4, `says that a cluster has ${clusterBytes} bytes`);
  if (!isPower(tableSize, 1, 16)) throw wrong(8, `says that a table has ${tableSize} clusters`);
  const start = headerSize * clusterBytes;
  if (headerSize === 0 || start > store.size) throw wrong(12, `says that it has ${headerSize} clusters`);
  const entries = (tableSize * clusterBytes) / 8;
  const size = Number(wide(48));
  if (size % 512 !== 0 || size > Math.min(Number.MAX_SAFE_INTEGER, entries * entries * clusterBytes)) {
    throw wrong(48, `says that the disk has ${size} bytes`);
  }
  const l1 = Number(wide(40));
  if (l1 % clusterBytes !== 0 || l1 < start || l1 + entries * 8 > store.size) {
    throw wrong(40, `points at byte ${l1}, where no L1 table can be`);
  }
  const hasParent = (features & Feature.BackingFile) !== 0n;
  return {
    ...{ store, size, clusterBytes, start, l1: { position: l1, entries }, l2Entries: entries, littleEndian: true },
    ...{ hasParent, features, tableSize, needsCheck: (features & Feature.NeedCheck) !== 0n },
    ...(hasParent && { parent: yield* parentOf(store, word(56), word(60), start, features) }),
    // "Data cluster offsets": 1 is a cluster of zeros.
    read: (entry) => ({ kind: entry === 1n ? ExtentKind.Zero : ExtentKind.Data, position: Number(entry) }),
  };
}

function* parentOf(
  store: Store,
  at: number,
  length: number,
  headerBytes: number,
  features: bigint,
): Flow<ParentReference> {
  if (length === 0 || length > MAX_NAME || at + length > headerBytes) {
    throw corrupt(store, "header", 56, `says that the parent's name is ${length} bytes at byte ${at}`);
  }
  const name = new TextDecoder().decode(yield* read(store, at, length));
  const raw = (features & Feature.BackingIsRaw) !== 0n;
  return { paths: [name], identities: [], ...(raw && { format: "raw" }) };
}

function isPower(value: number, from: number, to: number): boolean {
  return value >= from && value <= to && Number.isInteger(Math.log2(value));
}
