import { afterEach, describe, expect, test } from "vitest";
import { BlkifOp, Gtf, Sring } from "../../assembly/spec/xen.ts";
import { Op, Status } from "../../src/core/block.ts";
import { coreFor } from "../../src/wasm/core.ts";
import { TracedCore } from "../support/traced-core.ts";
import { connect, request } from "../support/xen.ts";
import { XenRig } from "../support/xen-rig.ts";

const DATA = 100;

let traced: TracedCore | undefined;
afterEach(() => {
  traced?.uninstall();
  traced = undefined;
});

/** One request of every kind and every way to be refused; references repeated within and across requests. */
function fill(rig: XenRig): void {
  rig.grant(DATA + 20, DATA + 20, Gtf.PermitAccess | Gtf.ReadOnly);
  rig.grant(DATA + 21, DATA + 21, Gtf.Invalid);
  rig.grant(DATA + 22, 0xffffff);
  const segments = Array.from({ length: 11 }, (_, i) => ({ ref: DATA + i, first: i % 8, last: 7 }));
  rig.direct(BlkifOp.Read, 1, 0, segments);
  rig.direct(BlkifOp.Write, 2, 0, [{ ref: DATA }, { ref: DATA }, { ref: DATA + 20 }]);
  rig.direct(BlkifOp.Read, 3, 0, [{ ref: DATA + 20 }]);
  rig.direct(BlkifOp.Read, 4, 0, [{ ref: DATA + 30 }, { ref: 9999 }]);
  rig.direct(BlkifOp.Read, 5, 0, [{ ref: DATA + 21 }]);
  rig.direct(BlkifOp.Read, 6, 0, [{ ref: DATA + 22 }]);
  rig.direct(BlkifOp.Read, 7, 0, [{ ref: DATA + 31, first: 7, last: 0 }]);
  rig.direct(BlkifOp.Read, 8, 1e9, [{ ref: DATA + 32 }]);
  rig.direct(BlkifOp.Read, 9, 0, []);
  rig.direct(BlkifOp.FlushDiskcache, 10, 0, []);
  rig.direct(BlkifOp.WriteBarrier, 11, 8, [{ ref: DATA + 33 }]);
  rig.discard(12, 8, 8);
  rig.direct(77, 13, 0, []);
  rig.indirect(
    BlkifOp.Write,
    14,
    0,
    [90],
    Array.from({ length: 200 }, (_, i) => ({ ref: 200 + (i % 150) })),
  );
  rig.indirect(BlkifOp.Read, 15, 0, [91], [{ ref: DATA + 34 }, { ref: 9999 }]);
  rig.indirect(BlkifOp.FlushDiskcache, 16, 0, [92], [{ ref: DATA + 35 }]);
}

const shared = (rig: XenRig): [number, number] => [rig.memory.base, rig.memory.base + rig.memory.size];

describe.each([
  [true, 0],
  [true, 2],
  [false, 0],
  [false, 2],
])("wide %s, order %i", (wide, order) => {
  // What two requests name is read for each of them where the first left nothing mapped: an indirect page, an entry that
  // granted nothing. Within a request, and for every grant that is mapped, once.
  test("no shared byte is loaded twice in a call", () => {
    traced = TracedCore.install();
    const rig = new XenRig({ wide, order });
    // From the second page on, entries straddle pages.
    for (let round = 0; round < (order === 0 ? 1 : 6); round++) {
      fill(rig);
      traced.clear();
      rig.consume();
      const loads = traced.within(...shared(rig));
      expect(loads.length).toBeGreaterThan(200);
      expect(traced.twice(...shared(rig))).toEqual([]);
      traced.clear();
      rig.complete();
      expect(traced.within(...shared(rig)).length).toBeGreaterThan(100);
      expect(traced.twice(...shared(rig))).toEqual([]);
      expect(rig.responses().length).toBe(16);
    }
  });

  test("a guest that changes every field right after it was read changes nothing", () => {
    const honest = new XenRig({ wide, order });
    fill(honest);
    honest.consume();
    let rig: XenRig | undefined;
    traced = TracedCore.install(({ address, bytes }) => {
      if (!rig || address < rig.memory.base) return;
      for (let i = 0; i < bytes; i++) rig.memory.linear[address + i] ^= 0xff;
    });
    const attacked = new XenRig({ wide, order });
    fill(attacked);
    rig = attacked;
    attacked.consume();
    expect(attacked.records()).toEqual(honest.records());
    // Nor afterwards: what is answered comes from the table.
    attacked.complete();
    for (let ref = 0; ref < 512; ref++) expect(attacked.pins(ref)).toBe(0);
  });
});

test("over a whole doorbell only the producer index is read again, by the final check", () => {
  traced = TracedCore.install();
  const rig = new XenRig();
  // No grants repeat here, so that what completion reads is read for the first time.
  rig.direct(BlkifOp.FlushDiskcache, 1, 0, []);
  rig.discard(2, 8, 8);
  traced.clear();
  rig.consume();
  rig.complete();
  const producer = rig.page(1) + Sring.ReqProd;
  expect(traced.twice(...shared(rig))).toEqual([producer, producer + 1, producer + 2, producer + 3]);
});

test("the tracer sees a second load", () => {
  traced = TracedCore.install();
  const rig = new XenRig();
  rig.direct(BlkifOp.Read, 1, 0, [{ ref: DATA }]);
  traced.clear();
  rig.consume();
  rig.consume();
  expect(traced.twice(...shared(rig)).length).toBe(4); // the producer index, once a call
});

test("the front half loads no response twice", () => {
  const tracer = TracedCore.install();
  traced = tracer;
  const { machine, driver, guest } = connect();
  const ref = Number(guest.store.read("device/vbd/51712/ring-ref"));
  const frame = machine.guest.ram.read32(guest.grants.address + ref * 8 + 4);
  const ring = machine.memory.base + frame * 4096;
  const buffer = machine.guest.ram.allocate(1);
  const calls: number[][] = [];
  tracer.perCall(coreFor(machine.memory.wasm), (name) => {
    if (name.startsWith("xenFront")) calls.push(tracer.twice(ring, ring + 4096));
  });
  const requests = [0, 1, 2].map((i) => request(Op.Read, i * 4096, [[buffer, 4096]]));
  driver.start(requests);
  expect(requests.every(({ status }) => status === Status.Ok)).toBe(true);
  expect(calls).toEqual([[], [], []]); // submit, poll, and the poll that finds nothing more
});
