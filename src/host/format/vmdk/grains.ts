import { ExtentKind } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { unzlib } from "../inflate.ts";
import { corrupt } from "../io.ts";
import type { Found, Unit } from "../lookup/mapper.ts";
import type { Pages } from "../lookup/pages.ts";
import { SECTOR } from "./header.ts";

/** LBA and length before a compressed grain ("Compressed Grains" of VMware Virtual Disk Format 5.0). */
export const GRAIN_MARKER = 12;

/** Tables that are read as they are on disk. Positions and sizes are bytes of the file. */
export interface GrainTables {
  store: Store;
  size: number;
  grain: number;
  /** Entries of a grain table. */
  entries: number;
  directory: number;
  /** What an entry says for zeros, where the format has that. */
  zero?: number | undefined;
  compressed: boolean;
  /** A compressed grain begins with its marker. */
  markers: boolean;
}

interface Origin {
  /** First guest byte of the tables' disk, or extent. */
  start: number;
  /** First byte of the file, for whoever reads it. */
  base: number;
}

/** @throws Missing, ParavaneError CORRUPT, naming table and offset */
export function findGrain(tables: GrainTables, pages: Pages, offset: number, { start, base }: Origin): Found {
  const { store, size, grain, entries, directory, zero, compressed } = tables;
  const entry = (position: number) => {
    const { view, at } = pages.at(base + position);
    return view.getUint32(at, true);
  };
  const index = Math.floor(offset / grain);
  const number = Math.floor(index / entries);
  const at = directory + number * 4;
  const table = entry(at) * SECTOR;
  if (table === 0) return { kind: ExtentKind.Backing, length: Math.min(size, (number + 1) * entries * grain) - offset };
  if (table + entries * 4 > store.size) {
    throw corrupt(store, "grain directory", at, `has table ${number} at byte ${table}, where nothing can be`);
  }
  const entryAt = table + (index % entries) * 4;
  const value = entry(entryAt);
  const first = index * grain;
  const seen = Math.min(grain, size - first);
  const length = seen - (offset - first);
  if (value === 0) return { kind: ExtentKind.Backing, length };
  if (value === zero) return { kind: ExtentKind.Zero, length };
  const position = value * SECTOR;
  const wrong = (what: string) => corrupt(store, "grain table", entryAt, what);
  if (!compressed) {
    if (position + seen > store.size) throw wrong(`has grain ${index} at byte ${position}, where nothing can be`);
    return { kind: ExtentKind.Data, length, position: base + position + (offset - first) };
  }
  const lead = tables.markers ? GRAIN_MARKER : 0;
  if (position + lead >= store.size) throw wrong(`has grain ${index} at byte ${position}, where nothing can be`);
  // How long it is its marker says, which is read with it. Most lie one after the other.
  const follower = (index + 1) % entries === 0 ? 0 : entry(entryAt + 4) * SECTOR;
  const most = Math.min(lead + mostPacked(grain), store.size - position);
  const packed = follower > position ? Math.min(most, follower - position) : most;
  return {
    kind: ExtentKind.Packed,
    length,
    unit: { start: start + first, size: seen, position: base + position, packed, method: index },
  };
}

/** Bytes of a grain with its marker, which is at its start. @throws ParavaneError CORRUPT */
export function grainBytes({ store, grain }: GrainTables, marker: Uint8Array, { position, method }: Unit): number {
  const packed = marker.length < GRAIN_MARKER ? 0 : new DataView(marker.buffer, marker.byteOffset).getUint32(8, true);
  if (packed > 0 && packed <= mostPacked(grain) && position + GRAIN_MARKER + packed <= store.size)
    return GRAIN_MARKER + packed;
  const what = `of grain ${method} says that it takes ${packed} bytes, which cannot be`;
  throw corrupt(store, "grain marker", position, what);
}

/** What does not get smaller grows by little. */
const mostPacked = (grain: number): number => grain * 2 + 1024;

/**
 * The first `seen` bytes of a grain. Some writers pack no more of the last one than the disk has.
 * @throws RangeError when it is damaged
 */
export function unpackGrain(packed: Uint8Array, grain: number, seen: number): Uint8Array {
  try {
    return unzlib(packed, grain).subarray(0, seen);
  } catch (thrown) {
    if (seen === grain) throw thrown;
    return unzlib(packed, seen);
  }
}
