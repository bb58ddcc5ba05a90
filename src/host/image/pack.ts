import { Op } from "../../core/block.ts";
import { ParavaneError } from "../../core/error.ts";
import type { Flow } from "../../core/flow.ts";
import type { Image, Packing } from "../../core/format.ts";
import { ScanBuffers } from "../../wasm/scan.ts";
import type { Disk } from "../block/open.ts";
import type { Place } from "../block/places.ts";
import { mapDisk } from "./map.ts";
import { Requests } from "./request.ts";
import { Pace, type TaskOptions } from "./task.ts";
import { engineOf } from "./whole.ts";

/** Compresses one unit, as `packing` says. Several are under way together. */
export type Compress = (bytes: Uint8Array, packing: Packing) => Promise<Uint8Array>;

export interface PackOptions extends TaskOptions {
  compress: Compress;
  /** Bytes of the target that the source begins at, whole units of the target's packing. */
  to?: number;
  /** The target reads as zeros: zeros need not be written. */
  fresh?: boolean;
  /** Is this part of the source in the target already? It is left out. */
  skip?: (place: Place) => boolean;
}

/** Units that are read, compressed and written together, and how many such groups are under way. */
const GROUP = 32;
const GROUPS = 3;
/** Bytes of compressed data that are written in one go. */
const RUN = 16 << 20;

interface Unit {
  offset: number;
  /** What is stored; absent when it is zeros. */
  packed?: Uint8Array;
  /** Compressed it is no smaller. */
  plain?: Uint8Array;
}

/** How the target's clusters are compressed. @throws ParavaneError UNSUPPORTED when its format does not compress */
export function packingOf(target: Disk): Packing {
  const { packing, writePacked } = engineOf(target).image;
  if (packing && writePacked) return packing;
  throw new ParavaneError("UNSUPPORTED", `Compression not supported for this file format: ${target.format}`);
}

/**
 * Copies a disk's content, compressed. What compression does not make smaller is stored as it is. Nothing else may use
 * the target meanwhile. Memory: a few groups of units, and 16 MiB.
 * @throws ParavaneError UNSUPPORTED, OUT_OF_RANGE, ABORTED, and what reading and writing throw
 */
export async function packDisk(source: Disk, target: Disk, options: PackOptions): Promise<void> {
  const { to = 0, fresh = false, skip = () => false } = options;
  const packing = packingOf(target);
  const { unit } = packing;
  if (to % unit !== 0 || to + source.size > target.size) {
    const context = { offset: to, length: source.size };
    throw new ParavaneError("OUT_OF_RANGE", `${source.size} bytes at ${to} do not fit the target`, context);
  }
  const pace = new Pace(options, source.size);
  const writer = new Writer(target);
  const flying: Promise<Unit[]>[] = [];
  const next = async () => {
    for (const one of await flying.shift()!) await writer.add(one);
  };
  try {
    for await (const offsets of groups(source, unit, fresh, skip)) {
      const wait = pace.step(offsets[0]);
      if (wait) await wait;
      if (flying.length >= GROUPS) await next();
      const units = packGroup(source, offsets, to, packing, options);
      // Whoever awaits it later sees the failure.
      units.catch(() => {});
      flying.push(units);
    }
    while (flying.length > 0) await next();
    await writer.end();
  } finally {
    await Promise.allSettled(flying);
  }
  pace.end();
}

/** Offsets of units that hold something to be written, some at a time. */
async function* groups(source: Disk, unit: number, fresh: boolean, skip: (place: Place) => boolean) {
  let group: number[] = [];
  let next = 0;
  for await (const place of mapDisk(source)) {
    const { start, length, kind } = place;
    if (skip(place) || (fresh && (kind === "zero" || kind === "hole"))) continue;
    const end = Math.ceil((start + length) / unit) * unit;
    for (let at = Math.max(next, Math.floor(start / unit) * unit); at < end; at += unit) {
      group.push(at);
      if (group.length < GROUP) continue;
      yield group;
      group = [];
    }
    next = Math.max(next, end);
  }
  if (group.length > 0) yield group;
}

async function packGroup(
  source: Disk,
  offsets: number[],
  to: number,
  packing: Packing,
  { compress, fresh = false }: PackOptions,
): Promise<Unit[]> {
  const { unit } = packing;
  const buffers = new ScanBuffers(offsets.length, unit);
  const requests = new Requests(buffers.memory);
  for (const [i, at] of offsets.entries()) {
    const inside = Math.min(unit, source.size - at);
    requests.add(Op.Read, at, inside, i * unit);
  }
  await requests.submit(source);
  const units = offsets.map(async (at, i): Promise<Unit | undefined> => {
    const offset = to + at;
    if (buffers.zeroRun(i * unit, unit, unit) & 1) return fresh ? undefined : { offset };
    const plain = buffers.memory.subarray(i * unit, (i + 1) * unit);
    const packed = await compress(plain, packing);
    return packed.length < unit ? { offset, packed } : { offset, plain };
  });
  return (await Promise.all(units)).filter((one) => one !== undefined);
}

/** Gathers what is to be written, since compressed clusters are only written while nothing else is. */
class Writer {
  readonly #target: Disk;
  #held: Unit[] = [];
  #bytes = 0;

  constructor(target: Disk) {
    this.#target = target;
  }

  async add(one: Unit): Promise<void> {
    if (one.packed) {
      this.#held.push(one);
      this.#bytes += one.packed.length;
      if (this.#bytes >= RUN) await this.end();
      return;
    }
    const requests = new Requests(one.plain ?? new Uint8Array(0));
    const length = Math.min(engineOf(this.#target).image.packing!.unit, this.#target.size - one.offset);
    requests.add(one.plain ? Op.Write : Op.WriteZeroes, one.offset, length, 0);
    await requests.submit(this.#target);
  }

  async end(): Promise<void> {
    while (this.#held.length > 0) {
      const held = this.#held;
      const left = await engineOf(this.#target).exclusive((image) => writeSome(image, held));
      this.#held = left;
    }
    this.#bytes = 0;
  }
}

/** Writes units until metadata has piled up; returns those that are left. */
function* writeSome(image: Image, units: Unit[]): Flow<Unit[]> {
  for (const [i, { offset, packed }] of units.entries()) {
    if (i > 0 && image.crowded) return units.slice(i);
    yield* image.writePacked!(offset, packed!);
  }
  return [];
}
