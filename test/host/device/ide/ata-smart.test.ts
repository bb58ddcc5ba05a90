import { describe, expect, test } from "vitest";
import { AtaError, AtaRegister, AtaStatus, BmCommand, Prd } from "../../../../assembly/spec/ata.ts";
import { Op, Status } from "../../../../src/core/block.ts";
import { ABORTED, AtaBench, checksum, FAILED, IDLE, type Registers, word } from "../../../support/ata-disk.ts";
import { pattern } from "../../../support/ide.ts";

const KEY = 0xc24f00;
const smart = (ide: AtaBench, features: number, count = 0, low = 0) =>
  ide.command(0xb0, { features, count, lba: KEY | low });
const read = (ide: AtaBench, features: number, count = 1, low = 0) => {
  smart(ide, features, count, low);
  return ide.drain();
};
/** Raw value of an attribute. */
const attribute = (ide: AtaBench, id: number) => {
  const data = read(ide, 0xd0);
  for (let at = 2; at < 362; at += 12)
    if (data[at] === id) return { value: data[at + 3], raw: data[at + 5] | (data[at + 6] << 8) };
  return undefined;
};

describe("SMART", () => {
  test("without its key, or disabled, it aborts", () => {
    const ide = new AtaBench();
    ide.command(0xb0, { features: 0xd0, lba: 0xc24e00 });
    expect(ide.ended).toEqual(ABORTED);
    expect(smart(ide, 0xd9)).toBe(IDLE);
    expect(ide.identify()[85] & 1).toBe(0);
    for (const features of [0xd0, 0xd1, 0xd2, 0xd4, 0xd5, 0xd6, 0xd9, 0xda]) expect(smart(ide, features)).toBe(FAILED);
    expect(smart(ide, 0xd8)).toBe(IDLE);
    expect(ide.identify()[85] & 1).toBe(1);
    expect(smart(ide, 0xd7)).toBe(FAILED);
  });

  test("data and thresholds: the same attributes, sums of zero, RETURN STATUS good", () => {
    const ide = new AtaBench();
    const data = read(ide, 0xd0);
    const limits = read(ide, 0xd1);
    expect([checksum(data), checksum(limits), word(data, 0), data.length]).toEqual([0, 0, 1, 512]);
    for (let at = 2; at < 362; at += 12) expect(data[at]).toBe(limits[at]);
    expect([...data].filter((_, at) => at >= 2 && at < 362 && (at - 2) % 12 === 0 && data[at] !== 0)).toEqual([
      1, 3, 4, 5, 9, 12, 190, 197, 199,
    ]);
    ide.write(AtaRegister.LbaMid, 0);
    expect([smart(ide, 0xda), ide.lba28 >> 8]).toEqual([IDLE, 0xc24f]);
  });

  test("autosave and automatic collection take their two counts", () => {
    const ide = new AtaBench();
    expect([0, 0xf1, 1].map((count) => smart(ide, 0xd2, count))).toEqual([IDLE, IDLE, FAILED]);
    expect([0xf8, 0, 1].map((count) => smart(ide, 0xdb, count))).toEqual([IDLE, IDLE, FAILED]);
    expect(smart(ide, 0xd3)).toBe(IDLE);
    smart(ide, 0xdb, 0xf8);
    expect(read(ide, 0xd0)[362] & 0x80).toBe(0x80);
  });

  test("attributes count: hours, power cycles, bad sectors, read errors; enough of these fail the drive", () => {
    const ide = new AtaBench();
    ide.clock.pass(3 * 3600_000);
    expect([attribute(ide, 9)?.raw, attribute(ide, 12)?.raw]).toEqual([3, 1]);
    ide.machine.reset();
    expect(attribute(ide, 12)?.raw).toBe(2);
    ide.command(0x45, { features: 0x55, lba: 9, count: 5, ext: true });
    expect(attribute(ide, 197)).toEqual({ value: 95, raw: 5 });
    for (let i = 0; i < 94; i++) ide.command(0x20, { lba: 9, count: 1 });
    expect(attribute(ide, 1)).toEqual({ value: 6, raw: 94 });
    expect([smart(ide, 0xda), ide.lba28 >> 8]).toEqual([IDLE, 0x2cf4]);
  });
});

describe("self-tests", () => {
  const status = (ide: AtaBench) => read(ide, 0xd0)[363];
  const log = (ide: AtaBench) => read(ide, 0xd5, 1, 6);

  test("a short test goes on with the clock and reads the medium", () => {
    const ide = new AtaBench();
    expect(smart(ide, 0xd4, 0, 1)).toBe(IDLE);
    expect(status(ide)).toBe(0xfa);
    const seen = new Set<number>();
    for (let i = 0; i < 400 && status(ide) >= 0xf0; i++) {
      seen.add(status(ide) & 0x0f);
      ide.clock.pass(1);
    }
    expect([...seen].sort((a, b) => a - b)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(status(ide)).toBe(0);
    const reads = ide.block.log.filter(({ op }) => op === Op.Read);
    expect(reads.length).toBe(80);
    expect(Math.max(...reads.map(({ offset }) => offset))).toBeGreaterThan(ide.block.size * 0.97);
    const entry = log(ide);
    expect([entry[2], entry[3], entry[508], checksum(entry)]).toEqual([1, 0, 1, 0]);
  });

  test("an extended test reads all of it", () => {
    const ide = new AtaBench({ size: 8 << 20 });
    smart(ide, 0xd4, 0, 2);
    ide.clock.pass(60_000);
    expect(status(ide)).toBe(0);
    expect(ide.block.log.reduce((sum, { length }) => sum + length, 0)).toBe(8 << 20);
  });

  test("a sector that cannot be read ends it, and stands in the log with its address", () => {
    const ide = new AtaBench({ size: 8 << 20 });
    ide.block.faults.push({ op: Op.Read, status: Status.Media, at: 10_000 * 512 });
    smart(ide, 0xd4, 0, 2);
    ide.clock.pass(60_000);
    expect(status(ide)).toBe(0x74);
    const entry = log(ide);
    expect([entry[3], entry[7] | (entry[8] << 8)]).toEqual([0x74, 10_000]);
    ide.command(0x45, { features: 0x55, lba: 77, count: 1, ext: true });
    smart(ide, 0xd4, 0, 2);
    ide.clock.pass(60_000);
    expect(log(ide)[31]).toBe(77);
  });

  test("ABORT, a reset, standby and the next test end it, each with its result", () => {
    const ide = new AtaBench();
    const ways: [number, () => void][] = [
      [1, () => smart(ide, 0xd4, 0, 0x7f)],
      [2, () => ide.write(AtaRegister.Control, 4)],
      [1, () => ide.command(0xe0)],
      [1, () => smart(ide, 0xd4, 0, 2)],
      [2, () => ide.machine.reset()],
    ];
    ways.forEach(([result, end], i) => {
      if (i !== 4) smart(ide, 0xd4, 0, 1);
      ide.clock.pass(50);
      end();
      ide.write(AtaRegister.Control, 0);
      const entries = log(ide);
      expect([i, entries[2 + i * 24 + 1] >> 4]).toEqual([i, result]);
    });
    expect(ide.clock.waiting).toBe(0);
  });

  test("captive: BSY until it has ended; failure shows in LBA mid and high; SRST ends it", () => {
    const ide = new AtaBench({ size: 8 << 20 });
    expect(smart(ide, 0xd4, 0, 0x81) & AtaStatus.Busy).toBe(AtaStatus.Busy);
    ide.clock.pass(1000);
    expect([ide.irq, ide.status]).toEqual([true, IDLE]);
    ide.command(0x45, { features: 0x55, lba: 77, count: 1, ext: true });
    smart(ide, 0xd4, 0, 0x82);
    ide.clock.pass(1000);
    expect([...ide.ended, ide.lba28 >> 8]).toEqual([...ABORTED, 0x2cf4]);
    smart(ide, 0xd4, 0, 0x82);
    ide.write(AtaRegister.Control, 4);
    ide.write(AtaRegister.Control, 0);
    expect([ide.irq, ide.status]).toEqual([false, IDLE]);
  });

  test("off-line collection has a status of its own", () => {
    const ide = new AtaBench();
    smart(ide, 0xd4, 0, 0);
    expect(read(ide, 0xd0)[362]).toBe(3);
    ide.clock.pass(10_000);
    expect(read(ide, 0xd0)[362]).toBe(2);
    expect(log(ide)[508]).toBe(0);
    for (const low of [3, 4, 0x40, 0x80]) expect(smart(ide, 0xd4, 0, low)).toBe(FAILED);
  });

  test("CVE-2014-2894: the log holds 21 entries, however many tests there are", () => {
    const ide = new AtaBench();
    for (let i = 0; i < 60; i++) {
      smart(ide, 0xd4, 0, 1);
      smart(ide, 0xd4, 0, 0x7f);
    }
    const entries = log(ide);
    expect([entries[508], entries.length, checksum(entries)]).toEqual([21, 512, 0]);
    for (let i = 0; i < 21; i++) expect(entries[2 + i * 24]).toBe(1);
    expect([...entries.subarray(2 + 21 * 24, 508)]).toEqual([0, 0]);
  });
});

describe("logs", () => {
  const ext = (ide: AtaBench, code: number, low: number, page: number, count: number) =>
    ide.command(code, { lba: low | ((page & 0xff) << 8) | (Math.floor(page / 256) * 2 ** 32), count, ext: true });

  test("directories", () => {
    const ide = new AtaBench();
    const mine = read(ide, 0xd5, 1, 0);
    expect([word(mine, 0), word(mine, 1), word(mine, 3), word(mine, 6), word(mine, 7), word(mine, 0x80)]).toEqual([
      1, 1, 0, 1, 0, 16,
    ]);
    ext(ide, 0x2f, 0, 0, 1);
    const general = ide.drain();
    expect([
      word(general, 0),
      word(general, 1),
      word(general, 3),
      word(general, 6),
      word(general, 7),
      word(general, 0x9f),
    ]).toEqual([1, 0, 1, 0, 1, 16]);
  });

  test("host logs: SMART and general purpose commands share them, several blocks and a first block", () => {
    const ide = new AtaBench();
    const data = pattern(3 * 512, 5);
    smart(ide, 0xd6, 3, 0x85);
    ide.feed(data);
    expect(ide.status).toBe(IDLE);
    expect(read(ide, 0xd5, 3, 0x85)).toEqual(data);
    ext(ide, 0x2f, 0x85, 1, 2);
    expect(ide.drain()).toEqual(data.subarray(512));
    ext(ide, 0x3f, 0x85, 15, 1);
    ide.feed(pattern(512, 9));
    expect(ide.status).toBe(IDLE);
    ide.prds(0x200000, [[0x300000, Prd.EndOfTable | 1024]]);
    ide.write(AtaRegister.BmTable, 0x200000, 4);
    ide.write(AtaRegister.BmCommand, BmCommand.Start | BmCommand.ToMemory);
    ext(ide, 0x47, 0x85, 14, 2);
    expect(ide.status).toBe(IDLE);
    expect(ide.cpu.ram.bytes(0x300200, 512)).toEqual(pattern(512, 9));
    ide.write(AtaRegister.BmCommand, 0);
    ide.cpu.ram.bytes(0x300000, 1024).set(pattern(1024, 7));
    ide.write(AtaRegister.BmCommand, BmCommand.Start);
    ext(ide, 0x57, 0x90, 0, 2);
    expect(ide.status).toBe(IDLE);
    expect(read(ide, 0xd5, 2, 0x90)).toEqual(pattern(1024, 7));
  });

  test("what is not there, or more than there is, aborts before any data", () => {
    const ide = new AtaBench();
    for (const [low, page, count] of [
      [0x85, 0, 0],
      [0x85, 0, 17],
      [0x85, 16, 1],
      [0x85, 0xffff, 1],
      [0x50, 0, 1],
      [1, 0, 1],
      [6, 0, 1],
      [0, 0, 2],
    ]) {
      for (const code of [0x2f, 0x47, 0x3f, 0x57]) {
        ext(ide, code, low, page, count);
        expect([code, low, page, count, ...ide.ended]).toEqual([code, low, page, count, ...ABORTED]);
      }
    }
    for (const [count, low] of [
      [0, 0x85],
      [17, 0x85],
      [1, 3],
      [1, 7],
      [2, 1],
    ])
      expect(smart(ide, 0xd5, count, low)).toBe(FAILED);
    for (const [count, low] of [
      [0, 0x85],
      [17, 0x85],
      [1, 1],
      [1, 6],
    ])
      expect(smart(ide, 0xd6, count, low)).toBe(FAILED);
  });

  test.each<[string, number, Registers]>([
    ["PIO read over the end", 0x20, { lba: 131070, count: 5 }],
    ["PIO write over the end", 0x30, { lba: 131072, count: 1 }],
    ["verify over the end", 0x40, { lba: 131070, count: 5 }],
    ["DMA read over the end", 0xc8, { lba: 131070, count: 5 }],
    ["48-bit DMA write", 0x35, { lba: 131072, count: 1, ext: true }],
    ["CHS outside the translation", 0x20, { lba: 0x100, count: 1, device: 0xa3 }],
  ])("the error logs keep no command that is faulty itself: %s", (_name, code, registers) => {
    const ide = new AtaBench();
    ide.prds(0x200000, [[0x300000, Prd.EndOfTable | (5 * 512)]]);
    ide.write(AtaRegister.BmTable, 0x200000, 4);
    ide.write(AtaRegister.BmCommand, BmCommand.Start | (code === 0xc8 ? BmCommand.ToMemory : 0));
    ide.command(code, registers);
    // By PIO what is there comes first; a block is looked for when it has been sent.
    if (code === 0x20) expect(ide.drain()).toHaveLength(registers.device ? 0 : 1024);
    if (code === 0x30) ide.feed(new Uint8Array(512));
    expect(ide.ended).toEqual([FAILED, AtaError.IdNotFound]);
    const summary = read(ide, 0xd5, 1, 1);
    expect([summary[1], word(summary, 226)]).toEqual([0, 0]);
  });

  test("the error logs keep IDNF of a sector that is there", () => {
    const ide = new AtaBench();
    ide.block.faults.push({ op: Op.Read, status: Status.OutOfRange, at: 1000 * 512 });
    ide.command(0x20, { lba: 1000, count: 1 });
    expect(ide.ended).toEqual([FAILED, AtaError.IdNotFound]);
    const summary = read(ide, 0xd5, 1, 1);
    expect([summary[1], word(summary, 226)]).toEqual([1, 1]);
    const entry = summary.subarray(2, 92);
    const lba = entry[60 + 3] | (entry[60 + 4] << 8);
    expect([entry[48 + 7], entry[60 + 1], lba]).toEqual([0x20, AtaError.IdNotFound, 1000]);
  });

  test("damaged Ultra DMA transfers are counted, and kept by the error logs", () => {
    const ide = new AtaBench();
    ide.prds(0x200000, [[0x300000, Prd.EndOfTable | 512]]);
    for (let i = 0; i < 3; i++) {
      ide.block.faults.push({ op: Op.Read, status: Status.Crc });
      ide.write(AtaRegister.BmCommand, 0);
      ide.write(AtaRegister.BmTable, 0x200000, 4);
      ide.write(AtaRegister.BmCommand, BmCommand.Start | BmCommand.ToMemory);
      ide.command(0xc8, { lba: 1000, count: 1 });
      expect(ide.ended).toEqual([FAILED, AtaError.InterfaceCrc | AtaError.Abort]);
    }
    expect(attribute(ide, 199)).toEqual({ value: 200, raw: 3 });
    expect(attribute(ide, 1)?.raw).toBe(0);
    const summary = read(ide, 0xd5, 1, 1);
    expect([summary[1], word(summary, 226), summary[2 + 60 + 1]]).toEqual([3, 3, 0x84]);
  });

  test("the error logs keep what media commands failed of, five and four of them", () => {
    const ide = new AtaBench();
    for (let i = 0; i < 7; i++) {
      ide.block.faults.push({ op: Op.Read, status: Status.Media, at: (1000 + i) * 512 });
      ide.command(0x40, { lba: 996, count: 20 });
      expect(ide.ended).toEqual([FAILED, AtaError.Uncorrectable]);
    }
    const summary = read(ide, 0xd5, 1, 1);
    expect([summary[1], word(summary, 226), checksum(summary)]).toEqual([5, 7, 0]);
    const newest = summary.subarray(2 + 4 * 90, 2 + 5 * 90);
    // Command 40h, error UNC, LBA 1006.
    expect([newest[48 + 7], newest[60 + 1], newest[60 + 3] | (newest[60 + 4] << 8)]).toEqual([0x40, 0x40, 1006]);
    ext(ide, 0x2f, 3, 0, 1);
    const extended = ide.drain();
    expect([word(extended, 1), word(extended, 250), checksum(extended)]).toEqual([4, 7, 0]);
    smart(ide, 0xd4, 0, 1);
    smart(ide, 0xd4, 0, 0x7f);
    ext(ide, 0x2f, 7, 0, 1);
    const tests = ide.drain();
    expect([word(tests, 1), tests[4], tests[5] >> 4, checksum(tests)]).toEqual([1, 1, 1, 0]);
  });
});
