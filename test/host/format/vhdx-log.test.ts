import { describe, expect, test } from "vitest";
import { flush, readBytes, writeBytes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { buildEntry } from "../../../src/host/format/vhdx/entry.ts";
import { MAX_PENDING } from "../../../src/host/format/vhdx/journal.ts";
import { KeptStore } from "../../support/disks.ts";
import { contentOf } from "../../support/stores.ts";
import { LOG_GUID, type LogChange, type LogEntry, logEntry, withLog } from "../../support/vhdx.ts";

const MiB = 2 ** 20;
const SECTOR = 4096;
const BAT = 3 * MiB;
const BLOCKS = 4 * MiB;

/** 8 MiB of 1 MiB blocks, four of which are in the file, filled with their number + 1; the table is empty. */
async function image(): Promise<Uint8Array> {
  const store = new KeptStore();
  const disk = await createDisk(store, { format: "vhdx", size: 8 * MiB, blockSize: MiB });
  for (let block = 0; block < 4; block++) await writeBytes(disk, block * MiB, new Uint8Array(MiB).fill(block + 1));
  await disk.close();
  const bytes = contentOf(store);
  bytes.fill(0, BAT, BAT + SECTOR);
  return bytes;
}

/** The table's first sector when these blocks are there. */
function table(...blocks: number[]): LogChange {
  const data = new Uint8Array(SECTOR);
  const view = new DataView(data.buffer);
  for (const block of blocks) view.setUint32(block * 8, BLOCKS + block * MiB + 6, true);
  return { position: BAT, data };
}

/** First bytes of the blocks, after a replay in memory and after one on disk, which must agree. */
async function replayed(bytes: Uint8Array): Promise<number[] | string> {
  const results: (number[] | string)[] = [];
  for (const readOnly of [true, false]) {
    const store = new KeptStore(bytes);
    try {
      const disk = await openDisk(store, { format: "vhdx", readOnly });
      const blocks: number[] = [];
      for (let block = 0; block < 8; block++) blocks.push((await readBytes(disk, block * MiB, 1))[0]);
      results.push(blocks);
      await disk.close();
      if (readOnly) expect(Buffer.compare(contentOf(store), bytes)).toBe(0);
      else {
        const again = await openDisk(store, { format: "vhdx", readOnly: true });
        expect(again.describe().log).toMatchObject({ replayedEntries: 0 });
        expect((await readBytes(again, 0, 1))[0]).toBe(blocks[0]);
      }
    } catch (error) {
      const { code, context, message } = error as { code: string; context: { structure: string }; message: string };
      results.push(`${code} ${context?.structure}: ${message}`);
      expect(Buffer.compare(contentOf(store), bytes)).toBe(0); // refused before anything was changed
    }
  }
  expect(results[0]).toEqual(results[1]);
  return results[0];
}

const entry = (sequence: number, at: number, changes: LogChange[], more: Partial<LogEntry> = {}): LogEntry => ({
  sequence,
  at: at * SECTOR,
  changes,
  ...more,
});
const NOTHING = [0, 0, 0, 0, 0, 0, 0, 0];

describe("the active sequence", () => {
  test.each<[string, LogEntry[], number[]]>([
    ["one entry", [entry(1, 0, [table(0)])], [1, 0, 0, 0, 0, 0, 0, 0]],
    ["the newer of two that stand alone", [entry(5, 0, [table(0)]), entry(6, 2, [table(1)])], [0, 2, 0, 0, 0, 0, 0, 0]],
    [
      "all from the tail of the newest on, in order",
      [entry(5, 0, [table(0)]), entry(6, 2, [table(1)], { tail: 0 }), entry(7, 4, [table(1, 2)], { tail: 0 })],
      [0, 2, 3, 0, 0, 0, 0, 0],
    ],
    [
      "a tail that has moved on",
      [
        entry(5, 0, [table(0, 1, 2)]),
        entry(6, 2, [{ position: BAT, zeros: SECTOR }]),
        entry(7, 3, [], { tail: 2 * SECTOR }),
      ],
      NOTHING,
    ],
    ["an entry that wraps around the end", [entry(9, 255, [table(3)])], [0, 0, 0, 4, 0, 0, 0, 0]],
    [
      "a sequence that wraps around the end",
      [entry(9, 254, [table(3)]), entry(10, 0, [table(2, 3)], { tail: 254 * SECTOR })],
      [0, 0, 3, 4, 0, 0, 0, 0],
    ],
    ["sequence numbers past 32 bits", [entry(2 ** 40 + 7, 8, [table(1)])], [0, 2, 0, 0, 0, 0, 0, 0]],
    [
      "another log's entries are left out",
      [entry(1, 0, [table(0)]), entry(9, 2, [table(1)], { guid: LOG_GUID.replace("1", "9") })],
      [1, 0, 0, 0, 0, 0, 0, 0],
    ],
    [
      "an entry of descriptors over two sectors",
      [entry(1, 0, [...Array.from({ length: 130 }, () => table()), table(1)])],
      [0, 2, 0, 0, 0, 0, 0, 0],
    ],
    [
      "zeros, then data, then zeros",
      [
        entry(1, 0, [{ position: BAT, zeros: MiB }, table(0, 1)]),
        entry(2, 2, [{ position: BAT + SECTOR, zeros: SECTOR }], { tail: 0 }),
      ],
      [1, 2, 0, 0, 0, 0, 0, 0],
    ],
    [
      "data, then zeros",
      [entry(1, 0, [table(0, 1)]), entry(2, 2, [{ position: BAT, zeros: MiB }], { tail: 0 })],
      NOTHING,
    ],
  ])("%s", async (_name, entries, expected) => {
    expect(await replayed(withLog(await image(), entries))).toEqual(expected);
  });

  const whole = entry(5, 0, [table(0)]);
  test.each<[string, Partial<LogEntry>]>([
    ["a bit wrong", { spoil: (bytes) => (bytes[5000] ^= 1) }],
    ["a data sector lost", { spoil: (bytes) => bytes.fill(0, SECTOR, 2 * SECTOR) }],
    ["no signature", { spoil: (bytes) => bytes.fill(0, 0, 4) }],
    ["a length of 0", { spoil: (bytes) => bytes.fill(0, 8, 12) }],
    ["a length past the log", { spoil: (bytes) => bytes.fill(0xff, 10, 12) }],
    ["more descriptors than bytes", { spoil: (bytes) => bytes.fill(0xff, 24, 28) }],
    ["a tail past the log", { tail: 4 * MiB }],
    ["a tail where nothing is", { tail: 100 * SECTOR }],
    ["a gap before it", { tail: 0, sequence: 8 }],
  ])("ends before a torn entry: %s", async (_name, torn) => {
    const entries = [whole, entry(6, 2, [table(1)], torn)];
    expect(await replayed(withLog(await image(), entries))).toEqual([1, 0, 0, 0, 0, 0, 0, 0]);
    // And with nothing before it there is nothing to go by.
    const alone = await replayed(withLog(await image(), entries.slice(1)));
    expect(alone).toMatch(/^CORRUPT log: .* no whole entry/);
  });

  test("an entry is not whole when a descriptor or data sector in it is of another", async () => {
    const { seal } = await import("../../../src/host/format/vhdx/crc32c.ts");
    for (const place of [64 + 24, 64, SECTOR, SECTOR + 4, 2 * SECTOR - 4]) {
      const spoil = (bytes: Uint8Array) => {
        bytes[place] ^= 0x40;
        seal(bytes, "loge"); // so that the checksum says nothing
      };
      const entries = [whole, entry(6, 2, [table(1)], { spoil })];
      expect(await replayed(withLog(await image(), entries))).toEqual([1, 0, 0, 0, 0, 0, 0, 0]);
    }
  });

  test("a log full of entries that claim each other is given up soon", async () => {
    const claims = Array.from({ length: 250 }, (_, i) =>
      entry(1000 - i, i, [], {
        tail: ((i + 1) % 250) * SECTOR,
        spoil: (bytes) => new DataView(bytes.buffer).setUint32(8, MiB / 2, true),
      }),
    );
    expect(await replayed(withLog(await image(), claims))).toMatch(/^CORRUPT log/);
  });
});

describe("what a log may not ask for", () => {
  const sector = new Uint8Array(SECTOR).fill(9);
  test.each<[string, LogChange[], Partial<LogEntry>, RegExp]>([
    ["a header", [{ position: 65536, data: sector }], {}, /changes 4096 bytes at 65536/],
    ["the log", [{ position: MiB, data: sector }], {}, /changes/],
    ["zeros over the log", [{ position: 512 * 1024, zeros: 3 * MiB }], {}, /changes/],
    ["beyond the end", [{ position: 64 * MiB, data: sector }], {}, /changes/],
    ["2^62", [{ position: 2 ** 62, data: sector }], {}, /whole/],
    ["a terabyte of zeros", [{ position: 2 * MiB, zeros: 2 ** 40 }], { last: 2 ** 41 }, /zeroes/],
    ["a file larger than any disk", [], { last: 2 ** 60 }, /extends/],
    ["a file that has lost its end", [], { flushed: 2 ** 30 }, /truncated/],
  ])("%s: refused", async (_name, changes, more, message) => {
    expect(await replayed(withLog(await image(), [entry(1, 0, changes, more)]))).toMatch(message);
  });

  test("guest data: in memory that block is refused, on disk it is done", async () => {
    const bytes = withLog(await image(), [entry(1, 0, [table(0, 1), { position: BLOCKS + MiB, data: sector }])]);
    const disk = await openDisk(new KeptStore(bytes), { readOnly: true });
    expect((await readBytes(disk, 0, 1))[0]).toBe(1);
    await expect(readBytes(disk, MiB, 512)).rejects.toMatchObject({ code: "CORRUPT", message: /writable/ });
    expect((await readBytes(await openDisk(new KeptStore(bytes)), MiB, 1))[0]).toBe(9);
  });
});

test("a log that extends the file does so, in memory too", async () => {
  const data = new Uint8Array(SECTOR);
  new DataView(data.buffer).setUint32(8 * 5, 20 * MiB + 6, true); // block 5, past the end as it is
  const bytes = withLog(await image(), [entry(1, 0, [{ position: BAT, data }], { last: 21 * MiB })]);
  expect(await replayed(bytes)).toEqual(NOTHING);
  const store = new KeptStore(bytes);
  const disk = await openDisk(store);
  expect(store.size).toBe(21 * MiB);
  await writeBytes(disk, 5 * MiB, new Uint8Array(512).fill(3));
  expect((await readBytes(disk, 5 * MiB, 1))[0]).toBe(3);
});

test("our entries are what the specification says, and two fit the smallest log twice", () => {
  const sectors = new Map<number, Uint8Array>();
  for (let i = 0; i < MAX_PENDING; i++) sectors.set((i + 3) * SECTOR, new Uint8Array(SECTOR).fill(i + 1));
  const zeroed = [{ position: 32 * MiB, end: 33 * MiB }];
  const ours = buildEntry({ sectors, zeroed }, 12 * SECTOR, 2n ** 33n + 5n, LOG_GUID, 40 * MiB);
  const changes = [{ position: 32 * MiB, zeros: MiB }, ...[...sectors].map(([position, data]) => ({ position, data }))];
  const theirs = logEntry({ sequence: 2 ** 33 + 5, at: 12 * SECTOR, flushed: 40 * MiB, last: 40 * MiB, changes });
  expect(Buffer.compare(ours, theirs)).toBe(0);
  expect(ours.length * 4).toBeLessThanOrEqual(MiB);
});

test("entries go round the log, however many there are", async () => {
  const store = new KeptStore();
  const size = 2 ** 40;
  const disk = await createDisk(store, { format: "vhdx", size, blockSize: MiB });
  // Each flush logs table sectors far apart: 40 at a time, several turns of a 1 MiB log.
  for (let round = 0; round < 20; round++) {
    for (let i = 0; i < 40; i++) await writeBytes(disk, (i * 600 + round) * MiB, new Uint8Array(512).fill(round + 1));
    await flush(disk);
    const crashed = await openDisk(store, { readOnly: true });
    expect(crashed.describe().log).toMatchObject({ replayedEntries: 1 });
    for (const i of [0, 39]) expect((await readBytes(crashed, (i * 600 + round) * MiB, 1))[0]).toBe(round + 1);
  }
  // And without any flush, memory stays bounded: what is pending is logged on the way.
  for (let i = 0; i < 300; i++) await writeBytes(disk, (i * 600 + 599) * MiB, new Uint8Array(512).fill(99));
  await disk.close();
  const again = await openDisk(store, { readOnly: true });
  for (let i = 0; i < 300; i++) expect((await readBytes(again, (i * 600 + 599) * MiB, 1))[0]).toBe(99);
});
