import { Op } from "../../core/block.ts";
import { ParavaneError } from "../../core/error.ts";
import type { Flow } from "../../core/flow.ts";
import type { Image, Packing } from "../../core/format.ts";
import { ScanBuffers } from "../../wasm/scan.ts";
import type { Disk } from "../block/open.ts";
import type { Place } from "../block/places.ts";
import { mapDisk } from "./map.ts";
import { Requests } from "./request.ts";
import { storedZlib } from "./stored.ts";
import { Pace, type TaskOptions } from "./task.ts";
import { webCompressor } from "./web-compressor.ts";
import { engineOf } from "./whole.ts";

/**
 * Compresses one unit, as `packing` says. Several are under way together. What came out is given to `release` by whoever does
 * not use it any more; nobody has to. `close` gives back what it holds, if anything.
 */
export interface Compress {
  (bytes: Uint8Array, packing: Packing): Promise<Uint8Array>;
  release?(packed: Uint8Array): void;
  close?(): void;
}

export interface PackOptions extends TaskOptions {
  /** Default: `webCompressor`. */
  compress?: Compress;
  /** Bytes of the target that the source begins at, whole units of the target's packing. */
  to?: number;
  /** The target reads as zeros: zeros need not be written. */
  fresh?: boolean;
  /** Zeros are compressed too, so that all of the disk has a place in the target. */
  zeros?: boolean;
  /** Is this part of a source in the target already? It is left out. */
  skip?: (place: Place, source: Disk) => boolean;
}

/** Bytes of the units that are read, compressed and written together, how many these are at the most, and groups under way. */
const GROUP = 2 << 20;
const MOST = 128;
const GROUPS = 6;
/** Bytes of compressed data that are written in one go. */
const RUN = 2 << 20;

/** A source, and the byte of the whole that it begins at. */
interface Part {
  disk: Disk;
  start: number;
}

interface Packed {
  offset: number;
  bytes: Uint8Array;
}

/** A group that has been compressed: what is to be written packed, and requests for what is written as it is. */
interface Group {
  buffers: ScanBuffers;
  packed: Packed[];
  plain: Requests;
}

/** How the target's clusters are compressed. @throws ParavaneError UNSUPPORTED when its format does not compress */
export function packingOf(target: Disk): Packing {
  const { packing, writePacked } = engineOf(target).image;
  if (packing && writePacked) return packing;
  throw new ParavaneError("UNSUPPORTED", `Compression not supported for this file format: ${target.format}`);
}

/**
 * Copies the content of disks, one after the other, compressed; where one ends and the next begins need not be between units.
 * What compression does not make smaller is stored as it is; what looks like noise is not even tried. Nothing else may use the
 * target meanwhile. Memory: six groups of 2 MiB, or of one unit, and as much again that is compressed.
 * @throws ParavaneError UNSUPPORTED, OUT_OF_RANGE, ABORTED, and what reading and writing throw
 */
export async function packDisk(sources: Disk | readonly Disk[], target: Disk, options: PackOptions): Promise<void> {
  const { to = 0 } = options;
  const { parts, size } = joined("submit" in sources ? [sources] : sources);
  const packing = packingOf(target);
  const { unit } = packing;
  const { compress = webCompressor(packing) } = options;
  if (to % unit !== 0 || to + size > target.size) {
    const context = { offset: to, length: size };
    throw new ParavaneError("OUT_OF_RANGE", `${size} bytes at ${to} do not fit the target`, context);
  }
  const pace = new Pace(options, size);
  const writer = new Writer(target, compress);
  const spare: ScanBuffers[] = [];
  const flying: Promise<Group>[] = [];
  const next = async () => {
    const group = await flying.shift()!;
    await group.plain.submit(target);
    spare.push(group.buffers);
    await writer.add(group.packed);
  };
  try {
    for await (const offsets of groups(parts, unit, options)) {
      const wait = pace.step(offsets[0]);
      if (wait) await wait;
      if (flying.length >= GROUPS) await next();
      const buffers = spare.pop() ?? new ScanBuffers(groupOf(unit), unit);
      const group = packGroup(parts, target, offsets, buffers, packing, { ...options, compress });
      // Whoever awaits it later sees the failure.
      group.catch(() => {});
      flying.push(group);
    }
    while (flying.length > 0) await next();
    await writer.end();
  } finally {
    await Promise.allSettled(flying);
  }
  pace.end();
}

function joined(disks: readonly Disk[]): { parts: Part[]; size: number } {
  let size = 0;
  const parts = disks.map((disk) => {
    const part = { disk, start: size };
    size += disk.size;
    return part;
  });
  return { parts, size };
}

/** How many units a group has. */
function groupOf(unit: number): number {
  return Math.min(MOST, Math.max(1, Math.floor(GROUP / unit)));
}

/** Offsets of units that hold something to be written, some at a time. */
async function* groups(parts: readonly Part[], unit: number, options: PackOptions) {
  const most = groupOf(unit);
  const { fresh = false, zeros = false, skip = () => false } = options;
  let group: number[] = [];
  let next = 0;
  for (const part of parts) {
    for await (const place of mapDisk(part.disk)) {
      const { length, kind } = place;
      if (skip(place, part.disk) || (fresh && !zeros && (kind === "zero" || kind === "hole"))) continue;
      const start = part.start + place.start;
      const end = Math.ceil((start + length) / unit) * unit;
      for (let at = Math.max(next, Math.floor(start / unit) * unit); at < end; at += unit) {
        group.push(at);
        if (group.length < most) continue;
        yield group;
        group = [];
      }
      next = Math.max(next, end);
    }
  }
  if (group.length > 0) yield group;
}

/** Reads the units at `offsets` one behind the other into `memory`, zeros behind the end. */
async function readUnits(parts: readonly Part[], offsets: number[], unit: number, memory: Uint8Array): Promise<void> {
  const last = parts.at(-1);
  const size = last ? last.start + last.disk.size : 0;
  for (const [i, at] of offsets.entries()) {
    if (at + unit > size) memory.fill(0, i * unit + size - at, (i + 1) * unit);
  }
  for (const { disk, start } of parts) {
    const reads = new Requests(memory);
    for (const [i, at] of offsets.entries()) {
      const [from, to] = [Math.max(at, start), Math.min(at + unit, start + disk.size)];
      if (from < to) reads.add(Op.Read, from - start, to - from, i * unit + from - at);
    }
    await reads.submit(disk);
  }
}

async function packGroup(
  parts: readonly Part[],
  target: Disk,
  offsets: number[],
  buffers: ScanBuffers,
  packing: Packing,
  { compress, to = 0, fresh = false, zeros = false }: PackOptions & { compress: Compress },
): Promise<Group> {
  const { unit } = packing;
  const { memory } = buffers;
  await readUnits(parts, offsets, unit, memory);
  const group: Group = { buffers, packed: [], plain: new Requests(memory) };
  const units = offsets.map(async (at, i) => {
    if (!zeros && buffers.zeroRun(i * unit, unit, unit) & 1) return "zeros";
    const whole = memory.subarray(i * unit, (i + 1) * unit);
    const noise = buffers.incompressible(i * unit, unit);
    if (noise && !packing.only) return "plain";
    const stored = noise && packing.codec === "zlib";
    const bytes = stored ? storedZlib(whole, buffers.adler32(i * unit, unit)) : await compress(whole, packing);
    if (!packing.only && bytes.length >= unit) {
      compress.release?.(bytes);
      return "plain";
    }
    group.packed.push({ offset: to + at, bytes });
    return "packed";
  });
  const kinds = await Promise.all(units);
  for (const [i, at] of offsets.entries()) {
    const length = Math.min(unit, target.size - to - at);
    if (kinds[i] === "plain") group.plain.add(Op.Write, to + at, length, i * unit);
    else if (kinds[i] === "zeros" && !fresh) group.plain.add(Op.WriteZeroes, to + at, length, 0);
  }
  group.packed.sort((a, b) => a.offset - b.offset);
  return group;
}

/** Gathers what is compressed, since such clusters are only written while nothing else is. */
class Writer {
  readonly #target: Disk;
  readonly #compress: Compress;
  #held: Packed[] = [];
  #bytes = 0;

  constructor(target: Disk, compress: Compress) {
    this.#target = target;
    this.#compress = compress;
  }

  async add(packed: readonly Packed[]): Promise<void> {
    this.#held.push(...packed);
    for (const { bytes } of packed) this.#bytes += bytes.length;
    if (this.#bytes >= RUN) await this.end();
  }

  async end(): Promise<void> {
    while (this.#held.length > 0) {
      const held = this.#held;
      const left = await engineOf(this.#target).exclusive((image) => writeSome(image, held), { durable: false });
      for (const { bytes } of held.slice(0, held.length - left.length)) this.#compress.release?.(bytes);
      this.#held = left;
    }
    this.#bytes = 0;
  }
}

/** Writes units until metadata has piled up; returns those that are left. */
function* writeSome(image: Image, units: Packed[]): Flow<Packed[]> {
  for (const [i, { offset, bytes }] of units.entries()) {
    if (i > 0 && image.crowded) return units.slice(i);
    yield* image.writePacked!(offset, bytes);
  }
  return [];
}
