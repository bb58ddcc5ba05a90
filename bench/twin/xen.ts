import { BlockOp, BlockStatus, RequestField, SegmentField, TableField } from "../../assembly/spec/request.ts";
import {
  Blkif64,
  BlkifBody,
  BlkifDiscard,
  BlkifIndirect,
  BlkifLimit,
  BlkifOp,
  BlkifResponse,
  BlkifStatus,
  Gtf,
  Sring,
  XenPage,
} from "../../assembly/spec/xen.ts";
import {
  BlkbackContext,
  BlkbackFeature,
  BlkifRecord,
  GrantContext,
  RingContext,
  RingResult,
} from "../../assembly/spec/xen-context.ts";

const FLAGS = 0xfff;
const RECORD = RequestField.Size / 4;

/**
 * assembly/ring/blkif.ts and grant.ts in TypeScript as we would write them without WebAssembly, over a memory of the same
 * layout: 32-bit views, what is private loaded once a call, the table's counts kept aside until its end. One difference is
 * left out on purpose: rings of several pages, which the bench does not use.
 */
export class XenTwin {
  readonly i32: Int32Array;
  readonly u16: Uint16Array;
  readonly f64: Float64Array;
  // What a call loads from the contexts; indices are of words.
  private table = 0;
  private segmentsAt = 0;
  private refsAt = 0;
  private requests = 0;
  private segments = 0;
  private shift = 0;
  private sectors = 0.5;
  private features = 0;
  private maxIndirect = 0;
  private domain = 0;
  private grants = 0;
  private shared = 0;
  private active = 0;
  private ramBase = 0;
  private ramSize = 0;

  constructor(memory: Uint8Array) {
    const copy = memory.slice();
    this.i32 = new Int32Array(copy.buffer);
    this.u16 = new Uint16Array(copy.buffer);
    this.f64 = new Float64Array(copy.buffer);
  }

  consume(back: number, table: number): number {
    const { i32 } = this;
    const b = back >>> 2;
    const t = table >>> 2;
    i32[t + TableField.RequestCount / 4] = 0;
    i32[t + TableField.SegmentCount / 4] = 0;
    if (i32[b + BlkbackContext.Broken / 4] !== 0) return RingResult.Fatal;
    const ring = i32[b + RingContext.Pages / 4] >>> 2;
    const produced = i32[ring + Sring.ReqProd / 4];
    const entries = i32[b + RingContext.Entries / 4];
    let index = i32[b + RingContext.Consumed / 4];
    const inFlight = (index - i32[b + RingContext.Produced / 4]) | 0;
    if ((produced - index) >>> 0 > (entries - inFlight) >>> 0) {
      i32[b + BlkbackContext.Broken / 4] = 1;
      return RingResult.Fatal;
    }
    this.begin(b, t);
    const requestLimit = i32[t + TableField.RequestCapacity / 4] - 3;
    const widest = Math.max(BlkifLimit.Segments, this.maxIndirect + BlkifLimit.IndirectPages);
    const segmentLimit = i32[t + TableField.SegmentCapacity / 4] - widest;
    const stride = i32[b + RingContext.Stride / 4] >>> 2;
    const body = i32[b + BlkbackContext.Body / 4] >>> 2;
    let result = 0;
    while (index !== produced && this.requests <= requestLimit && this.segments <= segmentLimit) {
      const entry = ring + Sring.Entries / 4 + (index & (entries - 1)) * stride;
      index = (index + 1) | 0;
      const header = i32[entry];
      const op = header & 0xff;
      const id = i32[entry + body];
      const idHigh = i32[entry + body + 1];
      const sector = (i32[entry + body + 3] >>> 0) * 4294967296 + (i32[entry + body + 2] >>> 0);
      if (op <= BlkifOp.Write) {
        this.transfer(op, id, idHigh, sector, entry + body + BlkifBody.Segments / 4, (header >>> 8) & 0xff);
      } else if (this.seldom(header, id, idHigh, sector, entry + body)) result |= RingResult.Barrier;
    }
    i32[b + RingContext.Consumed / 4] = index;
    i32[t + TableField.RequestCount / 4] = this.requests;
    i32[t + TableField.SegmentCount / 4] = this.segments;
    return result;
  }

  private begin(b: number, t: number): void {
    const { i32 } = this;
    this.table = t + TableField.Records / 4;
    this.segmentsAt = this.table + i32[t + TableField.RequestCapacity / 4] * RECORD;
    this.refsAt = this.segmentsAt + (i32[t + TableField.SegmentCapacity / 4] * SegmentField.Size) / 4;
    this.requests = 0;
    this.segments = 0;
    this.shift = i32[b + BlkbackContext.SectorShift / 4];
    this.sectors =
      (i32[b + BlkbackContext.Sectors / 4 + 1] >>> 0) * 4294967296 + (i32[b + BlkbackContext.Sectors / 4] >>> 0);
    this.features = i32[b + BlkbackContext.Features / 4];
    this.maxIndirect = i32[b + BlkbackContext.MaxIndirect / 4];
    this.domain = i32[b + BlkbackContext.Domain / 4];
    const grants = i32[b + BlkbackContext.Grants / 4] >>> 2;
    this.grants = i32[grants + GrantContext.Entries / 4];
    this.shared = i32[grants + GrantContext.Shared / 4] >>> 2;
    this.active = i32[grants + GrantContext.Active / 4] >>> 2;
    this.ramBase = i32[grants + GrantContext.RamBase / 4] >>> 0;
    this.ramSize = i32[grants + GrantContext.RamSize / 4] >>> 0;
  }

  /** Everything but reads and writes; true when it is a barrier. */
  private seldom(header: number, id: number, idHigh: number, sector: number, body: number): boolean {
    const op = header & 0xff;
    const segments = (header >>> 8) & 0xff;
    const at = body + BlkifBody.Segments / 4;
    if (op === BlkifOp.WriteBarrier && this.features & BlkbackFeature.Barrier) {
      this.push(BlockOp.Flush, BlockStatus.Pending, 0, 0, id, idHigh, op, segments !== 0);
      if (segments === 0) return true;
      if (this.transfer(op, id, idHigh, sector, at, segments)) {
        this.push(BlockOp.Flush, BlockStatus.Pending, 0, 0, id, idHigh, op, false);
      }
      return true;
    }
    if (op === BlkifOp.FlushDiskcache && this.features & BlkbackFeature.Flush) {
      this.push(BlockOp.Flush, BlockStatus.Pending, 0, 0, id, idHigh, op, segments !== 0);
      if (segments !== 0) this.transfer(op, id, idHigh, sector, at, segments);
    } else if (op === BlkifOp.Discard && this.features & BlkbackFeature.Discard) {
      this.discard(id, idHigh, sector, body + BlkifDiscard.Sectors / 4);
    } else if (op === BlkifOp.Indirect && this.maxIndirect !== 0) {
      this.indirect(segments, id, idHigh, sector, body + BlkifIndirect.Refs / 4, header >>> 16);
    } else this.push(BlockOp.Read, BlockStatus.Unsupported, 0, 0, id, idHigh, op, false);
    return false;
  }

  private transfer(op: number, id: number, idHigh: number, sector: number, from: number, count: number): boolean {
    const first = this.segments;
    let status: number = BlockStatus.Pending;
    let length = 0;
    if (count === 0 || count > BlkifLimit.Segments) status = BlockStatus.Io;
    else length = this.mapSegments(from, count, op === BlkifOp.Read);
    return this.finish(op, id, idHigh, sector, first, length, status);
  }

  private indirect(op: number, id: number, idHigh: number, sector: number, refs: number, count: number): void {
    const first = this.segments;
    let status: number = BlockStatus.Pending;
    if (op > BlkifOp.Write || count === 0 || count > this.maxIndirect) status = BlockStatus.Io;
    let length = 0;
    for (let done = 0; status === BlockStatus.Pending && done < count; done += BlkifLimit.SegmentsPerPage) {
      const ref = this.i32[refs++];
      const page = this.grantMap(ref, false);
      let bytes = 0;
      if (page !== 0) {
        this.hold(ref, page, 0);
        bytes = this.mapSegments(page >>> 2, Math.min(count - done, BlkifLimit.SegmentsPerPage), op === BlkifOp.Read);
      }
      length = bytes === 0 ? 0 : length + bytes;
      if (bytes === 0) status = BlockStatus.Io;
    }
    this.finish(op, id, idHigh, sector, first, length, status);
  }

  /** Bytes of the `count` segments at word `from`, their pages mapped; 0 when one is bad. */
  private mapSegments(from: number, count: number, fill: boolean): number {
    const { i32 } = this;
    const shift = this.shift;
    const perPage = XenPage.Size >>> shift;
    let bytes = 0;
    for (let i = 0; i < count; i++, from += 2) {
      const ref = i32[from];
      const sectors = i32[from + 1];
      const first = sectors & 0xff;
      const last = (sectors >>> 8) & 0xff;
      if (first > last || last >= perPage) return 0;
      const page = this.grantMap(ref, fill);
      if (page === 0) return 0;
      const length = (last - first + 1) << shift;
      this.hold(ref, page + (first << shift), length);
      bytes += length;
    }
    return bytes;
  }

  private hold(ref: number, start: number, length: number): void {
    const { i32 } = this;
    const index = this.segments;
    i32[this.refsAt + index] = ref;
    i32[this.segmentsAt + index * 2] = start;
    i32[this.segmentsAt + index * 2 + 1] = length;
    this.segments = index + 1;
  }

  private finish(
    op: number,
    id: number,
    idHigh: number,
    sector: number,
    first: number,
    length: number,
    status: number,
  ) {
    if (length === 0) status = BlockStatus.Io;
    else if (op !== BlkifOp.Read && this.features & BlkbackFeature.ReadOnly) status = BlockStatus.ReadOnly;
    else if (sector > this.sectors || length >>> this.shift > this.sectors - sector) status = BlockStatus.OutOfRange;
    const pending = status === BlockStatus.Pending;
    const block = op === BlkifOp.Read ? BlockOp.Read : BlockOp.Write;
    const offset = pending ? sector * (1 << this.shift) : 0;
    const linked = pending && op === BlkifOp.WriteBarrier;
    this.record(block, status, offset, length, first, id, idHigh, op, linked);
    return pending;
  }

  private discard(id: number, idHigh: number, sector: number, at: number): void {
    const count = (this.i32[at + 1] >>> 0) * 4294967296 + (this.i32[at] >>> 0);
    let status: number = BlockStatus.Pending;
    if (this.features & BlkbackFeature.ReadOnly) status = BlockStatus.ReadOnly;
    else if (sector > this.sectors || count > this.sectors - sector) status = BlockStatus.OutOfRange;
    else if (count === 0) status = BlockStatus.Ok;
    const unit = status === BlockStatus.Pending ? 1 << this.shift : 0;
    this.push(BlockOp.Discard, status, sector * unit, count * unit, id, idHigh, BlkifOp.Discard, false);
  }

  private push(
    op: number,
    status: number,
    offset: number,
    length: number,
    id: number,
    idHigh: number,
    answer: number,
    linked: boolean,
  ): void {
    this.record(op, status, offset, length, this.segments, id, idHigh, answer, linked);
  }

  private record(
    op: number,
    status: number,
    offset: number,
    length: number,
    first: number,
    id: number,
    idHigh: number,
    answer: number,
    linked: boolean,
  ): void {
    const { i32, f64 } = this;
    const at = this.table + this.requests * RECORD;
    i32[at + RequestField.Op / 4] = op;
    i32[at + RequestField.Status / 4] = status;
    f64[(at >>> 1) + RequestField.Offset / 8] = offset;
    f64[(at >>> 1) + RequestField.Length / 8] = length;
    i32[at + RequestField.FirstSegment / 4] = first;
    i32[at + RequestField.Segments / 4] = this.segments - first;
    i32[at + RequestField.Tag / 4] = 0;
    i32[at + BlkifRecord.Id / 4] = id;
    i32[at + BlkifRecord.Id / 4 + 1] = idHigh;
    i32[at + BlkifRecord.Operation / 4] = answer;
    i32[at + BlkifRecord.Linked / 4] = linked ? 1 : 0;
    this.requests++;
  }

  private grantMap(ref: number, write: boolean): number {
    const { i32 } = this;
    if (ref >>> 0 >= this.grants) return 0;
    const active = this.active + ref * 2;
    const entry = this.shared + ref * 2;
    const pins = i32[active + 1];
    let page: number;
    if (pins === 0) {
      const low = i32[entry];
      const frame = i32[entry + 1];
      const flags = low & 0xffff;
      if ((flags & (Gtf.TypeMask | Gtf.SubPage)) !== Gtf.PermitAccess || low >>> 16 !== this.domain) return 0;
      const start = (frame << XenPage.Shift) >>> 0;
      const size = this.ramSize >>> 0;
      if (frame >>> (32 - XenPage.Shift) !== 0 || start > size || XenPage.Size > (size - start) >>> 0) return 0;
      page = (this.ramBase + start) | (flags & FLAGS & ~(Gtf.Reading | Gtf.Writing));
    } else page = i32[active];
    if (write && page & Gtf.ReadOnly) return 0;
    const used = page | (write ? Gtf.Reading | Gtf.Writing : Gtf.Reading);
    if (pins === 0 || used !== page) this.u16[entry * 2] = used & FLAGS;
    i32[active] = used;
    i32[active + 1] = pins + 1;
    return page & ~FLAGS;
  }

  private grantUnmap(ref: number): void {
    const { i32, u16 } = this;
    if (ref >>> 0 >= this.grants) return;
    const active = this.active + ref * 2;
    const pins = i32[active + 1];
    if (pins === 0) return;
    i32[active + 1] = pins - 1;
    if (pins === 1) u16[(this.shared + ref * 2) * 2] &= ~(Gtf.Reading | Gtf.Writing);
  }

  complete(back: number, table: number, count: number): number {
    const { i32 } = this;
    const b = back >>> 2;
    this.begin(b, table >>> 2);
    const broken = i32[b + BlkbackContext.Broken / 4] !== 0;
    const ring = i32[b + RingContext.Pages / 4] >>> 2;
    const mask = i32[b + RingContext.Entries / 4] - 1;
    const stride = i32[b + RingContext.Stride / 4] >>> 2;
    const wide = i32[b + BlkbackContext.Body / 4] === Blkif64.Body;
    const old = i32[b + RingContext.Produced / 4];
    let produced = old;
    let carried: number = BlockStatus.Ok;
    let at = this.table;
    for (let i = 0; i < count; i++, at += RECORD) {
      let ref = this.refsAt + i32[at + RequestField.FirstSegment / 4];
      const end = ref + i32[at + RequestField.Segments / 4];
      for (; ref < end; ref++) this.grantUnmap(i32[ref]);
      if (carried === BlockStatus.Ok) carried = i32[at + RequestField.Status / 4];
      if (broken || i32[at + BlkifRecord.Linked / 4] !== 0) continue;
      let code: number = BlkifStatus.Error;
      if (carried === BlockStatus.Ok) code = BlkifStatus.Okay;
      else if (carried === BlockStatus.Unsupported) code = BlkifStatus.NotSupported;
      const to = ring + Sring.Entries / 4 + (produced & mask) * stride;
      produced = (produced + 1) | 0;
      i32[to] = i32[at + BlkifRecord.Id / 4];
      i32[to + 1] = i32[at + BlkifRecord.Id / 4 + 1];
      i32[to + BlkifResponse.Operation / 4] = (i32[at + BlkifRecord.Operation / 4] & 0xff) | (code << 16);
      if (wide) i32[to + BlkifResponse.Operation / 4 + 1] = 0;
      carried = BlockStatus.Ok;
    }
    if (broken) return RingResult.Fatal;
    i32[b + RingContext.Produced / 4] = produced;
    let result = 0;
    if (produced !== old) {
      i32[ring + Sring.RspProd / 4] = produced;
      const event = i32[ring + Sring.RspEvent / 4];
      if ((produced - event) >>> 0 < (produced - old) >>> 0) result = RingResult.Notify;
    }
    const consumed = i32[b + RingContext.Consumed / 4];
    i32[ring + Sring.ReqEvent / 4] = consumed + 1;
    if (i32[ring + Sring.ReqProd / 4] !== consumed) result |= RingResult.More;
    return result;
  }
}
