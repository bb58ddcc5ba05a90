// Each error by its cause, provoked by the fault filter; and what the error policies make of it.
import { describe, expect, test } from "vitest";
import { AtaError, AtaRegister, AtaStatus, BmCommand, BmStatus, Prd } from "../../../../assembly/spec/ata.ts";
import { Op, Status } from "../../../../src/core/block.ts";
import type { IdeDriveOptions } from "../../../../src/host/device/ide/ata/options.ts";
import { type FaultCause, withFaults } from "../../../../src/host/filter/fault.ts";
import { FAILED, IDLE } from "../../../support/ata-disk.ts";
import { FakeBlock } from "../../../support/fake-block.ts";
import { IdeBench, pattern } from "../../../support/ide.ts";
import { SparseBlock } from "../../../support/sparse-block.ts";

const DF = AtaStatus.DeviceFault;
const BUFFER = 0x300000;
const BAD = 1005;

function bench(onError: IdeDriveOptions["onError"] = {}) {
  const disk = new SparseBlock(64 << 20);
  const faults = withFaults(disk);
  return Object.assign(new IdeBench([[{ block: faults, onError }]]), { disk, faults });
}

function dma(ide: IdeBench, code: number, lba: number, count: number): void {
  ide.prds(0x200000, [[BUFFER, Prd.EndOfTable | (count * 512)]]);
  ide.write(AtaRegister.BmCommand, 0);
  ide.write(AtaRegister.BmStatus, BmStatus.Interrupt | BmStatus.Error);
  ide.write(AtaRegister.BmTable, 0x200000, 4);
  if (code < 0x40) ide.command48(code, lba, count);
  else ide.command28(code, lba, count);
  ide.write(AtaRegister.BmCommand, BmCommand.Start | BmCommand.ToMemory);
}

/** Gives a command of each way to move data over sectors 1000 to 1007. */
const WAYS: Record<string, [Op, (ide: IdeBench) => void]> = {
  "READ SECTORS": [
    Op.Read,
    (ide) => {
      ide.command28(0x20, 1000, 8);
      ide.drain();
    },
  ],
  "READ MULTIPLE EXT": [
    Op.Read,
    (ide) => {
      ide.command48(0x29, 1000, 8);
      ide.drain();
    },
  ],
  "READ DMA": [Op.Read, (ide) => dma(ide, 0xc8, 1000, 8)],
  "READ DMA EXT": [Op.Read, (ide) => dma(ide, 0x25, 1000, 8)],
  "READ VERIFY": [Op.Read, (ide) => ide.command28(0x40, 1000, 8)],
  "WRITE SECTORS": [
    Op.Write,
    (ide) => {
      ide.command28(0x30, 1000, 8);
      ide.feed(pattern(4096, 1));
    },
  ],
  "WRITE MULTIPLE": [
    Op.Write,
    (ide) => {
      ide.command28(0xc5, 1000, 8);
      ide.feed(pattern(4096, 1));
    },
  ],
  "WRITE DMA": [Op.Write, (ide) => dma(ide, 0xca, 1000, 8)],
  "WRITE DMA EXT": [Op.Write, (ide) => dma(ide, 0x35, 1000, 8)],
};

const CAUSES: [FaultCause, Op, status: number, error: number][] = [
  ["media", Op.Read, FAILED, AtaError.Uncorrectable],
  ["media", Op.Write, FAILED | DF, AtaError.Abort],
  ["out-of-range", Op.Read, FAILED, AtaError.IdNotFound],
  ["out-of-range", Op.Write, FAILED, AtaError.IdNotFound],
  ["io", Op.Read, FAILED | DF, AtaError.Abort],
  ["io", Op.Write, FAILED | DF, AtaError.Abort],
  ["no-space", Op.Write, FAILED | DF, AtaError.Abort],
  ["read-only", Op.Write, FAILED, AtaError.Abort],
  ["unsupported", Op.Read, FAILED, AtaError.Abort],
];

describe.each(Object.entries(WAYS))("%s", (_name, [op, go]) => {
  test.each(CAUSES.filter((row) => row[1] === op))("cause %s", (cause, _op, status, error) => {
    const ide = bench();
    ide.faults.fail({ cause, from: BAD * 512, to: (BAD + 1) * 512 });
    go(ide);
    expect(ide.irq).toBe(true);
    expect([ide.status, ide.error, ide.lba28 & 0xffffff, ide.read(AtaRegister.BmStatus) & BmStatus.Active]).toEqual([
      status,
      error,
      BAD,
      0,
    ]);
    // The drive goes on.
    ide.command28(0x20, 0, 1);
    expect(ide.drain()).toHaveLength(512);
    expect(ide.status).toBe(IDLE);
  });
});

test.each<[FaultCause, number]>([
  ["io", FAILED | DF],
  ["no-space", FAILED | DF],
  ["media", FAILED | DF],
  ["unsupported", FAILED],
])("FLUSH CACHE, cause %s", (cause, status) => {
  const ide = bench();
  ide.faults.fail({ cause, ops: [Op.Flush] });
  ide.write(AtaRegister.Command, 0xe7);
  expect([ide.irq, ide.status, ide.error]).toEqual([true, status, AtaError.Abort]);
});

describe("error policies", () => {
  const once = (ide: ReturnType<typeof bench>, times = 1) =>
    ide.faults.fail({ cause: "io", from: BAD * 512, to: (BAD + 1) * 512, times });

  test.each(Object.entries(WAYS))(
    "retry: %s succeeds after three failures, and reports the fourth",
    (_name, [, go]) => {
      const ide = bench({ read: "retry", write: "retry" });
      once(ide, 3);
      go(ide);
      expect([ide.irq, ide.status, ide.faults.failed]).toEqual([true, IDLE, 3]);
      once(ide, 4);
      go(ide);
      expect(ide.status).toBe(FAILED | DF);
    },
  );

  test.each(Object.entries(WAYS))("ignore: %s succeeds, once", (_name, [, go]) => {
    const ide = bench({ read: "ignore", write: "ignore" });
    once(ide, 99);
    go(ide);
    expect([ide.irq, ide.status, ide.faults.failed]).toEqual([true, IDLE, 1]);
  });

  test.each(Object.entries(WAYS))("stop: %s waits for resume, and nothing is lost", (_name, [op, go]) => {
    const ide = bench({ read: "stop", write: "stop" });
    ide.disk.poke(1000 * 512, pattern(4096, 6));
    ide.cpu.ram.bytes(BUFFER, 4096).set(pattern(4096, 1));
    const mend = once(ide, 99);
    go(ide);
    expect([
      ide.irq,
      ide.controller.stopped,
      ide.altStatus & AtaStatus.Busy || ide.altStatus & AtaStatus.DataRequest,
    ]).not.toContain(0);
    ide.read(AtaRegister.Status);
    ide.controller.resume();
    expect(ide.controller.stopped).toBe(true);
    mend();
    ide.controller.resume();
    expect([ide.irq, ide.controller.stopped]).toEqual([true, false]);
    if (op === Op.Read) ide.drain();
    else ide.feed(pattern(4096, 1).subarray(-1024));
    expect(ide.status).toBe(IDLE);
  });

  test("stop, then SRST: the command is dropped and nothing is written", () => {
    const ide = bench({ write: "stop" });
    once(ide, 99);
    dma(ide, 0xca, 1000, 8);
    expect(ide.controller.stopped).toBe(true);
    ide.write(AtaRegister.Control, 4);
    ide.write(AtaRegister.Control, 0);
    expect([ide.irq, ide.status, ide.controller.stopped]).toEqual([false, IDLE, false]);
    ide.controller.resume();
    expect(ide.disk.log).toEqual([]);
  });

  test("stop, then close: it ends", async () => {
    const ide = bench({ write: "stop" });
    once(ide, 99);
    dma(ide, 0xca, 1000, 8);
    await ide.controller.close();
  });

  test("what can never go well is reported under every policy; reads and writes have their own", () => {
    for (const policy of ["stop", "ignore", "retry"] as const) {
      const ide = bench({ write: policy });
      ide.faults.fail({ cause: "read-only", ops: [Op.Write] });
      dma(ide, 0xca, 1000, 8);
      expect([ide.status, ide.error]).toEqual([FAILED, AtaError.Abort]);
      once(ide);
      dma(ide, 0xc8, 1000, 8);
      expect(ide.status).toBe(FAILED | DF);
    }
  });
});

describe("damage on the way (crc)", () => {
  const BAD_CRC = AtaError.InterfaceCrc | AtaError.Abort;
  const isDma = (name: string) => name.includes("DMA");
  const ultra = Object.entries(WAYS).filter(([name]) => isDma(name));
  const others = Object.entries(WAYS).filter(([name]) => !isDma(name));
  const damage = (ide: ReturnType<typeof bench>, times?: number) =>
    ide.faults.fail({ cause: "crc", ...(times !== undefined && { times }) });
  /** SET FEATURES, set transfer mode (ATA/ATAPI-6 §8.46). */
  function setMode(ide: IdeBench, mode: number): void {
    ide.write(AtaRegister.Features, 3);
    ide.write(AtaRegister.Count, mode);
    ide.write(AtaRegister.Command, 0xef);
    expect(ide.status).toBe(IDLE);
  }

  test.each(ultra)("%s: ICRC and ABRT, nothing moved; the next try is well", (_name, [op, go]) => {
    const ide = bench();
    ide.disk.poke(1000 * 512, pattern(4096, 6));
    ide.cpu.ram.bytes(BUFFER, 4096).set(pattern(4096, 1));
    damage(ide, 1);
    go(ide);
    expect([ide.irq, ide.status, ide.error, ide.read(AtaRegister.BmStatus) & 7]).toEqual([
      true,
      FAILED,
      BAD_CRC,
      BmStatus.Interrupt,
    ]);
    expect(ide.cpu.ram.bytes(BUFFER, 4096)).toEqual(pattern(4096, 1));
    expect(ide.disk.log).toEqual([]);
    go(ide);
    expect(ide.status).toBe(IDLE);
    if (op === Op.Read) expect(ide.cpu.ram.bytes(BUFFER, 4096)).toEqual(pattern(4096, 6));
    else expect(ide.disk.log.length).toBeGreaterThan(0);
  });

  test.each(others)("%s has no CRC on the way", (_name, [, go]) => {
    const ide = bench();
    damage(ide);
    go(ide);
    expect([ide.irq, ide.status, ide.faults.failed]).toEqual([true, IDLE, 0]);
  });

  test.each(ultra)("%s by multiword DMA neither; by Ultra DMA again, it has", (_name, [, go]) => {
    const ide = bench();
    damage(ide);
    setMode(ide, 0x22);
    go(ide);
    expect([ide.irq, ide.status, ide.faults.failed]).toEqual([true, IDLE, 0]);
    setMode(ide, 0x40);
    go(ide);
    expect([ide.status, ide.error]).toEqual([FAILED, BAD_CRC]);
  });

  test("a block that has it for PIO all the same is one that fails for reasons of its own", () => {
    const disk = new FakeBlock(64 << 20);
    disk.fault = () => Status.Crc;
    const ide = new IdeBench([[disk]]);
    ide.command28(0x20, 1000, 1);
    expect([ide.status, ide.error]).toEqual([FAILED | DF, AtaError.Abort]);
  });

  test.each(ultra)("%s under the policies", (_name, [, go]) => {
    const retry = bench({ read: "retry", write: "retry" });
    damage(retry, 3);
    go(retry);
    expect([retry.status, retry.faults.failed]).toEqual([IDLE, 3]);
    damage(retry, 4);
    go(retry);
    expect([retry.status, retry.error]).toEqual([FAILED, BAD_CRC]);

    const ignore = bench({ read: "ignore", write: "ignore" });
    damage(ignore);
    go(ignore);
    expect([ignore.status, ignore.faults.failed]).toEqual([IDLE, 1]);

    const stop = bench({ read: "stop", write: "stop" });
    const mend = damage(stop);
    go(stop);
    expect([stop.irq, stop.controller.stopped]).toEqual([false, true]);
    mend();
    stop.controller.resume();
    expect([stop.irq, stop.status, stop.controller.stopped]).toEqual([true, IDLE, false]);
  });
});
