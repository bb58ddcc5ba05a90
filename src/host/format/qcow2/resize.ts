// Another size for the disk. What the larger disk shows is made zeros first, past the end, where nobody sees it; then one
// write of the header changes the size. A smaller disk's tables are written beside the old ones (publish.ts).
import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import { ExtentKind, MapStop } from "../../../core/format.ts";
import { allocate, clear, fillZeros } from "./allocate.ts";
import { Field, l1Entries, MAX_L1_BYTES, SECTOR } from "./header.ts";
import type { Qcow2Image } from "./image.ts";
import { offsetOf, read, setWide, viewOf, write } from "./io.ts";
import { OFFSET } from "./tables.ts";
import type { Volume } from "./volume.ts";

/** As `Image.resize`. */
export function* resize(image: Qcow2Image, size: number): Flow {
  const { header, store, snapshots } = image.volume;
  const refuse = (code: "INVALID" | "UNSUPPORTED", what: string, hint?: string) =>
    new ParavaneError(code, what, { file: store.name }, { hint });
  if (!Number.isSafeInteger(size) || size < 0 || size % SECTOR !== 0) {
    throw refuse("INVALID", `a disk cannot be ${size} bytes`, `Give whole sectors of ${SECTOR} bytes`);
  }
  if (l1Entries({ ...header, size }) * 8 > MAX_L1_BYTES) {
    throw refuse("INVALID", `${size} bytes are too many for clusters of ${2 ** header.clusterBits}`);
  }
  if (header.version < 3 && snapshots.length > 0) {
    throw refuse(
      "UNSUPPORTED",
      "a version 2 image with snapshots cannot change its size",
      "Delete the snapshots first",
    );
  }
  if (size === header.size) return;
  yield* image.settle();
  if (size > header.size) yield* grow(image, size);
  else yield* shrink(image, size);
}

function* grow(image: Qcow2Image, size: number): Flow {
  const { header, store, backing } = image.volume;
  const { size: old, l1Position, l1Size, version, backingFile } = header;
  if (version < 3 && backingFile !== undefined && (backing?.size ?? Number.POSITIVE_INFINITY) > old) {
    throw new ParavaneError(
      "UNSUPPORTED",
      "a version 2 image cannot grow while its parent is longer: it cannot say that the new part is zeros",
      { file: store.name },
    );
  }
  const entries = l1Entries({ ...header, size });
  if (entries > l1Size) {
    yield* image.move({ ...image.state, l1: { position: l1Position, size: l1Size, entries } });
  }
  const { volume } = image;
  const { clusterBytes, data } = volume;
  if (volume.rawData) {
    // What lies past the disk's end was never the guest's.
    if (data!.size > old) yield* wait(data!.resize(old));
    yield* wait(data!.resize(size));
    yield* wait(data!.flush());
  } else {
    const whole = Math.ceil(old / clusterBytes) * clusterBytes;
    yield* overwrite(volume, old, whole, true);
    yield* clearAll(volume, whole, Math.ceil(size / clusterBytes) * clusterBytes);
  }
  yield* volume.commit();
  const field = new Uint8Array(8);
  setWide(viewOf(field), 0, size);
  yield* write(store, Field.Size, field);
  yield* wait(store.flush());
  yield* image.settle();
  yield* image.reload();
}

/** As `Image.preallocate`. */
export function* preallocate(image: Qcow2Image, from: number, to: number): Flow {
  const { volume } = image;
  const { mapper } = volume.tables;
  for (let at = from; at < to; ) {
    mapper.setRange(0, at, to - at, true);
    const stop = mapper.resolve(1);
    if (mapper.extentCount > 0) at += mapper.extentLength(0);
    else if (stop === MapStop.Miss) yield* volume.tables.load();
    else if (stop === MapStop.Allocate) yield* allocate(volume, mapper.stopOffset, mapper.stopLength);
    else throw volume.fault();
    if (volume.crowded) yield* volume.commit();
  }
  yield* image.settle();
}

/** Makes guest bytes [from, to), which are within one cluster, zeros where they are stored, or (`over`) a parent's. */
function* overwrite(volume: Volume, from: number, to: number, over: boolean): Flow {
  const { mapper } = volume.tables;
  let write = false;
  for (let at = from; at < to; ) {
    mapper.setRange(0, at, to - at, write);
    const stop = mapper.resolve(1);
    if (mapper.extentCount > 0) {
      const kind = mapper.extentKind(0);
      const length = mapper.extentLength(0);
      const position = mapper.extentPosition(0);
      if (write) yield* fillZeros(volume, position, length);
      else if (
        kind !== ExtentKind.Zero &&
        (kind !== ExtentKind.Backing || (over && (volume.backing?.size ?? 0) > at))
      ) {
        write = true;
        continue;
      }
      write = false;
      at += length;
    } else if (stop === MapStop.Miss) yield* volume.tables.load();
    else if (stop === MapStop.Allocate) yield* allocate(volume, mapper.stopOffset, mapper.stopLength);
    else throw volume.fault();
  }
}

/** Makes whole clusters [from, to), past the end of the disk, zeros: a damaged or shrunk image may have something there. */
function* clearAll(volume: Volume, from: number, to: number): Flow {
  const { tables, clusterBytes } = volume;
  const span = tables.perTable * clusterBytes;
  const parentEnd = volume.header.backingFile === undefined ? 0 : (volume.backing?.size ?? to);
  for (let at = from; at < to; ) {
    const end = Math.min(to, (Math.floor(at / span) + 1) * span);
    const over = at < parentEnd;
    // Up to the parent's end, which may lie within this table, zeros must be noted; behind it there is nothing to hide.
    const until = over ? Math.min(end, Math.ceil(parentEnd / clusterBytes) * clusterBytes) : end;
    const made = over || ((yield* tables.l1(Math.floor(at / span))) & OFFSET) !== 0n;
    at = made ? at + (yield* clear(volume, at, until - at, over)) : end;
    if (volume.crowded) yield* volume.commit();
  }
}

function* shrink(image: Qcow2Image, size: number): Flow {
  const { data, rawData, clusterBytes } = image.volume;
  const l1 = yield* trimmed(image.volume, size);
  yield* image.move({ ...image.state, size, l1 });
  // Whoever makes the disk larger again may not look at what is left of its last cluster.
  if (!rawData) yield* overwrite(image.volume, size, Math.ceil(size / clusterBytes) * clusterBytes, false);
  yield* image.settle();
  // Once more, now that there is room, so that the file can end earlier.
  yield* image.compact();
  if (!data) return;
  const kept = rawData ? size : Math.ceil(size / clusterBytes) * clusterBytes;
  if (data.size > kept) yield* wait(data.resize(kept));
  image.volume.grown();
}

/** An L1 table without what lies past `size`, written where nothing refers to it. */
function* trimmed(volume: Volume, size: number): Flow<{ position: number; size: number; entries: number }> {
  const { store, l1, clusterBytes, tables, header } = volume;
  const entries = l1Entries({ ...header, size });
  const bytes = yield* read(store, l1.position, entries * 8);
  const view = viewOf(bytes);
  const position = Math.ceil(store.size / clusterBytes) * clusterBytes;
  const kept = Math.ceil(size / clusterBytes) - (entries - 1) * tables.perTable;
  const last = entries > 0 ? offsetOf(view.getUint32(entries * 8 - 8), view.getUint32(entries * 8 - 4)) : 0;
  if (last !== 0 && kept < tables.perTable) {
    volume.checkTable(entries - 1, last);
    const copy = position + Math.ceil(bytes.length / clusterBytes) * clusterBytes;
    const table = yield* read(store, last, clusterBytes);
    table.fill(0, kept * tables.entryBytes);
    yield* write(store, copy, table);
    setWide(view, entries * 8 - 8, copy);
  }
  if (entries > 0) yield* write(store, position, bytes);
  return { position: entries > 0 ? position : 0, size: entries, entries };
}
