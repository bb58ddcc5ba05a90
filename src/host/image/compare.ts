import { Op } from "../../core/block.ts";
import type { Disk } from "../block/open.ts";
import type { Place } from "../block/places.ts";
import { Requests } from "./request.ts";
import { Pace, type TaskOptions } from "./task.ts";

export interface CompareOptions extends TaskOptions {
  /** Disks of different sizes, or with other parts allocated, differ. Else what is past the shorter one's end must be zero. */
  strict?: boolean;
}

export type CompareReport =
  | { identical: true; sizesDiffer: boolean }
  /** The first difference: `offset` is the first byte of a 512-byte sector, or where the disks are kept in other ways. */
  | { identical: false; sizesDiffer: boolean; what: "content" | "allocation"; offset: number }
  | { identical: false; sizesDiffer: true; what: "size" };

const CHUNK = 1 << 20;
const SECTOR = 512;

/**
 * Are two disks the same? What neither stores is not read. Memory: two buffers of 1 MiB.
 * @throws ParavaneError ABORTED, MEDIA, CORRUPT, IO
 */
export async function compareDisks(one: Disk, other: Disk, options: CompareOptions = {}): Promise<CompareReport> {
  const { strict = false } = options;
  const sizesDiffer = one.size !== other.size;
  if (sizesDiffer && strict) return { identical: false, sizesDiffer, what: "size" };
  const end = Math.max(one.size, other.size);
  const pace = new Pace(options, end);
  const sides = [new Side(one), new Side(other)];
  for (let at = 0; at < end; ) {
    const wait = pace.step(at);
    if (wait) await wait;
    const [a, b] = [await sides[0].at(at), await sides[1].at(at)];
    const length = Math.min(a.length, b.length);
    if (strict && !sameWay(a, b)) return { identical: false, sizesDiffer, what: "allocation", offset: at };
    if (!(isZero(a) && isZero(b))) {
      const differs = await difference(sides, at, length, pace);
      if (differs >= 0) return { identical: false, sizesDiffer, what: "content", offset: differs };
    }
    at += length;
  }
  pace.end();
  return { identical: true, sizesDiffer };
}

const isZero = ({ kind }: Place) => kind === "zero" || kind === "hole";

/** Are both kept in the same way, wherever that is? */
function sameWay(a: Place, b: Place): boolean {
  return a.kind === b.kind && (a.position === undefined) === (b.position === undefined);
}

/** One of the disks, its buffer, and what was last asked of it. */
class Side {
  readonly disk: Disk;
  readonly bytes = new Uint8Array(CHUNK);
  readonly #requests = new Requests(this.bytes);
  #places: Place[] = [];
  #at = 0;

  constructor(disk: Disk) {
    this.disk = disk;
  }

  /** How the bytes from there on are kept; those past the end are holes. */
  async at(offset: number): Promise<Place> {
    const { size } = this.disk;
    if (offset >= size) return { kind: "hole", depth: 0, length: Number.MAX_SAFE_INTEGER };
    for (;;) {
      const [first] = this.#places;
      if (first && offset < this.#at + first.length) return { ...first, length: this.#at + first.length - offset };
      if (first) this.#at += this.#places.shift()!.length;
      else {
        this.#at = offset;
        this.#places = [...(await this.disk.places(offset, size - offset))];
      }
    }
  }

  /** Bytes past the end are zeros. */
  async read(offset: number, length: number): Promise<Uint8Array> {
    const inside = Math.max(0, Math.min(length, this.disk.size - offset));
    // A range cut to the other disk's sectors may begin or end inside one of this disk's.
    const unit = this.disk.sectorSize;
    const lead = offset % unit;
    if (inside > 0) {
      this.#requests.add(Op.Read, offset - lead, Math.ceil((lead + inside) / unit) * unit, 0);
      await this.#requests.submit(this.disk);
    }
    this.bytes.fill(0, lead + inside, lead + length);
    return this.bytes.subarray(lead, lead + length);
  }
}

/** The first sector of the range in which the disks differ, or -1. */
async function difference(sides: Side[], from: number, length: number, pace: Pace): Promise<number> {
  const unit = Math.max(...sides.map(({ disk }) => disk.sectorSize));
  for (let at = from; at < from + length; ) {
    const wait = pace.step(at);
    if (wait) await wait;
    // Room for the rest of a sector at both ends.
    const size = Math.min(CHUNK - 2 * unit, from + length - at);
    const [a, b] = await Promise.all(sides.map((side) => side.read(at, size)));
    const first = firstDifference(a, b);
    if (first >= 0) return at + first - ((at + first) % SECTOR);
    at += size;
  }
  return -1;
}

function firstDifference(a: Uint8Array, b: Uint8Array): number {
  if (a.byteOffset % 8 === 0 && b.byteOffset % 8 === 0 && a.length % 8 === 0) {
    const x = new BigUint64Array(a.buffer, a.byteOffset, a.length / 8);
    const y = new BigUint64Array(b.buffer, b.byteOffset, b.length / 8);
    for (let i = 0; i < x.length; i++) if (x[i] !== y[i]) return i * 8;
    return -1;
  }
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return i;
  return -1;
}
