import { expect, test } from "vitest";
import { RequestField, SegmentField, TableField } from "../../assembly/spec/request.ts";
import { BlkifOp, BlkifResponse, Gtf, Sring } from "../../assembly/spec/xen.ts";
import { ActiveGrant, BlkbackContext, GrantContext, RingContext, RingResult } from "../../assembly/spec/xen-context.ts";
import { Op, Status } from "../../src/core/block.ts";
import type { RequestTable } from "../../src/wasm/requests.ts";
import { BlkifModel, type Expected } from "../support/blkif-model.ts";
import { REFS, type Segment, XenRig } from "../support/xen-rig.ts";

const STEPS = 1_050_000;
const MAX_ORDER = 2;
const SEED = Number(process.env.FUZZ_SEED ?? 20240607);

/** What must have happened at least once, or the fuzz has not been where it should. */
const OUTCOMES = [
  ...["read", "write", "indirect read", "indirect write", "flush", "flush and write", "barrier", "barrier and write"],
  ...["discard", "discard of nothing", "unknown operation", "operation not offered", "number of segments"],
  ...["indirect operation", "first sector past last", "last sector past the page", "disk is read-only"],
  ...["past the end of the disk", "reference past the table", "not granted", "sub-page grant", "granted to another"],
  ...["frame outside RAM", "page granted read-only", "indirect page: reference past the table"],
  ...["indirect page: not granted", "indirect page: sub-page grant", "indirect page: granted to another"],
  ...["indirect page: frame outside RAM", "producer overrun", "nothing new", "table full", "notified", "not notified"],
  ...["more work", "no more work", "okay", "error", "not supported", "completed out of order"],
];

interface Batch {
  table: RequestTable;
  expected: Expected[];
}

/** Small, fast, seeded (mulberry32). */
function random(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

/** A hostile front end, a host that obeys the core, and a judge that compares it with the model. */
class Fuzz {
  readonly counts = new Map<string, number>();
  readonly #rig = new XenRig({ order: MAX_ORDER });
  readonly #model = new BlkifModel(this.#rig);
  readonly #pick = random(SEED);
  readonly #idle: RequestTable[] = [];
  readonly #inFlight: Batch[] = [];
  readonly #frozen: Uint8Array;

  constructor() {
    // One table is small, so that it fills up.
    this.#idle.push(this.#rig.table, this.#rig.makeTable(128), this.#rig.makeTable(6, 300));
    const { linear, base } = this.#rig.memory;
    const free = this.#rig.memory.reserve(16);
    linear.fill(0xa5, free, base);
    this.#frozen = linear.slice(0, base);
    this.#connect();
  }

  step(): void {
    const what = this.#pick(16);
    if (what < 8) this.#request();
    else if (what < 10) this.#regrant();
    else if (what < 11) this.#scribble();
    else if (what < 14) this.#doorbell();
    else this.#finish();
  }

  /** Every byte below guest RAM that the core has no business to change, as it was. */
  check(): void {
    const rig = this.#rig;
    const { linear, base } = rig.memory;
    const active = rig.get(rig.grants, GrantContext.Active);
    const own: [number, number][] = [
      [rig.context + RingContext.Produced, RingContext.Pages - RingContext.Produced],
      [rig.context + BlkbackContext.Broken, 4],
      [active, REFS * ActiveGrant.Size],
    ];
    for (const table of [...this.#idle, ...this.#inFlight.map((batch) => batch.table)]) {
      const segments = rig.get(table.address, TableField.SegmentCapacity);
      own.push([table.address + TableField.RequestCount, 8]);
      own.push([
        table.address + TableField.Records,
        table.capacity * RequestField.Size + segments * (SegmentField.Size + 4),
      ]);
    }
    for (const [start, length] of own) this.#frozen.set(linear.subarray(start, start + length), start);
    const now = Buffer.from(linear.buffer, 0, base);
    if (!now.equals(this.#frozen)) throw new Error("memory outside guest RAM and the back end's own changed");
  }

  /** Everything answered: nothing may be mapped any longer. */
  drain(): void {
    while (this.#inFlight.length > 0) this.#finish();
    for (let ref = 0; ref < REFS; ref++) {
      if (this.#rig.pins(ref) !== 0) throw new Error(`grant reference ${ref} stays mapped`);
    }
    expect(this.#model.mapped).toBe(0);
  }

  #count(outcome: string): void {
    this.counts.set(outcome, (this.counts.get(outcome) ?? 0) + 1);
  }

  #connect(): void {
    const pick = this.#pick;
    this.drain();
    this.#rig.connect({
      wide: pick(2) === 0,
      order: pick(MAX_ORDER + 1),
      start: pick(2) === 0 ? 0xffffffff - pick(64) : pick(0xffffffff),
      sectors: [8, 8192, 2 ** 40][pick(3)],
      sectorShift: [9, 9, 9, 12][pick(4)],
      features: pick(4) === 0 ? pick(16) : 7,
      maxIndirect: [256, 256, 32, 0][pick(4)],
    });
    const { context, memory } = this.#rig;
    this.#frozen.set(memory.linear.subarray(context, context + BlkbackContext.Size), context);
    for (let ref = 0; ref < REFS; ref++) this.#rig.grant(ref, ref);
  }

  /** The next ring entry: mostly close to sense. */
  #request(): void {
    const pick = this.#pick;
    const rig = this.#rig;
    if ((rig.produced - rig.consumed) >>> 0 >= rig.entries && pick(8) > 0) return;
    const id = pick(0xffffffff) * 2 ** 20 + pick(2 ** 20);
    const sector = pick(6) === 0 ? pick(2 ** 32) * 2 ** 21 - 2 ** 20 : pick(8) * 8;
    const op = [BlkifOp.Read, BlkifOp.Read, BlkifOp.Write, BlkifOp.Write, BlkifOp.FlushDiskcache, BlkifOp.WriteBarrier];
    switch (pick(8)) {
      case 0:
        rig.discard(id, sector, [0, 8, 64, 2 ** 50][pick(4)]);
        break;
      case 1: {
        const segments = Array.from({ length: 1 + pick(20) }, () => this.#segment());
        const refs = Array.from({ length: 1 + pick(8) }, () => (pick(60) === 0 ? REFS : 20) + pick(REFS - 20));
        const count = [segments.length, segments.length, segments.length, 0, 257, pick(65536)][pick(6)];
        rig.indirect(pick(12) === 0 ? pick(8) : pick(2), id, sector, refs, segments, count);
        if (pick(8) === 0) rig.grant(refs[0], ...this.#badGrant());
        break;
      }
      case 2:
        rig.direct(pick(256), id, sector, [this.#segment()], pick(256));
        break;
      default: {
        const segments = Array.from({ length: pick(12) }, () => this.#segment());
        rig.direct(op[pick(op.length)], id, sector, segments, pick(16) === 0 ? pick(256) : segments.length);
      }
    }
  }

  #segment(): Segment {
    const pick = this.#pick;
    const ref = pick(40) === 0 ? pick(0xffffffff) : 20 + pick(REFS - 20);
    if (pick(30) === 0) return { ref, first: pick(256), last: pick(256) };
    const last = this.#rig.get(this.#rig.context, BlkbackContext.SectorShift) === 9 ? pick(8) : 0;
    return { ref, first: pick(last + 1), last };
  }

  #badGrant(): [frame: number, flags: number, domain: number] {
    const pick = this.#pick;
    const flags = [Gtf.Invalid, Gtf.PermitAccess | Gtf.SubPage, 2, 3, Gtf.PermitAccess, Gtf.PermitAccess, pick(65536)];
    const kind = pick(flags.length);
    return [kind === 4 ? 1024 + pick(0xffffff00) : pick(1024), flags[kind], kind === 5 ? pick(65536) : 0];
  }

  /** Changes an entry, good or bad, mapped or not. */
  #regrant(): void {
    const pick = this.#pick;
    const ref = pick(REFS);
    const readOnly = pick(4) === 0 ? Gtf.ReadOnly : 0;
    if (pick(6) > 0) this.#rig.grant(ref, pick(1024), Gtf.PermitAccess | readOnly);
    else this.#rig.grant(ref, ...this.#badGrant());
  }

  /** Words anywhere in the ring, its header, the grant table, the pages. */
  #scribble(): void {
    const pick = this.#pick;
    const rig = this.#rig;
    const frame = [0, 1, 3, 5, pick(1024)][pick(5)];
    for (let i = 0; i < 4; i++) rig.view.setUint32(rig.page(frame) + pick(1024) * 4, pick(0xffffffff), true);
    rig.header(Sring.RspEvent, (rig.consumed + pick(8)) >>> 0);
  }

  #doorbell(): void {
    const pick = this.#pick;
    const rig = this.#rig;
    const table = this.#idle.splice(pick(this.#idle.length), 1)[0];
    if (!table) return;
    const consumed = rig.get(rig.context, RingContext.Consumed);
    const produced = pick(300) === 0 ? pick(0xffffffff) : rig.produced;
    const answered = rig.get(rig.context, RingContext.Produced);
    rig.header(Sring.ReqProd, produced);
    const room = rig.entries - ((consumed - answered) >>> 0);
    const overrun = (produced - consumed) >>> 0 > room;
    const expected = overrun ? [] : this.#model.entries(consumed, produced);
    this.#model.rewind();
    const result = rig.core.call.xenBackConsume(rig.context, table.address);
    if (((result & RingResult.Fatal) !== 0) !== overrun) throw new Error(`fatal ${result}, overrun ${overrun}`);
    if (overrun) {
      this.#count("producer overrun");
      this.#idle.push(table);
      this.#connect();
      return;
    }
    const taken = (rig.get(rig.context, RingContext.Consumed) - consumed) >>> 0;
    if (taken < expected.length) this.#count("table full");
    if (expected.length === 0) this.#count("nothing new");
    // What the model mapped beyond what the core took is not mapped.
    for (const beyond of expected.splice(taken)) this.#model.release(beyond.refs);
    this.#compare(table, expected);
    if (table.count === 0) {
      this.#idle.push(table);
      return;
    }
    this.#carryOut(table);
    this.#inFlight.push({ table, expected });
  }

  #compare(table: RequestTable, expected: Expected[]): void {
    const rig = this.#rig;
    let record = 0;
    for (const each of expected) {
      this.#count(each.outcome);
      const last = record + each.records - 1;
      if (table.status(last) !== each.status) {
        throw new Error(`${each.outcome}: status ${table.status(last)} instead of ${each.status}`);
      }
      record = last + 1;
    }
    if (record !== table.count) throw new Error(`${table.count} records instead of ${record}`);
    const size = Number(rig.view.getBigUint64(rig.context + BlkbackContext.Sectors, true));
    const shift = rig.get(rig.context, BlkbackContext.SectorShift);
    for (let i = 0; i < table.count; i++) {
      if (table.status(i) !== Status.Pending) continue;
      const { op, offset, length, segments } = table.request(i);
      if (offset + length > size * 2 ** shift) throw new Error("record past the end of the disk");
      if ((op === Op.Read || op === Op.Write) && segments.total !== length)
        throw new Error("segments and length differ");
      for (let s = 0; s < segments.count; s++) {
        const start = segments.start(s) - rig.memory.base;
        if (start < 0 || start + segments.length(s) > rig.memory.size) throw new Error("segment outside guest RAM");
      }
    }
  }

  /** The block: fills what is read, in whatever page that is, and fails now and then. */
  #carryOut(table: RequestTable): void {
    const pick = this.#pick;
    for (let i = 0; i < table.count; i++) {
      if (table.status(i) !== Status.Pending) continue;
      const request = table.request(i);
      if (request.op === Op.Read && pick(8) === 0) {
        const start = request.segments.start(0);
        this.#rig.memory.linear.fill(pick(256), start, start + 64);
      }
      const failures = [Status.Media, Status.NoSpace, Status.Unsupported, Status.Io];
      table.setStatus(i, pick(10) === 0 ? failures[pick(4)] : Status.Ok);
    }
  }

  /** Completes one batch, not always the oldest. */
  #finish(): void {
    const rig = this.#rig;
    const which = this.#pick(Math.max(this.#inFlight.length, 1));
    const batch = this.#inFlight.splice(which, 1)[0];
    if (!batch) return;
    if (which > 0) this.#count("completed out of order");
    const { table, expected } = batch;
    const statuses = Array.from({ length: table.count }, (_, i) => table.status(i));
    const old = rig.get(rig.context, RingContext.Produced);
    const result = rig.core.call.xenBackComplete(rig.context, table.address, table.count);
    this.#idle.push(table);
    for (const { refs } of expected) this.#model.release(refs);
    if (result & RingResult.Fatal) return;
    this.#count(result & RingResult.Notify ? "notified" : "not notified");
    this.#count(result & RingResult.More ? "more work" : "no more work");
    let index = old;
    let record = 0;
    for (const each of expected) {
      const own = statuses.slice(record, (record += each.records));
      const status = own.find((one) => one !== Status.Ok) ?? Status.Ok;
      this.#response(index, each, status);
      index = (index + 1) >>> 0;
    }
    if (rig.header(Sring.RspProd) !== index) throw new Error("responses published are not those of the batch");
    rig.consumed = index;
  }

  #response(index: number, { id, op, outcome }: Expected, cause: Status): void {
    const rig = this.#rig;
    const at = (byte: number) => rig.view.getUint32(rig.slot(index, byte), true);
    const got = BigInt(at(BlkifResponse.Id)) | (BigInt(at(BlkifResponse.Id + 4)) << 32n);
    const status = cause === Status.Ok ? 0 : cause === Status.Unsupported ? -2 : -1;
    this.#count(status === 0 ? "okay" : status === -1 ? "error" : "not supported");
    const word = ((status << 16) | op) >>> 0;
    if (got !== id || at(BlkifResponse.Operation) !== word || (rig.wide && at(12) !== 0)) {
      throw new Error(`${outcome}: response ${got} ${at(8).toString(16)} instead of ${id} ${word.toString(16)}`);
    }
  }
}

test(`${STEPS.toLocaleString("en")} steps of hostile front ends`, () => {
  const fuzz = new Fuzz();
  for (let step = 1; step <= STEPS; step++) {
    try {
      fuzz.step();
      if (step % 4096 === 0) fuzz.check();
    } catch (thrown) {
      throw new Error(`step ${step} of seed ${SEED}`, { cause: thrown });
    }
  }
  fuzz.drain();
  fuzz.check();
  const counts = Object.fromEntries(OUTCOMES.map((outcome) => [outcome, fuzz.counts.get(outcome) ?? 0]));
  console.log(`xen ring, ${STEPS} steps, seed ${SEED}:\n`, counts);
  expect([...fuzz.counts.keys()].filter((outcome) => !OUTCOMES.includes(outcome))).toEqual([]);
  for (const outcome of OUTCOMES) expect(counts[outcome], outcome).toBeGreaterThan(0);
});
