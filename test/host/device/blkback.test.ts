import { describe, expect, test } from "vitest";
import { Sring, XenbusState } from "../../../assembly/spec/xen.ts";
import { type BlockRequest, Op, Status } from "../../../src/core/block.ts";
import { connectBlkfront } from "../../../src/guest/blkfront.ts";
import { attachBlkback } from "../../../src/host/device/blkback.ts";
import { Hypervisor } from "../../../src/hypervisor/hypervisor.ts";
import { FakeBlock } from "../../support/fake-block.ts";
import { connect, MIB, pattern, request, roundTrip, same } from "../../support/xen.ts";

const code = (code: string) => expect.objectContaining({ code });
const state = (hypervisor: Hypervisor, end: "front" | "back") =>
  Number(
    hypervisor.xenstore.read(
      0,
      end === "front" ? "/local/domain/1/device/vbd/51712/state" : "/local/domain/0/backend/vbd/1/51712/state",
    ),
  );

/** Guest-physical address of the only ring page. */
function ringPage({ guest, machine }: ReturnType<typeof connect>): number {
  const ref = Number(guest.store.read("device/vbd/51712/ring-ref"));
  return machine.guest.ram.read32(guest.grants.address + ref * 8 + 4) * 4096;
}

describe("what is negotiated", () => {
  test("size, sector size, limits and read-only come from the block", () => {
    const plain = connect();
    expect([plain.driver.size, plain.driver.sectorSize, plain.driver.readOnly]).toEqual([4 * MIB, 512, false]);
    expect(plain.driver.maxBytes).toBe(128 << 10);
    expect(plain.driver.maxSegments).toBeGreaterThanOrEqual(32);
    const large = connect({ block: { sectorSize: 4096, readOnly: true } });
    expect([large.driver.size, large.driver.sectorSize, large.driver.readOnly]).toEqual([4 * MIB, 4096, true]);
  });

  test("sectors of 4,096 bytes: whole ones only", () => {
    const { machine, driver } = connect({ block: { sectorSize: 4096 } });
    roundTrip(machine, driver, 4096);
    const buffer = machine.guest.ram.allocate(1);
    const part = request(Op.Read, 0, [[buffer, 512]]);
    expect(driver.start([part])).toBe(1);
    expect(part.status).toBe(Status.Unsupported);
    roundTrip(machine, driver, 8192);
  });

  test("a front end that cannot use large sectors is refused, and the store says why", () => {
    const hypervisor = new Hypervisor();
    const machine = hypervisor.createMachine({ memory: 4 * MIB });
    const device = attachBlkback(hypervisor, machine, new FakeBlock(MIB, { sectorSize: 4096 }));
    const { store } = hypervisor.xenGuest(machine);
    store.write("device/vbd/51712/state", XenbusState.Initialised);
    expect(device.error).toMatchObject({ code: "UNSUPPORTED" });
    expect(store.read("/local/domain/0/error/backend/vbd/1/51712/error")).toMatch(/sectors of 4096/);
    expect(device.state).toBe(XenbusState.Closed);
  });

  test("without indirect requests the limits shrink and data still moves", () => {
    const { machine, driver } = connect({
      back: { maxIndirectSegments: 0, maxRingPageOrder: 0 },
      front: { ringPageOrder: 3 },
    });
    expect([driver.depth, driver.maxBytes]).toEqual([32, 16 << 10]);
    roundTrip(machine, driver, 512);
  });

  test("flush, barrier and discard as offered", () => {
    const all = connect();
    const run = ({ driver }: typeof all, op: Op) => {
      const made = request(op, 0, [], op === Op.Discard ? 8192 : 0);
      expect(driver.start([made])).toBe(1);
      return made.status;
    };
    expect([run(all, Op.Flush), run(all, Op.Discard), run(all, Op.WriteZeroes)]).toEqual([
      Status.Ok,
      Status.Ok,
      Status.Unsupported,
    ]);
    expect(all.block.asked.map(({ op }) => op)).toEqual([Op.Flush, Op.Discard]);
    const barrier = connect({ back: { flush: false } });
    expect(run(barrier, Op.Flush)).toBe(Status.Ok);
    expect(barrier.block.asked.map(({ op }) => op)).toEqual([Op.Flush]);
    const none = connect({ back: { flush: false, barrier: false, discard: false } });
    expect([run(none, Op.Flush), run(none, Op.Discard)]).toEqual([Status.Ok, Status.Unsupported]);
    expect(none.block.asked).toEqual([]);
  });
});

describe("how requests end", () => {
  test("a fault of the block reaches the guest as the protocol can say it, and only that request", () => {
    const { machine, driver, block } = connect();
    const buffer = machine.guest.ram.allocate(1);
    block.fault = ({ offset }) => (offset === 4096 ? Status.Media : offset === 8192 ? Status.Unsupported : Status.Ok);
    const batch = [0, 4096, 8192, 12288].map((offset) => request(Op.Read, offset, [[buffer, 4096]]));
    driver.start(batch);
    expect(batch.map(({ status }) => status)).toEqual([Status.Ok, Status.Io, Status.Unsupported, Status.Ok]);
  });

  test("past the end, into memory that is not there, to a read-only disk", () => {
    const { machine, driver } = connect({ block: { readOnly: true } });
    const buffer = machine.guest.ram.allocate(1);
    const bad = [
      request(Op.Read, 4 * MIB, [[buffer, 512]]),
      request(Op.Read, 0, [[15 * MIB + 0x2000000, 512]]),
      request(Op.Write, 0, [[buffer, 512]]),
      request(Op.Read, 0, [[buffer + 100, 512]]), // not a whole sector of a page
    ];
    expect(driver.start(bad)).toBe(4);
    expect(bad.map(({ status }) => status)).toEqual([Status.Io, Status.Io, Status.Io, Status.Unsupported]);
  });

  test("a block that throws fails its batch, not the back end", () => {
    const { machine, driver, block } = connect();
    block.closed = true;
    const buffer = machine.guest.ram.allocate(1);
    const one = request(Op.Read, 0, [[buffer, 512]]);
    driver.start([one]);
    expect(one.status).toBe(Status.Io);
    block.closed = false;
    roundTrip(machine, driver, 0);
  });

  test("more than the limits of the driver is refused without the ring", () => {
    const { machine, driver, block } = connect();
    const buffer = machine.guest.ram.allocate(200);
    const scattered = request(
      Op.Read,
      0,
      Array.from({ length: driver.maxSegments + 1 }, (_, i): [number, number] => [buffer + i * 8192, 512]).slice(
        0,
        100,
      ),
    );
    const long = request(Op.Read, 0, [[buffer, 200 * 4096]]);
    driver.start([scattered, long]);
    expect([scattered.status, long.status]).toEqual([Status.Unsupported, Status.Unsupported]);
    expect(block.asked).toEqual([]);
  });

  test("the limits hold for the worst alignment", () => {
    for (const maxPages of [11, 32, 100, 128, 256]) {
      const { machine, driver } = connect({ front: { maxPages } });
      const buffer = machine.guest.ram.allocate(1024);
      const each = Math.floor(driver.maxBytes / driver.maxSegments / 512) * 512;
      const runs = Array.from({ length: driver.maxSegments }, (_, i): [number, number] => [
        buffer + i * 12288 + 3584,
        each,
      ]);
      const read = request(Op.Read, 0, runs);
      driver.start([read]);
      expect(read.status).toBe(Status.Ok);
    }
  });
});

describe("a block that completes later", () => {
  test("requests are answered when they are done, later ones go on meanwhile, in any order", async () => {
    const { machine, driver, block, done } = connect({ block: { manual: true } });
    const { ram } = machine.guest;
    const pages = Array.from({ length: 3 }, () => ram.allocate(1));
    pattern(block.bytes, 1);
    const reads = pages.map((page, i) => request(Op.Read, i * 4096, [[page, 4096]]));
    for (const read of reads) driver.start([read]);
    expect([block.waiting, done.length]).toEqual([3, 0]);
    await block.release(1);
    expect(done).toEqual([reads[1]]);
    expect(same(ram.bytes(pages[1], 4096), block.bytes.subarray(4096, 8192))).toBe(true);
    await block.release();
    await block.release();
    expect(done).toEqual([reads[1], reads[0], reads[2]]);
  });

  test("with every table in flight the ring waits, and nothing is lost", async () => {
    const { machine, driver, block, done } = connect({ block: { manual: true } });
    const buffer = machine.guest.ram.allocate(1);
    for (let i = 0; i < 20; i++) driver.start([request(Op.Read, i * 4096, [[buffer, 4096]])]);
    expect(block.waiting).toBe(4);
    while (block.waiting > 0) await block.release();
    expect(done.length).toBe(20);
    expect(block.asked.map(({ offset }) => offset).sort((a, b) => a - b)).toEqual(
      Array.from({ length: 20 }, (_, i) => i * 4096),
    );
  });

  test("a barrier waits for what is in flight, and later requests for it", async () => {
    const { machine, driver, block, done } = connect({ block: { manual: true }, back: { flush: false } });
    const buffer = machine.guest.ram.allocate(1);
    const go = (op: Op) => driver.start([request(op, 0, op === Op.Flush ? [] : [[buffer, 512]])]);
    go(Op.Write);
    go(Op.Flush); // sent as a barrier
    go(Op.Read);
    expect(block.asked.map(({ op }) => op)).toEqual([Op.Write]);
    await block.release();
    expect(block.asked.map(({ op }) => op)).toEqual([Op.Write, Op.Flush]);
    await block.release();
    expect(block.asked.map(({ op }) => op)).toEqual([Op.Write, Op.Flush, Op.Read]);
    await block.release();
    expect(done.length).toBe(3);
  });
});

describe("the end of a connection", () => {
  test("close, then connect again, many times, with nothing lost of memory or references", () => {
    const set = connect();
    const { hypervisor, machine, guest } = set;
    let { driver } = set;
    roundTrip(machine, driver, 0);
    driver.close();
    driver.close();
    expect([state(hypervisor, "front"), state(hypervisor, "back")]).toEqual([XenbusState.Closed, XenbusState.Closed]);
    driver = connectBlkfront(guest);
    const free = guest.grants.available;
    const spot = machine.guest.ram.allocate(1);
    machine.guest.ram.free(spot, 1);
    for (let i = 0; i < 50; i++) {
      driver.close();
      driver = connectBlkfront(guest, { protocol: i % 2 ? "x86_64-abi" : "x86_32-abi" });
      expect(state(hypervisor, "back")).toBe(XenbusState.Connected);
      roundTrip(machine, driver, i * 4096);
    }
    expect(guest.grants.available).toBe(free);
  });

  test("a driver that is closed takes nothing", () => {
    const { machine, driver } = connect();
    driver.close();
    const late = request(Op.Read, 0, [[machine.guest.ram.allocate(1), 512]]);
    expect(driver.start([late])).toBe(1);
    expect(late.status).toBe(Status.Io);
  });

  test("closing with requests in flight: they are answered first, then the ring is let go", async () => {
    const { hypervisor, machine, driver, block, done } = connect({ block: { manual: true } });
    const page = machine.guest.ram.allocate(1);
    pattern(block.bytes, 3);
    driver.start([request(Op.Read, 0, [[page, 4096]])]);
    driver.close();
    expect([done.length, state(hypervisor, "back")]).toEqual([0, XenbusState.Closing]);
    await block.release();
    expect(done.map(({ status }) => status)).toEqual([Status.Ok]);
    expect(same(machine.guest.ram.bytes(page, 4096), block.bytes.subarray(0, 4096))).toBe(true);
    expect([state(hypervisor, "front"), state(hypervisor, "back")]).toEqual([XenbusState.Closed, XenbusState.Closed]);
  });

  test("the host takes the disk away: in flight is answered, the guest sees it go, the number is free", async () => {
    const { hypervisor, machine, guest, driver, device, block, done } = connect({ block: { manual: true } });
    driver.start([request(Op.Read, 0, [[machine.guest.ram.allocate(1), 512]])]);
    const closing = device.close();
    expect(closing).toBeInstanceOf(Promise);
    await block.release();
    await closing;
    await device.close();
    expect(done.map(({ status }) => status)).toEqual([Status.Ok]);
    const late: BlockRequest = request(Op.Read, 0, [[machine.guest.ram.allocate(1), 512]]);
    driver.start([late]);
    expect(late.status).toBe(Status.Io);
    driver.close();
    expect(() => connectBlkfront(guest)).toThrow(code("NOT_FOUND"));
    attachBlkback(hypervisor, machine, new FakeBlock(MIB));
    roundTrip(machine, connectBlkfront(guest), 0);
  });

  test("a producer index past the ring halts it: error node, Closed, requests failed, and a fresh start", () => {
    const set = connect();
    const { hypervisor, machine, guest, driver, device } = set;
    const page = ringPage(set);
    machine.guest.ram.write32(page + Sring.ReqProd, 5000);
    const port = Number(guest.store.read("device/vbd/51712/event-channel"));
    guest.events.send(port);
    expect(device.error).toMatchObject({ code: "PROTOCOL" });
    expect(guest.store.read("/local/domain/0/error/backend/vbd/1/51712/error")).toMatch(/more than the ring/);
    expect(state(hypervisor, "back")).toBe(XenbusState.Closed);
    const late = request(Op.Read, 0, [[machine.guest.ram.allocate(1), 512]]);
    driver.start([late]);
    expect(late.status).toBe(Status.Io);
    roundTrip(machine, connectBlkfront(guest), 0);
  });

  test("a back end that answers what was not asked is not believed", () => {
    const set = connect({ block: { manual: true } });
    const { machine, guest, hypervisor, driver, done } = set;
    const page = ringPage(set);
    driver.start([request(Op.Read, 0, [[machine.guest.ram.allocate(1), 512]])]);
    machine.guest.ram.write32(page + Sring.Entries, 17); // id 17 was never sent
    machine.guest.ram.write32(page + Sring.RspProd, 1);
    const port = Number(guest.store.read("device/vbd/51712/event-channel"));
    hypervisor.domain(machine).raise(port);
    expect(done.map(({ status, error }) => [status, error?.code])).toEqual([[Status.Io, "PROTOCOL"]]);
  });

  test("machine reset: the ring is forgotten, late completions touch nothing of the new guest", async () => {
    const { hypervisor, machine, guest, driver, device, block } = connect({ block: { manual: true } });
    driver.start([request(Op.Write, 0, [[machine.guest.ram.allocate(1), 512]])]);
    machine.reset();
    expect([device.state, state(hypervisor, "front")]).toEqual([XenbusState.InitWait, XenbusState.Initialising]);
    const again = hypervisor.xenGuest(machine);
    expect(again).not.toBe(guest);
    const before = machine.memory.linear.slice(machine.memory.base);
    await block.release();
    expect(same(machine.memory.linear.subarray(machine.memory.base), before)).toBe(true);
    const next = connectBlkfront(again);
    const read = request(Op.Read, 0, [[machine.guest.ram.allocate(1), 512]]);
    next.start([read]);
    await block.release();
    expect(read.status).toBe(Status.Ok);
    await device.close();
  });
});

describe("several disks and guests", () => {
  test("two guests and three disks at once, each its own", () => {
    const hypervisor = new Hypervisor();
    const [a, b] = [connect({ hypervisor }), connect({ hypervisor })];
    const third = new FakeBlock(MIB);
    attachBlkback(hypervisor, a.machine, third, { device: (202 << 8) + 16 });
    const c = connectBlkfront(a.guest, { device: (202 << 8) + 16 });
    for (let i = 0; i < 50; i++) {
      roundTrip(a.machine, a.driver, i * 4096, i);
      roundTrip(b.machine, b.driver, i * 4096, i + 100);
      roundTrip(a.machine, c, i * 4096, i + 200);
    }
    for (const [disk, seed] of [
      [a.block, 0],
      [b.block, 100],
      [third, 200],
    ] as const) {
      expect(same(disk.bytes.subarray(7 * 4096, 8 * 4096), pattern(new Uint8Array(4096), seed + 7))).toBe(true);
    }
  });

  test("a device number is used once", () => {
    const { hypervisor, machine, block } = connect();
    expect(() => attachBlkback(hypervisor, machine, block)).toThrow(code("EXISTS"));
    expect(() => attachBlkback(hypervisor, machine, new FakeBlock(MIB, { sectorSize: 8192 }), { device: 5 })).toThrow(
      code("INVALID"),
    );
  });

  test("no disk, no connection", () => {
    const hypervisor = new Hypervisor();
    const guest = hypervisor.xenGuest(hypervisor.createMachine({ memory: 4 * MIB }));
    expect(() => connectBlkfront(guest)).toThrow(code("NOT_FOUND"));
    const connected = connect();
    expect(() => connectBlkfront(connected.guest)).toThrow(code("PROTOCOL"));
  });

  test("a destroyed guest leaves nothing behind", () => {
    const { hypervisor, machine } = connect();
    hypervisor.destroy(machine);
    expect(hypervisor.xenstore.exists("/local/domain/1")).toBe(false);
    expect(hypervisor.machine(1)).toBeUndefined();
  });
});
