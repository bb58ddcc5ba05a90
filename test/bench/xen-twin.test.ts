import { expect, test } from "vitest";
import { BlockStatus, RequestField, TableField } from "../../assembly/spec/request.ts";
import {
  Blkif64,
  BlkifBody,
  BlkifIndirect,
  BlkifOp,
  BlkifSegment,
  GrantEntry,
  Gtf,
  Sring,
} from "../../assembly/spec/xen.ts";
import { BlkbackContext, RingResult } from "../../assembly/spec/xen-context.ts";
import { ENTRIES, RECORDS, XEN, XEN_LAYOUT, xenCore } from "../../bench/fixture/xen.ts";
import { XenTwin } from "../../bench/twin/xen.ts";
import type { Core } from "../../src/wasm/core.ts";
import { Random } from "../support/random.ts";
import { expectSame, followCore } from "../support/twins.ts";

// The bench compares the core with this twin: a comparison is honest only if both do the same work, to the last byte.

function grant(core: Core, random: Random, ref: number): void {
  const at = XEN.shared + ref * GrantEntry.Size;
  const flags = random.oneIn(12) ? random.u32() & 0x1ff : Gtf.PermitAccess | (random.oneIn(4) ? Gtf.ReadOnly : 0);
  core.set(at, (flags | (random.oneIn(30) ? 0x10000 : 0)) >>> 0);
  core.set(at + GrantEntry.Frame, random.oneIn(20) ? random.u32() : 16 + random.below(900));
}

function segment(core: Core, random: Random, at: number): void {
  const ref = random.oneIn(40) ? random.u32() : 8 + random.below(200);
  const [first, last] = random.oneIn(30) ? [random.below(10), random.below(10)] : [0, random.below(8)];
  core.set(at, ref);
  core.set(at + BlkifSegment.FirstSector, first | (last << 8));
}

function entry(core: Core, random: Random, index: number, features: number): void {
  const at = XEN.ring + Sring.Entries + (index % ENTRIES) * Blkif64.Request;
  const body = at + Blkif64.Body;
  const op = random.oneIn(3)
    ? random.pick([BlkifOp.WriteBarrier, BlkifOp.FlushDiskcache, BlkifOp.Discard, BlkifOp.Indirect, 4, 200])
    : random.pick([BlkifOp.Read, BlkifOp.Write]);
  const segments = random.oneIn(20) ? random.below(256) : random.below(5);
  core.set(body + BlkifBody.Id, random.u32());
  core.set(body + BlkifBody.Id + 4, random.u32());
  core.set(body + BlkifBody.Sector, random.below(XEN_LAYOUT.sectors + 8));
  core.set(body + BlkifBody.Sector + 4, random.oneIn(30) ? random.u32() : 0);
  if (op === BlkifOp.Indirect) {
    const count = random.oneIn(10) ? random.below(65536) : 1 + random.below(16);
    core.set(at, (op | (random.below(3) << 8) | (count << 16)) >>> 0);
    for (let i = 0; i < 2; i++) core.set(body + BlkifIndirect.Refs + 4 * i, 8 + random.below(200));
    return;
  }
  core.set(at, op | (segments << 8));
  if (op === BlkifOp.Discard) {
    core.set(body + 16, random.below(4) === 0 ? 0 : random.below(features ? 5000 : XEN_LAYOUT.sectors));
    core.set(body + 20, random.oneIn(20) ? random.u32() : 0);
  } else for (let i = 0; i < 11; i++) segment(core, random, body + BlkifBody.Segments + i * BlkifSegment.Size);
}

test("the Xen twin leaves every byte as the core does", () => {
  const statuses = new Map<number, number>();
  let requests = 0;
  let fatal = 0;
  for (let seed = 1; seed <= 60; seed++) {
    const random = new Random(seed);
    const features = random.below(16);
    const core = xenCore(features, random.pick([0, 32, 1000]));
    // Segment records for indirect requests, wherever their grants may point.
    for (let page = 16; page < 916; page += 3) {
      for (let i = 0; i < 16; i++) segment(core, random, XEN.ram + page * 4096 + i * 8);
    }
    for (let ref = 0; ref < 220; ref++) grant(core, random, ref);
    const twin = new XenTwin(core.u8);
    let produced = 0;
    for (let doorbell = 0; doorbell < 12; doorbell++) {
      const free = ENTRIES - (produced - core.get(XEN.ring + Sring.RspProd));
      const count = random.below(free + 1);
      for (let i = 0; i < count; i++) entry(core, random, produced + i, features);
      for (let i = 0; i < 6; i++) {
        const ref = random.below(220);
        if (core.get(XEN.active + ref * 8 + 4) === 0) grant(core, random, ref);
      }
      produced += random.oneIn(200) ? count + 1000 : count;
      core.set(XEN.ring + Sring.ReqProd, produced);
      core.set(XEN.ring + Sring.RspEvent, (produced - random.below(8)) >>> 0);
      followCore(core, twin);

      const result = core.call.xenBackConsume(XEN.back, XEN.table);
      expect(twin.consume(XEN.back, XEN.table)).toBe(result);
      expectSame(core, twin);
      if (result & RingResult.Fatal) {
        fatal++;
        expect(core.get(XEN.back + BlkbackContext.Broken)).toBe(1);
        break;
      }
      const found = core.get(XEN.table + TableField.RequestCount);
      requests += found;
      for (let i = 0; i < found; i++) {
        const at = RECORDS + i * RequestField.Size + RequestField.Status;
        const status = core.get(at);
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
        if (status !== BlockStatus.Pending) continue;
        const done = random.pick([BlockStatus.Ok, BlockStatus.Ok, BlockStatus.Io, BlockStatus.Unsupported]);
        core.set(at, done);
        twin.i32[at >>> 2] = done;
      }
      const answer = core.call.xenBackComplete(XEN.back, XEN.table, found);
      expect(twin.complete(XEN.back, XEN.table, found)).toBe(answer);
      expectSame(core, twin);
    }
  }
  expect(requests).toBeGreaterThan(4000);
  expect(fatal).toBeGreaterThan(0);
  // Good requests and each kind of refusal were among them.
  const { Pending, OutOfRange, ReadOnly, Unsupported, Io, Ok } = STATUS;
  expect([...statuses.keys()].sort()).toEqual([Ok, Pending, OutOfRange, ReadOnly, Unsupported, Io]);
});

const STATUS = {
  Ok: BlockStatus.Ok,
  Pending: BlockStatus.Pending,
  OutOfRange: BlockStatus.OutOfRange,
  ReadOnly: BlockStatus.ReadOnly,
  Unsupported: BlockStatus.Unsupported,
  Io: BlockStatus.Io,
};
