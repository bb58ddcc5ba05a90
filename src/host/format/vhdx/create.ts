import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { CreateOptions, NewParent } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { BatLayout, ENTRY_BYTES, entryOf, State } from "./bat.ts";
import { newGuid } from "./guid.ts";
import { buildFileIdentifier, writeNewHeaders } from "./header.ts";
import { alignUp, MiB, write } from "./io.ts";
import { buildLocator } from "./locator.ts";
import { buildMetadata, MAX_BLOCK, MAX_SIZE, MIN_BLOCK } from "./metadata.ts";
import { buildRegionTable, REGION_TABLES } from "./regions.ts";

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

/** Writes header section, log, metadata, table and, when fixed, the blocks, each a multiple of 1 MiB, in this order. */
export function* createVhdx(store: Store, options: CreateOptions): Flow {
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
  const payload = table.position + table.length;
  yield* wait(store.resize(payload + (fixed ? bat.payloadBlocks * block : 0)));
  if (fixed) yield* writeFixedTable(store, table.position, bat, payload, block);
  const disk = {
    size,
    blockSize: block,
    fixed,
    diskId: newGuid(),
    logicalSectorSize,
    physicalSectorSize,
    locator: parent && locatorOf(parent),
  };
  yield* write(store, metadata.position, buildMetadata(disk));
  const regions = buildRegionTable(table, metadata);
  for (const position of REGION_TABLES) yield* write(store, position, regions);
  yield* writeNewHeaders(store, log);
  // Last: until then nothing takes the file for a VHDX.
  yield* wait(store.flush());
  yield* write(store, 0, buildFileIdentifier("Paravane"));
}

function locatorOf({ path, absolutePath, identity = "" }: NewParent) {
  const [relative, absolute] = /^([a-z]:)?[\\/]/i.test(path) ? [undefined, path] : [path, absolutePath];
  const windows = (name: string) => name.replaceAll("/", "\\");
  return buildLocator({
    parent_linkage: `{${identity}}`,
    ...(relative && { relative_path: windows(relative) }),
    ...(absolute && { absolute_win32_path: windows(absolute) }),
  });
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
