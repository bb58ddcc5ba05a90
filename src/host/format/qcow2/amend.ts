// Other options for an image that exists: its version, the width of its counts, when they are written. Each is changed by one
// write of the header, which a power cut leaves undone or done.
import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { AmendOptions } from "../../../core/format.ts";
import { allocate, ownTable, unlink } from "./allocate.ts";
import { Autoclear, Compatible, Field, Incompatible, V2_LENGTH } from "./header.ts";
import { extensionsOf, nameOf, replaceArea } from "./header-area.ts";
import type { Qcow2Image } from "./image.ts";
import { offsetOf, read, viewOf, write } from "./io.ts";
import { readL1 } from "./references.ts";
import { OFFSET, PACKED, ZERO } from "./tables.ts";
import type { Volume } from "./volume.ts";

/** With the compression type, and padded to a multiple of 8. */
const V3_HEADER = 112;
const KNOWN = ["compat", "refcountBits", "lazyRefcounts", "size"];

/** As `Image.amend`. */
export function* amend(image: Qcow2Image, options: AmendOptions): Flow {
  const { store } = image.volume;
  const refuse = (what: string, hint?: string) =>
    new ParavaneError("UNSUPPORTED", what, { file: store.name }, { hint });
  for (const name in options) {
    if (!KNOWN.includes(name))
      throw refuse(`the option "${name}" is only for new images`, `Known: ${KNOWN.join(", ")}`);
  }
  const { compat, refcountBits, lazyRefcounts, size } = options as {
    compat?: string;
    refcountBits?: number;
    lazyRefcounts?: boolean;
    /** Of the disk, in bytes. */
    size?: number;
  };
  if (compat !== undefined && !["0.10", "v2", "1.1", "v3"].includes(compat)) {
    throw new ParavaneError("INVALID", `there is no compat "${compat}"`, {}, { hint: "Known: 0.10, 1.1" });
  }
  const old = compat === "0.10" || compat === "v2";
  const version = compat === undefined ? image.volume.header.version : old ? 2 : 3;
  const order = refcountBits === undefined ? undefined : Math.log2(refcountBits);
  if (order !== undefined && (!Number.isInteger(order) || order < 0 || order > 6)) {
    throw new ParavaneError(
      "INVALID",
      `a refcount cannot have ${refcountBits} bits`,
      {},
      { hint: "1 to 64, a power of two" },
    );
  }
  if (version === 2 && lazyRefcounts) throw refuse("Lazy refcounts only supported with compat 1.1 and above");
  if (version === 2 && (order ?? image.volume.header.refcountOrder) !== 4) {
    throw refuse("Refcount widths other than 16 bits require compat 1.1 or above");
  }
  if (version < image.volume.header.version) yield* refuseDowngrade(image, size ?? image.volume.header.size);
  yield* image.settle();
  if (version > image.volume.header.version) {
    yield* setVersion(image, 3);
    // Version 3 has each snapshot say how large its disk is.
    if (image.volume.snapshots.some(({ diskSize }) => diskSize === undefined)) yield* image.move({ ...image.state });
  }
  if (order !== undefined && order !== image.volume.header.refcountOrder) {
    yield* image.move({ ...image.state, refcountOrder: order });
  }
  if (lazyRefcounts !== undefined && version > 2) yield* setLazy(image, lazyRefcounts);
  // Version 2 cannot resize what has snapshots.
  if (size !== undefined) yield* image.resize(size);
  if (version < image.volume.header.version) yield* downgrade(image);
}

/** What version 2 has no word for, seen before anything changes. @throws ParavaneError UNSUPPORTED */
function* refuseDowngrade(image: Qcow2Image, size: number): Flow {
  const { header, store, snapshots } = image.volume;
  const refuse = (what: string, hint?: string) =>
    new ParavaneError("UNSUPPORTED", what, { file: store.name }, { hint });
  if (header.incompatible & ~Incompatible.Dirty) {
    throw refuse("Cannot downgrade an image with incompatible features set");
  }
  if (image.bitmaps.any || header.autoclear & Autoclear.RawDataFile) {
    throw refuse("Cannot downgrade an image with bitmaps", "Remove them first: paravane img bitmap --remove-all");
  }
  for (const { id, l1Position, l1Size, diskSize } of snapshots) {
    if (diskSize !== undefined && diskSize !== size) {
      throw refuse("Internal snapshots prevent downgrade of image", "Their disks have other sizes");
    }
    if (yield* hasZeros(image.volume, l1Position, l1Size)) {
      throw refuse(
        "Internal snapshots prevent downgrade of image",
        `Snapshot ${id} has zeros that version 2 cannot note`,
      );
    }
  }
}

function* setLazy(image: Qcow2Image, lazy: boolean): Flow {
  const { header, store } = image.volume;
  if (lazy === ((header.compatible & Compatible.LazyRefcounts) !== 0n)) return;
  if (!lazy) yield* image.unlazy();
  header.compatible ^= Compatible.LazyRefcounts;
  const bytes = new Uint8Array(8);
  viewOf(bytes).setBigUint64(0, header.compatible);
  yield* write(store, Field.Compatible, bytes);
  yield* wait(store.flush());
}

/** Version 2 has no feature bits and no zero flag: what has zeros gets clusters of them, where a parent would show. */
function* downgrade(image: Qcow2Image): Flow {
  yield* image.unlazy();
  yield* expandZeros(image.volume);
  yield* image.settle();
  yield* setVersion(image, 2);
}

function* hasZeros(volume: Volume, position: number, size: number): Flow<boolean> {
  for (const table of (yield* readL1(volume.store, position, size)).tables) {
    if (table === 0) continue;
    const view = viewOf(yield* read(volume.store, table, volume.clusterBytes));
    for (let at = 0; at < volume.clusterBytes; at += 8) {
      if ((view.getUint32(at) & 0x40000000) === 0 && view.getUint32(at + 4) & 1) return true;
    }
  }
  return false;
}

function* expandZeros(volume: Volume): Flow {
  const { tables, clusterBytes, l1, header } = volume;
  const over = header.backingFile !== undefined;
  for (let index = 0; index < l1.size; index++) {
    const at = Number((yield* tables.l1(index)) & OFFSET);
    if (at === 0) continue;
    volume.checkTable(index, at);
    const view = viewOf(yield* read(volume.store, at, clusterBytes));
    for (let slot = 0; slot < tables.perTable; slot++) {
      const [high, low] = [view.getUint32(slot * 8), view.getUint32(slot * 8 + 4)];
      if (high & 0x40000000 || (low & 1) === 0) continue;
      const guest = (index * tables.perTable + slot) * clusterBytes;
      if (over || offsetOf(high, low) !== 0) yield* allocate(volume, guest, clusterBytes);
      else {
        const table = yield* ownTable(volume, index);
        const { entry } = yield* tables.l2(index, table, slot);
        yield* tables.setL2(index, table, slot, 1, () => ({ entry: 0n }));
        if ((entry & (OFFSET | PACKED)) !== 0n) unlink(volume, entry & ~ZERO);
      }
      if (volume.crowded) yield* volume.commit();
    }
  }
}

function* setVersion(image: Qcow2Image, version: 2 | 3): Flow {
  const { header, store, clusterBytes } = image.volume;
  const bytes = yield* read(store, 0, Math.min(clusterBytes, store.size));
  const extensions = extensionsOf(bytes, header);
  const name = nameOf(bytes);
  const length = version === 3 ? V3_HEADER : V2_LENGTH;
  const next = bytes.slice();
  const view = viewOf(next);
  next.fill(0, V2_LENGTH, V3_HEADER);
  view.setUint32(Field.Version, version);
  if (version === 3) {
    view.setUint32(Field.RefcountOrder, 4);
    view.setUint32(Field.Length, V3_HEADER);
  }
  yield* replaceArea(store, { ...header, length }, next, extensions, name);
  yield* image.reload();
}
