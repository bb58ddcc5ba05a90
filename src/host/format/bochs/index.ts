// Bochs' growing disks (Bochs, iodev/hdimage/hdimage.h, redolog_header_t; bximage -func=create -imgmode=growing). Little-endian.
import type { Flow } from "../../../core/flow.ts";
import { ExtentKind, type Format } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { corrupt, read, textAt, unsupported } from "../io.ts";
import { LookupImage } from "../lookup/image.ts";
import type { Found } from "../lookup/mapper.ts";
import { emptyReport, noteProblem } from "../lookup/tree-check.ts";

const MAGIC = "Bochs Virtual HD Image";
const HEADER_BYTES = 512;
const SECTOR = 512;
/** REDOLOG_PAGE_NOT_ALLOCATED. */
const ABSENT = 0xffffffff;
const V1 = 0x00010000;
const V2 = 0x00020000;
const CATALOG = "catalog";
/** Extents of a file that is checked: a byte of memory each. */
const MAX_EXTENTS = 2 ** 27;

/** Positions and sizes are bytes. */
interface Layout {
  store: Store;
  size: number;
  version: number;
  catalog: { position: number; entries: number };
  /** An extent's bitmap, in whole sectors, comes before its data. */
  bitmapBytes: number;
  extentBytes: number;
  /** Of extent 0. */
  dataStart: number;
}

/** @throws ParavaneError CORRUPT, UNSUPPORTED, naming the structure and its offset */
function* readLayout(store: Store): Flow<Layout> {
  if (store.size < HEADER_BYTES) throw corrupt(store, "header", 0, `does not fit ${store.size} bytes`);
  const head = yield* read(store, 0, HEADER_BYTES);
  if (textAt(head, 0, 32) !== MAGIC) throw corrupt(store, "header", 0, "has no magic");
  const view = new DataView(head.buffer);
  const word = (at: number) => view.getUint32(at, true);
  const wrong = (at: number, what: string) => corrupt(store, "header", at, what);
  const [type, subtype] = [textAt(head, 32, 16), textAt(head, 48, 16)];
  if (type !== "Redolog") throw unsupported(store, "header", `Bochs images of type "${type}" are not known`);
  if (subtype !== "Growing") {
    const hint = "Merge it into its disk first: bximage -func=commit";
    throw unsupported(store, "header", `a Bochs redolog "${subtype}" holds only what differs from another disk`, hint);
  }
  const version = word(64);
  if (version !== V1 && version !== V2) {
    throw unsupported(store, "header", `version 0x${version.toString(16)} of Bochs images is not known`);
  }
  const [position, entries, bitmap, extentBytes] = [word(68), word(72), word(76), word(80)];
  // Version 2 has the time of the disk that a redolog is for in between.
  const sizeAt = version === V1 ? 84 : 88;
  const size = view.getBigUint64(sizeAt, true);
  if (position < HEADER_BYTES || position % 4 !== 0) throw wrong(68, `says that it has ${position} bytes`);
  if (position + entries * 4 > store.size) throw wrong(72, `says that the catalog has ${entries} entries`);
  if (extentBytes === 0 || extentBytes % SECTOR !== 0) throw wrong(80, `says that an extent has ${extentBytes} bytes`);
  const bits = extentBytes / SECTOR;
  if (bitmap * 8 < bits) throw wrong(76, `says that the bitmap of ${bits} sectors has ${bitmap} bytes`);
  if (size % BigInt(SECTOR) !== 0n || size > BigInt(entries * extentBytes)) {
    throw wrong(sizeAt, `says that the disk has ${size} bytes, not what ${entries} extents of ${extentBytes} hold`);
  }
  return {
    ...{ store, size: Number(size), version, catalog: { position, entries } },
    ...{ bitmapBytes: Math.ceil(bitmap / SECTOR) * SECTOR, extentBytes, dataStart: position + entries * 4 },
  };
}

/** Where the extent of an entry begins: with its bitmap. */
const placeOf = ({ dataStart, bitmapBytes, extentBytes }: Layout, entry: number): number =>
  dataStart + entry * (bitmapBytes + extentBytes);

/** @returns what is wrong with the entry, or null */
function misplaced(layout: Layout, entry: number, seen: number): string | null {
  const place = placeOf(layout, entry);
  if (place + layout.bitmapBytes + seen <= layout.store.size) return null;
  return `points at byte ${place}, where no extent can be`;
}

class BochsImage extends LookupImage {
  readonly format = "bochs";
  readonly #layout: Layout;

  constructor(layout: Layout) {
    super(layout.store, layout.size);
    this.#layout = layout;
  }

  find(offset: number): Found {
    const { extentBytes, bitmapBytes, catalog } = this.#layout;
    const index = Math.floor(offset / extentBytes);
    const within = offset - index * extentBytes;
    const at = catalog.position + index * 4;
    const page = this.pages.at(at);
    const entry = page.view.getUint32(page.at, true);
    if (entry === ABSENT) return { kind: ExtentKind.Zero, length: extentBytes - within };
    const seen = Math.min(extentBytes, this.size - index * extentBytes);
    const wrong = misplaced(this.#layout, entry, seen);
    if (wrong) throw corrupt(this.store, CATALOG, at, `in entry ${index} ${wrong}`);
    const start = placeOf(this.#layout, entry);
    const sector = Math.floor(within / SECTOR);
    const bits = this.pages.at(start + Math.floor(sector / 8));
    const bitOf = (from: number) => (bits.view.getUint8(bits.at + (from >> 3)) >> (from & 7)) & 1;
    // As far as the bits are alike, in this page.
    const first = sector & 7;
    const there = bitOf(first);
    const last = Math.min(extentBytes / SECTOR - sector, (bits.view.byteLength - bits.at) * 8 - first);
    let run = 1;
    while (run < last && bitOf(first + run) === there) run++;
    const length = run * SECTOR - (within % SECTOR);
    if (!there) return { kind: ExtentKind.Zero, length };
    return { kind: ExtentKind.Data, length, position: start + bitmapBytes + within };
  }

  describe(): Record<string, unknown> {
    const { version, extentBytes, catalog } = this.#layout;
    return {
      format: this.format,
      size: this.size,
      clusterSize: extentBytes,
      subformat: "growing",
      version: version >>> 16,
      catalogEntries: catalog.entries,
    };
  }
}

/** Bochs' growing disks; read only. */
export const bochs: Format = {
  name: "bochs",
  extensions: ["bochs"],
  probe: (head) => (textAt(head, 0, 32) === MAGIC ? 100 : 0),

  *open(store) {
    return new BochsImage(yield* readLayout(store));
  },

  *check(store) {
    const layout = yield* readLayout(store);
    const { catalog, extentBytes, bitmapBytes, dataStart, size } = layout;
    const stride = bitmapBytes + extentBytes;
    const report = emptyReport(Math.ceil(size / extentBytes));
    const there = Math.ceil(Math.max(0, store.size - dataStart) / stride);
    if (there > MAX_EXTENTS)
      throw unsupported(store, "image", `a file of ${there} extents cannot be checked as a whole`);
    const used = new Uint8Array(there);
    report.imageEndOffset = dataStart;
    for (let index = 0; index < report.totalClusters; index += 1024) {
      const count = Math.min(1024, report.totalClusters - index);
      const view = new DataView((yield* read(store, catalog.position + index * 4, count * 4)).buffer);
      for (let i = 0; i < count; i++) {
        const entry = view.getUint32(i * 4, true);
        if (entry === ABSENT) continue;
        const seen = Math.min(extentBytes, size - (index + i) * extentBytes);
        const wrong = misplaced(layout, entry, seen) ?? (used[entry] ? "points at another's extent" : null);
        if (wrong) {
          const offset = catalog.position + (index + i) * 4;
          const message = `entry ${index + i} of the catalog ${wrong}`;
          noteProblem(report, { kind: "structure", structure: CATALOG, offset, message });
          continue;
        }
        used[entry] = 1;
        report.allocatedClusters++;
        report.imageEndOffset = Math.max(report.imageEndOffset, Math.min(store.size, placeOf(layout, entry) + stride));
      }
    }
    for (const [entry, taken] of used.entries()) {
      if (taken) continue;
      const message = "no entry of the catalog says whose this extent is";
      noteProblem(report, { kind: "leak", structure: "extent", offset: placeOf(layout, entry), message });
    }
    return report;
  },
};
