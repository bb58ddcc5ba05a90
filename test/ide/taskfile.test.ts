import { expect, test } from "vitest";
import { AtaCommand, AtaControl, AtaRegister, AtaStatus, BmStatus } from "../../assembly/spec/ata.ts";
import { DriveField, IdeEvent, IdeField, IdePhase } from "../../assembly/spec/ide.ts";
import { BlockStatus } from "../../assembly/spec/request.ts";
import { IdeContext } from "../support/ide-context.ts";

const IDLE = AtaStatus.Ready | AtaStatus.SeekComplete;
const TASK_FILE = [AtaRegister.Count, AtaRegister.LbaLow, AtaRegister.LbaMid, AtaRegister.LbaHigh];

test("power-on: signature, diagnostic code, drive 0 selected, ready", () => {
  const ide = new IdeContext([1000, 2000]);
  for (const device of [0x00, 0x10]) {
    if (device) ide.write(AtaRegister.Device, device);
    expect(TASK_FILE.map((register) => ide.read(register))).toEqual([1, 1, 0, 0]);
    expect(ide.read(AtaRegister.Error)).toBe(1);
    expect(ide.read(AtaRegister.Device)).toBe(0xa0 | device);
    expect(ide.read(AtaRegister.Status)).toBe(IDLE);
  }
});

test("both drives latch every write, whichever is selected", () => {
  const ide = new IdeContext([1000, 2000]);
  for (const [i, register] of TASK_FILE.entries()) ide.write(register, 0x10 + i);
  ide.write(AtaRegister.Device, 0x10);
  expect(TASK_FILE.map((register) => ide.read(register))).toEqual([0x10, 0x11, 0x12, 0x13]);
});

test("HOB reads the previous bytes; any task-file write clears it; Device has none", () => {
  const ide = new IdeContext();
  for (const register of TASK_FILE) {
    ide.write(register, 0x40 + register);
    ide.write(register, 0x80 + register);
  }
  ide.write(AtaRegister.Features, 0x77);
  ide.write(AtaRegister.Features, 0x78);
  ide.write(AtaRegister.Control, AtaControl.HighOrder);
  expect(TASK_FILE.map((register) => ide.read(register))).toEqual([0x42, 0x43, 0x44, 0x45]);
  expect(ide.read(AtaRegister.Error)).toBe(0x77);
  expect(ide.read(AtaRegister.Device)).toBe(0xa0);
  ide.write(AtaRegister.Features, 0);
  expect(TASK_FILE.map((register) => ide.read(register))).toEqual([0x82, 0x83, 0x84, 0x85]);
  expect(ide.read(AtaRegister.Error)).toBe(1);
});

test("Status lowers INTRQ, Alternate Status does not; nIEN holds it back and lets it go", () => {
  const ide = new IdeContext();
  ide.command(AtaCommand.Nop);
  expect(ide.get(IdeField.Line)).toBe(1);
  expect(ide.get(IdeField.BmStatus) & BmStatus.Interrupt).toBe(BmStatus.Interrupt);
  ide.read(AtaRegister.AltStatus);
  expect(ide.get(IdeField.Line)).toBe(1);
  expect(ide.write(AtaRegister.Control, AtaControl.InterruptDisable)).toBe(IdeEvent.Line);
  expect(ide.get(IdeField.Line)).toBe(0);
  ide.write(AtaRegister.Control, 0);
  expect(ide.get(IdeField.Line)).toBe(1);
  ide.read(AtaRegister.Status);
  expect(ide.get(IdeField.Line)).toBe(0);
});

test("INTRQ is the selected drive's", () => {
  const ide = new IdeContext([1000, 1000]);
  ide.command(AtaCommand.Nop);
  expect(ide.get(IdeField.Line)).toBe(1);
  ide.write(AtaRegister.Device, 0x10);
  expect(ide.get(IdeField.Line)).toBe(0);
  ide.write(AtaRegister.Device, 0x00);
  expect(ide.get(IdeField.Line)).toBe(1);
});

test("a new command withdraws the interrupt of the last", () => {
  const ide = new IdeContext();
  ide.command(AtaCommand.Nop);
  ide.write(AtaRegister.Command, AtaCommand.FlushCache);
  expect(ide.get(IdeField.Line)).toBe(0);
});

test.each(["busy", "data request"])("while %s the task file and Command are deaf", (state) => {
  const ide = new IdeContext([1000, 1000]);
  ide.command(AtaCommand.ReadSectors, 0, 2, 9, 0, 0, 0xe0);
  if (state === "data request") ide.finish(BlockStatus.Ok);
  const count = ide.read(AtaRegister.Count);
  const low = ide.read(AtaRegister.LbaLow);
  ide.write(AtaRegister.Count, 0x55);
  ide.write(AtaRegister.LbaLow, 0x55);
  ide.write(AtaRegister.Device, 0x10);
  // §5.2.9: an interrupt that waits is withdrawn all the same.
  expect(ide.write(AtaRegister.Command, AtaCommand.Identify)).toBe(state === "busy" ? 0 : IdeEvent.Line);
  expect([ide.read(AtaRegister.Count), ide.read(AtaRegister.LbaLow)]).toEqual([count, low]);
  expect(ide.get(IdeField.Selected)).toBe(0);
  expect(ide.get(IdeField.Phase)).toBe(state === "busy" ? IdePhase.Busy : IdePhase.PioIn);
});

test("an absent second drive: device 0 answers, but for Status; commands go unheard", () => {
  const ide = new IdeContext([1000]);
  ide.write(AtaRegister.Device, 0x10);
  ide.write(AtaRegister.Count, 0x55);
  expect([ide.read(AtaRegister.Error), ide.read(AtaRegister.Count), ide.read(AtaRegister.LbaLow)]).toEqual([
    1, 0x55, 1,
  ]);
  expect(ide.read(AtaRegister.Device)).toBe(0xb0);
  expect([ide.read(AtaRegister.Status), ide.read(AtaRegister.AltStatus)]).toEqual([0, 0]);
  expect(ide.write(AtaRegister.Command, AtaCommand.Identify)).toBe(0);
  expect(ide.read(AtaRegister.Status)).toBe(0);
  ide.write(AtaRegister.Device, 0x00);
  expect(ide.read(AtaRegister.Count)).toBe(0x55);
});

test("an absent first drive does not hide the second", () => {
  const ide = new IdeContext([undefined, 1000]);
  expect(ide.read(AtaRegister.Status)).toBe(0);
  ide.write(AtaRegister.Device, 0x10);
  expect(ide.read(AtaRegister.Status)).toBe(IDLE);
});

test("EXECUTE DIAGNOSTIC is heard with an absent drive selected", () => {
  const ide = new IdeContext([1000]);
  ide.write(AtaRegister.Device, 0x10);
  expect(ide.write(AtaRegister.Command, AtaCommand.ExecuteDiagnostic)).toBe(IdeEvent.Execute);
  ide.finish(BlockStatus.Ok);
  expect(ide.read(AtaRegister.Device)).toBe(0xa0);
  expect(ide.get(IdeField.Line)).toBe(1);
  expect(ide.read(AtaRegister.Status)).toBe(IDLE);
});

test("the data port: words, double words, bytes that use up a word, nothing without DRQ", () => {
  const ide = new IdeContext();
  expect(ide.read(AtaRegister.Data, 2)).toBe(0);
  expect(ide.write(AtaRegister.Data, 0x1234, 2)).toBe(0);
  ide.command(AtaCommand.ReadSectors, 0, 1, 9, 0, 0, 0xe0);
  for (let i = 0; i < 512; i++) ide.core.u8[ide.at + IdeField.Buffer + i] = i;
  ide.finish(BlockStatus.Ok);
  expect(ide.read(AtaRegister.Data, 2)).toBe(0x0100);
  expect(ide.read(AtaRegister.Data, 4)).toBe(0x05040302);
  expect(ide.read(AtaRegister.Data, 1)).toBe(0x06);
  expect(ide.read(AtaRegister.Data, 2)).toBe(0x0908);
  for (let i = 0; i < 250; i++) ide.read(AtaRegister.Data, 2);
  expect(ide.get(IdeField.BufferAt)).toBe(510);
  // Four bytes where two are left: the two, and the block ends.
  expect(ide.read(AtaRegister.Data, 4)).toBe(0xfffe);
  expect(ide.read(AtaRegister.Status)).toBe(IDLE);
  expect(ide.read(AtaRegister.Data, 2)).toBe(0);
});

test("a PIO read ends inside its last data read; MULTIPLE blocks hold the set number of sectors", () => {
  const ide = new IdeContext();
  ide.command(AtaCommand.ReadMultiple, 0, 20, 100, 0, 0, 0xe0);
  expect(ide.get(IdeField.Moving)).toBe(16);
  expect(ide.finish(BlockStatus.Ok)).toBe(IdeEvent.Line);
  expect(ide.read(AtaRegister.Count)).toBe(4);
  expect(ide.read(AtaRegister.LbaLow)).toBe(116);
  for (let i = 0; i < 16 * 256 - 1; i++) ide.read(AtaRegister.Data, 2);
  expect(ide.get(IdeField.Event)).toBe(0);
  ide.read(AtaRegister.Data, 2);
  expect(ide.get(IdeField.Event)).toBe(IdeEvent.Io);
  expect(ide.get(IdeField.Moving)).toBe(4);
  ide.finish(BlockStatus.Ok);
  ide.read(AtaRegister.Status);
  for (let i = 0; i < 4 * 256; i++) ide.read(AtaRegister.Data, 2);
  expect(ide.get(IdeField.Line)).toBe(0);
  expect(ide.read(AtaRegister.AltStatus)).toBe(IDLE);
});

test("a PIO write asks for its first block without an interrupt, for the others with one", () => {
  const ide = new IdeContext();
  expect(ide.command(AtaCommand.WriteSectors, 0, 2, 100, 0, 0, 0xe0)).toBe(0);
  expect(ide.read(AtaRegister.AltStatus)).toBe(IDLE | AtaStatus.DataRequest);
  for (let i = 0; i < 255; i++) expect(ide.write(AtaRegister.Data, i, 2)).toBe(0);
  expect(ide.write(AtaRegister.Data, 255, 2)).toBe(IdeEvent.Io);
  expect(ide.read(AtaRegister.AltStatus) & AtaStatus.Busy).toBe(AtaStatus.Busy);
  expect(ide.finish(BlockStatus.Ok)).toBe(IdeEvent.Line);
  expect(ide.read(AtaRegister.Status)).toBe(IDLE | AtaStatus.DataRequest);
  for (let i = 0; i < 128; i++) ide.write(AtaRegister.Data, 0x01020304, 4);
  expect(ide.get(IdeField.Event)).toBe(IdeEvent.Io);
  expect(ide.finish(BlockStatus.Ok)).toBe(IdeEvent.Line);
  expect(ide.read(AtaRegister.Status)).toBe(IDLE);
});

test("a wide access to the task file is a row of byte accesses that ends with it", () => {
  const ide = new IdeContext();
  ide.write(AtaRegister.Count, 0x3412, 2);
  expect(ide.read(AtaRegister.Count, 2)).toBe(0x3412);
  // The byte after Command is not Device Control.
  ide.write(AtaRegister.Device, 0xe0, 1);
  ide.write(AtaRegister.Command, 0x0600 | AtaCommand.Nop, 2);
  expect(ide.get(IdeField.Control)).toBe(0);
  expect(ide.read(AtaRegister.Status, 2) >>> 8).toBe(0xff);
});

test("bus-master registers: writable bits, write-one-to-clear, widths", () => {
  const ide = new IdeContext();
  ide.write(AtaRegister.BmCommand, 0xff);
  expect(ide.read(AtaRegister.BmCommand)).toBe(0x09);
  expect(ide.read(AtaRegister.BmStatus)).toBe(BmStatus.Active);
  ide.write(AtaRegister.BmCommand, 0x08);
  expect(ide.read(AtaRegister.BmStatus)).toBe(0);
  ide.write(AtaRegister.BmStatus, 0x67);
  expect(ide.read(AtaRegister.BmStatus)).toBe(0x60);
  ide.command(AtaCommand.Nop);
  expect(ide.read(AtaRegister.BmStatus)).toBe(0x64);
  ide.write(AtaRegister.BmStatus, 0x60);
  expect(ide.read(AtaRegister.BmStatus)).toBe(0x64);
  ide.write(AtaRegister.BmStatus, 0x04);
  expect(ide.read(AtaRegister.BmStatus)).toBe(0);
  ide.write(AtaRegister.BmTable, 0x12345678, 4);
  expect(ide.read(AtaRegister.BmTable, 4)).toBe(0x12345678);
  ide.write(AtaRegister.BmTable + 2, 0xabcd, 2);
  ide.write(AtaRegister.BmTable, 0xff);
  expect(ide.read(AtaRegister.BmTable, 4)).toBe(0xabcd56fc);
  expect(ide.read(AtaRegister.BmCommand, 4)).toBe(0xffffffff);
  ide.write(AtaRegister.BmCommand, 0xffffffff, 4);
  expect(ide.read(AtaRegister.BmCommand)).toBe(0x08);
});

test("SRST: BSY while it is set, signature when it falls, settings kept", () => {
  const ide = new IdeContext([1000, 1000]);
  ide.core.set(ide.drive(0) + DriveField.Multiple, 4);
  ide.command(AtaCommand.Nop, 1, 2, 3, 4, 5, 0xf0);
  ide.write(AtaRegister.Control, AtaControl.SoftwareReset);
  expect(ide.read(AtaRegister.AltStatus)).toBe(AtaStatus.Busy);
  expect(ide.get(IdeField.Line)).toBe(0);
  expect(ide.write(AtaRegister.Command, AtaCommand.Identify)).toBe(0);
  ide.write(AtaRegister.Control, 0);
  expect(ide.read(AtaRegister.Device)).toBe(0xa0);
  expect(TASK_FILE.map((register) => ide.read(register))).toEqual([1, 1, 0, 0]);
  expect(ide.read(AtaRegister.Error)).toBe(1);
  expect(ide.read(AtaRegister.Status)).toBe(IDLE);
  expect(ide.driveField(0, DriveField.Multiple)).toBe(4);
});

test("SRST with I/O in flight: BSY until it has come back, its result dropped", () => {
  const ide = new IdeContext();
  ide.command(AtaCommand.ReadSectors, 0, 4, 100, 0, 0, 0xe0);
  ide.write(AtaRegister.Control, AtaControl.SoftwareReset);
  ide.write(AtaRegister.Control, 0);
  expect(ide.read(AtaRegister.AltStatus)).toBe(AtaStatus.Busy);
  expect(ide.finish(BlockStatus.Media, 100)).toBe(0);
  expect(ide.read(AtaRegister.AltStatus)).toBe(IDLE);
  expect(ide.read(AtaRegister.Error)).toBe(1);
  expect(ide.get(IdeField.Line)).toBe(0);
});

test("SRST with I/O that comes back while it is set", () => {
  const ide = new IdeContext();
  ide.command(AtaCommand.FlushCache);
  ide.write(AtaRegister.Control, AtaControl.SoftwareReset);
  ide.finish(BlockStatus.Ok);
  expect(ide.read(AtaRegister.AltStatus)).toBe(AtaStatus.Busy);
  ide.write(AtaRegister.Control, 0);
  expect(ide.read(AtaRegister.AltStatus)).toBe(IDLE);
});
