import { asParavaneError, ParavaneError } from "../../core/error.ts";
import type { Flow } from "../../core/flow.ts";
import { SegmentList } from "../../core/segments.ts";
import { type Disc, type Run, runAt } from "./disc.ts";
import { complete, emptySector, RAW, type SectorType, STORED, typeOf, USER } from "./sector.ts";
import { fillZeros, scatter } from "./source.ts";

/** Sectors that are read together: what a failure is looked for in, and what a buffer is taken for. */
const TOGETHER = 32;
/** The same where data goes straight to the guest's memory. */
const STRAIGHT = 512;

/** Names the sector that could not be read. */
export class SectorError extends ParavaneError {
  readonly lba: number;

  constructor(lba: number, cause: ParavaneError) {
    super(cause.code, `sector ${lba}: ${cause.message}`, { ...cause.context, sector: lba }, { cause });
    this.lba = lba;
  }
}

function failed(lba: number, thrown: unknown): SectorError {
  return thrown instanceof SectorError ? thrown : new SectorError(lba, asParavaneError(thrown));
}

/** The run with this sector. @throws SectorError OUT_OF_RANGE: between sessions or past the end */
function runOf(disc: Disc, lba: number): Run {
  const run = runAt(disc, lba);
  if (run) return run;
  throw new SectorError(lba, new ParavaneError("OUT_OF_RANGE", "there is no track"));
}

/** "UNSUPPORTED" of a SectorError: the sector is of another kind than the command is for. */
export function wrongType(lba: number, type: SectorType): SectorError {
  return new SectorError(lba, new ParavaneError("UNSUPPORTED", `a sector of type ${type} is not what was asked for`));
}

/**
 * Reads the 2,048 bytes of user data of each sector, of mode 1 or mode 2 form 1, into `segments`.
 * @throws SectorError UNSUPPORTED (audio, or no form 1), OUT_OF_RANGE, MEDIA, IO
 */
export function* readUser(disc: Disc, lba: number, count: number, memory: Uint8Array, segments: SegmentList): Flow {
  for (let done = 0; done < count; ) {
    const at = lba + done;
    const run = runOf(disc, at);
    const left = Math.min(count - done, run.lba + run.count - at);
    let take: number;
    if (run.form === "audio") throw wrongType(at, "audio");
    const part = new SegmentList();
    if (run.source === null) {
      take = left;
      part.pushSlice(segments, done * USER, take * USER);
      fillZeros(memory, part);
    } else if (STORED[run.form].bytes === USER) {
      take = Math.min(left, STRAIGHT);
      part.pushSlice(segments, done * USER, take * USER);
      yield* straight(run, at, take, memory, part);
    } else {
      take = Math.min(left, TOGETHER);
      const raw = yield* readRaw(disc, at, take);
      for (let i = 0; i < take; i++) {
        const type = typeOf(run.form, raw, i * RAW);
        if (type !== "mode1" && type !== "form1") throw wrongType(at + i, type);
        const user = i * RAW + (type === "mode1" ? 16 : 24);
        scatter(raw.subarray(user, user + USER), memory, segments, (done + i) * USER);
      }
    }
    done += take;
  }
}

/** Sectors that hold nothing but user data, without a copy. After a failure one by one, so that it is known which. */
function* straight(run: Run, lba: number, count: number, memory: Uint8Array, segments: SegmentList): Flow {
  const position = run.position + (lba - run.lba) * USER;
  try {
    yield* run.source!.read(position, memory, segments);
    return;
  } catch (thrown) {
    if (count === 1) throw failed(lba, thrown);
  }
  for (let i = 0; i < count; i++) {
    const one = new SegmentList();
    one.pushSlice(segments, i * USER, USER);
    yield* straight(run, lba + i, 1, memory, one);
  }
}

/**
 * Reads whole sectors, completed where the image holds less: `count` times 2,352 bytes.
 * @throws SectorError OUT_OF_RANGE, MEDIA, IO
 */
export function* readRaw(disc: Disc, lba: number, count: number): Flow<Uint8Array> {
  const raw = new Uint8Array(count * RAW);
  for (let done = 0; done < count; ) {
    const run = runOf(disc, lba + done);
    const take = Math.min(count - done, run.lba + run.count - lba - done, TOGETHER);
    const out = raw.subarray(done * RAW, (done + take) * RAW);
    if (run.source) yield* stored(run, lba + done, take, out);
    for (let i = 0; i < take; i++) {
      const sector = out.subarray(i * RAW, (i + 1) * RAW);
      if (run.source) complete(run.form, lba + done + i, sector);
      else emptySector(run.form, lba + done + i, sector);
    }
    done += take;
  }
  return raw;
}

/** What the image holds of these sectors, each at its place. */
function* stored(run: Run, lba: number, count: number, out: Uint8Array): Flow {
  const { bytes, at } = STORED[run.form];
  const places = new SegmentList(count);
  for (let i = 0; i < count; i++) places.push(i * RAW + at, bytes);
  try {
    yield* run.source!.read(run.position + (lba - run.lba) * bytes, out, places);
  } catch (thrown) {
    if (count === 1) throw failed(lba, thrown);
    for (let i = 0; i < count; i++) yield* stored(run, lba + i, 1, out.subarray(i * RAW, (i + 1) * RAW));
    return;
  }
  if (!run.swapped) return;
  for (let i = 0; i < out.length; i += 2) [out[i], out[i + 1]] = [out[i + 1], out[i]];
}
