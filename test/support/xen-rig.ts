import { RequestField, SegmentField, TableField } from "../../assembly/spec/request.ts";
import {
  Blkif32,
  Blkif64,
  BlkifBody,
  BlkifDiscard,
  BlkifIndirect,
  BlkifOp,
  BlkifResponse,
  BlkifSegment,
  GrantEntry,
  Gtf,
  Sring,
} from "../../assembly/spec/xen.ts";
import {
  ActiveGrant,
  BlkbackContext,
  BlkbackFeature,
  GrantContext,
  RingContext,
} from "../../assembly/spec/xen-context.ts";
import type { Op, Status } from "../../src/core/block.ts";
import { LinearMemory } from "../../src/hypervisor/memory.ts";
import { type Core, coreFor } from "../../src/wasm/core.ts";
import { RequestTable } from "../../src/wasm/requests.ts";

export interface Segment {
  ref: number;
  first?: number;
  last?: number;
}

export interface RigOptions {
  wide?: boolean;
  order?: number;
  /** Guest RAM in bytes. */
  ram?: number;
  /** Disk size in sectors. */
  sectors?: number;
  sectorShift?: number;
  features?: number;
  maxIndirect?: number;
  /** Both ends' indices start here. */
  start?: number;
}

/** Grant references: entry r grants page r, writable, unless a test says otherwise. */
export const REFS = 512;

/**
 * The back half of a ring, bare: no xenstore, no driver, no events. The test plays the guest by writing guest RAM.
 *
 *     guest page 0: grant table · 16 pages at 1, 3, 5 …: ring (not adjacent, so that entries straddle) · the rest: data
 */
export class XenRig {
  readonly memory: LinearMemory;
  readonly core: Core;
  readonly context: number;
  readonly grants: number;
  readonly table: RequestTable;
  readonly view: DataView;
  wide = true;
  entries = 32;
  stride = 0;
  body = 0;
  /** The guest's private producer and consumer. */
  produced = 0;
  consumed = 0;

  constructor(options: RigOptions = {}) {
    this.memory = new LinearMemory(options.ram ?? 4 << 20, 16 * 65536);
    this.core = coreFor(this.memory.wasm);
    this.view = new DataView(this.memory.wasm.buffer);
    const { memory } = this;
    this.grants = this.#reserve(GrantContext.Size);
    this.set(this.grants, GrantContext.Shared, memory.base);
    this.set(this.grants, GrantContext.Entries, REFS);
    this.set(this.grants, GrantContext.Active, this.#reserve(REFS * ActiveGrant.Size));
    this.set(this.grants, GrantContext.RamBase, memory.base);
    this.set(this.grants, GrantContext.RamSize, memory.size);
    this.context = this.#reserve(BlkbackContext.Size);
    this.table = this.makeTable(32 << (options.order ?? 0));
    this.connect(options);
    for (let ref = 0; ref < REFS; ref++) this.grant(ref, ref);
  }

  /** A further table for batches in flight. */
  makeTable(entries: number, segments = 2048): RequestTable {
    const bytes = RequestTable.bytes(entries + 2, segments) + segments * 4;
    return new RequestTable(this.core, this.#reserve(bytes), entries + 2, segments);
  }

  /** A fresh connection. */
  connect(options: RigOptions): void {
    const { wide = true, order = 0, sectors = 8192, start = 0 } = options;
    this.wide = wide;
    this.entries = 32 << order;
    this.stride = wide ? Blkif64.Request : Blkif32.Request;
    this.body = wide ? Blkif64.Body : Blkif32.Body;
    for (let page = 0; page < 1 << order; page++) {
      this.set(this.context, RingContext.Pages + page * 4, this.page(1 + page * 2));
    }
    const fields: [number, number][] = [
      [RingContext.Stride, this.stride],
      [RingContext.Entries, this.entries],
      [RingContext.Produced, start],
      [RingContext.Consumed, start],
      [BlkbackContext.Body, this.body],
      [BlkbackContext.Grants, this.grants],
      [BlkbackContext.SectorShift, options.sectorShift ?? 9],
      [BlkbackContext.Sectors, sectors >>> 0],
      [BlkbackContext.Sectors + 4, Math.floor(sectors / 2 ** 32)],
      [
        BlkbackContext.Features,
        options.features ?? BlkbackFeature.Flush | BlkbackFeature.Barrier | BlkbackFeature.Discard,
      ],
      [BlkbackContext.MaxIndirect, options.maxIndirect ?? 256],
      [BlkbackContext.Broken, 0],
    ];
    for (const [field, value] of fields) this.set(this.context, field, value);
    this.produced = start;
    this.consumed = start;
    this.header(Sring.ReqProd, start);
    this.header(Sring.RspProd, start);
    this.header(Sring.ReqEvent, start + 1);
    this.header(Sring.RspEvent, start + 1);
  }

  /** Private state, with a gap before the next so that a stray store is seen. */
  #reserve(bytes: number): number {
    const address = this.memory.reserve(bytes);
    this.memory.reserve(256);
    return address;
  }

  set(address: number, field: number, value: number): void {
    this.view.setUint32(address + field, value, true);
  }
  get(address: number, field: number): number {
    return this.view.getUint32(address + field, true);
  }
  /** Linear address of a guest page. */
  page(frame: number): number {
    return this.memory.base + frame * 4096;
  }

  grant(ref: number, frame: number, flags: number = Gtf.PermitAccess, domain = 0): void {
    const at = this.memory.base + ref * GrantEntry.Size;
    this.view.setUint16(at + GrantEntry.Flags, flags, true);
    this.view.setUint16(at + GrantEntry.Domain, domain, true);
    this.view.setUint32(at + GrantEntry.Frame, frame, true);
  }
  grantFlags(ref: number): number {
    return this.view.getUint16(this.memory.base + ref * GrantEntry.Size, true);
  }
  pins(ref: number): number {
    return this.get(this.get(this.grants, GrantContext.Active) + ref * ActiveGrant.Size, ActiveGrant.Pins);
  }

  /** Sets or reads a field of the shared header. */
  header(field: Sring, value?: number): number {
    const at = this.get(this.context, RingContext.Pages);
    if (value !== undefined) this.set(at, field, value);
    return this.get(at, field);
  }

  /** Linear address of byte `byte` of entry `index`. */
  slot(index: number, byte: number): number {
    const offset = Sring.Entries + ((index >>> 0) % this.entries) * this.stride + byte;
    return this.get(this.context, RingContext.Pages + (offset >>> 12) * 4) + (offset & 4095);
  }

  /** Copies `bytes` into the next free entry. */
  put(bytes: Uint8Array): void {
    const words = new Uint32Array(bytes.buffer);
    for (let i = 0; i < words.length; i++) this.view.setUint32(this.slot(this.produced, i * 4), words[i], true);
    this.produced = (this.produced + 1) >>> 0;
  }

  /** A read, write, barrier or flush with direct segments. */
  direct(op: number, id: number, sector: number, segments: Segment[], count = segments.length): void {
    const entry = this.#entry(op | (count << 8), id, sector);
    segments.slice(0, 11).forEach((segment, i) => {
      putSegment(entry, this.body + BlkifBody.Segments + i * BlkifSegment.Size, segment);
    });
    this.put(new Uint8Array(entry.buffer));
  }

  /** An indirect request; the segments are written into the pages numbered as `refs`, which grant them unless changed. */
  indirect(op: number, id: number, sector: number, refs: number[], segments: Segment[], count = segments.length): void {
    const entry = this.#entry(BlkifOp.Indirect | (op << 8) | (count << 16), id, sector);
    refs.forEach((ref, i) => {
      entry.setUint32(this.body + BlkifIndirect.Refs + i * 4, ref, true);
    });
    segments.forEach((segment, i) => {
      putSegment(this.view, this.page(refs[Math.floor(i / 512)]) + (i % 512) * BlkifSegment.Size, segment);
    });
    this.put(new Uint8Array(entry.buffer));
  }

  discard(id: number, sector: number, count: number, flag = 0): void {
    const entry = this.#entry(BlkifOp.Discard | (flag << 8), id, sector);
    entry.setBigUint64(this.body + BlkifDiscard.Sectors, BigInt(count), true);
    this.put(new Uint8Array(entry.buffer));
  }

  /** Publishes what was put, and lets the back end consume it. */
  consume(): number {
    this.header(Sring.ReqProd, this.produced);
    return this.core.call.xenBackConsume(this.context, this.table.address);
  }

  /** Sets every Pending record to `status` and completes. */
  complete(status: Status = 0): number {
    for (let i = 0; i < this.table.count; i++) {
      if (this.table.status(i) === 1) this.table.setStatus(i, status);
    }
    return this.core.call.xenBackComplete(this.context, this.table.address, this.table.count);
  }

  /** The records of the last consume. */
  records(): { op: Op; status: Status; offset: number; length: number; segments: [number, number][] }[] {
    return Array.from({ length: this.table.count }, (_, i) => {
      const at = this.table.record(i);
      const first = this.get(at, RequestField.FirstSegment);
      const segments = Array.from({ length: this.get(at, RequestField.Segments) }, (_, s): [number, number] => {
        const requests = this.get(this.table.address, TableField.RequestCapacity);
        const segment =
          this.table.address + TableField.Records + requests * RequestField.Size + (first + s) * SegmentField.Size;
        return [this.get(segment, SegmentField.Start) - this.memory.base, this.get(segment, SegmentField.Length)];
      });
      return {
        op: this.get(at, RequestField.Op) as Op,
        status: this.table.status(i),
        offset: this.view.getFloat64(at + RequestField.Offset, true),
        length: this.view.getFloat64(at + RequestField.Length, true),
        segments: segments.filter(([, length]) => length > 0),
      };
    });
  }

  /** Takes the responses that the back end has published. */
  responses(): { id: number; op: number; status: number; padding: number }[] {
    const taken = [];
    for (; this.consumed !== this.header(Sring.RspProd); this.consumed = (this.consumed + 1) >>> 0) {
      const bytes = new DataView(new ArrayBuffer(16));
      const size = this.wide ? Blkif64.Response : Blkif32.Response;
      for (let i = 0; i < size; i++) bytes.setUint8(i, this.memory.linear[this.slot(this.consumed, i)]);
      taken.push({
        id: Number(bytes.getBigUint64(BlkifResponse.Id, true)),
        op: bytes.getUint8(BlkifResponse.Operation),
        status: bytes.getInt16(BlkifResponse.Status, true),
        padding: bytes.getUint8(9) | bytes.getUint32(12, true),
      });
    }
    return taken;
  }

  #entry(header: number, id: number, sector: number): DataView {
    const entry = new DataView(new ArrayBuffer(this.stride));
    for (let i = 0; i < this.stride; i++) entry.setUint8(i, 0xee); // what the guest does not set is not to be used
    entry.setUint32(0, header, true);
    entry.setBigUint64(this.body + BlkifBody.Id, BigInt(id), true);
    entry.setBigUint64(this.body + BlkifBody.Sector, BigInt.asUintN(64, BigInt(sector)), true);
    return entry;
  }
}

function putSegment(view: DataView, at: number, { ref, first = 0, last = 7 }: Segment): void {
  view.setUint32(at, ref, true);
  view.setUint8(at + BlkifSegment.FirstSector, first);
  view.setUint8(at + BlkifSegment.LastSector, last);
}
