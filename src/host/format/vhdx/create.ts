import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { CreateOptions, Measure, NewParent } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { newGuid } from "../guid.ts";
import { BatLayout, BITMAP_BYTES, ENTRY_BYTES, entryOf, State } from "./bat.ts";
import { buildFileIdentifier, writeNewHeaders } from "./header.ts";
import { alignUp, MiB, write } from "./io.ts";
import { locatorOf } from "./locator.ts";
import { buildMetadata, MAX_BLOCK, MAX_SIZE, MIN_BLOCK, type NewMetadata } from "./metadata.ts";
import { buildRegionTable, REGION_TABLES, type Region } from "./regions.ts";

interface VhdxCreateOptions extends CreateOptions {
  /** "dynamic" (grows as it is written) or "fixed" (every block has its place from the start). */
  subformat?: "dynamic" | "fixed";
  /** Bytes: a power of two from 1 MiB to 256 MiB. When absent, the smallest from 2 MiB whose table fits 1 MiB. */
  blockSize?: number;
  /** Bytes of the sector that the guest addresses: 512 or 4096. */
  logicalSectorSize?: number;
  /** Bytes of the sector that the disk says it has inside: 512 or 4096. */
  physicalSectorSize?: number;
  /** Bytes, whole MiB. */
  logSize?: number;
}

const KNOWN = "subformat, blockSize, logicalSectorSize, physicalSectorSize, logSize, parent";
/** Bytes of the table written at a time. */
const TABLE_RUN = MiB;

/** Where things go in a new image, in this order, each a multiple of 1 MiB. */
interface Plan {
  disk: Omit<NewMetadata, "diskId" | "locator">;
  parent: NewParent | undefined;
  bat: BatLayout;
  log: { offset: number; length: number };
  metadata: Region;
  table: Region;
  /** Where blocks begin. */
  payload: number;
}

/** @throws ParavaneError INVALID */
function plan(options: CreateOptions): Plan {
  const { size: wanted, subformat = "dynamic", blockSize, ...more } = options as VhdxCreateOptions;
  const { logicalSectorSize = 512, physicalSectorSize = 4096, logSize = MiB, parent, ...rest } = more;
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) throw invalid(`VHDX images have no option "${unknown}"`, `Known: ${KNOWN}`);
  if (subformat !== "dynamic" && subformat !== "fixed") {
    throw invalid(`there is no VHDX subformat "${subformat}"`, "Known: dynamic, fixed");
  }
  for (const bytes of [logicalSectorSize, physicalSectorSize]) {
    if (bytes !== 512 && bytes !== 4096) throw invalid(`a sector cannot be ${bytes} bytes`, "Give 512 or 4096");
  }
  if (!Number.isSafeInteger(wanted) || wanted <= 0 || wanted > MAX_SIZE) {
    throw invalid(`a VHDX cannot be ${wanted} bytes`, `Give 1 to ${MAX_SIZE}`);
  }
  if (!Number.isSafeInteger(logSize) || logSize < MiB || logSize % MiB || logSize >= 2 ** 32) {
    throw invalid(`a VHDX log cannot be ${logSize} bytes`, "Give a multiple of 1 MiB below 4 GiB");
  }
  const size = alignUp(wanted, logicalSectorSize);
  const layout = (block: number) => new BatLayout({ size, blockSize: block, logicalSectorSize, hasParent: true });
  const block = blockSize ?? defaultBlock((candidate) => layout(candidate).entries);
  if (!Number.isSafeInteger(block) || block < MIN_BLOCK || block > MAX_BLOCK || block & (block - 1)) {
    throw invalid(`a VHDX block cannot be ${block} bytes`, `Give a power of two from ${MIN_BLOCK} to ${MAX_BLOCK}`);
  }
  const fixed = subformat === "fixed";
  if (fixed && parent) throw invalid("a fixed VHDX has no parent", "Leave the subformat or the parent out");

  const bat = layout(block);
  const log = { offset: MiB, length: logSize };
  const metadata = { name: "metadata region", position: log.offset + log.length, length: MiB };
  // Room for the last chunk's bitmap entry too, as in a differencing disk, so that its parent can become one.
  const length = alignUp(Math.max(1, bat.entries) * ENTRY_BYTES, MiB);
  const table = { name: "block allocation table", position: metadata.position + metadata.length, length };
  const disk = { size, blockSize: block, fixed, logicalSectorSize, physicalSectorSize };
  return { disk, parent, bat, log, metadata, table, payload: table.position + table.length };
}

export function* createVhdx(store: Store, options: CreateOptions): Flow {
  const { disk, parent, bat, log, metadata, table, payload } = plan(options);
  const locator = parent && locatorOf(parent, store.name);
  const { blockSize, fixed } = disk;
  yield* wait(store.resize(payload + (fixed ? bat.payloadBlocks * blockSize : 0)));
  if (fixed) yield* writeFixedTable(store, table.position, bat, payload, blockSize);
  yield* write(store, metadata.position, buildMetadata({ ...disk, diskId: newGuid(), locator }));
  const regions = buildRegionTable(table, metadata);
  for (const position of REGION_TABLES) yield* write(store, position, regions);
  yield* writeNewHeaders(store, log);
  // Last: until then nothing takes the file for a VHDX.
  yield* wait(store.flush());
  yield* write(store, 0, buildFileIdentifier("Paravane"));
}

/** Sector bitmaps of a differencing disk are counted as if each block were in another chunk, as far as there are chunks. */
export function measureVhdx(options: CreateOptions): Measure {
  const { disk, parent, bat, payload } = plan(options);
  const { blockSize, fixed } = disk;
  const chunks = parent ? Math.ceil(bat.payloadBlocks / bat.chunkRatio) : 0;
  return {
    unit: blockSize,
    bytes: (units) =>
      payload + (fixed ? bat.payloadBlocks : units) * blockSize + Math.min(units, chunks) * BITMAP_BYTES,
  };
}

/** Large enough for a table of one MiB, as far as that goes. */
function defaultBlock(entries: (block: number) => number): number {
  let block = 2 * MiB;
  while (block < MAX_BLOCK && entries(block) * ENTRY_BYTES > MiB) block *= 2;
  return block;
}

function* writeFixedTable(store: Store, position: number, bat: BatLayout, payload: number, block: number): Flow {
  let run = new Uint8Array(TABLE_RUN);
  let start = 0;
  for (let index = 0; index < bat.payloadBlocks; index++) {
    const at = bat.payloadEntry(index) * ENTRY_BYTES;
    if (at - start >= TABLE_RUN) {
      yield* write(store, position + start, run);
      run = new Uint8Array(TABLE_RUN);
      start += TABLE_RUN;
    }
    run.set(entryOf({ state: State.FullyPresent, position: payload + index * block }), at - start);
  }
  yield* write(store, position + start, run);
}

function invalid(message: string, hint: string): ParavaneError {
  return new ParavaneError("INVALID", message, {}, { hint });
}
