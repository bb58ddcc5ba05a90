// Known defects of other IDE emulations by number, each on ours; CVE-2014-2894 (the self-test log) is in ata-smart.test.ts.
import { describe, expect, test } from "vitest";
import { AtaError, AtaRegister, AtaStatus, BmCommand, BmStatus, Prd } from "../../../../assembly/spec/ata.ts";
import { Op, Status } from "../../../../src/core/block.ts";
import { attachIde } from "../../../../src/host/device/ide/controller.ts";
import { cdFromBlock } from "../../../../src/host/media/image.ts";
import { LabMachine } from "../../../../src/hypervisor/machine.ts";
import { AtaBench, FAILED, IDLE } from "../../../support/ata-disk.ts";
import { IdeBench, pattern } from "../../../support/ide.ts";
import { SparseBlock } from "../../../support/sparse-block.ts";

const TABLE = 0x200000;
const BUFFER = 0x300000;

function packet(ide: IdeBench, bytes: number[], limit = 0xfffe, features = 0): void {
  for (const [i, value] of [0xa0, features, 0, 0, limit & 0xff, limit >> 8].entries())
    ide.write((i || 6) as AtaRegister, value);
  ide.write(AtaRegister.Command, 0xa0);
  for (let i = 0; i < 12; i += 2) ide.write(AtaRegister.Data, (bytes[i] ?? 0) | ((bytes[i + 1] ?? 0) << 8), 2);
}

function cd(blocks = 100) {
  const block = new SparseBlock(blocks * 2048);
  block.poke(0, pattern(blocks * 2048, 1));
  const ide = new IdeBench([[{ cd: cdFromBlock(block) }]]);
  for (let i = 0; i < 3; i++) {
    packet(ide, [0x03, 0, 0, 0, 18]);
    ide.drain();
  }
  return Object.assign(ide, { block });
}

function start(ide: IdeBench, write = false): void {
  ide.write(AtaRegister.BmCommand, BmCommand.Start | (write ? 0 : BmCommand.ToMemory));
}

test("CVE-2015-5154: after START STOP UNIT the data port gives nothing, however long it is read and written", () => {
  const ide = cd();
  for (const bits of [0, 1, 2, 3]) {
    packet(ide, [0x1b, 0, 0, 0, bits]);
    for (let i = 0; i < 70_000; i++) {
      expect(ide.read(AtaRegister.Data, 4)).toBe(0);
      ide.write(AtaRegister.Data, 0xffffffff, 4);
    }
    expect(ide.altStatus & (AtaStatus.Busy | AtaStatus.DataRequest)).toBe(0);
  }
});

describe("CVE-2020-29443: each block is looked for on the disc, not the first alone", () => {
  test.each([
    ["READ (10) over the end", [0x28, 0, 0, 0, 0, 98, 0, 0, 4]],
    ["READ (12) from -1", [0xa8, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 2]],
    ["READ (12) that wraps around", [0xa8, 0, 0xff, 0xff, 0xff, 0xfe, 0xff, 0xff, 0xff, 0xff]],
    ["READ CD from -1", [0xbe, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0x10]],
    ["READ CD over the end", [0xbe, 0, 0, 0, 0, 99, 0, 0, 2, 0xf8]],
  ])("%s", (_name, bytes) => {
    for (const dma of [0, 1]) {
      const ide = cd();
      ide.prds(TABLE, [[BUFFER, Prd.EndOfTable]]);
      ide.write(AtaRegister.BmTable, TABLE, 4);
      packet(ide, bytes, 2048, dma);
      if (dma) start(ide);
      ide.drain();
      expect(ide.status & (AtaStatus.Busy | AtaStatus.DataRequest | AtaStatus.Error)).toBe(AtaStatus.Error);
      for (const { offset, length } of ide.block.log) expect(offset + length).toBeLessThanOrEqual(ide.block.size);
    }
  });
});

test.each([
  ["an empty CD drive", () => new IdeBench([[{ cd: null }]])],
  ["a disk of no sectors", () => new IdeBench([[new SparseBlock(0)]])],
  ["a card of no sectors", () => new IdeBench([[{ block: new SparseBlock(0), kind: "compact-flash" as const }]])],
  ["no drive", () => new IdeBench([])],
])("CVE-2015-6855: every command on %s ends", (_name, make) => {
  for (let code = 0; code < 256; code++) {
    const ide = make();
    ide.prds(TABLE, [[BUFFER, Prd.EndOfTable]]);
    ide.write(AtaRegister.BmTable, TABLE, 4);
    for (const device of [0xa0, 0xe0]) {
      ide.write(AtaRegister.Device, device);
      ide.write(AtaRegister.Count, 1);
      ide.write(AtaRegister.Command, code);
      start(ide);
      // Whichever way it wants data; the other is ignored.
      for (let i = 0; i < 70_000 && ide.altStatus & AtaStatus.DataRequest; i++) {
        ide.write(AtaRegister.Data, 0, 2);
        ide.read(AtaRegister.Data, 2);
      }
      expect([code, ide.altStatus & (AtaStatus.Busy | AtaStatus.DataRequest)]).toEqual([code, 0]);
      ide.write(AtaRegister.BmCommand, 0);
    }
  }
});

describe("descriptor tables that make no progress", () => {
  test.each<[string, number[], boolean]>([
    ["CVE-2014-9718: descriptors of two bytes, none a whole sector", new Array(600).fill(2), false],
    ["CVE-2014-9718: a table without an end", new Array(600).fill(1), false],
    ["CVE-2019-20175: a short table", [Prd.EndOfTable | 510], true],
    ["CVE-2019-20175: an empty table", [Prd.EndOfTable | 2], true],
    ["443e024106: one byte too few at the end", [65534, Prd.EndOfTable | 514], true],
  ])("%s", (_name, counts) => {
    for (const [code, count] of [
      [0xc8, 1],
      [0xca, 1],
      [0xc8, 130],
      [0xca, 130],
      [0x06, 1],
    ]) {
      const ide = new AtaBench();
      ide.prds(
        TABLE,
        counts.map((bytes, i) => [BUFFER + i * 2, bytes]),
      );
      ide.write(AtaRegister.BmTable, TABLE, 4);
      ide.command(code, { count, features: 1, ext: code === 0x06 });
      start(ide, code !== 0xc8);
      // It has ended, and whatever was too short has moved nothing.
      expect(ide.altStatus & (AtaStatus.Busy | AtaStatus.DataRequest)).toBe(0);
      const moved = ide.block.log.reduce((sum, { length }) => sum + length, 0);
      expect([0, count * 512]).toContain(moved);
      ide.write(AtaRegister.BmCommand, 0);
      expect(ide.read(AtaRegister.BmStatus) & BmStatus.Active).toBe(0);
    }
  });

  test("the same for packets", () => {
    for (const count of [2, 510, 2046]) {
      const ide = cd();
      ide.prds(TABLE, [[BUFFER, Prd.EndOfTable | count]]);
      ide.write(AtaRegister.BmTable, TABLE, 4);
      packet(ide, [0x28, 0, 0, 0, 0, 1, 0, 0, 1], 0, 1);
      start(ide);
      // The bus master has stopped; the drive has moved what there was room for, and waits: DEVICE RESET ends that.
      expect([ide.read(AtaRegister.BmStatus) & BmStatus.Active, ide.altStatus]).toEqual([0, 0x58]);
      expect(ide.cpu.ram.bytes(BUFFER + count, 4).every((byte) => byte === 0)).toBe(true);
      ide.write(AtaRegister.Command, 0x08);
      expect(ide.altStatus).toBe(0);
      packet(ide, [0x28, 0, 0, 0, 0, 1, 0, 0, 1]);
      expect(ide.drain()).toEqual(pattern(100 * 2048, 1).slice(2048, 4096));
    }
  });
});

describe("CVE-2023-5088: a reset while a write is in flight never lets it land anywhere else", () => {
  const WAYS: Record<string, (ide: AtaBench) => void> = {
    SRST: (ide) => {
      ide.write(AtaRegister.Control, 4);
      ide.write(AtaRegister.Control, 0);
    },
    "the reset wire": (ide) => ide.machine.reset(),
    "IDLE IMMEDIATE": (ide) => ide.write(AtaRegister.Command, 0xe1),
  };
  test.each(Object.keys(WAYS))("%s", async (way) => {
    for (const code of [0xca, 0x30, 0xc5]) {
      const ide = new AtaBench();
      ide.block.poke(0, pattern(512, 7));
      ide.block.held = true;
      ide.prds(TABLE, [[BUFFER, Prd.EndOfTable | 1024]]);
      ide.cpu.ram.bytes(BUFFER, 1024).fill(0xee);
      ide.write(AtaRegister.BmTable, TABLE, 4);
      ide.command(code, { lba: 500, count: 2 });
      if (code === 0xca) start(ide, true);
      else ide.feed(new Uint8Array(1024).fill(0xee));
      WAYS[way](ide);
      await ide.block.release();
      expect(ide.block.peek(0, 512)).toEqual(pattern(512, 7));
      expect(ide.block.log.every(({ op, offset }) => op !== Op.Write || offset >= 500 * 512)).toBe(true);
      expect(ide.altStatus).toBe(IDLE);
    }
  });
});

describe("cancelled and tried again", () => {
  test("9b899ddb27: EXECUTE DIAGNOSTIC and SRST with one drive, or none, selected", () => {
    for (const drives of [[], [[new SparseBlock(512)]], [[null, new SparseBlock(512)]]]) {
      const ide = new IdeBench(drives);
      for (const device of [0xa0, 0xb0]) {
        ide.write(AtaRegister.Device, device);
        ide.write(AtaRegister.Command, 0x90);
        ide.write(AtaRegister.BmCommand, 9);
        ide.write(AtaRegister.Control, 4);
        ide.write(AtaRegister.BmCommand, 0);
        ide.write(AtaRegister.Control, 0);
      }
      expect(ide.irq).toBe(false);
    }
  });

  test("095c08a7ba: a TRIM in flight is waited for by a reset, and ends", async () => {
    const ide = new AtaBench();
    ide.block.held = true;
    ide.cpu.ram.bytes(BUFFER, 512).fill(0);
    ide.cpu.ram.write32(BUFFER + 4, 8 << 16);
    ide.prds(TABLE, [[BUFFER, Prd.EndOfTable | 512]]);
    ide.write(AtaRegister.BmTable, TABLE, 4);
    ide.command(0x06, { features: 1, count: 1, ext: true });
    start(ide, true);
    expect(ide.block.waiting).toBe(1);
    ide.write(AtaRegister.Control, 4);
    ide.write(AtaRegister.Control, 0);
    expect(ide.altStatus).toBe(AtaStatus.Busy);
    await ide.block.release();
    expect([ide.irq, ide.altStatus, ide.read(AtaRegister.BmStatus) & BmStatus.Active]).toEqual([false, IDLE, 0]);
  });

  test("59c1d31136: what was stopped before a reset is not tried again after it", () => {
    const disk = new SparseBlock(1 << 20);
    disk.faults.push({ op: Op.Write, status: Status.Io });
    const ide = new IdeBench([[{ block: disk, onError: { write: "stop" } }]]);
    ide.command28(0x30, 9, 1);
    ide.feed(pattern(512, 1));
    expect(ide.controller.stopped).toBe(true);
    ide.machine.reset();
    ide.command28(0x30, 20, 1);
    ide.controller.resume();
    expect(ide.altStatus & AtaStatus.DataRequest).toBe(AtaStatus.DataRequest);
    ide.feed(pattern(512, 2));
    expect([ide.status, disk.peek(9 * 512, 512)[1], disk.peek(20 * 512, 512)]).toEqual([IDLE, 0, pattern(512, 2)]);
  });
});

test("CVE-2023-42467: sectors below 512 bytes, or of an odd size, are refused before there is a drive", () => {
  for (const sectorSize of [0, 1, 256, 511, 520, 1000, 3072, 8192, Number.NaN]) {
    const block = Object.assign(new SparseBlock(1 << 20), { sectorSize });
    expect(() => attachIde(new LabMachine({ memory: 1 << 20 }), { drives: [[block]] })).toThrow(
      expect.objectContaining({ code: "UNSUPPORTED" }),
    );
  }
});

test("INITIALIZE DEVICE PARAMETERS with no sectors a track divides by nothing", () => {
  const ide = new AtaBench();
  ide.command(0x91, { count: 0, device: 0xa0 });
  expect(ide.ended).toEqual([FAILED, AtaError.Abort]);
  ide.command(0x20, { count: 1, lba: 1, device: 0xa0 });
  expect(ide.drain()).toHaveLength(512);
});
