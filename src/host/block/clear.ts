import { BlockRequest, Op } from "../../core/block.ts";
import { ParavaneError } from "../../core/error.ts";
import { type Flow, wait } from "../../core/flow.ts";
import { ExtentKind, type Image, MapStop } from "../../core/format.ts";
import type { Store } from "../../core/store.ts";
import type { Flights } from "./flights.ts";
import type { Lock } from "./lock.ts";

/** So many stops of the map in a row without a byte of progress mean a defect, not a guest's request. */
export const MAX_STALLS = 1000;

const ZEROS = new Uint8Array(65536);
/** Bytes of zeros written at a time where the format cannot say "zeros". */
const ZERO_RUN = 1 << 20;

/** What a discard or write-zeroes finds around it in the engine. */
export interface Around {
  readonly image: Image;
  /** Where data extents are. */
  readonly data: Store;
  readonly lock: Lock;
  readonly flights: Flights;
  /** Is there anything behind extents of kind `Backing`? */
  readonly backed: boolean;
  /** Makes all that is written durable. */
  durable(): Flow;
  /** Carries out a write, whose failure the request then has. */
  move(request: BlockRequest): Flow;
}

/**
 * Discard and write-zeroes. Holes stay holes; a discard of data is taken only where that gives space back.
 * @throws ParavaneError CORRUPT, IO, and what the image and store throw
 */
export function* clear({ op, offset, length }: BlockRequest, around: Around): Flow {
  const { image, data, lock } = around;
  const { mapper } = image;
  const end = offset + length;
  const advisory = op === Op.Discard;
  let stalls = 0;
  for (let at = offset; at < end; ) {
    if (lock.held) {
      yield lock.released();
      continue;
    }
    // A long range may change more metadata than is to be held; nothing of this batch is under way here.
    if (image.crowded) yield* around.durable();
    const zeroed = image.zero ? yield* lock.during(image.zero(at, end - at)) : 0;
    if (zeroed > 0) {
      at += zeroed;
      continue;
    }
    const unit = image.zeroUnit ?? end;
    mapper.setRange(0, at, Math.min(end, (Math.floor(at / unit) + 1) * unit) - at, false);
    const stop = mapper.resolve(1);
    if (mapper.extentCount > 0) {
      const kind = mapper.extentKind(0);
      const covered = mapper.extentLength(0);
      const position = kind === ExtentKind.Data ? inPlace(around, at, covered) : -1;
      const damage = position >= 0 ? (image.guard?.(position, covered) ?? null) : null;
      if (damage) {
        yield* image.condemn!(damage);
        throw damage;
      }
      if (position >= 0) {
        if (!advisory || data.releases) yield* discard(around, position, covered);
      } else if (!advisory && kind !== ExtentKind.Zero && (kind !== ExtentKind.Backing || around.backed)) {
        yield* writeZeros(around, at, covered);
      }
      at += covered;
      stalls = 0;
    } else if (stop === MapStop.Corrupt) throw image.fault();
    else if (++stalls > MAX_STALLS) throw new ParavaneError("IO", "the disk's map makes no progress", { offset: at });
    else yield* lock.during(image.load());
  }
}

function* discard({ data, flights }: Around, position: number, length: number): Flow {
  const flight = flights.begin();
  try {
    yield* wait(data.discard(position, length));
  } finally {
    flights.end(flight);
  }
}

/** Where the bytes may be overwritten in the store, or -1: they are shared, or lie past its end. */
function inPlace({ image: { mapper }, data }: Around, offset: number, length: number): number {
  mapper.setRange(0, offset, length, true);
  if (mapper.resolve(1) !== MapStop.Done || mapper.extentCount !== 1) return -1;
  const position = mapper.extentPosition(0);
  return position + length <= data.size ? position : -1;
}

function* writeZeros({ move }: Around, offset: number, length: number): Flow {
  for (let at = 0; at < length; at += ZERO_RUN) {
    const request = new BlockRequest();
    request.op = Op.Write;
    request.offset = offset + at;
    request.length = Math.min(ZERO_RUN, length - at);
    request.memory = ZEROS;
    for (let left = request.length; left > 0; left -= ZEROS.length) {
      request.segments.push(0, Math.min(left, ZEROS.length));
    }
    yield* move(request);
    if (request.error) throw request.error;
  }
}
