// Places for guest writes, and zeros without writing.
//
// A cluster gets its full content (zeros, the parent's bytes, what it held before) before an L2 entry points to it. So the
// tables may reach the disk at any time after a flush, whatever the guest's own write does.
import { type Flow, wait } from "../../../core/flow.ts";
import { packedPlace } from "./compressed.ts";
import { corrupt, read, viewOf, write } from "./io.ts";
import { ALONE, OFFSET, PACKED, ZERO } from "./tables.ts";
import type { Volume } from "./volume.ts";

/** Bytes copied at a time. */
const COPY = 2 ** 20;
const ALL_SUBCLUSTERS = 0xffffffffn;

/** As `Image.allocate`. */
export function* allocate(volume: Volume, offset: number, length: number): Flow {
  const { tables, clusterBytes } = volume;
  const cluster = Math.floor(offset / clusterBytes);
  const index = Math.floor(cluster / tables.perTable);
  const slot = cluster % tables.perTable;
  const table = yield* ownTable(volume, index);
  const { entry, bits } = yield* tables.l2(index, table, slot);
  const at: Place = { index, table, slot, guest: cluster * clusterBytes };
  const host = Number(entry & OFFSET);
  const from = offset - at.guest;

  if (entry & PACKED) yield* movePacked(volume, at, entry);
  else if (volume.data) yield* addExternal(volume, at, entry, bits, from, Math.min(length, clusterBytes - from));
  else if (host === 0 || (entry & ALONE) === 0n) {
    if (host !== 0 && ((entry & ZERO) === 0n || volume.extended)) yield* moveShared(volume, at, entry, bits);
    else yield* addFresh(volume, at, entry, from, length);
  } else yield* fillOwn(volume, at, entry, bits, from, Math.min(length, clusterBytes - from));
}

interface Place {
  index: number;
  table: number;
  slot: number;
  /** Where the guest sees the cluster. */
  guest: number;
}

/** The L2 table under L1 entry `index`, made or copied where it may not be written. */
export function* ownTable(volume: Volume, index: number): Flow<number> {
  const { tables, store, clusterBytes, refcounts } = volume;
  const entry = yield* tables.l1(index);
  const old = Number(entry & OFFSET);
  if (old === 0) {
    const { position } = yield* take(volume, 1);
    yield* fillZeros(volume, position, clusterBytes, store);
    yield* tables.setL1(index, BigInt(position) | ALONE, true);
    volume.overlaps.addTable(position);
    return position;
  }
  volume.checkTable(index, old);
  if (entry & ALONE) return old;
  if ((yield* refcounts.get(old / clusterBytes)) === 1) {
    yield* tables.setL1(index, entry | ALONE, false);
    return old;
  }
  const bytes = yield* read(store, old, clusterBytes);
  yield* setAlone(volume, bytes);
  const { position } = yield* take(volume, 1);
  yield* write(store, position, bytes);
  volume.grown();
  yield* tables.setL1(index, BigInt(position) | ALONE, true);
  volume.overlaps.addTable(position);
  volume.overlaps.removeTable(old);
  volume.retire(old, 1);
  return position;
}

/** "Bit 63 must be reconstructed from the refcount table as it does not need to be accurate in inactive tables." */
function* setAlone(volume: Volume, table: Uint8Array): Flow {
  const view = viewOf(table);
  for (let at = 0; at < table.length; at += volume.tables.entryBytes) {
    const entry = view.getBigUint64(at);
    const host = Number(entry & OFFSET);
    if ((entry & ALONE) === 0n || host === 0) continue;
    if ((yield* volume.refcounts.get(host / volume.clusterBytes)) !== 1) view.setBigUint64(at, entry & ~ALONE);
  }
}

/** Up to `most` clusters that lie together, in their count but not in the file yet. */
export function* take(volume: Volume, most: number): Flow<{ position: number; count: number }> {
  const { first, count } = yield* volume.refcounts.allocate(most);
  return { position: first * volume.clusterBytes, count };
}

/** New clusters for a run that has none, or reads as zeros. */
function* addFresh(volume: Volume, at: Place, entry: bigint, from: number, length: number): Flow {
  const { tables, clusterBytes, extended, unitBytes } = volume;
  const zero = (entry & ZERO) !== 0n && !extended;
  const wanted = Math.min(Math.ceil((from + length) / clusterBytes), tables.perPage - (at.slot % tables.perPage));
  const retired = zero ? Number(entry & OFFSET) : 0;
  let run = 1;
  const before: bigint[] = [];
  if (extended) {
    for (; run <= wanted; run++) {
      const next = yield* tables.l2(at.index, at.table, at.slot + run - 1);
      if (run > 1 && (next.entry & (OFFSET | PACKED)) !== 0n) break;
      before.push(next.bits);
    }
    run = before.length;
  } else if (retired === 0) run += tables.unplaced(at.index, at.slot + 1, wanted - 1, zero);
  const { position, count } = yield* take(volume, run);
  const end = Math.min(from + length, count * clusterBytes);
  const first = Math.floor(from / unitBytes) * unitBytes;
  const last = extended ? Math.ceil(end / unitBytes) * unitBytes : count * clusterBytes;
  try {
    if (extended) yield* fillMixed(volume, position, at.guest, first, last, before);
    else if (zero) yield* fillZeros(volume, position + first, last - first);
    else yield* fillBacking(volume, position + first, at.guest + first, last - first);
    if (volume.store.size < position + count * clusterBytes) {
      yield* wait(volume.store.resize(position + count * clusterBytes));
      volume.grown();
    }
  } catch (thrown) {
    yield* volume.refcounts.release(position / clusterBytes, count);
    throw thrown;
  }
  if (extended) {
    yield* tables.setL2(at.index, at.table, at.slot, count, (i) => ({
      entry: BigInt(position + i * clusterBytes) | ALONE,
      bits: stored(before[i], first - i * clusterBytes, last - i * clusterBytes, unitBytes),
    }));
  } else yield* tables.place(at.index, at.table, at.slot, count, position);
  if (retired !== 0) volume.retire(retired, 1);
}

/** The bitmap with the subclusters of bytes [from, to) of the cluster stored and not zeros. */
function stored(bits: bigint, from: number, to: number, unit: number): bigint {
  const first = Math.max(0, from / unit);
  const last = Math.min(32, to / unit);
  if (last <= first) return bits;
  const mask = ((1n << BigInt(last)) - 1n) & ~((1n << BigInt(first)) - 1n);
  return (bits | mask) & ~(mask << 32n);
}

/** Fills subclusters by what each reads as now; `bits` has the bitmap of each cluster from `position`. */
function* fillMixed(volume: Volume, position: number, guest: number, from: number, to: number, bits: bigint[]): Flow {
  const { unitBytes, clusterBytes } = volume;
  for (let at = from; at < to; ) {
    const isZero = (byte: number) =>
      (bits[Math.floor(byte / clusterBytes)] >> BigInt(32 + (byte % clusterBytes) / unitBytes)) & 1n;
    const zero = isZero(at);
    let end = at + unitBytes;
    while (end < to && isZero(end) === zero) end += unitBytes;
    if (zero) yield* fillZeros(volume, position + at, end - at);
    else yield* fillBacking(volume, position + at, guest + at, end - at);
    at = end;
  }
}

/** A cluster that is ours, but not (all) in use: preallocated zeros, subclusters that are not stored. */
function* fillOwn(volume: Volume, at: Place, entry: bigint, bits: bigint, from: number, length: number): Flow {
  const host = Number(entry & OFFSET);
  const refused = volume.overlaps.refusal("guest data", host, volume.clusterBytes);
  if (refused) throw refused;
  if (!volume.extended) {
    yield* fillZeros(volume, host, volume.clusterBytes);
    yield* volume.tables.setL2(at.index, at.table, at.slot, 1, () => ({ entry: entry & ~ZERO }));
    return;
  }
  const { unitBytes } = volume;
  const first = Math.floor(from / unitBytes);
  const last = Math.ceil((from + length) / unitBytes);
  for (let sub = first; sub < last; sub++) {
    if ((bits >> BigInt(sub)) & 1n) continue;
    yield* fillMixed(volume, host, at.guest, sub * unitBytes, (sub + 1) * unitBytes, [bits]);
  }
  const now = stored(bits, first * unitBytes, last * unitBytes, unitBytes);
  yield* volume.tables.setL2(at.index, at.table, at.slot, 1, () => ({ entry, bits: now }));
}

/** A data file holds each cluster where the guest sees it; nothing is counted. */
function* addExternal(volume: Volume, at: Place, entry: bigint, bits: bigint, from: number, length: number): Flow {
  const { clusterBytes, extended, unitBytes } = volume;
  const ours = BigInt(at.guest) | ALONE;
  if (extended) {
    const first = Math.floor(from / unitBytes);
    const last = Math.ceil((from + length) / unitBytes);
    for (let sub = first; sub < last; sub++) {
      if ((bits >> BigInt(sub)) & 1n) continue;
      yield* fillMixed(volume, at.guest, at.guest, sub * unitBytes, (sub + 1) * unitBytes, [bits]);
    }
    const now = stored(bits, first * unitBytes, last * unitBytes, unitBytes);
    yield* volume.tables.setL2(at.index, at.table, at.slot, 1, () => ({ entry: ours, bits: now }));
    return;
  }
  const unused = (entry & (ALONE | OFFSET)) === 0n;
  if (entry & ZERO) yield* fillZeros(volume, at.guest, clusterBytes);
  else if (unused) yield* fillBacking(volume, at.guest, at.guest, clusterBytes);
  yield* volume.tables.setL2(at.index, at.table, at.slot, 1, () => ({ entry: ours }));
}

/** Others refer to the cluster too: copies it, unless its count says that this is not so any more. */
function* moveShared(volume: Volume, at: Place, entry: bigint, bits: bigint): Flow {
  const { store, clusterBytes, refcounts, tables, extended } = volume;
  const host = Number(entry & OFFSET);
  if (host % clusterBytes !== 0 || host >= store.size) {
    const where = at.table + at.slot * tables.entryBytes;
    throw corrupt(store, "L2 table", where, `has an entry that points at byte ${host}, where no cluster can be`);
  }
  const extra = extended ? { bits } : {};
  if ((yield* refcounts.get(host / clusterBytes)) === 1) {
    yield* tables.setL2(at.index, at.table, at.slot, 1, () => ({ entry: entry | ALONE, ...extra }));
    return;
  }
  const bytes = yield* read(volume.target, host, clusterBytes);
  const position = yield* putCluster(volume, bytes);
  yield* tables.setL2(at.index, at.table, at.slot, 1, () => ({ entry: BigInt(position) | ALONE, ...extra }));
  volume.retire(host, 1);
}

function* movePacked(volume: Volume, at: Place, entry: bigint): Flow {
  if (volume.data) {
    const where = at.table + at.slot * volume.tables.entryBytes;
    throw corrupt(volume.store, "L2 table", where, "has a compressed cluster, which a data file cannot hold");
  }
  const bytes = yield* volume.unpacker.cluster(entry);
  const position = yield* putCluster(volume, bytes);
  const bits = volume.extended ? ALL_SUBCLUSTERS : undefined;
  yield* volume.tables.setL2(at.index, at.table, at.slot, 1, () => ({ entry: BigInt(position) | ALONE, bits }));
  retirePacked(volume, entry);
}

/** Gives back what an entry referred to, which another has replaced. */
export function unlink(volume: Volume, entry: bigint): void {
  if (entry & PACKED) retirePacked(volume, entry);
  else if ((entry & OFFSET) !== 0n && !volume.data) volume.retire(Number(entry & OFFSET), 1);
}

/** Each host cluster that a compressed cluster touches counts it once. */
function retirePacked(volume: Volume, entry: bigint): void {
  const { clusterBytes } = volume;
  const { position, length } = packedPlace(entry, volume.header.clusterBits);
  const first = Math.floor(position / clusterBytes);
  const last = Math.floor((position + length - 1) / clusterBytes);
  volume.retire(first * clusterBytes, last - first + 1);
}

function* putCluster(volume: Volume, bytes: Uint8Array): Flow<number> {
  const { position } = yield* take(volume, 1);
  try {
    yield* write(volume.target, position, bytes);
  } catch (thrown) {
    yield* volume.refcounts.release(position / volume.clusterBytes, 1);
    throw thrown;
  }
  volume.grown();
  return position;
}

/** Zeros in the data store, or another, which grows by them where it ends before. */
export function* fillZeros(volume: Volume, position: number, length: number, target = volume.target): Flow {
  if (target === volume.cipher) {
    // Zeros are written there, past the end too; what lies between that and the position may be metadata to come.
    yield* wait(target.discard(position, length));
    return volume.grown();
  }
  const inside = Math.min(length, target.size - position);
  if (inside > 0) yield* wait(target.discard(position, inside));
  if (position + length > target.size) {
    yield* wait(target.resize(position + length));
    volume.grown();
  }
}

/** The parent's bytes, or zeros, in the data store. */
function* fillBacking(volume: Volume, position: number, guest: number, length: number): Flow {
  const covered = Math.max(0, Math.min(length, (volume.backing?.size ?? 0) - guest));
  for (let done = 0; done < covered; done += COPY) {
    const bytes = yield* volume.readBacking(guest + done, Math.min(COPY, length - done));
    yield* write(volume.target, position + done, bytes);
  }
  const copied = Math.min(length, Math.ceil(covered / COPY) * COPY);
  if (copied < length) yield* fillZeros(volume, position + copied, length - copied);
  volume.grown();
}

// --- zeros -----------------------------------------------------------------------------------------------------------------

/** As `Image.zero`. */
export function* zero(volume: Volume, offset: number, length: number): Flow<number> {
  const { clusterBytes, unitBytes, header } = volume;
  const parent = header.backingFile !== undefined;
  // The last cluster of the disk may be cut short by its end.
  const end = offset + length === header.size ? Math.ceil(header.size / clusterBytes) * clusterBytes : offset + length;
  if (offset % unitBytes !== 0 || end - offset < unitBytes || volume.rawData || (header.version < 3 && parent))
    return 0;
  return Math.min(length, yield* clear(volume, offset, end - offset, parent));
}

/**
 * The same for whole units, also past the end of the disk.
 * @param over a parent has bytes there, which are not to show
 */
export function* clear(volume: Volume, offset: number, length: number, over: boolean): Flow<number> {
  const { tables, clusterBytes, unitBytes } = volume;
  const end = offset + length;
  const cluster = Math.floor(offset / clusterBytes);
  const index = Math.floor(cluster / tables.perTable);
  const slot = cluster % tables.perTable;
  const span = (tables.perTable - slot) * clusterBytes - (offset % clusterBytes);
  if (((yield* tables.l1(index)) & OFFSET) === 0n && !over) return Math.min(length, span);

  const table = yield* ownTable(volume, index);
  const slots = Math.min(Math.floor((end - offset) / clusterBytes), tables.perPage - (slot % tables.perPage));
  if (offset % clusterBytes !== 0 || slots === 0) {
    const to = Math.min(clusterBytes, (offset % clusterBytes) + Math.floor((end - offset) / unitBytes) * unitBytes);
    const done = yield* zeroPart(
      volume,
      { index, table, slot, guest: cluster * clusterBytes },
      offset % clusterBytes,
      to,
    );
    return Math.min(length, done);
  }
  const changes: { slot: number; old: bigint; entry: bigint; bits: bigint }[] = [];
  for (let i = 0; i < slots; i++) {
    const { entry, bits } = yield* tables.l2(index, table, slot + i);
    const now = zeroEntry(volume, entry, bits, over);
    if (now.entry !== entry || now.bits !== bits) changes.push({ slot: slot + i, old: entry, ...now });
  }
  for (const { slot, old, entry, bits } of changes) {
    yield* tables.setL2(index, table, slot, 1, () => ({ entry, bits: volume.extended ? bits : undefined }));
    if (entry !== old) unlink(volume, old);
  }
  return Math.min(length, slots * clusterBytes);
}

/** What an entry becomes when its whole cluster is to read as zeros. */
function zeroEntry(volume: Volume, entry: bigint, bits: bigint, over: boolean): { entry: bigint; bits: bigint } {
  const unused = (entry & ~ZERO) === 0n && (bits & ALL_SUBCLUSTERS) === 0n;
  if (unused && !over) return { entry, bits };
  if (volume.extended) return { entry: 0n, bits: ALL_SUBCLUSTERS << 32n };
  return { entry: volume.header.version < 3 ? 0n : ZERO, bits };
}

/** Zeros whole subclusters, bytes [from, to) of one cluster; how many bytes. */
function* zeroPart(volume: Volume, at: Place, from: number, to: number): Flow<number> {
  const { entry, bits } = yield* volume.tables.l2(at.index, at.table, at.slot);
  if (entry & PACKED) return 0;
  const { unitBytes } = volume;
  const mask = ((1n << BigInt(to / unitBytes)) - 1n) & ~((1n << BigInt(from / unitBytes)) - 1n);
  const now = (bits & ~mask) | (mask << 32n);
  if (now !== bits) yield* volume.tables.setL2(at.index, at.table, at.slot, 1, () => ({ entry, bits: now }));
  return to - from;
}
