// The header and its extensions ("Header", "Header extensions" in QEMU's qcow2 specification). Big-endian.
import type { Store } from "../../../core/store.ts";
import { corrupt, getWide, unsupported, viewOf } from "./io.ts";

export const MAGIC = 0x514649fb; // "QFI\xfb"
export const SECTOR = 512;

/** Byte offsets of the fields. */
export const Field = {
  Version: 4,
  BackingOffset: 8,
  BackingSize: 16,
  ClusterBits: 20,
  Size: 24,
  CryptMethod: 32,
  L1Size: 36,
  L1Offset: 40,
  RefcountOffset: 48,
  RefcountClusters: 56,
  SnapshotCount: 60,
  SnapshotOffset: 64,
  Incompatible: 72,
  Compatible: 80,
  Autoclear: 88,
  RefcountOrder: 96,
  Length: 100,
  CompressionType: 104,
} as const;
export const V2_LENGTH = 72;
export const V3_LENGTH = 104;

export const Incompatible = { Dirty: 1n, Corrupt: 2n, DataFile: 4n, Compression: 8n, ExtendedL2: 16n } as const;
const KNOWN_INCOMPATIBLE = 31n;
export const Compatible = { LazyRefcounts: 1n } as const;
export const Autoclear = { Bitmaps: 1n, RawDataFile: 2n } as const;

export const Extension = {
  End: 0,
  BackingFormat: 0xe2792aca,
  FeatureNames: 0x6803f857,
  Bitmaps: 0x23852875,
  DataFile: 0x44415441,
  Encryption: 0x0537be77,
} as const;

/** "crypt_method". */
export const CryptMethod = { None: 0, Aes: 1, Luks: 2 } as const;

/** Limits that QEMU sets as well, so that hostile sizes cost nothing. */
export const MAX_L1_BYTES = 2 ** 25;
export const MAX_REFCOUNT_TABLE_BYTES = 2 ** 23;
export const MAX_SNAPSHOTS = 65536;
const MAX_LUKS_BYTES = 2 ** 26;

export interface Header {
  version: number;
  backingFile?: string;
  backingFormat?: string;
  clusterBits: number;
  /** Guest-visible bytes, whole sectors. */
  size: number;
  /** Entries. */
  l1Size: number;
  l1Position: number;
  refcountPosition: number;
  refcountClusters: number;
  snapshotCount: number;
  snapshotPosition: number;
  incompatible: bigint;
  compatible: bigint;
  autoclear: bigint;
  /** log2 of the bits of a refcount. */
  refcountOrder: number;
  length: number;
  compression: "zlib" | "zstd";
  /** External data file: its name, where the image says it. */
  dataFile?: string;
  /** CryptMethod. */
  cryptMethod: number;
  /** Where the LUKS header with its key slots is ("Full disk encryption header pointer"). */
  encryption?: { position: number; bytes: number };
  bitmaps?: { count: number; bytes: number; position: number };
  /** Types of the extensions that were there, in order. */
  extensions: number[];
}

/** log2 of the cluster, from the first sector. @throws CORRUPT, UNSUPPORTED when there is none to trust */
export function parseClusterBits(store: Store, head: Uint8Array): number {
  const view = viewOf(head);
  if (head.length < V2_LENGTH || view.getUint32(0) !== MAGIC)
    throw corrupt(store, "header", 0, "is not there: no magic");
  const version = view.getUint32(Field.Version);
  if (version !== 2 && version !== 3) throw unsupported(store, `qcow2 version ${version} is not known`);
  const bits = view.getUint32(Field.ClusterBits);
  if (bits < 9 || bits > 21) {
    throw corrupt(store, "header", Field.ClusterBits, `has cluster_bits ${bits}, not 9 to 21`);
  }
  return bits;
}

/** @param bytes the first cluster, or as much of it as the file has */
export function parseHeader(store: Store, bytes: Uint8Array): Header {
  const view = viewOf(bytes);
  const clusterBits = parseClusterBits(store, bytes);
  const cluster = 2 ** clusterBits;
  const wrong = (field: number, what: string) => corrupt(store, "header", field, what);
  const version = view.getUint32(Field.Version);
  const v3 = version === 3;
  if (v3 && bytes.length < V3_LENGTH) throw wrong(0, "is cut off");

  const size = getWide(view, Field.Size);
  if (!Number.isSafeInteger(size)) throw wrong(Field.Size, `has size ${view.getBigUint64(Field.Size)}`);
  const header: Header = {
    version,
    clusterBits,
    size: Math.floor(size / SECTOR) * SECTOR,
    l1Size: view.getUint32(Field.L1Size),
    l1Position: getWide(view, Field.L1Offset),
    refcountPosition: getWide(view, Field.RefcountOffset),
    refcountClusters: view.getUint32(Field.RefcountClusters),
    snapshotCount: view.getUint32(Field.SnapshotCount),
    snapshotPosition: getWide(view, Field.SnapshotOffset),
    incompatible: v3 ? view.getBigUint64(Field.Incompatible) : 0n,
    compatible: v3 ? view.getBigUint64(Field.Compatible) : 0n,
    autoclear: v3 ? view.getBigUint64(Field.Autoclear) : 0n,
    refcountOrder: v3 ? view.getUint32(Field.RefcountOrder) : 4,
    length: v3 ? view.getUint32(Field.Length) : V2_LENGTH,
    compression: "zlib",
    cryptMethod: view.getUint32(Field.CryptMethod),
    extensions: [],
  };
  if (v3 && (header.length < V3_LENGTH || header.length % 8 !== 0 || header.length > cluster)) {
    throw wrong(Field.Length, `says that it is ${header.length} bytes long`);
  }
  if (header.length > bytes.length) throw wrong(Field.Length, "is cut off");
  const names = parseExtensions(store, bytes, header);

  const unknown = header.incompatible & ~KNOWN_INCOMPATIBLE;
  if (unknown !== 0n) throw unsupported(store, `the image uses ${nameBits(unknown, names)}, which are not known here`);
  if (header.cryptMethod > CryptMethod.Luks) {
    throw unsupported(store, `the image is encrypted by method ${header.cryptMethod}, which is not known`);
  }
  if (header.refcountOrder > 6) throw wrong(Field.RefcountOrder, `has refcount_order ${header.refcountOrder}, above 6`);
  parseCompression(store, view, header);
  if (header.incompatible & Incompatible.ExtendedL2 && clusterBits < 14) {
    throw wrong(Field.ClusterBits, `has ${cluster}-byte clusters, too small for subclusters`);
  }
  checkPlaces(store, header);
  parseBacking(store, bytes, header);
  return header;
}

function parseCompression(store: Store, view: DataView, header: Header): void {
  const type = header.length > Field.CompressionType ? view.getUint8(Field.CompressionType) : 0;
  const flagged = (header.incompatible & Incompatible.Compression) !== 0n;
  if (flagged !== (type !== 0)) {
    throw corrupt(store, "header", Field.CompressionType, `has compression type ${type} against its feature bit`);
  }
  if (type > 1) throw unsupported(store, `compression type ${type} is not known`);
  if (type === 1) header.compression = "zstd";
}

/** Tables that the header points to: aligned, of sane size, inside the file. */
function checkPlaces(store: Store, header: Header): void {
  const cluster = 2 ** header.clusterBits;
  const end = Math.ceil(store.size / cluster) * cluster;
  const place = (field: number, structure: string, position: number, bytes: number, most: number) => {
    if (bytes > most) throw corrupt(store, "header", field, `gives the ${structure} ${bytes} bytes, more than ${most}`);
    if (position % cluster !== 0 || position < cluster || position + bytes > end) {
      throw corrupt(store, "header", field, `puts the ${structure} (${bytes} bytes) at ${position}`);
    }
  };
  const needed = l1Entries(header);
  if (header.l1Size < needed) {
    throw corrupt(store, "header", Field.L1Size, `has an L1 table of ${header.l1Size} entries; ${needed} are needed`);
  }
  if (header.l1Size > 0) place(Field.L1Offset, "L1 table", header.l1Position, header.l1Size * 8, MAX_L1_BYTES);
  const table = header.refcountClusters * cluster;
  if (table === 0) throw corrupt(store, "header", Field.RefcountClusters, "has no refcount table");
  const mostTable = Math.max(MAX_REFCOUNT_TABLE_BYTES, cluster);
  place(Field.RefcountOffset, "refcount table", header.refcountPosition, table, mostTable);
  const { encryption, cryptMethod } = header;
  if (cryptMethod === CryptMethod.Luks && !encryption) {
    throw corrupt(store, "header", Field.CryptMethod, "says LUKS, but no extension says where the LUKS header is");
  }
  if (cryptMethod !== CryptMethod.Luks && encryption) {
    throw corrupt(store, "header", Field.CryptMethod, "does not say LUKS, but there is a LUKS header");
  }
  if (encryption) place(header.length, "LUKS header", encryption.position, encryption.bytes, MAX_LUKS_BYTES);
  if (header.snapshotCount > MAX_SNAPSHOTS) {
    throw corrupt(store, "header", Field.SnapshotCount, `has ${header.snapshotCount} snapshots`);
  }
  if (header.snapshotCount > 0) place(Field.SnapshotOffset, "snapshot table", header.snapshotPosition, 40, cluster);
}

function parseBacking(store: Store, bytes: Uint8Array, header: Header): void {
  const view = viewOf(bytes);
  const position = getWide(view, Field.BackingOffset);
  if (position === 0) return;
  const length = view.getUint32(Field.BackingSize);
  if (length > 1023 || position + length > bytes.length || position < header.length) {
    throw corrupt(store, "header", Field.BackingOffset, `puts a backing file name of ${length} bytes at ${position}`);
  }
  if (length > 0) header.backingFile = text(bytes.subarray(position, position + length));
}

/** Fills in what the extensions say; returns the names that the image gives feature bits, by "type:bit". */
function parseExtensions(store: Store, bytes: Uint8Array, header: Header): Map<string, string> {
  const names = new Map<string, string>();
  const view = viewOf(bytes);
  const backing = getWide(view, Field.BackingOffset);
  const end = backing > 0 && backing < bytes.length ? backing : bytes.length;
  for (let at = header.length; at + 8 <= end; ) {
    const type = view.getUint32(at);
    const length = view.getUint32(at + 4);
    if (type === Extension.End) break;
    if (length > end - at - 8)
      throw corrupt(store, "header extension", at, `has ${length} bytes, past the header's cluster`);
    const data = bytes.subarray(at + 8, at + 8 + length);
    header.extensions.push(type);
    if (type === Extension.BackingFormat) header.backingFormat = text(data);
    else if (type === Extension.DataFile) header.dataFile = text(data);
    else if (type === Extension.FeatureNames) {
      // The last one may be cut short behind its name.
      for (let i = 0; i + 2 < length; i += 48)
        names.set(`${data[i]}:${data[i + 1]}`, text(data.subarray(i + 2, i + 48)));
    } else if (type === Extension.Encryption && length >= 16) {
      const fields = viewOf(data);
      header.encryption = { position: getWide(fields, 0), bytes: getWide(fields, 8) };
    } else if (type === Extension.Bitmaps && length >= 24) {
      const fields = viewOf(data);
      header.bitmaps = { count: fields.getUint32(0), bytes: getWide(fields, 8), position: getWide(fields, 16) };
    }
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return names;
}

function nameBits(bits: bigint, names: Map<string, string>): string {
  const list: string[] = [];
  for (let bit = 0; bit < 64; bit++) {
    if (((bits >> BigInt(bit)) & 1n) === 0n) continue;
    const name = names.get(`0:${bit}`);
    list.push(name ? `"${name}" (bit ${bit})` : `incompatible feature bit ${bit}`);
  }
  return list.join(", ");
}

/** L1 entries that `size` bytes need. */
export function l1Entries({
  size,
  clusterBits,
  incompatible,
}: Pick<Header, "size" | "clusterBits" | "incompatible">): number {
  const entry = incompatible & Incompatible.ExtendedL2 ? 16 : 8;
  return Math.ceil(size / 2 ** clusterBits / (2 ** clusterBits / entry));
}

function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}
