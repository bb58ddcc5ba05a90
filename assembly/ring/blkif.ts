// The back half of Xen's block protocol (io/blkif.h): ring → request table, statuses → responses. The ring, the indirect
// pages and the grant table are shared with the guest; each of their fields is loaded once and checked in a local.
import { pushRequest, pushSegment, tableReset } from "../memory";
import { BlockOp, BlockStatus, RequestField, SegmentField, TableField } from "../spec/request";
import {
  Blkif64,
  BlkifBody,
  BlkifDiscard,
  BlkifIndirect,
  BlkifLimit,
  BlkifOp,
  BlkifResponse,
  BlkifSegment,
  BlkifStatus,
  Sring,
  XenPage,
} from "../spec/xen";
import { BlkbackContext, BlkbackFeature, BlkifRecord, RingContext, RingResult } from "../spec/xen-context";
import { grantMap, grantUnmap } from "./grant";
import { ringCommit, ringFinalCheck, ringProducer, ringPush, ringRead, ringWrite } from "./xen";

/** Records one ring entry may become: flush, write, flush. */
const enum Most {
  Records = 3,
}

/** Address of the grant reference behind segment record `index`: an array after the table's segments. */
function segmentRef(table: usize, index: u32): usize {
  const requests = load<u32>(table, TableField.RequestCapacity) * RequestField.Size;
  const segments = load<u32>(table, TableField.SegmentCapacity) * SegmentField.Size;
  return table + TableField.Records + requests + segments + index * 4;
}

function hasRoom(back: usize, table: usize): bool {
  const segments = max<u32>(
    BlkifLimit.Segments,
    load<u32>(back, BlkbackContext.MaxIndirect) + BlkifLimit.IndirectPages,
  );
  return (
    load<u32>(table, TableField.RequestCapacity) - load<u32>(table, TableField.RequestCount) >= <u32>Most.Records &&
    load<u32>(table, TableField.SegmentCapacity) - load<u32>(table, TableField.SegmentCount) >= segments
  );
}

/**
 * Takes requests off the ring into `table` (whose segments are followed by one u32 each for the grant reference) until
 * either is exhausted. Refused requests are records with a final status; all others are Pending. Answers RingResult
 * bits: Fatal when the guest's producer index promises more than the ring can hold (RING_REQUEST_PROD_OVERFLOW), Barrier.
 */
export function xenBackConsume(back: usize, table: usize): u32 {
  tableReset(table);
  if (load<u32>(back, BlkbackContext.Broken) !== 0) return RingResult.Fatal;
  const produced = ringProducer(back, Sring.ReqProd);
  let index = load<u32>(back, RingContext.Consumed);
  const inFlight = index - load<u32>(back, RingContext.Produced);
  if (produced - index > load<u32>(back, RingContext.Entries) - inFlight) {
    store<u32>(back, 1, BlkbackContext.Broken);
    return RingResult.Fatal;
  }
  let result: u32 = 0;
  while (index !== produced && hasRoom(back, table)) {
    if (consume(back, table, ringRead(back, index++))) result |= RingResult.Barrier;
  }
  store<u32>(back, index, RingContext.Consumed);
  return result;
}

/** Appends the record or records of the entry at `entry`; true if it is a barrier. */
function consume(back: usize, table: usize, entry: usize): bool {
  const header = load<u32>(entry); // operation, nr_segments or flag or indirect_op, handle or nr_segments
  const body = entry + load<u32>(back, BlkbackContext.Body);
  const id = load<u64>(body, BlkifBody.Id);
  const sector = load<u64>(body, BlkifBody.Sector);
  const features = load<u32>(back, BlkbackContext.Features);
  const op = header & 0xff;
  const segments = (header >>> 8) & 0xff;
  switch (op) {
    case BlkifOp.Read:
    case BlkifOp.Write:
      transfer(back, table, op, id, sector, body + BlkifBody.Segments, segments);
      return false;
    case BlkifOp.WriteBarrier:
      if ((features & BlkbackFeature.Barrier) === 0) break;
      push(table, BlockOp.Flush, BlockStatus.Pending, 0, 0, id, op, segments !== 0);
      if (segments === 0) return true;
      if (transfer(back, table, op, id, sector, body + BlkifBody.Segments, segments)) {
        push(table, BlockOp.Flush, BlockStatus.Pending, 0, 0, id, op, false);
      }
      return true;
    case BlkifOp.FlushDiskcache:
      if ((features & BlkbackFeature.Flush) === 0) break;
      push(table, BlockOp.Flush, BlockStatus.Pending, 0, 0, id, op, segments !== 0);
      if (segments !== 0) transfer(back, table, op, id, sector, body + BlkifBody.Segments, segments);
      return false;
    case BlkifOp.Discard:
      if ((features & BlkbackFeature.Discard) === 0) break;
      discard(back, table, id, sector, load<u64>(body, BlkifDiscard.Sectors));
      return false;
    case BlkifOp.Indirect:
      if (load<u32>(back, BlkbackContext.MaxIndirect) === 0) break;
      indirect(back, table, segments, id, sector, body + BlkifIndirect.Refs, header >>> 16);
      return false;
  }
  push(table, BlockOp.Read, BlockStatus.Unsupported, 0, 0, id, op, false);
  return false;
}

/**
 * A read or write of the `count` segments recorded at `from`. A failure becomes a record with that status; returns false
 * then. A write that stands in a barrier is linked to the flush that follows it.
 */
function transfer(back: usize, table: usize, op: u32, id: u64, sector: u64, from: usize, count: u32): bool {
  const first = load<u32>(table, TableField.SegmentCount);
  const write = op !== BlkifOp.Read;
  let status: u32 = BlockStatus.Pending;
  let length: u32 = 0;
  if (count === 0 || count > <u32>BlkifLimit.Segments) status = BlockStatus.Io;
  else length = mapSegments(back, table, from, count, write);
  return finish(back, table, op, id, sector, first, length, status);
}

/** BLKIF_OP_INDIRECT: the segment records stand in pages of their own, granted read-only or better. */
function indirect(back: usize, table: usize, op: u32, id: u64, sector: u64, refs: usize, count: u32): void {
  const first = load<u32>(table, TableField.SegmentCount);
  const grants: usize = load<u32>(back, BlkbackContext.Grants);
  const domain = load<u32>(back, BlkbackContext.Domain);
  let status: u32 = BlockStatus.Pending;
  if (op > <u32>BlkifOp.Write || count === 0 || count > load<u32>(back, BlkbackContext.MaxIndirect))
    status = BlockStatus.Io;
  let length: u32 = 0;
  for (let done: u32 = 0; status === BlockStatus.Pending && done < count; done += BlkifLimit.SegmentsPerPage) {
    const ref = load<u32>(refs);
    refs += 4;
    const page = grantMap(grants, domain, ref, false);
    const part = min<u32>(count - done, BlkifLimit.SegmentsPerPage);
    // An empty segment keeps the page mapped until completion: unmapping it here would read the grant entry again.
    if (page !== 0) hold(table, ref, <u32>page, 0);
    const bytes = page === 0 ? 0 : mapSegments(back, table, page, part, op !== BlkifOp.Read);
    length = bytes === 0 ? 0 : length + bytes;
    if (bytes === 0) status = BlockStatus.Io;
  }
  // Linux answers with the operation carried out, not BLKIF_OP_INDIRECT, and its front end checks for that.
  finish(back, table, op, id, sector, first, length, status);
}

/** Appends `count` segments, their pages mapped; answers their bytes, 0 when one of them is bad. */
function mapSegments(back: usize, table: usize, from: usize, count: u32, write: bool): u32 {
  const grants: usize = load<u32>(back, BlkbackContext.Grants);
  const domain = load<u32>(back, BlkbackContext.Domain);
  const shift = load<u32>(back, BlkbackContext.SectorShift);
  let bytes: u32 = 0;
  for (let i: u32 = 0; i < count; i++, from += BlkifSegment.Size) {
    const segment = load<u64>(from);
    const firstSector = <u32>(segment >>> 32) & 0xff;
    const lastSector = <u32>(segment >>> 40) & 0xff;
    if (firstSector > lastSector || lastSector >= <u32>XenPage.Size >>> shift) return 0;
    // The guest grants write access to what we are to fill, that is, what it reads.
    const page = grantMap(grants, domain, <u32>segment, !write);
    if (page === 0) return 0;
    const length = (lastSector - firstSector + 1) << shift;
    hold(table, <u32>segment, <u32>page + (firstSector << shift), length);
    bytes += length;
  }
  return bytes;
}

/** A segment and the reference to unmap with it. */
function hold(table: usize, ref: u32, start: u32, length: u32): void {
  store<u32>(segmentRef(table, load<u32>(table, TableField.SegmentCount)), ref);
  pushSegment(table, start, length);
}

/** Range check and record of a transfer; true when it may proceed. */
function finish(back: usize, table: usize, op: u32, id: u64, sector: u64, first: u32, length: u32, status: u32): bool {
  const capacity = load<u64>(back, BlkbackContext.Sectors);
  const shift = load<u32>(back, BlkbackContext.SectorShift);
  if (length === 0) status = BlockStatus.Io;
  else if (op !== BlkifOp.Read && (load<u32>(back, BlkbackContext.Features) & BlkbackFeature.ReadOnly) !== 0) {
    status = BlockStatus.ReadOnly;
  } else if (sector > capacity || length >>> shift > capacity - sector) status = BlockStatus.OutOfRange;
  const block: u32 = op === BlkifOp.Read ? BlockOp.Read : BlockOp.Write;
  const offset = status === BlockStatus.Pending ? <f64>(sector << shift) : 0;
  const at = pushRequest(table, block, status, offset, length, first, 0);
  const pending = status === BlockStatus.Pending;
  mark(at, id, op, pending && op === BlkifOp.WriteBarrier);
  return pending;
}

function discard(back: usize, table: usize, id: u64, sector: u64, count: u64): void {
  const capacity = load<u64>(back, BlkbackContext.Sectors);
  const shift = load<u32>(back, BlkbackContext.SectorShift);
  let status: u32 = BlockStatus.Pending;
  if ((load<u32>(back, BlkbackContext.Features) & BlkbackFeature.ReadOnly) !== 0) status = BlockStatus.ReadOnly;
  else if (sector > capacity || count > capacity - sector) status = BlockStatus.OutOfRange;
  else if (count === 0) status = BlockStatus.Ok;
  const known = status === BlockStatus.Pending;
  const offset = known ? <f64>(sector << shift) : 0;
  const length = known ? <f64>(count << shift) : 0;
  push(table, BlockOp.Discard, status, offset, length, id, BlkifOp.Discard, false);
}

/** A record without segments. */
function push(table: usize, op: u32, status: u32, offset: f64, length: f64, id: u64, answer: u32, linked: bool): void {
  const at = pushRequest(table, op, status, offset, length, load<u32>(table, TableField.SegmentCount), 0);
  mark(at, id, answer, linked);
}

function mark(at: usize, id: u64, answer: u32, linked: bool): void {
  store<u64>(at, id, BlkifRecord.Id);
  store<u32>(at, answer, BlkifRecord.Operation);
  store<u32>(at, linked ? 1 : 0, BlkifRecord.Linked);
}

/**
 * Answers the first `count` records of `table`, whose statuses are final: unmaps their pages, writes their responses,
 * publishes them together, and re-arms the guest's event. Answers RingResult bits: Notify when the guest asked to be told
 * of these, More when requests have come meanwhile.
 */
export function xenBackComplete(back: usize, table: usize, count: u32): u32 {
  const grants: usize = load<u32>(back, BlkbackContext.Grants);
  const broken = load<u32>(back, BlkbackContext.Broken) !== 0; // then nothing is written to the ring either
  const old = load<u32>(back, RingContext.Produced);
  let produced = old;
  let carried: u32 = BlockStatus.Ok;
  let at = table + TableField.Records;
  for (let i: u32 = 0; i < count; i++, at += RequestField.Size) {
    let ref = segmentRef(table, load<u32>(at, RequestField.FirstSegment));
    const end = ref + load<u32>(at, RequestField.Segments) * 4;
    for (; ref < end; ref += 4) grantUnmap(grants, load<u32>(ref));
    if (carried === BlockStatus.Ok) carried = load<u32>(at, RequestField.Status);
    if (broken || load<u32>(at, BlkifRecord.Linked) !== 0) continue;
    respond(back, produced++, load<u64>(at, BlkifRecord.Id), load<u32>(at, BlkifRecord.Operation), carried);
    carried = BlockStatus.Ok;
  }
  if (broken) return RingResult.Fatal;
  store<u32>(back, produced, RingContext.Produced);
  let result: u32 = 0;
  if (produced !== old && ringPush(back, Sring.RspProd, old)) result = RingResult.Notify;
  if (ringFinalCheck(back, Sring.ReqProd)) result |= RingResult.More;
  return result;
}

/** Every byte of the response is written, its padding too: an entry must not carry host memory to the guest (XSA-216). */
function respond(back: usize, index: u32, id: u64, op: u32, status: u32): void {
  let code: i32 = BlkifStatus.Error;
  if (status === BlockStatus.Ok) code = BlkifStatus.Okay;
  else if (status === BlockStatus.Unsupported) code = BlkifStatus.NotSupported;
  const at = ringWrite(back, index);
  const wide = load<u32>(back, BlkbackContext.Body) === Blkif64.Body;
  store<u64>(at, id, BlkifResponse.Id);
  store<u32>(at, (op & 0xff) | ((<u32>code & 0xffff) << 16), BlkifResponse.Operation);
  if (wide) store<u32>(at, 0, BlkifResponse.Operation + 4);
  ringCommit(back, index, at, wide ? 16 : 12);
}
