import { type Flow, wait } from "../../../core/flow.ts";
import type { CreateOptions, Measure } from "../../../core/format.ts";
import { SegmentList } from "../../../core/segments.ts";
import type { Store } from "../../../core/store.ts";
import { entryBytes } from "./bitmap-directory.ts";
import { createEncryption } from "./encryption.ts";
import { CryptMethod, Extension, Field, Incompatible, MAGIC, V2_LENGTH } from "./header.ts";
import { type ExtensionEntry, extensionBytes, putExtensions } from "./header-area.ts";
import { setWide, viewOf, write } from "./io.ts";
import { invalid, type Plan, plan } from "./options.ts";
import { writeRefcounts } from "./publish.ts";
import { Counts } from "./references.ts";
import type { PlaceFor } from "./space.ts";
import { ALONE, ZERO } from "./tables.ts";

/** With the compression type, and padded to a multiple of 8. */
const HEADER_BYTES = 112;
const ZEROS = new Uint8Array(2 ** 20);

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
  const image = plan(options);
  const cluster = 2 ** image.clusterBits;
  const counts = new Counts();
  counts.add(0);
  let next = 1;
  const place: PlaceFor = (length) => {
    const clusters = Math.ceil(length / cluster);
    counts.addRange(next, clusters);
    next += clusters;
    return (next - clusters) * cluster;
  };
  const luks = image.luks && (yield* createEncryption(store, image.luks, place, image.unlocking));
  const bytes = headerOf(image, luks);
  const l1Position = image.l1Size > 0 ? place(image.l1Size * 8) : 0;
  if (image.preallocation !== "off") yield* preallocate(store, image, l1Position, place);
  const { position, clusters } = yield* writeRefcounts(store, image, counts, place);
  yield* wait(store.resize(next * cluster));
  yield* wait(store.flush());
  const view = viewOf(bytes);
  view.setUint32(Field.L1Size, image.l1Size);
  setWide(view, Field.L1Offset, l1Position);
  setWide(view, Field.RefcountOffset, position);
  view.setUint32(Field.RefcountClusters, clusters);
  // The header last: until then nothing takes the file for an image.
  yield* write(store, 0, bytes);
}

/** The header's cluster, all but the places of the tables. */
function headerOf(image: Plan, luks: Uint8Array | undefined): Uint8Array {
  const { v3, backingFile, backingFormat, dataFile } = image;
  const clusterSize = 2 ** image.clusterBits;
  const extensions: ExtensionEntry[] = [];
  const text = (value: string) => new TextEncoder().encode(value);
  if (backingFormat !== undefined) extensions.push([Extension.BackingFormat, text(backingFormat)]);
  if (dataFile !== undefined) extensions.push([Extension.DataFile, text(dataFile)]);
  if (luks) extensions.push([Extension.Encryption, luks]);
  const start = v3 ? HEADER_BYTES : V2_LENGTH;
  const bytesFor = (list: ExtensionEntry[]) => start + extensionBytes(list) + 8 + (backingFile?.length ?? 0);
  // Small clusters have no room for feature names, which are a courtesy.
  const names: ExtensionEntry = [Extension.FeatureNames, featureNames()];
  if (v3 && bytesFor([...extensions, names]) <= clusterSize) extensions.push(names);
  if (bytesFor(extensions) > clusterSize) throw invalid(`the names do not fit into a cluster of ${clusterSize} bytes`);

  const bytes = new Uint8Array(bytesFor(extensions));
  const view = viewOf(bytes);
  view.setUint32(0, MAGIC);
  view.setUint32(Field.Version, v3 ? 3 : 2);
  view.setUint32(Field.ClusterBits, image.clusterBits);
  setWide(view, Field.Size, image.size);
  view.setUint32(Field.CryptMethod, luks ? CryptMethod.Luks : CryptMethod.None);
  if (v3) {
    view.setBigUint64(Field.Incompatible, image.incompatible);
    view.setBigUint64(Field.Compatible, image.compatible);
    view.setBigUint64(Field.Autoclear, image.autoclear);
    view.setUint32(Field.RefcountOrder, image.refcountOrder);
    view.setUint32(Field.Length, HEADER_BYTES);
    view.setUint8(Field.CompressionType, image.zstd ? 1 : 0);
  }
  const at = putExtensions(bytes, start, extensions);
  if (backingFile) {
    setWide(view, Field.BackingOffset, at);
    view.setUint32(Field.BackingSize, backingFile.length);
    bytes.set(backingFile, at);
  }
  return bytes;
}

function featureNames(): Uint8Array {
  const bytes = new Uint8Array(FEATURES.length * 48);
  for (const [i, [type, bit, name]] of FEATURES.entries()) {
    bytes.set([type, bit], i * 48);
    bytes.set(new TextEncoder().encode(name), i * 48 + 2);
  }
  return bytes;
}

/** Gives every cluster a place: a table, then the clusters under it, and so on; or where the guest sees it, in a data file. */
function* preallocate(store: Store, image: Plan, l1Position: number, place: PlaceFor): Flow {
  const { size, l1Size, incompatible, preallocation } = image;
  const cluster = 2 ** image.clusterBits;
  const entryBytes = incompatible & Incompatible.ExtendedL2 ? 16 : 8;
  const perTable = cluster / entryBytes;
  const external = image.dataFile !== undefined;
  const full = preallocation === "full" || preallocation === "falloc";
  const total = Math.ceil(size / cluster);
  const l1 = new Uint8Array(l1Size * 8);
  for (let index = 0; index < l1Size; index++) {
    const count = Math.min(perTable, total - index * perTable);
    const position = place(cluster);
    const first = external ? index * perTable * cluster : place(count * cluster);
    const table = new Uint8Array(cluster);
    for (let i = 0; i < count; i++) {
      // What is there would decrypt to noise: it is said to be zeros, until it is written.
      const entry = BigInt(first + i * cluster) | ALONE | (image.luks && entryBytes === 8 ? ZERO : 0n);
      viewOf(table).setBigUint64(i * entryBytes, entry);
    }
    yield* write(store, position, table);
    if (full && !external) yield* occupy(store, preallocation, first, count * cluster);
    viewOf(l1).setBigUint64(index * 8, BigInt(position) | ALONE);
  }
  if (l1Size > 0) yield* write(store, l1Position, l1);
  if (!external || !image.openFile) return;
  const data = yield* wait(image.openFile(image.dataFile!, false));
  try {
    // A raw file is the disk, nothing less; another holds whole clusters.
    yield* wait(data.resize(image.autoclear === 0n ? total * cluster : size));
    if (full) yield* occupy(data, preallocation, 0, data.size);
    yield* wait(data.flush());
  } finally {
    yield* wait(data.close());
  }
}

/** Gives the bytes, at the store's end, room on the host. */
function* occupy(store: Store, how: Plan["preallocation"], position: number, length: number): Flow {
  if (how === "falloc" && store.reserve?.(position + length)) return;
  for (let at = 0; at < length; at += ZEROS.length) {
    const part = Math.min(ZEROS.length, length - at);
    yield* wait(store.writev(position + at, ZEROS, SegmentList.of(0, part)));
  }
}

/** As `Format.measure`; the tables for all of the disk are counted, however little of it is stored, as QEMU does. */
export function measureQcow2(options: CreateOptions): Measure {
  const { size, clusterBits, refcountOrder, incompatible, luks, v3 } = plan(options);
  const cluster = 2 ** clusterBits;
  const l2Entry = incompatible & Incompatible.ExtendedL2 ? 16 : 8;
  const up = (value: number, unit: number) => Math.ceil(value / unit) * unit;
  const clusters = Math.ceil(size / cluster);
  const l2 = up(clusters, cluster / l2Entry) * l2Entry;
  const l1 = up(l2 / cluster, cluster / 8) * 8;
  const encryption = up(luks?.dataOffset ?? 0, cluster);
  const counted = 1 + encryption / cluster + (l1 + l2) / cluster + clusters;
  const perBlock = (cluster * 8) / 2 ** refcountOrder;
  let blocks = 0;
  let table = 0;
  for (let before = -1; before !== blocks + table; ) {
    before = blocks + table;
    blocks = Math.ceil((counted + table + blocks) / perBlock);
    table = Math.ceil(blocks / (cluster / 8));
  }
  const metadata = cluster + encryption + l1 + l2 + (blocks + table) * cluster;
  const external = incompatible & Incompatible.DataFile;
  const measure: Measure = { unit: cluster, bytes: (units) => metadata + (external ? 0 : units * cluster) };
  if (!v3) return measure;
  // As if each bitmap had all of its data, as QEMU does.
  const bitmaps: Measure["bitmaps"] = (list) => {
    const directory = list.reduce((sum, { name }) => sum + entryBytes(new TextEncoder().encode(name).length), 0);
    return list.reduce(
      (sum, { granularity }) => {
        const data = Math.ceil(Math.ceil(Math.ceil(size / granularity) / 8) / cluster);
        return sum + data * cluster + up(data * 8, cluster);
      },
      up(directory, cluster),
    );
  };
  return { ...measure, bitmaps };
}
