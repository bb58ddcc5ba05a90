import { describe, expect, test } from "vitest";
import {
  AtaCommand,
  AtaError,
  AtaFeature,
  AtaRegister,
  AtaStatus,
  BmCommand,
  BmStatus,
  Prd,
} from "../../../../assembly/spec/ata.ts";
import { Op, Status } from "../../../../src/core/block.ts";
import { parseIdentify } from "../../../../src/guest/ata/identify.ts";
import { ABORTED, AtaBench, block, checksum, FAILED, IDLE, word } from "../../../support/ata-disk.ts";
import { pattern } from "../../../support/ide.ts";

const TABLE = 0x200000;
const BUFFER = 0x300000;
const C = AtaCommand.SetFeatures;

/** A command whose data, `bytes` of them, go by DMA to or from BUFFER. */
function byDma(
  ide: AtaBench,
  code: number,
  bytes: number,
  registers: Parameters<AtaBench["command"]>[1],
  write: boolean,
) {
  ide.prds(TABLE, [[BUFFER, Prd.EndOfTable | (bytes & 0xffff)]]);
  ide.write(AtaRegister.BmCommand, 0);
  ide.write(AtaRegister.BmStatus, BmStatus.Interrupt | BmStatus.Error);
  ide.write(AtaRegister.BmTable, TABLE, 4);
  ide.command(code, registers);
  ide.write(AtaRegister.BmCommand, BmCommand.Start | (write ? 0 : BmCommand.ToMemory));
  expect(ide.read(AtaRegister.BmStatus) & BmStatus.Active).toBe(0);
  return ide.status;
}

describe("IDENTIFY DEVICE", () => {
  test("what libata reads, word by word", () => {
    const w = new AtaBench({ serial: "SERIAL0123456789ABCD", firmware: "FW 1.0", model: "A MODEL NAME" }).identify();
    const expected: Record<number, number> = {
      ...{
        0: 0x0040,
        1: 130,
        3: 16,
        6: 63,
        10: 0x5345,
        27: 0x4120,
        47: 0x8010,
        49: 0x0b00,
        53: 7,
        54: 130,
        55: 16,
        56: 63,
      },
      ...{
        57: (130 * 16 * 63) & 0xffff,
        58: (130 * 16 * 63) >>> 16,
        59: 0x0110,
        60: 0,
        61: 2,
        62: 7,
        63: 7,
        64: 3,
        65: 120,
      },
      ...{ 68: 120, 80: 0xf0, 88: 0x203f, 93: 0x6001, 100: 0, 101: 2, 102: 0, 103: 0, 106: 0x4000, 169: 1 },
    };
    for (const [index, value] of Object.entries(expected)) expect([index, w[Number(index)]]).toEqual([index, value]);
    // QEMU's words 82, 83 and 85 to 87 are in ours: NOP, write cache, SMART; flushes and 48 bits.
    expect([w[82] & 0x4021, w[83] & 0x7400, w[85] & 0x4021, w[86] & 0x3400, w[84] >> 14]).toEqual([
      0x4021, 0x7400, 0x4021, 0x3400, 1,
    ]);
    expect(checksum(new Uint8Array(w.buffer))).toBe(0);
    expect(parseIdentify(w)).toMatchObject({
      serial: "SERIAL0123456789ABCD",
      firmware: "FW 1.0",
      model: "A MODEL NAME",
      sectors: 131072,
      lba48: true,
    });
  });

  test("what is configured shows", () => {
    const ide = new AtaBench({
      wwn: 0x5000c500a1b2c3d4n,
      geometry: { cylinders: 977, heads: 10, sectorsPerTrack: 17 },
      physicalSectorSize: 4096,
      rotationRate: 1,
      modes: { pio: 3, singleWord: null, multiWord: 1, ultra: 2 },
      writeCache: false,
      apm: 128,
      aam: 200,
    });
    const w = ide.identify();
    expect([...w.subarray(108, 112)]).toEqual([0x5000, 0xc500, 0xa1b2, 0xc3d4]);
    expect([w[1], w[3], w[6], w[106], w[217], w[85] & 0x20]).toEqual([977, 10, 17, 0x6003, 1, 0]);
    expect([w[62], w[63], w[64], w[88]]).toEqual([0, 3, 1, 0x0407]);
    expect([w[91], w[94], w[83] & 0x0208, w[86] & 0x0208]).toEqual([128, 0x8000 | 200, 0x0208, 0x0208]);
    expect(w[84] & 0x0100).toBe(0x0100);
    for (const [mode, status] of [
      [0x22, FAILED],
      [0x21, IDLE],
      [0x10, FAILED],
      [0x43, FAILED],
      [0x42, IDLE],
      [0x0c, FAILED],
      [0x0b, IDLE],
    ])
      expect([mode, ide.command(C, { features: 3, count: mode })]).toEqual([mode, status]);
  });

  test("a drive without DMA, without 48 bits, without management levels", () => {
    const modes = { singleWord: null, multiWord: null, ultra: null };
    const ide = new AtaBench({ modes, lba48: false, apm: false, aam: false, size: 200 * 2 ** 30 });
    const w = ide.identify();
    expect([w[49] & 0x0100, w[62], w[63], w[88], w[83] & 0x2608, w[60] + w[61] * 65536]).toEqual([
      0, 0, 0, 0, 0, 0x0fffffff,
    ]);
    expect([...w.subarray(100, 104)]).toEqual([0, 0, 0, 0]);
    for (const code of [0x24, 0x34, 0x25, 0x35, 0x27, 0x37, 0xea])
      expect([code, ide.command(code, { count: 1, ext: true }), ide.error]).toEqual([code, ...ABORTED]);
    expect(ide.command(C, { features: 5, count: 1 })).toBe(FAILED);
    expect(ide.command(C, { features: 0x42, count: 1 })).toBe(FAILED);
  });

  test.each([
    [{ model: "x".repeat(41) }, /model/],
    [{ geometry: { cylinders: 1, heads: 17, sectorsPerTrack: 63 } }, /heads/],
    [{ physicalSectorSize: 1536 }, /physicalSectorSize/],
    [{ visibleSectors: 2 ** 20 }, /visibleSectors/],
    [{ modes: { ultra: 7 } }, /modes.ultra/],
  ])("options that cannot be are refused: %o", (options, message) => {
    expect(() => new AtaBench(options)).toThrow(
      expect.objectContaining({ code: "INVALID", message: expect.stringMatching(message) }),
    );
  });
});

describe("SET FEATURES", () => {
  test("power and acoustic management levels, on and off", () => {
    const ide = new AtaBench();
    expect(ide.command(C, { features: AtaFeature.EnablePowerManagement, count: 0x80 })).toBe(IDLE);
    expect(ide.command(C, { features: AtaFeature.EnableAcoustic, count: 0xfe })).toBe(IDLE);
    let w = ide.identify();
    expect([w[91], w[94] & 0xff, w[86] & 0x0208]).toEqual([0x80, 0xfe, 0x0208]);
    for (const count of [0, 255])
      expect(ide.command(C, { features: AtaFeature.EnablePowerManagement, count })).toBe(FAILED);
    ide.command(C, { features: AtaFeature.DisablePowerManagement });
    ide.command(C, { features: AtaFeature.DisableAcoustic });
    w = ide.identify();
    expect([w[91], w[94] & 0xff, w[86] & 0x0208]).toEqual([0, 0, 0]);
  });

  test("CCh has SRST restore the power-on settings, 66h does not", () => {
    const ide = new AtaBench();
    const settings = () => {
      ide.command(C, { features: AtaFeature.DisableWriteCache });
      ide.command(AtaCommand.SetMultiple, { count: 4 });
      ide.write(AtaRegister.Control, 4);
      ide.write(AtaRegister.Control, 0);
      const w = ide.identify();
      return [w[85] & 0x20, w[59]];
    };
    expect(settings()).toEqual([0, 0x104]);
    ide.command(C, { features: AtaFeature.RevertOnReset });
    expect(settings()).toEqual([0x20, 0x110]);
    ide.command(C, { features: AtaFeature.KeepOnReset });
    expect(settings()).toEqual([0, 0x104]);
  });

  test("what QEMU takes for nothing is taken; 8-bit transfers are for CompactFlash", () => {
    const ide = new AtaBench();
    for (const features of [0x67, 0x69, 0x96, 0x9a]) expect(ide.command(C, { features })).toBe(IDLE);
    for (const features of [0x01, 0x81, 0x06, 0x31, 0x5d, 0xdd]) expect(ide.command(C, { features })).toBe(FAILED);
    const card = new AtaBench({ kind: "compact-flash" });
    expect(card.command(C, { features: 0x01 })).toBe(IDLE);
    const data = pattern(512, 3);
    card.command(0x30, { count: 1, lba: 5 });
    for (const byte of data) card.write(AtaRegister.Data, byte);
    expect([card.status, card.block.peek(5 * 512, 512)]).toEqual([IDLE, data]);
    card.command(0x20, { count: 1, lba: 5 });
    expect(Uint8Array.from(data, () => card.read(AtaRegister.Data))).toEqual(data);
    expect(card.status).toBe(IDLE);
    card.command(C, { features: 0x81 });
    card.command(0x20, { count: 1, lba: 5 });
    expect(card.drain()).toEqual(data);
  });
});

describe("READ and WRITE BUFFER", () => {
  test("by PIO and by DMA they share one buffer", () => {
    const ide = new AtaBench();
    const data = pattern(512, 1);
    expect(ide.send(0xe8, data)).toBe(IDLE);
    ide.command(0xe4);
    expect(ide.drain()).toEqual(data);
    expect(byDma(ide, 0xe9, 512, {}, false)).toBe(IDLE);
    expect(ide.cpu.ram.bytes(BUFFER, 512)).toEqual(data);
    ide.cpu.ram.bytes(BUFFER, 512).set(pattern(512, 2));
    expect(byDma(ide, 0xeb, 512, {}, true)).toBe(IDLE);
    ide.command(0xe4);
    expect(ide.drain()).toEqual(pattern(512, 2));
    expect(ide.block.log).toEqual([]);
  });
});

describe("host protected area", () => {
  const max = (ide: AtaBench) => {
    ide.command(0xf8);
    return ide.lba28;
  };
  const visible = (ide: AtaBench) => {
    const w = ide.identify();
    return w[60] + w[61] * 65536;
  };

  test("SET MAX ADDRESS right after READ NATIVE MAX hides what is beyond, until power-on unless bit 0 of Count is set", () => {
    const ide = new AtaBench();
    expect(ide.command(0xf9, { lba: 999 })).toBe(FAILED);
    expect(max(ide)).toBe(131071);
    expect(ide.command(0xf9, { lba: 999 })).toBe(IDLE);
    expect([visible(ide), max(ide)]).toEqual([1000, 131071]);
    ide.command(0x20, { lba: 1000, count: 1 });
    expect(ide.ended).toEqual([FAILED, AtaError.IdNotFound]);
    ide.machine.reset();
    expect(visible(ide)).toBe(131072);
    max(ide);
    ide.command(0xf9, { lba: 1999, count: 1 });
    max(ide);
    // Only one that lasts between two power-ons.
    ide.command(0xf9, { lba: 2999, count: 1 });
    expect(ide.ended).toEqual([FAILED, AtaError.IdNotFound]);
    ide.machine.reset();
    expect(visible(ide)).toBe(2000);
    max(ide);
    ide.command(0x10);
    expect(ide.command(0xf9, { lba: 9 })).toBe(FAILED);
    max(ide);
    ide.command(0xf9, { lba: 131072 });
    expect(ide.ended).toEqual([FAILED, AtaError.IdNotFound]);
  });

  test("SET MAX ADDRESS EXT, and the option that starts with an area hidden", () => {
    const ide = new AtaBench({ size: 2 ** 40, visibleSectors: 5000 });
    expect(visible(ide)).toBe(5000);
    ide.command(0x27);
    expect(ide.lba48).toBe(2 ** 31 - 1);
    expect(ide.command(0x37, { lba: 2 ** 30, ext: true })).toBe(IDLE);
    expect(parseIdentify(ide.identify()).sectors).toBe(2 ** 30 + 1);
    ide.command(0xf8);
    expect(ide.lba28).toBe(2 ** 28 - 2);
    ide.command(0x27, { device: 0xa0 });
    expect(ide.ended).toEqual(ABORTED);
  });

  test("READ NATIVE MAX and SET MAX in CHS form are of the default translation", () => {
    const ide = new AtaBench();
    ide.command(0x91, { count: 17, device: 0xa3 });
    ide.command(0xf8, { device: 0xa0 });
    expect([ide.read(AtaRegister.LbaLow), ide.lba28 >> 8, ide.read(AtaRegister.Device)]).toEqual([
      63,
      (((15 << 24) | (129 << 8)) >> 8) | (15 << 16),
      0xaf,
    ]);
    ide.command(0xf9, { device: 0xa4, lba: (10 << 8) | 7 });
    expect(visible(ide)).toBe((10 * 16 + 4) * 63 + 7);
  });

  test("password, lock, unlock, freeze; five wrong passwords", () => {
    const ide = new AtaBench();
    const password = block([2, 1, 2, 3]);
    const sub = (features: number) => ide.command(0xf9, { features });
    const sends = (features: number, data: Uint8Array) => ide.send(0xf9, data, { features });
    expect([sub(2), sub(4)]).toEqual([FAILED, FAILED]);
    expect(sends(1, password)).toBe(IDLE);
    expect(ide.identify()[86] & 0x0100).toBe(0x0100);
    expect(sub(2)).toBe(IDLE);
    max(ide);
    expect(ide.command(0xf9, { lba: 99 })).toBe(FAILED);
    // Refused before any data.
    expect(sub(1)).toBe(FAILED);
    expect(sends(3, block())).toBe(FAILED);
    expect(sends(3, password)).toBe(IDLE);
    max(ide);
    expect(ide.command(0xf9, { lba: 99 })).toBe(IDLE);
    expect(sub(2)).toBe(IDLE);
    for (let i = 0; i < 5; i++) expect(sends(3, block())).toBe(FAILED);
    expect(sends(3, password)).toBe(FAILED);
    expect(sub(4)).toBe(IDLE);
    expect(sub(3)).toBe(FAILED);
    ide.machine.reset();
    expect(sub(2)).toBe(FAILED);
    max(ide);
    expect(ide.command(0xf9, { lba: 99 })).toBe(IDLE);
  });
});

describe("DATA SET MANAGEMENT", () => {
  const ranges = (ide: AtaBench, ...list: [number, number][]) => {
    const view = new DataView(new ArrayBuffer(512));
    for (const [i, [lba, sectors]] of list.entries())
      view.setBigUint64(i * 8, BigInt(lba) | (BigInt(sectors) << 48n), true);
    ide.cpu.ram.bytes(BUFFER, 512).set(new Uint8Array(view.buffer));
  };
  const trim = (ide: AtaBench, features = 1, count = 1) =>
    byDma(ide, 0x06, 512 * count, { features, count, ext: true }, true);

  test("TRIM discards each range; one of no length is skipped", () => {
    const ide = new AtaBench();
    ide.block.poke(100 * 512, pattern(512 * 8, 1));
    ranges(ide, [100, 4], [5, 0], [106, 2]);
    expect(trim(ide)).toBe(IDLE);
    expect(ide.read(AtaRegister.BmStatus)).toBe(BmStatus.Interrupt);
    expect(ide.block.log.map(({ op, offset, length }) => [op, offset / 512, length / 512])).toEqual([
      [Op.Discard, 100, 4],
      [Op.Discard, 106, 2],
    ]);
    ide.command(0x20, { lba: 104, count: 1 });
    expect(ide.drain()).toEqual(pattern(512 * 8, 1).subarray(2048, 2560));
  });

  test("past the end nothing is discarded; other features and counts abort; a disk that cannot is left alone", () => {
    const ide = new AtaBench();
    ranges(ide, [100, 4], [131070, 4]);
    trim(ide);
    expect(ide.ended).toEqual([FAILED, AtaError.IdNotFound]);
    expect(ide.block.log).toEqual([]);
    for (const [features, count] of [
      [0, 1],
      [2, 1],
      [1, 0],
      [1, 65],
    ]) {
      ide.command(0x06, { features, count, ext: true });
      expect(ide.ended).toEqual(ABORTED);
    }
    ide.block.faults.push({ op: Op.Discard, status: Status.Unsupported });
    ranges(ide, [100, 4]);
    expect(trim(ide)).toBe(IDLE);
    ide.block.faults.push({ op: Op.Discard, status: Status.Io });
    expect(trim(ide)).toBe(FAILED | AtaStatus.DeviceFault);
  });
});

describe("WRITE UNCORRECTABLE EXT", () => {
  test("reads and verifies of it are UNC at the sector, until it is written or trimmed", () => {
    const ide = new AtaBench();
    expect(ide.command(0x45, { features: 0x55, lba: 200, count: 3, ext: true })).toBe(IDLE);
    ide.command(0x20, { lba: 198, count: 8 });
    expect(ide.drain()).toHaveLength(1024);
    expect([...ide.ended, ide.lba28]).toEqual([FAILED, AtaError.Uncorrectable, 200]);
    ide.command(0x42, { lba: 0, count: 1000, ext: true });
    expect([...ide.ended, ide.lba48]).toEqual([FAILED, AtaError.Uncorrectable, 200]);
    byDma(ide, 0xc8, 4096, { lba: 201, count: 8 }, false);
    expect([...ide.ended, ide.lba28]).toEqual([FAILED, AtaError.Uncorrectable, 201]);
    ide.send(0x30, new Uint8Array(512), { lba: 201, count: 1 });
    ide.command(0x40, { lba: 201, count: 1 });
    expect(ide.status).toBe(IDLE);
    ide.command(0x40, { lba: 202, count: 1 });
    expect(ide.status).toBe(FAILED);
  });

  test("whole physical sectors for pseudo errors; the rest of what can be asked", () => {
    const ide = new AtaBench({ physicalSectorSize: 4096 });
    ide.command(0x45, { features: 0x5a, lba: 20, count: 1, ext: true });
    ide.command(0x40, { lba: 16, count: 1 });
    expect(ide.ended).toEqual([FAILED, AtaError.Uncorrectable]);
    ide.command(0x45, { features: 0xaa, lba: 100, count: 1, ext: true });
    ide.command(0x40, { lba: 99, count: 1 });
    expect(ide.status).toBe(IDLE);
    ide.command(0x40, { lba: 100, count: 1 });
    expect(ide.status).toBe(FAILED);
    ide.command(0x45, { features: 0x11, count: 1, ext: true });
    expect(ide.ended).toEqual(ABORTED);
    ide.command(0x45, { features: 0x55, lba: 131071, count: 2, ext: true });
    expect(ide.ended).toEqual([FAILED, AtaError.IdNotFound]);
  });

  test("ranges are bounded", () => {
    const ide = new AtaBench();
    for (let i = 0; i < 4096; i++) ide.command(0x45, { features: 0xaa, lba: i * 2, count: 1, ext: true });
    expect(ide.status).toBe(IDLE);
    ide.command(0x45, { features: 0xaa, lba: 9000, count: 1, ext: true });
    expect(ide.ended).toEqual(ABORTED);
  });
});

describe("CompactFlash", () => {
  test("the CFA commands", () => {
    const card = new AtaBench({ kind: "compact-flash" });
    expect([card.identify()[0], card.identify()[83] & 4]).toEqual([0x848a, 4]);
    expect([card.command(0x03), card.error]).toEqual([IDLE, 0x09]);
    const data = pattern(2048, 7);
    expect(card.send(0x38, data, { lba: 9, count: 4 })).toBe(IDLE);
    expect(card.send(0xcd, data, { lba: 20, count: 4 })).toBe(IDLE);
    for (const lba of [9, 20]) expect(card.block.peek(lba * 512, 2048)).toEqual(data);
    card.command(0x87, { lba: 0x1234567 });
    expect(card.drain().subarray(0, 7)).toEqual(Uint8Array.of(0x23, 0x45, 0xe1, 0x67, 0x23, 0x45, 0x67));
    expect(card.command(0xc0, { lba: 9, count: 4 })).toBe(IDLE);
    expect([card.command(0xf5, { count: 7 }), card.read(AtaRegister.Count)]).toEqual([IDLE, 0]);
    expect([card.command(0xf0, { features: 1 }), card.read(AtaRegister.Count)]).toEqual([IDLE, 0x50]);
    expect(card.command(0xf0, { features: 2 })).toBe(FAILED);
    expect(card.send(0xb8, pattern(512, 8), { features: 4 })).toBe(IDLE);
    card.command(0xb8, { features: 3 });
    expect(card.drain()).toEqual(pattern(512, 8));
    card.command(0xb8, { features: 2 });
    expect(word(card.drain(), 0)).toBe(1);
    expect(card.command(0xb8, { features: 9 })).toBe(FAILED);
  });
});

describe("sectors of 4 KiB", () => {
  test.each([
    ["SECTORS", 0x20, 0x30],
    ["MULTIPLE", 0xc4, 0xc5],
  ])("PIO, READ and WRITE %s", (_name, read, write) => {
    const ide = new AtaBench({ sectorSize: 4096 });
    expect([ide.identify()[106], ide.identify()[117], parseIdentify(ide.identify()).sectors]).toEqual([
      0x5000, 2048, 16384,
    ]);
    const data = pattern(20 * 4096, 4);
    expect(ide.send(write, data, { lba: 10, count: 20 })).toBe(IDLE);
    expect(ide.block.peek(10 * 4096, data.length)).toEqual(data);
    ide.command(read, { lba: 10, count: 20 });
    expect(Buffer.compare(ide.drain(), data)).toBe(0);
    expect([ide.status, ide.lba28]).toEqual([IDLE, 30]);
  });

  test("DMA; past the end", () => {
    const ide = new AtaBench({ sectorSize: 4096 });
    ide.cpu.ram.bytes(BUFFER, 8192).set(pattern(8192, 6));
    expect(byDma(ide, 0xca, 8192, { lba: 16382, count: 2 }, true)).toBe(IDLE);
    expect(ide.block.peek(16382 * 4096, 8192)).toEqual(pattern(8192, 6));
    byDma(ide, 0xca, 8192, { lba: 16383, count: 2 }, true);
    expect([...ide.ended, ide.lba28]).toEqual([FAILED, AtaError.IdNotFound, 16384]);
  });
});

test("FUA writes are durable before they complete, and their task file goes on", () => {
  const ide = new AtaBench();
  ide.send(0xce, pattern(1024, 1), { lba: 7, count: 2, ext: true });
  ide.cpu.ram.bytes(BUFFER, 1024).fill(1);
  byDma(ide, 0x3d, 1024, { lba: 9, count: 2, ext: true }, true);
  expect(ide.block.log.map(({ op }) => op)).toEqual([Op.Write, Op.Flush, Op.Write, Op.Flush]);
  expect(ide.lba48).toBe(11);
});

test("queued commands are refused", () => {
  const ide = new AtaBench();
  for (const code of [0x26, 0x36, 0xc7, 0xcc, 0xa2]) {
    ide.command(code, { count: 8 });
    expect(ide.ended).toEqual(ABORTED);
  }
  expect(ide.identify()[83] & 2).toBe(0);
});

test("the standby timer starts when it is set, and again with each command for the media", () => {
  const ide = new AtaBench();
  const mode = () => {
    ide.command(AtaCommand.CheckPower);
    return ide.read(AtaRegister.Count);
  };
  ide.clock.pass(3_600_000);
  // IDLE with a period of ten times five seconds.
  ide.command(AtaCommand.Idle, { count: 10 });
  ide.clock.pass(49_000);
  expect(mode()).toBe(0xff);
  ide.command(AtaCommand.ReadSectors, { count: 1 });
  ide.drain();
  ide.clock.pass(49_000);
  expect(mode()).toBe(0xff);
  ide.clock.pass(1_000);
  expect(mode()).toBe(0);
});

test("READ and WRITE MULTIPLE of up to 128 sectors a block, on a drive that is made so", () => {
  const ide = new AtaBench({ multiple: 128 });
  expect([ide.identify()[47] & 0xff, ide.identify()[59]]).toEqual([128, 0x0110]);
  expect(ide.command(AtaCommand.SetMultiple, { count: 128 })).toBe(IDLE);
  ide.command(AtaCommand.WriteMultiple, { count: 200, lba: 5 });
  const data = pattern(200 * 512, 3);
  ide.feed(data.subarray(0, 128 * 512));
  expect(ide.block.log).toEqual([{ op: Op.Write, offset: 5 * 512, length: 128 * 512 }]);
  ide.feed(data.subarray(128 * 512));
  expect(ide.status).toBe(IDLE);
  ide.command(AtaCommand.ReadMultiple, { count: 200, lba: 5 });
  expect(Buffer.compare(ide.drain(), data)).toBe(0);
  for (const multiple of [0, 3, 256]) expect(() => new AtaBench({ multiple })).toThrow("multiple");
  // A block is 64 KiB at most.
  expect(() => new AtaBench({ multiple: 32, sectorSize: 4096 })).toThrow("multiple");
});
