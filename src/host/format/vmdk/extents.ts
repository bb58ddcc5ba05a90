import { asParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { OpenOptions } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { corrupt, read, unsupported } from "../io.ts";
import { JoinedStore } from "../joined.ts";
import { cowdTables, readCowdHeader } from "./cowd.ts";
import { type Descriptor, type Extent, parseDescriptor } from "./descriptor.ts";
import { findGrain, type GrainTables } from "./grains.ts";
import { SECTOR } from "./header.ts";
import { compressed, descriptorText, MAX_TABLES, parentOf, readExtent, readHeader, sound } from "./layout.ts";
import { FlatPart, LookedPart, type Part, SparsePart, ZeroPart } from "./parts.ts";
import { findSeGrain, readSeSparse } from "./sesparse.ts";
import { readCompressed } from "./stream.ts";

/** A descriptor with an extent for each 2 GiB of 64 TiB is no longer. */
const MAX_DESCRIPTOR = 2 ** 22;
/** 64 TiB in parts of 2 GiB. */
const MAX_FILES = 2 ** 15;

/** A disk whose descriptor is a file of its own. */
export interface Split {
  store: Store;
  descriptor: Descriptor;
  size: number;
  /** All extents' files. */
  files: JoinedStore;
  parts: Part[];
}

/**
 * Opens the extents that the descriptor in `store` names, as far as `openFile` does.
 * @throws ParavaneError CORRUPT, UNSUPPORTED, and what opening the files throws
 */
export function* openSplit(store: Store, options: OpenOptions): Flow<Split> {
  const descriptor = yield* readDescriptor(store);
  const { extents } = descriptor;
  const files = new JoinedStore(store.name, options.readOnly ?? store.readOnly, extents.length);
  const parts: Part[] = [];
  const sharing = new Map<unknown, Part[]>();
  const opening: Opening = { store, descriptor, files, parts, sharing, tables: 0 };
  let start = 0;
  let opened = false;
  try {
    for (const extent of extents) {
      const part = yield* openPart(opening, extent, start, options);
      parts.push(part);
      const others = part.store && sharing.get(fileOf(part.store));
      if (others) others.push(part);
      else if (part.store) sharing.set(fileOf(part.store), [part]);
      start += part.size;
    }
    opened = true;
    return { store, descriptor, size: start, files, parts };
  } finally {
    if (!opened) {
      // Nobody waits for it: what went wrong is more important.
      const closing = files.close();
      if (closing) closing.catch(() => {});
    }
  }
}

function* readDescriptor(store: Store): Flow<Descriptor> {
  const wrong = (what: string) => corrupt(store, "descriptor", 0, what);
  if (store.size > MAX_DESCRIPTOR) throw wrong(`has ${store.size} bytes, more than ${MAX_DESCRIPTOR}`);
  const descriptor = sound(store, parseDescriptor(descriptorText(yield* read(store, 0, store.size))));
  if (descriptor.extents.length === 0) throw wrong("names no extent");
  const inFiles = descriptor.extents.filter(({ file }) => file !== undefined).length;
  if (inFiles > MAX_FILES) {
    throw unsupported(store, "descriptor", `the disk has ${inFiles} extents in files, more than ${MAX_FILES}`);
  }
  const sectors = descriptor.extents.reduce((sum, extent) => sum + extent.sectors, 0);
  if (!Number.isSafeInteger(sectors * SECTOR)) throw wrong(`has extents of ${sectors} sectors`);
  return descriptor;
}

interface Opening extends Omit<Split, "size"> {
  /** Extents by their file. */
  sharing: Map<unknown, Part[]>;
  /** Grain tables that their directories name, which are held. */
  tables: number;
}
const fileOf = (store: Store): unknown => store.identity ?? store;

function* openPart(split: Opening, extent: Extent, start: number, options: OpenOptions): Flow<Part> {
  const { store, descriptor, files, parts, sharing } = split;
  const { access, type, sectors, file } = extent;
  const where = { start, size: sectors * SECTOR, extent };
  if (access === "NOACCESS") throw unsupported(store, "descriptor", `the extent ${file ?? type} must not be read`);
  if (type === "ZERO") return new ZeroPart(where);
  if (file === undefined) throw corrupt(store, "descriptor", 0, `names no file for an extent of type ${type}`);
  if (!["FLAT", "VMFS", "SPARSE", "VMFSSPARSE", "SESPARSE"].includes(type)) {
    throw unsupported(store, "descriptor", `extents of type ${type}, as ${file} is, are not supported`);
  }
  if (!options.openFile) {
    throw unsupported(store, "descriptor", `the extent ${file} is another file`, "Give `openFile`, or a `gate`");
  }
  const opened = yield* openExtent(store, file, options);
  const base = files.add(opened);
  const again = sharing.get(fileOf(opened))?.find((other) => sameBytes(other, extent));
  if (again) throw corrupt(store, "descriptor", 0, `has ${file} in two extents`);
  if (opened.size >= files.window)
    throw unsupported(opened, "extent", `extents of ${opened.size} bytes are not supported`);
  const { parent } = parentOf(store, descriptor);
  const looked = (tables: GrainTables) =>
    new LookedPart(where, tables, base, (offset, pages) => findGrain(tables, pages, offset, { start, base }));
  if (type === "SESPARSE") {
    const tables = yield* readSeSparse(opened, where.size);
    return new LookedPart(where, tables, base, (offset, pages) => findSeGrain(tables, pages, offset, base));
  }
  if (type === "SPARSE" || type === "VMFSSPARSE") {
    const header = yield* type === "SPARSE" ? readHeader(opened) : readCowdHeader(opened);
    if (header.cowd && !Number.isInteger(Math.log2(Number(header.grainSize)))) {
      return looked(cowdTables(opened, header, where.size));
    }
    if (compressed(header)) {
      const tables = yield* readCompressed(opened, header);
      if (tables.size < where.size) {
        throw corrupt(opened, "header", 12, `says ${tables.size} bytes, the descriptor ${where.size}`);
      }
      return looked({ ...tables, size: where.size });
    }
    const layout = yield* readExtent(opened, { from: start, size: where.size, parent, header }, options.onWarning);
    split.tables += layout.directory.tables.length;
    if (split.tables > MAX_TABLES) {
      throw unsupported(store, "descriptor", `the extents have more than ${MAX_TABLES} grain tables`);
    }
    return new SparsePart(where, layout, base, -1 - parts.length, options.onWarning);
  }
  const offset = extent.offset * SECTOR;
  if (opened.size < offset + where.size) {
    throw corrupt(opened, "extent", opened.size, `ends here, but the descriptor gives it ${offset + where.size} bytes`);
  }
  return new FlatPart(where, opened, base + offset);
}

/** A file of another host, by its whole path there, may have come along with the descriptor. */
function* openExtent(store: Store, file: string, { openFile, readOnly = store.readOnly }: OpenOptions): Flow<Store> {
  try {
    return yield* wait(openFile!(file, readOnly));
  } catch (thrown) {
    const { code } = asParavaneError(thrown);
    if (code !== "NOT_FOUND" && code !== "DENIED") throw thrown;
    if (file.startsWith("\\\\.\\")) {
      const what = `the extent ${file} is a device of the machine that the disk was made on`;
      throw unsupported(store, "descriptor", what, "Copy what is on the device into a file there, and name that");
    }
    const here = file.replaceAll("\\", "/");
    const foreign = /^([a-z]:|\/(?!dev\/))/i.test(here);
    const near = foreign ? here.slice(here.lastIndexOf("/") + 1).replace(/^[a-z]:/i, "") : here;
    if (near === file || near === "") throw thrown;
    try {
      return yield* wait(openFile!(near, readOnly));
    } catch {
      throw thrown;
    }
  }
}

/** Would a change to one extent change the other, in the same file? */
function sameBytes({ extent, size }: Part, { type, offset, sectors }: Extent): boolean {
  const flat = !extent.type.endsWith("SPARSE") && !type.endsWith("SPARSE");
  return !flat || (offset * SECTOR < extent.offset * SECTOR + size && extent.offset < offset + sectors);
}
