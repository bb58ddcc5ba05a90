import { expect, test } from "vitest";
import { BlockRequest, Op, Status } from "../../src/core/block.ts";
import { ParavaneError } from "../../src/core/error.ts";
import { run } from "../../src/core/flow.ts";
import { writeBytes } from "../../src/host/block/bytes.ts";
import type { Engine } from "../../src/host/block/engine.ts";
import { createDisk, type Disk, openDisk } from "../../src/host/block/open.ts";
import { createOverlay } from "../../src/host/block/overlay.ts";
import { vmdk } from "../../src/host/format/vmdk/index.ts";
import { dataFile } from "../support/data.ts";
import { KeptStore } from "../support/disks.ts";
import { type Pick, random } from "../support/fuzz-disk.ts";
import { contentOf } from "../support/stores.ts";

const SEED = Number(process.env.PARAVANE_FUZZ_SEED ?? 1);
const RUNS = Number(process.env.PARAVANE_FUZZ_RUNS ?? 1000);

/** 32-bit fields that are interpreted. */
const FIELDS = [4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 68, 72, 76];
/** Where 1 MiB has its directories and tables: the copies, then the first. */
const TABLES = [21, 22, 26, 27].map((sector) => sector * 512);
const VALUES = [0, 1, 2, 3, 4, 5, 511, 512, 513, 4096, 65536, 2 ** 20, 2 ** 28, 0x7fffffff, 0x80000000, 0xfffffffe];

async function family(): Promise<{ images: Uint8Array[]; child: Uint8Array; parent: KeptStore }> {
  const fill = async (disk: Disk) => {
    for (const at of [0, 200_704, 500_224]) await writeBytes(disk, at, new Uint8Array(40_960).fill(at & 0xff || 1));
    await disk.close();
  };
  const images: Uint8Array[] = [];
  for (const options of [{}, { zeroedGrain: true }, { adapterType: "lsilogic" }]) {
    const store = new KeptStore();
    await fill(await createDisk(store, { format: "vmdk", size: 1 << 20, ...options }));
    images.push(contentOf(store));
  }
  images.push(dataFile("dfvfs-ext2.vmdk"), dataFile("plaso-image.vmdk"));
  const [parent, store] = [new KeptStore(images[0]), new KeptStore()];
  const backing = await openDisk(parent, { readOnly: true });
  await fill(await createOverlay(backing, store, { format: "vmdk", parent: { path: "p" } }));
  return { images, child: contentOf(store), parent };
}

function mutate(pick: Pick, source: Uint8Array): Uint8Array {
  const bytes = source.slice();
  const view = new DataView(bytes.buffer);
  const value = () => (pick(3) === 0 ? pick(2 ** 32) : pick(2) === 0 ? pick(300) : VALUES[pick(VALUES.length)]);
  for (let changes = 1 + pick(3); changes > 0; changes--) {
    const what = pick(10);
    if (what < 4) view.setUint32(FIELDS[pick(FIELDS.length)], value(), true);
    else if (what < 8) view.setUint32(TABLES[pick(4)] + pick(18) * 4, pick(3) === 0 ? value() : pick(12) * 128, true);
    else if (what === 8) bytes[512 + pick(400)] = pick(256);
    else bytes[pick(bytes.length)] ^= 1 << pick(8);
  }
  return pick(10) === 0 ? bytes.slice(0, pick(bytes.length)) : bytes;
}

function requests(pick: Pick, size: number): BlockRequest[] {
  return Array.from({ length: 10 }, () => {
    const request = new BlockRequest();
    request.op = [Op.Read, Op.Read, Op.Write, Op.Write, Op.WriteZeroes, Op.Discard, Op.Flush][pick(7)];
    const near = [0, 65536, 200_704, size - 8192, Math.floor((pick(1000) / 1000) * size)][pick(5)];
    request.offset = Math.floor(Math.max(0, near) / 512) * 512;
    request.length = Math.max(0, Math.min(512 * (1 + pick(300)), size - request.offset));
    if (request.op <= Op.Write) {
      request.memory = new Uint8Array(request.length).fill(0x3c);
      request.segments.push(0, request.length);
    }
    return request;
  });
}

/** Work on the image as a whole, which must end well or in the words of the format. */
async function wholesale(pick: Pick, disk: Disk, store: KeptStore): Promise<string> {
  const engine = disk as unknown as Engine;
  const works: [string, () => Promise<unknown>][] = [
    ["resize", () => disk.resize(pick(6000) * 512)],
    ["empty", () => engine.exclusive((image) => image.empty!())],
    ["orphan", () => engine.exclusive((image) => image.setParent!(undefined))],
    ["check", async () => run(vmdk.check!(store))],
    ["repair", async () => run(vmdk.repair!(store, pick(2) === 0 ? "leaks" : "all"))],
  ];
  const [name, work] = works[pick(works.length)];
  try {
    await work();
    return `${name}: done`;
  } catch (thrown) {
    if (!(thrown instanceof ParavaneError)) throw thrown;
    expect(["CORRUPT", "UNSUPPORTED", "INVALID", "NO_SPACE"]).toContain(thrown.code);
    return `${name}: ${thrown.code}`;
  }
}

test(`VMDKs that are not what they say: ${RUNS} from seed ${SEED}`, { timeout: 300_000 }, async () => {
  const { images, child, parent } = await family();
  const outcomes: Record<string, number> = {};
  const count = (what: string) => {
    outcomes[what] = (outcomes[what] ?? 0) + 1;
  };
  const name = (table: Record<string, number>, wanted: number) =>
    Object.keys(table).find((key) => table[key] === wanted);
  for (let number = 0; number < RUNS; number++) {
    const pick = random(SEED * 1_000_003 + number);
    const differencing = number % 4 === 1;
    const source = differencing ? child : images[pick(number % 20 === 0 ? images.length : 3)];
    const bytes = mutate(pick, source);
    const store = new KeptStore(bytes);
    try {
      const backing = differencing ? await openDisk(parent, { readOnly: true }) : undefined;
      const disk = await openDisk(store, { format: "vmdk", backing });
      count("opened");
      for (const list of [requests(pick, disk.size), requests(pick, disk.size)]) {
        const pending = disk.submit(list);
        if (pending) throw new Error("a promise over a synchronous store");
        for (const request of list) {
          count(`${name(Op, request.op)}: ${name(Status, request.status)}`);
          expect(request.status).not.toBe(Status.Pending);
          expect(request.status === Status.Ok).toBe(request.error === null);
        }
      }
      count(await wholesale(pick, disk, store));
      await disk.close();
    } catch (thrown) {
      if (!(thrown instanceof ParavaneError)) throw new Error(`run ${number} of seed ${SEED}`, { cause: thrown });
      count(`refused: ${thrown.code} ${thrown.context.structure ?? ""}`);
      expect(["CORRUPT", "UNSUPPORTED", "NOT_FOUND", "INVALID"]).toContain(thrown.code);
    }
    // A disk that claims terabytes must not make us hold them.
    expect(store.allocated).toBeLessThan(bytes.length + (64 << 20));
  }
  console.log(JSON.stringify(outcomes));
  // Every way to end is reached, so that the fuzz is known to get everywhere.
  for (const reached of [
    "opened",
    "Read: Ok",
    "Read: Media",
    "Write: Ok",
    "Write: Media",
    "WriteZeroes: Ok",
    "Discard: Ok",
    "Flush: Ok",
    "refused: CORRUPT header",
    "refused: CORRUPT grain directory",
    "refused: CORRUPT descriptor",
    "refused: UNSUPPORTED header",
    "resize: done",
    "empty: done",
    "orphan: done",
    "check: done",
    "repair: done",
    "repair: CORRUPT",
  ]) {
    expect(outcomes[reached] ?? 0, reached).toBeGreaterThan(0);
  }
});
