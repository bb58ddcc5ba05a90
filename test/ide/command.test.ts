import { expect, test } from "vitest";
import { AtaCommand, AtaError, AtaRegister, AtaStatus } from "../../assembly/spec/ata.ts";
import {
  CommandBits,
  DriveField,
  DriveKind,
  IdeEvent,
  IdeField,
  IdeOp,
  IdePhase,
  IdeProtocol,
} from "../../assembly/spec/ide.ts";
import { BlockStatus } from "../../assembly/spec/request.ts";
import { IdeContext } from "../support/ide-context.ts";

const { Read, Write, Verify, Flush, Nothing, CheckPower } = {
  Read: IdeOp.Read,
  Write: IdeOp.Write,
  Verify: IdeOp.Verify,
  Flush: IdeOp.Flush,
  Nothing: IdeOp.Nothing,
  CheckPower: IdeOp.CheckPower,
};
const { NonData, PioIn, PioOut, Dma } = {
  NonData: IdeProtocol.NonData,
  PioIn: IdeProtocol.PioIn,
  PioOut: IdeProtocol.PioOut,
  Dma: IdeProtocol.Dma,
};

/** Every command of the base set: code, op, protocol, is it 48-bit, does it move MULTIPLE blocks. */
const MEDIA: [name: string, code: number, op: IdeOp, protocol: IdeProtocol, ext: boolean, multiple: boolean][] = [
  ["READ SECTORS", 0x20, Read, PioIn, false, false],
  ["READ SECTORS (once)", 0x21, Read, PioIn, false, false],
  ["READ SECTORS EXT", 0x24, Read, PioIn, true, false],
  ["READ MULTIPLE", 0xc4, Read, PioIn, false, true],
  ["READ MULTIPLE EXT", 0x29, Read, PioIn, true, true],
  ["READ DMA", 0xc8, Read, Dma, false, false],
  ["READ DMA (once)", 0xc9, Read, Dma, false, false],
  ["READ DMA EXT", 0x25, Read, Dma, true, false],
  ["WRITE SECTORS", 0x30, Write, PioOut, false, false],
  ["WRITE SECTORS (once)", 0x31, Write, PioOut, false, false],
  ["WRITE VERIFY", 0x3c, Write, PioOut, false, false],
  ["WRITE MULTIPLE FUA EXT", 0xce, Write, PioOut, true, true],
  ["WRITE DMA FUA EXT", 0x3d, Write, Dma, true, false],
  ["WRITE SECTORS EXT", 0x34, Write, PioOut, true, false],
  ["WRITE MULTIPLE", 0xc5, Write, PioOut, false, true],
  ["WRITE MULTIPLE EXT", 0x39, Write, PioOut, true, true],
  ["WRITE DMA", 0xca, Write, Dma, false, false],
  ["WRITE DMA (once)", 0xcb, Write, Dma, false, false],
  ["WRITE DMA EXT", 0x35, Write, Dma, true, false],
  ["READ VERIFY", 0x40, Verify, NonData, false, false],
  ["READ VERIFY (once)", 0x41, Verify, NonData, false, false],
  ["READ VERIFY EXT", 0x42, Verify, NonData, true, false],
];

test.each(MEDIA)("%s: operation, protocol, address and count", (_name, code, op, protocol, ext, multiple) => {
  const ide = new IdeContext([2 ** 40]);
  // A 48-bit task file is written high bytes first; a 28-bit command must not see them.
  for (const [register, high, low] of [
    [AtaRegister.Count, 0x01, 0x04],
    [AtaRegister.LbaLow, 0x44, 0x11],
    [AtaRegister.LbaMid, 0x05, 0x22],
    [AtaRegister.LbaHigh, 0x00, 0x33],
  ]) {
    ide.write(register, high);
    ide.write(register, low);
  }
  ide.write(AtaRegister.Device, 0xe7);
  ide.write(AtaRegister.Command, code);
  expect(ide.get(IdeField.Op)).toBe(op);
  expect(ide.get(IdeField.Protocol)).toBe(protocol);
  expect(ide.lba).toBe(ext ? 0x0544332211 : 0x7332211);
  expect(ide.get(IdeField.Remaining)).toBe(ext ? 0x0104 : 0x04);
  expect(ide.get(IdeField.Block)).toBe(multiple ? 16 : 1);
});

test.each(MEDIA)("%s: a count of zero is the most there can be", (_name, code, _op, _protocol, ext) => {
  const ide = new IdeContext([2 ** 40]);
  // Twice, for the signature's count of 1 would be the high byte.
  ide.write(AtaRegister.Count, 0);
  ide.command(code, 0, 0, 0, 0, 0, 0xe0);
  expect(ide.get(IdeField.Remaining)).toBe(ext ? 65536 : 256);
});

test.each(MEDIA.filter(([, , , , ext]) => !ext))("%s: CHS in the current translation", (_name, code) => {
  const ide = new IdeContext();
  ide.command(code, 0, 1, 5, 0x03, 0x00, 0xa2);
  expect(ide.lba).toBe((3 * 16 + 2) * 63 + 4);
});

test.each(MEDIA.filter(([, , , , ext]) => ext))("%s: has no CHS form", (_name, code) => {
  const ide = new IdeContext();
  ide.command(code, 0, 1, 5, 3, 0, 0xa2);
  expect(ide.get(IdeField.Op)).toBe(IdeOp.Abort);
  expect(ide.read(AtaRegister.Error)).toBe(AtaError.Abort);
});

test.each([
  ["sector 0", 0, 0xa0],
  ["sector past the track", 64, 0xa0],
])("CHS %s is not found", (_name, sector, device) => {
  const ide = new IdeContext();
  expect(ide.command(AtaCommand.ReadSectors, 0, 1, sector, 0, 0, device) & IdeEvent.Io).toBe(0);
  expect(ide.read(AtaRegister.Status)).toBe(AtaStatus.Ready | AtaStatus.Error);
  expect(ide.read(AtaRegister.Error)).toBe(AtaError.IdNotFound);
});

test("CHS head past the translation is not found", () => {
  const ide = new IdeContext();
  ide.core.set(ide.drive(0) + DriveField.CurrentHeads, 4);
  ide.command(AtaCommand.ReadSectors, 0, 1, 1, 0, 0, 0xa4);
  expect(ide.read(AtaRegister.Error)).toBe(AtaError.IdNotFound);
});

test.each([
  [0xe7, Flush],
  [0xea, Flush],
  [0xe0, IdeOp.Power],
  [0xe1, IdeOp.Power],
  [0xe2, IdeOp.Power],
  [0xe3, IdeOp.Power],
  [0xe6, IdeOp.Power],
  [0x94, IdeOp.Power],
  [0x95, IdeOp.Power],
  [0x96, IdeOp.Power],
  [0x97, IdeOp.Power],
  [0x99, IdeOp.Power],
  [0x10, Nothing],
  [0x70, Nothing],
  [0xe5, CheckPower],
  [0x98, CheckPower],
  [0xec, IdeOp.Identify],
  [0xef, IdeOp.SetFeatures],
  [0xc6, IdeOp.SetMultiple],
  [0x91, IdeOp.InitializeParameters],
  [0xf8, IdeOp.ReadNativeMax],
  [0x27, IdeOp.ReadNativeMax],
  [0x90, IdeOp.Diagnostic],
  [0x37, IdeOp.SetMax],
  [0xf9, IdeOp.SetMax],
  [0xe4, IdeOp.ReadBuffer],
  [0xe9, IdeOp.ReadBuffer],
  [0xe8, IdeOp.WriteBuffer],
  [0xeb, IdeOp.WriteBuffer],
  [0xf1, IdeOp.Security],
  [0xf2, IdeOp.Security],
  [0xf3, IdeOp.Security],
  [0xf4, IdeOp.Security],
  [0xf5, IdeOp.Security],
  [0xf6, IdeOp.Security],
  [0xb1, IdeOp.Configuration],
  [0x2f, IdeOp.ReadLog],
  [0x47, IdeOp.ReadLog],
  [0x3f, IdeOp.WriteLog],
  [0x57, IdeOp.WriteLog],
  [0x45, IdeOp.WriteUncorrectable],
  [0xb0, IdeOp.Smart],
  [0x06, IdeOp.DataSetManagement],
])("command %i is operation %i", (code, op) => {
  const ide = new IdeContext();
  const event = ide.command(code);
  expect(ide.get(IdeField.Op)).toBe(op);
  expect(event & (IdeEvent.Io | IdeEvent.Execute)).toBe(op === Flush ? IdeEvent.Io : IdeEvent.Execute);
  expect(ide.get(IdeField.Phase)).toBe(IdePhase.Busy);
});

/** Codes of each kind of device. What the disk has of its own, CompactFlash has too. */
const OWN = [0xe7, 0xea, 0xe0, 0xe1, 0xe2, 0xe3, 0xe5, 0xe6, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x10, 0x70, 0xec, 0xef]
  .concat([0xc6, 0x91, 0xf8, 0x27, 0x90, 0x37, 0xf9, 0xe4, 0xe9, 0xe8, 0xeb, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xb1])
  .concat([0x2f, 0x47, 0x3f, 0x57, 0x45, 0xb0, 0x06, 0xda, 0xde, 0xdf, 0xed]);
const DISK = [...MEDIA.map(([, code]) => code), ...OWN];
const FLASH = [...DISK, 0x03, 0x38, 0x87, 0xb8, 0xc0, 0xcd, 0xf0];
const PACKET = [0x08, 0x90, 0xa0, 0xa1, 0xe0, 0xe1, 0xe2, 0xe3, 0xe5, 0xe6, 0xe7, 0xef];

test.each([
  ["disk", DriveKind.Disk, DISK],
  ["CompactFlash card", DriveKind.CompactFlash, FLASH],
  ["packet device", DriveKind.Packet, PACKET],
])("every code that is not for a %s aborts", (_name, kind, known) => {
  for (let code = 0; code < 256; code++) {
    const ide = new IdeContext();
    ide.core.set(ide.drive(0) + DriveField.Kind, kind);
    ide.command(code, 0, 1, 1, 0, 0, 0xe0);
    const failed = (ide.read(AtaRegister.AltStatus) & AtaStatus.Error) !== 0;
    const aborted = failed && ide.read(AtaRegister.Error) === AtaError.Abort;
    expect(aborted, `command ${code}`).toBe(!known.includes(code));
    if (aborted) expect(ide.get(IdeField.Line)).toBe(1);
  }
});

test("what a driver sends in the hope of a disk shows a packet device's signature", () => {
  const ide = new IdeContext();
  ide.core.set(ide.drive(0) + DriveField.Kind, DriveKind.Packet);
  for (const code of [0x20, 0xec]) {
    ide.command(code, 0, 9, 9, 9, 9, 0xa0);
    const signature = [AtaRegister.Count, AtaRegister.LbaLow, AtaRegister.LbaMid, AtaRegister.LbaHigh];
    expect(signature.map((register) => ide.read(register))).toEqual([1, 1, 0x14, 0xeb]);
  }
});

test("all 56 codes of QEMU's table are known to a disk, a card or a packet device", () => {
  const qemu = [0x03, 0x06, 0x08, 0x10, 0x20, 0x21, 0x24, 0x25, 0x27, 0x29, 0x30, 0x31, 0x34, 0x35, 0x38, 0x39, 0x3c]
    .concat([0x40, 0x41, 0x42, 0x70, 0x87, 0x90, 0x91, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0xa0, 0xa1, 0xb0, 0xb8])
    .concat([0xc0, 0xc4, 0xc5, 0xc6, 0xc8, 0xc9, 0xca, 0xcb, 0xcd, 0xe0, 0xe1, 0xe2, 0xe3, 0xe5, 0xe6, 0xe7, 0xea])
    .concat([0xec, 0xef, 0xf0, 0xf5, 0xf8]);
  expect(new Set(qemu).size).toBe(56);
  expect(qemu.filter((code) => ![...FLASH, ...PACKET].includes(code))).toEqual([]);
});

test("a locked disk refuses its media; without 48-bit addresses it refuses what needs them", () => {
  const refused = (bits: number) =>
    DISK.filter((code) => {
      const ide = new IdeContext();
      ide.core.set(ide.drive(0) + DriveField.Refused, bits);
      ide.command(code, 0, 1, 1, 0, 0, 0xe0);
      return (ide.read(AtaRegister.AltStatus) & AtaStatus.Error) !== 0;
    }).sort((a, b) => a - b);
  const ext = [
    0x06, 0x24, 0x25, 0x27, 0x29, 0x2f, 0x34, 0x35, 0x37, 0x39, 0x3d, 0x3f, 0x42, 0x45, 0x47, 0x57, 0xce, 0xea,
  ];
  expect(refused(CommandBits.Ext)).toEqual(ext);
  const open = [
    0x10, 0x27, 0x2f, 0x3f, 0x47, 0x57, 0x70, 0x90, 0x91, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0xb0, 0xc6,
  ].concat([
    0xe0, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe8, 0xe9, 0xeb, 0xec, 0xed, 0xda, 0xde, 0xdf, 0xef, 0xf2, 0xf3, 0xf4,
    0xf8,
  ]);
  expect(refused(CommandBits.Lockable)).toEqual(DISK.filter((code) => !open.includes(code)).sort((a, b) => a - b));
});

test("READ and WRITE MULTIPLE abort while SET MULTIPLE is off", () => {
  const ide = new IdeContext();
  ide.core.set(ide.drive(0) + DriveField.Multiple, 0);
  for (const code of [0xc4, 0x29, 0xc5, 0x39]) {
    ide.command(code, 0, 1, 1, 0, 0, 0xe0);
    expect(ide.read(AtaRegister.Status) & AtaStatus.Error).toBe(AtaStatus.Error);
    expect(ide.read(AtaRegister.Error)).toBe(AtaError.Abort);
  }
});

test("an address past the end is not found, and the task file says which", () => {
  const ide = new IdeContext([1000]);
  // 28-bit: two sectors of which the second is not there.
  ide.command(AtaCommand.ReadVerify, 0, 2, 999 & 0xff, 999 >> 8, 0, 0xe0);
  expect(ide.read(AtaRegister.Error)).toBe(AtaError.IdNotFound);
  expect(ide.read(AtaRegister.LbaLow) | (ide.read(AtaRegister.LbaMid) << 8)).toBe(1000);
  expect(ide.get(IdeField.InFlight)).toBe(0);
});

test.each([
  [BlockStatus.OutOfRange, Read, AtaError.IdNotFound, AtaStatus.Error],
  [BlockStatus.Media, Read, AtaError.Uncorrectable, AtaStatus.Error],
  [BlockStatus.Media, Verify, AtaError.Uncorrectable, AtaStatus.Error],
  [BlockStatus.Io, Read, AtaError.Abort, AtaStatus.Error | AtaStatus.DeviceFault],
  [BlockStatus.Unsupported, Flush, AtaError.Abort, AtaStatus.Error],
  [BlockStatus.NoSpace, Flush, AtaError.Abort, AtaStatus.Error | AtaStatus.DeviceFault],
])("block status %i of operation %i is error %i, status %i", (cause, op, error, status) => {
  const codes: Partial<Record<IdeOp, number>> = { [Read]: 0x20, [Verify]: 0x40, [Flush]: 0xe7 };
  const ide = new IdeContext();
  expect(ide.command(codes[op]!, 0, 4, 16, 0, 0, 0xe0) & IdeEvent.Io).toBe(IdeEvent.Io);
  expect(ide.finish(cause, 17) & IdeEvent.Line).toBe(IdeEvent.Line);
  expect(ide.read(AtaRegister.AltStatus)).toBe(AtaStatus.Ready | status);
  expect(ide.read(AtaRegister.Error)).toBe(error);
  if (op !== Flush) expect(ide.read(AtaRegister.LbaLow)).toBe(17);
});
