import { RequestField, SegmentField, TableField } from "../../assembly/spec/request.ts";
import { VqAnswer, VqCompletion, VqDevice, VqFault, VqFeature, VqRefusal } from "../../assembly/spec/virtqueue.ts";
import type { GuestMemory } from "../../src/core/machine.ts";
import { type Core, coreFor } from "../../src/wasm/core.ts";
import type { Count } from "./fuzz-disk.ts";
import { type ExpectedRecord, VirtqueueModel } from "./virtqueue-model.ts";

const REFUSALS = "none,address,empty,order,nested indirect,header,type,length,range,read-only,payload".split(",");
const FAULTS =
  "none,available index,head,head busy,next,loop,indirect,indirect length,indirect range,too long,no status".split(",");
const OPS = ["read", "write", "flush", "discard", "write zeroes", "GET_ID"];

/** Stands between a device and the core: every consume and complete is compared with what the model says of it. */
export class VirtqueueJudge {
  readonly model: VirtqueueModel;
  readonly #memory: GuestMemory;
  readonly #core: Core;
  readonly #view: DataView;
  readonly #count: Count;
  #calls = 0;

  /** `context` is the device's. */
  constructor(memory: GuestMemory, context: number, count: Count) {
    this.#memory = memory;
    this.#count = count;
    this.#core = coreFor(memory.wasm);
    this.model = new VirtqueueModel(memory, context);
    this.#view = new DataView(memory.wasm.buffer);
    const { virtioBlkConsume, virtioBlkComplete } = this.#core.call;
    const call = {
      ...this.#core.call,
      virtioBlkConsume: (at: number) => this.#consume(at, virtioBlkConsume),
      virtioBlkComplete: (at: number, n: number) => this.#complete(at, n, virtioBlkComplete),
    };
    Object.defineProperty(this.#core, "call", { value: call });
  }

  #consume(context: number, call: (context: number) => number): number {
    const expected = this.model.consume();
    const before = this.#snapshot();
    const count = call(context);
    const { records } = expected;
    if (count !== records.length) throw new Error(`${count} records for ${records.length}`);
    const table = this.#core.get(context + VqDevice.Table);
    for (let i = 0; i < count; i++) this.#compare(table, i, records[i]);
    for (let i = 1; i < count; i++) if (records[i].head === records[i - 1].head) this.#count("several ranges");
    const fault = this.#core.get(context + VqDevice.Fault);
    if (fault !== this.model.fault) throw new Error(`fault ${FAULTS[fault]}, not ${FAULTS[this.model.fault]}`);
    if (fault !== VqFault.None) this.#count(`fault: ${FAULTS[fault]}`);
    if (expected.full) this.#count("table full");
    if (this.model.inFlight.size === this.#core.get(context + VqDevice.QueueSize)) this.#count("queue full");
    this.#wrote(expected.writes, before);
    return count;
  }

  #compare(table: number, index: number, expected: ExpectedRecord): void {
    const view = this.#view;
    const at = table + TableField.Records + index * RequestField.Size;
    const word = (offset: number) => view.getUint32(at + offset, true);
    const segments: [number, number][] = [];
    let segment =
      table + TableField.Records + 288 * RequestField.Size + word(RequestField.FirstSegment) * SegmentField.Size;
    for (let i = word(RequestField.Segments); i > 0; i--, segment += SegmentField.Size) {
      segments.push([view.getUint32(segment, true), view.getUint32(segment + 4, true)]);
    }
    const same =
      word(RequestField.Op) === expected.op &&
      word(RequestField.Status) === expected.status &&
      word(RequestField.Tag) === expected.head &&
      word(RequestField.Private0) === expected.refusal &&
      view.getFloat64(at + RequestField.Offset, true) === expected.offset &&
      view.getFloat64(at + RequestField.Length, true) === expected.length &&
      segments.length === expected.segments.length &&
      segments.every(([start, length], i) => start === expected.segments[i][0] && length === expected.segments[i][1]);
    if (!same) throw new Error(`record ${index} is not ${JSON.stringify(expected)}`);
    this.#count(expected.refusal === VqRefusal.None ? OPS[expected.op] : REFUSALS[expected.refusal]);
  }

  #complete(context: number, count: number, call: (context: number, count: number) => number): number {
    const entries: [number, number][] = [];
    for (let i = 0, at = context + VqDevice.Completions; i < count; i++, at += VqCompletion.Size) {
      entries.push([this.#core.get(at), this.#core.get(at + VqCompletion.Status)]);
    }
    const from = this.model.used;
    const expected = this.model.complete(entries);
    const before = this.#snapshot();
    const answer = call(context, count);
    if (answer !== expected.answer) throw new Error(`answer ${answer}, not ${expected.answer}`);
    this.#wrote(expected.writes, before);
    for (const status of expected.statuses) this.#count(["status ok", "status ioerr", "status unsupp"][status]);
    if (this.model.used < from) this.#count("index wrapped");
    if (expected.statuses.length > 0) {
      const event = (this.#core.get(context + VqDevice.Features) & VqFeature.EventIndex) !== 0;
      this.#count(`${answer & VqAnswer.Interrupt ? "interrupt" : "none"} by ${event ? "event" : "flag"}`);
    }
    this.#count(answer & VqAnswer.More ? "more" : "no more");
    return answer;
  }

  /** Now and then, all of guest RAM as it was before a call. */
  #snapshot(): Uint8Array | undefined {
    const { linear, base, size } = this.#memory;
    return ++this.#calls % 997 === 0 ? linear.slice(base, base + size) : undefined;
  }

  /** The call has written these bytes of guest memory, and no other. */
  #wrote(writes: Map<number, number>, before: Uint8Array | undefined): void {
    const { linear, base, size } = this.#memory;
    for (const [at, byte] of writes) {
      if (at < base || at >= base + size) throw new Error("the model writes outside guest RAM");
      if (linear[at] !== byte) throw new Error("guest memory is not as it must be");
    }
    if (!before) return;
    for (const [at, byte] of writes) before[at - base] = byte;
    if (Buffer.compare(before, linear.subarray(base, base + size)) !== 0) throw new Error("something else was written");
  }
}
