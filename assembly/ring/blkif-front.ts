// The front half of Xen's block protocol (io/blkif.h), run by the guest's driver: request table → ring, ring → completions.
// Grants are made per request and ended with its response; the back end is not trusted to answer what was asked.
import { requestAt, segmentAt } from "../memory";
import { BlockOp, BlockStatus, RequestField, SegmentField } from "../spec/request";
import {
  BlkifBody,
  BlkifDiscard,
  BlkifIndirect,
  BlkifLimit,
  BlkifOp,
  BlkifResponse,
  BlkifSegment,
  BlkifStatus,
  GrantEntry,
  Gtf,
  Sring,
  XenPage,
} from "../spec/xen";
import { BlkfrontContext, BlkfrontShadow, RingContext, RingResult } from "../spec/xen-context";
import { ringCommit, ringProducer, ringPush, ringRead, ringWrite } from "./xen";

/**
 * Puts the first `count` records of `table` on the ring; their tags are free request ids, their segments guest-physical
 * and inside RAM. A record that cannot be expressed (not whole sectors, too many pages) is refused with status
 * Unsupported and its id stays free. Answers RingResult bits: Notify, Refused.
 */
export function xenFrontSubmit(front: usize, table: usize, count: u32): u32 {
  const old = load<u32>(front, RingContext.Produced);
  let index = old;
  let result: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    const record = requestAt(table, i);
    const segments = build(front, table, record, index);
    if (segments < 0) {
      store<u32>(record, BlockStatus.Unsupported, RequestField.Status);
      result |= RingResult.Refused;
    } else index++;
  }
  store<u32>(front, index, RingContext.Produced);
  if (index !== old && ringPush(front, Sring.ReqProd, old)) result |= RingResult.Notify;
  return result;
}

/** Builds ring entry `index` from `record`; answers its number of segments, or -1 when refused. */
function build(front: usize, table: usize, record: usize, index: u32): i32 {
  const id = load<u32>(record, RequestField.Tag);
  const block = load<u32>(record, RequestField.Op);
  const shift = load<u32>(front, BlkfrontContext.SectorShift);
  const entry = ringWrite(front, index);
  const body = entry + load<u32>(front, BlkfrontContext.Body);
  const sector = <u64>load<f64>(record, RequestField.Offset) >>> shift;
  let header: u32 = 0;
  let answer: u32 = 0;
  let segments: i32 = 0;
  if (block === BlockOp.Read || block === BlockOp.Write) {
    answer = block === BlockOp.Read ? BlkifOp.Read : BlkifOp.Write;
    const pages = countPages(front, table, record);
    if (pages === 0 || pages > load<u32>(front, BlkfrontContext.MaxSegments)) return -1;
    segments = pages;
    let to = body + BlkifBody.Segments;
    if (pages > <u32>BlkifLimit.Segments) {
      header = BlkifOp.Indirect | (answer << 8) | (pages << 16);
      const page = load<u32>(front, BlkfrontContext.IndirectPages) + id * XenPage.Size;
      to = <usize>load<u32>(front, BlkfrontContext.RamBase) + page;
      store<u32>(body, 0, BlkifIndirect.Handle);
      store<u32>(body, load<u32>(front, BlkfrontContext.IndirectRef) + id, BlkifIndirect.Refs);
    } else header = answer | (pages << 8);
    grantPages(front, table, record, id, to, block === BlockOp.Write);
  } else if (block === BlockOp.Flush) {
    header = answer = load<u32>(front, BlkfrontContext.FlushOp);
  } else if (block === BlockOp.Discard) {
    header = answer = BlkifOp.Discard;
    store<u64>(body, <u64>load<f64>(record, RequestField.Length) >>> shift, BlkifDiscard.Sectors);
  } else return -1;
  store<u32>(entry, header);
  store<u64>(body, id, BlkifBody.Id);
  store<u64>(body, sector, BlkifBody.Sector);
  ringCommit(front, index, entry, load<u32>(front, RingContext.Stride));
  const shadow: usize = load<u32>(front, BlkfrontContext.Shadow) + id * 4;
  store<u32>(shadow, BlkfrontShadow.InUse | (answer << BlkfrontShadow.OperationShift) | segments);
  return segments;
}

/** Pages that the record's segments touch; 0 when one is not whole sectors. */
function countPages(front: usize, table: usize, record: usize): u32 {
  const partial = (1 << load<u32>(front, BlkfrontContext.SectorShift)) - 1;
  let at = segmentAt(table, load<u32>(record, RequestField.FirstSegment));
  let pages: u32 = 0;
  for (let left = load<u32>(record, RequestField.Segments); left > 0; left--, at += SegmentField.Size) {
    const start = load<u32>(at, SegmentField.Start);
    const length = load<u32>(at, SegmentField.Length);
    if (length === 0 || ((start | length) & partial) !== 0) return 0;
    pages += ((start & (XenPage.Size - 1)) + length + (XenPage.Size - 1)) >>> XenPage.Shift;
  }
  return pages;
}

/** Grants every page of the record to the back end and writes the segment records at `to`. */
function grantPages(front: usize, table: usize, record: usize, id: u32, to: usize, readOnly: bool): void {
  const shift = load<u32>(front, BlkfrontContext.SectorShift);
  let ref = load<u32>(front, BlkfrontContext.FirstRef) + id * load<u32>(front, BlkfrontContext.MaxSegments);
  let grant: usize = load<u32>(front, BlkfrontContext.GrantTable) + ref * GrantEntry.Size;
  const flags: u32 =
    Gtf.PermitAccess | (readOnly ? Gtf.ReadOnly : 0) | (load<u32>(front, BlkfrontContext.Domain) << 16);
  let at = segmentAt(table, load<u32>(record, RequestField.FirstSegment));
  for (let left = load<u32>(record, RequestField.Segments); left > 0; left--, at += SegmentField.Size) {
    let start = load<u32>(at, SegmentField.Start);
    let length = load<u32>(at, SegmentField.Length);
    while (length > 0) {
      const offset = start & (XenPage.Size - 1);
      const part = min<u32>(length, XenPage.Size - offset);
      // The frame first, then domain and flags in one store: the entry is valid from then on (grant_table.h).
      store<u32>(grant, start >>> XenPage.Shift, GrantEntry.Frame);
      store<u32>(grant, flags, GrantEntry.Flags);
      const sectors = (offset >>> shift) | (((offset + part - 1) >>> shift) << 8);
      store<u64>(to, <u64>ref | ((<u64>sectors) << 32));
      start += part;
      length -= part;
      ref++;
      grant += GrantEntry.Size;
      to += BlkifSegment.Size;
    }
  }
}

/**
 * Takes responses off the ring; each becomes a completion word, its id free again and its grants ended. Answers their
 * number, or RingResult.Fatal << 16 when the back end broke the protocol. Call until it answers 0: that call is the
 * final check, for the back end notifies again only from here on.
 */
export function xenFrontPoll(front: usize): u32 {
  if (load<u32>(front, BlkfrontContext.Broken) !== 0) return RingResult.Fatal << 16;
  let index = load<u32>(front, RingContext.Consumed);
  const produced = ringProducer(front, Sring.RspProd);
  if (produced === index) return 0;
  let to: usize = load<u32>(front, BlkfrontContext.Completions);
  const count = produced - index;
  let good = count <= load<u32>(front, RingContext.Produced) - index;
  for (; good && index !== produced; index++, to += 4) {
    good = take(front, ringRead(front, index), to);
  }
  if (!good) {
    store<u32>(front, 1, BlkfrontContext.Broken);
    return RingResult.Fatal << 16;
  }
  store<u32>(front, index, RingContext.Consumed);
  store<u32>(<usize>load<u32>(front, RingContext.Pages), index + 1, Sring.RspEvent);
  return count;
}

/** Checks the response at `entry` against what is outstanding and writes its completion word. */
function take(front: usize, entry: usize, to: usize): bool {
  const id = load<u64>(entry, BlkifResponse.Id);
  const word = load<u32>(entry, BlkifResponse.Operation);
  if (id >= load<u32>(front, RingContext.Entries)) return false;
  const slot: usize = load<u32>(front, BlkfrontContext.Shadow) + ((<u32>id) << 2);
  const shadow = load<u32>(slot);
  const answer = (shadow >>> BlkfrontShadow.OperationShift) & 0xff;
  if ((shadow & BlkfrontShadow.InUse) === 0 || (word & 0xff) !== answer) return false;
  const code = <i32>word >> 16;
  let status: u32 = BlockStatus.Io;
  if (code === BlkifStatus.Okay) status = BlockStatus.Ok;
  else if (code === BlkifStatus.NotSupported) status = BlockStatus.Unsupported;
  else if (code !== BlkifStatus.Error) return false;
  if (!endGrants(front, <u32>id, shadow & BlkfrontShadow.SegmentsMask)) return false;
  store<u32>(slot, 0);
  store<u32>(to, <u32>id | (status << 16));
  return true;
}

/** gnttab_end_foreign_access of each page; false when the back end still has one mapped. */
function endGrants(front: usize, id: u32, segments: u32): bool {
  const ref = load<u32>(front, BlkfrontContext.FirstRef) + id * load<u32>(front, BlkfrontContext.MaxSegments);
  let entry: usize = load<u32>(front, BlkfrontContext.GrantTable) + ref * GrantEntry.Size;
  for (; segments > 0; segments--, entry += GrantEntry.Size) {
    if ((load<u16>(entry, GrantEntry.Flags) & (Gtf.Reading | Gtf.Writing)) !== 0) return false;
    store<u16>(entry, Gtf.Invalid, GrantEntry.Flags);
  }
  return true;
}
