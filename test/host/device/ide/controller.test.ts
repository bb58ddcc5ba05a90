import { describe, expect, test } from "vitest";
import {
  AtaCommand,
  AtaControl,
  AtaError,
  AtaFeature,
  AtaRegister,
  AtaStatus,
  BmCommand,
  BmStatus,
  Prd,
} from "../../../../assembly/spec/ata.ts";
import { Op, Status } from "../../../../src/core/block.ts";
import { attachIde } from "../../../../src/host/device/ide/controller.ts";
import { LabMachine } from "../../../../src/hypervisor/machine.ts";
import { IdeBench, pattern } from "../../../support/ide.ts";
import { SparseBlock } from "../../../support/sparse-block.ts";

const IDLE = AtaStatus.Ready | AtaStatus.SeekComplete;
const FAILED = AtaStatus.Ready | AtaStatus.Error;
const TABLE = 0x200000;
const BUFFER = 0x300000;

/** 200 GiB: 28 bits are not enough. */
function bench(size = 200 * 2 ** 30, channel: 0 | 1 = 0, drive = 0) {
  const block = new SparseBlock(size);
  const drives = [[], []] as SparseBlock[][];
  drives[channel][drive] = block;
  return Object.assign(new IdeBench(drives, { channel }), { block });
}

/** Readies the bus master for `bytes` at BUFFER; START comes from the caller. */
function dma(ide: IdeBench, bytes: number): void {
  ide.prds(TABLE, [[BUFFER, Prd.EndOfTable | (bytes & 0xffff)]]);
  ide.write(AtaRegister.BmCommand, 0);
  ide.write(AtaRegister.BmStatus, BmStatus.Interrupt | BmStatus.Error);
  ide.write(AtaRegister.BmTable, TABLE, 4);
}

describe("PIO", () => {
  test.each([
    ["SECTORS", AtaCommand.ReadSectors, AtaCommand.WriteSectors, false, 1],
    ["MULTIPLE", AtaCommand.ReadMultiple, AtaCommand.WriteMultiple, false, 16],
    ["SECTORS EXT", AtaCommand.ReadSectorsExt, AtaCommand.WriteSectorsExt, true, 1],
    ["MULTIPLE EXT", AtaCommand.ReadMultipleExt, AtaCommand.WriteMultipleExt, true, 16],
  ])("READ and WRITE %s", (_name, read, write, ext, block) => {
    const ide = bench();
    const lba = ext ? 2 ** 28 + 5 : 12345;
    const content = pattern(40 * 512, 1);
    const command = ext ? ide.command48.bind(ide) : ide.command28.bind(ide);
    command(write, lba, 40);
    expect(ide.irq).toBe(false);
    ide.feed(content);
    expect(ide.irq).toBe(true);
    expect(ide.status).toBe(IDLE);
    expect(ide.block.peek(lba * 512, content.length)).toEqual(content);
    expect(ide.block.log.filter(({ op }) => op === Op.Write)).toHaveLength(Math.ceil(40 / block));
    command(read, lba, 40);
    expect(ide.irq).toBe(true);
    expect(ide.drain()).toEqual(content);
    expect(ide.status).toBe(IDLE);
    expect(ide.irq).toBe(false);
    expect(ide.controller.portBytes).toBe(2 * content.length);
  });

  test("CHS under a translation that INITIALIZE DEVICE PARAMETERS has set", () => {
    const ide = bench(64 << 20);
    const content = pattern(512, 9);
    ide.block.poke(((7 * 4 + 3) * 17 + 4) * 512, content);
    ide.write(AtaRegister.Device, 0xa3);
    ide.write(AtaRegister.Count, 17);
    ide.write(AtaRegister.Command, AtaCommand.InitializeParameters);
    expect(ide.status).toBe(IDLE);
    for (const [register, value] of [
      [AtaRegister.Device, 0xa3],
      [AtaRegister.Count, 1],
      [AtaRegister.LbaLow, 5],
      [AtaRegister.LbaMid, 7],
      [AtaRegister.LbaHigh, 0],
      [AtaRegister.Command, AtaCommand.ReadSectors],
    ]) {
      ide.write(register, value);
    }
    expect(ide.drain()).toEqual(content);
    // The task file shows the next sector, in the same form.
    expect([ide.read(AtaRegister.LbaLow), ide.read(AtaRegister.Device) & 0x0f]).toEqual([6, 3]);
  });

  test("the drive is busy while the block works, and interrupts when it has the data", async () => {
    const ide = bench();
    ide.block.held = true;
    ide.command28(AtaCommand.ReadSectors, 0, 2);
    expect(ide.altStatus & AtaStatus.Busy).toBe(AtaStatus.Busy);
    expect(ide.irq).toBe(false);
    await ide.block.release();
    expect(ide.irq).toBe(true);
    expect(ide.status).toBe(IDLE | AtaStatus.DataRequest);
    for (let i = 0; i < 256; i++) ide.read(AtaRegister.Data, 2);
    expect(ide.altStatus & AtaStatus.Busy).toBe(AtaStatus.Busy);
    expect(ide.irq).toBe(false);
    await ide.block.release();
    expect(ide.irq).toBe(true);
    expect(ide.drain()).toHaveLength(512);
    expect(ide.status).toBe(IDLE);
  });
});

describe("DMA", () => {
  test.each([
    ["READ DMA", AtaCommand.ReadDma, false],
    ["READ DMA EXT", AtaCommand.ReadDmaExt, true],
  ])("%s, command then START and START then command", (_name, code, ext) => {
    const ide = bench();
    const lba = ext ? 2 ** 28 + 77 : 2 ** 28 - 8;
    const content = pattern(4096, 5);
    ide.block.poke(lba * 512, content);
    for (const startFirst of [false, true]) {
      ide.cpu.ram.bytes(BUFFER, 4096).fill(0);
      dma(ide, 4096);
      if (startFirst) ide.write(AtaRegister.BmCommand, BmCommand.Start | BmCommand.ToMemory);
      if (ext) ide.command48(code, lba, 8);
      else ide.command28(code, lba, 8);
      if (!startFirst) {
        expect(ide.altStatus).toBe(IDLE | AtaStatus.DataRequest);
        ide.write(AtaRegister.BmCommand, BmCommand.Start | BmCommand.ToMemory);
      }
      expect(ide.read(AtaRegister.BmStatus)).toBe(BmStatus.Interrupt);
      expect(ide.irq).toBe(true);
      expect(ide.status).toBe(IDLE);
      expect(ide.cpu.ram.bytes(BUFFER, 4096)).toEqual(content);
      expect(ext ? ide.lba48 : ide.lba28).toBe(ext ? lba + 8 : 0);
    }
  });

  test("STOP while data is on its way lets it through", async () => {
    const ide = bench();
    ide.block.poke(0, pattern(512, 1));
    ide.block.held = true;
    dma(ide, 512);
    ide.command28(AtaCommand.ReadDma, 0, 1);
    ide.write(AtaRegister.BmCommand, BmCommand.Start | BmCommand.ToMemory);
    expect(ide.read(AtaRegister.BmStatus)).toBe(BmStatus.Active);
    ide.write(AtaRegister.BmCommand, 0);
    expect(ide.read(AtaRegister.BmStatus)).toBe(0);
    expect(ide.altStatus & AtaStatus.DataRequest).toBe(AtaStatus.DataRequest);
    await ide.block.release();
    expect(ide.read(AtaRegister.BmStatus)).toBe(BmStatus.Interrupt);
    expect(ide.status).toBe(IDLE);
    expect(ide.cpu.ram.bytes(BUFFER, 512)).toEqual(pattern(512, 1));
  });

  test("the second drive of the secondary channel", () => {
    const ide = bench(1 << 20, 1, 1);
    ide.cpu.ram.bytes(BUFFER, 1024).set(pattern(1024, 8));
    dma(ide, 1024);
    ide.command28(AtaCommand.WriteDma, 4, 2, 1);
    ide.write(AtaRegister.BmCommand, BmCommand.Start);
    expect(ide.irq).toBe(true);
    expect(ide.status).toBe(IDLE);
    expect(ide.block.peek(4 * 512, 1024)).toEqual(pattern(1024, 8));
  });
});

describe("errors by cause", () => {
  test.each([
    ["28-bit", AtaCommand.ReadDma, 1000, false],
    ["48-bit", AtaCommand.ReadDmaExt, 2 ** 28 + 1000, true],
  ])("an unreadable sector is UNC, its %s address in the task file", (_name, code, lba, ext) => {
    const ide = bench();
    ide.block.faults.push({ op: Op.Read, status: Status.Media, at: (lba + 5) * 512 });
    dma(ide, 4096);
    if (ext) ide.command48(code, lba, 8);
    else ide.command28(code, lba, 8);
    ide.write(AtaRegister.BmCommand, BmCommand.Start | BmCommand.ToMemory);
    expect(ide.read(AtaRegister.BmStatus)).toBe(BmStatus.Interrupt);
    expect(ide.status).toBe(FAILED);
    expect(ide.error).toBe(AtaError.Uncorrectable);
    expect(ext ? ide.lba48 : ide.lba28).toBe(lba + 5);
  });

  test("a PIO read delivers what comes before the bad sector", () => {
    const ide = bench();
    ide.block.faults.push({ op: Op.Read, status: Status.Media, at: 102 * 512 });
    ide.command28(AtaCommand.ReadSectors, 100, 4);
    expect(ide.drain()).toHaveLength(1024);
    expect(ide.irq).toBe(true);
    expect(ide.status).toBe(FAILED);
    expect([ide.error, ide.lba28, ide.read(AtaRegister.Count)]).toEqual([AtaError.Uncorrectable, 102, 2]);
  });

  test("past the end: IDNF and the first sector that is not there", () => {
    const ide = bench(1000 * 512);
    ide.command28(AtaCommand.ReadSectors, 998, 4);
    expect(ide.drain()).toHaveLength(1024);
    expect([ide.status, ide.error, ide.lba28]).toEqual([FAILED, AtaError.IdNotFound, 1000]);
    ide.command48(AtaCommand.WriteSectorsExt, 2 ** 40, 1);
    ide.feed(new Uint8Array(512));
    expect([ide.status, ide.error, ide.lba48]).toEqual([FAILED, AtaError.IdNotFound, 2 ** 40]);
    expect(ide.block.log.filter(({ op }) => op === Op.Write)).toEqual([]);
  });

  test.each([
    ["a read-only disk aborts", "readOnly", FAILED],
    ["a full host is a device fault", "full", FAILED | AtaStatus.DeviceFault],
    ["a bad sector that is written is a device fault", "media", FAILED | AtaStatus.DeviceFault],
    ["a closed block is a device fault", "closed", FAILED | AtaStatus.DeviceFault],
  ])("writes: %s", (_name, kind, status) => {
    for (const code of [AtaCommand.WriteSectors, AtaCommand.WriteDma]) {
      const ide = bench(1 << 20);
      if (kind === "readOnly") ide.block.readOnly = true;
      if (kind === "full") ide.block.room = 0;
      if (kind === "media") ide.block.faults.push({ op: Op.Write, status: Status.Media });
      if (kind === "closed") ide.block.close();
      dma(ide, 512);
      ide.command28(code, 7, 1);
      if (code === AtaCommand.WriteDma) ide.write(AtaRegister.BmCommand, BmCommand.Start);
      else ide.feed(new Uint8Array(512));
      expect(ide.irq).toBe(true);
      expect(ide.status).toBe(status);
      expect([ide.error, ide.lba28]).toEqual([AtaError.Abort, 7]);
      expect(ide.read(AtaRegister.BmStatus) & BmStatus.Active).toBe(0);
    }
  });

  test("a flush that fails is no success", () => {
    const ide = bench();
    ide.block.faults.push({ op: Op.Flush, status: Status.Io });
    ide.write(AtaRegister.Command, AtaCommand.FlushCacheExt);
    expect(ide.status).toBe(FAILED | AtaStatus.DeviceFault);
    ide.write(AtaRegister.Command, AtaCommand.FlushCacheExt);
    expect(ide.status).toBe(IDLE);
  });

  test("READ VERIFY reads: up to 256 sectors, up to 65,536, and says which is bad", () => {
    const ide = bench();
    ide.command28(AtaCommand.ReadVerify, 10, 0);
    expect(ide.status).toBe(IDLE);
    ide.command48(AtaCommand.ReadVerifyExt, 10, 0);
    expect(ide.status).toBe(IDLE);
    expect(ide.block.log.map(({ length }) => length)).toEqual([256 * 512, 65536 * 512]);
    ide.block.faults.push({ op: Op.Read, status: Status.Media, at: 100 * 512 });
    ide.command28(AtaCommand.ReadVerify, 10, 0);
    expect([ide.status, ide.error, ide.lba28]).toEqual([FAILED, AtaError.Uncorrectable, 100]);
  });
});

describe("settings", () => {
  const features = (ide: IdeBench, feature: number, count = 0) => {
    ide.write(AtaRegister.Features, feature);
    ide.write(AtaRegister.Count, count);
    ide.write(AtaRegister.Command, AtaCommand.SetFeatures);
    return ide.status;
  };
  const identify = (ide: IdeBench) => {
    ide.write(AtaRegister.Command, AtaCommand.Identify);
    const bytes = ide.drain();
    return (word: number) => bytes[word * 2] | (bytes[word * 2 + 1] << 8);
  };

  test("write cache off: flushed first, then every write is durable before it completes", () => {
    const ide = bench();
    expect(features(ide, AtaFeature.DisableWriteCache)).toBe(IDLE);
    expect(ide.block.log.map(({ op }) => op)).toEqual([Op.Flush]);
    expect(identify(ide)(85) & 0x20).toBe(0);
    ide.command28(AtaCommand.WriteSectors, 0, 1);
    ide.feed(new Uint8Array(512));
    expect(ide.status).toBe(IDLE);
    expect(ide.block.log.slice(1).map(({ op }) => op)).toEqual([Op.Write, Op.Flush]);
    ide.block.faults.push({ op: Op.Flush, status: Status.NoSpace });
    ide.command28(AtaCommand.WriteSectors, 0, 1);
    ide.feed(new Uint8Array(512));
    expect(ide.status).toBe(FAILED | AtaStatus.DeviceFault);
    features(ide, AtaFeature.EnableWriteCache);
    expect(identify(ide)(85) & 0x20).toBe(0x20);
  });

  test("transfer modes: those that IDENTIFY offers, no others", () => {
    const ide = bench();
    for (const mode of [0x00, 0x01, 0x08, 0x0c, 0x12, 0x22, 0x45]) {
      expect(features(ide, AtaFeature.SetTransferMode, mode), `mode ${mode}`).toBe(IDLE);
    }
    expect(identify(ide)(88)).toBe(0x203f);
    for (const mode of [0x02, 0x0d, 0x13, 0x23, 0x46, 0x80, 0xff]) {
      expect(features(ide, AtaFeature.SetTransferMode, mode), `mode ${mode}`).toBe(FAILED);
    }
    expect(identify(ide)(88)).toBe(0x203f);
  });

  test("look-ahead, the two that are accepted for nothing, and the unknown", () => {
    const ide = bench();
    expect(features(ide, AtaFeature.DisableReadAhead)).toBe(IDLE);
    expect(identify(ide)(85) & 0x40).toBe(0);
    expect(features(ide, AtaFeature.EnableReadAhead)).toBe(IDLE);
    expect(identify(ide)(85) & 0x40).toBe(0x40);
    expect(features(ide, AtaFeature.KeepOnReset)).toBe(IDLE);
    expect(features(ide, AtaFeature.RevertOnReset)).toBe(IDLE);
    expect(features(ide, 0x5d)).toBe(FAILED);
    expect(ide.error).toBe(AtaError.Abort);
  });

  test("SET MULTIPLE: powers of two up to 16, and off", () => {
    const ide = bench();
    const set = (count: number) => {
      ide.write(AtaRegister.Count, count);
      ide.write(AtaRegister.Command, AtaCommand.SetMultiple);
      return ide.status;
    };
    for (const count of [1, 2, 4, 8, 16]) {
      expect(set(count)).toBe(IDLE);
      expect(identify(ide)(59)).toBe(0x100 | count);
    }
    for (const count of [3, 17, 32, 255]) expect(set(count)).toBe(FAILED);
    expect(set(0)).toBe(IDLE);
    ide.command28(AtaCommand.ReadMultiple, 0, 1);
    expect([ide.status, ide.error]).toEqual([FAILED, AtaError.Abort]);
    ide.machine.reset();
    expect(identify(ide)(59)).toBe(0x110);
  });

  test("READ NATIVE MAX: 28 bits clipped, 48 bits whole, CHS of the default translation", () => {
    const ide = bench();
    const sectors = ide.block.size / 512;
    ide.write(AtaRegister.Device, 0xe0);
    ide.write(AtaRegister.Command, AtaCommand.ReadNativeMax);
    // §6.20: 268,435,454, the last address of a capacity that words 60 and 61 can tell.
    expect(ide.lba28).toBe(2 ** 28 - 2);
    ide.write(AtaRegister.Command, AtaCommand.ReadNativeMaxExt);
    expect(ide.lba48).toBe(sectors - 1);
    for (const [size, last] of [
      [2 ** 28 - 1, 2 ** 28 - 2],
      [2 ** 28, 2 ** 28 - 1],
      [2 ** 28 + 1, 2 ** 28 - 2],
    ]) {
      const other = new IdeBench([[new SparseBlock(size * 512)]]);
      other.write(AtaRegister.Device, 0xe0);
      other.write(AtaRegister.Command, AtaCommand.ReadNativeMax);
      expect([size, other.lba28]).toEqual([size, last]);
    }
    const empty = new IdeBench([[new SparseBlock(0)]]);
    empty.write(AtaRegister.Command, AtaCommand.ReadNativeMax);
    expect(empty.status).toBe(FAILED);
  });

  test("power modes: standby shows in CHECK POWER MODE until the media is used; every mode is accepted", () => {
    const ide = bench();
    const check = (code: number = AtaCommand.CheckPower) => {
      ide.write(AtaRegister.Command, code);
      expect(ide.status).toBe(IDLE);
      return ide.read(AtaRegister.Count);
    };
    expect([check(), check(AtaCommand.CheckPowerOld)]).toEqual([0xff, 0xff]);
    for (const code of [0xe0, 0xe1, 0xe2, 0xe3, 0xe6, 0x94, 0x95, 0x96, 0x97, 0x99]) {
      ide.write(AtaRegister.Count, 0);
      ide.write(AtaRegister.Command, code);
      expect(ide.irq).toBe(true);
      expect(ide.status).toBe(IDLE);
      const idle = [0xe1, 0xe3, 0x95, 0x97].includes(code);
      expect(check(), `after ${code}`).toBe(idle ? 0xff : 0);
      ide.command28(AtaCommand.ReadSectors, 0, 1);
      ide.drain();
      expect(check()).toBe(0xff);
    }
  });
});

/** Puts a fresh channel into each state that it can be in; those that end in "flight" have held I/O. */
const STATES: Record<string, (ide: ReturnType<typeof bench>) => void> = {
  idle: () => {},
  "interrupt pending": (ide) => ide.write(AtaRegister.Command, AtaCommand.Nop),
  "PIO read, DRQ": (ide) => ide.command28(AtaCommand.ReadMultiple, 3, 20),
  "PIO write, DRQ": (ide) => ide.command28(AtaCommand.WriteMultiple, 3, 20),
  "DMA waiting for START": (ide) => {
    dma(ide, 512);
    ide.command28(AtaCommand.WriteDma, 3, 1);
  },
  "START waiting for a command": (ide) => {
    dma(ide, 512);
    ide.write(AtaRegister.BmCommand, BmCommand.Start);
  },
  "PIO read in flight": (ide) => {
    ide.block.held = true;
    ide.command28(AtaCommand.ReadSectors, 3, 1);
  },
  "PIO write in flight": (ide) => {
    ide.block.held = true;
    ide.command28(AtaCommand.WriteSectors, 3, 2);
    ide.feed(pattern(512, 1));
  },
  "DMA in flight": (ide) => {
    ide.block.held = true;
    dma(ide, 512);
    ide.command28(AtaCommand.WriteDma, 3, 2);
    ide.prds(TABLE, [[BUFFER, Prd.EndOfTable | 1024]]);
    ide.write(AtaRegister.BmCommand, BmCommand.Start);
  },
  "flush in flight": (ide) => {
    ide.block.held = true;
    ide.write(AtaRegister.Command, AtaCommand.FlushCache);
  },
};

describe.each(["SRST", "machine reset"])("%s", (kind) => {
  test.each(Object.keys(STATES))("%s", async (state) => {
    const ide = bench();
    STATES[state](ide);
    const writes = () => ide.block.log.filter(({ op }) => op === Op.Write).length;
    const before = writes();
    if (kind === "SRST") {
      ide.write(AtaRegister.Control, AtaControl.SoftwareReset);
      expect(ide.altStatus & AtaStatus.Busy).toBe(AtaStatus.Busy);
      ide.write(AtaRegister.Control, 0);
    } else ide.machine.reset();
    expect(ide.irq).toBe(false);
    if (state.endsWith("flight")) {
      expect(ide.altStatus & AtaStatus.Busy).toBe(AtaStatus.Busy);
      await ide.block.release();
    }
    expect(ide.irq).toBe(false);
    expect(ide.altStatus).toBe(IDLE);
    // The bus master does not hear SRST: once started, it waits for the next command.
    const waits = kind === "SRST" && state === "START waiting for a command";
    expect(ide.read(AtaRegister.BmStatus) & BmStatus.Active).toBe(waits ? BmStatus.Active : 0);
    expect(ide.error).toBe(1);
    expect([AtaRegister.Count, AtaRegister.LbaLow, AtaRegister.LbaMid].map((register) => ide.read(register))).toEqual([
      1, 1, 0,
    ]);
    // CVE-2023-5088: nothing of the old command reaches the disk under the new registers.
    expect(writes()).toBe(before);
    ide.block.held = false;
    ide.command28(AtaCommand.ReadSectors, 0, 1);
    expect(ide.irq).toBe(true);
    expect(ide.drain()).toHaveLength(512);
    expect(ide.status).toBe(IDLE);
  });
});

describe("plugging", () => {
  test("a second controller finds the ports taken and leaves nothing behind", () => {
    const machine = new LabMachine({ memory: 1 << 20 });
    const first = attachIde(machine, { drives: [[new SparseBlock(1 << 20)]] });
    expect(() => attachIde(machine, { drives: [[new SparseBlock(1 << 20)]] })).toThrow(/taken/);
    expect(first.close()).toBeUndefined();
    expect(machine.guest.in(0x1f7, 1)).toBe(0xff);
    const second = attachIde(machine, { drives: [[new SparseBlock(1 << 20)]] });
    expect(machine.guest.in(0x1f7, 1)).toBe(IDLE);
    second.close();
  });

  test("close waits for what is in flight and raises nothing", async () => {
    const ide = bench();
    ide.block.held = true;
    ide.write(AtaRegister.Command, AtaCommand.FlushCache);
    const closing = ide.controller.close();
    expect(closing).toBeInstanceOf(Promise);
    await ide.block.release();
    await closing;
    expect(ide.irq).toBe(false);
  });

  test.each([
    [
      "sectors of 8 KiB",
      () => ({ block: Object.assign(new SparseBlock(1 << 20), { sectorSize: 8192 }) }),
      "UNSUPPORTED",
    ],
    ["a serial of 21 characters", () => ({ block: new SparseBlock(0), serial: "x".repeat(21) }), "INVALID"],
    ["a model beyond ASCII", () => ({ block: new SparseBlock(0), model: "Drïve" }), "INVALID"],
  ])("%s: refused", (_name, drive, code) => {
    const machine = new LabMachine({ memory: 1 << 20 });
    expect(() => attachIde(machine, { drives: [[drive()]] })).toThrow(expect.objectContaining({ code }));
  });
});
