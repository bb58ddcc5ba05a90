import { type Flow, wait } from "../../../core/flow.ts";
import type { CreateOptions, Measure } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { newGuid } from "../guid.ts";
import { alignUp, fill, invalid, write } from "../io.ts";
import { ImageType, newHeader, SECTOR } from "./header.ts";
import { DEFAULT_BLOCK, MAX_BLOCK, MAX_BLOCKS, MIN_BLOCK } from "./layout.ts";
import { parentUuids } from "./parent.ts";

interface VdiCreateOptions extends CreateOptions {
  /** "dynamic" (grows as it is written) or "fixed". */
  subformat?: "dynamic" | "fixed";
  /** Bytes that the disk grows by: a power of two from 4 KiB to 256 MiB. QEMU reads 1 MiB only. */
  blockSize?: number;
  /** Of the image; random when absent. Lower-case text. */
  uuid?: string;
}

/** Blocks begin where file systems' blocks do. */
const DATA_ALIGN = 4096;
/** Bytes of the map written at a time. */
const RUN = 2 ** 18;

export function* createVdi(store: Store, options: CreateOptions): Flow {
  const { size, subformat, blockSize, uuid, parent, blocks, dataOffset } = checked(options);
  const fixed = subformat === "fixed";
  if (fixed) {
    for (let first = 0; first < blocks; first += RUN) {
      const entries = Uint32Array.from({ length: Math.min(RUN, blocks - first) }, (_, i) => first + i);
      yield* write(store, SECTOR + first * 4, littleEndian(entries));
    }
  } else yield* fill(store, SECTOR, SECTOR + blocks * 4, 0xff);
  yield* wait(store.resize(dataOffset + (fixed ? blocks * blockSize : 0)));
  // The header last: until then nothing takes the file for a VDI.
  yield* write(
    store,
    0,
    newHeader({
      type: parent ? ImageType.Differencing : fixed ? ImageType.Fixed : ImageType.Dynamic,
      tableOffset: SECTOR,
      dataOffset,
      size,
      blockSize,
      blocks,
      allocated: fixed ? blocks : 0,
      created: uuid,
      modified: newGuid(),
      parent: parent ?? null,
    }),
  );
}

export function littleEndian(words: Uint32Array): Uint8Array {
  const bytes = new Uint8Array(words.length * 4);
  const view = new DataView(bytes.buffer);
  for (const [i, word] of words.entries()) view.setUint32(i * 4, word, true);
  return bytes;
}

/** What a new VDI's file takes. @throws ParavaneError INVALID */
export function measureVdi(options: CreateOptions): Measure {
  const { subformat, blockSize, blocks, dataOffset } = checked(options);
  if (subformat === "fixed") return { unit: SECTOR, bytes: () => dataOffset + blocks * blockSize };
  return { unit: blockSize, bytes: (units) => dataOffset + units * blockSize };
}

/** @throws ParavaneError INVALID */
function checked(options: CreateOptions) {
  const { size: wanted, subformat = "dynamic", blockSize = DEFAULT_BLOCK, ...more } = options as VdiCreateOptions;
  const { uuid = newGuid(), parent, ...rest } = more;
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) {
    throw invalid(`VDIs have no option "${unknown}"`, "Known: subformat, blockSize, uuid, parent");
  }
  if (
    !Number.isSafeInteger(blockSize) ||
    blockSize < MIN_BLOCK ||
    blockSize > MAX_BLOCK ||
    blockSize & (blockSize - 1)
  ) {
    throw invalid(`a VDI block cannot be ${blockSize} bytes`, `Give a power of two from ${MIN_BLOCK} to ${MAX_BLOCK}`);
  }
  const size = checkedSize(wanted, blockSize);
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(uuid)) throw invalid(`"${uuid}" is no UUID`);
  if (subformat !== "dynamic" && subformat !== "fixed") {
    throw invalid(`there is no VDI subformat "${subformat}"`, "Known: dynamic, fixed");
  }
  if (parent && subformat === "fixed") throw invalid("a fixed VDI has no parent", "Leave one of them out");
  const blocks = Math.ceil(size / blockSize);
  const dataOffset = alignUp(SECTOR + blocks * 4, DATA_ALIGN);
  return { size, subformat, blockSize, uuid, parent: parent && parentUuids(parent), blocks, dataOffset };
}

/** Whole sectors. @throws ParavaneError INVALID */
export function checkedSize(size: number, blockSize: number): number {
  const most = Math.min(Number.MAX_SAFE_INTEGER, MAX_BLOCKS * blockSize);
  if (Number.isSafeInteger(size) && size >= 0 && size <= most) return alignUp(size, SECTOR);
  throw invalid(`a VDI cannot be ${size} bytes`, `Give up to ${most}`);
}
