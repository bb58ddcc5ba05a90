// The fifteen cases of QEMU's tests/qtest/ide-test.c, re-expressed on our ports and named after them. Expected values are
// theirs; where the specification has it otherwise (docs/ide-conformance.md) the case says so.
import { expect, test } from "vitest";
import {
  AtaCommand,
  AtaControl,
  AtaDevice,
  AtaError,
  AtaRegister,
  AtaStatus,
  BmCommand,
  BmStatus,
  Prd,
} from "../../../../assembly/spec/ata.ts";
import { Op, Status } from "../../../../src/core/block.ts";
import { cdFromBlock } from "../../../../src/host/media/image.ts";
import { IdeBench, pattern } from "../../../support/ide.ts";
import { SparseBlock } from "../../../support/sparse-block.ts";

const TEST_IMAGE_SIZE = 64 << 20;
const {
  Busy,
  DataRequest,
  DeviceFault,
  Error: Err,
  Ready,
} = {
  Busy: AtaStatus.Busy,
  DataRequest: AtaStatus.DataRequest,
  DeviceFault: AtaStatus.DeviceFault,
  Error: AtaStatus.Error,
  Ready: AtaStatus.Ready,
};
/** Where the PRD table and the data stand. */
const TABLE = 0x200000;
const BUFFER = 0x300000;

function bench(block = new SparseBlock(TEST_IMAGE_SIZE)) {
  return Object.assign(new IdeBench([[{ block, serial: "testdisk", firmware: "version" }]]), { block });
}

interface DmaOptions {
  abort?: boolean;
  noBusMaster?: boolean;
  /** Between the command and the start of the bus master: the packet. */
  packet?: () => void;
  /** After the start: nothing is waited for, the status is not looked at. */
  flying?: boolean;
}

/** send_dma_request of ide-test.c: the bus master's status at the end. */
function sendDma(
  ide: IdeBench,
  command: number,
  sector: number,
  sectors: number,
  prds: readonly (readonly [number, number])[],
  options: DmaOptions = {},
): number {
  const fromDevice = command === AtaCommand.ReadDma || command === AtaCommand.Packet;
  ide.setBusMaster(!options.noBusMaster);
  ide.write(AtaRegister.Device, AtaDevice.Lba);
  ide.write(AtaRegister.BmCommand, 0);
  ide.write(AtaRegister.BmStatus, BmStatus.Interrupt);
  ide.prds(TABLE, prds);
  ide.write(AtaRegister.BmTable, TABLE, 4);
  // TRIM, and data of a packet by DMA.
  if (command === AtaCommand.DataSetManagement || command === AtaCommand.Packet) ide.write(AtaRegister.Features, 1);
  if (command !== AtaCommand.Packet) {
    // A 48-bit count is written twice; QEMU's TRIM looks at its low byte alone.
    if (command === AtaCommand.DataSetManagement) ide.write(AtaRegister.Count, 0);
    ide.write(AtaRegister.Count, sectors & 0xff);
    ide.write(AtaRegister.LbaLow, sector & 0xff);
    ide.write(AtaRegister.LbaMid, (sector >> 8) & 0xff);
    ide.write(AtaRegister.LbaHigh, (sector >> 16) & 0xff);
  }
  ide.write(AtaRegister.Command, command);
  options.packet?.();
  ide.write(AtaRegister.BmCommand, BmCommand.Start | (fromDevice ? BmCommand.ToMemory : 0));
  if (options.abort) ide.write(AtaRegister.BmCommand, 0);
  if (options.flying) return 0;
  const status = ide.read(AtaRegister.BmStatus);
  // Nothing is asynchronous here: the transfer has ended, one way or another.
  expect((status & (BmStatus.Active | BmStatus.Interrupt)) === BmStatus.Active).toBe(false);
  expect(ide.irq).toBe((status & BmStatus.Interrupt) !== 0);
  const ata = ide.status;
  expect(ata & Ready).toBe(Ready);
  expect(ata & (Busy | DataRequest)).toBe(0);
  expect(ide.irq).toBe(false);
  if (status & BmStatus.Active) ide.write(AtaRegister.BmCommand, 0);
  return status;
}

test("/ide/identify", () => {
  const ide = bench();
  ide.write(AtaRegister.Device, 0);
  ide.write(AtaRegister.Command, AtaCommand.Identify);
  expect(ide.read(AtaRegister.Device) & AtaDevice.Second).toBe(0);
  const words: number[] = [];
  for (let i = 0; i < 256; i++) {
    const status = ide.status;
    expect(status & (Ready | DataRequest)).toBe(Ready | DataRequest);
    expect(status & (Busy | DeviceFault | Err)).toBe(0);
    words.push(ide.read(AtaRegister.Data, 2));
  }
  const status = ide.status;
  expect(status & Ready).toBe(Ready);
  expect(status & (Busy | DeviceFault | Err | DataRequest)).toBe(0);
  const text = (from: number, length: number) =>
    String.fromCharCode(...words.slice(from, from + length / 2).flatMap((word) => [word >> 8, word & 0xff]));
  expect(text(10, 20)).toBe("testdisk            ");
  expect(text(23, 8)).toBe("version ");
  expect(words[85] & 0x20).toBe(0x20);
});

test("/ide/diagnostic", () => {
  const ide = new IdeBench([[new SparseBlock(TEST_IMAGE_SIZE), new SparseBlock(TEST_IMAGE_SIZE)]]);
  ide.write(AtaRegister.Device, AtaDevice.Second);
  expect(ide.read(AtaRegister.Device) & AtaDevice.Second).toBe(AtaDevice.Second);
  ide.write(AtaRegister.Command, AtaCommand.ExecuteDiagnostic);
  expect(ide.read(AtaRegister.Device) & AtaDevice.Second).toBe(0);
  expect(ide.error).toBe(1);
  expect(ide.irq).toBe(true);
});

test("/ide/read_native", () => {
  const ide = bench();
  // Zero sectors a track and one head, which no drive can translate to.
  ide.write(AtaRegister.Count, 0);
  ide.write(AtaRegister.Device, 0);
  ide.write(AtaRegister.Command, AtaCommand.InitializeParameters);
  ide.write(AtaRegister.Device, AtaDevice.Obsolete);
  ide.write(AtaRegister.Command, AtaCommand.ReadNativeMax);
  expect((ide.read(AtaRegister.Device) & 0x0f) + 1).toBe(16);
  expect((ide.read(AtaRegister.LbaHigh) << 8) + ide.read(AtaRegister.LbaMid) + 1).toBe(130);
  expect(ide.read(AtaRegister.LbaLow)).toBe(63);
});

test("/ide/bmdma/simple_rw", () => {
  const ide = bench();
  const one = [[BUFFER, Prd.EndOfTable | 512]] as const;
  const write = (sector: number, value: number) => {
    ide.cpu.ram.bytes(BUFFER, 512).fill(value);
    expect(sendDma(ide, AtaCommand.WriteDma, sector, 1, one)).toBe(BmStatus.Interrupt);
    expect(ide.status & (DeviceFault | Err)).toBe(0);
  };
  const verify = (sector: number, value: number) => {
    ide.cpu.ram.bytes(BUFFER, 512).fill(0);
    expect(sendDma(ide, AtaCommand.ReadDma, sector, 1, one)).toBe(BmStatus.Interrupt);
    expect(ide.status & (DeviceFault | Err)).toBe(0);
    expect(ide.cpu.ram.bytes(BUFFER, 512)).toEqual(new Uint8Array(512).fill(value));
  };
  write(0, 0x55);
  write(1, 0xaa);
  verify(0, 0x55);
  verify(1, 0xaa);
});

/** trim_range_le: six bytes of address, two of length. */
function trimRanges(ide: IdeBench, ...ranges: [sector: number, count: number][]): void {
  ide.cpu.ram.bytes(BUFFER, 512).fill(0);
  ranges.forEach(([sector, count], i) => {
    ide.cpu.ram.write32(BUFFER + i * 8, sector);
    ide.cpu.ram.write32(BUFFER + i * 8 + 4, count << 16);
  });
}

test("/ide/bmdma/trim", () => {
  const ide = bench();
  const one = [[BUFFER, Prd.EndOfTable | 512]] as const;
  trimRanges(ide, [0, 2], [6, 8]);
  expect(sendDma(ide, AtaCommand.DataSetManagement, 0, 1, one)).toBe(BmStatus.Interrupt);
  expect(ide.status & (DeviceFault | Err)).toBe(0);
  expect(ide.block.log).toEqual([
    { op: Op.Discard, offset: 0, length: 2 * 512 },
    { op: Op.Discard, offset: 6 * 512, length: 8 * 512 },
  ]);
  trimRanges(ide, [10, 1], [TEST_IMAGE_SIZE / 512 - 1, 2]);
  expect(sendDma(ide, AtaCommand.DataSetManagement, 0, 1, one)).toBe(BmStatus.Interrupt);
  expect(ide.status & Err).toBe(Err);
  // By cause: QEMU has ABRT for every error of a disk, VirtualBox IDNF for this one.
  expect(ide.error).toBe(AtaError.IdNotFound);
  // All or nothing: the range before the bad one has not been discarded either.
  expect(ide.block.log).toHaveLength(2);
});

test("/ide/bmdma/trim_reset", async () => {
  const ide = bench();
  ide.block.held = true;
  trimRanges(ide, [0, 2], [6, 8]);
  sendDma(ide, AtaCommand.DataSetManagement, 0, 1, [[BUFFER, Prd.EndOfTable | 512]], { flying: true });
  expect([ide.block.waiting, ide.read(AtaRegister.BmStatus)]).toEqual([1, BmStatus.Active]);
  ide.write(AtaRegister.Control, AtaControl.SoftwareReset);
  await ide.block.release();
  expect(ide.read(AtaRegister.BmStatus)).toBe(BmStatus.Interrupt);
  // §9.2: a drive is busy as long as SRST is set, and its reset raises no interrupt; QEMU's is ready, and has raised one.
  ide.write(AtaRegister.Control, 0);
  expect(ide.irq).toBe(false);
  const status = ide.status;
  expect(status & Ready).toBe(Ready);
  expect(status & (Busy | DataRequest | DeviceFault | Err)).toBe(0);
});

test("/ide/bmdma/various_prdts: 4,608 transfers", () => {
  const ide = bench();
  ide.block.poke(0, pattern(256 * 512, 3));
  let transfers = 0;
  for (let sectors = 1; sectors <= 256; sectors *= 2) {
    for (let size = 0; size < 65536; size += 256) {
      const need = sectors * 512;
      const bytes = (size & 0xfffe) === 0 ? 65536 : size & 0xfffe;
      const expected = bytes < need ? 0 : bytes === need ? BmStatus.Interrupt : BmStatus.Active | BmStatus.Interrupt;
      for (const abort of [false, true]) {
        const status = sendDma(ide, AtaCommand.ReadDma, 0, sectors, [[0, Prd.EndOfTable | size]], { abort });
        const wanted = abort && expected !== 0 ? BmStatus.Interrupt : expected;
        if (status !== wanted)
          expect({ sectors, size, abort, status }).toEqual({ sectors, size, abort, status: wanted });
        expect(ide.status & (DeviceFault | Err)).toBe(0);
        transfers++;
      }
    }
  }
  expect(transfers).toBe(4608);
});

test("/ide/bmdma/no_busmaster", () => {
  const ide = bench();
  const before = ide.cpu.ram.bytes(0, 0x200000).slice();
  const garbage = Array.from({ length: 4096 }, () => [0, 0] as const);
  const status = sendDma(ide, AtaCommand.ReadDma, 0, 512, garbage, { noBusMaster: true });
  expect(status).toBe(BmStatus.Active | BmStatus.Interrupt);
  expect(ide.status & (DeviceFault | Err)).toBe(0);
  expect(Buffer.compare(ide.cpu.ram.bytes(0, 0x200000), before)).toBe(0);
});

test("/ide/flush", async () => {
  const ide = bench();
  ide.block.held = true;
  ide.write(AtaRegister.Device, 0);
  ide.write(AtaRegister.Command, AtaCommand.FlushCache);
  const busy = ide.status;
  expect(busy & (Busy | Ready)).toBe(Busy | Ready);
  expect(busy & (DeviceFault | Err | DataRequest)).toBe(0);
  expect(ide.irq).toBe(false);
  await ide.block.release();
  expect(ide.irq).toBe(true);
  flushed(ide);
});

test("/ide/flush/nodev", () => {
  const ide = new IdeBench([]);
  ide.write(AtaRegister.Device, 0);
  ide.write(AtaRegister.Command, AtaCommand.FlushCache);
  expect(ide.status).toBe(0);
  expect(ide.irq).toBe(false);
});

/** The registers of a flush that has ended well. */
function flushed(ide: IdeBench): void {
  expect(ide.read(AtaRegister.Device) & AtaDevice.Second).toBe(0);
  const done = ide.status;
  expect(done & Ready).toBe(Ready);
  expect(done & (Busy | DeviceFault | Err | DataRequest)).toBe(0);
}

test("/ide/flush/empty_drive", () => {
  const ide = new IdeBench([[{ cd: null }]]);
  ide.write(AtaRegister.Device, 0);
  ide.write(AtaRegister.Command, AtaCommand.FlushCache);
  expect(ide.status & (Busy | DataRequest)).toBe(0);
  // And it goes on answering.
  ide.write(AtaRegister.Command, AtaCommand.IdentifyPacket);
  expect(ide.drain()).toHaveLength(512);
});

test("/ide/flush/retry_pci", () => {
  const block = new SparseBlock(TEST_IMAGE_SIZE);
  const ide = new IdeBench([[{ block, onError: { read: "stop", write: "stop" } }]]);
  ide.cpu.ram.bytes(BUFFER, 512).fill(0x77);
  expect(sendDma(ide, AtaCommand.WriteDma, 1, 1, [[BUFFER, Prd.EndOfTable | 512]])).toBe(BmStatus.Interrupt);
  block.faults.push({ op: Op.Flush, status: Status.Io });
  ide.write(AtaRegister.Device, 0);
  ide.write(AtaRegister.Command, AtaCommand.FlushCache);
  const busy = ide.status;
  expect(busy & (Busy | Ready)).toBe(Busy | Ready);
  expect(busy & (DeviceFault | Err | DataRequest)).toBe(0);
  expect([ide.controller.stopped, ide.irq]).toEqual([true, false]);
  ide.controller.resume();
  expect(ide.irq).toBe(true);
  flushed(ide);
});

const ATAPI_BLOCK_SIZE = 2048;
/** Bytes to receive at a time. */
const BYTE_COUNT_LIMIT = 5120;

function cdrom(blocks: number) {
  const image = new SparseBlock(Math.max(16, blocks) * ATAPI_BLOCK_SIZE);
  image.poke(0, pattern(image.size, 9));
  const ide = new IdeBench([[{ cd: cdFromBlock(image) }]]);
  return Object.assign(ide, { image });
}

/** send_scsi_cdb_read10, from block 0. */
function sendRead10(ide: IdeBench, blocks: number): void {
  const packet = [0x28, 0, 0, 0, 0, 0, 0, blocks >> 8, blocks & 0xff, 0, 0, 0];
  for (let i = 0; i < 12; i += 2) ide.write(AtaRegister.Data, packet[i] | (packet[i + 1] << 8), 2);
}

/** cdrom_pio_impl: the states HP0 to HP4 of the PACKET protocol. */
function cdromPio(blocks: number): void {
  const ide = cdrom(blocks);
  const want = ide.image.peek(0, blocks * ATAPI_BLOCK_SIZE);
  ide.write(AtaRegister.Device, 0);
  ide.write(AtaRegister.Features, 0);
  ide.write(AtaRegister.LbaMid, BYTE_COUNT_LIMIT & 0xff);
  ide.write(AtaRegister.LbaHigh, BYTE_COUNT_LIMIT >> 8);
  ide.write(AtaRegister.Command, AtaCommand.Packet);
  const offered = () => {
    const status = ide.status;
    expect(status & (DataRequest | Ready)).toBe(DataRequest | Ready);
    expect(status & (Err | DeviceFault | Busy)).toBe(0);
  };
  offered();
  sendRead10(ide, blocks);
  const got = new Uint8Array(want.length);
  for (let at = 0; at < want.length; at += BYTE_COUNT_LIMIT) {
    expect(ide.irq).toBe(true);
    offered();
    for (let i = at; i < Math.min(at + BYTE_COUNT_LIMIT, want.length); i += 2) {
      const word = ide.read(AtaRegister.Data, 2);
      got.set([word & 0xff, word >> 8], i);
    }
  }
  expect(ide.irq).toBe(true);
  const status = ide.status;
  expect(status & Ready).toBe(Ready);
  expect(status & (DataRequest | Err | DeviceFault | Busy)).toBe(0);
  expect(Buffer.compare(got, want)).toBe(0);
}

test("/ide/cdrom/pio", () => cdromPio(1));

test("/ide/cdrom/pio_large", () => cdromPio((BYTE_COUNT_LIMIT * 4) / ATAPI_BLOCK_SIZE));

test("/ide/cdrom/dma", () => {
  const ide = cdrom(1);
  const one = [[BUFFER, Prd.EndOfTable | ATAPI_BLOCK_SIZE]] as const;
  expect(sendDma(ide, AtaCommand.Packet, 0, 1, one, { packet: () => sendRead10(ide, 1) })).toBe(BmStatus.Interrupt);
  expect(Buffer.compare(ide.cpu.ram.bytes(BUFFER, ATAPI_BLOCK_SIZE), ide.image.peek(0, ATAPI_BLOCK_SIZE))).toBe(0);
});
