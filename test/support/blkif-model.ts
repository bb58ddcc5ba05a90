import {
  BlkifBody,
  BlkifDiscard,
  BlkifIndirect,
  BlkifLimit,
  BlkifOp,
  BlkifSegment,
  GrantEntry,
  Gtf,
} from "../../assembly/spec/xen.ts";
import { BlkbackContext, BlkbackFeature } from "../../assembly/spec/xen-context.ts";
import { Status } from "../../src/core/block.ts";
import { REFS, type XenRig } from "./xen-rig.ts";

/** What one ring entry should become. */
export interface Expected {
  /** In words: what it was, or why it was refused. */
  outcome: string;
  /** The response to it; `status` as first decided (Pending: as the block decides). */
  id: bigint;
  op: number;
  status: Status;
  /** Records it takes in the request table. */
  records: number;
  /** References mapped until its response. */
  refs: number[];
}

/** A reason to refuse. */
class Refusal {
  readonly reason: string;
  readonly status: Status;
  constructor(reason: string, status: Status = Status.Io) {
    this.reason = reason;
    this.status = status;
  }
}

/**
 * The protocol said again, plainly and slowly (io/blkif.h, grant_table.h), as the judge of the core's back half: what each
 * entry should be answered with, given the guest's memory as it stands.
 */
export class BlkifModel {
  readonly #rig: XenRig;
  /** Mapped references: what their entries said when first mapped. */
  readonly #active = new Map<number, { flags: number; frame: number; pins: number }>();
  #undo: [address: number, flags: number][] = [];
  #held: number[] = [];

  constructor(rig: XenRig) {
    this.#rig = rig;
  }

  /** Entries `from` … `to` in order; guest memory is left as it was. */
  entries(from: number, to: number): Expected[] {
    const expected: Expected[] = [];
    for (let index = from; index !== to; index = (index + 1) >>> 0) expected.push(this.#entry(index));
    return expected;
  }

  /** Puts the grant flags back that the last `entries` set, for the core to set them itself. */
  rewind(): void {
    for (let last = this.#undo.pop(); last; last = this.#undo.pop()) this.#rig.view.setUint16(last[0], last[1], true);
  }

  /** The reference of these is over: responded to, or never taken. */
  release(refs: readonly number[]): void {
    for (const ref of refs) {
      const active = this.#active.get(ref)!;
      if (--active.pins === 0) this.#active.delete(ref);
    }
  }

  get mapped(): number {
    return this.#active.size;
  }

  #entry(index: number): Expected {
    const rig = this.#rig;
    const entry = new DataView(new ArrayBuffer(rig.stride));
    for (let i = 0; i < rig.stride; i += 4) entry.setUint32(i, rig.view.getUint32(rig.slot(index, i), true), true);
    const op = entry.getUint8(0);
    const id = entry.getBigUint64(rig.body + BlkifBody.Id, true);
    const expected: Expected = { outcome: "", id, op, status: Status.Pending, records: 1, refs: [] };
    this.#held = expected.refs;
    try {
      expected.outcome = this.#request(entry, op, expected);
    } catch (thrown) {
      if (!(thrown instanceof Refusal)) throw thrown;
      expected.outcome = thrown.reason;
      expected.status = thrown.status;
    }
    return expected;
  }

  #request(entry: DataView, op: number, expected: Expected): string {
    const rig = this.#rig;
    const has = (feature: number) => (rig.get(rig.context, BlkbackContext.Features) & feature) !== 0;
    const offered = (yes: boolean) => {
      if (!yes) throw new Refusal("operation not offered", Status.Unsupported);
    };
    const sector = entry.getBigUint64(rig.body + BlkifBody.Sector, true);
    const count = entry.getUint8(1);
    const direct = (write: boolean) => {
      if (count === 0 || count > BlkifLimit.Segments) throw new Refusal("number of segments");
      this.#transfer(write, sector, this.#segments(entry, rig.body + BlkifBody.Segments, count, write));
    };
    switch (op) {
      case BlkifOp.Read:
      case BlkifOp.Write:
        direct(op === BlkifOp.Write);
        return op === BlkifOp.Write ? "write" : "read";
      case BlkifOp.FlushDiskcache:
        offered(has(BlkbackFeature.Flush));
        if (count === 0) return "flush";
        expected.records = 2;
        direct(true);
        return "flush and write";
      case BlkifOp.WriteBarrier:
        offered(has(BlkbackFeature.Barrier));
        if (count === 0) return "barrier";
        expected.records = 2;
        direct(true);
        expected.records = 3;
        return "barrier and write";
      case BlkifOp.Discard: {
        offered(has(BlkbackFeature.Discard));
        const sectors = entry.getBigUint64(rig.body + BlkifDiscard.Sectors, true);
        if (has(BlkbackFeature.ReadOnly)) throw new Refusal("disk is read-only", Status.ReadOnly);
        this.#range(sector, sectors);
        if (sectors === 0n) throw new Refusal("discard of nothing", Status.Ok);
        return "discard";
      }
      case BlkifOp.Indirect: {
        offered(rig.get(rig.context, BlkbackContext.MaxIndirect) > 0);
        expected.op = count; // indirect_op
        return this.#indirect(entry, count, entry.getUint16(2, true), sector);
      }
    }
    throw new Refusal("unknown operation", Status.Unsupported);
  }

  #indirect(entry: DataView, op: number, count: number, sector: bigint): string {
    const rig = this.#rig;
    if (op !== BlkifOp.Read && op !== BlkifOp.Write) throw new Refusal("indirect operation");
    if (count === 0 || count > rig.get(rig.context, BlkbackContext.MaxIndirect))
      throw new Refusal("number of segments");
    let sectors = 0;
    for (let done = 0; done < count; done += BlkifLimit.SegmentsPerPage) {
      const at = rig.body + BlkifIndirect.Refs + (done / BlkifLimit.SegmentsPerPage) * 4;
      const page = this.#map(entry.getUint32(at, true), false, "indirect page: ");
      const part = Math.min(count - done, BlkifLimit.SegmentsPerPage);
      sectors += this.#segments(rig.view, rig.page(page), part, op === BlkifOp.Write);
    }
    this.#transfer(op === BlkifOp.Write, sector, sectors);
    return op === BlkifOp.Write ? "indirect write" : "indirect read";
  }

  /** Sectors in `count` segment records. */
  #segments(view: DataView, at: number, count: number, write: boolean): number {
    const rig = this.#rig;
    const perPage = 4096 >> rig.get(rig.context, BlkbackContext.SectorShift);
    let sectors = 0;
    for (let i = 0; i < count; i++, at += BlkifSegment.Size) {
      const first = view.getUint8(at + BlkifSegment.FirstSector);
      const last = view.getUint8(at + BlkifSegment.LastSector);
      if (first > last) throw new Refusal("first sector past last");
      if (last >= perPage) throw new Refusal("last sector past the page");
      this.#map(view.getUint32(at, true), !write, "");
      sectors += last - first + 1;
    }
    return sectors;
  }

  #transfer(write: boolean, sector: bigint, sectors: number): void {
    const rig = this.#rig;
    if (write && (rig.get(rig.context, BlkbackContext.Features) & BlkbackFeature.ReadOnly) !== 0) {
      throw new Refusal("disk is read-only", Status.ReadOnly);
    }
    this.#range(sector, BigInt(sectors));
  }

  #range(sector: bigint, sectors: bigint): void {
    const capacity = this.#rig.view.getBigUint64(this.#rig.context + BlkbackContext.Sectors, true);
    if (sector + sectors > capacity) throw new Refusal("past the end of the disk", Status.OutOfRange);
  }

  /** The frame behind `ref`. */
  #map(ref: number, write: boolean, what: string): number {
    const rig = this.#rig;
    if (ref >= REFS) throw new Refusal(`${what}reference past the table`);
    const at = rig.memory.base + ref * GrantEntry.Size;
    let active = this.#active.get(ref);
    if (!active) {
      const flags = rig.view.getUint16(at, true) & ~(Gtf.Reading | Gtf.Writing) & 0xfff;
      if ((flags & Gtf.TypeMask) !== Gtf.PermitAccess) throw new Refusal(`${what}not granted`);
      if (flags & Gtf.SubPage) throw new Refusal(`${what}sub-page grant`);
      if (rig.view.getUint16(at + GrantEntry.Domain, true) !== 0) throw new Refusal(`${what}granted to another`);
      const frame = rig.view.getUint32(at + GrantEntry.Frame, true);
      if ((frame + 1) * 4096 > rig.memory.size) throw new Refusal(`${what}frame outside RAM`);
      active = { flags, frame, pins: 0 };
    }
    if (write && active.flags & Gtf.ReadOnly) throw new Refusal(`${what}page granted read-only`);
    const before = active.flags;
    active.flags |= Gtf.Reading | (write ? Gtf.Writing : 0);
    if (active.pins === 0 || active.flags !== before) {
      this.#undo.push([at, rig.view.getUint16(at, true)]);
      rig.view.setUint16(at, active.flags, true);
    }
    active.pins++;
    this.#active.set(ref, active);
    this.#held.push(ref);
    return active.frame;
  }
}
