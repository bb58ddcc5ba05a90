// Compressed clusters, written ("Compressed Clusters Descriptor"). They lie one right after another and share host clusters,
// each of which counts every compressed cluster that touches it.
import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import { ownTable, take, unlink } from "./allocate.ts";
import { write } from "./io.ts";
import { PACKED } from "./tables.ts";
import type { Volume } from "./volume.ts";

const SECTOR = 512;

/** As `Image.writePacked`. */
export function* writePacked(volume: Volume, offset: number, packed: Uint8Array): Flow {
  const { tables, clusterBytes, header, store } = volume;
  const { length } = packed;
  if (!(offset >= 0 && offset < header.size && offset % clusterBytes === 0)) {
    throw new ParavaneError("INVALID", `there is no cluster at byte ${offset}`, { file: store.name, offset });
  }
  if (length === 0 || length >= clusterBytes) {
    throw new ParavaneError("INVALID", `${length} bytes are not less than a cluster of ${clusterBytes}`, {
      file: store.name,
      offset,
    });
  }
  const cluster = offset / clusterBytes;
  const index = Math.floor(cluster / tables.perTable);
  const slot = cluster % tables.perTable;
  const table = yield* ownTable(volume, index);
  const { entry: old } = yield* tables.l2(index, table, slot);
  const position = yield* takeBytes(volume, length);
  try {
    yield* write(store, position, packed);
  } catch (thrown) {
    const first = Math.floor(position / clusterBytes);
    yield* volume.refcounts.release(first, Math.floor((position + length - 1) / clusterBytes) - first + 1);
    volume.packedEnd = 0;
    throw thrown;
  }
  const entry = PACKED | descriptor(position, length, header.clusterBits);
  yield* tables.setL2(index, table, slot, 1, () => ({ entry, bits: volume.extended ? 0n : undefined }));
  unlink(volume, old);
}

/** "Offset" in the lower bits, "number of additional 512-byte sectors used" above. */
function descriptor(position: number, length: number, clusterBits: number): bigint {
  const sectors = Math.floor((position + length - 1) / SECTOR) - Math.floor(position / SECTOR);
  return BigInt(position) | (BigInt(sectors) << BigInt(62 - (clusterBits - 8)));
}

/** Room for `length` bytes, less than a cluster, counted: behind what was packed last, where that can be. */
function* takeBytes(volume: Volume, length: number): Flow<number> {
  const { clusterBytes, refcounts, packedEnd } = volume;
  const cluster = Math.floor(packedEnd / clusterBytes);
  const shared = packedEnd !== 0 && (yield* refcounts.share(cluster));
  let at = packedEnd;
  if (!shared || at + length > (cluster + 1) * clusterBytes) {
    let next = 0;
    try {
      next = yield* takeCluster(volume);
    } finally {
      // Not in the old cluster, then, unless the new one continues it.
      if (shared && next !== (cluster + 1) * clusterBytes) yield* refcounts.release(cluster, 1);
    }
    if (!shared || next !== (cluster + 1) * clusterBytes) at = next;
  }
  const end = at + length;
  volume.packedEnd = end % clusterBytes === 0 ? 0 : end;
  return at;
}

/** A new cluster, in its count and in the file. */
function* takeCluster(volume: Volume): Flow<number> {
  const { clusterBytes, refcounts, header, store } = volume;
  const { position } = yield* take(volume, 1);
  try {
    if (BigInt(position + clusterBytes) >> BigInt(62 - (header.clusterBits - 8)) !== 0n) {
      throw new ParavaneError("NO_SPACE", "the file is too large for compressed clusters", { file: store.name });
    }
    if (store.size < position + clusterBytes) yield* wait(store.resize(position + clusterBytes));
  } catch (thrown) {
    yield* refcounts.release(position / clusterBytes, 1);
    throw thrown;
  }
  volume.grown();
  return position;
}
