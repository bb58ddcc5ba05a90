// Bitmaps on disk ("Bitmap table", "Bitmap data"). A new state is written beside the old one, counted, and then the header
// extension is switched to the new directory with one write of a sector: a power cut leaves the old state or the new one.
import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import { buildDirectory, type DirectoryEntry, tableEntries } from "./bitmap-directory.ts";
import { clipBits, Marks } from "./bitmap-marks.ts";
import { Autoclear, Extension, Field, parseHeader } from "./header.ts";
import { extensionPosition, extensionsOf, nameOf, replaceArea } from "./header-area.ts";
import { corrupt, offsetOf, read, setWide, viewOf, write } from "./io.ts";
import type { Volume } from "./volume.ts";

const SECTOR = 512;
/** A table entry without data: the cluster is all ones. */
const ONES = 1;

/** One bitmap of an open image. */
export interface Bitmap extends DirectoryEntry {
  /** It was in use when the image was opened, or is not understood. */
  stale: boolean;
  /** What is stored does not count any more. */
  fresh: boolean;
  /** What was set since it was stored. */
  marks: Marks;
  /** Its table: 0, 1, or where a cluster of data is; null until it is needed. */
  values: Float64Array | null;
}

const bitsOf = ({ header }: Volume, { granularityBits }: Bitmap) => Math.ceil(header.size / 2 ** granularityBits);

/** @throws CORRUPT when an entry points nowhere */
function* loadTable({ store, clusterBytes }: Volume, bitmap: Bitmap): Flow<Float64Array> {
  if (bitmap.values) return bitmap.values;
  const { table, entries } = bitmap;
  const end = Math.ceil(store.size / clusterBytes) * clusterBytes;
  if (table + entries * 8 > end) throw corrupt(store, "bitmap table", table, "lies outside the file");
  const view = viewOf(yield* read(store, table, entries * 8));
  const values = new Float64Array(entries);
  for (let i = 0; i < entries; i++) {
    const [high, low] = [view.getUint32(i * 8), view.getUint32(i * 8 + 4)];
    const data = offsetOf(high, low);
    const reserved = high >>> 24 !== 0 || (low & 0x1fe) !== 0 || (data !== 0 && (low & 1) !== 0);
    if (reserved || data % clusterBytes !== 0 || data + clusterBytes > end) {
      throw corrupt(store, "bitmap table", table + i * 8, `has an entry that points at byte ${data}`);
    }
    values[i] = data === 0 ? low & 1 : data;
  }
  bitmap.values = values;
  return values;
}

/** The bitmap's data from byte `from` on, with what was marked since. Bits past the disk's end are zeros. */
export function* readData(volume: Volume, bitmap: Bitmap, from: number, length: number): Flow<Uint8Array> {
  const { store, clusterBytes } = volume;
  const data = new Uint8Array(length);
  if (!bitmap.fresh) {
    const values = yield* loadTable(volume, bitmap);
    for (let at = from; at < from + length; ) {
      const index = Math.floor(at / clusterBytes);
      const next = Math.min(from + length, (index + 1) * clusterBytes);
      const value = values[index] ?? 0;
      if (value === ONES) data.fill(0xff, at - from, next - from);
      else if (value !== 0) data.set(yield* read(store, value + (at % clusterBytes), next - at), at - from);
      at = next;
    }
  }
  bitmap.marks.overlay(from, data);
  clipBits(data, Math.max(0, bitsOf(volume, bitmap) - from * 8));
  return data;
}

/**
 * Stores `next` in place of `before`; returns it as it is then. Everything else must be durable.
 * @param inUse which of them are to be flagged so
 */
export function* storeBitmaps(
  volume: Volume,
  before: readonly Bitmap[],
  next: readonly Bitmap[],
  inUse: (bitmap: Bitmap) => boolean,
): Flow<Bitmap[]> {
  const { header, clusterBytes, overlaps } = volume;
  const writer = new Writer(volume);
  const old = header.autoclear & Autoclear.Bitmaps ? header.bitmaps : undefined;
  const gone = new Set<number>();
  const give = (position: number, bytes: number) => {
    for (let at = position; at < position + bytes; at += clusterBytes) gone.add(at / clusterBytes);
  };
  for (const bitmap of before) {
    give(bitmap.table, bitmap.entries * 8);
    for (const value of yield* loadTable(volume, bitmap)) if (value > ONES) give(value, 1);
  }
  if (old) give(old.position, old.bytes);
  try {
    const list: Bitmap[] = [];
    for (const bitmap of next) {
      if (bitmap.stale) yield* loadTable(volume, bitmap);
      const stored = bitmap.stale ? bitmap : yield* writer.bitmap(bitmap);
      list.push({ ...stored, inUse: bitmap.stale ? bitmap.inUse : inUse(bitmap) });
    }
    let place: { count: number; bytes: number; position: number } | undefined;
    if (list.length > 0) {
      const directory = buildDirectory(list);
      const position = yield* writer.put(directory);
      place = { count: list.length, bytes: directory.length, position };
    }
    // Counted, before anything refers to it.
    yield* volume.refcounts.write();
    yield* wait(volume.store.flush());
    yield* switchTo(volume, place);
    writer.keep();
    overlaps.remove("bitmap directory");
    if (place) overlaps.add("bitmap directory", place.position, place.bytes);
    for (const { table, entries, values } of list) {
      for (let at = table; at < table + entries * 8; at += clusterBytes) gone.delete(at / clusterBytes);
      for (const value of values ?? []) if (value > ONES) gone.delete(value / clusterBytes);
    }
    for (const cluster of gone) yield* volume.refcounts.release(cluster, 1);
    yield* volume.refcounts.write();
    yield* wait(volume.store.flush());
    return list;
  } catch (thrown) {
    yield* writer.undo();
    throw thrown;
  }
}

/** Puts bitmaps where nothing is. */
class Writer {
  readonly #volume: Volume;
  readonly #taken: { first: number; count: number }[] = [];

  constructor(volume: Volume) {
    this.#volume = volume;
  }

  /** The bitmap with its marks, and of the size that the disk has. */
  *bitmap(bitmap: Bitmap): Flow<Bitmap> {
    const volume = this.#volume;
    const { header, clusterBytes } = volume;
    const bits = bitsOf(volume, bitmap);
    const entries = tableEntries(header, bitmap.granularityBits);
    const old = bitmap.fresh ? new Float64Array(0) : yield* loadTable(volume, bitmap);
    const values = new Float64Array(entries);
    let changed = entries !== old.length || bitmap.table === 0;
    for (let i = 0; i < entries; i++) {
      values[i] = old[i] ?? 0;
      const from = i * clusterBytes;
      // The last cluster's bits past the end must be zeros, before and after the size changes.
      const tail = entries !== old.length && values[i] !== 0 && (i === entries - 1 || i === old.length - 1);
      const cut = (from + clusterBytes) * 8 > bits && values[i] !== 0;
      if (!tail && !cut && !bitmap.marks.touches(from, clusterBytes)) continue;
      const data = yield* readData(volume, bitmap, from, clusterBytes);
      const value = uniform(data);
      if (value !== undefined) values[i] = value;
      else if (values[i] <= ONES || !(yield* this.#same(values[i], data))) values[i] = yield* this.put(data);
      changed ||= values[i] !== old[i];
    }
    const marks = new Marks(bitmap.granularityBits);
    if (!changed) return { ...bitmap, marks, fresh: false };
    const bytes = new Uint8Array(entries * 8);
    for (const [i, value] of values.entries()) setWide(viewOf(bytes), i * 8, value);
    const table = yield* this.put(bytes);
    return { ...bitmap, marks, fresh: false, values, table, entries };
  }

  *#same(position: number, data: Uint8Array): Flow<boolean> {
    const stored = yield* read(this.#volume.store, position, data.length);
    return stored.every((byte, i) => byte === data[i]);
  }

  /** Whole clusters that lie together, filled up with zeros: where. */
  *put(bytes: Uint8Array): Flow<number> {
    const { clusterBytes, store } = this.#volume;
    const clusters = Math.ceil(bytes.length / clusterBytes);
    const position = (yield* this.#take(clusters)) * clusterBytes;
    const whole = new Uint8Array(clusters * clusterBytes);
    whole.set(bytes);
    yield* write(store, position, whole);
    this.#volume.grown();
    return position;
  }

  *#take(clusters: number): Flow<number> {
    const { refcounts, store } = this.#volume;
    const loose: { first: number; count: number }[] = [];
    // Counts are given out page by page; what does not join is given back.
    for (let run = { first: 0, count: 0 }, tries = 0; tries < 1000; tries++) {
      const next = yield* refcounts.allocate(clusters - run.count);
      if (next.first === run.first + run.count && run.count > 0) run = { ...run, count: run.count + next.count };
      else {
        if (run.count > 0) loose.push(run);
        run = next;
      }
      if (run.count < clusters) continue;
      this.#taken.push(run);
      for (const { first, count } of loose) yield* refcounts.release(first, count);
      return run.first;
    }
    for (const { first, count } of loose) yield* refcounts.release(first, count);
    throw new ParavaneError("NO_SPACE", `there is no room for ${clusters} clusters together`, { file: store.name });
  }

  /** What was put is in use. */
  keep(): void {
    this.#taken.length = 0;
  }
  /** Nothing refers to what was put. */
  *undo(): Flow {
    for (const { first, count } of this.#taken.splice(0)) yield* this.#volume.refcounts.release(first, count);
  }
}

/** 0 or 1 for a cluster without data. */
function uniform(data: Uint8Array): number | undefined {
  const [first] = data;
  if ((first !== 0 && first !== 0xff) || data.some((byte) => byte !== first)) return undefined;
  return first === 0 ? 0 : ONES;
}

/** Makes the directory at `place` the image's, or none. */
function* switchTo(volume: Volume, place: { count: number; bytes: number; position: number } | undefined): Flow {
  const { header, store, clusterBytes } = volume;
  const bytes = yield* read(store, 0, Math.min(clusterBytes, store.size));
  const data = new Uint8Array(24);
  if (place) {
    viewOf(data).setUint32(0, place.count);
    setWide(viewOf(data), 8, place.bytes);
    setWide(viewOf(data), 16, place.position);
  }
  const marked = (header.autoclear & Autoclear.Bitmaps) !== 0n;
  const at = extensionPosition(bytes, header, Extension.Bitmaps);
  const oneSector = at !== undefined && Math.floor(at / SECTOR) === Math.floor((at + 23) / SECTOR);
  if (place && marked && oneSector) {
    yield* write(store, at, data);
    yield* wait(store.flush());
  } else {
    const extensions = extensionsOf(bytes, header).filter(([type]) => type !== Extension.Bitmaps);
    if (place) extensions.push([Extension.Bitmaps, data]);
    const autoclear = (header.autoclear & ~Autoclear.Bitmaps) | (place ? Autoclear.Bitmaps : 0n);
    viewOf(bytes).setBigUint64(Field.Autoclear, autoclear);
    yield* replaceArea(store, header, bytes, extensions, nameOf(bytes));
    header.autoclear = autoclear;
    // They may stand in another order now.
    header.extensions = parseHeader(store, yield* read(store, 0, bytes.length)).extensions;
  }
  if (place) header.bitmaps = place;
  else delete header.bitmaps;
}
