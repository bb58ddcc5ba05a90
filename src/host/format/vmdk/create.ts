import { type Flow, wait } from "../../../core/flow.ts";
import type { CreateOptions, Measure, NewFiles, NewParent } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { alignUp, invalid, write } from "../io.ts";
import { COWD_MOST, cowdPlaces, newCowdHeader } from "./cowd.ts";
import { newCid, newDescriptor } from "./descriptor.ts";
import { newHeader, parseHeader, SECTOR } from "./header.ts";
import { createStream } from "./stream.ts";

const SUBFORMATS = [
  "monolithicSparse",
  "monolithicFlat",
  "twoGbMaxExtentSparse",
  "twoGbMaxExtentFlat",
  "vmfs",
  "vmfsSparse",
  "streamOptimized",
] as const;
type Subformat = (typeof SUBFORMATS)[number];

interface VmdkCreateOptions extends CreateOptions {
  subformat?: Subformat;
  /** Of the virtual machine's disk controller. */
  adapterType?: string;
  /** "virtualHWVersion". */
  hwVersion?: string;
  /** Hardware version 6, by its older name. */
  compat6?: boolean;
  /** Entries may say that a grain is zeros. */
  zeroedGrain?: boolean;
}

const GRAIN = 65536;
/** Of vmfsSparse disks, as ESXi makes them. */
const COWD_GRAIN = SECTOR;
const ENTRIES = 512;
const TABLE = ENTRIES * 4;
const DESCRIPTOR_SECTORS = 20;
/** Bytes of an extent whose type says "twoGb", at most. */
export const TWO_GB = 2 ** 31;
const ADAPTERS = ["ide", "buslogic", "lsilogic", "legacyESX"];

/** Makes an empty disk; those in several files with `files`. @throws ParavaneError INVALID */
export function* createVmdk(store: Store, options: CreateOptions, files?: NewFiles): Flow {
  const { size, zeroedGrain, adapterType, hwVersion, parent, subformat } = checked(options);
  const name = files?.name ?? /[^/\\]*$/.exec(store.name)![0];
  const named = name.replace(/["\n]/g, "_");
  const description = (extents: string[]) =>
    newDescriptor({
      cid: newCid(),
      parent,
      createType: subformat,
      extents,
      sectors: size / SECTOR,
      adapterType,
      hwVersion,
    });
  if (subformat === "streamOptimized") {
    const text = description([`RW ${size / SECTOR} SPARSE "${named}"`]);
    yield* write(store, SECTOR, descriptorBytes(text, DESCRIPTOR_SECTORS * SECTOR));
    const header = streamHeader(size);
    yield* write(store, 0, header);
    return yield* createStream(store, parseHeader(header)!);
  }
  if (subformat === "monolithicSparse") {
    const text = description([`RW ${size / SECTOR} SPARSE "${named}"`]);
    return yield* createSparse(store, { size, zeroedGrain, text });
  }
  if (!files) throw invalid(`a ${subformat} VMDK is several files`, "Give `files`, which makes them");
  const made: string[] = [];
  for (const extent of extentsOf(named, size, subformat)) {
    const file = yield* wait(files.make(extent.file));
    try {
      if (extent.type === "SPARSE") yield* createSparse(file, { size: extent.size, zeroedGrain });
      else if (extent.type === "VMFSSPARSE") yield* createCowd(file, extent.size);
      else yield* wait(file.resize(extent.size));
      yield* wait(file.flush());
    } finally {
      yield* wait(file.close());
    }
    const offset = extent.type === "FLAT" ? " 0" : "";
    made.push(`RW ${extent.size / SECTOR} ${extent.type} "${extent.file}"${offset}`);
  }
  // The descriptor last: until then there is no disk.
  const text = description(made);
  yield* write(store, 0, descriptorBytes(text, text.length));
}

/**
 *   header │ descriptor │ copy of directory │ of tables │ grain directory │ grain tables │ grain │ grain │ …
 */
function* createSparse(store: Store, disk: { size: number; zeroedGrain: boolean; text?: string }): Flow {
  const { size, zeroedGrain, text } = disk;
  const { tables, redundant, directory, start } = placesFor(size);
  yield* wait(store.resize(start));
  for (const at of [redundant, directory]) yield* write(store, at, directoryBytes(tables, firstTable(at, tables)));
  if (text !== undefined) yield* write(store, SECTOR, descriptorBytes(text, DESCRIPTOR_SECTORS * SECTOR));
  // The header last: until then nothing takes the file for a VMDK.
  const header = newHeader({
    zeroedGrain,
    capacity: size / SECTOR,
    grainSize: GRAIN / SECTOR,
    descriptorOffset: 1,
    descriptorSize: DESCRIPTOR_SECTORS,
    tableEntries: ENTRIES,
    redundantOffset: redundant / SECTOR,
    directoryOffset: directory / SECTOR,
    overHead: start / SECTOR,
  });
  yield* write(store, 0, header);
}

/**
 *   header │ directory │ grain table │ grain │ grain │ … │ grain table │ grain │ …
 */
function* createCowd(store: Store, size: number): Flow {
  yield* wait(store.resize(cowdPlaces(size, COWD_GRAIN).start));
  yield* write(store, 0, newCowdHeader(size, COWD_GRAIN));
}

function streamHeader(size: number): Uint8Array {
  return newHeader({
    zeroedGrain: false,
    stream: true,
    capacity: size / SECTOR,
    grainSize: GRAIN / SECTOR,
    descriptorOffset: 1,
    descriptorSize: DESCRIPTOR_SECTORS,
    tableEntries: ENTRIES,
    redundantOffset: 0,
    directoryOffset: 0,
    overHead: GRAIN / SECTOR,
  });
}

/** Bytes of the file. */
function placesFor(size: number) {
  const tables = Math.ceil(size / (GRAIN * ENTRIES));
  const redundant = (1 + DESCRIPTOR_SECTORS) * SECTOR;
  const directory = firstTable(redundant, tables) + tables * TABLE;
  const start = alignUp(firstTable(directory, tables) + tables * TABLE, GRAIN);
  return { tables, redundant, directory, start };
}

interface NewExtent {
  type: "FLAT" | "SPARSE" | "VMFS" | "VMFSSPARSE";
  file: string;
  size: number;
}

/** By VMware's names: disk-flat.vmdk, disk-delta.vmdk, disk-f001.vmdk, disk-s001.vmdk. */
function extentsOf(name: string, size: number, subformat: Subformat): NewExtent[] {
  const [, stem, ending = ""] = /^(.+?)(\.[^.]*)?$/.exec(name) ?? [name, name];
  if (subformat === "monolithicFlat" || subformat === "vmfs") {
    return [{ type: subformat === "vmfs" ? "VMFS" : "FLAT", file: `${stem}-flat${ending}`, size }];
  }
  if (subformat === "vmfsSparse") return [{ type: "VMFSSPARSE", file: `${stem}-delta${ending}`, size }];
  const [type, letter] = subformat === "twoGbMaxExtentFlat" ? (["FLAT", "f"] as const) : (["SPARSE", "s"] as const);
  return Array.from({ length: Math.max(1, Math.ceil(size / TWO_GB)) }, (_, i) => ({
    type,
    file: `${stem}-${letter}${String(i + 1).padStart(3, "0")}${ending}`,
    size: Math.min(TWO_GB, size - i * TWO_GB),
  }));
}

/** The text and zeros. @throws ParavaneError INVALID when there is no room for it */
export function descriptorBytes(text: string, length: number): Uint8Array {
  if (text.length > length) throw invalid(`the descriptor is longer than ${length} bytes`, "Use a shorter path");
  const bytes = new Uint8Array(length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

const firstTable = (at: number, tables: number): number => at + alignUp(tables * 4, SECTOR);

function directoryBytes(tables: number, first: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(tables * 4));
  for (let i = 0; i < tables; i++) view.setUint32(i * 4, (first + i * TABLE) / SECTOR, true);
  return new Uint8Array(view.buffer);
}

/** What a new VMDK takes, all files together. @throws ParavaneError INVALID */
export function measureVmdk(options: CreateOptions): Measure {
  const { size, subformat } = checked(options);
  if (subformat === "monolithicSparse") {
    const { start } = placesFor(size);
    return { unit: GRAIN, bytes: (units) => start + units * GRAIN };
  }
  if (subformat === "streamOptimized") {
    const tables = Math.ceil(size / (GRAIN * ENTRIES));
    const directory = SECTOR * 4 + alignUp(tables * 4, SECTOR);
    // What cannot be compressed at all, with its marker.
    return {
      unit: GRAIN,
      bytes: (units) => GRAIN + directory + units * (GRAIN + SECTOR) + Math.min(units, tables) * 2560,
    };
  }
  const extents = extentsOf("disk.vmdk", size, subformat);
  // Of the descriptor itself, about.
  const fixed = 512 + extents.length * 64;
  if (subformat === "vmfsSparse") {
    const { start, tables, table } = cowdPlaces(size, COWD_GRAIN);
    return { unit: COWD_GRAIN, bytes: (units) => fixed + start + units * COWD_GRAIN + Math.min(units, tables) * table };
  }
  if (subformat !== "twoGbMaxExtentSparse") return { unit: SECTOR, bytes: () => fixed + size };
  const start = extents.reduce((sum, extent) => sum + placesFor(extent.size).start, fixed);
  return { unit: GRAIN, bytes: (units) => start + units * GRAIN };
}

/** @throws ParavaneError INVALID */
function checked(options: CreateOptions) {
  const { size: wanted, subformat = "monolithicSparse", ...more } = options as VmdkCreateOptions;
  const {
    adapterType = "ide",
    hwVersion: version,
    compat6 = false,
    zeroedGrain = false,
    parent,
    openFile: _,
    ...rest
  } = more;
  if (compat6 && version !== undefined) throw invalid("compat6 is itself a hardware version", "Leave one of them out");
  const hwVersion = version ?? (compat6 ? "6" : "4");
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) {
    const known = "Known: subformat, adapterType, hwVersion, compat6, zeroedGrain, parent";
    throw invalid(`VMDKs have no option "${unknown}"`, known);
  }
  if (!SUBFORMATS.includes(subformat)) {
    throw invalid(`VMDKs of subformat "${subformat}" cannot be made`, `Known: ${SUBFORMATS.join(", ")}`);
  }
  if (parent && !subformat.endsWith("Sparse")) {
    throw invalid(`a ${subformat} VMDK has no parent`, "Make it monolithicSparse, twoGbMaxExtentSparse or vmfsSparse");
  }
  if (zeroedGrain && (!subformat.endsWith("Sparse") || subformat === "vmfsSparse")) {
    throw invalid(`a ${subformat} VMDK cannot say that a grain is zeros`);
  }
  if (!ADAPTERS.includes(adapterType)) {
    throw invalid(`there is no VMDK adapter type "${adapterType}"`, `Known: ${ADAPTERS.join(", ")}`);
  }
  if (!/^\d{1,3}$/.test(String(hwVersion))) throw invalid(`"${hwVersion}" is no hardware version`, "Give a number");
  const size = checkedSize(wanted);
  if (subformat === "vmfsSparse" && size > COWD_MOST * SECTOR) {
    throw invalid(`a vmfsSparse VMDK cannot be ${size} bytes`, `Give up to ${COWD_MOST * SECTOR}`);
  }
  const noted = parent && parentOf(parent);
  return { size, zeroedGrain, adapterType, hwVersion: String(hwVersion), parent: noted, subformat };
}

/** @throws ParavaneError INVALID when it is no VMDK */
export function parentOf(parent: NewParent): { cid: string; path: string } {
  const { path, format = "vmdk" } = parent;
  // There is room for one: a cut before the parent takes the next on, which it does at once, wants `rebase -u`.
  const identity = parent.nextIdentity ?? parent.identity;
  if (format !== "vmdk") throw invalid(`the parent of a VMDK cannot be a ${format} image`, "Convert the parent first");
  if (!identity || !/^[0-9a-f]{8}$/.test(identity))
    throw invalid("the parent's CID is not known", "Give it as `identity`");
  if (/["\n]/.test(path)) throw invalid(`a VMDK cannot note the path ${path}`, "Use a path without quotes");
  return { cid: identity, path };
}

/** Bytes; 64 TiB is the most that VMware's products take. */
const MAX_SIZE = 2 ** 46;

/** Whole sectors. @throws ParavaneError INVALID */
export function checkedSize(size: number): number {
  if (Number.isSafeInteger(size) && size >= 0 && size <= MAX_SIZE) return alignUp(size, SECTOR);
  throw invalid(`a VMDK cannot be ${size} bytes`, `Give up to ${MAX_SIZE}`);
}
