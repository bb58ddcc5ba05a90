import { expect, test } from "vitest";
import { BlockRequest, Op, Status } from "../../src/core/block.ts";
import { ParavaneError } from "../../src/core/error.ts";
import { writeBytes, writeZeroes } from "../../src/host/block/bytes.ts";
import { createDisk, type Disk, openDisk } from "../../src/host/block/open.ts";
import { seal } from "../../src/host/format/vhdx/crc32c.ts";
import { dataFile } from "../support/data.ts";
import { KeptStore } from "../support/disks.ts";
import { Random } from "../support/random.ts";
import { contentOf } from "../support/stores.ts";
import { withLog } from "../support/vhdx.ts";

const MiB = 2 ** 20;
const SECTOR = 4096;
const CASES = process.env.PARAVANE_NIGHTLY ? 60_000 : 700;

interface Base {
  name: string;
  bytes: Uint8Array;
  parent?: KeptStore;
  log: number;
  metadata: number;
  bat: number;
}

/** Real images of every kind, one with a log to replay. */
async function bases(): Promise<Base[]> {
  const written = async (options: Record<string, unknown>, parent?: KeptStore) => {
    const store = new KeptStore();
    const backing = parent && (await openDisk(parent, { readOnly: true }));
    const disk = await createDisk(store, { format: "vhdx", size: 6 * MiB + 512, blockSize: MiB, backing, ...options });
    for (const at of [0, MiB + 512, 4 * MiB]) await writeBytes(disk, at, new Uint8Array(8192).fill(7));
    await writeZeroes(disk, 2 * MiB, MiB);
    await disk.close();
    return { store, disk };
  };
  const ours = { log: MiB, metadata: 2 * MiB, bat: 3 * MiB };
  const dynamic = await written({});
  const bytes = contentOf(dynamic.store);
  const { dataWriteGuid } = dynamic.disk.describe();
  const child = await written({ parent: { identity: String(dataWriteGuid), path: "x" } }, dynamic.store);
  const table = { position: 3 * MiB, data: bytes.slice(3 * MiB, 3 * MiB + SECTOR) };
  const windows = dataFile("dissect-vhdx_dynamic.vhdx");
  const field = (at: number) => Number(new DataView(windows.buffer).getBigUint64(at, true));
  return [
    { name: "dynamic", bytes, ...ours },
    { name: "fixed", bytes: contentOf((await written({ subformat: "fixed" })).store), ...ours },
    { name: "differencing", bytes: contentOf(child.store), parent: dynamic.store, ...ours },
    {
      name: "dirty",
      bytes: withLog(bytes, [
        { sequence: 4, at: 0, changes: [{ position: 3 * MiB, zeros: SECTOR }] },
        { sequence: 5, at: SECTOR, tail: 0, changes: [table] },
      ]),
      ...ours,
    },
    // Its regions are in the other order.
    { name: "windows", bytes: windows, log: MiB, bat: field(196608 + 32), metadata: field(196608 + 64) },
  ];
}

const INTERESTING = [
  0,
  1,
  2,
  3,
  6,
  7,
  8,
  512,
  4096,
  65536,
  MiB,
  3 * MiB,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 53,
  2 ** 62,
  2 ** 64,
];

/** Changes a few fields of one structure, and mostly makes its checksum right again. */
function mutate(base: Base, bytes: Uint8Array, random: Random): void {
  const structures: [place: number, used: number, length: number, signature: string][] = [
    [65536, 80, SECTOR, "head"],
    [131072, 80, SECTOR, "head"],
    [196608, 80, 65536, "regi"],
    [262144, 80, 65536, "regi"],
    [base.metadata, 256, 0, ""],
    [base.metadata + 65536, 128, 0, ""],
    [base.bat, 64, 0, ""],
    [base.bat + 4096 * 8, 8, 0, ""],
    [base.log, 160, 0, ""],
    [base.log + SECTOR, 160, 2 * SECTOR, "loge"],
  ];
  const [place, used, length, signature] = random.pick(structures);
  // Both copies alike, or the good one would be used.
  const twin = signature === "head" ? (place === 65536 ? 131072 : 65536) : place === 196608 ? 262144 : 196608;
  const view = new DataView(bytes.buffer);
  for (let i = 1 + random.below(3); i > 0; i--) {
    const size = random.pick([1, 2, 4, 8]);
    const at = place + random.below(used / size) * size;
    const value = random.oneIn(2) ? random.pick(INTERESTING) : random.u32();
    if (size === 8) view.setBigUint64(at, BigInt.asUintN(64, BigInt(value)), true);
    else if (size === 4) view.setUint32(at, value % 2 ** 32, true);
    else if (size === 2) view.setUint16(at, value % 2 ** 16, true);
    else view.setUint8(at, value % 256);
  }
  if (signature === "" || random.oneIn(5)) return;
  seal(bytes.subarray(place, place + length), signature);
  if (signature !== "loge" && !random.oneIn(4)) bytes.copyWithin(twin, place, place + length);
}

async function use(disk: Disk, random: Random, count: (outcome: string) => void): Promise<void> {
  const batch: BlockRequest[] = [];
  for (let i = 0; i < 8; i++) {
    const request = new BlockRequest();
    const sectors = Math.floor(disk.size / disk.sectorSize);
    if (sectors === 0) break;
    const at = random.oneIn(3) ? random.pick([0, sectors - 1, Math.floor(MiB / disk.sectorSize)]) : random.u32();
    request.op = random.pick([Op.Read, Op.Read, Op.Write, Op.WriteZeroes, Op.Discard]);
    request.offset = (at % sectors) * disk.sectorSize;
    request.length = Math.min(random.pick([1, 8, 64, 2048]) * disk.sectorSize, disk.size - request.offset);
    if (request.op <= Op.Write) {
      request.memory = new Uint8Array(request.length);
      request.segments.push(0, request.length);
    }
    batch.push(request);
  }
  const last = new BlockRequest();
  last.op = Op.Flush;
  batch.push(last);
  await disk.submit(batch);
  for (const { op, status, error } of batch) {
    expect(status).not.toBe(Status.Pending);
    if (status === Status.Ok) count(`${op === Op.Read ? "read" : op === Op.Flush ? "flush" : "change"}: ok`);
    else {
      expect(error).toBeInstanceOf(ParavaneError);
      count(`request: ${error!.code} ${error!.context.structure ?? ""}`);
    }
  }
}

test(`${CASES} damaged images open, or are refused by name, and take what is asked of them`, {
  timeout: 3_600_000,
}, async () => {
  const images = await bases();
  const random = new Random(20_26);
  const outcomes: Record<string, number> = {};
  let slowest = 0;
  for (let i = 0; i < CASES; i++) {
    // The last is a large one.
    const base = images[i % 12 === 0 ? images.length - 1 : i % (images.length - 1)];
    const bytes = random.oneIn(12) ? base.bytes.slice(0, random.below(base.bytes.length)) : base.bytes.slice();
    if (bytes.length === base.bytes.length) mutate(base, bytes, random);
    const store = new KeptStore(bytes);
    const count = (outcome: string) => {
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    };
    const start = performance.now();
    for (const readOnly of [true, false]) {
      try {
        const backing = base.parent && (await openDisk(base.parent, { readOnly: true }));
        const disk = await openDisk(store, { format: "vhdx", readOnly, backing });
        count("opened");
        disk.describe();
        await use(disk, random, count);
        await disk.close();
      } catch (error) {
        if (!(error instanceof ParavaneError)) throw new Error(`case ${i} (${base.name}): ${error}`, { cause: error });
        expect(error.message.length).toBeGreaterThan(10);
        expect(["CORRUPT", "UNSUPPORTED", "NOT_FOUND", "INVALID"]).toContain(error.code);
        expect([i, error.context.structure ?? error.message]).not.toEqual([i, ""]);
        count(`refused: ${error.code} ${error.context.structure ?? ""}`);
      }
    }
    slowest = Math.max(slowest, performance.now() - start);
    expect(store.allocated).toBeLessThan(64 * MiB);
  }
  console.log(outcomes, `slowest case ${slowest.toFixed(0)} ms`);
  // Every way in, and every structure's refusal, has been met.
  for (const outcome of ["opened", "read: ok", "change: ok", "flush: ok"])
    expect(outcomes[outcome]).toBeGreaterThan(50);
  for (const structure of ["header", "region table", "metadata table", "file parameters", "log"]) {
    expect([
      structure,
      Object.keys(outcomes).some((name) => name.startsWith("refused") && name.includes(structure)),
    ]).toEqual([structure, true]);
  }
  expect(Object.keys(outcomes)).toContain("request: CORRUPT block allocation table");
  expect(slowest).toBeLessThan(5000);
});
