import { RequestField, SegmentField, TableField } from "../../assembly/spec/request.ts";
import { BlockRequest, type Op, Status } from "../core/block.ts";
import type { Core } from "./core.ts";

const WORDS = RequestField.Size / 4;

/**
 * The host's side of a request table (see assembly/spec/request.ts): turns records into BlockRequests and statuses into
 * records, without allocating per request.
 */
export class RequestTable {
  readonly core: Core;
  readonly address: number;
  readonly capacity: number;
  readonly #segments: number;
  readonly #pool: BlockRequest[] = [];

  /** Bytes to reserve for a table of that many requests and segments. */
  static bytes(requests: number, segments: number): number {
    return TableField.Records + requests * RequestField.Size + segments * SegmentField.Size;
  }

  /** Lays an empty table out at `address` (8-byte aligned). */
  constructor(core: Core, address: number, requests: number, segments: number) {
    this.core = core;
    this.address = address;
    this.capacity = requests;
    this.#segments = address + TableField.Records + requests * RequestField.Size;
    core.set(address + TableField.RequestCapacity, requests);
    core.set(address + TableField.SegmentCapacity, segments);
    this.count = 0;
  }

  get count(): number {
    return this.core.get(this.address + TableField.RequestCount);
  }
  set count(value: number) {
    this.core.set(this.address + TableField.RequestCount, value);
    if (value === 0) this.core.set(this.address + TableField.SegmentCount, 0);
  }

  /** Linear address of record `index`. */
  record(index: number): number {
    return this.address + TableField.Records + index * RequestField.Size;
  }

  field(index: number, field: RequestField): number {
    return this.core.u32[(this.record(index) + field) >>> 2];
  }

  status(index: number): Status {
    return this.field(index, RequestField.Status) as Status;
  }

  setStatus(index: number, status: Status): void {
    this.core.u32[(this.record(index) + RequestField.Status) >>> 2] = status;
  }

  /** Fills `request` from record `index`; its tag becomes the index. */
  read(index: number, request: BlockRequest): BlockRequest {
    const { u32, f64, u8 } = this.core;
    const at = (this.record(index) >>> 2) >>> 0;
    request.op = u32[at + RequestField.Op / 4] as Op;
    request.status = u32[at + RequestField.Status / 4] as Status;
    request.error = null;
    request.offset = f64[(at + RequestField.Offset / 4) >>> 1];
    request.length = f64[(at + RequestField.Length / 4) >>> 1];
    request.memory = u8;
    request.tag = index;
    request.segments.clear();
    let segment = (this.#segments >>> 2) + u32[at + RequestField.FirstSegment / 4] * 2;
    for (let left = u32[at + RequestField.Segments / 4]; left > 0; left--, segment += 2) {
      request.segments.push(u32[segment], u32[segment + 1]);
    }
    return request;
  }

  /** The table's own request object for record `index`, filled from it. Valid until the slot is read again. */
  request(index: number): BlockRequest {
    return this.read(index, (this.#pool[index] ??= new BlockRequest()));
  }

  /** Appends a record with its segments, for driver halves. The caller keeps within the capacities. */
  push(request: BlockRequest, tag: number): void {
    const { u32, f64 } = this.core;
    const index = this.count;
    const at = this.record(index) >>> 2;
    let segment = this.core.get(this.address + TableField.SegmentCount);
    u32[at + RequestField.Op / 4] = request.op;
    u32[at + RequestField.Status / 4] = Status.Pending;
    f64[(at + RequestField.Offset / 4) >>> 1] = request.offset;
    f64[(at + RequestField.Length / 4) >>> 1] = request.length;
    u32[at + RequestField.FirstSegment / 4] = segment;
    u32[at + RequestField.Segments / 4] = request.segments.count;
    u32[at + RequestField.Tag / 4] = tag;
    u32.fill(0, at + RequestField.Private0 / 4, at + WORDS);
    for (let i = 0; i < request.segments.count; i++, segment++) {
      u32[(this.#segments >>> 2) + segment * 2] = request.segments.start(i);
      u32[(this.#segments >>> 2) + segment * 2 + 1] = request.segments.length(i);
    }
    this.core.set(this.address + TableField.SegmentCount, segment);
    this.core.set(this.address + TableField.RequestCount, index + 1);
  }
}
