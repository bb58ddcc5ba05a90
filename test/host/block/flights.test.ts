import { expect, test } from "vitest";
import { BlockRequest, Op, Status } from "../../../src/core/block.ts";
import { flush, readBytes, writeBytes } from "../../../src/host/block/bytes.ts";
import { Flights } from "../../../src/host/block/flights.ts";
import { createDisk, type Disk, openDisk } from "../../../src/host/block/open.ts";
import { KeptStore } from "../../support/disks.ts";
import { HeldStore } from "../../support/stores.ts";

const CLUSTER = 65536;

function request(op: Op, offset: number, fill?: number): BlockRequest {
  const made = Object.assign(new BlockRequest(), { op, offset, length: op === Op.Flush ? 0 : CLUSTER });
  if (fill !== undefined || op === Op.Read) {
    made.memory = new Uint8Array(CLUSTER).fill(fill ?? 0);
    made.segments.push(0, CLUSTER);
  }
  return made;
}

/** Lets everything that waits for nothing held go on. */
const settle = async () => {
  for (let i = 0; i < 20; i++) await new Promise(setImmediate);
};

async function qcow2(): Promise<{ disk: Disk; store: HeldStore; place(offset: number): Promise<number> }> {
  const store = new HeldStore(new KeptStore());
  const disk = await createDisk(store, { format: "qcow2", size: 64 * CLUSTER });
  await writeBytes(disk, 0, new Uint8Array(CLUSTER).fill(1));
  await flush(disk);
  return { disk, store, place: async (offset) => (await disk.places(offset, CLUSTER))[0].position! };
}

test("flights: those that take off after the generation was closed are not waited for", async () => {
  const flights = new Flights();
  const first = flights.begin();
  const closed = flights.close();
  const later = flights.begin();
  let landed = false;
  const pending = flights.landed(closed)!.then(() => {
    landed = true;
  });
  flights.end(later);
  await settle();
  // Woken to look again: the first is still flying.
  expect(flights.landed(closed)).not.toBeNull();
  flights.end(first);
  await pending;
  expect(landed).toBe(true);
  expect(flights.landed(closed)).toBeNull();
});

test.each(["write", "read"] as const)(
  "a late %s never meets the next owner of a cluster that was given up",
  async (kind) => {
    const { disk, store, place } = await qcow2();
    const old = await place(0);
    store.holds = (call, position) => call === (kind === "write" ? "writev" : "readv") && position === old;
    const late = request(kind === "write" ? Op.Write : Op.Read, 0, kind === "write" ? 2 : undefined);
    const work = [disk.submit([late])];
    await settle();
    expect(store.held).toBe(1);
    store.holds = () => false;
    // Gives the cluster up, lets that become durable and noted, and writes where it would be used again.
    work.push(disk.submit([request(Op.Discard, 0), request(Op.Flush, 0), request(Op.Flush, 0)]));
    await settle();
    work.push(disk.submit([request(Op.Write, 5 * CLUSTER, 3)]));
    await settle();
    store.release();
    await Promise.all(work);
    expect(late.status).toBe(Status.Ok);
    if (kind === "read") expect(late.memory.every((byte) => byte === 1)).toBe(true);
    expect((await readBytes(disk, 5 * CLUSTER, CLUSTER)).every((byte) => byte === 3)).toBe(true);
    // It is used again once that is safe.
    await writeBytes(disk, 9 * CLUSTER, new Uint8Array(CLUSTER).fill(4));
    expect([await place(5 * CLUSTER), await place(9 * CLUSTER)]).toContain(old);
    await disk.close();
  },
);

test("a batch that needs a place while a flush waits for it steps aside", async () => {
  const { disk, store, place } = await qcow2();
  const old = await place(0);
  store.holds = (call, position) => call === "writev" && position === old;
  const [held, second] = [request(Op.Write, 0, 2), request(Op.Write, 7 * CLUSTER, 3)];
  const work = [disk.submit([held])];
  await settle();
  const flushing = request(Op.Flush, 0);
  work.push(disk.submit([flushing]));
  await settle();
  // Another, that needs a place, waits for the flush; it is not waited for.
  work.push(disk.submit([second]));
  await settle();
  expect([flushing.status, second.status]).toEqual([Status.Pending, Status.Pending]);
  store.holds = () => false;
  store.release();
  await Promise.all(work);
  expect([held.status, flushing.status, second.status]).toEqual([Status.Ok, Status.Ok, Status.Ok]);
  await disk.close();
});

test("metadata that shows a place is not written before the data is there", async () => {
  const { disk, store } = await qcow2();
  const kept = store.inner as KeptStore;
  let data = -1;
  // The first write of data of this batch is held; a flush by somebody else comes meanwhile.
  store.holds = (call, position, length) => {
    if (call !== "writev" || length !== CLUSTER) return false;
    data = position;
    return true;
  };
  const work = [disk.submit([request(Op.Write, 3 * CLUSTER, 5)])];
  await settle();
  expect(data).toBeGreaterThan(0);
  store.holds = () => false;
  work.push(disk.submit([request(Op.Flush, 0)]));
  await settle();
  const seen = await openDisk(copy(kept), { readOnly: true });
  expect((await seen.places(3 * CLUSTER, CLUSTER))[0].kind).toBe("hole");
  store.release();
  await Promise.all(work);
  await disk.close();
});

function copy(store: KeptStore): KeptStore {
  const bytes = new Uint8Array(store.size);
  const made = new KeptStore();
  const request = new BlockRequest();
  request.segments.push(0, bytes.length);
  store.readv(0, bytes, request.segments);
  made.writev(0, bytes, request.segments);
  return made;
}
