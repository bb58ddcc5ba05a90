import { type Flow, wait } from "../../../core/flow.ts";
import type { CreateOptions, Measure } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { alignUp, invalid, write } from "../io.ts";
import { HEADER_BYTES, newHeader, SECTOR } from "./header.ts";
import { MAX_CLUSTER, MIN_CLUSTER } from "./layout.ts";

interface ParallelsCreateOptions extends CreateOptions {
  /** Bytes that the disk grows by: a power of two from 4 KiB to 256 MiB; 1 MiB when absent. */
  clusterSize?: number;
}

export function* createParallels(store: Store, options: CreateOptions): Flow {
  const { size, clusterSize, entries, dataOffset } = checked(options);
  // Zeros are a table with nothing in it.
  yield* wait(store.resize(dataOffset));
  const header = newHeader({ size, entries, tracks: clusterSize / SECTOR, dataOffset: dataOffset / SECTOR });
  yield* write(store, 0, header);
}

/** What a new disk's file takes. @throws ParavaneError INVALID */
export function measureParallels(options: CreateOptions): Measure {
  const { clusterSize, dataOffset } = checked(options);
  return { unit: clusterSize, bytes: (units) => dataOffset + units * clusterSize };
}

/** @throws ParavaneError INVALID */
function checked(options: CreateOptions) {
  const { size: wanted, clusterSize = 2 ** 20, parent, ...rest } = options as ParallelsCreateOptions;
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) throw invalid(`Parallels disks have no option "${unknown}"`, "Known: clusterSize");
  if (parent) throw invalid("a Parallels disk file has no parent", "Make the image in a format that notes one");
  if (
    !Number.isSafeInteger(clusterSize) ||
    clusterSize < MIN_CLUSTER ||
    clusterSize > MAX_CLUSTER ||
    !Number.isInteger(Math.log2(clusterSize))
  ) {
    const hint = `Give a power of two from ${MIN_CLUSTER} to ${MAX_CLUSTER}`;
    throw invalid(`a Parallels cluster cannot be ${clusterSize} bytes`, hint);
  }
  const size = checkedSize(wanted, clusterSize, true);
  const entries = Math.ceil(size / clusterSize);
  return { size, clusterSize, entries, dataOffset: alignUp(HEADER_BYTES + entries * 4, clusterSize) };
}

/** Whole sectors. @throws ParavaneError INVALID */
export function checkedSize(size: number, clusterSize: number, extended: boolean): number {
  // The table and what is behind it must be within reach of an entry.
  const most = extended ? Math.min(Number.MAX_SAFE_INTEGER, 2 ** 31 * clusterSize) : 2 ** 31 * SECTOR;
  if (Number.isSafeInteger(size) && size >= 0 && size <= most) return alignUp(size, SECTOR);
  throw invalid(`a Parallels disk cannot be ${size} bytes`, `Give up to ${most}`);
}
