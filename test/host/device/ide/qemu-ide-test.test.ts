// The cases of QEMU's tests/qtest/ide-test.c that need no packet device, re-expressed on our ports and named after them.
// Expected values are theirs. The trim and cdrom cases come with those commands.
import { expect, test } from "vitest";
import {
  AtaCommand,
  AtaDevice,
  AtaRegister,
  AtaStatus,
  BmCommand,
  BmStatus,
  Prd,
} from "../../../../assembly/spec/ata.ts";
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
  const fromDevice = command === AtaCommand.ReadDma;
  ide.setBusMaster(!options.noBusMaster);
  ide.write(AtaRegister.Device, AtaDevice.Lba);
  ide.write(AtaRegister.BmCommand, 0);
  ide.write(AtaRegister.BmStatus, BmStatus.Interrupt);
  ide.prds(TABLE, prds);
  ide.write(AtaRegister.BmTable, TABLE, 4);
  ide.write(AtaRegister.Count, sectors & 0xff);
  ide.write(AtaRegister.LbaLow, sector & 0xff);
  ide.write(AtaRegister.LbaMid, (sector >> 8) & 0xff);
  ide.write(AtaRegister.LbaHigh, (sector >> 16) & 0xff);
  ide.write(AtaRegister.Command, command);
  ide.write(AtaRegister.BmCommand, BmCommand.Start | (fromDevice ? BmCommand.ToMemory : 0));
  if (options.abort) ide.write(AtaRegister.BmCommand, 0);
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
  expect(ide.read(AtaRegister.Device) & AtaDevice.Second).toBe(0);
  const done = ide.status;
  expect(done & Ready).toBe(Ready);
  expect(done & (Busy | DeviceFault | Err | DataRequest)).toBe(0);
});

test("/ide/flush/nodev", () => {
  const ide = new IdeBench([]);
  ide.write(AtaRegister.Device, 0);
  ide.write(AtaRegister.Command, AtaCommand.FlushCache);
  expect(ide.status).toBe(0);
  expect(ide.irq).toBe(false);
});
