import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { CreateOptions } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import {
  Compatible,
  Extension,
  Field,
  Incompatible,
  l1Entries,
  MAGIC,
  MAX_L1_BYTES,
  SECTOR,
  V2_LENGTH,
} from "./header.ts";
import { setWide, viewOf, write } from "./io.ts";
import { writeRefcounts } from "./publish.ts";
import { Counts } from "./references.ts";

interface Qcow2CreateOptions extends CreateOptions {
  /** Bytes, a power of two from 512 to 2 MiB. */
  clusterSize?: number;
  /** "1.1" is version 3, "0.10" version 2, which has none of the options below but a parent. */
  compat?: "1.1" | "v3" | "0.10" | "v2";
  /** A power of two from 1 to 64. */
  refcountBits?: number;
  lazyRefcounts?: boolean;
  /** Subclusters: a 32nd of a cluster can be allocated alone. Clusters of at least 16 KiB. */
  extendedL2?: boolean;
  compressionType?: "zlib" | "zstd";
  /** Nothing else is known. */
  preallocation?: "off";
  /** The parent, as a reader is to find it, and its format. */
  backingFile?: string;
  backingFormat?: string;
  /** Keeps guest data in another file, named like this, which the caller makes. */
  dataFile?: string;
}

const HEADER_BYTES = 112;

/** Feature names that a newer or older reader can show ("Feature name table"): type, bit, name. */
const FEATURES: [number, number, string][] = [
  [0, 0, "dirty bit"],
  [0, 1, "corrupt bit"],
  [0, 2, "external data file"],
  [0, 3, "compression type"],
  [0, 4, "extended L2 entries"],
  [1, 0, "lazy refcounts"],
  [2, 0, "bitmaps"],
  [2, 1, "raw external data"],
];

export function* createQcow2(store: Store, options: CreateOptions): Flow {
  const made = plan(options as Qcow2CreateOptions);
  const { header, bytes } = made;
  const cluster = 2 ** header.clusterBits;
  const l1Clusters = Math.ceil((made.l1Size * 8) / cluster);
  const counts = new Counts();
  counts.addRange(0, 1 + l1Clusters);
  const { position, clusters } = yield* writeRefcounts(store, header, counts, 1 + l1Clusters);
  yield* wait(store.resize(Math.ceil(store.size / cluster) * cluster));
  yield* wait(store.flush());
  const view = viewOf(bytes);
  view.setUint32(Field.L1Size, made.l1Size);
  setWide(view, Field.L1Offset, l1Clusters > 0 ? cluster : 0);
  setWide(view, Field.RefcountOffset, position);
  view.setUint32(Field.RefcountClusters, clusters);
  // The header last: until then nothing takes the file for an image.
  yield* write(store, 0, bytes);
}

/** Checks the options and lays the header's cluster out, all but the places of the tables. */
function plan(options: Qcow2CreateOptions) {
  const {
    size: wanted,
    clusterSize = 65536,
    compat = "1.1",
    refcountBits = 16,
    lazyRefcounts = false,
    ...more
  } = options;
  const {
    extendedL2 = false,
    compressionType = "zlib",
    preallocation = "off",
    backingFile,
    backingFormat,
    ...rest
  } = more;
  const { dataFile, ...unknown } = rest;
  const [name] = Object.keys(unknown);
  if (name !== undefined) throw invalid(`qcow2 images have no option "${name}"`);
  const v3 = oneOf("compat", compat, ["1.1", "v3"], ["0.10", "v2"]);
  const clusterBits = Math.log2(clusterSize);
  if (!Number.isInteger(clusterBits) || clusterBits < 9 || clusterBits > 21) {
    throw invalid(`a cluster cannot be ${clusterSize} bytes`, "Give a power of two from 512 to 2097152");
  }
  const refcountOrder = Math.log2(refcountBits);
  if (!Number.isInteger(refcountOrder) || refcountOrder < 0 || refcountOrder > 6) {
    throw invalid(`a refcount cannot have ${refcountBits} bits`, "Give a power of two from 1 to 64");
  }
  if (preallocation !== "off") throw invalid(`preallocation "${preallocation}" is not supported`, "Only off is");
  if (extendedL2 && clusterBits < 14) throw invalid("subclusters need clusters of at least 16384 bytes");
  const zstd = oneOf("compression type", compressionType, ["zstd"], ["zlib"]);
  if (!v3 && (refcountBits !== 16 || lazyRefcounts || extendedL2 || zstd || dataFile !== undefined)) {
    throw invalid("version 2 (compat 0.10) has only 16-bit refcounts, and none of the other features");
  }
  if (backingFormat !== undefined && backingFile === undefined) throw invalid("a parent's format without a parent");
  if (!Number.isSafeInteger(wanted) || wanted < 0) throw invalid(`an image cannot be ${wanted} bytes`);
  const size = Math.ceil(wanted / SECTOR) * SECTOR;
  const incompatible =
    (extendedL2 ? Incompatible.ExtendedL2 : 0n) |
    (zstd ? Incompatible.Compression : 0n) |
    (dataFile === undefined ? 0n : Incompatible.DataFile);
  const l1Size = l1Entries({ size, clusterBits, incompatible });
  if (l1Size * 8 > MAX_L1_BYTES)
    throw invalid(`${size} bytes are too many for clusters of ${clusterSize}`, "Make them larger");

  const extensions: [number, Uint8Array][] = [];
  const text = (value: string) => new TextEncoder().encode(value);
  if (backingFormat !== undefined) extensions.push([Extension.BackingFormat, text(backingFormat)]);
  if (dataFile !== undefined) extensions.push([Extension.DataFile, text(dataFile)]);
  const names = v3 ? featureNames() : undefined;
  const parent = backingFile === undefined ? undefined : text(backingFile);
  if (parent && (parent.length === 0 || parent.length > 1023)) throw invalid("a parent's name has 1 to 1023 bytes");
  const start = v3 ? HEADER_BYTES : V2_LENGTH;
  const bytesFor = (list: [number, Uint8Array][]) =>
    list.reduce((sum, [, data]) => sum + 8 + Math.ceil(data.length / 8) * 8, start + 8 + (parent?.length ?? 0));
  // Small clusters have no room for feature names, which are a courtesy.
  if (names && bytesFor([...extensions, [Extension.FeatureNames, names]]) <= clusterSize) {
    extensions.push([Extension.FeatureNames, names]);
  }
  if (bytesFor(extensions) > clusterSize) throw invalid(`the names do not fit into a cluster of ${clusterSize} bytes`);

  const bytes = new Uint8Array(bytesFor(extensions));
  const view = viewOf(bytes);
  view.setUint32(0, MAGIC);
  view.setUint32(Field.Version, v3 ? 3 : 2);
  view.setUint32(Field.ClusterBits, clusterBits);
  setWide(view, Field.Size, size);
  if (v3) {
    view.setBigUint64(Field.Incompatible, incompatible);
    view.setBigUint64(Field.Compatible, lazyRefcounts ? Compatible.LazyRefcounts : 0n);
    view.setUint32(Field.RefcountOrder, refcountOrder);
    view.setUint32(Field.Length, HEADER_BYTES);
    view.setUint8(Field.CompressionType, zstd ? 1 : 0);
  }
  let at = start;
  for (const [type, data] of extensions) {
    view.setUint32(at, type);
    view.setUint32(at + 4, data.length);
    bytes.set(data, at + 8);
    at += 8 + Math.ceil(data.length / 8) * 8;
  }
  if (parent) {
    setWide(view, Field.BackingOffset, at + 8);
    view.setUint32(Field.BackingSize, parent.length);
    bytes.set(parent, at + 8);
  }
  return { header: { clusterBits, refcountOrder }, l1Size, bytes };
}

function featureNames(): Uint8Array {
  const bytes = new Uint8Array(FEATURES.length * 48);
  for (const [i, [type, bit, name]] of FEATURES.entries()) {
    bytes.set([type, bit], i * 48);
    bytes.set(new TextEncoder().encode(name), i * 48 + 2);
  }
  return bytes;
}

function oneOf(what: string, value: string, yes: string[], no: string[]): boolean {
  if (yes.includes(value)) return true;
  if (no.includes(value)) return false;
  throw invalid(`there is no ${what} "${value}"`, `Known: ${[...yes, ...no].join(", ")}`);
}

function invalid(message: string, hint?: string): ParavaneError {
  return new ParavaneError("INVALID", message, {}, { hint });
}
