// VMware's PVSCSI rings, device half: descriptors → command records with checked segments, completions → descriptors. Rings,
// rings state and segment lists are shared with the guest; each of their fields is loaded once and checked in a local.
import { guestRange } from "../memory";
import {
  HostStatus,
  PvscsiCdb,
  PvscsiCompletion,
  PvscsiElement,
  PvscsiElementFlag,
  PvscsiFlag,
  PvscsiMessage,
  PvscsiPage,
  PvscsiRequest,
  PvscsiRings,
} from "../spec/pvscsi";
import { PvscsiAnswer, PvscsiCapacity, PvscsiContext, PvscsiDone, PvscsiRecord } from "../spec/pvscsi-context";

/** Address of byte `offset` of the ring whose page addresses stand at `pages`. */
function ringAt(pages: usize, offset: u32): usize {
  const page: usize = load<u32>(pages + ((offset >>> PvscsiPage.Shift) << 2));
  return page + (offset & (PvscsiPage.Size - 1));
}

/**
 * Takes what the driver has produced, as far as records, segments and completions hold it, and publishes the consumer index.
 * Records whose refusal is not Success are to be completed with that. Answers PvscsiAnswer. A producer index that promises
 * more than the ring can hold brings nothing: the driver has lost its way, and nobody can tell it.
 */
export function pvscsiConsume(ctx: usize): u32 {
  store<u32>(ctx, 0, PvscsiContext.CommandCount);
  store<u32>(ctx, 0, PvscsiContext.SegmentCount);
  const state: usize = load<u32>(ctx, PvscsiContext.State);
  if (state === 0) return 0;
  const entries = load<u32>(ctx, PvscsiContext.RequestEntries);
  const produced = load<u32>(state, PvscsiRings.RequestProducer);
  const first = load<u32>(ctx, PvscsiContext.Consumed);
  let next = first;
  if (produced - next > entries) return 0;
  let inFlight = load<u32>(ctx, PvscsiContext.InFlight);
  // As many as the request ring holds: a driver that waits for completions before it reuses an entry never has more.
  while (next !== produced && inFlight < entries && roomForAny(ctx)) {
    take(ctx, ringAt(ctx + PvscsiContext.RequestPages, (next & (entries - 1)) * PvscsiRequest.Size));
    next++;
    inFlight++;
  }
  if (next === first) return 0;
  store<u32>(ctx, next, PvscsiContext.Consumed);
  store<u32>(ctx, inFlight, PvscsiContext.InFlight);
  store<u32>(state, next, PvscsiRings.RequestConsumer);
  return next !== produced && inFlight < entries ? PvscsiAnswer.More : 0;
}

/** Room for the widest command there is? Asked before a descriptor is looked at, so that none is ever read twice. */
function roomForAny(ctx: usize): bool {
  return (
    load<u32>(ctx, PvscsiContext.CommandCount) < <u32>PvscsiCapacity.Commands &&
    load<u32>(ctx, PvscsiContext.SegmentCount) <= <u32>(PvscsiCapacity.Segments - PvscsiCapacity.Elements)
  );
}

function take(ctx: usize, at: usize): void {
  const index = load<u32>(ctx, PvscsiContext.CommandCount);
  store<u32>(ctx, index + 1, PvscsiContext.CommandCount);
  const record = ctx + PvscsiContext.Commands + index * PvscsiRecord.Size;
  const flags = load<u32>(at, PvscsiRequest.Flags);
  const dataLength = load<u64>(at, PvscsiRequest.DataLength);
  const length = <u32>min<u64>(dataLength, PvscsiCapacity.Bytes);
  store<u64>(record, load<u64>(at, PvscsiRequest.Context), PvscsiRecord.Context);
  store<u32>(record, <u32>min<u64>(dataLength, 0xffffffff), PvscsiRecord.DataLength);
  store<u32>(record, flags, PvscsiRecord.Flags);
  // CDB length and seven bytes of LUN; the eighth, tag, bus and target.
  const low = load<u64>(at, PvscsiRequest.CdbLength);
  const high = load<u32>(at, PvscsiRequest.Lun + 7);
  store<u64>(record, (low >>> 8) | ((<u64>high) << 56), PvscsiRecord.Lun);
  store<u32>(record, ((high >>> 8) & 0xff00) | (high >>> 24), PvscsiRecord.Target);
  const cdbLength = <u32>low & 0xff;
  store<u32>(record, cdbLength, PvscsiRecord.CdbLength);
  copyCdb(record, at, cdbLength);
  sense(ctx, record, at);
  const fits = cdbLength !== 0 && cdbLength <= <u32>PvscsiCdb.Size && (flags & PvscsiFlag.OutOfBandCdb) === 0;
  const segments = load<u32>(ctx, PvscsiContext.SegmentCount);
  store<u32>(record, segments, PvscsiRecord.FirstSegment);
  const address = load<u64>(at, PvscsiRequest.DataAddress);
  let reached = fits;
  if (fits && length !== 0) {
    if ((flags & PvscsiFlag.List) !== 0) reached = walk(ctx, address, length);
    else reached = segment(ctx, address, length);
  }
  if (!reached) store<u32>(ctx, segments, PvscsiContext.SegmentCount);
  store<u32>(record, load<u32>(ctx, PvscsiContext.SegmentCount) - segments, PvscsiRecord.Segments);
  store<u32>(record, reached ? length : 0, PvscsiRecord.Bytes);
  store<u32>(record, reached ? HostStatus.Success : HostStatus.InvalidParameter, PvscsiRecord.Refusal);
}

/** The bytes past the CDB's length were not sent: they count as zero. */
function copyCdb(record: usize, at: usize, length: u32): void {
  const low = load<u64>(at, PvscsiRequest.Cdb);
  const high = load<u64>(at, PvscsiRequest.Cdb + 8);
  store<u64>(record, length >= 8 ? low : low & (((<u64>1) << (length << 3)) - 1), PvscsiRecord.Cdb);
  const rest = length <= 8 ? 0 : length - 8;
  store<u64>(record, rest >= 8 ? high : high & (((<u64>1) << (rest << 3)) - 1), PvscsiRecord.Cdb + 8);
}

/** A sense buffer outside RAM is none. */
function sense(ctx: usize, record: usize, at: usize): void {
  const address = load<u64>(at, PvscsiRequest.SenseAddress);
  const length = load<u32>(at, PvscsiRequest.SenseLength);
  const start = length === 0 ? 0 : locate(ctx, address, length);
  store<u32>(record, <u32>start, PvscsiRecord.Sense);
  store<u32>(record, start === 0 ? 0 : length, PvscsiRecord.SenseLength);
  store<u32>(record, <u32>address, PvscsiRecord.SenseAddress);
}

function locate(ctx: usize, address: u64, length: u32): usize {
  const base = load<u32>(ctx, PvscsiContext.RamBase);
  const size = load<u32>(ctx, PvscsiContext.RamSize);
  return guestRange(base, size, <u32>address, <u32>(address >>> 32), length);
}

/** Appends a segment; false when it is not in RAM. */
function segment(ctx: usize, address: u64, length: u32): bool {
  const start = locate(ctx, address, length);
  if (start === 0) return false;
  const index = load<u32>(ctx, PvscsiContext.SegmentCount);
  store<u32>(ctx, index + 1, PvscsiContext.SegmentCount);
  const at = ctx + PvscsiContext.Segments + (index << 3);
  store<u32>(at, <u32>start);
  store<u32>(at, length, 4);
  return true;
}

/** Follows a list until it has `length` bytes; false when it leads outside RAM or goes on for too long. */
function walk(ctx: usize, address: u64, length: u32): bool {
  let left = length;
  for (let budget: u32 = PvscsiCapacity.Elements; budget !== 0; budget--) {
    const at = locate(ctx, address, PvscsiElement.Size);
    if (at === 0) return false;
    const start = load<u64>(at, PvscsiElement.Address);
    const bytes = load<u32>(at, PvscsiElement.Length);
    const flags = load<u32>(at, PvscsiElement.Flags);
    address += PvscsiElement.Size;
    if ((flags & PvscsiElementFlag.Chain) !== 0) address = start;
    else if (bytes !== 0) {
      const part = min<u32>(bytes, left);
      if (!segment(ctx, start, part)) return false;
      left -= part;
      if (left === 0) return true;
    }
  }
  return false;
}

/**
 * Writes the first `count` of `PvscsiContext.Done` to the completion ring and publishes them; PvscsiAnswer. That there is room
 * is the driver's to see to: it has no more commands under way than that ring holds, or it loses its own completions.
 */
export function pvscsiComplete(ctx: usize, count: u32): u32 {
  const inFlight = load<u32>(ctx, PvscsiContext.InFlight);
  store<u32>(ctx, inFlight - count, PvscsiContext.InFlight);
  const state: usize = load<u32>(ctx, PvscsiContext.State);
  if (state === 0 || count === 0) return 0;
  const mask = load<u32>(ctx, PvscsiContext.CompletionEntries) - 1;
  let next = load<u32>(ctx, PvscsiContext.Completed);
  let done = ctx + PvscsiContext.Done;
  for (let i: u32 = 0; i < count; i++, done += PvscsiDone.Size) {
    const at = ringAt(ctx + PvscsiContext.CompletionPages, (next++ & mask) * PvscsiCompletion.Size);
    store<u64>(at, load<u64>(done, PvscsiDone.Context), PvscsiCompletion.Context);
    store<u64>(at, load<u32>(done, PvscsiDone.DataLength), PvscsiCompletion.DataLength);
    store<u32>(at, load<u32>(done, PvscsiDone.SenseLength), PvscsiCompletion.SenseLength);
    store<u32>(at, load<u32>(done, PvscsiDone.Status), PvscsiCompletion.HostStatus);
    store<u64>(at, 0, PvscsiCompletion.Padding);
  }
  store<u32>(ctx, next, PvscsiContext.Completed);
  store<u32>(state, next, PvscsiRings.CompletionProducer);
  // What had to wait for room among the commands in flight need not wait any longer.
  return inFlight === load<u32>(ctx, PvscsiContext.RequestEntries)
    ? PvscsiAnswer.Interrupt | PvscsiAnswer.More
    : PvscsiAnswer.Interrupt;
}

/** Tells the driver, on the message ring, of a target that has come or gone; PvscsiAnswer, 0 when there is no room for it. */
export function pvscsiMessage(ctx: usize, type: u32, target: u32): u32 {
  const state: usize = load<u32>(ctx, PvscsiContext.State);
  const entries = load<u32>(ctx, PvscsiContext.MessageEntries);
  if (state === 0 || entries === 0) return 0;
  const next = load<u32>(ctx, PvscsiContext.Messages);
  if (next - load<u32>(state, PvscsiRings.MessageConsumer) >= entries) return 0;
  const at = ringAt(ctx + PvscsiContext.MessagePages, (next & (entries - 1)) * PvscsiMessage.Size);
  for (let i: u32 = 0; i < <u32>PvscsiMessage.Size; i += 8) store<u64>(at + i, 0);
  store<u32>(at, type, PvscsiMessage.Type);
  store<u32>(at, target, PvscsiMessage.Target);
  store<u32>(ctx, next + 1, PvscsiContext.Messages);
  store<u32>(state, next + 1, PvscsiRings.MessageProducer);
  return PvscsiAnswer.Interrupt;
}
