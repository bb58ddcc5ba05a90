import { type Flow, wait } from "../../../core/flow.ts";
import type { CreateOptions, Measure, NewParent } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { alignUp, invalid, write } from "../io.ts";
import { newCid, newDescriptor } from "./descriptor.ts";
import { newHeader, SECTOR } from "./header.ts";

interface VmdkCreateOptions extends CreateOptions {
  subformat?: "monolithicSparse";
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
const ENTRIES = 512;
const TABLE = ENTRIES * 4;
const DESCRIPTOR_SECTORS = 20;
const ADAPTERS = ["ide", "buslogic", "lsilogic", "legacyESX"];

/**
 *   header │ descriptor │ copy of directory │ of tables │ grain directory │ grain tables │ grain │ grain │ …
 */
export function* createVmdk(store: Store, options: CreateOptions): Flow {
  const { size, zeroedGrain, adapterType, hwVersion, parent, tables, redundant, directory, start } = checked(options);
  yield* wait(store.resize(start));
  for (const at of [redundant, directory]) yield* write(store, at, directoryBytes(tables, firstTable(at, tables)));
  const sectors = size / SECTOR;
  const name = /[^/\\]*$/.exec(store.name)![0].replace(/["\n]/g, "_");
  const text = newDescriptor({
    cid: newCid(),
    parent,
    createType: "monolithicSparse",
    extents: [`RW ${sectors} SPARSE "${name}"`],
    sectors,
    adapterType,
    hwVersion,
  });
  yield* write(store, SECTOR, descriptorBytes(text, DESCRIPTOR_SECTORS * SECTOR));
  // The header last: until then nothing takes the file for a VMDK.
  const header = newHeader({
    zeroedGrain,
    capacity: sectors,
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

/** What a new VMDK's file takes. @throws ParavaneError INVALID */
export function measureVmdk(options: CreateOptions): Measure {
  const { start } = checked(options);
  return { unit: GRAIN, bytes: (units) => start + units * GRAIN };
}

/** @throws ParavaneError INVALID */
function checked(options: CreateOptions) {
  const { size: wanted, subformat = "monolithicSparse", ...more } = options as VmdkCreateOptions;
  const { adapterType = "ide", hwVersion: version, compat6 = false, zeroedGrain = false, parent, ...rest } = more;
  if (compat6 && version !== undefined) throw invalid("compat6 is itself a hardware version", "Leave one of them out");
  const hwVersion = version ?? (compat6 ? "6" : "4");
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) {
    const known = "Known: subformat, adapterType, hwVersion, compat6, zeroedGrain, parent";
    throw invalid(`VMDKs have no option "${unknown}"`, known);
  }
  if (subformat !== "monolithicSparse") {
    throw invalid(`VMDKs of subformat "${subformat}" cannot be made`, "Known: monolithicSparse");
  }
  if (!ADAPTERS.includes(adapterType)) {
    throw invalid(`there is no VMDK adapter type "${adapterType}"`, `Known: ${ADAPTERS.join(", ")}`);
  }
  if (!/^\d{1,3}$/.test(String(hwVersion))) throw invalid(`"${hwVersion}" is no hardware version`, "Give a number");
  const size = checkedSize(wanted);
  const tables = Math.ceil(size / (GRAIN * ENTRIES));
  const redundant = (1 + DESCRIPTOR_SECTORS) * SECTOR;
  const directory = firstTable(redundant, tables) + tables * TABLE;
  const start = alignUp(firstTable(directory, tables) + tables * TABLE, GRAIN);
  const noted = parent && parentOf(parent);
  return {
    size,
    zeroedGrain,
    adapterType,
    hwVersion: String(hwVersion),
    parent: noted,
    tables,
    redundant,
    directory,
    start,
  };
}

/** @throws ParavaneError INVALID when it is no VMDK */
export function parentOf({ path, identity, format = "vmdk" }: NewParent): { cid: string; path: string } {
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
