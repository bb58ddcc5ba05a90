import { describe, expect, test } from "vitest";
import { BlkifOp, BlkifStatus, Gtf, Sring } from "../../assembly/spec/xen.ts";
import { BlkbackContext, BlkbackFeature, RingContext, RingResult } from "../../assembly/spec/xen-context.ts";
import { Op, Status } from "../../src/core/block.ts";
import { XenRig } from "../support/xen-rig.ts";

/** Pages that no test uses for rings or tables. */
const DATA = 100;

/** What one bad request is answered with, and what is left pinned. */
function answer(rig: XenRig): number {
  rig.consume();
  expect(rig.records().every(({ status }) => status !== Status.Pending)).toBe(true);
  rig.complete();
  const responses = rig.responses();
  expect(responses.length).toBe(1);
  for (let ref = 0; ref < 512; ref++) expect(rig.pins(ref)).toBe(0);
  return responses[0].status;
}

describe.each([true, false])("wide %s", (wide) => {
  test("a read and a write become records over the granted pages", () => {
    const rig = new XenRig({ wide });
    rig.direct(BlkifOp.Read, 0x1234567890ab, 8, [{ ref: DATA }, { ref: DATA + 2, first: 2, last: 4 }]);
    rig.direct(BlkifOp.Write, 7, 100, [{ ref: DATA + 3, first: 7, last: 7 }]);
    expect(rig.consume()).toBe(0);
    const at = (frame: number) => frame * 4096;
    expect(rig.records()).toEqual([
      {
        op: Op.Read,
        status: Status.Pending,
        offset: 4096,
        length: 4096 + 1536,
        segments: [
          [at(DATA), 4096],
          [at(DATA + 2) + 1024, 1536],
        ],
      },
      { op: Op.Write, status: Status.Pending, offset: 51200, length: 512, segments: [[at(DATA + 3) + 3584, 512]] },
    ]);
    expect(rig.complete()).toBe(RingResult.Notify);
    expect(rig.responses()).toEqual([
      { id: 0x1234567890ab, op: BlkifOp.Read, status: BlkifStatus.Okay, padding: 0 },
      { id: 7, op: BlkifOp.Write, status: BlkifStatus.Okay, padding: 0 },
    ]);
  });

  test.each([0, 1, 4])("indices wrap at 2^32 and entries straddle pages, order %i", (order) => {
    const rig = new XenRig({ wide, order, start: 0xffffff00 });
    for (let round = 0; round < 40; round++) {
      const count = 1 + ((round * 13) % rig.entries);
      for (let i = 0; i < count; i++) rig.direct(BlkifOp.Read, round * 1000 + i, i % 100, [{ ref: DATA + (i % 50) }]);
      expect(rig.consume()).toBe(0);
      expect(rig.records().map(({ offset, segments }) => [offset, segments])).toEqual(
        Array.from({ length: count }, (_, i) => [(i % 100) * 512, [[(DATA + (i % 50)) * 4096, 4096]]]),
      );
      rig.complete();
      expect(rig.responses()).toEqual(
        Array.from({ length: count }, (_, i) => ({ id: round * 1000 + i, op: 0, status: 0, padding: 0 })),
      );
    }
    expect(rig.produced).toBeLessThan(0x80000000);
  });

  test("indirect requests: 256 segments from one page, answered with the operation carried out", () => {
    const rig = new XenRig({ wide });
    const segments = Array.from({ length: 256 }, (_, i) => ({ ref: 200 + i, first: i % 8, last: 7 }));
    rig.indirect(BlkifOp.Write, 5, 0, [90], segments);
    rig.consume();
    const [record] = rig.records();
    expect(record.status).toBe(Status.Pending);
    expect(record.segments.length).toBe(256);
    expect(record.segments[255]).toEqual([(200 + 255) * 4096 + 7 * 512, 512]);
    rig.complete();
    expect(rig.responses()).toEqual([{ id: 5, op: BlkifOp.Write, status: 0, padding: 0 }]);
  });

  test("more segments than a page of them holds: the second indirect page", () => {
    const rig = new XenRig({ wide, maxIndirect: 600, sectors: 2 ** 33 });
    const segments = Array.from({ length: 600 }, (_, i) => ({ ref: 100 + (i % 300), first: 0, last: 0 }));
    rig.indirect(BlkifOp.Read, 5, 2 ** 32 + 1, [90, 92], segments);
    rig.consume();
    const [record] = rig.records();
    expect([record.status, record.length, record.offset]).toEqual([Status.Pending, 600 * 512, (2 ** 32 + 1) * 512]);
    expect(record.segments[599]).toEqual([(100 + 299) * 4096, 512]);
    expect(rig.pins(100)).toBe(2);
    rig.complete();
    expect(rig.pins(100)).toBe(0);
  });

  test("discard, flush, barrier", () => {
    const rig = new XenRig({ wide, sectors: 2 ** 34 });
    rig.discard(1, 64, 2 ** 33);
    rig.direct(BlkifOp.FlushDiskcache, 2, 0, []);
    rig.direct(BlkifOp.FlushDiskcache, 3, 16, [{ ref: DATA }]);
    rig.direct(BlkifOp.WriteBarrier, 4, 24, [{ ref: DATA }]);
    rig.direct(BlkifOp.WriteBarrier, 5, 0, []);
    rig.discard(6, 0, 0);
    expect(rig.consume()).toBe(RingResult.Barrier);
    expect(rig.records().map(({ op, offset, length, status }) => [op, offset, length, status])).toEqual([
      [Op.Discard, 64 * 512, 2 ** 42, Status.Pending],
      [Op.Flush, 0, 0, Status.Pending],
      [Op.Flush, 0, 0, Status.Pending],
      [Op.Write, 16 * 512, 4096, Status.Pending],
      [Op.Flush, 0, 0, Status.Pending],
      [Op.Write, 24 * 512, 4096, Status.Pending],
      [Op.Flush, 0, 0, Status.Pending],
      [Op.Flush, 0, 0, Status.Pending],
      [Op.Discard, 0, 0, Status.Ok],
    ]);
    rig.complete();
    expect(rig.responses().map(({ id, op, status }) => [id, op, status])).toEqual([
      [1, BlkifOp.Discard, 0],
      [2, BlkifOp.FlushDiskcache, 0],
      [3, BlkifOp.FlushDiskcache, 0],
      [4, BlkifOp.WriteBarrier, 0],
      [5, BlkifOp.WriteBarrier, 0],
      [6, BlkifOp.Discard, 0],
    ]);
  });

  test("what fails in a barrier fails the barrier, and only it", () => {
    for (const failing of [0, 1, 2]) {
      const rig = new XenRig({ wide });
      rig.direct(BlkifOp.WriteBarrier, 1, 0, [{ ref: DATA }]);
      rig.direct(BlkifOp.Read, 2, 0, [{ ref: DATA }]);
      rig.consume();
      rig.table.setStatus(failing, Status.Media);
      rig.complete();
      expect(rig.responses().map(({ status }) => status)).toEqual([BlkifStatus.Error, BlkifStatus.Okay]);
    }
  });

  test("each cause of the block becomes the protocol's status", () => {
    const rig = new XenRig({ wide });
    const causes = [Status.Ok, Status.OutOfRange, Status.Media, Status.NoSpace, Status.ReadOnly, Status.Io];
    for (const cause of [...causes, Status.Unsupported]) rig.direct(BlkifOp.Read, cause, 0, [{ ref: DATA }]);
    rig.consume();
    [...causes, Status.Unsupported].forEach((cause, i) => {
      rig.table.setStatus(i, cause);
    });
    rig.complete();
    expect(rig.responses().map(({ status }) => status)).toEqual([0, -1, -1, -1, -1, -1, -2]);
  });
});

describe("refused, and answered as the protocol says", () => {
  const read = (rig: XenRig, ...args: [number, Parameters<XenRig["direct"]>[3], number?]) =>
    rig.direct(BlkifOp.Read, 1, ...args);
  const cases: [string, number, (rig: XenRig) => void][] = [
    ["no segments", -1, (rig) => read(rig, 0, [])],
    ["12 direct segments", -1, (rig) => read(rig, 0, [{ ref: DATA }], 12)],
    ["255 direct segments", -1, (rig) => read(rig, 0, [{ ref: DATA }], 255)],
    ["first_sect past last_sect", -1, (rig) => read(rig, 0, [{ ref: DATA, first: 3, last: 2 }])],
    ["last_sect past the page", -1, (rig) => read(rig, 0, [{ ref: DATA, first: 0, last: 8 }])],
    ["first_sect 255", -1, (rig) => read(rig, 0, [{ ref: DATA, first: 255, last: 255 }])],
    ["a reference past the table", -1, (rig) => read(rig, 0, [{ ref: 512 }])],
    ["a reference past everything", -1, (rig) => read(rig, 0, [{ ref: 0xffffffff }])],
    ["a good segment before a bad one", -1, (rig) => read(rig, 0, [{ ref: DATA }, { ref: 512 }])],
    ["out of the disk", -1, (rig) => read(rig, 8192 - 7, [{ ref: DATA }])],
    ["sector 2^64 - 1", -1, (rig) => read(rig, -1, [{ ref: DATA }])],
    ["a discard out of the disk", -1, (rig) => rig.discard(1, 1, 8192)],
    ["a discard of 2^53 sectors", -1, (rig) => rig.discard(1, 1, 2 ** 53)],
    ["operation 4", -2, (rig) => rig.direct(4, 1, 0, [{ ref: DATA }])],
    ["operation 255", -2, (rig) => rig.direct(255, 1, 0, [{ ref: DATA }])],
    ["an indirect flush", -1, (rig) => rig.indirect(BlkifOp.FlushDiskcache, 1, 0, [90], [{ ref: DATA }])],
    ["an indirect indirect", -1, (rig) => rig.indirect(BlkifOp.Indirect, 1, 0, [90], [{ ref: DATA }])],
    ["no indirect segments", -1, (rig) => rig.indirect(BlkifOp.Read, 1, 0, [90], [])],
    ["257 indirect segments", -1, (rig) => rig.indirect(BlkifOp.Read, 1, 0, [90], [{ ref: DATA }], 257)],
    ["65535 indirect segments", -1, (rig) => rig.indirect(BlkifOp.Read, 1, 0, [90], [{ ref: DATA }], 65535)],
    ["a bad indirect segment", -1, (rig) => rig.indirect(BlkifOp.Read, 1, 0, [90], [{ ref: DATA }, { ref: 999 }])],
    [
      "an indirect page not granted",
      -1,
      (rig) => {
        rig.grant(90, 90, Gtf.Invalid);
        rig.indirect(BlkifOp.Read, 1, 0, [90], [{ ref: DATA }]);
      },
    ],
  ];
  const grants: [string, Parameters<XenRig["grant"]>][] = [
    ["nothing granted", [DATA, DATA, Gtf.Invalid]],
    ["a transfer", [DATA, DATA, 2]],
    ["a transitive grant", [DATA, DATA, 3]],
    ["a sub-page grant", [DATA, DATA, Gtf.PermitAccess | Gtf.SubPage]],
    ["granted to another domain", [DATA, DATA, Gtf.PermitAccess, 5]],
    ["read-only, to be filled", [DATA, DATA, Gtf.PermitAccess | Gtf.ReadOnly]],
    ["a frame past the end of RAM", [DATA, 1024]],
    ["a frame whose address wraps", [DATA, 0x100000]],
    ["frame 2^32 - 1", [DATA, 0xffffffff]],
  ];
  for (const [name, args] of grants) {
    cases.push([
      name,
      -1,
      (rig) => {
        rig.grant(...args);
        read(rig, 0, [{ ref: DATA }]);
      },
    ]);
  }
  test.each(cases)("%s", (_name, status, put) => {
    const rig = new XenRig();
    put(rig);
    expect(answer(rig)).toBe(status);
  });

  test("what was not offered", () => {
    for (const op of [BlkifOp.FlushDiskcache, BlkifOp.WriteBarrier, BlkifOp.Discard, BlkifOp.Indirect]) {
      const rig = new XenRig({ features: 0, maxIndirect: 0 });
      rig.direct(op, 1, 0, []);
      expect(answer(rig)).toBe(BlkifStatus.NotSupported);
    }
  });

  test("writes of every kind to a read-only disk", () => {
    const rig = new XenRig({ features: BlkbackFeature.ReadOnly | BlkbackFeature.Discard });
    rig.direct(BlkifOp.Write, 1, 0, [{ ref: DATA }]);
    rig.indirect(BlkifOp.Write, 2, 0, [90], [{ ref: DATA }]);
    rig.discard(3, 0, 8);
    rig.direct(BlkifOp.Read, 4, 0, [{ ref: DATA }]);
    rig.consume();
    rig.complete();
    expect(rig.responses().map(({ status }) => status)).toEqual([-1, -1, -1, 0]);
  });
});

describe("grants", () => {
  test("in use from consume to complete, and the guest sees which way", () => {
    const rig = new XenRig();
    rig.grant(DATA + 1, DATA + 1, Gtf.PermitAccess | Gtf.ReadOnly);
    rig.direct(BlkifOp.Read, 1, 0, [{ ref: DATA }]);
    rig.direct(BlkifOp.Write, 2, 0, [{ ref: DATA + 1 }]);
    rig.consume();
    expect(rig.grantFlags(DATA)).toBe(Gtf.PermitAccess | Gtf.Reading | Gtf.Writing);
    expect(rig.grantFlags(DATA + 1)).toBe(Gtf.PermitAccess | Gtf.ReadOnly | Gtf.Reading);
    rig.complete();
    expect(rig.grantFlags(DATA)).toBe(Gtf.PermitAccess);
    expect(rig.grantFlags(DATA + 1)).toBe(Gtf.PermitAccess | Gtf.ReadOnly);
  });

  test("an entry changed while mapped changes nothing; withdrawn, it stays withdrawn", () => {
    const rig = new XenRig();
    rig.direct(BlkifOp.Write, 1, 0, [{ ref: DATA }]);
    rig.consume();
    rig.grant(DATA, DATA + 9, Gtf.Invalid);
    const inFlight = rig.records()[0].segments;
    expect(inFlight).toEqual([[DATA * 4096, 4096]]);
    rig.complete();
    expect(rig.grantFlags(DATA)).toBe(Gtf.Invalid);
    rig.direct(BlkifOp.Write, 2, 0, [{ ref: DATA }]);
    expect(answer(Object.assign(rig, { consumed: rig.header(Sring.RspProd) }))).toBe(BlkifStatus.Error);
  });

  test("mapped read-only first, then to be filled: allowed or not by the entry as first seen", () => {
    const rig = new XenRig();
    rig.grant(DATA + 1, DATA + 1, Gtf.PermitAccess | Gtf.ReadOnly);
    for (const ref of [DATA, DATA + 1]) {
      rig.direct(BlkifOp.Write, ref, 0, [{ ref }]);
      rig.direct(BlkifOp.Read, ref, 0, [{ ref }]);
    }
    rig.consume();
    expect(rig.records().map(({ status }) => status)).toEqual([
      Status.Pending,
      Status.Pending,
      Status.Pending,
      Status.Io,
    ]);
    expect(rig.grantFlags(DATA) & Gtf.Writing).toBe(Gtf.Writing);
    rig.complete();
    expect([rig.pins(DATA), rig.pins(DATA + 1), rig.grantFlags(DATA)]).toEqual([0, 0, Gtf.PermitAccess]);
  });
});

describe("events", () => {
  test("the guest is notified when its rsp_event lies among the new responses, and not otherwise", () => {
    const rig = new XenRig();
    const round = (count: number) => {
      for (let i = 0; i < count; i++) rig.direct(BlkifOp.Read, i, 0, [{ ref: DATA }]);
      rig.consume();
      const result = rig.complete();
      rig.responses();
      return result;
    };
    rig.header(Sring.RspEvent, 4);
    expect([round(3), round(1), round(1)]).toEqual([0, RingResult.Notify, 0]);
    rig.header(Sring.RspEvent, 5 + 4); // in the middle of the next eight
    expect(round(8)).toBe(RingResult.Notify);
  });

  test("after each batch the next request asks for an event; requests that came meanwhile are seen", () => {
    const rig = new XenRig();
    rig.direct(BlkifOp.Read, 1, 0, [{ ref: DATA }]);
    rig.consume();
    rig.direct(BlkifOp.Read, 2, 0, [{ ref: DATA }]);
    rig.header(Sring.ReqProd, rig.produced);
    expect(rig.complete() & RingResult.More).toBe(RingResult.More);
    expect(rig.header(Sring.ReqEvent)).toBe(2);
    rig.consume();
    expect(rig.table.count).toBe(1);
    expect(rig.complete() & RingResult.More).toBe(0);
    expect(rig.header(Sring.ReqEvent)).toBe(3);
  });

  test("completing nothing re-arms the event and answers nothing", () => {
    const rig = new XenRig();
    rig.direct(BlkifOp.Read, 1, 0, [{ ref: DATA }]);
    rig.consume();
    expect(rig.core.call.xenBackComplete(rig.context, rig.table.address, 0)).toBe(0);
    expect(rig.header(Sring.ReqEvent)).toBe(2);
    expect(rig.responses()).toEqual([]);
  });
});

describe("a producer index that the ring cannot hold", () => {
  test.each([
    ["one too many", 33],
    ["half the number space", 0x80000000],
    ["behind the consumer", 0xffffffff],
  ])("%s is fatal, at once and for good", (_name, produced) => {
    const rig = new XenRig();
    rig.produced = produced;
    expect(rig.consume()).toBe(RingResult.Fatal);
    rig.produced = 1;
    expect(rig.consume()).toBe(RingResult.Fatal);
    expect(rig.table.count).toBe(0);
  });

  test("requests in flight count: 32 of them leave room for none", () => {
    const rig = new XenRig();
    for (let i = 0; i < 32; i++) rig.direct(BlkifOp.Read, i, 0, [{ ref: DATA }]);
    rig.consume();
    rig.produced = 33;
    rig.header(Sring.ReqProd, 33);
    expect(rig.core.call.xenBackConsume(rig.context, rig.table.address)).toBe(RingResult.Fatal);
  });

  test("what was in flight lets go of its pages and is not answered", () => {
    const rig = new XenRig();
    rig.direct(BlkifOp.Read, 1, 0, [{ ref: DATA }]);
    rig.consume();
    rig.set(rig.context, BlkbackContext.Broken, 1);
    expect(rig.complete()).toBe(RingResult.Fatal);
    expect([rig.pins(DATA), rig.header(Sring.RspProd)]).toEqual([0, 0]);
  });
});

test("a table that is full stops short of the next request, which comes with the next call", () => {
  const rig = new XenRig({ order: 1 });
  const segments = Array.from({ length: 256 }, (_, i) => ({ ref: 200 + i }));
  for (let i = 0; i < 10; i++) rig.indirect(BlkifOp.Read, i, 0, [90], segments);
  rig.consume();
  expect(rig.table.count).toBe(7); // 2,048 segments, 257 each and room for one more of the largest kind
  expect(rig.complete() & RingResult.More).toBe(RingResult.More);
  rig.consume();
  expect(rig.table.count).toBe(3);
  rig.complete();
  expect(rig.responses().map(({ id }) => id)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect(rig.get(rig.context, RingContext.Consumed)).toBe(10);
});

test("sectors of 4,096 bytes: offsets, counts and segments in those", () => {
  const rig = new XenRig({ sectorShift: 12, sectors: 100 });
  rig.direct(BlkifOp.Read, 1, 99, [{ ref: DATA, first: 0, last: 0 }]);
  rig.direct(BlkifOp.Read, 2, 0, [{ ref: DATA, first: 0, last: 1 }]);
  rig.consume();
  expect(rig.records().map(({ status, offset, length }) => [status, offset, length])).toEqual([
    [Status.Pending, 99 * 4096, 4096],
    [Status.Io, 0, 0],
  ]);
});
