import { afterEach, expect, test } from "vitest";
import { PvscsiRings } from "../../assembly/spec/pvscsi.ts";
import { PvscsiContext } from "../../assembly/spec/pvscsi-context.ts";
import { ScsiOp } from "../../assembly/spec/scsi.ts";
import { coreFor } from "../../src/wasm/core.ts";
import { FakeBlock } from "../support/fake-block.ts";
import { AT, IN, LIST, OUT, RawPvscsi, rw10 } from "../support/pvscsi.ts";
import { TracedCore } from "../support/traced-core.ts";

let traced: TracedCore | undefined;
afterEach(() => {
  traced?.uninstall();
  traced = undefined;
});

/** One request of every kind and every way to be refused, each with a list of its own. */
function fill(raw: RawPvscsi): void {
  let lists = 0;
  const list = (...elements: [number, number, number?][]) => raw.list(elements, AT.lists + 4096 * lists++);
  const { data } = AT;
  raw.push({ cdb: rw10(ScsiOp.Read10, 0, 8), flags: IN });
  raw.push({
    cdb: rw10(ScsiOp.Write10, 8, 8),
    flags: OUT | LIST,
    address: list([data, 512], [data, 0], [data + 1024, 9000]),
  });
  const further = list([data + 16384, 4096]);
  raw.push({ cdb: rw10(ScsiOp.Read10, 0, 8), flags: IN | LIST, address: list([data, 1], [further, 0, 1]) });
  raw.push({ cdb: [ScsiOp.Inquiry, 0, 0, 0, 96, 0], flags: IN });
  raw.push({ cdb: [ScsiOp.Inquiry, 0, 0, 0, 96, 0], lun: [0, 1] });
  raw.push({ cdb: [0, 0, 0, 0, 0, 0], target: 9, length: 0 });
  raw.push({ cdb: rw10(ScsiOp.Read10, 0xffffff, 8) });
  raw.push({ cdb: rw10(ScsiOp.Read10, 0, 8), address: 0xffffff00 });
  raw.push({ cdb: rw10(ScsiOp.Read10, 0, 8), flags: LIST, address: list([0xfffffff0, 4096]) });
  raw.push({ cdb: rw10(ScsiOp.Read10, 0, 8), flags: LIST, address: 0xfffffff0 });
  raw.push({ cdb: rw10(ScsiOp.Read10, 0, 8), cdbLength: 32 });
  raw.push({ cdb: [ScsiOp.Unmap, 0, 0, 0, 0, 0, 0, 0, 24, 0], address: data + 40960, length: 24 });
  // Empty to the end of its budget.
  raw.push({ cdb: rw10(ScsiOp.Read10, 0, 8), flags: LIST, address: AT.sense + 4096 });
}

function watched(after: (name: string, raw: RawPvscsi) => void, tracer: TracedCore): RawPvscsi {
  const raw = new RawPvscsi([new FakeBlock(1 << 20)]);
  raw.setUp();
  tracer.perCall(coreFor(raw.machine.memory.wasm), (name) => after(name, raw));
  return raw;
}

test("no shared byte is loaded twice in a call, nor in a kick, nor in a message", () => {
  const tracer = (traced = TracedCore.install());
  const calls: string[] = [];
  const kick: { address: number; bytes: number }[] = [];
  const raw = watched((name, { machine: { memory } }) => {
    calls.push(name);
    const [start, end] = [memory.base, memory.base + memory.size];
    expect(tracer.twice(start, end)).toEqual([]);
    kick.push(...tracer.within(start, end));
  }, tracer);
  fill(raw);
  raw.kick();
  expect(calls).toEqual(["pvscsiConsume", "pvscsiComplete"]);
  expect(kick.length).toBeGreaterThan(100);
  tracer.clear();
  tracer.loads.push(...kick);
  expect(tracer.twice(raw.machine.memory.base, raw.machine.memory.base + raw.machine.memory.size)).toEqual([]);
  expect(raw.completions().length).toBe(13);
  raw.setUpMessages();
  raw.device.plug(3, new FakeBlock(512));
  expect(calls.slice(2)).toEqual(["pvscsiMessage"]);
  // The device reads no index of its own back: only what the driver produces and consumes.
  const { base } = raw.machine.memory;
  const state = kick.filter(({ address }) => address - base >= AT.state && address - base < AT.state + 4096);
  expect(state.map(({ address }) => address - base - AT.state)).toEqual([
    PvscsiRings.RequestProducer,
    PvscsiRings.MessageConsumer,
  ]);
});

test("a guest that changes every field right after it was read changes nothing", () => {
  /** What the first consume made of the ring. */
  const records = (attack: boolean): unknown[] => {
    let armed = false;
    let raw: RawPvscsi | undefined;
    const tracer = TracedCore.install(({ address, bytes }) => {
      if (!armed || !raw || address < raw.machine.memory.base) return;
      for (let i = 0; i < bytes; i++) raw.machine.memory.linear[address + i] ^= 0xff;
    });
    traced = tracer;
    const found: unknown[] = [];
    raw = watched((name, { machine: { memory } }) => {
      if (name !== "pvscsiConsume" || found.length > 0) return;
      armed = false;
      const core = coreFor(memory.wasm);
      // The context is the adapter's first reservation.
      const ctx = 65536;
      found.push(core.get(ctx + PvscsiContext.CommandCount), core.get(ctx + PvscsiContext.SegmentCount));
      found.push([...core.u32.subarray((ctx + PvscsiContext.Commands) >>> 2, (ctx + PvscsiContext.Done) >>> 2)]);
    }, tracer);
    fill(raw);
    armed = attack;
    raw.kick();
    tracer.uninstall();
    return found;
  };
  const honest = records(false);
  expect(honest[0]).toBe(13);
  expect(records(true)).toEqual(honest);
});
