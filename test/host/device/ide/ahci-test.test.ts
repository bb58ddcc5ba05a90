// The cases of QEMU's tests/qtest/ahci-test.c that are about the drive and not about the host adapter, re-expressed on our
// ports and named after them. Left out is what IDE has no place for: the host adapter's own (/ahci/sanity, /ahci/pci_spec,
// /ahci/pci_enable, /ahci/hba_spec, /ahci/hba_enable) and NCQ (/ahci/io/ncq/simple, /ahci/io/ncq/retry,
// /ahci/migrate/ncq/simple, /ahci/migrate/ncq/halted).
import { describe, expect, test } from "vitest";
import { AtaRegister, AtaStatus, BmCommand, BmStatus } from "../../../../assembly/spec/ata.ts";
import { PacketOp } from "../../../../assembly/spec/mmc.ts";
import { Op, Status } from "../../../../src/core/block.ts";
import type { IdeState } from "../../../../src/host/device/ide/save.ts";
import { cdFromBlock } from "../../../../src/host/media/image.ts";
import { be, CdBench, cdb } from "../../../support/cd.ts";
import { sectors } from "../../../support/disc.ts";
import { FakeBlock } from "../../../support/fake-block.ts";
import { IdeBench, pattern } from "../../../support/ide.ts";
import { SparseBlock } from "../../../support/sparse-block.ts";

/** TEST_IMAGE_SIZE_MB_LARGE: 200 GiB. */
const SECTORS = 200 * 2 ** 21;
const IDLE = AtaStatus.Ready | AtaStatus.SeekComplete;
const TABLE = 0x80000;
const BUFFER = 0x100000;

function bench(block = new SparseBlock(SECTORS * 512), stop = false) {
  const onError = stop ? ({ read: "stop", write: "stop" } as const) : undefined;
  return Object.assign(new IdeBench([[onError ? { block, onError } : block]]), { block });
}
type Bench = ReturnType<typeof bench>;

/** The same disk under a controller that goes on where the other was. */
function migrate(from: Bench, stop = false): Bench {
  const state = JSON.parse(JSON.stringify(from.controller.save())) as IdeState;
  const to = bench(from.block, stop);
  to.cpu.ram.bytes(0, 2 << 20).set(from.cpu.ram.bytes(0, 2 << 20));
  to.controller.restore(state);
  return to;
}

const COMMANDS = {
  pio: { lba28: [0x20, 0x30], lba48: [0x24, 0x34] },
  dma: { lba28: [0xc8, 0xca], lba48: [0x25, 0x35] },
} as const;
type Mode = keyof typeof COMMANDS;
type Address = "lba28" | "lba48";

/** Programs the bus master with `bytes` at BUFFER in regions of `piece`. */
function master(ide: IdeBench, bytes: number, piece = 65536): void {
  const regions: [number, number][] = [];
  for (let at = 0; at < bytes; at += piece) regions.push([BUFFER + at, Math.min(piece, bytes - at) & 0xffff]);
  regions[regions.length - 1][1] += 0x80000000;
  ide.prds(TABLE, regions);
  ide.write(AtaRegister.BmCommand, 0);
  ide.write(AtaRegister.BmStatus, 6);
  ide.write(AtaRegister.BmTable, TABLE, 4);
}

function command(ide: IdeBench, code: number, address: Address, lba: number, count: number): void {
  if (address === "lba28") ide.command28(code, lba, count);
  else ide.command48(code, lba, count);
}

/** Has the DMA command ended well? */
function ended(ide: IdeBench): void {
  expect(ide.read(AtaRegister.BmStatus) & 7).toBe(BmStatus.Interrupt);
  expect([ide.irq, ide.status, ide.error]).toEqual([true, IDLE, 0]);
}

function write(ide: IdeBench, mode: Mode, address: Address, lba: number, bytes: Uint8Array, piece?: number): void {
  const code = COMMANDS[mode][address][1];
  if (mode === "pio") {
    command(ide, code, address, lba, bytes.length / 512);
    ide.feed(bytes);
    expect([ide.status, ide.error]).toEqual([IDLE, 0]);
    return;
  }
  ide.cpu.ram.bytes(BUFFER, bytes.length).set(bytes);
  master(ide, bytes.length, piece);
  command(ide, code, address, lba, bytes.length / 512);
  ide.write(AtaRegister.BmCommand, BmCommand.Start);
  ended(ide);
}

function read(ide: IdeBench, mode: Mode, address: Address, lba: number, length: number, piece?: number): Uint8Array {
  const code = COMMANDS[mode][address][0];
  if (mode === "pio") {
    command(ide, code, address, lba, length / 512);
    const bytes = ide.drain();
    expect([ide.status, ide.error]).toEqual([IDLE, 0]);
    return bytes;
  }
  ide.cpu.ram.bytes(BUFFER, length).fill(0);
  master(ide, length, piece);
  command(ide, code, address, lba, length / 512);
  ide.write(AtaRegister.BmCommand, BmCommand.Start | BmCommand.ToMemory);
  ended(ide);
  return ide.cpu.ram.bytes(BUFFER, length).slice();
}

function same(got: Uint8Array, want: Uint8Array): void {
  expect(Buffer.compare(got, want)).toBe(0);
}

function identify(ide: IdeBench): Uint8Array {
  ide.write(AtaRegister.Device, 0xa0);
  ide.write(AtaRegister.Command, 0xec);
  expect(ide.irq).toBe(true);
  return ide.drain();
}

test("/ahci/identify", () => {
  const words = new DataView(identify(bench()).buffer);
  expect(words.getUint16(0, true) & 0x8000).toBe(0);
  expect(words.getUint32(200, true)).toBe(SECTORS);
});

/** A 28-bit command moves 256 sectors at most; the host adapter's FIS has room for more, our ports for more commands. */
const MOST = { lba28: 256 * 512, lba48: 65536 * 512 };
const LENGTHS = { simple: 4096, double: 8192, long: 4096 * 64, short: 512 };
for (const mode of ["pio", "dma"] as const) {
  for (const address of ["lba28", "lba48"] as const) {
    for (const [name, length] of Object.entries(LENGTHS)) {
      const highest = Math.min(address === "lba28" ? 2 ** 28 - 1 : 2 ** 48 - 1, SECTORS - 1);
      const offsets = { zero: 0, low: 1, high: highest - length / 512 + 1 };
      for (const [offset, lba] of Object.entries(offsets)) {
        test(`/ahci/io/${mode}/${address}/${name}/${offset}`, () => {
          const ide = bench();
          const content = pattern(length, lba & 0xff);
          const parts: [lba: number, bytes: Uint8Array][] = [];
          for (let at = 0; at < length; at += MOST[address]) {
            parts.push([lba + at / 512, content.subarray(at, at + MOST[address])]);
          }
          for (const [at, bytes] of parts) write(ide, mode, address, at, bytes);
          same(ide.block.peek(lba * 512, length), content);
          for (const [at, bytes] of parts) same(read(ide, mode, address, at, bytes.length), bytes);
        });
      }
    }
  }
}

test("/ahci/io/dma/lba28/fragmented", () => {
  const ide = bench();
  const content = pattern(4096, 7);
  write(ide, "dma", "lba28", 0, content, 32);
  same(read(ide, "dma", "lba28", 0, 4096, 32), content);
});

test("/ahci/io/dma/lba28/retry", () => {
  const ide = bench(undefined, true);
  const content = pattern(4096, 7);
  ide.block.faults.push({ op: Op.Write, status: Status.Io });
  ide.cpu.ram.bytes(BUFFER, 4096).set(content);
  master(ide, 4096);
  ide.command28(0xca, 0, 8);
  ide.write(AtaRegister.BmCommand, BmCommand.Start);
  expect([ide.irq, ide.controller.stopped]).toEqual([false, true]);
  ide.controller.resume();
  ended(ide);
  same(read(ide, "dma", "lba28", 0, 4096), content);
});

describe("flush", () => {
  const flush = (ide: IdeBench) => ide.write(AtaRegister.Command, 0xe7);

  test("/ahci/flush/simple", () => {
    const ide = bench();
    write(ide, "dma", "lba28", 1, pattern(512, 1));
    flush(ide);
    expect([ide.irq, ide.status]).toEqual([true, IDLE]);
    expect(ide.block.log.at(-1)?.op).toBe(Op.Flush);
  });

  test("/ahci/flush/retry", () => {
    const ide = bench(undefined, true);
    write(ide, "dma", "lba28", 1, pattern(512, 1));
    ide.block.faults.push({ op: Op.Flush, status: Status.Io });
    flush(ide);
    expect([ide.irq, ide.controller.stopped]).toEqual([false, true]);
    ide.controller.resume();
    expect([ide.irq, ide.status]).toEqual([true, IDLE]);
  });

  test("/ahci/flush/migrate", () => {
    const ide = bench(undefined, true);
    write(ide, "dma", "lba28", 1, pattern(512, 1));
    ide.block.faults.push({ op: Op.Flush, status: Status.Io });
    flush(ide);
    expect(ide.controller.stopped).toBe(true);
    const other = migrate(ide, true);
    other.controller.resume();
    expect([other.irq, other.status]).toEqual([true, IDLE]);
    expect(other.block.log.at(-1)?.op).toBe(Op.Flush);
  });
});

test("/ahci/migrate/sanity", () => {
  const ide = bench();
  const before = identify(ide);
  same(identify(migrate(ide)), before);
});

test("/ahci/migrate/dma/simple", () => {
  const ide = bench();
  const content = pattern(4096, 9);
  write(ide, "dma", "lba28", 0, content);
  same(read(migrate(ide), "dma", "lba28", 0, 4096), content);
});

test("/ahci/migrate/dma/halted", () => {
  const ide = bench(undefined, true);
  const content = pattern(4096, 9);
  ide.block.faults.push({ op: Op.Write, status: Status.Io });
  ide.cpu.ram.bytes(BUFFER, 4096).set(content);
  master(ide, 4096);
  ide.command28(0xca, 0, 8);
  ide.write(AtaRegister.BmCommand, BmCommand.Start);
  expect(ide.controller.stopped).toBe(true);
  const other = migrate(ide, true);
  other.controller.resume();
  ended(other);
  same(read(other, "dma", "lba28", 0, 4096), content);
});

test("/ahci/max", () => {
  const ide = bench();
  ide.write(AtaRegister.Device, 0xe0);
  ide.write(AtaRegister.Command, 0x27);
  expect([ide.irq, ide.status]).toEqual([true, IDLE]);
  expect(ide.lba48).toBe(SECTORS - 1);
});

test("/ahci/reset/simple", () => {
  const ide = bench();
  const first = identify(ide);
  for (let i = 0; i < 2; i++) {
    same(identify(ide), first);
    const content = pattern(4096, i);
    write(ide, "dma", "lba48", 0, content);
    same(read(ide, "dma", "lba48", 0, 4096), content);
    ide.machine.reset();
    ide.setBusMaster(true);
  }
});

test("/ahci/reset/pending_callback", async () => {
  const ide = bench();
  const [first, second] = [pattern(4096, 1), pattern(4096, 2)];
  write(ide, "dma", "lba48", 0, first);
  ide.cpu.ram.bytes(BUFFER, 4096).set(second);
  master(ide, 4096);
  ide.block.held = true;
  ide.command48(0x35, 8, 8);
  ide.write(AtaRegister.BmCommand, BmCommand.Start);
  expect(ide.block.waiting).toBe(1);
  ide.machine.reset();
  await ide.block.release();
  ide.block.held = false;
  ide.setBusMaster(true);
  same(read(ide, "dma", "lba48", 0, 4096), first);
  same(read(ide, "dma", "lba48", 8, 4096), second);
});

describe("CD", () => {
  /** One sector more than is read. */
  function drive(count: number) {
    const block = new FakeBlock((count + 1) * 2048);
    block.bytes.set(sectors(count + 1, 2048));
    return Object.assign(new CdBench([[{ cd: cdFromBlock(block) }]]), { want: block.bytes.slice(0, count * 2048) });
  }
  const read10 = (count: number) => cdb(PacketOp.Read10, 0, ...be(0, 4), 0, ...be(count, 2));

  test.each([
    ["/ahci/cdrom/dma/single", true, 1],
    ["/ahci/cdrom/dma/multi", true, 3],
    ["/ahci/cdrom/pio/single", false, 1],
    ["/ahci/cdrom/pio/multi", false, 3],
  ] as const)("%s", (_name, dma, count) => {
    const ide = drive(count);
    same(dma ? ide.dma(read10(count), count * 2048) : ide.pio(read10(count), 2048).bytes, ide.want);
    expect(ide.last.status).toBe(IDLE);
  });

  /** What stops and starts there is the command engine of the host adapter, here the bus master. */
  test.each([
    ["/ahci/cdrom/engine_restart/pio", "pio"],
    ["/ahci/cdrom/engine_restart/dma", "dma"],
  ])("%s", async (_name, mode) => {
    const block = new SparseBlock(2 * 2048);
    block.poke(0, sectors(2, 2048));
    const ide = new CdBench([[{ cd: cdFromBlock(block) }]]);
    ide.pio(cdb(PacketOp.RequestSense, 0, 0, 0, 18));
    master(ide, 2048);
    block.held = true;
    ide.packet(read10(1), mode === "dma" ? 1 : 0, 2048);
    const start = BmCommand.Start | BmCommand.ToMemory;
    for (const value of [start, 0, start]) ide.write(AtaRegister.BmCommand, value);
    expect([block.waiting, ide.altStatus & AtaStatus.Error, ide.irq]).toEqual([1, 0, false]);
    await block.release();
    expect(ide.irq).toBe(true);
    same(mode === "dma" ? ide.cpu.ram.bytes(BUFFER, 2048) : ide.drain(), block.peek(0, 2048));
    expect(ide.status).toBe(IDLE);
    block.held = false;
    same(ide.pio(read10(1), 2048).bytes, block.peek(0, 2048));
  });

  test("/ahci/cdrom/pio/bcl", () => {
    const ide = drive(0);
    const { bytes } = ide.pio(cdb(PacketOp.ReadCd, 0, 0, 0, 0, 0, 0, 0, 0, 0x10), 0);
    expect([bytes.length, ide.last.status]).toEqual([0, IDLE]);
  });

  test("/ahci/cdrom/eject", () => {
    const moved: boolean[] = [];
    const block = new FakeBlock(2048);
    const ide = new CdBench([[{ cd: cdFromBlock(block), onTray: (open) => moved.push(open) }]]);
    const tray = ide.controller.tray(0, 0);
    const run = (...bytes: number[]) => ide.pio(cdb(...bytes)).bytes;
    const sense = () => [...run(PacketOp.RequestSense, 0, 0, 0, 18)].filter((_byte, i) => i === 2 || i === 12);
    const eject = () => run(PacketOp.StartStopUnit, 0, 0, 0, 2);
    const load = () => run(PacketOp.StartStopUnit, 0, 0, 0, 3);
    const unready = (key: number, code: number) => {
      run(PacketOp.TestUnitReady);
      expect([ide.last.status & AtaStatus.Error, ide.last.error >> 4]).toEqual([AtaStatus.Error, key]);
      expect(sense()).toEqual([key, code]);
    };
    eject();
    load();
    expect(moved).toEqual([true, false]);
    const disc = tray.eject({ force: true });
    load();
    eject();
    expect(moved).toEqual([true, false, true, false, true]);
    tray.insert(disc as NonNullable<typeof disc>);
    // Now, to convince the guest that the medium has changed.
    unready(2, 0x3a);
    unready(6, 0x28);
    run(PacketOp.TestUnitReady);
    expect(ide.last.status).toBe(IDLE);
    expect(sense()).toEqual([0, 0]);
    eject();
    load();
    expect(moved.slice(-2)).toEqual([true, false]);
  });
});
