import { deflateRawSync } from "node:zlib";
import { expect, test } from "vitest";
import { BlockRequest, Op, Status } from "../../src/core/block.ts";
import { ParavaneError } from "../../src/core/error.ts";
import type { Flow } from "../../src/core/flow.ts";
import { SegmentList } from "../../src/core/segments.ts";
import { writeBytes } from "../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../src/host/block/open.ts";
import { checkQcow2, repairQcow2 } from "../../src/host/format/qcow2/check.ts";
import { openQcow2 } from "../../src/host/format/qcow2/open.ts";
import { changeBitmaps } from "../../src/host/image/bitmap.ts";
import { MemoryStore } from "../../src/host/store/memory.ts";
import { dataFile } from "../support/data.ts";
import { KeptStore } from "../support/disks.ts";
import { now } from "../support/qcow2.ts";
import { Random } from "../support/random.ts";
import { contentOf } from "../support/stores.ts";
import { tier } from "../support/tier.ts";

const SIZE = 2 ** 21 + 512;
const ROUNDS = tier(2500, 60_000);
const SEED = 20;
/** Images that other products made: QEMU, libqcow's and Sleuth Kit's test data. */
const REAL = [
  "backing-chain-3.qcow2",
  "dfvfs-ext2.qcow2",
  "dissect-qcow2_basic.qcow2",
  "dissect-qcow2_basic-zstd.qcow2",
  "plaso-image.qcow2",
];

/** Where an image's structures are, so that damage meets them and not only data. */
interface Target {
  bytes: Uint8Array;
  structures: { name: string; at: number; entries: number; width: number }[];
}

async function target(options: Record<string, unknown>): Promise<Target> {
  const store = new KeptStore();
  const clusterSize = (options.clusterSize as number) ?? 4096;
  const disk = await createDisk(store, { format: "qcow2", size: SIZE, clusterSize, ...options });
  for (let i = 0; i < 12; i++) {
    await writeBytes(disk, ((i * 197) % 4000) * 512, new Uint8Array(512 * (1 + i)).fill(i + 1));
  }
  if (options.compat !== "0.10") {
    await changeBitmaps(disk, [
      { do: "add", name: "first", granularity: 512 },
      { do: "add", name: "off", recording: false },
    ]);
    await writeBytes(disk, 65536, new Uint8Array(8192).fill(77));
  }
  await disk.close();
  const image = now(openQcow2(store, {}));
  now(image.snapshots.create({ name: "one" }));
  const again = await openDisk(store);
  await writeBytes(again, 0, new Uint8Array(20480).fill(99));
  await again.close();
  // A compressed cluster, in a new last cluster of the file, and counted by a repair.
  const packed = deflateRawSync(new Uint8Array(clusterSize).fill(0x42));
  const place = Math.ceil(store.size / clusterSize) * clusterSize;
  const before = new DataView(contentOf(store).buffer);
  const table = (view: DataView, at: number) => Number(view.getBigUint64(at) & 0x00fffffffffffe00n);
  const entry = new Uint8Array(8);
  new DataView(entry.buffer).setBigUint64(0, (1n << 62n) | BigInt(place));
  const slot = table(before, Number(before.getBigUint64(40))) + 3 * (options.extendedL2 ? 16 : 8);
  store.writev(slot, entry, SegmentList.of(0, 8));
  if (options.extendedL2) store.writev(slot + 8, new Uint8Array(8), SegmentList.of(0, 8));
  store.writev(place, new Uint8Array(packed), SegmentList.of(0, packed.length));
  expect(now(repairQcow2(store, "all"))).toMatchObject({ leaks: 0, corruptions: 0, compressedClusters: 1 });

  return targetOf(contentOf(store));
}

/** The structures of any image, found as a reader finds them. */
function targetOf(bytes: Uint8Array): Target {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const place = (at: number) => Number(view.getBigUint64(at) & 0x00fffffffffffe00n);
  const cluster = 2 ** view.getUint32(20);
  const l1 = place(40);
  const tables = Array.from({ length: view.getUint32(36) }, (_, i) => place(l1 + i * 8)).filter((at) => at !== 0);
  const refcounts = place(48);
  const structures = [
    { name: "header", at: 0, entries: 14, width: 8 },
    { name: "header words", at: 4, entries: 26, width: 4 },
    { name: "extensions", at: view.getUint32(4) > 2 ? view.getUint32(100) : 72, entries: 20, width: 4 },
    { name: "L1", at: l1, entries: view.getUint32(36), width: 8 },
    ...tables.slice(0, 3).map((at) => ({ name: "L2", at, entries: cluster / 8, width: 8 })),
    { name: "refcount table", at: refcounts, entries: 8, width: 8 },
    { name: "refcount block", at: place(refcounts), entries: 200, width: 2 },
  ];
  const extension = Buffer.from(bytes.subarray(0, cluster)).indexOf(Buffer.from([0x23, 0x85, 0x28, 0x75]));
  if (extension > 0 && view.getUint8(95) & 1) {
    const directory = place(extension + 24);
    structures.push({ name: "bitmaps extension", at: extension, entries: 8, width: 4 });
    structures.push({ name: "bitmap directory", at: directory, entries: 16, width: 4 });
    structures.push({ name: "bitmap table", at: place(directory), entries: 4, width: 8 });
  }
  if (view.getUint32(60) > 0) structures.push({ name: "snapshot table", at: place(64), entries: 10, width: 8 });
  const descriptors = tables.flatMap((at) =>
    Array.from({ length: cluster / 8 }, (_, i) =>
      at + i * 8 + 8 <= bytes.length ? view.getBigUint64(at + i * 8) : 0n,
    ),
  );
  const packed = descriptors.find((entry) => entry >> 62n === 1n);
  if (packed !== undefined) {
    const at = Number(packed & ((1n << BigInt(62 - (view.getUint32(20) - 8))) - 1n));
    structures.push({ name: "compressed", at, entries: 400, width: 1 });
  }
  return { bytes, structures };
}

function damage({ bytes, structures }: Target, random: Random): { damaged: Uint8Array; hit: string } {
  const damaged = bytes.slice();
  const view = new DataView(damaged.buffer);
  const hits: string[] = [];
  for (let i = 1 + random.below(3); i > 0; i--) {
    const { name, at, entries, width } = random.pick(structures);
    const index = random.oneIn(2) ? random.below(Math.min(6, entries)) : random.below(entries);
    const place = at + index * width;
    if (place + width > damaged.length) continue;
    hits.push(name);
    if (width === 1) damaged[place] = random.u32();
    else if (width === 2) view.setUint16(place, random.pick([0, 1, 2, 0xffff, random.u32() & 0xffff]));
    else if (width === 4) {
      view.setUint32(
        place,
        random.pick([0, 1, 8, 0x7fffffff, 0xffffffff, random.u32(), view.getUint32(place) + 1, 2 ** random.below(32)]),
      );
    } else {
      const old = view.getBigUint64(place);
      const inside = BigInt(random.below(damaged.length >>> 9)) * 512n;
      const flags = BigInt(random.below(4)) << 62n;
      view.setBigUint64(
        place,
        random.pick([
          0n,
          1n,
          flags | inside,
          flags | (inside & ~4095n),
          flags | old,
          old ^ (1n << BigInt(random.below(64))),
          old + 4096n,
          0xffffffffffffffffn,
          1n << BigInt(random.below(64)),
        ]),
      );
    }
  }
  if (random.oneIn(12)) return { damaged: damaged.subarray(0, random.below(damaged.length)), hit: `${hits} cut` };
  return { damaged, hit: hits.join("+") };
}

test(`${ROUNDS} damaged images: read, written, checked, repaired; every failure is typed`, async () => {
  const targets = [
    await target({}),
    await target({ compat: "0.10" }),
    await target({ clusterSize: 512, refcountBits: 64 }),
    await target({ extendedL2: true, clusterSize: 16384 }),
    ...REAL.map((name) => targetOf(dataFile(name))),
  ];
  const random = new Random(SEED);
  const outcomes = new Map<string, number>();
  const count = (what: string) => outcomes.set(what, (outcomes.get(what) ?? 0) + 1);
  const typed = (what: string, thrown: unknown, hit: string) => {
    if (!(thrown instanceof ParavaneError)) throw new Error(`${what} of ${hit}`, { cause: thrown });
    count(`${what} ${thrown.code}`);
  };
  let slowest = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const { damaged, hit } = damage(random.pick(targets), random);
    const start = performance.now();
    try {
      const readOnly = random.oneIn(3);
      const disk = await openDisk(new MemoryStore(damaged), { format: "qcow2", readOnly });
      const batch = Array.from({ length: 8 }, () => {
        const request = new BlockRequest();
        request.op = random.pick(
          readOnly ? [Op.Read] : [Op.Read, Op.Write, Op.Write, Op.Flush, Op.Discard, Op.WriteZeroes],
        );
        request.offset = Math.min(random.below(4096) * 512, Math.max(0, disk.size - 512));
        request.length = Math.min((1 + random.below(80)) * 512, disk.size - request.offset);
        request.memory = new Uint8Array(request.length);
        if (request.op <= Op.Write) request.segments.push(0, request.length);
        return request;
      });
      await disk.submit(batch);
      for (const { status, error } of batch) {
        if (status === Status.Ok) count("request ok");
        else typed("request", error, hit);
      }
      await disk.close();
      count("closed");
    } catch (thrown) {
      typed("open", thrown, hit);
    }
    const store = new KeptStore(damaged);
    try {
      const { leaks, corruptions } = now(checkQcow2(store));
      count(corruptions > 0 ? "check: corrupt" : leaks > 0 ? "check: leaks" : "check: clean");
      now(repairQcow2(store, random.oneIn(2) ? "all" : "leaks"));
      count("repaired");
      const { corruptions: left, problems } = now(checkQcow2(store));
      expect(left, `${hit}: ${JSON.stringify(problems.filter(({ kind }) => kind !== "leak").slice(0, 3))}`).toBe(0);
    } catch (thrown) {
      typed("check", thrown, hit);
    }
    try {
      const image = now(openQcow2(new KeptStore(damaged), {}));
      const unit = image.packing?.unit ?? 512;
      const work = random.pick<() => Flow<unknown>>([
        () => image.snapshots.create({ name: "two" }),
        () => image.snapshots.apply("1"),
        () => image.snapshots.delete("one"),
        () => image.resize(random.below(9000) * 512),
        () => image.resize(image.size + 2 ** random.below(40) * 512),
        () => image.empty(),
        () => image.setParent({ path: "p".repeat(1 + random.below(400)), format: "raw" }),
        () => image.setParent(undefined),
        () => image.bitmaps.change([{ do: "add", name: "more" }]),
        () =>
          image.bitmaps.change([
            { do: "merge", name: "off", from: "first" },
            { do: "clear", name: "first" },
          ]),
        () => image.bitmaps.change([{ do: "remove", name: random.pick(["first", "off"]) }]),
        () => image.bitmaps.read("first", random.below(image.size + 1), 65536),
        () => image.amend({ refcountBits: 2 ** random.below(7) }),
        () => image.amend({ compat: random.pick(["0.10", "1.1"]) }),
        () => image.writePacked!(random.below(image.size / unit + 1) * unit, new Uint8Array(1 + random.below(unit))),
      ]);
      now<unknown>(work());
      now(image.stage());
      now(image.sync());
      now(image.finish());
      count("whole");
    } catch (thrown) {
      typed("whole", thrown, hit);
    }
    slowest = Math.max(slowest, performance.now() - start);
  }
  console.log(Object.fromEntries([...outcomes].sort()), `slowest ${slowest.toFixed(0)} ms`);
  for (const reached of [
    "request ok",
    "request CORRUPT",
    "open CORRUPT",
    "open UNSUPPORTED",
    "check: corrupt",
    "check: leaks",
    "check: clean",
    "repaired",
    "whole",
    "whole CORRUPT",
  ]) {
    expect(outcomes.get(reached), reached).toBeGreaterThan(0);
  }
}, 3_600_000);
