// A CD drive at the registers of its channel: PIO and DMA, byte count limits, identity, what an ATA host may do to it.
import { expect, test } from "vitest";
import {
  AtaCommand,
  AtaControl,
  AtaError,
  AtaRegister,
  AtaStatus,
  BmCommand,
  BmStatus,
  Prd,
} from "../../../../../assembly/spec/ata.ts";
import { PacketOp } from "../../../../../assembly/spec/mmc.ts";
import { Status } from "../../../../../src/core/block.ts";
import { cdFromBlock } from "../../../../../src/host/media/image.ts";
import { BUFFER, be, CdBench, cdb, TABLE } from "../../../../support/cd.ts";
import { sectors } from "../../../../support/disc.ts";
import { FakeBlock, type FakeOptions } from "../../../../support/fake-block.ts";

const IDLE = AtaStatus.Ready | AtaStatus.SeekComplete;
const CHECK = AtaStatus.Ready | AtaStatus.Error;
const COUNT = 300;

function rig(options: FakeOptions = {}) {
  const block = new FakeBlock(COUNT * 2048, options);
  block.bytes.set(sectors(COUNT, 2048));
  const bench = new CdBench([[{ cd: cdFromBlock(block) }]]);
  return Object.assign(bench, { block });
}

const read = (lba: number, count: number) => cdb(PacketOp.Read10, 0, ...be(lba, 4), 0, ...be(count, 2));

/** Key and code of the sense data, fetched by PIO. */
function sense(ide: CdBench): number[] {
  const { bytes } = ide.pio(cdb(PacketOp.RequestSense, 0, 0, 0, 18));
  return [bytes[2], bytes[12], bytes[13]];
}

test.each([1, 2, 31, 32, 33, 100])("%i sectors by PIO and by DMA are the image's bytes", (count) => {
  const ide = rig();
  const want = Buffer.from(ide.block.bytes.slice(7 * 2048, (7 + count) * 2048));
  for (const limit of [2048, 0xfffe, 0xffff, 512, 2046, 7000]) {
    const { bytes, sizes } = ide.pio(read(7, count), limit);
    expect(want.equals(bytes)).toBe(true);
    const most = Math.min(limit, 0xfffe);
    expect(Math.max(...sizes)).toBe(Math.min(most, want.length));
    expect(sizes.slice(0, -1).every((size) => size === most)).toBe(true);
    expect(ide.last.status).toBe(IDLE);
  }
  expect(want.equals(ide.dma(read(7, count), want.length))).toBe(true);
  expect(ide.last.status).toBe(IDLE);
});

test("a packet to be overlapped is refused once it is there, and the next one is not", () => {
  const ide = rig();
  ide.write(AtaRegister.Features, 2);
  ide.write(AtaRegister.Command, AtaCommand.Packet);
  // §8.23: no error before the last byte of the packet.
  for (let i = 0; i < 6; i++) {
    expect([ide.status, ide.read(AtaRegister.Count)]).toEqual([0x58, 1]);
    ide.write(AtaRegister.Data, i === 0 ? PacketOp.Inquiry : 0x2424, 2);
  }
  expect([ide.status, ide.error, ide.read(AtaRegister.Count)]).toEqual([0x41, 0x04, 3]);
  ide.write(AtaRegister.Features, 0);
  ide.write(AtaRegister.Command, AtaCommand.Packet);
  expect(ide.status).toBe(0x58);
});

test("byte count limits: zero is an ATA abort, odd ones are rounded unless all fits below", () => {
  const ide = rig();
  ide.pio(read(0, 1), 0);
  expect(ide.last).toEqual({ status: CHECK, error: AtaError.Abort });
  expect(ide.pio(cdb(PacketOp.TestUnitReady), 0).bytes.length).toBe(0);
  expect(ide.last.status).toBe(IDLE);
  expect(ide.pio(read(0, 1), 1001).sizes).toEqual([1000, 1000, 48]);
  expect(ide.pio(cdb(PacketOp.Inquiry, 0, 0, 0, 5), 5).sizes).toEqual([5]);
  // An allocation length of zero is no error, and no data.
  expect(ide.pio(cdb(PacketOp.Inquiry), 2048).sizes).toEqual([]);
  expect(ide.last.status).toBe(IDLE);
});

test("IDENTIFY PACKET DEVICE", () => {
  const ide = rig();
  ide.write(AtaRegister.Command, 0xa1);
  const bytes = ide.drain();
  const words = new Uint16Array(bytes.buffer, bytes.byteOffset, 256);
  const text = (at: number, length: number) =>
    Array.from({ length }, (_, i) => String.fromCharCode(words[at + i] >> 8, words[at + i] & 255))
      .join("")
      .trim();
  expect([words[0], text(10, 10), text(23, 4), text(27, 20)]).toEqual([0x85c0, "PV000001", "1.0", "PARAVANE DVD-ROM"]);
  expect([words[49], words[53] & 6, words[63] & 7, words[88] & 0x3f, words[80]]).toEqual([0x0b00, 6, 7, 0x3f, 0x70]);
  expect([words[82], words[85]]).toEqual([0x4218, 0x4218]);
});

test("power modes: CHECK POWER MODE tells of them, whichever command set has set them", () => {
  const ide = rig();
  const check = () => {
    ide.write(AtaRegister.Command, 0xe5);
    expect(ide.status).toBe(IDLE);
    return ide.read(AtaRegister.Count);
  };
  expect(check()).toBe(0xff);
  for (const [code, count] of [
    [0xe0, 0],
    [0xe1, 0xff],
    [0xe2, 0],
    [0xe3, 0xff],
    [0xe6, 0],
  ]) {
    ide.write(AtaRegister.Command, code);
    expect([code, ide.status, check()]).toEqual([code, IDLE, count]);
  }
  // A command for the disc wakes it.
  expect(ide.pio(read(1, 1)).bytes.length).toBe(2048);
  expect(check()).toBe(0xff);
  ide.pio(cdb(PacketOp.StartStopUnit, 0, 0, 0, 0x30));
  expect(check()).toBe(0);
  ide.pio(cdb(PacketOp.StartStopUnit, 0, 0, 0, 0x10));
  expect(check()).toBe(0xff);
});

test("what an ATA host asks of a disk is aborted with the signature", () => {
  const ide = rig();
  for (const code of [0xec, 0x20, 0x21, 0xc8, 0x30, 0xca, 0x25, 0xc4, 0xf8]) {
    ide.write(AtaRegister.Command, code);
    expect([code, ide.status, ide.error]).toEqual([code, CHECK, AtaError.Abort]);
  }
  ide.write(AtaRegister.Command, 0xec);
  expect([ide.read(AtaRegister.LbaMid), ide.read(AtaRegister.LbaHigh)]).toEqual([0x14, 0xeb]);
});

test("CHECK CONDITION: status 41h, the sense key, the interrupt reason, and the sense data", () => {
  const ide = rig();
  for (const [packet, error, want] of [
    [cdb(0xff), 0x50, [5, 0x20, 0]],
    [read(COUNT, 1), 0x50, [5, 0x21, 0]],
    // CVE-2020-29443, by PIO: an address of -1 read past the buffer.
    [read(0xffffffff, 0xffff), 0x50, [5, 0x21, 0]],
    [cdb(PacketOp.ReadCd, 0, 255, 255, 255, 255, 255, 255, 255, 0xf8), 0x50, [5, 0x21, 0]],
  ] as const) {
    ide.pio(packet);
    expect([ide.last, ide.read(AtaRegister.Count) & 7]).toEqual([{ status: CHECK, error }, 3]);
    expect(sense(ide)).toEqual(want);
    ide.dma(packet, 2048);
    expect([ide.last, sense(ide)]).toEqual([{ status: CHECK, error }, want]);
  }
});

test("an unreadable sector, in the middle of a transfer", () => {
  const ide = rig();
  ide.block.fault = ({ offset, length }) =>
    offset <= 50 * 2048 && offset + length > 50 * 2048 ? Status.Media : Status.Ok;
  const { bytes, sizes } = ide.pio(read(40, 20), 2048);
  expect([sizes.length, ide.last.status, ide.last.error]).toEqual([10, CHECK, 0x30]);
  expect(bytes).toEqual(ide.block.bytes.slice(40 * 2048, 50 * 2048));
  expect(sense(ide)).toEqual([3, 0x11, 0]);
  ide.dma(read(40, 20), 20 * 2048);
  expect([ide.last.status, ide.last.error, sense(ide)]).toEqual([CHECK, 0x30, [3, 0x11, 0]]);
  ide.block.fault = () => Status.Ok;
  expect(ide.pio(read(40, 20)).bytes.length).toBe(20 * 2048);
});

test("CVE-2015-5154: START STOP UNIT and its like leave no data phase behind", () => {
  const ide = rig();
  for (const packet of [
    cdb(PacketOp.StartStopUnit),
    cdb(PacketOp.StartStopUnit, 0, 0, 0, 0x10),
    cdb(PacketOp.SynchronizeCache),
  ]) {
    ide.packet(packet);
    expect(ide.status).toBe(IDLE);
    const was = ide.cpu.ram.bytes(0, 4 << 20).slice();
    for (let i = 0; i < 40000; i++) {
      expect(ide.read(AtaRegister.Data, 2) & ~0xffff).toBe(0);
      ide.write(AtaRegister.Data, 0xffff, 2);
    }
    expect(ide.status).toBe(IDLE);
    expect(Buffer.compare(ide.cpu.ram.bytes(0, 4 << 20), was)).toBe(0);
  }
});

test("CVE-2015-6855 and its kind: every ATA command on an empty drive", () => {
  const ide = new CdBench([[{ cd: null }]]);
  for (let code = 0; code < 256; code++) {
    ide.write(AtaRegister.Device, 0xa0);
    for (const register of [1, 2, 3, 4, 5]) ide.write(register as AtaRegister, 0);
    ide.write(AtaRegister.Command, code);
    if (code !== 0xa0) ide.drain();
    expect(ide.status & (AtaStatus.Busy | AtaStatus.DeviceFault)).toBe(0);
    ide.write(AtaRegister.Command, 0x08);
  }
  for (let code = 0; code < 256; code++) {
    ide.pio(cdb(code, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff));
    ide.write(AtaRegister.Command, 0x08);
    expect(ide.status & (AtaStatus.Busy | AtaStatus.DataRequest)).toBe(0);
  }
});

test("CVE-2023-5088's kind: resets while a read waits for its image", async () => {
  for (const how of ["SRST", "DEVICE RESET", "machine"] as const) {
    for (const dma of [false, true]) {
      const ide = rig({ manual: true });
      ide.cpu.ram.bytes(BUFFER, 4096).fill(0xee);
      ide.prds(TABLE, [[BUFFER, Prd.EndOfTable | 2048]]);
      ide.write(AtaRegister.BmTable, TABLE, 4);
      ide.packet(read(3, 1), dma ? 1 : 0);
      if (dma) ide.write(AtaRegister.BmCommand, BmCommand.Start | BmCommand.ToMemory);
      expect(ide.block.waiting).toBe(1);
      if (how === "SRST") {
        ide.write(AtaRegister.Control, AtaControl.SoftwareReset);
        ide.write(AtaRegister.Control, 0);
      } else if (how === "DEVICE RESET") ide.write(AtaRegister.Command, 0x08);
      else ide.machine.reset();
      await ide.block.release();
      expect([how, dma, ide.altStatus, ide.error, ide.read(AtaRegister.LbaHigh)]).toEqual([how, dma, 0, 1, 0xeb]);
      expect(ide.irq).toBe(false);
      if (!dma) expect(ide.cpu.ram.bytes(BUFFER, 4096).every((byte) => byte === 0xee)).toBe(true);
      // And it works afterwards.
      ide.packet(cdb(PacketOp.TestUnitReady));
      if (how === "machine") {
        expect(ide.status).toBe(CHECK);
        expect(sense(ide)).toEqual([6, 0x29, 0]);
        ide.packet(cdb(PacketOp.TestUnitReady));
      }
      expect(ide.status).toBe(IDLE);
      ide.packet(read(3, 1));
      expect(ide.altStatus & AtaStatus.Busy).toBe(AtaStatus.Busy);
      await ide.block.release();
      expect(Buffer.compare(ide.drain(), ide.block.bytes.slice(3 * 2048, 4 * 2048))).toBe(0);
    }
  }
});

test("PRD tables that are longer, shorter and in pieces", () => {
  const ide = rig();
  const go = (entries: [number, number][]) => {
    ide.write(AtaRegister.BmCommand, 0);
    ide.write(AtaRegister.BmStatus, 6);
    ide.prds(TABLE, entries);
    ide.write(AtaRegister.BmTable, TABLE, 4);
    ide.packet(read(9, 2), 1);
    ide.write(AtaRegister.BmCommand, BmCommand.Start | BmCommand.ToMemory);
    const answer = [ide.read(AtaRegister.BmStatus) & 7, ide.status];
    return answer;
  };
  expect(
    go([
      [BUFFER, 1000],
      [BUFFER + 5000, 2000],
      [BUFFER + 9000, Prd.EndOfTable | 1096],
    ]),
  ).toEqual([BmStatus.Interrupt, IDLE]);
  const ram = ide.cpu.ram;
  const got = [...ram.bytes(BUFFER, 1000), ...ram.bytes(BUFFER + 5000, 2000), ...ram.bytes(BUFFER + 9000, 1096)];
  expect(Buffer.from(got).equals(ide.block.bytes.slice(9 * 2048, 11 * 2048))).toBe(true);
  expect(go([[BUFFER, Prd.EndOfTable | 8192]])[0]).toBe(BmStatus.Interrupt | BmStatus.Active);
  expect(go([[BUFFER, Prd.EndOfTable | 2048]])[0] & BmStatus.Interrupt).toBe(0);
});

test("a MODE SELECT by PIO in pieces, and by DMA", () => {
  const ide = rig();
  const list = [0, 0, 0, 0, 0, 0, 0, 0, 13, 6, 0, 3, 0, 60, 0, 75];
  const timer = () => ide.pio(cdb(PacketOp.ModeSense10, 0, 13, 0, 0, 0, 0, 0, 255)).bytes[8 + 3];
  ide.packet(cdb(PacketOp.ModeSelect10, 0x10, 0, 0, 0, 0, 0, 0, list.length), 0, 6);
  for (let at = 0; at < list.length; at += 2) {
    expect(ide.altStatus & AtaStatus.DataRequest).toBe(AtaStatus.DataRequest);
    ide.write(AtaRegister.Data, list[at] | (list[at + 1] << 8), 2);
  }
  expect([ide.status, timer()]).toEqual([IDLE, 3]);
  list[11] = 9;
  ide.cpu.ram.bytes(BUFFER, list.length).set(list);
  ide.prds(TABLE, [[BUFFER, Prd.EndOfTable | list.length]]);
  ide.write(AtaRegister.BmTable, TABLE, 4);
  ide.packet(cdb(PacketOp.ModeSelect10, 0x10, 0, 0, 0, 0, 0, 0, list.length), 1);
  ide.write(AtaRegister.BmCommand, BmCommand.Start);
  expect([ide.status, timer()]).toEqual([IDLE, 9]);
  list[8] = 0x3e;
  ide.packet(cdb(PacketOp.ModeSelect10, 0x10, 0, 0, 0, 0, 0, 0, list.length));
  ide.feed(Uint8Array.from(list));
  expect([ide.status, ide.error, sense(ide)]).toEqual([CHECK, 0x50, [5, 0x26, 0]]);
});

test("the tray of a running machine", () => {
  const ide = rig();
  const tray = ide.controller.tray(0, 0);
  expect(() => ide.controller.tray(1, 0)).toThrow(/no CD drive/);
  tray.eject();
  ide.pio(cdb(PacketOp.TestUnitReady));
  expect([ide.last.status, ide.last.error, sense(ide)]).toEqual([CHECK, 0x20, [2, 0x3a, 2]]);
  tray.insert(cdFromBlock(new FakeBlock(2048 * 5)));
  ide.pio(cdb(PacketOp.TestUnitReady));
  expect([ide.last.error, sense(ide)]).toEqual([0x20, [2, 0x3a, 0]]);
  ide.pio(cdb(PacketOp.TestUnitReady));
  expect([ide.last.error, sense(ide)]).toEqual([0x60, [6, 0x28, 0]]);
  expect(ide.pio(cdb(PacketOp.ReadCapacity)).bytes[3]).toBe(4);
});

test("a save of the whole controller in the middle of a CD's data", () => {
  const ide = rig();
  ide.packet(read(5, 4), 0, 2048);
  const take = (from: CdBench, words: number) => Array.from({ length: words }, () => from.read(AtaRegister.Data, 2));
  const first = take(ide, 1500);
  const state = JSON.parse(JSON.stringify(ide.controller.save()));
  const other = rig();
  other.controller.restore(state);
  const rest = take(other, 4096 - 1500);
  expect(other.status).toBe(IDLE);
  const bytes = Buffer.from(Uint16Array.from([...first, ...rest]).buffer);
  expect(bytes.equals(ide.block.bytes.slice(5 * 2048, 9 * 2048))).toBe(true);
});
