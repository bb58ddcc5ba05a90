// The ATA side of PACKET over a device that does as it is told: phases, byte counts, interrupt reasons, DMA, resets.
import { expect, test } from "vitest";
import {
  AtaControl,
  AtaError,
  AtaRegister,
  AtaStatus,
  BmCommand,
  BmStatus,
  Prd,
} from "../../../../assembly/spec/ata.ts";
import type { Later } from "../../../../src/core/flow.ts";
import type { SegmentList } from "../../../../src/core/segments.ts";
import type { PacketAnswer, PacketDevice, ResetKind } from "../../../../src/host/device/ide/device.ts";
import { IdeBench, pattern } from "../../../support/ide.ts";
import { SparseBlock } from "../../../support/sparse-block.ts";

const IDLE = AtaStatus.Ready | AtaStatus.SeekComplete;
const TABLE = 0x200000;
const BUFFER = 0x300000;

/** Opcode 1: as many bytes in as bytes 1–2 say; 2: out; 3: CHECK CONDITION 50h; 4: waits for `go`; else done. */
class Told implements PacketDevice {
  readonly bytes = pattern(70000, 5);
  readonly taken: number[] = [];
  readonly resets: ResetKind[] = [];
  go: (answer: PacketAnswer) => void = () => {};
  packet: Uint8Array = new Uint8Array(0);

  identify(words: Uint16Array): void {
    words[0] = 0x85c0;
  }
  begin(packet: Uint8Array): Later<PacketAnswer> {
    this.packet = packet;
    const length = packet[1] | (packet[2] << 8);
    if (packet[0] === 1) return { kind: "in", length };
    if (packet[0] === 2) return { kind: "out", length };
    if (packet[0] === 3) return { kind: "check", error: 0x50 };
    if (packet[0] === 4) return new Promise((resolve) => (this.go = resolve));
    return { kind: "done" };
  }
  read(at: number, memory: Uint8Array, segments: SegmentList): number {
    let from = at;
    for (let i = 0; i < segments.count; from += segments.length(i++))
      memory.set(this.bytes.subarray(from, from + segments.length(i)), segments.start(i));
    return from > 60000 ? 0x30 : 0;
  }
  write(_at: number, memory: Uint8Array, segments: SegmentList): number {
    for (let i = 0; i < segments.count; i++)
      this.taken.push(...memory.subarray(segments.start(i), segments.start(i) + segments.length(i)));
    return 0;
  }
  reset(kind: ResetKind): void {
    this.resets.push(kind);
  }
  save(): null {
    return null;
  }
  restore(): void {}
}

function bench(drive: 0 | 1 = 0) {
  const device = new Told();
  const disk = new SparseBlock(1 << 20);
  const drives = drive === 0 ? [{ packet: device }] : [disk, { packet: device }];
  return Object.assign(new IdeBench([drives]), { device, drive });
}

/** PACKET with a byte count limit, and the packet. */
function packet(ide: ReturnType<typeof bench>, bytes: number[], limit = 0x800, dma = false): void {
  ide.write(AtaRegister.Device, 0xa0 | (ide.drive << 4));
  ide.write(AtaRegister.Features, dma ? 1 : 0);
  ide.write(AtaRegister.LbaMid, limit & 0xff);
  ide.write(AtaRegister.LbaHigh, limit >> 8);
  ide.write(AtaRegister.Command, 0xa0);
  expect([ide.altStatus, reason(ide), ide.irq]).toEqual([IDLE | AtaStatus.DataRequest, 1, false]);
  const all = [...bytes, ...new Array(12 - bytes.length).fill(0)];
  for (let i = 0; i < 12; i += 2) ide.write(AtaRegister.Data, all[i] | (all[i + 1] << 8), 2);
}

const reason = (ide: IdeBench) => ide.read(AtaRegister.Count) & 7;
const byteCount = (ide: IdeBench) => ide.read(AtaRegister.LbaMid) | (ide.read(AtaRegister.LbaHigh) << 8);

/** Reads DRQ blocks of the size that the byte count says: sizes and bytes. */
function blocks(ide: IdeBench): { sizes: number[]; bytes: number[] } {
  const sizes: number[] = [];
  const bytes: number[] = [];
  while (ide.altStatus & AtaStatus.DataRequest) {
    expect([ide.irq, reason(ide)]).toEqual([true, 2]);
    ide.read(AtaRegister.Status);
    const size = byteCount(ide);
    sizes.push(size);
    for (let i = 0; i < size; i += 2) {
      const word = ide.read(AtaRegister.Data, 2);
      bytes.push(word & 0xff, word >> 8);
    }
  }
  return { sizes, bytes };
}

test.each([
  [100, 0x800, [100]],
  [4096, 0x800, [0x800, 0x800]],
  [5000, 0x800, [0x800, 0x800, 904]],
  [101, 0x800, [101]],
  [3000, 1001, [1000, 1000, 1000]],
  [1001, 1001, [1001]],
  [60000, 0xffff, [60000]],
])("data in: %i bytes with a limit of %i", (length, limit, sizes) => {
  const ide = bench();
  packet(ide, [1, length & 0xff, length >> 8], limit);
  const got = blocks(ide);
  expect(got.sizes).toEqual(sizes);
  expect(Uint8Array.from(got.bytes.slice(0, length))).toEqual(ide.device.bytes.slice(0, length));
  expect([ide.irq, reason(ide), ide.status]).toEqual([true, 3, IDLE]);
});

test("data out, on the second drive", () => {
  const ide = bench(1);
  packet(ide, [2, 0, 4], 700);
  const sent = pattern(1024, 9);
  for (let at = 0; at < 1024; ) {
    expect([ide.irq, reason(ide)]).toEqual([true, 0]);
    ide.read(AtaRegister.Status);
    const end = at + byteCount(ide);
    for (; at < end; at += 2) ide.write(AtaRegister.Data, sent[at] | (sent[at + 1] << 8), 2);
  }
  expect(Uint8Array.from(ide.device.taken)).toEqual(sent);
  expect([reason(ide), ide.status]).toEqual([3, IDLE]);
});

test("no data, CHECK CONDITION, and a byte count limit of zero", () => {
  const ide = bench();
  packet(ide, [0]);
  expect([ide.irq, reason(ide), ide.status]).toEqual([true, 3, IDLE]);
  packet(ide, [3]);
  expect([ide.irq, reason(ide), ide.status, ide.error]).toEqual([true, 3, 0x41, 0x50]);
  packet(ide, [1, 8], 0);
  expect([ide.status, ide.error]).toEqual([0x41, AtaError.Abort]);
  packet(ide, [0], 0);
  expect(ide.status).toBe(IDLE);
});

test.each(["START first", "PACKET first"])("DMA, %s", (order) => {
  const ide = bench();
  ide.prds(TABLE, [[BUFFER, Prd.EndOfTable | 6000]]);
  ide.write(AtaRegister.BmTable, TABLE, 4);
  if (order === "START first") ide.write(AtaRegister.BmCommand, BmCommand.Start | BmCommand.ToMemory);
  packet(ide, [1, 6000 & 0xff, 6000 >> 8], 0, true);
  if (order !== "START first") ide.write(AtaRegister.BmCommand, BmCommand.Start | BmCommand.ToMemory);
  expect(ide.read(AtaRegister.BmStatus)).toBe(BmStatus.Interrupt);
  expect([ide.irq, reason(ide), ide.status]).toEqual([true, 3, IDLE]);
  expect(ide.cpu.ram.bytes(BUFFER, 6000)).toEqual(ide.device.bytes.slice(0, 6000));
});

test("a PRD table shorter than the data stops the bus master, not the drive: its data goes on with the next table", () => {
  const ide = bench();
  const go = (bytes: number) => {
    ide.write(AtaRegister.BmCommand, 0);
    ide.prds(TABLE, [[BUFFER, Prd.EndOfTable | bytes]]);
    ide.write(AtaRegister.BmTable, TABLE, 4);
    ide.write(AtaRegister.BmCommand, BmCommand.Start | BmCommand.ToMemory);
    return [ide.read(AtaRegister.BmStatus), ide.irq, ide.altStatus];
  };
  packet(ide, [1, 6000 & 0xff, 6000 >> 8], 0, true);
  // BMIDE §3.1: neither Active nor Interrupt. ATA/ATAPI-6 §9.8: DRQ until all has moved.
  expect(go(2000)).toEqual([0, false, IDLE | AtaStatus.DataRequest]);
  expect(ide.cpu.ram.bytes(BUFFER, 2002)).toEqual(Uint8Array.of(...ide.device.bytes.slice(0, 2000), 0, 0));
  // It listens to nothing but DEVICE RESET meanwhile.
  ide.write(AtaRegister.Command, 0xa1);
  expect(ide.altStatus).toBe(IDLE | AtaStatus.DataRequest);
  expect(go(1000)).toEqual([0, false, IDLE | AtaStatus.DataRequest]);
  expect(go(3000)).toEqual([BmStatus.Interrupt, true, IDLE]);
  expect(ide.cpu.ram.bytes(BUFFER, 3000)).toEqual(ide.device.bytes.slice(3000, 6000));
  expect(reason(ide)).toBe(3);
  packet(ide, [2, 100], 0, true);
  expect(go(60)).toEqual([BmStatus.Interrupt, false, IDLE | AtaStatus.DataRequest]);
  expect(ide.device.taken.length).toBe(60);
  ide.write(AtaRegister.Command, 0x08);
  expect([ide.altStatus, go(40), ide.device.taken.length]).toEqual([0, [BmStatus.Interrupt | 1, false, 0], 60]);
});

test("a check condition in the middle of the data ends it, by PIO and by DMA", () => {
  const ide = bench();
  packet(ide, [1, 0xff, 0xff], 40000);
  expect(blocks(ide).sizes).toEqual([40000]);
  expect([ide.status, ide.error]).toEqual([0x41, 0x30]);
  ide.prds(TABLE, [[0x100000, Prd.EndOfTable]]);
  ide.write(AtaRegister.BmTable, TABLE, 4);
  ide.write(AtaRegister.BmCommand, BmCommand.Start | BmCommand.ToMemory);
  packet(ide, [1, 0xff, 0xff], 0, true);
  expect([ide.status, ide.error, ide.read(AtaRegister.BmStatus)]).toEqual([0x41, 0x30, BmStatus.Interrupt]);
});

test("signature: after power-on, and in answer to what is for disks", () => {
  const ide = bench();
  const signature = () =>
    [AtaRegister.Count, AtaRegister.LbaLow, AtaRegister.LbaMid, AtaRegister.LbaHigh].map((r) => ide.read(r));
  expect([ide.altStatus, ide.error, ...signature()]).toEqual([0, 1, 1, 1, 0x14, 0xeb]);
  for (const code of [0xec, 0x20]) {
    for (const register of [2, 3, 4, 5]) ide.write(register as AtaRegister, 0x55);
    ide.write(AtaRegister.Command, code);
    expect([ide.status, ide.error, ...signature()]).toEqual([0x41, AtaError.Abort, 1, 1, 0x14, 0xeb]);
  }
  ide.write(AtaRegister.Command, 0xa1);
  expect(ide.drain().subarray(0, 2)).toEqual(Uint8Array.of(0xc0, 0x85));
});

test("DEVICE RESET is heard while busy, raises nothing and leaves the other device alone", async () => {
  const ide = bench(1);
  packet(ide, [4]);
  expect(ide.altStatus & AtaStatus.Busy).toBe(AtaStatus.Busy);
  ide.write(AtaRegister.Command, 0x08);
  expect(ide.device.resets).toEqual(["power", "abort"]);
  expect(ide.altStatus & AtaStatus.Busy).toBe(AtaStatus.Busy);
  ide.device.go({ kind: "in", length: 8 });
  await Promise.resolve();
  await Promise.resolve();
  expect([ide.irq, ide.altStatus, ide.error, byteCount(ide)]).toEqual([false, 0, 1, 0xeb14]);
  expect(ide.read(AtaRegister.Device) & 0x10).toBe(0x10);
  packet(ide, [1, 100]);
  ide.write(AtaRegister.Command, 0x08);
  expect([ide.irq, ide.altStatus]).toEqual([false, 0]);
  ide.write(AtaRegister.Device, 0xa0);
  expect(ide.altStatus).toBe(IDLE);
  // A disk has no such command.
  ide.write(AtaRegister.Command, 0x08);
  expect([ide.status, ide.error]).toEqual([0x41, AtaError.Abort]);
});

test("SRST in the middle of a packet, and of its data", () => {
  for (const words of [0, 3]) {
    const ide = bench();
    if (words === 0) packet(ide, [1, 100]);
    else {
      ide.write(AtaRegister.Command, 0xa0);
      for (let i = 0; i < words; i++) ide.write(AtaRegister.Data, 1, 2);
    }
    ide.write(AtaRegister.Control, AtaControl.SoftwareReset);
    expect(ide.altStatus).toBe(AtaStatus.Busy);
    ide.write(AtaRegister.Control, 0);
    expect([ide.irq, ide.altStatus, byteCount(ide)]).toEqual([false, 0, 0xeb14]);
    expect(ide.device.resets).toEqual(["power", "soft"]);
    packet(ide, [0]);
    expect(ide.status).toBe(IDLE);
  }
});
