import type { Flow } from "../../../../core/flow.ts";
import { SegmentList } from "../../../../core/segments.ts";
import { type Disc, runAt } from "../../../media/disc.ts";
import { readRaw, readUser, wrongType } from "../../../media/read.ts";
import { fixedType, RAW, typeOf, USER } from "../../../media/sector.ts";
import { scatter } from "../../../media/source.ts";
import { subchannelQ, subchannelRaw } from "../../../media/subchannel.ts";
import type { ReadPlan } from "./answer.ts";
import { isCount } from "./state.ts";

/** Sectors that are put together at a time. */
const TOGETHER = 32;

/**
 * Puts the plan's bytes from `at` on into `segments`. Each sector is looked up as it is read, so that nothing that was
 * checked earlier has to be trusted (CVE-2020-29443). @throws SectorError
 */
export function* readPlan(disc: Disc, plan: ReadPlan, at: number, memory: Uint8Array, segments: SegmentList): Flow {
  const end = at + segments.total;
  for (let from = at; from < end; ) {
    const sector = Math.floor(from / plan.bytes);
    const skip = from - sector * plan.bytes;
    const whole = Math.floor((end - from) / plan.bytes);
    if (skip === 0 && whole > 0 && !plan.raw) {
      const part = new SegmentList();
      part.pushSlice(segments, from - at, whole * plan.bytes);
      yield* readUser(disc, plan.lba + sector, whole, memory, part);
      from += whole * plan.bytes;
      continue;
    }
    // Through a buffer: sectors that are put together, or of which only a part is wanted.
    const count = Math.min(TOGETHER, Math.ceil((skip + end - from) / plan.bytes), plan.count - sector);
    const bytes = plan.raw
      ? yield* assemble(disc, plan.lba + sector, count, plan.bytes, plan.raw)
      : yield* user(disc, plan.lba + sector, count, plan.bytes);
    const take = Math.min(bytes.length - skip, end - from);
    scatter(bytes.subarray(skip, skip + take), memory, segments, from - at);
    from += take;
  }
}

function* user(disc: Disc, lba: number, count: number, bytes: number): Flow<Uint8Array> {
  const out = new Uint8Array(count * bytes);
  yield* readUser(disc, lba, count, out, SegmentList.of(0, out.length));
  return out;
}

/** Main channel, C2 error data (there are no errors), sub-channel: MMC-6, READ CD. */
function* assemble(
  disc: Disc,
  lba: number,
  count: number,
  bytes: number,
  { parts, type, sub }: NonNullable<ReadPlan["raw"]>,
): Flow<Uint8Array> {
  const out = new Uint8Array(count * bytes);
  const raw = yield* readRaw(disc, lba, count);
  for (let i = 0; i < count; i++) {
    const run = runAt(disc, lba + i)!;
    const found = fixedType(run.form) ?? typeOf(run.form, raw, i * RAW);
    if (found !== type) throw wrongType(lba + i, found);
    let at = i * bytes;
    for (const [from, to] of parts) {
      out.set(raw.subarray(i * RAW + from, i * RAW + to), at);
      at += to - from;
    }
    // Q is followed by zeros, and P in the last byte's highest bit, of which nothing is known to be one.
    if (sub > 0) out.set(sub === 96 ? subchannelRaw(disc, lba + i) : subchannelQ(disc, lba + i), (i + 1) * bytes - sub);
  }
  return out;
}

/** Is this a plan that `readPlan` may be given? A save may come from anywhere. */
export function isPlan({ lba, count, bytes, raw }: ReadPlan): boolean {
  if (!isCount(lba) || !isCount(count) || lba + count > 2 ** 32 || count > 2 ** 32) return false;
  if (!raw) return bytes === USER;
  const main = raw.parts.reduce((sum, [from, to]) => sum + to - from, 0);
  const inside = raw.parts.every(([from, to]) => isCount(from) && from <= to && isCount(to) && to <= RAW);
  const known = [0, 294, 296].includes(raw.c2) && [0, 16, 96].includes(raw.sub);
  return inside && known && bytes > 0 && bytes === main + raw.c2 + raw.sub;
}
