// What VirtualBox's DevATA does that is its own, or that its comments say a guest depends on; each case is named after the
// behaviour. Where QEMU does otherwise and the specification is with it, so are we: those stand last.
import { describe, expect, test } from "vitest";
import {
  AtaCommand,
  AtaError,
  AtaRegister,
  AtaStatus,
  BmCommand,
  BmStatus,
  Prd,
} from "../../../../assembly/spec/ata.ts";
import { PacketOp } from "../../../../assembly/spec/mmc.ts";
import { Op, Status } from "../../../../src/core/block.ts";
import { cdFromBlock } from "../../../../src/host/media/image.ts";
import { ABORTED, AtaBench, FAILED, IDLE } from "../../../support/ata-disk.ts";
import { be, CdBench, cdb } from "../../../support/cd.ts";
import { cueDisc, sectors } from "../../../support/disc.ts";
import { IdeBench, pattern } from "../../../support/ide.ts";
import { SparseBlock } from "../../../support/sparse-block.ts";

const TABLE = 0x200000;
const BUFFER = 0x300000;
const COMMAND_BLOCK = [1, 2, 3, 4, 5, 6, 7, AtaRegister.AltStatus] as AtaRegister[];
const disk = () => new SparseBlock(1 << 20);
const registers = (ide: IdeBench) => COMMAND_BLOCK.map((register) => ide.read(register));

describe("the four ways of attaching", () => {
  test.each([0x7f, 0xff, 0x00] as const)("nothing: every register, and the data port, reads %i", (value) => {
    const ide = new IdeBench([[], [disk()]], { emptyChannel: value });
    expect(registers(ide)).toEqual(COMMAND_BLOCK.map(() => value));
    ide.write(AtaRegister.Device, 0xb0);
    ide.write(AtaRegister.Count, 0x55);
    ide.write(AtaRegister.Command, AtaCommand.ExecuteDiagnostic);
    expect([registers(ide), ide.irq]).toEqual([COMMAND_BLOCK.map(() => value), false]);
    expect([ide.read(AtaRegister.Data, 2), ide.read(AtaRegister.Data, 4)]).toEqual([value * 0x101, value * 0x1010101]);
    // The bus master is the adapter's own, and a state from another adapter does not change what this one's bus is.
    expect(ide.read(AtaRegister.BmCommand)).toBe(0);
    ide.controller.restore(new IdeBench([[], [disk()]]).controller.save());
    expect(ide.status).toBe(value);
  });

  test("both: writes reach both, each answers for itself", () => {
    const ide = new IdeBench([[disk(), disk()]]);
    ide.write(AtaRegister.Count, 0x12);
    ide.write(AtaRegister.Device, 0xb0);
    expect([ide.read(AtaRegister.Count), ide.status]).toEqual([0x12, IDLE]);
  });

  test("device 0 alone: writes to device 1 land in it, commands are not run, status reads 0", () => {
    const ide = new IdeBench([[disk()]]);
    ide.write(AtaRegister.Device, 0xb0);
    ide.write(AtaRegister.Count, 0x34);
    ide.write(AtaRegister.Command, AtaCommand.Identify);
    expect([ide.status, ide.altStatus, ide.irq]).toEqual([0, 0, false]);
    ide.write(AtaRegister.Device, 0xa0);
    expect([ide.read(AtaRegister.Count), ide.status]).toEqual([0x34, IDLE]);
  });

  test("a packet device 0 alone: for device 1 everything reads 0", () => {
    const ide = new IdeBench([[{ cd: null }]]);
    ide.write(AtaRegister.Device, 0xb0);
    expect(registers(ide)).toEqual(COMMAND_BLOCK.map(() => 0));
  });

  test("device 1 alone: it hears writes while device 0 is selected, and answers no reads", () => {
    const ide = new IdeBench([[null, disk()]]);
    ide.write(AtaRegister.Device, 0xa0);
    ide.write(AtaRegister.LbaLow, 0x56);
    expect(registers(ide)).toEqual(COMMAND_BLOCK.map(() => 0));
    ide.write(AtaRegister.Device, 0xb0);
    expect([ide.read(AtaRegister.LbaLow), ide.status]).toEqual([0x56, IDLE]);
  });
});

describe("interrupts", () => {
  test("the shared line is looked at again when a drive is selected, and when nIEN changes", () => {
    const ide = new IdeBench([[disk(), disk()]]);
    ide.command28(AtaCommand.ReadSectors, 0, 1);
    expect(ide.irq).toBe(true);
    ide.write(AtaRegister.Control, 2);
    expect(ide.irq).toBe(false);
    ide.write(AtaRegister.Control, 0);
    expect(ide.irq).toBe(true);
    ide.drain();
    ide.command28(AtaCommand.ReadVerify, 0, 1);
    ide.write(AtaRegister.Device, 0xf0);
    expect(ide.irq).toBe(false);
    ide.write(AtaRegister.Device, 0xe0);
    expect(ide.irq).toBe(true);
  });

  test("the bus master's Interrupt bit follows the line's rising edge, of PIO too", () => {
    const ide = new AtaBench();
    ide.write(AtaRegister.Command, AtaCommand.ReadVerify);
    expect(ide.read(AtaRegister.BmStatus) & BmStatus.Interrupt).toBe(BmStatus.Interrupt);
    ide.write(AtaRegister.BmStatus, BmStatus.Interrupt);
    expect([ide.irq, ide.read(AtaRegister.BmStatus) & BmStatus.Interrupt]).toEqual([true, 0]);
    // Down and up again with nIEN.
    ide.write(AtaRegister.Control, 2);
    ide.write(AtaRegister.Control, 0);
    expect(ide.read(AtaRegister.BmStatus) & BmStatus.Interrupt).toBe(BmStatus.Interrupt);
  });

  test("a PIO read has ended when its last word has been read, for Linux looks at once", () => {
    for (const width of [2, 4] as const) {
      const ide = new AtaBench();
      ide.command(AtaCommand.ReadSectors, { count: 2 });
      for (let at = 0; at < 1024; at += width) {
        expect(ide.altStatus & AtaStatus.DataRequest).toBe(AtaStatus.DataRequest);
        ide.read(AtaRegister.Data, width);
      }
      expect(ide.altStatus).toBe(IDLE);
    }
  });

  test("DEVICE RESET is heard by a busy packet device: signature, status 00h, no interrupt", async () => {
    const image = new SparseBlock(4 * 2048);
    const ide = new CdBench([[{ cd: cdFromBlock(image) }]]);
    ide.pio(cdb(PacketOp.RequestSense, 0, 0, 0, 18));
    image.held = true;
    ide.packet(cdb(PacketOp.Read10, 0, ...be(0, 4), 0, ...be(1, 2)));
    expect(ide.altStatus & AtaStatus.Busy).toBe(AtaStatus.Busy);
    ide.write(AtaRegister.Command, AtaCommand.DeviceReset);
    await image.release();
    expect([ide.altStatus, ide.irq, ide.error]).toEqual([0, false, 1]);
    expect([2, 3, 4, 5].map((register) => ide.read(register as AtaRegister))).toEqual([1, 1, 0x14, 0xeb]);
  });

  test("IDLE IMMEDIATE ends the command under way, a step of Linux's recovery", async () => {
    const ide = new AtaBench();
    ide.block.held = true;
    ide.command(AtaCommand.ReadSectors, { count: 1 });
    ide.write(AtaRegister.Command, AtaCommand.IdleImmediate);
    await ide.block.release();
    expect([ide.irq, ide.status]).toEqual([true, IDLE]);
  });
});

describe("disks", () => {
  test("errors by cause: a bad sector UNC, one that is not there IDNF, TRIM of one that is not there IDNF", () => {
    const ide = new AtaBench({ size: 1 << 20 });
    ide.block.faults.push({ op: Op.Read, status: Status.Media, at: 512 });
    ide.command(AtaCommand.ReadSectors, { count: 1, lba: 1 });
    expect(ide.ended).toEqual([FAILED, AtaError.Uncorrectable]);
    ide.command(AtaCommand.ReadSectors, { count: 1, lba: 2048 });
    expect(ide.ended).toEqual([FAILED, AtaError.IdNotFound]);
    ide.cpu.ram.write32(BUFFER, 2048);
    ide.cpu.ram.write32(BUFFER + 4, 1 << 16);
    ide.prds(TABLE, [[BUFFER, Prd.EndOfTable | 512]]);
    ide.write(AtaRegister.BmTable, TABLE, 4);
    ide.command(AtaCommand.DataSetManagement, { features: 1, count: 1, ext: true });
    ide.write(AtaRegister.BmCommand, BmCommand.Start);
    expect(ide.ended).toEqual([FAILED, AtaError.IdNotFound]);
    expect(ide.read(AtaRegister.BmStatus) & BmStatus.Interrupt).toBe(BmStatus.Interrupt);
  });

  test("INITIALIZE DEVICE PARAMETERS with no sectors a track aborts", () => {
    const ide = new AtaBench();
    ide.command(AtaCommand.InitializeParameters, { count: 0 });
    expect(ide.ended).toEqual(ABORTED);
  });

  test("READ MULTIPLE of 128 sectors, Ultra DMA 6, physical sectors of 4 KiB: IDENTIFY words 47, 88 and 106", () => {
    const ide = new AtaBench({ multiple: 128, modes: { ultra: 6 }, physicalSectorSize: 4096 });
    const words = ide.identify();
    expect([words[47], words[88] & 0x7f, words[106]]).toEqual([0x8080, 0x7f, 0x6003]);
    expect(ide.command(AtaCommand.SetMultiple, { count: 128 })).toBe(IDLE);
    expect(ide.command(AtaCommand.SetMultiple, { count: 256 & 0xff })).toBe(IDLE);
    expect(ide.command(AtaCommand.SetFeatures, { features: 3, count: 0x46 })).toBe(IDLE);
    expect(ide.identify()[88] >> 8).toBe(0x40);
  });

  test.each([0x02, 0x82, 0x55, 0xaa, 0x66, 0xcc, 0x85])("SET FEATURES %i succeeds", (features) => {
    expect(new AtaBench({ apm: 128 }).command(AtaCommand.SetFeatures, { features })).toBe(IDLE);
  });

  test("the descriptor table stands at a multiple of four bytes, whatever is written", () => {
    const ide = new AtaBench();
    ide.write(AtaRegister.BmTable, TABLE + 3, 4);
    expect(ide.read(AtaRegister.BmTable, 4)).toBe(TABLE);
  });
});

describe("CD drives", () => {
  const SHEET = `FILE a BINARY
TRACK 01 MODE1/2352
INDEX 01 00:00:00
TRACK 02 AUDIO
INDEX 01 00:00:50`;
  const drive = () => new CdBench([[{ cd: cueDisc(SHEET, { a: sectors(100, 2352) }) }]]);
  const key = (ide: CdBench) => ide.last.error >> 4;

  test("after a reset commands meet a unit attention until REQUEST SENSE", () => {
    const ide = drive();
    ide.pio(cdb(PacketOp.TestUnitReady));
    expect(ide.last.status).toBe(IDLE);
    ide.machine.reset();
    ide.pio(cdb(PacketOp.TestUnitReady));
    expect([ide.last.status, key(ide)]).toEqual([FAILED, 6]);
    ide.pio(cdb(PacketOp.RequestSense, 0, 0, 0, 18));
    ide.pio(cdb(PacketOp.TestUnitReady));
    expect(ide.last.status).toBe(IDLE);
  });

  test("DSC at the end of SEEK (10), for Linux, and of START STOP UNIT, for Windows NT", () => {
    const ide = drive();
    for (const packet of [cdb(PacketOp.Seek10, 0, 0, 0, 0, 5), cdb(PacketOp.StartStopUnit, 0, 0, 0, 1)]) {
      ide.pio(packet);
      expect(ide.last.status & (AtaStatus.SeekComplete | AtaStatus.Error)).toBe(AtaStatus.SeekComplete);
    }
  });

  test("READ CD of an audio track gives 2,352 bytes, whichever parts of a sector are asked for", () => {
    const ide = drive();
    for (const parts of [0x10, 0xf8]) {
      const { bytes } = ide.pio(cdb(PacketOp.ReadCd, 0, ...be(60, 4), ...be(1, 3), parts));
      expect([ide.last.status, bytes.length]).toEqual([IDLE, 2352]);
    }
  });

  test("READ CD MSF, READ TRACK INFORMATION, and MODE SENSE of pages 01 and 2A", () => {
    const ide = drive();
    const msf = ide.pio(cdb(PacketOp.ReadCdMsf, 0, 0, 0, 2, 10, 0, 2, 11, 0x10)).bytes;
    expect(Buffer.compare(msf, sectors(100, 2352).subarray(10 * 2352 + 16, 10 * 2352 + 2064))).toBe(0);
    const track = ide.pio(cdb(PacketOp.ReadTrackInformation, 1, ...be(2, 4), 0, ...be(36, 2))).bytes;
    expect([...track.subarray(2, 4), track[11]]).toEqual([2, 1, 50]);
    for (const page of [0x01, 0x2a]) {
      const { bytes } = ide.pio(cdb(PacketOp.ModeSense10, 0, page, 0, 0, 0, 0, ...be(200, 2)));
      expect(bytes[8] & 0x3f).toBe(page);
      // Saved values there are none (ASC 39h).
      ide.pio(cdb(PacketOp.ModeSense10, 0, 0xc0 | page, 0, 0, 0, 0, ...be(200, 2)));
      expect(key(ide)).toBe(5);
    }
  });
});

describe("where the specification is with QEMU", () => {
  test("a TRIM range of no length is skipped (ACS-2: padding); VirtualBox ends the list there", () => {
    const ide = new AtaBench();
    for (const [i, [lba, count]] of [
      [1, 1],
      [0, 0],
      [9, 2],
    ].entries()) {
      ide.cpu.ram.write32(BUFFER + i * 8, lba);
      ide.cpu.ram.write32(BUFFER + i * 8 + 4, count << 16);
    }
    ide.prds(TABLE, [[BUFFER, Prd.EndOfTable | 512]]);
    ide.write(AtaRegister.BmTable, TABLE, 4);
    ide.command(AtaCommand.DataSetManagement, { features: 1, count: 1, ext: true });
    ide.write(AtaRegister.BmCommand, BmCommand.Start);
    expect(ide.status).toBe(IDLE);
    expect(ide.block.log.map(({ offset }) => offset)).toEqual([512, 9 * 512]);
  });

  test("FLUSH CACHE on a packet device has nothing to do and succeeds; VirtualBox aborts it", () => {
    const ide = new IdeBench([[{ cd: null }]]);
    ide.write(AtaRegister.Command, AtaCommand.FlushCache);
    expect(ide.status & AtaStatus.Error).toBe(0);
  });

  test("a word of a block is never half written by a byte", () => {
    const ide = new AtaBench();
    ide.command(AtaCommand.WriteSectors, { count: 1 });
    ide.write(AtaRegister.Data, 0xff, 1);
    ide.feed(pattern(512, 4));
    expect([ide.status, ide.block.peek(0, 512)]).toEqual([IDLE, pattern(512, 4)]);
  });
});
