// How the controller stands on the PCI bus, who answers on a channel, and what ends a command before its time.
import { describe, expect, test } from "vitest";
import { AtaRegister, AtaStatus, BmCommand, BmStatus, Prd } from "../../../../assembly/spec/ata.ts";
import { attachIde, type IdeOptions } from "../../../../src/host/device/ide/controller.ts";
import { LabMachine } from "../../../../src/hypervisor/machine.ts";
import { AtaBench, IDLE } from "../../../support/ata-disk.ts";
import { IdeBench, pattern } from "../../../support/ide.ts";
import { SparseBlock } from "../../../support/sparse-block.ts";

function machine(options: Omit<IdeOptions, "drives"> = {}) {
  const made = new LabMachine({ memory: 4 << 20 });
  const disks = [new SparseBlock(1 << 20), new SparseBlock(1 << 20)];
  const controller = attachIde(made, { drives: [[disks[0]], [disks[1]]], slot: 1, ...options });
  const config = (register: number) => {
    made.guest.out(0xcf8, 4, 0x80000800 | (register & 0xfc));
    return 0xcfc + (register & 3);
  };
  const read = (register: number, width: 1 | 2 | 4) => made.guest.in(config(register), width);
  const write = (register: number, width: 1 | 2 | 4, value: number) => made.guest.out(config(register), width, value);
  return { machine: made, cpu: made.guest, disks, controller, read, write };
}

describe("PCI", () => {
  test.each([
    ["piix3", 0x7010],
    ["piix4", 0x7111],
  ] as const)("%s is 8086:%i, class 0101, programming interface 80h", (model, device) => {
    const { read } = machine({ model });
    expect([read(0, 2), read(2, 2), read(9, 1), read(10, 2), read(0x20, 4), read(0x3d, 1)]).toEqual([
      0x8086,
      device,
      0x80,
      0x0101,
      0xc001,
      0,
    ]);
  });

  test("a driver finds both channels decoded, and its timings where it has put them", () => {
    const { read, write } = machine();
    expect([read(0x40, 2), read(0x42, 2)]).toEqual([0x8000, 0x8000]);
    write(0x40, 2, 0xa307);
    write(0x44, 4, 0xffffffff);
    write(0x48, 4, 0xffffffff);
    expect([read(0x40, 2), read(0x44, 4), read(0x48, 4)]).toEqual([0xa307, 0x000000ff, 0x3333000f]);
  });

  test("native mode: registers in BARs 0 to 3, moved by the guest, one shared INTA#", () => {
    const { machine: made, cpu, disks, read, write } = machine({ mode: { native: { interrupt: 11 } } });
    const level = () => made.trap.interrupts.level(11);
    expect([read(9, 1), read(0x3c, 1), read(0x3d, 1), cpu.in(0x1f7, 1)]).toEqual([0x85, 11, 1, 0xff]);
    write(0x18, 4, 0xe000);
    const bars = [0x10, 0x14, 0x18, 0x1c].map((at) => read(at, 4) & ~3);
    expect(bars[2]).toBe(0xe000);
    disks[1].poke(5 * 512, pattern(512, 4));
    for (const [i, value] of [1, 5, 0, 0, 0xe0].entries()) cpu.out(0xe000 + 2 + i, 1, value);
    cpu.out(0xe007, 1, 0x20);
    expect(level()).toBe(true);
    cpu.out(bars[0] + 7, 1, 0xe7);
    expect(cpu.in(0xe007, 1)).toBe(IDLE | AtaStatus.DataRequest);
    // The other channel still asks.
    expect(level()).toBe(true);
    expect(cpu.in(bars[0] + 7, 1)).toBe(IDLE);
    expect(level()).toBe(false);
    expect(Array.from({ length: 256 }, () => cpu.in(0xe000, 2)).flatMap((word) => [word & 0xff, word >> 8])).toEqual([
      ...pattern(512, 4),
    ]);
    expect(cpu.in(bars[1] + 2, 1)).toBe(IDLE);
    expect(cpu.in(bars[1], 1)).toBe(0xff);
    cpu.out(bars[3] + 2, 1, 4);
    expect(cpu.in(bars[3] + 2, 1)).toBe(AtaStatus.Busy);
    cpu.out(bars[3] + 2, 1, 0);
    expect(cpu.in(bars[3] + 2, 1)).toBe(IDLE);
  });
});

describe("who answers", () => {
  const disk = () => new SparseBlock(1 << 20);
  const at = (ide: IdeBench, device: number) => {
    ide.write(AtaRegister.Device, device);
    ide.write(AtaRegister.Count, 0x55);
    ide.write(AtaRegister.LbaLow, 0xaa);
    return [AtaRegister.Count, AtaRegister.LbaLow, AtaRegister.Status].map((register) => ide.read(register));
  };

  test("nobody: everything reads 0 and no command is heard", () => {
    const ide = new IdeBench([]);
    expect([at(ide, 0xa0), at(ide, 0xb0)]).toEqual([
      [0, 0, 0],
      [0, 0, 0],
    ]);
    ide.write(AtaRegister.Command, 0x90);
    expect([ide.status, ide.irq]).toEqual([0, false]);
  });

  test("both: each has its own registers and status", () => {
    const ide = new IdeBench([[disk(), disk()]]);
    expect([at(ide, 0xa0), at(ide, 0xb0)]).toEqual([
      [0x55, 0xaa, IDLE],
      [0x55, 0xaa, IDLE],
    ]);
  });

  test("device 0 alone: it answers for device 1, whose status is 0; what is written there lands in device 0, its commands are not run", () => {
    const ide = new IdeBench([[disk()]]);
    expect(at(ide, 0xb0)).toEqual([0x55, 0xaa, 0]);
    ide.write(AtaRegister.Command, 0xec);
    expect([ide.irq, ide.status]).toEqual([false, 0]);
    ide.write(AtaRegister.Device, 0xa0);
    expect([ide.read(AtaRegister.Count), ide.read(AtaRegister.LbaLow), ide.status]).toEqual([0x55, 0xaa, IDLE]);
  });

  test("device 1 alone: device 0 reads 0, device 1 works", () => {
    const ide = new IdeBench([[null, disk()]]);
    expect(at(ide, 0xa0)).toEqual([0, 0, 0]);
    expect(at(ide, 0xb0)).toEqual([0x55, 0xaa, IDLE]);
    ide.command28(0x20, 0, 1, 1);
    expect(ide.drain()).toHaveLength(512);
  });

  test("EXECUTE DIAGNOSTIC with two devices: both are signed, device 0 is selected and answers for both", () => {
    const ide = new IdeBench([[disk(), disk()]]);
    at(ide, 0xb0);
    ide.write(AtaRegister.Command, 0x90);
    expect([ide.read(AtaRegister.Device) & 0x10, ide.error, ide.irq]).toEqual([0, 1, true]);
    for (const device of [0xa0, 0xb0]) {
      ide.write(AtaRegister.Device, device);
      expect([2, 3, 4, 5].map((register) => ide.read(register as AtaRegister))).toEqual([1, 1, 0, 0]);
      expect(ide.altStatus).toBe(IDLE);
    }
  });
});

describe("IDLE IMMEDIATE while busy ends the command", () => {
  test.each<[string, (ide: AtaBench) => void, boolean]>([
    ["a PIO read at DRQ", (ide) => ide.command(0xc4, { count: 20 }), false],
    ["a PIO write at DRQ", (ide) => ide.command(0xc5, { count: 20 }), false],
    ["a DMA that waits for START", (ide) => ide.command(0xc8, { count: 1 }), false],
    [
      "a DMA in flight",
      (ide) => {
        ide.block.held = true;
        ide.prds(0x200000, [[0x300000, Prd.EndOfTable | 512]]);
        ide.write(AtaRegister.BmTable, 0x200000, 4);
        ide.write(AtaRegister.BmCommand, BmCommand.Start);
        ide.command(0xca, { count: 1, lba: 9 });
      },
      true,
    ],
    [
      "a flush in flight",
      (ide) => {
        ide.block.held = true;
        ide.command(0xe7);
      },
      true,
    ],
    ["a captive self-test", (ide) => ide.command(0xb0, { features: 0xd4, lba: 0xc24f82 }), false],
  ])("%s", async (_name, begin, waits) => {
    const ide = new AtaBench();
    begin(ide);
    ide.write(AtaRegister.Command, 0xe1);
    if (waits) {
      expect([ide.irq, ide.altStatus]).toEqual([false, AtaStatus.Busy]);
      await ide.block.release();
    }
    expect([ide.irq, ide.altStatus, ide.read(AtaRegister.BmStatus) & BmStatus.Active]).toEqual([true, IDLE, 0]);
    expect([ide.status, ide.error]).toEqual([IDLE, 0]);
    ide.block.held = false;
    ide.command(0x20, { count: 1 });
    expect(ide.drain()).toHaveLength(512);
    expect(ide.status).toBe(IDLE);
  });
});
